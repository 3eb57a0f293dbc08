//! The Laplace mechanism with scale b and L1 sensitivity 1: Mironov 2017, Proposition 6.

use super::rdp::RenyiCurve;
use crate::math::Wide;

/// ε of pure differential privacy, rounded up: rounds/b.
#[must_use]
pub fn pure(scale: f64, rounds: u64) -> f64 {
    (Wide::from(rounds) / Wide::from(scale)).upper()
}

/// One release at the given orders > 1.
///
/// r = ln[α/(2α−1)·e^{(α−1)/b} + (α−1)/(2α−1)·e^{−α/b}]/(α−1).
#[must_use]
pub fn curve(scale: f64, orders: impl IntoIterator<Item = f64>) -> RenyiCurve {
    let rate = Wide::ONE / Wide::from(scale);
    RenyiCurve::new(orders.into_iter().map(|order| (order, divergence(rate, Wide::from(order)).upper())).collect())
}

fn divergence(rate: Wide, alpha: Wide) -> Wide {
    let excess = alpha - Wide::ONE;
    let whole = alpha + excess;
    let (rise, fall) = (excess * rate, alpha * rate);
    // The larger power in front: ln[e^{rise}(α + (α−1)e^{−rise−fall})/(2α−1)], as 1 + something that cancels nowhere.
    let loss = excess * (-(rise + fall)).exp_m1() / whole;
    // Never negative, which rounding at huge scales could make it.
    ((rise + loss.ln_1p()) / excess).max(Wide::ZERO)
}
