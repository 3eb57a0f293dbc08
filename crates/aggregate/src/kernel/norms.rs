//! Squared lengths of rows and their squared distances from one point, for one block, with the bits that
//! `pair_statistics` gives them.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use crate::element::Element;
use crate::rows::RowsError;

/// Sums kept per row, by coordinate index mod 8.
const SUMS: usize = 8;

/// Rows worked on together: the sums of one row wait for one another, those of several do not.
const GROUP: usize = 4;

/// The squared lengths of the coordinates `block` of the rows, in f64; `+Inf` beyond f64.
///
/// # Errors
///
/// When a row is not finite; the coordinate is relative to the rows' slices.
pub(crate) fn norms<T: Element>(rows: &[&[T]], block: Range<usize>) -> Result<Vec<f64>, RowsError> {
    let (norms, _) = dispatch(Norms { rows, from: None, block: block.clone() });
    refuse_non_finite(rows, &norms, block)?;
    Ok(norms)
}

/// The same, followed by the rows' squared distances from `from`.
///
/// # Errors
///
/// When a row is not finite; the coordinate is relative to the rows' slices.
pub(crate) fn norms_and_distances<T: Element>(
    rows: &[&[T]],
    from: &[T],
    block: Range<usize>,
) -> Result<Vec<f64>, RowsError> {
    let (mut norms, distances) = dispatch(Norms { rows, from: Some(from), block: block.clone() });
    refuse_non_finite(rows, &norms, block)?;
    norms.extend(distances);
    Ok(norms)
}

/// A finite squared length proves a finite row; an infinite one may be finite f64 values beyond f64.
fn refuse_non_finite<T: Element>(rows: &[&[T]], norms: &[f64], block: Range<usize>) -> Result<(), RowsError> {
    for (row, slice) in rows.iter().enumerate().filter(|(row, _)| !norms[*row].is_finite()) {
        if let Some(within) = first_non_finite(&slice[block.clone()]) {
            return Err(RowsError::NonFinite { row, coordinate: block.start + within });
        }
    }
    Ok(())
}

struct Norms<'a, T> {
    rows: &'a [&'a [T]],
    from: Option<&'a [T]>,
    block: Range<usize>,
}

impl<T: Element> Kernel for Norms<'_, T> {
    /// Lengths, and distances where they are asked for.
    type Output = (Vec<f64>, Vec<f64>);

    #[inline(always)]
    fn run(self) -> (Vec<f64>, Vec<f64>) {
        let (mut norms, mut distances) = (Vec::with_capacity(self.rows.len()), Vec::with_capacity(self.rows.len()));
        let (groups, rest) = self.rows.as_chunks::<GROUP>();
        // No closures: they would be compiled apart, for the portable instructions.
        for rows in groups {
            add_group(rows, self.from, &self.block, &mut norms, &mut distances);
        }
        for row in rest {
            add_group(std::array::from_ref(row), self.from, &self.block, &mut norms, &mut distances);
        }
        (norms, distances)
    }
}

#[inline(always)]
fn add_group<T: Element, const N: usize>(
    rows: &[&[T]; N],
    from: Option<&[T]>,
    block: &Range<usize>,
    norms: &mut Vec<f64>,
    distances: &mut Vec<f64>,
) {
    let rows = rows.map(|row| &row[block.clone()]);
    match from {
        None => norms.extend_from_slice(&squares(rows)),
        Some(from) => {
            let (own, between) = differences(rows, &from[block.clone()]);
            norms.extend_from_slice(&own);
            distances.extend_from_slice(&between);
        }
    }
}

#[inline(always)]
fn squares<T: Element, const N: usize>(rows: [&[T]; N]) -> [f64; N] {
    let mut sums = [[0.0_f64; SUMS]; N];
    let groups = rows.map(|row| row.as_chunks::<SUMS>().0);
    let count = groups[0].len();
    let groups = groups.map(|groups| &groups[..count]);
    #[allow(clippy::needless_range_loop, reason = "the groups of several rows are gone through together")]
    for group in 0..count {
        for row in 0..N {
            for lane in 0..SUMS {
                let value = groups[row][group][lane].to_f64();
                sums[row][lane] = value.mul_add(value, sums[row][lane]);
            }
        }
    }
    for row in 0..N {
        let rest = &rows[row][count * SUMS..];
        for lane in 0..rest.len() {
            let value = rest[lane].to_f64();
            sums[row][lane] = value.mul_add(value, sums[row][lane]);
        }
    }
    folded(&sums)
}

#[inline(always)]
fn differences<T: Element, const N: usize>(rows: [&[T]; N], from: &[T]) -> ([f64; N], [f64; N]) {
    let mut norms = [[0.0_f64; SUMS]; N];
    let mut distances = [[0.0_f64; SUMS]; N];
    let groups = rows.map(|row| row.as_chunks::<SUMS>().0);
    let (from_groups, from_rest) = from.as_chunks::<SUMS>();
    let count = from_groups.len();
    let groups = groups.map(|groups| &groups[..count]);
    for group in 0..count {
        for row in 0..N {
            for lane in 0..SUMS {
                let value = groups[row][group][lane].to_f64();
                let difference = value - from_groups[group][lane].to_f64();
                norms[row][lane] = value.mul_add(value, norms[row][lane]);
                distances[row][lane] = difference.mul_add(difference, distances[row][lane]);
            }
        }
    }
    for row in 0..N {
        let rest = &rows[row][count * SUMS..];
        for lane in 0..from_rest.len() {
            let value = rest[lane].to_f64();
            let difference = value - from_rest[lane].to_f64();
            norms[row][lane] = value.mul_add(value, norms[row][lane]);
            distances[row][lane] = difference.mul_add(difference, distances[row][lane]);
        }
    }
    (folded(&norms), folded(&distances))
}

#[inline(always)]
fn folded<const N: usize>(sums: &[[f64; SUMS]; N]) -> [f64; N] {
    let mut totals = [0.0; N];
    for row in 0..N {
        let [a, b, c, d, e, f, g, h] = sums[row];
        totals[row] = ((a + e) + (c + g)) + ((b + f) + (d + h));
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::super::pair_statistics::pair_statistics;
    use super::*;
    use crate::statistics::packed_index;

    #[test]
    fn lengths_and_distances_have_the_bits_of_the_pairs_at_every_length_alignment_and_count() {
        const COUNT: usize = 7;
        for length in 0..130 {
            let offset = length % 5;
            let rows: Vec<Vec<f32>> = (0..COUNT)
                .map(|seed| {
                    (0..length + offset).map(|c| ((c * 7919 + seed * 104_729) % 2003) as f32 / 97.0 - 10.0).collect()
                })
                .collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let block = offset..offset + length;
            let pairs = pair_statistics(&rows, block.clone()).unwrap();
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let expected: Vec<f64> = (0..COUNT).map(|row| pairs[packed_index(row, COUNT)]).collect();
            assert_eq!(bits(&norms(&rows, block.clone()).unwrap()), bits(&expected));
            assert_eq!(bits(&Norms { rows: &rows, from: None, block: block.clone() }.run().0), bits(&expected));
            for anchor in [0, 5, 6] {
                let from = |row: usize| match row {
                    row if row == anchor => 0.0,
                    row => pairs[packed_index(row.min(anchor), row.max(anchor))],
                };
                let all: Vec<f64> = expected.iter().copied().chain((0..COUNT).map(from)).collect();
                assert_eq!(bits(&norms_and_distances(&rows, rows[anchor], block.clone()).unwrap()), bits(&all));
                let portable = Norms { rows: &rows, from: Some(rows[anchor]), block: block.clone() }.run();
                assert_eq!(bits(&[portable.0, portable.1].concat()), bits(&all));
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_named_and_one_beyond_f64_is_not() {
        let rows: [&[f64]; 2] = [&[1e200, 1.0], &[1.0, f64::NAN]];
        assert_eq!(norms(&rows, 0..2).unwrap_err(), RowsError::NonFinite { row: 1, coordinate: 1 });
        assert_eq!(
            norms_and_distances(&rows, rows[0], 0..2).unwrap_err(),
            RowsError::NonFinite { row: 1, coordinate: 1 }
        );
        assert_eq!(norms(&rows[..1], 0..2).unwrap(), [f64::INFINITY]);
        assert_eq!(norms_and_distances(&rows[..1], &[0.0, 1.0], 0..2).unwrap(), [f64::INFINITY; 2]);
    }
}
