//! Points that are sums of rows, and how far the rows are from them.

use super::gram::Gram;

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
        let scale = self.gram.scale(row);
        let cross = 2.0 * self.inner[row] / scale;
        let value = self.gram.scaled(row, row) / scale / scale - cross + self.square;
        value.max(0.0).sqrt()
    }

    /// ‖point − other‖² for a point about the same reference.
    pub(crate) fn distance2(&self, other: &Self) -> f64 {
        let difference = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let coefficients = difference(&self.coefficients, &other.coefficients);
        dot(&coefficients, &difference(&self.inner, &other.inner)).max(0.0)
    }
}

/// Eight sums, so that long rows are added in parallel, in an order that depends on the length alone.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let length = a.len().min(b.len());
    let (a, a_rest) = a[..length].as_chunks::<8>();
    let (b, b_rest) = b[..length].as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::super::frame::Spread;
    use super::super::{Observation, StatisticsTree, UnitStatistics};
    use super::*;
    use crate::needs::Needs;

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

    #[test]
    fn the_dot_product_takes_any_length() {
        for length in 0..40 {
            let values: Vec<f64> = (0..length).map(f64::from).collect();
            assert_eq!(dot(&values, &values), values.iter().map(|value| value * value).sum::<f64>());
        }
    }
}
