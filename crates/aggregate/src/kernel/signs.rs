//! How many coordinates of each row are positive, zero and negative.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use crate::element::Element;
use crate::rows::RowsError;

/// Coordinates counted before the counts are widened.
const STRIDE: usize = 1 << 16;

/// Per row the numbers of positive, zero and negative values among the coordinates `range`; of those in `selected`
/// only, when given: sorted coordinates, counted as `range` is.
///
/// # Errors
///
/// When a row is not finite in a coordinate that counts; the coordinate is relative to the rows' slices.
pub(crate) fn signs<T: Element>(
    rows: &[&[T]],
    range: Range<usize>,
    selected: Option<&[usize]>,
) -> Result<Vec<[u64; 3]>, RowsError> {
    let Some(selected) = selected else {
        let of_row = |(row, slice): (usize, &&[T])| count(row, &slice[range.clone()], |within| range.start + within);
        return rows.iter().enumerate().map(of_row).collect();
    };
    let first = selected.partition_point(|&coordinate| coordinate < range.start);
    let end = selected.partition_point(|&coordinate| coordinate < range.end);
    let selected = &selected[first..end];
    let mut values = vec![T::ZERO; selected.len()];
    let of_row = |(row, slice): (usize, &&[T])| {
        for (value, &coordinate) in values.iter_mut().zip(selected) {
            *value = slice[coordinate];
        }
        count(row, &values, |within| selected[within])
    };
    rows.iter().enumerate().map(of_row).collect()
}

fn count<T: Element>(row: usize, values: &[T], coordinate: impl Fn(usize) -> usize) -> Result<[u64; 3], RowsError> {
    if let Some(within) = first_non_finite(values) {
        return Err(RowsError::NonFinite { row, coordinate: coordinate(within) });
    }
    let (positive, negative) = dispatch(Signs { values });
    Ok([positive, values.len() as u64 - positive - negative, negative])
}

struct Signs<'a, T> {
    values: &'a [T],
}

impl<T: Element> Kernel for Signs<'_, T> {
    /// Positive and negative values.
    type Output = (u64, u64);

    #[inline(always)]
    fn run(self) -> (u64, u64) {
        let (mut positive, mut negative) = (0, 0);
        for stride in self.values.chunks(STRIDE) {
            let (mut above, mut below) = (0_u32, 0_u32);
            for &value in stride {
                above += u32::from(value > T::ZERO);
                below += u32::from(value < T::ZERO);
            }
            positive += u64::from(above);
            negative += u64::from(below);
        }
        (positive, negative)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::super::naive;
    use super::*;

    fn values<T: Element>(seed: usize, length: usize) -> Vec<T> {
        (0..length).map(|c| T::from_f64(((c * 7919 + seed * 104_729) % 7) as f64 - 3.0)).collect()
    }

    fn check<T: Element>(length: usize, offset: usize) {
        let rows: Vec<Vec<T>> = (0..4).map(|seed| values(seed, length + offset)).collect();
        let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
        let range = offset..offset + length;
        let everything: Vec<usize> = range.clone().collect();
        let expected = naive::signs(&rows, &everything);
        assert_eq!(signs(&rows, range.clone(), None).unwrap(), expected, "{length}");
        for (row, counts) in rows.iter().zip(&expected) {
            for path in Path::ALL {
                let signs = dispatch_up_to(path, Signs { values: &row[range.clone()] });
                assert_eq!(signs, (counts[0], counts[2]), "{path:?}, {length}");
            }
        }
        let selected: Vec<usize> = (0..length + offset).filter(|c| c % 3 == 1).collect();
        let within: Vec<usize> = selected.iter().copied().filter(|c| range.contains(c)).collect();
        assert_eq!(signs(&rows, range, Some(&selected)).unwrap(), naive::signs(&rows, &within), "{length}");
    }

    #[test]
    fn every_path_equals_the_naive_counts_at_every_length_and_alignment() {
        for length in (0..130).chain([STRIDE + 3]) {
            check::<f32>(length, length % 5);
            check::<f64>(length, length % 3);
        }
    }

    #[test]
    fn both_zeros_are_zero_and_only_coordinates_that_count_must_be_finite() {
        let rows: [&[f32]; 2] = [&[0.0, -0.0, 1.0, 2.0], &[-1.0, f32::NAN, 3.0, -f32::MIN_POSITIVE]];
        assert_eq!(signs(&rows, 0..4, Some(&[0, 2, 3])).unwrap(), [[2, 1, 0], [1, 0, 2]]);
        assert_eq!(signs(&rows[..1], 0..4, None).unwrap(), [[2, 2, 0]]);
        let error = RowsError::NonFinite { row: 1, coordinate: 1 };
        assert_eq!(signs(&rows, 0..4, None).unwrap_err(), error);
        assert_eq!(signs(&rows, 1..4, Some(&[0, 1, 2])).unwrap_err(), error);
        assert_eq!(signs(&rows, 2..4, None).unwrap(), [[2, 0, 0], [1, 0, 1]]);
    }
}
