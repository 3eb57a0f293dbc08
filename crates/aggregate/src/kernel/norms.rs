//! Squared lengths of rows, for one block, with the bits that `pair_statistics` gives them.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use crate::element::Element;
use crate::rows::RowsError;

/// Sums kept per row, by coordinate index mod 8.
const SUMS: usize = 8;

/// The squared lengths of the coordinates `block` of the rows, in f64; `+Inf` beyond f64.
///
/// # Errors
///
/// When a row is not finite; the coordinate is relative to the rows' slices.
pub(crate) fn norms<T: Element>(rows: &[&[T]], block: Range<usize>) -> Result<Vec<f64>, RowsError> {
    let norms = dispatch(Norms { rows, block: block.clone() });
    for (row, slice) in rows.iter().enumerate().filter(|(row, _)| !norms[*row].is_finite()) {
        if let Some(within) = first_non_finite(&slice[block.clone()]) {
            return Err(RowsError::NonFinite { row, coordinate: block.start + within });
        }
    }
    Ok(norms)
}

struct Norms<'a, T> {
    rows: &'a [&'a [T]],
    block: Range<usize>,
}

impl<T: Element> Kernel for Norms<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        // No closure: it would be compiled apart, for the portable instructions.
        let mut norms = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            norms.push(norm(&row[self.block.clone()]));
        }
        norms
    }
}

#[inline(always)]
fn norm<T: Element>(row: &[T]) -> f64 {
    let mut sums = [0.0_f64; SUMS];
    let (groups, rest) = row.as_chunks::<SUMS>();
    for group in groups {
        for lane in 0..SUMS {
            let value = group[lane].to_f64();
            sums[lane] = value.mul_add(value, sums[lane]);
        }
    }
    for lane in 0..rest.len() {
        let value = rest[lane].to_f64();
        sums[lane] = value.mul_add(value, sums[lane]);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::super::pair_statistics::pair_statistics;
    use super::*;
    use crate::statistics::packed_index;

    #[test]
    fn lengths_have_the_bits_of_the_distances_from_the_origin_at_every_length_and_alignment() {
        for length in 0..130 {
            let offset = length % 5;
            let rows: Vec<Vec<f32>> = (0..3)
                .map(|seed| {
                    (0..length + offset).map(|c| ((c * 7919 + seed * 104_729) % 2003) as f32 / 97.0 - 10.0).collect()
                })
                .collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let block = offset..offset + length;
            let pairs = pair_statistics(&rows, block.clone()).unwrap();
            let expected: Vec<u64> = (0..3).map(|row| pairs[packed_index(row, 3)].to_bits()).collect();
            let bits = |norms: Vec<f64>| norms.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(norms(&rows, block.clone()).unwrap()), expected);
            assert_eq!(bits(Norms { rows: &rows, block }.run()), expected);
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_named_and_one_beyond_f64_is_not() {
        let rows: [&[f64]; 2] = [&[1e200, 1.0], &[1.0, f64::NAN]];
        assert_eq!(norms(&rows, 0..2).unwrap_err(), RowsError::NonFinite { row: 1, coordinate: 1 });
        assert_eq!(norms(&rows[..1], 0..2).unwrap(), [f64::INFINITY]);
    }
}
