//! The trimmed sum of clipped contributions: per coordinate without the k largest and the k smallest, in integers.

use super::{ClippedSum, Coordinate, Grid, quantize};
use crate::error::ParameterError;
use zeroize::Zeroize as _;

/// Up to this k the extremes are kept sorted while contributions come, which the compiler turns into vector minima and
/// maxima; beyond, all values are kept and selected at the end.
const FEW: usize = 12;

/// Σ of `rows` clipped rows per coordinate without the `cut` largest and the `cut` smallest. Rows that are not added are
/// rows of zeros. Not private: the numerator gets its noise as a [`ClippedSum`], and the divisor is rows − 2·cut.
///
/// One contribution moves the numerator by no more than it moves itself: per coordinate the numerator is a constant plus
/// the row's value clamped between the others' k-th smallest and largest.
pub struct TrimmedSum {
    grid: Grid,
    rows: usize,
    cut: usize,
    dimension: usize,
    added: usize,
    sums: Vec<i64>,
    /// The smallest values seen, ascending, and the largest, descending: `cut` slices of one value per coordinate. Empty
    /// if all values are kept.
    low: Vec<i32>,
    high: Vec<i32>,
    /// Every value, row by row, where the extremes are not kept.
    all: Vec<i32>,
    /// One row's steps, and what an insertion carries on.
    row: Vec<i32>,
    moving: Vec<i32>,
}

impl TrimmedSum {
    /// Of `rows` rows of `dimension` coordinates.
    ///
    /// # Errors
    /// If nothing would be left, or the grid was made for fewer rows.
    pub fn new(grid: Grid, dimension: usize, rows: usize, cut: usize) -> Result<Self, ParameterError> {
        if 2 * cut >= rows {
            return Err(ParameterError::new("byzantine", cut, format!("give less than half of the {rows} rows")));
        }
        if rows as u64 > grid.contributions {
            return Err(super::too_many(rows as u64, grid.contributions));
        }
        let extremes = if cut <= FEW { cut * dimension } else { 0 };
        Ok(Self {
            grid,
            rows,
            cut,
            dimension,
            added: 0,
            sums: vec![0; dimension],
            low: vec![i32::MAX; extremes],
            high: vec![i32::MIN; extremes],
            // At once: memory that is left for larger one is not erased.
            all: Vec::with_capacity(if cut <= FEW { 0 } else { rows * dimension }),
            row: vec![0; dimension],
            moving: vec![0; dimension],
        })
    }

    /// Adds a slice of a contribution at `factor` and answers its Σq²; as [`ClippedSum::add_slice`].
    ///
    /// # Errors
    /// Another length, or more rows than announced.
    pub fn add_slice<T: Coordinate>(&mut self, slice: &[T], factor: f64) -> Result<u128, ParameterError> {
        if slice.len() != self.dimension {
            return Err(ParameterError::new("update", slice.len(), format!("give {} coordinates", self.dimension)));
        }
        if self.added >= self.rows {
            return Err(super::too_many(self.added as u64 + 1, self.rows as u64));
        }
        let energy = quantize::quantize(slice, factor, &mut self.row);
        self.note();
        Ok(energy)
    }

    /// The numerator, ready for noise.
    #[must_use]
    pub fn finish(mut self) -> ClippedSum {
        let absent = self.rows - self.added;
        self.row.fill(0);
        // Once as many zeros were noted as are cut at an end, more change no extreme, and no zero changes a sum.
        let zeros = if self.keeps_extremes() { absent.min(self.cut) } else { absent };
        (0..zeros).for_each(|_| self.note());
        let mut sums = std::mem::take(&mut self.sums);
        if self.keeps_extremes() {
            let length = self.dimension.max(1);
            for extreme in self.low.chunks_exact(length).chain(self.high.chunks_exact(length)) {
                for (sum, value) in sums.iter_mut().zip(extreme) {
                    *sum -= i64::from(*value);
                }
            }
        } else {
            self.select(&mut sums);
        }
        let added = self.added as u64;
        ClippedSum { grid: self.grid, sums, added }
    }

    fn keeps_extremes(&self) -> bool {
        self.cut <= FEW
    }

    /// Takes the steps in `row` in.
    fn note(&mut self) {
        self.added += 1;
        for (sum, value) in self.sums.iter_mut().zip(&self.row) {
            *sum += i64::from(*value);
        }
        if !self.keeps_extremes() {
            self.all.extend_from_slice(&self.row);
            return;
        }
        if self.cut == 0 || self.dimension == 0 {
            return;
        }
        // An insertion into sorted columns: what is pushed out of one place goes on to the next.
        let moving = &mut self.moving;
        moving.copy_from_slice(&self.row);
        for place in self.low.chunks_exact_mut(self.dimension) {
            for (held, new) in place.iter_mut().zip(moving.iter_mut()) {
                (*held, *new) = ((*held).min(*new), (*held).max(*new));
            }
        }
        moving.copy_from_slice(&self.row);
        for place in self.high.chunks_exact_mut(self.dimension) {
            for (held, new) in place.iter_mut().zip(moving.iter_mut()) {
                (*held, *new) = ((*held).max(*new), (*held).min(*new));
            }
        }
    }

    /// Takes the extremes of every column off its sum.
    fn select(&self, sums: &mut [i64]) {
        let mut column = Vec::with_capacity(self.rows);
        for (coordinate, sum) in sums.iter_mut().enumerate() {
            column.clear();
            column.extend((0..self.rows).map(|row| self.all[row * self.dimension + coordinate]));
            let kept = self.rows - self.cut;
            column.select_nth_unstable(self.cut);
            let lowest: i64 = column[..self.cut].iter().map(|value| i64::from(*value)).sum();
            column[self.cut..].select_nth_unstable(kept - self.cut);
            let highest: i64 = column[kept..].iter().map(|value| i64::from(*value)).sum();
            *sum -= lowest + highest;
        }
        column.zeroize();
    }
}

impl Drop for TrimmedSum {
    fn drop(&mut self) {
        self.sums.zeroize();
        self.low.zeroize();
        self.high.zeroize();
        self.all.zeroize();
        self.row.zeroize();
        self.moving.zeroize();
    }
}

impl std::fmt::Debug for TrimmedSum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TrimmedSum").field("grid", &self.grid).field("cut", &self.cut).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sorted columns, in wide integers.
    fn slow(rows: &[Vec<f32>], factor: f64, count: usize, cut: usize) -> Vec<i64> {
        let dimension = rows.first().map_or(0, Vec::len);
        let column = |coordinate: usize| {
            let mut column: Vec<i128> = rows.iter().map(|row| (f64::from(row[coordinate]) * factor) as i128).collect();
            column.resize(count, 0);
            column.sort_unstable();
            column[cut..count - cut].iter().sum::<i128>() as i64
        };
        (0..dimension).map(column).collect()
    }

    proptest! {
        #[test]
        fn a_trimmed_sum_is_that_of_sorted_columns(
            dimension in 1..40_usize, present in 0..40_usize, absent in 0..8_usize, share in 0.0..0.5_f64, seed in any::<u64>(),
        ) {
            let count = (present + absent).max(1);
            let cut = ((count as f64 * share) as usize).min((count - 1) / 2);
            let mut state = seed | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Few different values: ties.
                (state % 17) as f32 / 16.0 - 0.5
            };
            let rows: Vec<Vec<f32>> = (0..present).map(|_| (0..dimension).map(|_| next()).collect()).collect();
            let grid = Grid::new(1.0, 24, 1.0, 64).unwrap();
            let mut sum = TrimmedSum::new(grid, dimension, count, cut).unwrap();
            for row in &rows {
                let energy = sum.add_slice(row, 1e6).unwrap();
                prop_assert_eq!(energy, grid.energy(row, 1e6));
            }
            let found = sum.finish();
            let expected = if present == 0 { vec![0; dimension] } else { slow(&rows, 1e6, count, cut) };
            prop_assert_eq!(found.values_for_test(), &expected[..]);
        }
    }

    #[test]
    fn impossible_cuts_and_too_many_rows_are_refused() {
        let grid = Grid::new(1.0, 24, 1.0, 4).unwrap();
        assert!(TrimmedSum::new(grid, 1, 4, 2).is_err());
        assert!(TrimmedSum::new(grid, 1, 5, 1).is_err());
        let mut sum = TrimmedSum::new(grid, 1, 3, 1).unwrap();
        assert!(sum.add_slice(&[1.0_f32, 2.0], 1.0).is_err());
        for _ in 0..3 {
            sum.add_slice(&[1.0_f32], 1.0).unwrap();
        }
        assert!(sum.add_slice(&[1.0_f32], 1.0).is_err());
        assert!(!format!("{sum:?}").contains("sums"));
    }
}
