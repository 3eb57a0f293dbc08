//! A distinguisher against the real pipeline: does the canary stand out more than the claim allows, and are planted
//! defects caught? Deterministic seeds; the statistic is the canary's coordinate, the threshold is set beforehand.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use testudo_privacy::{
    accountant::gaussian,
    clip::{ClippedSum, Grid},
    noise::{Law, NoiseSeed, NoiseStream, NoiseTable},
};

const RELEASES: u64 = 200_000;
const BITS: u32 = 16;

/// Others' updates, fixed; the canary's coordinate is the first.
fn others() -> [[f32; 4]; 3] {
    [[0.1, 0.5, -0.3, 0.2], [-0.4, 0.1, 0.1, 0.0], [0.3, -0.2, 0.6, 0.1]]
}

/// The canary's coordinate in every release, with `target` among the updates; `multiplier` is the noise actually drawn.
fn releases(target: [f32; 4], grid: Grid, sigma: f64, seed: u8) -> Vec<f64> {
    let table = NoiseTable::new(Law::Rounded, sigma).unwrap();
    let seed = NoiseSeed::new([seed; 32]);
    (0..RELEASES)
        .map(|number| {
            let mut sum = ClippedSum::new(grid, 4);
            for update in others() {
                sum.add(&update).unwrap();
            }
            sum.add(&target).unwrap();
            let mut manifest = [0; 32];
            manifest[..8].copy_from_slice(&number.to_le_bytes());
            let mut stream = NoiseStream::new(&table, &seed.key(&manifest, sigma, 0));
            let noised = sum.noised(&mut stream).unwrap();
            noised.release(1.0).next().unwrap()
        })
        .collect()
}

/// TPR − FPR at the threshold halfway between the two worlds without noise, and its half width at 5 standard deviations.
fn advantage(absent: &[f64], present: &[f64], threshold: f64) -> (f64, f64) {
    let share = |values: &[f64]| values.iter().filter(|value| **value > threshold).count() as f64 / values.len() as f64;
    let (caught, wrong) = (share(present), share(absent));
    let variance = |share: f64, count: usize| share * (1.0 - share) / count as f64;
    let width = 5.0 * (variance(caught, present.len()) + variance(wrong, absent.len())).sqrt();
    (caught - wrong, width)
}

/// A grid for noise multiplier `z` and σ of its noise.
fn setting(z: f64) -> (Grid, f64) {
    let grid = Grid::new(1.0, BITS, z, 16).unwrap();
    (grid, grid.sigma())
}

#[test]
fn the_canary_stands_out_exactly_as_much_as_claimed() {
    for z in [0.5, 1.0, 2.0] {
        let (grid, sigma) = setting(z);
        let absent = releases([0.0; 4], grid, sigma, 1);
        let present = releases([1.0, 0.0, 0.0, 0.0], grid, sigma, 2);
        // The others add up to 0 in the first coordinate.
        let (got, width) = advantage(&absent, &present, 0.5);
        // The best distinguisher of a μ-GDP mechanism has advantage δ(0).
        let claimed = gaussian::delta(gaussian::mu(z, 1), 0.0);
        assert!(got - width <= claimed, "z={z}: {got} beats {claimed}");
        assert!(got + width >= claimed, "z={z}: {got} is far below {claimed}: the audit has no power");
    }
}

#[test]
fn a_canary_beyond_the_clip_and_one_that_is_not_finite_gain_nothing() {
    let (grid, sigma) = setting(1.0);
    let absent = releases([0.0; 4], grid, sigma, 1);
    let claimed = gaussian::delta(gaussian::mu(1.0, 1), 0.0);
    let (got, width) = advantage(&absent, &releases([1000.0, 0.0, 0.0, 0.0], grid, sigma, 2), 0.5);
    assert!(got - width <= claimed, "{got} {claimed}");
    let (got, width) = advantage(&absent, &releases([f32::NAN, 1.0, 0.0, 0.0], grid, sigma, 2), 0.5);
    assert!(got.abs() <= width, "{got} {width}");
}

#[test]
fn planted_defects_are_caught() {
    let (grid, sigma) = setting(1.0);
    let claimed = gaussian::delta(gaussian::mu(1.0, 1), 0.0);
    let beats = |absent: &[f64], present: &[f64], threshold: f64| {
        let (got, width) = advantage(absent, present, threshold);
        got - width > claimed
    };
    let absent = releases([0.0; 4], grid, sigma, 1);
    let canary = [1.0, 0.0, 0.0, 0.0];

    let short = 0.95 * sigma;
    assert!(
        beats(&releases([0.0; 4], grid, short, 1), &releases(canary, grid, short, 2), 0.5),
        "noise short by a twentieth"
    );

    // A forgotten clip: a grid ten times as wide under the noise of the narrow one.
    let wide = Grid::new(10.0, BITS, 1.0, 16).unwrap();
    let unclipped = releases([10.0, 0.0, 0.0, 0.0], wide, sigma / 10.0, 2);
    assert!(beats(&releases([0.0; 4], wide, sigma / 10.0, 1), &unclipped, 5.0), "a forgotten clip");

    // A retry with fresh noise: whoever averages both releases sees noise smaller by √2.
    let average = |target: [f32; 4], seeds: [u8; 2]| -> Vec<f64> {
        let [first, second] = seeds.map(|seed| releases(target, grid, sigma, seed));
        first.iter().zip(&second).map(|(first, second)| f64::midpoint(*first, *second)).collect()
    };
    assert!(beats(&average([0.0; 4], [1, 3]), &average(canary, [2, 4]), 0.5), "a retry with fresh noise");

    // One seed for two sums: their difference has no noise at all.
    let reused = releases(canary, grid, sigma, 1);
    let difference: Vec<f64> = reused.iter().zip(&absent).map(|(with, without)| with - without).collect();
    assert!(difference.iter().all(|value| (value - 1.0).abs() < 1e-4), "reused noise does not cancel?");
    assert!(beats(&vec![0.0; difference.len()], &difference, 0.5), "a reused seed");
}
