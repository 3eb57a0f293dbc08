//! Points that are sums of rows, and how far the rows are from them.

use super::gram::Gram;
use crate::dot::dot;

/// The point ρ + Σᵢ aᵢ(xᵢ − ρ), known by its coefficients and the Gram matrix about ρ.
#[derive(Clone, Debug)]
pub(crate) struct Affine<'a> {
    gram: &'a Gram,
    /// Of the scaled points of the Gram matrix: aᵢ/sᵢ.
    coefficients: Vec<f64>,
    /// ⟨sᵢ(xᵢ − ρ), point − ρ⟩.
    inner: Vec<f64>,
    /// ‖point − ρ‖².
    square: f64,
}

impl<'a> Affine<'a> {
    /// The point of the coefficients `a`, one per row. Rows infinitely far from ρ do not count.
    pub(crate) fn new(gram: &'a Gram, a: &[f64]) -> Self {
        let coefficients: Vec<f64> = a
            .iter()
            .enumerate()
            .map(|(row, a)| if gram.is_infinite(row) { 0.0 } else { a / gram.scale(row) })
            .collect();
        let inner: Vec<f64> = (0..a.len()).map(|row| dot(&coefficients, gram.row(row))).collect();
        let square = dot(&coefficients, &inner).max(0.0);
        Self { gram, coefficients, inner, square }
    }

    /// ‖x − point‖ of row x, infinite where the row is infinitely far from ρ.
    pub(crate) fn distance(&self, row: usize) -> f64 {
        if self.gram.is_infinite(row) {
            return f64::INFINITY;
        }
        // Of the difference times the row's scale, which is about as long as that of other rows: nothing overflows that
        // the scale was made for.
        let scale = self.gram.scale(row);
        let value = self.gram.scaled(row, row) - 2.0 * scale * self.inner[row] + scale * scale * self.square;
        // Beyond f64 all the same, or the difference of two such: far away, never near.
        if !value.is_finite() {
            return f64::INFINITY;
        }
        value.max(0.0).sqrt() / scale
    }

    /// ‖point − other‖² for a point about the same reference.
    pub(crate) fn distance2(&self, other: &Self) -> f64 {
        let difference = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let coefficients = difference(&self.coefficients, &other.coefficients);
        dot(&coefficients, &difference(&self.inner, &other.inner)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Spread;
    use super::super::{Observation, StatisticsTree, UnitStatistics};
    use super::*;
    use crate::needs::Needs;

    #[test]
    fn a_row_beyond_f64_of_a_sum_is_far_from_it_and_never_at_it() {
        // Two rows of squared length 1.2e308 each way: of their difference's parts one overflows.
        let packed = vec![f64::MAX, 1.2e308, 1.2e308];
        let mut tree = StatisticsTree::new(1);
        tree.insert(0, UnitStatistics::pairs(2, packed)).unwrap();
        let statistics = tree.finish(&Observation::first(Needs::PAIR_DISTANCES, 2, 1, 0)).unwrap();
        let gram = statistics.gram(2, Spread::Far).unwrap().unwrap();
        let point = Affine::new(&gram, &[3.0, 3.0]);
        assert_eq!([point.distance(0), point.distance(1)], [f64::INFINITY; 2]);
    }

    #[test]
    fn distances_of_sums_follow_from_those_of_the_rows() {
        // Rows 1, 3, 7 on a line, and the origin.
        let packed = vec![4.0, 36.0, 16.0, 1.0, 9.0, 49.0];
        let mut tree = StatisticsTree::new(1);
        tree.insert(0, UnitStatistics::pairs(3, packed)).unwrap();
        let statistics = tree.finish(&Observation::first(Needs::PAIR_DISTANCES, 3, 1, 0)).unwrap();
        let gram = statistics.gram(1, Spread::Far).unwrap().unwrap();
        let half = Affine::new(&gram, &[0.0, 0.5, 0.5]);
        assert_eq!([half.distance(0), half.distance(1), half.distance(2)], [4.0, 2.0, 2.0]);
        let outside = Affine::new(&gram, &[2.0, -1.0, 0.0]);
        assert_eq!((outside.distance(2), outside.distance2(&half)), (8.0, 36.0));
        assert_eq!([gram.norm(0), gram.norm(1), gram.norm(2)], [1.0, 3.0, 7.0]);
    }
}
