//! The Skellam mechanism: Agarwal, Kairouz and Liu 2021, Theorem 3.5. Sums of Skellam shares are Skellam, so shares
//! lose nothing against central noise.

use crate::{accountant::rdp::RenyiCurve, math::Wide};

/// One release at the given orders, all in grid units.
///
/// `variance` μ of the sum's noise; `l1` and `l2` the sensitivities.
/// r(α) = αΔ₂²/2μ + min(((2α−1)Δ₂² + 6Δ₁)/4μ², 3Δ₁/2μ).
#[must_use]
pub fn curve(variance: f64, l2: f64, l1: f64, orders: impl IntoIterator<Item = f64>) -> RenyiCurve {
    let (variance, l1, square) = (Wide::from(variance), Wide::from(l1), Wide::from(l2) * Wide::from(l2));
    let divergence = |order: f64| {
        let alpha = Wide::from(order);
        let leading = alpha * square / variance.scale(1);
        let fine = ((alpha.scale(1) - Wide::ONE) * square + Wide::from(6.0) * l1) / (variance * variance).scale(2);
        let coarse = Wide::from(3.0) * l1 / variance.scale(1);
        (leading + fine.min(coarse)).upper()
    };
    RenyiCurve::new(orders.into_iter().map(|order| (order, divergence(order))).collect())
}
