//! Rows mixed by a matrix, in f64.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use super::prefetch::prefetch;
use crate::element::Element;
use crate::rows::RowsError;

/// Coordinates widened to f64 at a time, as vectors of [`LANES`].
const VECTORS: usize = 4;

/// Lanes whose sums are kept in registers while going through the points.
const LANES: usize = 16;

const TILE: usize = VECTORS * LANES;

/// Mixed rows worked on together.
const GROUP: usize = 4;

/// How many mixed rows ahead of the one being made memory is asked for.
const AHEAD: usize = 1;

/// A tile of one point in f64, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Wide([[f64; LANES]; VECTORS]);

/// Writes the mixed rows of the coordinates `range` to `out`, row after row: see [`Mixer::mix`]. `coefficients` holds as
/// many rows as `out`, one coefficient per point in each.
///
/// # Errors
///
/// When a point that counts is not finite; the coordinate is relative to the points' slices.
pub(crate) fn mix<T: Element>(
    points: &[&[T]],
    coefficients: &[f64],
    range: Range<usize>,
    out: &mut [f64],
) -> Result<(), RowsError> {
    Mixer::new(points.len(), coefficients).mix(points, range, out)
}

/// A mixing matrix in the order in which it is used.
#[derive(Debug)]
pub(crate) struct Mixer {
    /// Points with a coefficient other than 0.
    points: Vec<usize>,
    terms: Terms,
}

#[derive(Debug)]
enum Terms {
    /// Per mixed row its few points with their coefficients: rows scaled, or means of a few.
    Few(Vec<Vec<(usize, f64)>>),
    /// Per group of mixed rows its terms, by position in `points`. A coefficient of 0 adds nothing, so a term counts
    /// for the whole group.
    Groups(Vec<GroupTerms>),
}

/// Position in `points`, and the coefficients of the group's rows.
type GroupTerms = Vec<(usize, [f64; GROUP])>;

/// Most points of a mixed row for which rows are mixed one by one: a group then has hardly a term in common.
const FEW: usize = 4;

impl Mixer {
    /// `coefficients`: row after row, one per point.
    pub(crate) fn new(count: usize, coefficients: &[f64]) -> Self {
        let matrix: Vec<&[f64]> = coefficients.chunks_exact(count.max(1)).collect();
        let points: Vec<usize> = (0..count).filter(|&point| matrix.iter().any(|row| row[point] != 0.0)).collect();
        let few: Vec<Vec<(usize, f64)>> = matrix
            .iter()
            .map(|row| row.iter().copied().enumerate().filter(|(_, coefficient)| *coefficient != 0.0).collect())
            .collect();
        if few.iter().all(|terms| terms.len() <= FEW) {
            return Self { points, terms: Terms::Few(few) };
        }
        Self { terms: Terms::Groups(Self::grouped(&points, &matrix)), points }
    }

    fn grouped(points: &[usize], matrix: &[&[f64]]) -> Vec<GroupTerms> {
        let groups = matrix.chunks(GROUP).map(|rows| {
            let term = |(position, &point): (usize, &usize)| {
                let mut column = [0.0; GROUP];
                for (coefficient, row) in column.iter_mut().zip(rows) {
                    *coefficient = row[point];
                }
                column.iter().any(|coefficient| *coefficient != 0.0).then_some((position, column))
            };
            points.iter().enumerate().filter_map(term).collect()
        });
        groups.collect()
    }

    /// Writes the mixed rows of the coordinates `range` to `out`, row after row: each the sum, over the points in
    /// order, of coefficient times value. Points all of whose coefficients are 0 are not read. Sums beyond f64 are
    /// infinite or NaN.
    ///
    /// # Errors
    ///
    /// When a point that counts is not finite; the coordinate is relative to the points' slices.
    pub(crate) fn mix<T: Element>(
        &self,
        points: &[&[T]],
        range: Range<usize>,
        out: &mut [f64],
    ) -> Result<(), RowsError> {
        if dispatch(Mix { points, mixing: self, range: range.clone(), out }) {
            return Ok(());
        }
        for &point in &self.points {
            if let Some(within) = first_non_finite(&points[point][range.clone()]) {
                return Err(RowsError::NonFinite { row: point, coordinate: range.start + within });
            }
        }
        Ok(())
    }
}

struct Mix<'a, T> {
    points: &'a [&'a [T]],
    mixing: &'a Mixer,
    range: Range<usize>,
    out: &'a mut [f64],
}

impl<T: Element> Kernel for Mix<'_, T> {
    /// Whether every value read was finite.
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { points, mixing, range, out } = self;
        match &mixing.terms {
            Terms::Few(rows) => mix_few(points, rows, range, out),
            Terms::Groups(groups) => mix_groups(points, &mixing.points, groups, range, out),
        }
    }
}

/// One mixed row after the other.
#[inline(always)]
fn mix_few<T: Element>(points: &[&[T]], rows: &[Vec<(usize, f64)>], range: Range<usize>, out: &mut [f64]) -> bool {
    let length = range.len();
    let mut poison = [0.0; LANES];
    for (row, terms) in rows.iter().enumerate() {
        let out = &mut out[row * length..(row + 1) * length];
        if terms.is_empty() {
            out.fill(0.0);
        }
        for (index, &(point, coefficient)) in terms.iter().enumerate() {
            let values = &points[point][range.clone()];
            // Nothing but this makes use of the way from row to row.
            let ahead = match rows.get(row + AHEAD).and_then(|terms| terms.get(index)) {
                Some((point, _)) => &points[*point][range.clone()],
                None => values,
            };
            match index {
                0 => add_term::<T, true>(out, values, ahead, coefficient, &mut poison),
                _ => add_term::<T, false>(out, values, ahead, coefficient, &mut poison),
            }
        }
    }
    poison.iter().all(|value| value.is_finite())
}

#[inline(always)]
fn add_term<T: Element, const FIRST: bool>(
    out: &mut [f64],
    values: &[T],
    ahead: &[T],
    coefficient: f64,
    poison: &mut [f64; LANES],
) {
    let (sums, sums_rest) = out.as_chunks_mut::<LANES>();
    let (groups, rest) = values.as_chunks::<LANES>();
    let (ahead, _) = ahead.as_chunks::<LANES>();
    for ((sums, values), ahead) in sums.iter_mut().zip(groups).zip(ahead) {
        prefetch(ahead);
        for lane in 0..LANES {
            let value = values[lane].to_f64();
            let before = if FIRST { 0.0 } else { sums[lane] };
            // A product may underflow to −0, which must not show.
            sums[lane] = coefficient.mul_add(value, before) + 0.0;
            poison[lane] += value * 0.0;
        }
    }
    for lane in 0..rest.len() {
        let value = rest[lane].to_f64();
        let before = if FIRST { 0.0 } else { sums_rest[lane] };
        sums_rest[lane] = coefficient.mul_add(value, before) + 0.0;
        poison[lane] += value * 0.0;
    }
}

/// A tile of all points after the other, some mixed rows at a time.
#[inline(always)]
fn mix_groups<T: Element>(
    points: &[&[T]],
    counted: &[usize],
    groups: &[GroupTerms],
    range: Range<usize>,
    out: &mut [f64],
) -> bool {
    let length = range.len();
    let mut wide = vec![Wide([[0.0; LANES]; VECTORS]); counted.len()];
    let mut poison = [0.0; LANES];
    for start in (0..length).step_by(TILE) {
        let tile = start..length.min(start + TILE);
        for (&point, Wide(wide)) in counted.iter().zip(&mut wide) {
            let values = &points[point][range.start + tile.start..range.start + tile.end];
            let next = range.start + tile.end;
            prefetch(&points[point][next..range.end.min(next + TILE)]);
            let (filled, rest) = wide.as_flattened_mut().split_at_mut(values.len());
            for (wide, value) in filled.iter_mut().zip(values) {
                *wide = value.to_f64();
            }
            rest.fill(0.0);
            for vector in &*wide {
                for (poison, value) in poison.iter_mut().zip(vector) {
                    // Zero times a finite value is zero; times anything else, NaN, which stays.
                    *poison += value * 0.0;
                }
            }
        }
        for (group, terms) in groups.iter().enumerate() {
            for vector in 0..VECTORS {
                let first = tile.start + vector * LANES;
                let lanes = tile.end.saturating_sub(first).min(LANES);
                let sums = mix_vector(&wide, terms, vector);
                for (row, sums) in (group * GROUP..).zip(&sums) {
                    let Some(out) = out.get_mut(row * length..(row + 1) * length) else { break };
                    if let Some(out) = out.get_mut(first..first + lanes) {
                        out.copy_from_slice(&sums[..lanes]);
                    }
                }
            }
        }
    }
    poison.iter().all(|value| value.is_finite())
}

#[inline(always)]
fn mix_vector(wide: &[Wide], terms: &[(usize, [f64; GROUP])], vector: usize) -> [[f64; LANES]; GROUP] {
    let mut sums = [[0.0_f64; LANES]; GROUP];
    for (point, coefficients) in terms {
        let values = &wide[*point].0[vector];
        for row in 0..GROUP {
            for lane in 0..LANES {
                sums[row][lane] = coefficients[row].mul_add(values[lane], sums[row][lane]);
            }
        }
    }
    for sums in &mut sums {
        for sum in sums {
            // A product may underflow to −0, and then the zeros that are added or left out would show.
            *sum += 0.0;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::super::naive;
    use super::*;

    fn values<T: Element>(seed: usize, length: usize) -> Vec<T> {
        (0..length).map(|c| T::from_f64(((c * 7919 + seed * 104_729) % 2003) as f64 / 97.0 - 10.0)).collect()
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// `period`: one coefficient in so many is not zero.
    fn check<T: Element>(count: usize, mixed: usize, length: usize, offset: usize, period: usize) {
        let points: Vec<Vec<T>> = (0..count).map(|seed| values(seed, length + offset)).collect();
        let points: Vec<&[T]> = points.iter().map(Vec::as_slice).collect();
        let shifted: Vec<&[T]> = points.iter().map(|point| &point[offset..]).collect();
        let coefficients: Vec<f64> = values::<f64>(count, mixed * count)
            .into_iter()
            .enumerate()
            .map(|(index, value)| if index % period == 0 { value } else { 0.0 })
            .collect();
        let expected = bits(&naive::mix(&shifted, &coefficients));
        let range = offset..offset + length;
        let mut out = vec![f64::NAN; mixed * length];
        mix(&points, &coefficients, range.clone(), &mut out).unwrap();
        assert_eq!(bits(&out), expected, "{mixed} of {count} x {length}");
        let mixing = Mixer::new(count, &coefficients);
        for path in Path::ALL {
            out.fill(f64::NAN);
            let kernel = Mix { points: &points, mixing: &mixing, range: range.clone(), out: &mut out };
            assert!(dispatch_up_to(path, kernel));
            assert_eq!(bits(&out), expected, "{path:?}, {mixed} of {count} x {length}");
        }
    }

    #[test]
    fn every_path_has_the_bits_of_the_naive_sums_at_every_length_and_alignment() {
        for length in 0..130 {
            check::<f32>(7, 5, length, length % 5, 1);
            check::<f64>(6, 9, length, length % 3, 2);
        }
    }

    #[test]
    fn dense_and_sparse_matrices_of_every_shape_agree_with_the_naive_sums() {
        for (count, mixed) in [(1, 1), (3, 1), (1, 4), (8, 8), (17, 64), (64, 64), (65, 63)] {
            for period in [1, 3, 20, count + 1, 1000] {
                check::<f32>(count, mixed, 150, 1, period);
            }
        }
    }

    #[test]
    fn a_point_that_counts_is_refused_when_not_finite_and_others_are_not_read() {
        let points: [&[f32]; 3] = [&[1.0, 2.0], &[3.0, f32::NAN], &[f32::INFINITY, 0.0]];
        let mut out = [f64::NAN; 4];
        mix(&points, &[2.0, 0.0, 0.0, 0.5, 0.0, 0.0], 0..2, &mut out).unwrap();
        assert_eq!(out, [2.0, 4.0, 0.5, 1.0]);
        mix(&points, &[2.0, 1.0, 0.0, 0.5, 0.0, 0.0], 0..1, &mut out[..2]).unwrap();
        assert_eq!(out[..2], [5.0, 0.5]);
        let error = mix(&points, &[2.0, 0.0, 0.0, 0.5, 1.0, 0.0], 0..2, &mut out).unwrap_err();
        assert_eq!(error, RowsError::NonFinite { row: 1, coordinate: 1 });
        let error = mix(&points, &[2.0, 0.0, -1.0, 0.5, 1.0, 0.0], 0..1, &mut out[..2]).unwrap_err();
        assert_eq!(error, RowsError::NonFinite { row: 2, coordinate: 0 });
    }

    #[test]
    fn zeros_cannot_be_seen_and_sums_beyond_f64_are_no_refusal() {
        let points: [&[f64]; 2] = [&[1e-300, 1e308], &[1.0, 1e308]];
        for coefficients in [[-1e-300, 0.0], [-1e-300, -0.0]] {
            let mixing = Mixer::new(2, &coefficients);
            let mut out = [f64::NAN; 2];
            mix(&points, &coefficients, 0..1, &mut out[..1]).unwrap();
            assert_eq!(out[0].to_bits(), 0);
            assert_eq!(mixing.points, [0]);
        }
        let mut out = [f64::NAN; 2];
        mix(&points, &[2.0, 1.0], 0..2, &mut out).unwrap();
        assert_eq!(out, [1.0, f64::INFINITY]);
    }
}
