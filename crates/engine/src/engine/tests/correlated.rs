//! Runs of correlated noise: against slow twins, the same after a restart, and bound to what each step summed.

use super::{
    private::{round_with, zeros},
    *,
};
use testudo_privacy::noise::{Law, NoiseSeed, NoiseStream, NoiseTable};

const COORDINATES: usize = 5000;
const ROUNDS: usize = 6;

fn spec(mechanism: &str) -> Arc<TaskSpec> {
    let more = "noise_multiplier = 1.5\ngrid_bits = 16\nparticipations = 6";
    let text = format!(
        "name = \"t\"\nrounds = {ROUNDS}\n[model]\ninitial = \"m\"\n[cohort]\nsize = 4\n[encoding]\nclip_l2 = 2.0\n\
         [rule]\nkind = \"mean\"\n[privacy]\nmechanism = {mechanism}\npopulation = \"p\"\nbudget_epsilon = 1000\n\
         delta = 1e-3\nclients = 100\n{more}\n"
    );
    Arc::new(TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}")))
}

/// Rows within the clip whose steps are whole, so that only the noise needs a twin.
fn rows(step: usize) -> Vec<Option<Vec<f32>>> {
    let row = |number: usize| {
        let mut row = vec![0.0; COORDINATES];
        row[(number * 1700 + step) % COORDINATES] = 0.5;
        Some(row)
    };
    vec![row(0), row(1), None, row(3)]
}

/// One step after those of `manifests`; its manifest is added to them.
fn step(spec: &Arc<TaskSpec>, rows: &[Option<Vec<f32>>], manifests: &mut Vec<[u8; 32]>, reverse: bool) -> Action {
    let known = manifests.clone();
    let (end, all) = round_with(spec, zeros(COORDINATES), Carry::default(), rows, reverse, |engine, survivors| {
        let mut all = known;
        all.push(engine.step_manifest(all.len() as u64 + 1, survivors));
        engine.set_noise_run(NoiseSeed::new([5; 32]), all.clone());
        all
    });
    *manifests = all;
    end
}

/// The steps' draws Z_t in one block of a stream of this σ, in wide integers.
fn draws(manifests: &[[u8; 32]], sigma: f64, block: usize, length: usize) -> Vec<Vec<i128>> {
    let table = NoiseTable::new(Law::Rounded, sigma).unwrap();
    let draw = |manifest: &[u8; 32]| {
        let mut values = vec![0; length];
        let key = NoiseSeed::new([5; 32]).key(manifest, sigma, block as u64);
        NoiseStream::new(&table, &key).fill(&mut values);
        values.into_iter().map(i128::from).collect()
    };
    manifests.iter().map(draw).collect()
}

/// N_t of every step from the draws Z_t.
type Twin = fn(&[Vec<i128>], usize) -> Vec<Vec<i128>>;

/// The noise in prefix t is the sum of the draws of the nodes that make it up.
fn tree(draws: &[Vec<i128>], _: usize) -> Vec<Vec<i128>> {
    let prefix = |steps: usize| -> Vec<i128> {
        let mut sum = vec![0; draws[0].len()];
        let mut end = 0;
        for level in (0..8).rev().filter(|level| steps >> level & 1 == 1) {
            end += 1 << level;
            sum.iter_mut().zip(&draws[end - 1]).for_each(|(sum, value)| *sum += value);
        }
        sum
    };
    (1..=draws.len())
        .map(|step| prefix(step).iter().zip(prefix(step - 1)).map(|(now, then)| now - then).collect())
        .collect()
}

/// N_t = ⌊(Z_t − Σ a_k N_{t−k})/2^f⌉ with the square root of the prefix sums, cut to three bands.
fn banded(draws: &[Vec<i128>], bits: usize) -> Vec<Vec<i128>> {
    let unit = (1_i128 << bits) as f64;
    let numerators: Vec<i128> = [1.0, 0.5, 0.375].iter().map(|c| (c * unit).round_ties_even() as i128).collect();
    let mut noise: Vec<Vec<i128>> = Vec::new();
    for (step, draw) in draws.iter().enumerate() {
        let value = |at: usize| {
            let past: i128 = (1..=step.min(2)).map(|k| numerators[k] * noise[step - k][at]).sum();
            (draw[at] - past + (1 << (bits - 1))) >> bits
        };
        noise.push((0..draw.len()).map(value).collect());
    }
    noise
}

#[test]
fn a_run_equals_its_slow_twin_bit_for_bit() {
    // σ is 1.5·2¹⁶ steps: 17 bits, which leaves a matrix the 16 it can use.
    let cases: [(&str, usize, Twin); 2] = [("\"tree\"", 0, tree), ("\"matrix\"\nbands = 3", 16, banded)];
    for (mechanism, bits, twin) in cases {
        let spec = spec(mechanism);
        let sigma = spec.privacy.as_ref().unwrap().charge.sigma_grid as f64 * 2_f64.powi(bits as i32);
        let (mut manifests, mut found) = (Vec::new(), Vec::new());
        for number in 0..ROUNDS {
            let release = released(step(&spec, &rows(number), &mut manifests, number % 2 == 1));
            assert!(release.seats.iter().all(|seat| seat.score.is_none() && seat.detail.is_empty()));
            found.push(release.model.parameters().to_vec());
        }
        let scale = 2.0 / 2_f64.powi(16) / 4.0;
        for (block, start) in (0..COORDINATES).step_by(BLOCK).enumerate() {
            let length = BLOCK.min(COORDINATES - start);
            let noise = twin(&draws(&manifests, sigma, block, length), bits);
            for number in 0..ROUNDS {
                for at in 0..length {
                    let value = |row: &Vec<f32>| f64::from(row[start + at]);
                    // The factor leaves 2⁻²⁰ of room: truncated, a step less.
                    let steps = |value: f64| (value * 32768.0 * (1.0 - 2_f64.powi(-20))).trunc() as i128;
                    let sum: i128 = rows(number).iter().flatten().map(|row| steps(value(row))).sum();
                    let expected = ((sum + noise[number][at]) as f64 * scale) as f32;
                    assert_eq!(found[number][start + at], expected, "{mechanism} {number} {}", start + at);
                }
            }
        }
    }
}

#[test]
fn a_step_that_is_tried_again_has_the_same_bytes_and_one_that_sums_something_else_other_noise() {
    for mechanism in ["\"tree\"", "\"matrix\""] {
        let spec = spec(mechanism);
        let mut manifests = Vec::new();
        for number in 0..3 {
            step(&spec, &rows(number), &mut manifests, false);
        }
        let run = |rows: &[Option<Vec<f32>>], reverse| {
            let mut known = manifests.clone();
            let release = released(step(&spec, rows, &mut known, reverse));
            (release.digest, known)
        };
        let first = run(&rows(3), false);
        assert_eq!(first, run(&rows(3), true), "{mechanism}: after a restart, in another order");
        let mut others = rows(3);
        others[0] = None;
        let second = run(&others, false);
        assert_eq!(first.1[..3], second.1[..3]);
        assert_ne!(first.1[3], second.1[3], "{mechanism}");
        // The same updates in a later step are another sum too.
        let mut later = manifests.clone();
        step(&spec, &rows(3), &mut later, false);
        step(&spec, &rows(3), &mut later, false);
        assert_ne!(later[3], later[4]);
    }
}

#[test]
fn a_step_whose_manifest_is_not_that_of_its_updates_is_given_up() {
    let spec = spec("\"tree\"");
    for manifests in [vec![], vec![[1; 32]], vec![[1; 32], [2; 32]]] {
        let (end, ()) = round_with(&spec, zeros(COORDINATES), Carry::default(), &rows(0)[..1], false, |engine, _| {
            engine.set_noise_run(NoiseSeed::new([5; 32]), manifests.clone());
        });
        assert!(matches!(end, Action::Abandon { why: Abandon::Fault { .. }, .. }), "{end:?}");
    }
}
