//! From an update to the integers that are summed under masks: clip, rotation, conditional rounding, exact check.
//!
//! Kairouz, Liu and Steinke 2021, section 4. Rounding up or down by chance keeps the sum right on average, but raises the
//! norm; it is repeated until the norm is within a bound that holds with a probability of at least 1 − β, β = e^{−1/2}. The
//! proof of privacy uses that bound on the integers alone, which is checked exactly.

use super::{Contribution, Coordinate, Grid};
use crate::{
    accountant::distributed::rounded_sensitivity,
    rotation::{BLOCK, Rotation},
};
use zeroize::{Zeroize as _, Zeroizing};

/// Most coordinates of an update; bounds hold for all up to it, so that what a task costs does not depend on its model.
pub const MOST_COORDINATES: u64 = 1 << 30;

/// How often an update is rounded anew: the bound fails all of them with a probability below 10⁻²⁷.
const ATTEMPTS: u32 = 128;

/// The L2 norm in grid steps that no rounded update exceeds: the bound for β = e^{−1/2} at [`MOST_COORDINATES`], in whole
/// steps.
#[must_use]
pub fn rounded_bound(grid: &Grid) -> u64 {
    rounded_sensitivity(grid.sensitivity() as f64, 1.0, MOST_COORDINATES).ceil() as u64
}

/// Clips, rotates and rounds an update; answers whole blocks of integers with Σq² at most [`rounded_bound`]².
///
/// `random` fills what it is given with uniformly random bytes, eight for every coordinate of a block and attempt. What is
/// not finite becomes zeros.
pub fn rotated<T: Coordinate>(
    grid: &Grid,
    rotation: &Rotation,
    update: &[T],
    mut random: impl FnMut(&mut [u8]),
) -> (Vec<i64>, Contribution) {
    let mut steps = vec![0_i64; Rotation::padded(update.len())];
    let Some((factor, clipped)) = grid.factor(update) else { return (steps, Contribution::NotFinite) };
    let most = u128::from(rounded_bound(grid)).pow(2);
    let mut values = Zeroizing::new(vec![0.0_f64; steps.len()]);
    values.iter_mut().zip(update).for_each(|(value, update)| *value = (*update).into() * factor);
    for (index, block) in (0..).zip(values.as_chunks_mut::<BLOCK>().0) {
        rotation.forward(index, block);
    }
    let mut bytes = Zeroizing::new(vec![0_u8; 8 * BLOCK]);
    for _ in 0..ATTEMPTS {
        let mut energy = 0_u128;
        for (values, steps) in values.chunks(BLOCK).zip(steps.chunks_mut(BLOCK)) {
            random(&mut bytes);
            let draws = bytes.as_chunks::<8>().0;
            for ((value, step), draw) in values.iter().zip(steps).zip(draws) {
                // 53 bits: 0 ≤ u < 1.
                let chance = (u64::from_le_bytes(*draw) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64);
                *step = (value + chance).floor() as i64;
                energy += u128::from(step.unsigned_abs()).pow(2);
            }
        }
        if energy <= most {
            return (steps, if clipped { Contribution::Clipped } else { Contribution::Whole });
        }
    }
    steps.zeroize();
    steps.resize(Rotation::padded(update.len()), 0);
    (steps, Contribution::Unclippable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

    fn randomness(seed: u64) -> impl FnMut(&mut [u8]) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        move |bytes| rng.fill_bytes(bytes)
    }

    fn energy(steps: &[i64]) -> u128 {
        steps.iter().map(|step| u128::from(step.unsigned_abs()).pow(2)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_norm_of_the_integers_never_exceeds_the_bound(
            bits in 8_u32..24, length in 1_usize..9000, scale in -30_i32..30, seed: u64, seen: [f32; 8],
        ) {
            let grid = Grid::new(0.7, bits, 1.0, 1).unwrap();
            let value = |at: usize| seen[at % 8].clamp(-1e20, 1e20) * 2_f32.powi(scale) * (1 + at % 5) as f32;
            let update: Vec<f32> = (0..length).map(value).collect();
            let (steps, _) = rotated(&grid, &Rotation::new([seed as u8; 32]), &update, randomness(seed));
            prop_assert_eq!(steps.len(), length.next_multiple_of(BLOCK));
            prop_assert!(energy(&steps) <= u128::from(rounded_bound(&grid)).pow(2));
        }
    }

    #[test]
    fn the_bound_is_that_of_the_paper_and_close_to_the_clip_on_fine_grids() {
        for (bits, inflation) in [(16, 1.04), (20, 1.0002), (24, 1.000_001)] {
            let grid = Grid::new(1.0, bits, 1.0, 1).unwrap();
            let (clip, bound) = (grid.sensitivity() as f64, rounded_bound(&grid) as f64);
            let (half, d) = (f64::from(1 << 15) / 2.0, f64::from(1 << 30));
            let paper = (clip * clip + d / 4.0 + (clip + half)).sqrt();
            assert!(bound >= paper && bound < paper + 1.0 && bound <= clip * inflation, "{bits}: {bound} {paper}");
        }
    }

    #[test]
    fn rounding_is_right_on_average_and_rarely_repeated() {
        let grid = Grid::new(1.0, 16, 1.0, 1).unwrap();
        let rotation = Rotation::new([3; 32]);
        let update: Vec<f32> = (0..4096).map(|at| if at == 9 { 0.4 } else { 0.0001 }).collect();
        let mut exact = Box::new([0.0; BLOCK]);
        let factor = grid.factor(&update).unwrap().0;
        exact.iter_mut().zip(&update).for_each(|(exact, value)| *exact = f64::from(*value) * factor);
        rotation.forward(0, &mut exact);
        let (mut draws, mut sums) = (0, vec![0_i64; BLOCK]);
        for seed in 0..400 {
            let mut random = randomness(seed);
            let counted = |bytes: &mut [u8]| {
                draws += 1;
                random(bytes);
            };
            let (steps, contribution) = rotated(&grid, &rotation, &update, counted);
            assert_eq!(contribution, Contribution::Whole);
            sums.iter_mut().zip(&steps).for_each(|(sum, step)| *sum += step);
        }
        assert_eq!(draws, 400, "one block, one attempt each");
        // Each is off by at most 1 step, with variance at most 1/4: 5 deviations of the mean of 400.
        for (sum, exact) in sums.iter().zip(exact.iter()) {
            assert!((*sum as f64 / 400.0 - exact).abs() < 0.15, "{sum} {exact}");
        }
    }

    #[test]
    fn what_is_not_finite_is_zeros() {
        let grid = Grid::new(1.0, 20, 1.0, 1).unwrap();
        let (steps, contribution) = rotated(&grid, &Rotation::new([0; 32]), &[f32::NAN, 1.0], randomness(1));
        assert_eq!((contribution, energy(&steps), steps.len()), (Contribution::NotFinite, 0, BLOCK));
    }
}
