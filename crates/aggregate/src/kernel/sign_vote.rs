//! A weighted sum that is turned around where the rows' signs do not agree.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use super::weighted_sum::weighted_sum;
use crate::element::Element;
use crate::rows::RowsError;

/// Coordinates voted on at a time: the sums of signs stay in the first-level cache.
const TILE: usize = 2048;

/// Writes the weighted sum as [`weighted_sum`] does, negated in the coordinates where the sum of the signs of all
/// rows, weights aside, is less than `quorum` in magnitude. Zero has no sign.
///
/// # Errors
///
/// When a row is not finite, even of weight 0: it votes; the coordinate is relative to the rows' slices.
pub(crate) fn sign_vote<T: Element>(
    rows: &[&[T]],
    weights: &[f64],
    divisor: f64,
    quorum: usize,
    range: Range<usize>,
    out: &mut [T],
) -> Result<(), RowsError> {
    for (row, slice) in rows.iter().enumerate().filter(|(row, _)| weights[*row] == 0.0) {
        if let Some(within) = first_non_finite(&slice[range.clone()]) {
            return Err(RowsError::NonFinite { row, coordinate: range.start + within });
        }
    }
    for (tile, out) in out.chunks_mut(TILE).enumerate() {
        let start = range.start + tile * TILE;
        let range = start..start + out.len();
        weighted_sum(rows, weights, divisor, range.clone(), out)?;
        dispatch(Vote { rows, quorum: i32::try_from(quorum).unwrap_or(i32::MAX), range, out });
    }
    Ok(())
}

struct Vote<'a, T> {
    rows: &'a [&'a [T]],
    quorum: i32,
    range: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Vote<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut votes = [0_i32; TILE];
        let votes = &mut votes[..self.out.len()];
        for row in self.rows {
            for (vote, &value) in votes.iter_mut().zip(&row[self.range.clone()]) {
                *vote += i32::from(value > T::ZERO) - i32::from(value < T::ZERO);
            }
        }
        for (value, vote) in self.out.iter_mut().zip(votes) {
            *value = if vote.abs() < self.quorum { T::from_f64(-value.to_f64()) } else { *value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::super::naive;
    use super::*;

    fn values<T: Element>(seed: usize, length: usize) -> Vec<T> {
        (0..length).map(|c| T::from_f64(((c * 7919 + seed * 104_729) % 23) as f64 / 7.0 - 1.0)).collect()
    }

    fn check<T: Element>(count: usize, length: usize, offset: usize) {
        let rows: Vec<Vec<T>> = (0..count).map(|seed| values(seed, length + offset)).collect();
        let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
        let shifted: Vec<&[T]> = rows.iter().map(|row| &row[offset..]).collect();
        let weights: Vec<f64> = (0..count).map(|row| (row % 3) as f64 * 0.3).collect();
        for quorum in [0, 1, 3, count + 1] {
            let expected = naive::sign_vote(&shifted, &weights, 1.7, quorum);
            let range = offset..offset + length;
            let mut out = vec![T::ZERO; length];
            sign_vote(&rows, &weights, 1.7, quorum, range.clone(), &mut out).unwrap();
            assert_eq!(out, expected, "{count} x {length}, quorum {quorum}");
            for path in Path::ALL.into_iter().filter(|_| length <= TILE) {
                weighted_sum(&rows, &weights, 1.7, range.clone(), &mut out).unwrap();
                let range = range.clone();
                dispatch_up_to(path, Vote { rows: &rows, quorum: quorum as i32, range, out: &mut out });
                assert_eq!(out, expected, "{path:?}, {count} x {length}, quorum {quorum}");
            }
        }
    }

    #[test]
    fn every_path_equals_the_naive_vote_at_every_length_and_alignment() {
        for length in (0..130).chain([2047, 2048, 2049, 4096]) {
            check::<f32>(5, length, length % 5);
            check::<f64>(6, length, length % 3);
        }
    }

    #[test]
    fn every_row_votes_and_is_refused_when_not_finite() {
        let rows: [&[f32]; 3] = [&[1.0, 0.0, 5.0], &[-1.0, 0.0, 6.0], &[-2.0, f32::NAN, 7.0]];
        let mut out = [0.0; 3];
        let weights = [1.0, 0.0, 0.0];
        let error = sign_vote(&rows, &weights, 1.0, 2, 0..3, &mut out).unwrap_err();
        assert_eq!(error, RowsError::NonFinite { row: 2, coordinate: 1 });
        let error = sign_vote(&rows, &[0.0, 0.0, 1.0], 1.0, 2, 1..2, &mut out[..1]).unwrap_err();
        assert_eq!(error, RowsError::NonFinite { row: 2, coordinate: 1 });
        sign_vote(&rows[..2], &weights[..2], 1.0, 2, 0..3, &mut out).unwrap();
        assert_eq!(out.map(f32::to_bits), [-1.0, 0.0, 5.0].map(f32::to_bits));
    }
}
