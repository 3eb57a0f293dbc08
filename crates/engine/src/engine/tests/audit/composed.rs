//! Sixteen releases of one task against a distinguisher that adds up what each of them tells: with a fixed clip, with one
//! that adapts, and from a run of correlated noise.
//!
//! The short versions run with the other tests; `ci/audit` runs the long ones.

use super::{
    super::private::{round_with, zeros},
    bounds::Audit,
    *,
};
use testudo_privacy::{accountant::gaussian, noise::NoiseSeed};

const RELEASES: usize = 16;
/// Runs of each world in the short version, and in the long one.
const SHORT: usize = 1500;
const LONG: usize = 100_000;
/// At this δ an ε is looked for, at thresholds set beforehand.
const DELTA: f64 = 1e-5;

/// Far beyond any clip: clipped to all of it, whatever it is.
const TARGET: [f32; COORDINATES] = [1000.0, 0.0, 0.0, 0.0];

fn spec(mechanism: &str, privacy: &str) -> Arc<TaskSpec> {
    let text = format!(
        "name = \"t\"\nrounds = {RELEASES}\n[model]\ninitial = \"m\"\n[cohort]\nsize = 4\n[encoding]\nclip_l2 = 0.5\n\
         [rule]\nkind = \"mean\"\n[privacy]\nmechanism = {mechanism:?}\npopulation = \"p\"\nclients = 100\n\
         budget_epsilon = 1000\ndelta = 1e-3\n{privacy}\n"
    );
    Arc::new(TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}")))
}

/// What one release adds to the statistic: the log-likelihood ratio of what it shows, but for a constant.
fn evidence(spec: &TaskSpec, release: &Release) -> f64 {
    let privacy = spec.privacy.as_ref().unwrap();
    let figure = |name: &str| release.notes.iter().find(|note| note.name == name).map(|note| note.value);
    let clip = figure("clip").unwrap_or(privacy.grid.clip());
    let norm = |row: &[f32; COORDINATES]| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // In units of the clip the target moves its coordinate by 1, and the distinguisher knows the others.
    let others: f64 = OTHERS.iter().map(|row| f64::from(row[0]) / norm(row).max(clip)).sum();
    let moved = f64::from(release.model.parameters()[0]) * privacy.divisor / clip - others;
    let sigma = privacy.grid.sigma() / privacy.grid.sensitivity() as f64;
    let mut evidence = moved / sigma.powi(2);
    if let Some(clipping) = &privacy.adaptive {
        let bits = (figure("noised share of norms within the clip").unwrap() - 0.5) * 4.0;
        let others: f64 = OTHERS.iter().map(|row| if norm(row) <= clip { 0.5 } else { -0.5 }).sum();
        // The target's bit is −½.
        evidence -= 0.5 * (bits - others) / clipping.bit().bits_stddev().powi(2);
    }
    evidence
}

/// The statistic of many runs of a task; the target comes to every round, or to none.
fn world(spec: &Arc<TaskSpec>, runs: usize, target: Option<[f32; COORDINATES]>, seed: u8) -> Vec<f64> {
    let target = target.map(|row| row.to_vec());
    let rows: Vec<Option<Vec<f32>>> = OTHERS.iter().map(|row| Some(row.to_vec())).chain([target]).collect();
    let base = zeros(COORDINATES);
    let run = |number: usize| {
        let mut carry = Carry::default();
        let mut total = 0.0;
        for step in 0..RELEASES {
            let mut fresh = [seed; 32];
            fresh[..8].copy_from_slice(&((number * RELEASES + step) as u64).to_le_bytes());
            let (end, _) = round(spec, base.clone(), carry, &rows, fresh, false);
            let release = released(end);
            total += evidence(spec, &release);
            carry = release.carry;
        }
        total
    };
    (0..runs).map(run).collect()
}

fn audit(spec: &Arc<TaskSpec>, runs: usize) -> Audit {
    Audit { absent: world(spec, runs, None, 1), present: world(spec, runs, Some(TARGET), 2) }
}

/// The statistic is N(0, μ²) without the target and N(μ², μ²) with it: its middle, and four more.
fn thresholds(mu: f64) -> [f64; 5] {
    [0.5, 0.0, 1.0, 1.5, 2.0].map(|place| place * mu * mu)
}

/// What the task's own charges say of all its releases.
fn claimed(spec: &TaskSpec) -> f64 {
    (RELEASES as f64).sqrt() / spec.privacy.as_ref().unwrap().effective_multiplier()
}

fn stands_out_as_claimed(spec: &Arc<TaskSpec>, runs: usize) {
    let mu = claimed(spec);
    let audit = audit(spec, runs);
    let (low, high) = audit.mu(thresholds(mu)[0]);
    assert!(low <= mu, "μ of {low} and more, claimed {mu}");
    assert!(high >= mu, "μ of at most {high}, claimed {mu}: the audit has no power");
    let (found, epsilon) = (audit.epsilon(&thresholds(mu), DELTA), gaussian::epsilon(mu, DELTA));
    assert!(found <= epsilon, "ε of {found} and more, claimed {epsilon}");
    assert!(found > 0.1 * epsilon, "ε of {found} alone, claimed {epsilon}: the audit has no power");
}

fn fixed(z: f64) -> Arc<TaskSpec> {
    spec("gaussian", &format!("noise_multiplier = {z:?}"))
}

fn adaptive(z: f64, bits_noise: f64) -> Arc<TaskSpec> {
    spec("gaussian", &format!("noise_multiplier = {z:?}\nadaptive_clip = {{ bits_noise = {bits_noise:?} }}"))
}

#[test]
fn sixteen_releases_tell_what_their_charges_add_up_to() {
    stands_out_as_claimed(&fixed(4.0), SHORT);
}

#[test]
fn an_adaptive_clip_tells_no_more_through_its_bits_than_is_charged() {
    stands_out_as_claimed(&adaptive(4.0, 2.5), SHORT);
}

#[test]
#[ignore = "minutes: 10⁵ runs of 16 releases in each world; `ci/audit` runs it"]
fn many_runs_of_sixteen_releases_tell_what_their_charges_add_up_to() {
    stands_out_as_claimed(&fixed(4.0), LONG);
}

#[test]
#[ignore = "minutes: 10⁵ runs of 16 releases in each world; `ci/audit` runs it"]
fn many_runs_with_an_adaptive_clip_tell_no_more_than_is_charged() {
    stands_out_as_claimed(&adaptive(4.0, 2.5), LONG);
}

#[test]
fn planted_defects_of_composed_releases_are_caught() {
    let beats = |spec: &Arc<TaskSpec>, mu: f64| audit(spec, SHORT).mu(thresholds(claimed(spec))[0]).0 > mu;
    let mu = claimed(&fixed(4.0));
    assert!(beats(&fixed(3.0), mu), "noise short by a quarter");
    assert!(beats(&fixed(4.0), mu / 2.0), "four releases charged of sixteen");
    // With so little noise on the bits nearly all of the charge is theirs.
    let spec = adaptive(4.0, 2.05);
    let privacy = spec.privacy.as_ref().unwrap();
    let alone = (RELEASES as f64).sqrt() * privacy.grid.sensitivity() as f64 / privacy.grid.sigma();
    assert!(alone < 0.3 && beats(&spec, alone), "bits that were not charged");
}

#[test]
fn a_run_of_correlated_noise_tells_no_more_than_its_whole_charge() {
    // One participation, in the first round: the tree's nodes above it, told apart by the sums of 1, 2, 4, 8, 16 releases.
    let spec = spec("tree", "noise_multiplier = 3.0\nparticipations = 1");
    let privacy = spec.privacy.as_ref().unwrap();
    let mu = f64::from(privacy.charge.releases).sqrt() / privacy.effective_multiplier();
    let sigma = privacy.grid.sigma() / privacy.grid.sensitivity() as f64;
    let world = |runs: usize, with: bool, seed: u8| -> Vec<f64> {
        let base = zeros(COORDINATES);
        let run = |number: usize| {
            let (mut manifests, mut prefix, mut total) = (Vec::new(), 0.0, 0.0);
            let mut bytes = [seed; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            for step in 0..RELEASES {
                let target = (with && step == 0).then(|| TARGET.to_vec());
                let rows = vec![Some(vec![0.0; COORDINATES]), None, None, target];
                let known = std::mem::take(&mut manifests);
                let (end, all) =
                    round_with(&spec, base.clone(), Carry::default(), &rows, false, |engine, survivors| {
                        let mut all: Vec<[u8; 32]> = known;
                        all.push(engine.step_manifest(all.len() as u64 + 1, survivors));
                        engine.set_noise_run(NoiseSeed::new(bytes), all.clone());
                        all
                    });
                manifests = all;
                prefix += f64::from(released(end).model.parameters()[0]) * privacy.divisor / privacy.grid.clip();
                // Each of these prefixes is one node that the first round is in.
                if (step + 1).is_power_of_two() {
                    total += prefix / sigma.powi(2);
                }
            }
            total
        };
        (0..runs).map(run).collect()
    };
    let audit = Audit { absent: world(600, false, 1), present: world(600, true, 2) };
    let (low, high) = audit.mu(0.5 * mu * mu);
    assert!(low <= mu, "μ of {low} and more, claimed {mu}");
    assert!(high >= mu, "μ of at most {high}, claimed {mu}: the audit has no power");
}
