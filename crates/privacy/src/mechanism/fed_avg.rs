//! DP-FedAvg: McMahan et al. 2018. Weights first, clip afterwards, a denominator that nobody's reply changes.

use crate::{
    accountant::zcdp,
    budget::{Charge, ChargeMechanism},
    clip::{ClippedSum, Contribution, Coordinate, Grid},
    error::{ParameterError, within},
    math::Wide,
    sensitivity::Adjacency,
};
use zeroize::Zeroizing;

/// A private weighted mean with a fixed clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FedAvg {
    grid: Grid,
    denominator: f64,
}

impl FedAvg {
    /// For a planned cohort of `planned` clients, m̄ = qN under Poisson sampling, and weights up to 1: D = m̄.
    ///
    /// # Errors
    /// A planned cohort outside 1..=10¹².
    pub fn new(grid: Grid, planned: f64) -> Result<Self, ParameterError> {
        Ok(Self { grid, denominator: within("cohort", planned, 1.0, 1e12)? })
    }

    /// D: fixed, public, whoever replies.
    #[must_use]
    pub fn denominator(&self) -> f64 {
        self.denominator
    }

    /// Adds w·Δ, with w capped to 0..=1 *before* clipping: a heavy client moves the sum by C like any other.
    ///
    /// # Errors
    /// Those of [`ClippedSum::add`].
    pub fn add<T: Coordinate>(
        &self,
        sum: &mut ClippedSum,
        update: &[T],
        weight: f64,
    ) -> Result<Contribution, ParameterError> {
        // NaN, and what is not positive, is no weight.
        let weight = if weight > 0.0 { weight.min(1.0) } else { 0.0 };
        if weight == 1.0 {
            return sum.add(update);
        }
        let weighted: Zeroizing<Vec<f64>> =
            Zeroizing::new(update.iter().map(|value| (*value).into() * weight).collect());
        sum.add(&weighted[..])
    }

    /// What one round costs; `rate` if the server samples as `docs/privacy.md` demands.
    ///
    /// # Errors
    /// A grid without noise, or a rate outside (0, 1].
    pub fn charge(&self, rate: Option<f64>) -> Result<Charge, ParameterError> {
        let mechanism = rate.map_or(ChargeMechanism::Gaussian, |rate| ChargeMechanism::PoissonGaussian { rate });
        // σ is an integer by construction of the grid.
        let sigma = self.grid.sigma() as u64;
        Charge::new(Adjacency::ZeroOut, mechanism, sigma, self.grid.sensitivity(), 1)
    }
}

/// The clip √ΣC_l² of the whole and ρ = ½ΣC_l²/σ_l², rounded up, of an update that is clipped layer by layer.
///
/// # Errors
/// No layer, or a clip or σ that is not positive and finite.
pub fn per_layer(layers: &[(f64, f64)]) -> Result<(f64, f64), ParameterError> {
    if layers.is_empty() {
        return Err(ParameterError::new("layers", 0, "give at least one"));
    }
    let (mut clip, mut rho) = (Wide::ZERO, Wide::ZERO);
    for &(layer_clip, sigma) in layers {
        within("clip_l2", layer_clip, 1e-30, 1e30)?;
        within("sigma", sigma, 1e-30, 1e30)?;
        let square = Wide::from(layer_clip) * Wide::from(layer_clip);
        clip = clip + square;
        rho = rho + square / (Wide::from(sigma) * Wide::from(sigma));
    }
    Ok((clip.sqrt().upper(), rho.scale(-1).upper()))
}

/// ρ of one round with `charge`'s parameters as a real number, rounded up; ∞ if it is beyond all budgets.
#[must_use]
pub fn rho(charge: &Charge) -> f64 {
    charge.rho_units().map_or(f64::INFINITY, |units| (units as f64 * zcdp::RHO_UNIT).next_up())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_client_moves_the_sum_by_the_clip_alone() {
        let grid = Grid::new(1.0, 24, 1.0, 10).unwrap();
        let mechanism = FedAvg::new(grid, 5.0).unwrap();
        for weight in [1.0, 1e9, f64::INFINITY, 0.5, f64::NAN, -3.0, 0.0] {
            let mut sum = ClippedSum::new(grid, 4);
            mechanism.add(&mut sum, &[100.0_f32, 0.0, 0.0, 0.0], weight).unwrap();
            let moved = sum.values_for_test()[0];
            assert!((0..=1 << 24).contains(&moved), "{weight}: {moved}");
            let counts = weight > 0.0;
            assert_eq!(moved > 0, counts, "{weight}");
        }
        assert_eq!(mechanism.denominator(), 5.0);
    }

    #[test]
    fn the_charge_is_that_of_the_noise_multiplier() {
        let grid = Grid::new(3.0, 24, 1.25, 10).unwrap();
        let charge = FedAvg::new(grid, 5.0).unwrap().charge(None).unwrap();
        let exact = zcdp::rho(1.25, 1);
        assert!((rho(&charge) - exact).abs() < 1e-9, "{} {exact}", rho(&charge));
        assert!(FedAvg::new(Grid::new(3.0, 24, 0.0, 10).unwrap(), 5.0).unwrap().charge(None).is_err());
    }

    #[test]
    fn layers_add_up_in_squares() {
        let (clip, rho) = per_layer(&[(3.0, 3.0), (4.0, 4.0)]).unwrap();
        assert!((clip - 5.0).abs() < 1e-12 && (rho - 1.0).abs() < 1e-12);
        assert!(per_layer(&[]).is_err() && per_layer(&[(1.0, 0.0)]).is_err());
    }
}
