//! Secret samples against a distinguisher that knows everybody's update, but not who was drawn.

use super::{super::private::zeros, bounds::Audit, *};
use crate::PoissonSample;
use testudo_privacy::accountant::{Mechanism, Sampling};

/// Besides the target three clients are registered, who have nothing in the canary's coordinate.
const SILENT: [[f32; COORDINATES]; 3] = [[0.0, 0.5, -0.3, 0.2], [0.0, 0.1, 0.1, 0.0], [0.0, -0.2, 0.6, 0.1]];
const DELTA: f64 = 1e-2;

/// A task that draws every client with probability `size`/`clients`.
fn sampled(size: usize, clients: usize, z: f64, rounds: usize) -> Arc<TaskSpec> {
    let text = format!(
        "name = \"t\"\nrounds = {rounds}\n[model]\ninitial = \"m\"\n[cohort]\nsize = {size}\n[encoding]\nclip_l2 = 1.0\n\
         [rule]\nkind = \"mean\"\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"p\"\nclients = {clients}\n\
         budget_epsilon = 1000\ndelta = {DELTA}\nnoise_multiplier = {z:?}\nsampling = \"poisson\"\n"
    );
    Arc::new(TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}")))
}

/// The canary's coordinate of a round's sum, in units of the clip, and whether the target was drawn.
fn release(
    spec: &Arc<TaskSpec>,
    sample: PoissonSample,
    target: [f32; COORDINATES],
    seed: u8,
    number: u64,
) -> (f64, bool) {
    let names: Vec<ClientId> = (0..4).map(|number| ClientId::new(format!("c{number:03}")).unwrap()).collect();
    let mut fresh = [seed; 32];
    fresh[..8].copy_from_slice(&number.to_le_bytes());
    let mut coins = fresh;
    coins[31] ^= 0xff;
    let drawn = sample.draw(coins, names.iter());
    let updates = SILENT.iter().chain([&target]).zip(&names);
    let rows: Vec<_> = updates.map(|(row, name)| drawn.contains(name).then(|| row.to_vec())).collect();
    let (end, _) = round(spec, zeros(COORDINATES), Carry::default(), &rows, fresh, false);
    let sum = f64::from(released(end).model.parameters()[0]) * spec.privacy.as_ref().unwrap().divisor;
    (sum, drawn.contains(&names[3]))
}

#[test]
fn one_client_of_a_secret_sample_stands_out_as_much_as_claimed_and_what_shows_it_is_caught() {
    let spec = sampled(2, 4, 1.0, 1);
    let sample = spec.cohort.sample.unwrap();
    let world = |sample, target, seed| -> Vec<(f64, bool)> {
        (0..u64::from(ROUNDS)).map(|number| release(&spec, sample, target, seed, number)).collect()
    };
    let sums = |rounds: &[(f64, bool)]| rounds.iter().map(|(sum, _)| *sum).collect::<Vec<_>>();
    let (absent, present) = (world(sample, ABSENT, 1), world(sample, CANARY, 2));
    // Whoever is drawn with probability ½ is told apart half as often.
    let claim = 0.5 * claimed(1.0);
    let (got, width) = advantage(&sums(&absent), &sums(&present), 0.5);
    assert!(got - width <= claim, "{got} beats {claim}");
    assert!(got + width >= claim, "{got} is far below {claim}: the audit has no power");

    let beats = |absent: &[f64], present: &[f64]| {
        let (got, width) = advantage(absent, present, 0.5);
        got - width > claim
    };
    let seen = |rounds: &[(f64, bool)]| {
        let drawn = rounds.iter().filter(|(_, drawn)| *drawn);
        drawn.map(|(sum, _)| *sum).collect::<Vec<_>>()
    };
    assert!(beats(&seen(&absent), &seen(&present)), "a cohort that is known");
    let eager = PoissonSample { expected: 3, ..sample };
    assert!(beats(&sums(&world(eager, ABSENT, 1)), &sums(&world(eager, CANARY, 2))), "coins of a higher rate");
}

#[test]
fn sixteen_secret_samples_tell_no_more_than_is_charged() {
    const RELEASES: usize = 16;
    const RUNS: u64 = 3000;
    let (rate, z) = (0.1, 1.0);
    let spec = sampled(1, 10, z, RELEASES);
    let sample = spec.cohort.sample.unwrap();
    let charged = spec.privacy.as_ref().unwrap().epsilon(RELEASES as u64);
    let sampling = Sampling::Poisson { rate };
    let tight = Mechanism::Gaussian { noise_multiplier: z, rounds: RELEASES as u64, sampling };
    let claim = tight.report(DELTA).unwrap().best;
    assert!(claim <= charged && charged < 2.0 * claim, "{claim} {charged}");
    // The log-likelihood ratio of a release, and what a distinguisher has that knows the cohort.
    let mixed = |sum: f64| (1.0 - rate + rate * ((sum - 0.5) / (z * z)).exp()).ln();
    let told = |sum: f64, drawn: bool| if drawn { (sum - 0.5) / (z * z) } else { 0.0 };
    let world = |target, seed: u8| -> (Vec<f64>, Vec<f64>) {
        let run = |run: u64| {
            let number = |step: u64| run * RELEASES as u64 + step;
            let releases = (0..RELEASES as u64).map(|step| release(&spec, sample, target, seed, number(step)));
            releases.fold((0.0, 0.0), |(secret, known), (sum, drawn)| (secret + mixed(sum), known + told(sum, drawn)))
        };
        (0..RUNS).map(run).unzip()
    };
    let ((absent, absent_known), (present, present_known)) = (world(ABSENT, 1), world(CANARY, 2));
    let thresholds = [0.5, 1.0, 1.5, 2.0, 3.0];
    let found = Audit { absent, present }.epsilon(&thresholds, DELTA);
    assert!(found <= claim, "epsilon of {found} and more, claimed {claim}");
    assert!(found > 0.15 * claim, "epsilon of {found} alone, claimed {claim}: the audit has no power");
    let known = Audit { absent: absent_known, present: present_known }.epsilon(&thresholds, DELTA);
    assert!(known > claim, "a known cohort is not caught: {known}, claimed {claim}");
}
