//! Squared distances among the rows and from the origin, for one block.
//!
//! Direct differences in f64, eight sums by coordinate index mod 8, fused multiply-add, one fixed fold: the same bits
//! whatever the instruction set and however the pairs are tiled. Nothing is ever subtracted from a sum, so a distance
//! cannot be negative.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use super::prefetch::prefetch;
use crate::element::Element;
use crate::rows::RowsError;
use crate::statistics::{packed_index, packed_len};

/// Sums kept per pair.
const SUMS: usize = 8;

/// Coordinates widened to f64 at a time, as groups of [`SUMS`].
const GROUPS: usize = 8;
const TILE: usize = GROUPS * SUMS;

/// Rows widened together: a panel of widened rows fits in the first-level cache, the sums of its pairs in the second.
const PANEL: usize = 64;

type Sums = [f64; SUMS];

/// The sums of the pairs of N rows and N others, kept in registers while going through a tile.
type Square<const N: usize> = [[Sums; N]; N];

/// A tile of one row in f64, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Wide([Sums; GROUPS]);

/// The packed squared distances of the coordinates `block` of the rows, at most one block.
///
/// # Errors
///
/// When a row is not finite; the coordinate is relative to the rows' slices.
pub(crate) fn pair_statistics<T: Element>(rows: &[&[T]], block: Range<usize>) -> Result<Vec<f64>, RowsError> {
    let packed = dispatch(PairStatistics { rows, block: block.clone() });
    for (row, slice) in rows.iter().enumerate() {
        // A finite squared length proves a finite row; an infinite one may be finite f64 values beyond f64.
        if packed[packed_index(row, rows.len())].is_finite() {
            continue;
        }
        if let Some(within) = first_non_finite(&slice[block.clone()]) {
            return Err(RowsError::NonFinite { row, coordinate: block.start + within });
        }
    }
    Ok(packed)
}

struct PairStatistics<'a, T> {
    rows: &'a [&'a [T]],
    block: Range<usize>,
}

impl<T: Element> Kernel for PairStatistics<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        self.in_squares::<2>()
    }

    #[inline(always)]
    fn run_wide(self) -> Vec<f64> {
        self.in_squares::<4>()
    }
}

impl<T: Element> PairStatistics<'_, T> {
    #[inline(always)]
    fn in_squares<const N: usize>(self) -> Vec<f64>
    where
        Blocking: Squares<N>,
    {
        let count = self.rows.len();
        let mut packed = vec![0.0; packed_len(count)];
        let squares = PANEL.min(count).div_ceil(N);
        let zero = [Wide([[0.0; SUMS]; GROUPS]); N];
        let mut left = vec![zero; squares];
        let mut right = vec![zero; if count > PANEL { squares } else { 0 }];
        let mut sums: Vec<Square<N>> = vec![[[[0.0; SUMS]; N]; N]; squares * squares];
        for low in (0..count).step_by(PANEL) {
            let lows = low..count.min(low + PANEL);
            self.diagonal_panel(lows.clone(), &mut left, &mut sums, &mut packed);
            for high in (lows.end..count).step_by(PANEL) {
                let highs = high..count.min(high + PANEL);
                self.panel_pair(lows.clone(), highs, (&mut left, &mut right), &mut sums, &mut packed);
            }
        }
        packed
    }

    /// Pairs within one panel, and the squared lengths of its rows.
    #[inline(always)]
    fn diagonal_panel<const N: usize>(
        &self,
        panel: Range<usize>,
        wide: &mut [[Wide; N]],
        sums: &mut [Square<N>],
        packed: &mut [f64],
    ) where
        Blocking: Squares<N>,
    {
        let squares = panel.len().div_ceil(N);
        let sums = &mut sums[..squares * squares];
        sums.as_flattened_mut().as_flattened_mut().fill([0.0; SUMS]);
        for start in self.block.clone().step_by(TILE) {
            self.widen(panel.clone(), start, wide);
            for (square, (rows, sums)) in wide.iter().zip(sums.chunks_exact_mut(squares)).enumerate() {
                Blocking::add_triangle(&mut sums[square], rows);
                for (sums, others) in sums.iter_mut().zip(&wide[..squares]).skip(square + 1) {
                    Blocking::add_square(sums, rows, others);
                }
            }
        }
        for row in 0..panel.len() {
            for other in row..panel.len() {
                let total = fold(&sums[row / N * squares + other / N][row % N][other % N]);
                let partner = if other == row { self.rows.len() } else { panel.start + other };
                packed[packed_index(panel.start + row, partner)] = total;
            }
        }
    }

    /// Pairs of a row in `lows` and a row in `highs`.
    #[inline(always)]
    fn panel_pair<const N: usize>(
        &self,
        lows: Range<usize>,
        highs: Range<usize>,
        (left, right): (&mut [[Wide; N]], &mut [[Wide; N]]),
        sums: &mut [Square<N>],
        packed: &mut [f64],
    ) where
        Blocking: Squares<N>,
    {
        let squares = highs.len().div_ceil(N);
        let sums = &mut sums[..lows.len().div_ceil(N) * squares];
        sums.as_flattened_mut().as_flattened_mut().fill([0.0; SUMS]);
        for start in self.block.clone().step_by(TILE) {
            self.widen(lows.clone(), start, left);
            self.widen(highs.clone(), start, right);
            for (rows, sums) in left.iter().zip(sums.chunks_exact_mut(squares)) {
                for (sums, others) in sums.iter_mut().zip(&*right) {
                    Blocking::add_square(sums, rows, others);
                }
            }
        }
        for (row, low) in lows.enumerate() {
            for (other, high) in highs.clone().enumerate() {
                let total = fold(&sums[row / N * squares + other / N][row % N][other % N]);
                packed[packed_index(low, high)] = total;
            }
        }
    }

    /// Copies the tile from `start` on to f64, and asks for the next one. A short tile is filled up with zeros, which
    /// add nothing to any sum; what is left of the last rows' square belongs to no row and is ignored.
    #[inline(always)]
    fn widen<const N: usize>(&self, panel: Range<usize>, start: usize, wide: &mut [[Wide; N]]) {
        let end = self.block.end.min(start + TILE);
        let next = end..self.block.end.min(end + TILE);
        for (row, Wide(wide)) in self.rows[panel].iter().zip(wide.as_flattened_mut()) {
            let (filled, rest) = wide.as_flattened_mut().split_at_mut(end - start);
            for (wide, value) in filled.iter_mut().zip(&row[start..end]) {
                *wide = value.to_f64();
            }
            rest.fill(0.0);
            prefetch(&row[next.clone()]);
        }
    }
}

/// How many rows and others make a square.
trait Squares<const N: usize> {
    /// Adds the differences of N rows from N others.
    fn add_square(sums: &mut Square<N>, rows: &[Wide; N], others: &[Wide; N]);

    /// Adds the differences among N rows; on the diagonal, from the origin.
    fn add_triangle(sums: &mut Square<N>, rows: &[Wide; N]);
}

struct Blocking;

/// Written out, so that the loop over the lanes is the innermost one: then it becomes whole vectors, and the totals
/// stay in registers.
macro_rules! squares {
    ($n:literal: $($row:literal)*, $square:tt, $triangle:tt) => {
        impl Squares<$n> for Blocking {
            #[inline(always)]
            fn add_square(sums: &mut Square<$n>, rows: &[Wide; $n], others: &[Wide; $n]) {
                for lane in 0..SUMS {
                    let mut totals = [[0.0; $n]; $n];
                    squares!(@load totals, sums, lane, $square);
                    squares!(@add totals, rows, others, lane, $square);
                    squares!(@store totals, sums, lane, $square);
                }
            }

            #[inline(always)]
            fn add_triangle(sums: &mut Square<$n>, rows: &[Wide; $n]) {
                for lane in 0..SUMS {
                    let mut totals = [[0.0; $n]; $n];
                    squares!(@load totals, sums, lane, $triangle);
                    squares!(@add totals, rows, rows, lane, $triangle);
                    squares!(@store totals, sums, lane, $triangle);
                    $(
                        let mut total = sums[$row][$row][lane];
                        let Wide(groups) = &rows[$row];
                        squares!(@norm total, groups, lane, 0 1 2 3 4 5 6 7);
                        sums[$row][$row][lane] = total;
                    )*
                }
            }
        }
    };
    (@load $totals:ident, $sums:ident, $lane:ident, [$(($row:literal $other:literal))*]) => {
        $($totals[$row][$other] = $sums[$row][$other][$lane];)*
    };
    (@store $totals:ident, $sums:ident, $lane:ident, [$(($row:literal $other:literal))*]) => {
        $($sums[$row][$other][$lane] = $totals[$row][$other];)*
    };
    (@norm $total:ident, $groups:ident, $lane:ident, $($group:literal)*) => {
        $($total = $groups[$group][$lane].mul_add($groups[$group][$lane], $total);)*
    };
    (@add $totals:ident, $rows:ident, $others:ident, $lane:ident, $pairs:tt) => {
        squares!(@group 0, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 1, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 2, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 3, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 4, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 5, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 6, $totals, $rows, $others, $lane, $pairs);
        squares!(@group 7, $totals, $rows, $others, $lane, $pairs);
    };
    (@group $group:literal, $totals:ident, $rows:ident, $others:ident, $lane:ident,
        [$(($row:literal $other:literal))*]) => {
        $(
            let difference = $rows[$row].0[$group][$lane] - $others[$other].0[$group][$lane];
            $totals[$row][$other] = difference.mul_add(difference, $totals[$row][$other]);
        )*
    };
}

squares!(2: 0 1, [(0 0) (0 1) (1 0) (1 1)], [(0 1)]);
squares!(4: 0 1 2 3,
    [(0 0) (0 1) (0 2) (0 3) (1 0) (1 1) (1 2) (1 3) (2 0) (2 1) (2 2) (2 3) (3 0) (3 1) (3 2) (3 3)],
    [(0 1) (0 2) (0 3) (1 2) (1 3) (2 3)]);

#[inline(always)]
fn fold(sums: &Sums) -> f64 {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
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

    fn check<T: Element>(count: usize, length: usize, offset: usize) {
        let rows: Vec<Vec<T>> = (0..count).map(|seed| values(seed, length + offset)).collect();
        let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
        let shifted: Vec<&[T]> = rows.iter().map(|row| &row[offset..]).collect();
        let block = offset..offset + length;
        let expected = bits(&naive::distances(&shifted));
        assert_eq!(bits(&pair_statistics(&rows, block.clone()).unwrap()), expected, "{count} x {length}");
        for path in Path::ALL {
            let kernel = PairStatistics { rows: &rows, block: block.clone() };
            assert_eq!(bits(&dispatch_up_to(path, kernel)), expected, "{path:?}, {count} x {length}");
        }
    }

    #[test]
    fn every_path_has_the_bits_of_the_naive_sums_at_every_length_and_alignment() {
        for length in 0..130 {
            check::<f32>(7, length, length % 5);
            check::<f64>(6, length, length % 3);
        }
        check::<f32>(3, 4096, 1);
    }

    #[test]
    fn every_number_of_rows_is_tiled_without_changing_a_bit() {
        for count in [1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 70, 100] {
            check::<f32>(count, 300, 0);
        }
    }

    #[test]
    fn distances_beyond_f64_saturate_and_non_finite_rows_are_named() {
        let rows: [&[f64]; 3] = [&[1e200, 1.0], &[-1e308, 2.0], &[0.5, 1.0]];
        let packed = pair_statistics(&rows, 0..2).unwrap();
        assert!(packed.iter().all(|value| !value.is_nan() && *value >= 0.0));
        assert_eq!(packed[packed_index(0, 1)], f64::INFINITY);
        assert_eq!(packed[packed_index(2, 3)], 1.25);
        let rows: [&[f64]; 2] = [&[1e200, 1.0], &[1.0, f64::NAN]];
        assert_eq!(pair_statistics(&rows, 0..2).unwrap_err(), RowsError::NonFinite { row: 1, coordinate: 1 });
    }
}
