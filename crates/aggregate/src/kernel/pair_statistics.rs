//! Squared distances among the rows and from the origin, for one block.
//!
//! Direct differences in f64, eight sums by coordinate index mod 8, fused multiply-add, one fixed fold: the same bits
//! whatever the instruction set and however the pairs are tiled. Nothing is ever subtracted from a sum, so a distance
//! cannot be negative.

mod squares;

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use super::prefetch::prefetch;
use crate::element::Element;
use crate::rows::RowsError;
use crate::statistics::{packed_index, packed_len};
use squares::{Blocking, GROUPS, SUMS, Square, Squares, Sums, TILE, Wide};

/// Tiles of a row widened at once, in one run through memory. The strip of a panel fits in the second-level cache.
const STRIP: usize = 8;

/// How many rows ahead of the one being widened memory is asked for.
const AHEAD: usize = 2;

/// Rows worked on together, whose pairs' sums fit in the second-level cache beside the strip.
const PANEL: usize = 64;

/// Squares of rows that stay in the first-level cache while all others pass by.
const RESIDENT: usize = 4;

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
        let mut left = vec![zero; squares * STRIP];
        let mut right = vec![zero; if count > PANEL { squares * STRIP } else { 0 }];
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
        for start in self.block.clone().step_by(STRIP * TILE) {
            for wide in self.widen(panel.clone(), start, wide) {
                for first in (0..squares).step_by(RESIDENT) {
                    let end = squares.min(first + RESIDENT);
                    for other in first..squares {
                        for square in first..end.min(other) {
                            Blocking::add_square(&mut sums[square * squares + other], &wide[square], &wide[other]);
                        }
                        if other < end {
                            Blocking::add_triangle(&mut sums[other * squares + other], &wide[other]);
                        }
                    }
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
        for start in self.block.clone().step_by(STRIP * TILE) {
            let (left, right) = (self.widen(lows.clone(), start, left), self.widen(highs.clone(), start, right));
            for (left, right) in left.zip(right) {
                for (left, sums) in left.chunks(RESIDENT).zip(sums.chunks_mut(RESIDENT * squares)) {
                    for (other, others) in right.iter().enumerate() {
                        for (rows, sums) in left.iter().zip(sums.chunks_exact_mut(squares)) {
                            Blocking::add_square(&mut sums[other], rows, others);
                        }
                    }
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

    /// Copies the strip from `start` on to f64, and returns its tiles. A short tile is filled up with zeros, which add
    /// nothing to any sum; what is left of the last rows' square belongs to no row and is ignored.
    #[inline(always)]
    fn widen<'a, const N: usize>(
        &self,
        panel: Range<usize>,
        start: usize,
        wide: &'a mut [[Wide; N]],
    ) -> std::slice::ChunksExact<'a, [Wide; N]> {
        let end = self.block.end.min(start + STRIP * TILE);
        let squares = panel.len().div_ceil(N);
        for (index, row) in self.rows[panel.clone()].iter().enumerate() {
            let ahead = &self.rows[panel.clone()].get(index + AHEAD).unwrap_or(row)[start..end];
            for (tile, (values, ahead)) in row[start..end].chunks(TILE).zip(ahead.chunks(TILE)).enumerate() {
                prefetch(ahead);
                let Wide(wide) = &mut wide[tile * squares + index / N][index % N];
                if let (Ok(wide), Ok(values)) =
                    (<&mut [f64; TILE]>::try_from(wide.as_flattened_mut()), <&[T; TILE]>::try_from(values))
                {
                    for (wide, value) in wide.iter_mut().zip(values) {
                        *wide = value.to_f64();
                    }
                    continue;
                }
                let (filled, rest) = wide.as_flattened_mut().split_at_mut(values.len());
                for (wide, value) in filled.iter_mut().zip(values) {
                    *wide = value.to_f64();
                }
                rest.fill(0.0);
            }
        }
        wide[..(end - start).div_ceil(TILE) * squares].chunks_exact(squares)
    }
}

#[inline(always)]
fn fold(sums: &Sums) -> f64 {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests;
