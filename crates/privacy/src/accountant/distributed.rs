//! Sums of discrete Gaussian shares: Kairouz, Liu and Steinke 2021, Theorem 1.
//!
//! A sum of discrete Gaussians is not quite one; τ bounds the difference.

use crate::math::Wide;

/// What a sum of `shares` discrete Gaussians guarantees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DistributedGaussian {
    /// How far the sum of shares is from one discrete Gaussian.
    pub tau: f64,
    /// The sum is ½ε²-zCDP.
    pub epsilon: f64,
    /// ρ = ½ε², rounded up.
    pub rho: f64,
}

/// The guarantee of a sum of `shares` independent N_Z(0, σ²), all in grid units.
///
/// `sigma` of one share, `dimension` coordinates, `l2` and `l1` sensitivities. Calibrate to the *survivors* that are
/// guaranteed to be honest, not to the cohort.
#[must_use]
pub fn guarantee(shares: u64, sigma: f64, dimension: u64, l2: f64, l1: f64) -> DistributedGaussian {
    let sigma = Wide::from(sigma);
    let exponent = (Wide::PI * Wide::PI * sigma * sigma).scale(1);
    let mut sum = Wide::ZERO;
    for k in 1..shares {
        let term = (-(exponent * Wide::from(k) / Wide::from(k + 1))).exp();
        sum = sum + term;
        // The terms fall towards e^{−2π²σ²}, but never below it: the rest is bounded by the current one.
        if k > 4096 {
            sum = sum + term * Wide::from(shares - 1 - k);
            break;
        }
    }
    let tau = Wide::from(10.0) * sum;
    let (l1, l2, dimension) = (Wide::from(l1), Wide::from(l2), Wide::from(dimension));
    let total = Wide::from(shares).sqrt() * sigma;
    let plain = l2 / total;
    let first = (plain * plain + (tau * dimension).scale(-1)).sqrt();
    let second = (plain * plain + (tau * l1 / total).scale(1) + tau * tau * dimension).sqrt();
    let third = plain + tau * dimension.sqrt();
    let epsilon = first.min(second).min(third);
    DistributedGaussian { tau: tau.upper(), epsilon: epsilon.upper(), rho: (epsilon * epsilon).scale(-1).upper() }
}

/// The same for integer vectors of L2 sensitivity `l2`, whose L1 sensitivity is at most min(√d Δ₂, Δ₂²).
#[must_use]
pub fn guarantee_of_integers(shares: u64, sigma: f64, dimension: u64, l2: u64) -> DistributedGaussian {
    let l2 = l2 as f64;
    let l1 = (l2 * (dimension as f64).sqrt()).next_up().min(l2 * l2);
    guarantee(shares, sigma, dimension, l2, l1)
}

/// The L2 sensitivity after scaling to the grid, rotation and conditional rounding, in the units of `clip`.
///
/// `step` γ, `dimension` d after padding; β = e^{−1/2}: √(C² + γ²d/4 + √(2 ln 1/β)·γ·(C + γ√d/2)), and never more than
/// C + γ√d.
#[must_use]
pub fn rounded_sensitivity(clip: f64, step: f64, dimension: u64) -> f64 {
    let (clip, step) = (Wide::from(clip), Wide::from(step));
    let root = Wide::from(dimension).sqrt();
    let half = (step * root).scale(-1);
    // √(2 ln 1/β) = 1 for β = e^{−1/2}.
    let conditional = (clip * clip + half * half + step * (clip + half)).sqrt();
    conditional.min(clip + half.scale(1)).upper()
}
