//! Noise in shares under masking: every client adds a little, the sum has enough.
//!
//! Dropouts and colluders take their shares away. Shares are therefore sized for the survivors that are *guaranteed* to
//! be honest; a group with fewer must not be unmasked.

use crate::{
    accountant::{
        distributed::{self, DistributedGaussian},
        gaussian, zcdp,
    },
    error::{ParameterError, within},
    noise::{NoiseStream, Overflow},
};

/// The least σ of a share in grid steps: below it a sum of discrete Gaussians is not close to one.
pub const LEAST_SHARE: f64 = 2.0;

/// Shares of one group's noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    sigma: f64,
    survivors: u64,
    colluders: u64,
    sensitivity: u64,
    dimension: u64,
}

impl Shares {
    /// Shares such that `survivors` honest ones together have σ = `sigma_total` in grid steps.
    ///
    /// `colluders` are those whose shares do not count, because they tell them; `sensitivity` is Δ₂ in grid steps of an
    /// update truncated to the grid.
    ///
    /// # Errors
    /// No survivors, a share below [`LEAST_SHARE`], or parameters outside their limits.
    pub fn new(
        sigma_total: f64,
        survivors: u64,
        colluders: u64,
        sensitivity: u64,
        dimension: u64,
    ) -> Result<Self, ParameterError> {
        let whole = Self::checked(sigma_total, survivors, colluders, sensitivity, dimension)?;
        let sigma = (sigma_total / (survivors as f64).sqrt()).next_up();
        if sigma < LEAST_SHARE {
            let fix = format!(
                "a share has {sigma} grid steps, {LEAST_SHARE} are the least: give more grid_bits, fewer survivors or \
                 more noise"
            );
            return Err(ParameterError::new("sigma_grid", sigma_total, fix));
        }
        Ok(Self { sigma, ..whole })
    }

    /// Shares of `sigma` whole grid steps each: what a round asks for. As [`Self::new`] otherwise.
    ///
    /// # Errors
    /// As there.
    pub fn of_steps(
        sigma: u64,
        survivors: u64,
        colluders: u64,
        sensitivity: u64,
        dimension: u64,
    ) -> Result<Self, ParameterError> {
        Self::checked(sigma as f64, survivors, colluders, sensitivity, dimension)
    }

    fn checked(
        sigma: f64,
        survivors: u64,
        colluders: u64,
        sensitivity: u64,
        dimension: u64,
    ) -> Result<Self, ParameterError> {
        within("survivors", survivors as f64, 1.0, 1e6)?;
        within("colluders", colluders as f64, 0.0, 1e6)?;
        within("sensitivity_grid", sensitivity as f64, 1.0, 2_f64.powi(31))?;
        within("dimension", dimension as f64, 1.0, 1e12)?;
        within("sigma_grid", sigma, LEAST_SHARE, 2_f64.powi(36))?;
        Ok(Self { sigma, survivors, colluders, sensitivity, dimension })
    }

    /// Honest survivors that the noise is counted from.
    #[must_use]
    pub fn survivors(&self) -> u64 {
        self.survivors
    }

    /// σ of one share.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Clients of a group whose shares do not count.
    #[must_use]
    pub fn colluders(&self) -> u64 {
        self.colluders
    }

    /// Δ₂ in grid steps.
    #[must_use]
    pub fn sensitivity(&self) -> u64 {
        self.sensitivity
    }

    /// The threshold that a group needs: guaranteed honest survivors and assumed colluders.
    #[must_use]
    pub fn threshold(&self) -> u64 {
        self.survivors + self.colluders
    }

    /// What the sum guarantees with the survivors planned for; exact for any number of them.
    #[must_use]
    pub fn guarantee(&self) -> DistributedGaussian {
        self.guarantee_with(self.survivors)
    }

    /// What it would guarantee with another number of honest survivors.
    #[must_use]
    pub fn guarantee_with(&self, honest: u64) -> DistributedGaussian {
        distributed::guarantee_of_integers(honest.max(1), self.sigma, self.dimension, self.sensitivity)
    }

    /// ε of `rounds` sums with `honest` survivors each, by the conversion from zCDP, rounded up; and by the exact Gaussian
    /// bound of the same σ for comparison.
    #[must_use]
    pub fn epsilon(&self, honest: u64, rounds: u64, delta: f64) -> (f64, f64) {
        let rho = self.guarantee_with(honest).rho;
        let total = (rho * rounds as f64).next_up();
        (zcdp::epsilon(total, delta), gaussian::epsilon(gaussian::mu_of_rho(total), delta))
    }

    /// Adds a client's share to its integers, before masking.
    ///
    /// # Errors
    /// Sums beyond i64.
    pub fn add_to(&self, values: &mut [i64], stream: &mut NoiseStream<'_>) -> Result<(), Overflow> {
        stream.add_to(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Law, NoiseKey, NoiseTable};

    #[test]
    fn shares_of_the_survivors_have_the_whole_noise() {
        let shares = Shares::new(400.0, 70, 5, 100, 1000).unwrap();
        assert_eq!(shares.threshold(), 75);
        let planned = shares.guarantee();
        let exact = (100.0_f64 / 400.0).powi(2) / 2.0;
        assert!((planned.rho / exact - 1.0).abs() < 1e-9, "{planned:?}");
        let table = NoiseTable::new(Law::Discrete, shares.sigma()).unwrap();
        let mut sums = vec![0; 20_000];
        for client in 0..70 {
            let mut stream = NoiseStream::new(&table, &NoiseKey::new([client; 32]));
            shares.add_to(&mut sums, &mut stream).unwrap();
        }
        let variance = sums.iter().map(|value| (*value as f64).powi(2)).sum::<f64>() / 20_000.0;
        assert!((variance.sqrt() / 400.0 - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn dropouts_cost_what_the_design_says() {
        // Planned ε = 2 over 100 rounds at δ = 10⁻⁶, by the exact Gaussian bound.
        let z = gaussian::noise_multiplier(100, 2.0, 1e-6);
        let shares = Shares::new(z * 1e6, 1000, 0, 1_000_000, 1).unwrap();
        for (honest, expected) in [(1000, 2.00), (900, 2.12), (800, 2.26), (700, 2.43), (500, 2.93)] {
            let (_, exact) = shares.epsilon(honest, 100, 1e-6);
            assert!((exact - expected).abs() < 0.006, "{honest}: {exact}");
        }
    }

    #[test]
    fn shares_too_small_for_the_grid_are_refused() {
        assert!(Shares::new(10.0, 100, 0, 5, 10).is_err());
        assert!(Shares::new(20.1, 100, 0, 5, 10).is_ok());
        assert!(Shares::new(f64::NAN, 1, 0, 5, 10).is_err());
        assert!(Shares::new(20.0, 0, 0, 5, 10).is_err());
        assert!(Shares::of_steps(1, 100, 0, 5, 10).is_err() && Shares::of_steps(2, 0, 0, 5, 10).is_err());
        assert_eq!(Shares::of_steps(2, 100, 3, 5, 10).unwrap().sigma(), 2.0);
    }
}
