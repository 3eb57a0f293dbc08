//! Rényi differential privacy: Mironov 2017; the conversion of Canonne, Kamath and Steinke 2020, Proposition 12.

use super::zcdp;
use crate::math::Wide;

/// The integer orders every curve is recorded at.
pub const INTEGER_ORDERS: [u32; 71] = {
    let mut orders = [0; 71];
    let mut index = 0;
    while index < 63 {
        orders[index] = index as u32 + 2;
        index += 1;
    }
    let tail = [72, 80, 96, 128, 192, 256, 512, 1024];
    let mut index = 0;
    while index < 8 {
        orders[63 + index] = tail[index];
        index += 1;
    }
    orders
};

/// Upper bounds of the Rényi divergence of a mechanism at some orders.
#[derive(Debug, Clone, PartialEq)]
pub struct RenyiCurve {
    points: Vec<(f64, f64)>,
}

impl RenyiCurve {
    /// A curve through `points`, each (order > 1, divergence rounded up).
    #[must_use]
    pub fn new(points: Vec<(f64, f64)>) -> Self {
        Self { points }
    }

    /// The curve α·ρ of ρ-zCDP at the given orders.
    #[must_use]
    pub fn of_rho(rho: f64, orders: impl IntoIterator<Item = f64>) -> Self {
        Self {
            points: orders.into_iter().map(|order| (order, (Wide::from(order) * Wide::from(rho)).upper())).collect(),
        }
    }

    /// The (order, divergence) pairs.
    #[must_use]
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The divergence at a recorded order.
    #[must_use]
    pub fn at(&self, order: f64) -> Option<f64> {
        self.points.iter().find(|point| point.0 == order).map(|point| point.1)
    }

    /// The curve of `times` independent uses, rounded up.
    #[must_use]
    pub fn repeated(&self, times: u64) -> Self {
        let points = self.points.iter().map(|&(order, value)| match value {
            0.0 => (order, 0.0),
            _ => (order, (Wide::from(value) * Wide::from(times)).upper()),
        });
        Self { points: points.collect() }
    }

    /// The curve of both mechanisms, at the orders both know.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let points = self.points.iter().filter_map(|&(order, value)| {
            other.at(order).map(|more| (order, (Wide::from(value) + Wide::from(more)).upper()))
        });
        Self { points: points.collect() }
    }

    /// The smallest ε at `delta` over the recorded orders, rounded up, and the order that gives it; (∞, 0) for a curve
    /// without points.
    #[must_use]
    pub fn epsilon(&self, delta: f64) -> (f64, f64) {
        let log_delta = Wide::from(delta).ln();
        let mut best = (f64::INFINITY, 0.0);
        for &(order, value) in &self.points {
            if value == 0.0 {
                return (0.0, order);
            }
            let excess = Wide::from(order) - Wide::ONE;
            let epsilon = zcdp::bound(Wide::from(value), excess, log_delta).upper().max(0.0);
            if epsilon < best.0 {
                best = (epsilon, order);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orders_are_the_published_ones() {
        assert_eq!((INTEGER_ORDERS[0], INTEGER_ORDERS[62], INTEGER_ORDERS[63], INTEGER_ORDERS[70]), (2, 64, 72, 1024));
        assert!(INTEGER_ORDERS.is_sorted());
    }

    #[test]
    fn an_empty_curve_promises_nothing() {
        assert_eq!(RenyiCurve::new(Vec::new()).epsilon(1e-5), (f64::INFINITY, 0.0));
    }

    #[test]
    fn composition_of_curves_adds_and_rounds_up() {
        let one = RenyiCurve::of_rho(0.1, [2.0, 3.0]);
        let three = one.and(&one).and(&one);
        assert!(three.at(2.0).unwrap() >= 0.6 && three.at(2.0).unwrap() < 0.6 + 1e-12);
        assert!((one.repeated(3).at(3.0).unwrap() - three.at(3.0).unwrap()).abs() < 1e-12);
    }
}
