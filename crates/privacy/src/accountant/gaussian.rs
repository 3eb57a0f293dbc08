//! The Gaussian mechanism exactly: Balle and Wang 2018, Theorem 8; composition by Dong, Roth and Su 2022, Corollary 3.3.

use crate::math::{Wide, normal};

/// The smallest δ for which a mechanism that is μ-GDP is (ε, δ)-DP, rounded up. `mu` > 0, `epsilon` ≥ 0.
#[must_use]
pub fn delta(mu: f64, epsilon: f64) -> f64 {
    delta_wide(Wide::from(mu), Wide::from(epsilon)).upper().clamp(0.0, 1.0)
}

/// The smallest ε for which a mechanism that is μ-GDP is (ε, δ)-DP, rounded up.
///
/// `mu` is √T/z for T releases with noise multiplier z: see [`mu`].
#[must_use]
pub fn epsilon(mu: f64, delta: f64) -> f64 {
    if mu <= 0.0 {
        return 0.0;
    }
    let exact = Wide::from(mu);
    let enough = |epsilon: f64| delta_wide(exact, Wide::from(epsilon)).upper() <= delta;
    smallest(enough)
}

/// μ = √T/z of `rounds` releases, rounded up.
#[must_use]
pub fn mu(noise_multiplier: f64, rounds: u64) -> f64 {
    (Wide::from(rounds).sqrt() / Wide::from(noise_multiplier)).upper()
}

/// μ = √(2ρ) of a Gaussian mechanism that is ρ-zCDP, rounded up.
#[must_use]
pub fn mu_of_rho(rho: f64) -> f64 {
    Wide::from(rho).scale(1).sqrt().upper()
}

/// The smallest noise multiplier with which `rounds` releases are (ε, δ)-DP, rounded up.
#[must_use]
pub fn noise_multiplier(rounds: u64, epsilon: f64, delta: f64) -> f64 {
    smallest(|z| z > 0.0 && delta_wide(Wide::from(mu(z, rounds)), Wide::from(epsilon)).upper() <= delta)
}

/// The smallest f64 at which a monotone condition holds; ∞ if it holds nowhere.
pub(crate) fn smallest(holds: impl Fn(f64) -> bool) -> f64 {
    if holds(0.0) {
        return 0.0;
    }
    let mut high = 1.0;
    while !holds(high) {
        high *= 2.0;
        if high > 1e18 {
            return f64::INFINITY;
        }
    }
    let mut low = high / 2.0;
    while high > 1e-18 && holds(low) {
        (low, high) = (low / 2.0, low);
    }
    while high.to_bits() - low.to_bits() > 1 {
        // Positive floats are ordered like their bits.
        let middle = f64::from_bits(low.to_bits().midpoint(high.to_bits()));
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// With a = ε/μ − μ/2 and b = ε/μ + μ/2, e^ε times the density at b is the density at a, so that
/// δ = Φ(−a) − e^ε Φ(−b) = density(a)·(m(a) − m(b)) with Mills' ratio m, and nothing overflows.
fn delta_wide(mu: Wide, epsilon: Wide) -> Wide {
    let (centre, half) = (epsilon / mu, mu.scale(-1));
    let (near, far) = (centre - half, centre + half);
    let density = normal::density(near);
    if near.nearest() >= 0.0 {
        return density * (normal::mills(near) - normal::mills(far));
    }
    Wide::ONE - density * (normal::mills(-near) + normal::mills(far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_and_delta_are_inverse_to_each_other() {
        for mu in [0.01, 0.3, 1.0, 5.0, 60.0] {
            for bound in [1e-2, 1e-5, 1e-12, 1e-100] {
                let epsilon = epsilon(mu, bound);
                assert!(delta(mu, epsilon) <= bound, "{mu} {bound}");
                assert!(epsilon == 0.0 || delta(mu, epsilon * (1.0 - 1e-12)) > bound, "{mu} {bound}");
            }
        }
    }

    #[test]
    fn the_noise_multiplier_is_the_smallest_that_suffices() {
        for (rounds, target, bound) in [(1, 1.0, 1e-5), (100, 2.0, 1e-6), (2000, 8.0, 1e-10)] {
            let z = noise_multiplier(rounds, target, bound);
            assert!(epsilon(mu(z, rounds), bound) <= target);
            assert!(epsilon(mu(z * (1.0 - 1e-12), rounds), bound) > target);
        }
    }

    #[test]
    fn a_large_mu_costs_at_least_half_its_square() {
        // Φ(μ/2 − ε/μ) is a half at ε = μ²/2.
        assert!(epsilon(1000.0, 0.4) > 500_000.0);
        assert_eq!(epsilon(1e-9, 1e-5), 0.0);
    }
}
