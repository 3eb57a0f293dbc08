//! Zero-concentrated differential privacy: Bun and Steinke 2016; Canonne, Kamath and Steinke 2020.

use crate::math::{Wide, fast};

/// ρ in units of 2⁻⁴⁰: sums of charges are exact integers.
pub const RHO_UNIT: f64 = 1.0 / (1_u64 << 40) as f64;

/// The ε at which ρ-zCDP implies (ε, δ)-DP, rounded up: Canonne, Kamath and Steinke 2020, Proposition 12, minimised over
/// real orders.
///
/// Every order gives a valid bound, so the search may be inexact; only its result is evaluated with care.
#[must_use]
pub fn epsilon(rho: f64, delta: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    let log_delta = Wide::from(delta).ln();
    let coarse = |log_excess: f64| {
        let excess = fast::exp(log_excess);
        let order = 1.0 + excess;
        order * rho + fast::ln(excess) - fast::ln(order) - (log_delta.nearest() + fast::ln(order)) / excess
    };
    // Orders 1 + e^-18 … 1 + e^30 on a grid, then a golden section around the best.
    let grid = (-36..=60).map(|step| f64::from(step) / 2.0);
    let best = grid.min_by(|left, right| coarse(*left).total_cmp(&coarse(*right))).unwrap_or(0.0);
    let log_excess = golden(coarse, best - 0.5, best + 0.5);
    let excess = Wide::from(fast::exp(log_excess));
    bound(Wide::from(rho) * (Wide::ONE + excess), excess, log_delta).upper().max(0.0)
}

/// ρ = T/2z² of `rounds` Gaussian releases, rounded up.
#[must_use]
pub fn rho(noise_multiplier: f64, rounds: u64) -> f64 {
    let z = Wide::from(noise_multiplier);
    (Wide::from(rounds) / (z * z)).scale(-1).upper()
}

/// ρ in units of 2⁻⁴⁰, rounded up; `None` if it does not fit an i64 with room for sums.
#[must_use]
pub fn rho_units(rho: f64) -> Option<i64> {
    let units = (rho * (1_u64 << 40) as f64).ceil();
    // The product by a power of two is exact, so the ceiling is the exact one.
    (0.0..9e18).contains(&units).then_some(units as i64)
}

/// The conversion r(α) + ln(1 − 1/α) − (ln δ + ln α)/(α − 1), with `excess` = α − 1.
pub(crate) fn bound(renyi: Wide, excess: Wide, log_delta: Wide) -> Wide {
    let log_order = excess.ln_1p();
    renyi + excess.ln() - log_order - (log_delta + log_order) / excess
}

/// The argument of a minimum between `low` and `high`.
fn golden(value: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut left, mut right) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut at_left, mut at_right) = (value(left), value(right));
    for _ in 0..60 {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - RATIO * (high - low);
            at_left = value(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + RATIO * (high - low);
            at_right = value(right);
        }
    }
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_round_up_and_add_exactly() {
        assert_eq!(rho_units(0.0), Some(0));
        assert_eq!(rho_units(RHO_UNIT), Some(1));
        assert_eq!(rho_units(RHO_UNIT * 1.5), Some(2));
        assert_eq!(rho_units(1.0), Some(1 << 40));
        assert_eq!(rho_units(f64::INFINITY), None);
        assert_eq!(rho_units(f64::NAN), None);
    }

    #[test]
    fn nothing_spent_is_epsilon_zero() {
        assert_eq!(epsilon(0.0, 1e-6), 0.0);
    }
}
