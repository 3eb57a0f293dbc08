//! Rows written as sums of other rows: what pre-aggregation does, and how rows are measured again.

use serde::{Deserialize, Serialize};

/// New rows, each an affine combination of the points of a round: its rows, its extra rows, and the origin.
///
/// Row i is Σⱼ cᵢⱼ xⱼ / dᵢ with Σⱼ cᵢⱼ = dᵢ over all points, the origin included. The divisor is apart so that means
/// stay exact: nine equal rows have exactly that row as their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixing {
    points: usize,
    /// Per new row the points it is made of, by ascending index, none twice.
    rows: Vec<Vec<(usize, f64)>>,
    divisors: Vec<f64>,
    /// Per old row the new row that stands for it in verdicts.
    owners: Vec<usize>,
}

impl Mixing {
    /// New rows over `points` points, the origin counted last. `owners` names for each old row the new row whose fate
    /// it shares.
    pub(crate) fn new(points: usize, rows: Vec<Vec<(usize, f64)>>, divisors: Vec<f64>, owners: Vec<usize>) -> Self {
        debug_assert_eq!(rows.len(), divisors.len());
        debug_assert!(rows.iter().all(|row| row.is_sorted_by_key(|(point, _)| *point)));
        debug_assert!(rows.iter().flatten().all(|(point, _)| *point < points));
        Self { points, rows, divisors, owners }
    }

    /// Every row times its factor: the rest of each row lies on the origin.
    pub(crate) fn scaling(points: usize, factors: &[f64]) -> Self {
        let origin = points - 1;
        let row = |(row, &factor): (usize, &f64)| match factor {
            0.0 => vec![(origin, 1.0)],
            1.0 => vec![(row, 1.0)],
            factor => vec![(row, factor), (origin, 1.0 - factor)],
        };
        let rows: Vec<_> = factors.iter().enumerate().map(row).collect();
        Self::new(points, rows, vec![1.0; factors.len()], (0..factors.len()).collect())
    }

    /// Means of `size` consecutive rows of the permutation `order`; the last bucket may be short. Karimireddy et al.
    /// 2022, Algorithm 1.
    ///
    /// # Panics
    ///
    /// When `size` is 0 or `order` is not a permutation of 0..n.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    pub fn buckets(order: &[usize], size: usize) -> Self {
        let mut owners = vec![usize::MAX; order.len()];
        let mut rows = Vec::with_capacity(order.len().div_ceil(size));
        let mut divisors = Vec::with_capacity(rows.capacity());
        for (bucket, members) in order.chunks(size).enumerate() {
            for &member in members {
                owners[member] = bucket;
            }
            let mut row: Vec<_> = members.iter().map(|&member| (member, 1.0)).collect();
            row.sort_unstable_by_key(|(point, _)| *point);
            rows.push(row);
            divisors.push(members.len() as f64);
        }
        assert!(owners.iter().all(|&owner| owner != usize::MAX), "not a permutation");
        Self::new(order.len() + 1, rows, divisors, owners)
    }

    /// The same rows where there are `points` points: extra rows that no row uses lie between the rows and the origin.
    pub(crate) fn over(mut self, points: usize) -> Self {
        self.points = points;
        self
    }

    /// Number of new rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of points the rows are made of, the origin included.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Per old row the new row that stands for it.
    #[must_use]
    pub fn owners(&self) -> &[usize] {
        &self.owners
    }

    /// The points of new row `row` with their coefficients, not yet divided.
    pub(crate) fn row(&self, row: usize) -> &[(usize, f64)] {
        &self.rows[row]
    }

    /// What the coefficients of new row `row` are divided by.
    pub(crate) fn divisor(&self, row: usize) -> f64 {
        self.divisors[row]
    }

    /// What the coefficients of every new row are divided by.
    pub(crate) fn divisors(&self) -> &[f64] {
        &self.divisors
    }

    /// Whether the mixing can be carried out on `points` points.
    pub(crate) fn fits(&self, points: usize) -> bool {
        self.points == points
            && !self.rows.is_empty()
            && self.divisors.len() == self.rows.len()
            && self.divisors.iter().all(|divisor| divisor.is_normal())
            && self.owners.iter().all(|&owner| owner < self.rows.len())
            && self.rows.iter().flatten().all(|&(point, coefficient)| point < points && coefficient.is_finite())
    }

    /// The rows of `self`, whose points are the rows of `inner` followed by the extra rows and the origin, written
    /// over the points of `inner`.
    pub(crate) fn after(&self, inner: &Self) -> Self {
        let (old, new) = (inner.points, self.points);
        let moved = inner.rows();
        // Where the divisor is the same everywhere whole coefficients stay whole.
        let first = inner.divisors.first().copied().unwrap_or(1.0);
        let common = if inner.divisors.iter().all(|&divisor| divisor == first) { first } else { 1.0 };
        let mut dense = vec![0.0; old];
        let mut rows = Vec::with_capacity(self.rows());
        for row in &self.rows {
            dense.fill(0.0);
            for &(point, outer) in row {
                if point < moved {
                    let factor = outer * (common / inner.divisors[point]);
                    for &(base, coefficient) in &inner.rows[point] {
                        dense[base] += factor * coefficient;
                    }
                } else {
                    // Extra rows and the origin keep their place at the end.
                    dense[old - (new - point)] += outer * common;
                }
            }
            rows.push(dense.iter().copied().enumerate().filter(|(_, value)| *value != 0.0).collect());
        }
        let divisors = self.divisors.iter().map(|divisor| divisor * common).collect();
        let owners = inner.owners.iter().map(|&owner| self.owners[owner]).collect();
        Self::new(old, rows, divisors, owners)
    }

    /// Σᵢ `weights`ᵢ · new rowᵢ as weights of the rows and extra rows below the origin. `weights` has one entry per
    /// new row, then one per extra row.
    pub(crate) fn collapse(&self, weights: &[f64]) -> Vec<f64> {
        let mut base = vec![0.0; self.points];
        for (row, &weight) in weights[..self.rows()].iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let factor = weight / self.divisors[row];
            for &(point, coefficient) in &self.rows[row] {
                base[point] += factor * coefficient;
            }
        }
        let extras = &weights[self.rows()..];
        let first = self.points - 1 - extras.len();
        for (sum, weight) in base[first..].iter_mut().zip(extras) {
            *sum += weight;
        }
        base.truncate(self.points - 1);
        base
    }

    /// The coefficients of all rows over the points below the origin, row-major, not yet divided.
    pub(crate) fn dense(&self) -> Vec<f64> {
        let width = self.points - 1;
        let mut dense = vec![0.0; width * self.rows()];
        for (row, out) in self.rows.iter().zip(dense.chunks_exact_mut(width.max(1))) {
            for &(point, coefficient) in row.iter().filter(|(point, _)| *point < width) {
                out[point] = coefficient;
            }
        }
        dense
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composition_equals_applying_one_after_the_other() {
        // Three rows and the origin: halve the second, then means of two.
        let halved = Mixing::scaling(4, &[1.0, 0.5, 0.0]);
        let means = Mixing::new(4, vec![vec![(0, 1.0), (1, 1.0)], vec![(2, 1.0)]], vec![2.0, 1.0], vec![0, 0, 1]);
        let both = means.after(&halved);
        assert_eq!(both.row(0), [(0, 1.0), (1, 0.5), (3, 0.5)]);
        assert_eq!((both.divisor(0), both.row(1)), (2.0, [(3, 1.0)].as_slice()));
        assert_eq!(both.owners(), [0, 0, 1]);
        assert_eq!(both.collapse(&[1.0, 1.0]), [0.5, 0.25, 0.0]);
        assert_eq!(both.dense(), [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn extra_rows_keep_their_place_behind_the_mixed_rows() {
        // Three rows, one extra row, the origin; two buckets over them.
        let inner = Mixing::new(5, vec![vec![(0, 1.0), (1, 1.0)], vec![(2, 1.0)]], vec![2.0, 1.0], vec![0, 0, 1]);
        let outer = Mixing::new(4, vec![vec![(0, 0.5), (2, 0.25), (3, 0.25)]], vec![1.0], vec![0, 0]);
        let both = outer.after(&inner);
        assert_eq!(both.row(0), [(0, 0.25), (1, 0.25), (3, 0.25), (4, 0.25)]);
        assert_eq!(inner.collapse(&[1.0, 1.0, 3.0]), [0.5, 0.5, 1.0, 3.0]);
    }

    #[test]
    fn buckets_follow_the_permutation_and_the_last_may_be_short() {
        let mixing = Mixing::buckets(&[2, 4, 1, 3, 0], 2);
        assert_eq!(mixing.rows(), 3);
        assert_eq!(mixing.row(0), [(2, 1.0), (4, 1.0)]);
        assert_eq!((mixing.row(2), mixing.divisor(2)), ([(0, 1.0)].as_slice(), 1.0));
        assert_eq!(mixing.owners(), [2, 1, 0, 1, 0]);
    }

    #[test]
    fn whole_coefficients_stay_whole_under_a_common_divisor() {
        let nearest = Mixing::new(4, vec![vec![(0, 1.0), (1, 1.0), (2, 1.0)]; 3], vec![3.0; 3], vec![0, 1, 2]);
        let twice = nearest.after(&nearest);
        assert_eq!((twice.row(0), twice.divisor(0)), ([(0, 3.0), (1, 3.0), (2, 3.0)].as_slice(), 9.0));
    }
}
