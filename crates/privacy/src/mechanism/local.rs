//! Local differential privacy: noise on the client, before anything leaves it.
//!
//! Another update in its place moves a clipped one by 2C, not C, and the bound is the exact Gaussian one: the textbook
//! σ = Δ√(2 ln(1.25/δ))/ε is no bound above ε = 1.

use crate::{
    accountant::gaussian,
    clip::{ClippedSum, Contribution, Coordinate, Grid, NoisedSum},
    error::{ParameterError, within},
    noise::{NoiseStream, Overflow},
};
use thiserror::Error;

/// A client's own mechanism.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalNoise {
    grid: Grid,
}

/// Why an update could not be noised.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LocalError {
    /// A length or a parameter.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Sums beyond i64.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

impl LocalNoise {
    /// Noise that keeps (ε, δ) for `participations` updates of one client, each clipped to `clip` on a grid of 2^`bits`.
    ///
    /// # Errors
    /// Parameters outside their limits, or noise that the grid does not hold.
    pub fn new(clip: f64, bits: u32, epsilon: f64, delta: f64, participations: u64) -> Result<Self, ParameterError> {
        within("epsilon", epsilon, 1e-6, 1e6)?;
        within("delta", delta, 1e-100, 0.5)?;
        within("participations", participations as f64, 1.0, 1e9)?;
        // σ/2C by the accountant, σ/C for the grid.
        let multiplier = 2.0 * gaussian::noise_multiplier(participations, epsilon, delta);
        Ok(Self { grid: Grid::new(clip, bits, multiplier, 1)? })
    }

    /// Noise of `multiplier` z = σ/C on a grid of 2^`bits`: what a task asks for.
    ///
    /// # Errors
    /// Parameters outside their limits, or noise that the grid does not hold.
    pub fn with_multiplier(clip: f64, bits: u32, multiplier: f64) -> Result<Self, ParameterError> {
        within("noise_multiplier", multiplier, 1e-6, 1e9)?;
        Ok(Self { grid: Grid::new(clip, bits, multiplier, 1)? })
    }

    /// Noise of `sigma` whole grid steps on a grid of 2^`bits`: what a round asks for.
    ///
    /// # Errors
    /// As [`Self::with_multiplier`].
    pub fn with_sigma(clip: f64, bits: u32, sigma: u64) -> Result<Self, ParameterError> {
        within("grid_bits", f64::from(bits), 1.0, 31.0)?;
        within("sigma_grid", sigma as f64, 1.0, 2_f64.powi(35))?;
        // Exact: σ has at most 36 bits and the quotient is by a power of two.
        Ok(Self { grid: Grid::new(clip, bits, sigma as f64 / (1_u64 << bits) as f64, 1)? })
    }

    /// σ in grid steps: that of the table.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.grid.sigma()
    }

    /// z = σ/C. The sensitivity is 2C: accountants count half of it.
    #[must_use]
    pub fn multiplier(&self) -> f64 {
        self.grid.sigma() / self.grid.sensitivity() as f64
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// ε after `participations` updates, rounded up.
    #[must_use]
    pub fn epsilon(&self, participations: u64, delta: f64) -> f64 {
        let multiplier = (self.grid.sigma() / (2 * self.grid.sensitivity()) as f64).next_down();
        gaussian::epsilon(gaussian::mu(multiplier, participations), delta)
    }

    /// Clips, truncates and noises one update. What is not finite becomes noise alone.
    ///
    /// # Errors
    /// Sums beyond i64.
    pub fn randomise<T: Coordinate>(
        &self,
        update: &[T],
        stream: &mut NoiseStream<'_>,
    ) -> Result<(NoisedSum, Contribution), LocalError> {
        let mut sum = ClippedSum::new(self.grid, update.len());
        let contribution = sum.add(update)?;
        Ok((sum.noised(stream)?, contribution))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Law, NoiseKey, NoiseTable};

    #[test]
    fn the_noise_is_that_of_twice_the_clip() {
        for (epsilon, participations) in [(1.0, 1), (8.0, 1), (8.0, 20)] {
            let local = LocalNoise::new(1.0, 20, epsilon, 1e-6, participations).unwrap();
            let got = local.epsilon(participations, 1e-6);
            assert!(got <= epsilon && got > epsilon * 0.9999, "{epsilon}: {got}");
            // With sensitivity C instead the same σ would claim far less than it costs.
            let claimed = gaussian::epsilon(gaussian::mu(local.sigma() / 1_048_576.0, participations), 1e-6);
            assert!(claimed < 0.6 * got);
        }
    }

    #[test]
    fn noise_asked_for_in_steps_or_as_a_multiple_of_the_clip_is_the_same() {
        let local = LocalNoise::with_multiplier(0.3, 24, 2.5).unwrap();
        assert_eq!(LocalNoise::with_sigma(0.3, 24, local.sigma() as u64).unwrap(), local);
        assert_eq!(local.multiplier(), 2.5);
        // Of twice the clip.
        assert_eq!(local.epsilon(3, 1e-6), gaussian::epsilon(gaussian::mu(1.25_f64.next_down(), 3), 1e-6));
        assert!(LocalNoise::with_sigma(0.3, 24, 0).is_err() && LocalNoise::with_sigma(0.3, 32, 5).is_err());
        assert!(LocalNoise::with_multiplier(0.3, 24, f64::NAN).is_err());
    }

    #[test]
    fn the_textbook_sigma_does_not_keep_its_epsilon() {
        // Δ = C and σ = C√(2 ln(1.25/δ))/ε, at the true sensitivity 2C.
        for (epsilon, at_least) in [(1.0_f64, 1.6), (8.0, 18.0), (16.0, 48.0)] {
            let delta = 1e-5_f64;
            let sigma = (2.0 * (1.25 / delta).ln()).sqrt() / epsilon;
            let truth = gaussian::epsilon(gaussian::mu(sigma / 2.0, 1), delta);
            assert!(truth > at_least, "{epsilon}: {truth}");
        }
    }

    #[test]
    fn an_update_that_is_not_finite_becomes_noise() {
        let local = LocalNoise::new(1.0, 20, 2.0, 1e-6, 1).unwrap();
        let table = NoiseTable::new(Law::Rounded, local.sigma()).unwrap();
        let mut stream = NoiseStream::new(&table, &NoiseKey::new([1; 32]));
        let (noised, contribution) = local.randomise(&[f32::NAN, 1.0], &mut stream).unwrap();
        assert_eq!(contribution, Contribution::NotFinite);
        assert!(noised.values().iter().all(|value| *value != 0));
    }
}
