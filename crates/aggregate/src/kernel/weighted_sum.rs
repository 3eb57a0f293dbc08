//! Sum of weight times row, in f64, in row order, divided once.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use crate::element::Element;
use crate::rows::RowsError;

/// Coordinates summed at a time: the f64 sums stay in the first-level cache.
const TILE: usize = 1024;

/// Rows added at a time: each sum is then loaded and stored once for all of them.
const GROUP: usize = 8;

/// Writes the weighted sum of the rows' coordinates `range`, divided by `divisor`, to `out`. Rows of weight 0 are not
/// read. Results beyond the type saturate.
///
/// # Errors
///
/// When a row that counts is not finite; the coordinate is relative to the rows' slices.
pub(crate) fn weighted_sum<T: Element>(
    rows: &[&[T]],
    weights: &[f64],
    divisor: f64,
    range: Range<usize>,
    out: &mut [T],
) -> Result<(), RowsError> {
    let finite = dispatch(WeightedSum { rows, weights, divisor, range: range.clone(), out: &mut *out });
    if finite {
        return Ok(());
    }
    for (row, slice) in rows.iter().enumerate().filter(|(row, _)| weights[*row] != 0.0) {
        if let Some(within) = first_non_finite(&slice[range.clone()]) {
            return Err(RowsError::NonFinite { row, coordinate: range.start + within });
        }
    }
    // Finite f64 values summed beyond f64: divide first. What is still beyond saturates.
    let weights: Vec<f64> = weights.iter().map(|weight| weight / divisor).collect();
    dispatch(WeightedSum { rows, weights: &weights, divisor: 1.0, range, out });
    Ok(())
}

struct WeightedSum<'a, T> {
    rows: &'a [&'a [T]],
    weights: &'a [f64],
    divisor: f64,
    range: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> Kernel for WeightedSum<'_, T> {
    /// Whether every sum was finite.
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let counted: Vec<(&[T], f64)> = self
            .rows
            .iter()
            .zip(self.weights)
            .filter(|(_, weight)| **weight != 0.0)
            .map(|(row, w)| (*row, *w))
            .collect();
        let (groups, rest) = counted.as_chunks::<GROUP>();
        let mut sums = [0.0_f64; TILE];
        let mut finite = true;
        for (tile, out) in self.out.chunks_mut(TILE).enumerate() {
            let start = self.range.start + tile * TILE;
            let sums = &mut sums[..out.len()];
            sums.fill(0.0);
            for group in groups {
                add_rows(sums, group, start);
            }
            for row in rest {
                add_rows(sums, std::array::from_ref(row), start);
            }
            for (value, &sum) in out.iter_mut().zip(sums.iter()) {
                finite &= sum.is_finite();
                *value = T::from_f64(sum / self.divisor);
            }
        }
        finite
    }
}

/// Adds some rows, one after the other, with one load and one store per sum.
#[inline(always)]
fn add_rows<T: Element, const N: usize>(sums: &mut [f64], rows: &[(&[T], f64); N], start: usize) {
    let length = sums.len();
    let values = rows.map(|(row, _)| &row[start..start + length]);
    let weights = rows.map(|(_, weight)| weight);
    for c in 0..length {
        let mut sum = sums[c];
        for row in 0..N {
            sum = weights[row].mul_add(values[row][c].to_f64(), sum);
        }
        sums[c] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::super::naive;
    use super::*;

    fn values(seed: usize, length: usize) -> Vec<f32> {
        (0..length).map(|c| ((c * 7919 + seed * 104_729) % 2003) as f32 / 97.0 - 10.0).collect()
    }

    #[test]
    fn every_path_equals_the_naive_sum_at_every_length_and_alignment() {
        for length in (0..130).chain([1023, 1024, 1025, 4096]) {
            for offset in 0..4 {
                let rows: Vec<Vec<f32>> = (0..14).map(|seed| values(seed, length + offset)).collect();
                let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
                let shifted: Vec<&[f32]> = rows.iter().map(|row| &row[offset..]).collect();
                let weights: Vec<f64> = (0..14).map(|row| f64::from(row % 4) * 0.1).collect();
                let expected = naive::weighted_sum(&shifted, &weights, 7.0);
                let range = offset..offset + length;
                let mut out = vec![f32::NAN; length];
                weighted_sum(&rows, &weights, 7.0, range.clone(), &mut out).unwrap();
                assert_eq!(out, expected);
                for path in Path::ALL {
                    let (range, out) = (range.clone(), &mut out);
                    let kernel = WeightedSum { rows: &rows, weights: &weights, divisor: 7.0, range, out: &mut *out };
                    assert!(dispatch_up_to(path, kernel));
                    assert_eq!(*out, expected, "{path:?}");
                }
            }
        }
    }

    #[test]
    fn a_non_finite_row_is_named_unless_it_does_not_count() {
        let rows: [&[f32]; 3] = [&[1.0, 2.0, 3.0], &[1.0, 2.0, f32::NAN], &[f32::INFINITY, 0.0, 0.0]];
        let mut out = [0.0; 3];
        let error = weighted_sum(&rows, &[0.5, 0.5, 0.0], 1.0, 0..3, &mut out).unwrap_err();
        assert_eq!(error, RowsError::NonFinite { row: 1, coordinate: 2 });
        weighted_sum(&rows, &[1.0, 0.0, 0.0], 1.0, 0..3, &mut out).unwrap();
        assert_eq!(out, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn sums_beyond_f64_are_divided_first_and_results_beyond_the_type_saturate() {
        let rows: [&[f64]; 2] = [&[1e308, -1e308], &[1e308, -1e308]];
        let mut out = [0.0; 2];
        weighted_sum(&rows, &[1.0, 1.0], 2.0, 0..2, &mut out).unwrap();
        assert_eq!(out, [1e308, -1e308]);
        weighted_sum(&rows, &[1.0, 1.0], 1.0, 0..2, &mut out).unwrap();
        assert_eq!(out, [f64::MAX, f64::MIN]);
    }
}
