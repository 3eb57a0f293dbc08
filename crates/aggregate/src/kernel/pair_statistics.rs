//! Squared distances among the rows and from the origin, for one block.
//!
//! Direct differences, eight f64 sums by coordinate index mod 8, fused multiply-add, one fixed fold: the same bits
//! whatever the instruction set and however the pairs are tiled. Nothing is ever subtracted from a sum, so a distance
//! cannot be negative.
//!
//! In f64; where near distances will do, those of f32 rows are squared in f32 and added up in f32 over 16 squares, then
//! in f64: every step rounds by at most 2^−24, and all terms are positive, so no error grows beyond 18·2^−24. A pair
//! whose squares leave the range of f32 is measured again in f64.

mod exact;
mod squares;

use std::{marker::PhantomData, ops::Range};

use super::dispatch::{Kernel, Path, dispatch, dispatch_up_to};
use super::finite::first_non_finite;
use super::prefetch::prefetch;
use crate::element::Element;
use crate::rows::RowsError;
use crate::statistics::{packed_index, packed_len};
use exact::Exact;
use squares::{Blocking, GROUPS, SUMS, Square, Squares, Sums, Tile};

/// Tiles of a row copied at once, in one run through memory. The strip of a panel fits in the second-level cache.
const STRIP: usize = 8;

/// How many rows ahead of the one being copied memory is asked for.
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
    finite(dispatch(PairStatistics::<T, f64>::new(rows, block.clone())), rows, block)
}

/// As [`pair_statistics`], each distance right to 18·2^−24 = 1.1e-6, mostly to 1e-7; faster for f32 rows.
pub(crate) fn near_pair_statistics<T: Element>(rows: &[&[T]], block: Range<usize>) -> Result<Vec<f64>, RowsError> {
    finite(near(Path::Avx512, rows, &block), rows, block)
}

fn finite<T: Element>(packed: Vec<f64>, rows: &[&[T]], block: Range<usize>) -> Result<Vec<f64>, RowsError> {
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

/// With instructions up to `widest`; a row that is not finite has a squared length that is not.
fn near<T: Element>(widest: Path, rows: &[&[T]], block: &Range<usize>) -> Vec<f64> {
    if !T::NARROW {
        return dispatch_up_to(widest, PairStatistics::<T, f64>::new(rows, block.clone()));
    }
    let mut packed = dispatch_up_to(widest, PairStatistics::<T, f32>::new(rows, block.clone()));
    dispatch_up_to(widest, Exact { rows, block: block.clone(), packed: &mut packed });
    packed
}

/// Tiles of N rows each, one stretch of all rows after the other.
type Strip<L, const LANES: usize, const N: usize> = [[Tile<L, LANES>; N]];

/// In numbers `L`, f32 or f64.
struct PairStatistics<'a, T, L> {
    rows: &'a [&'a [T]],
    block: Range<usize>,
    lane: PhantomData<L>,
}

impl<'a, T, L> PairStatistics<'a, T, L> {
    fn new(rows: &'a [&'a [T]], block: Range<usize>) -> Self {
        Self { rows, block, lane: PhantomData }
    }
}

macro_rules! kernel {
    ($type:ident $lanes:literal) => {
        impl<T: Element> Kernel for PairStatistics<'_, T, $type> {
            type Output = Vec<f64>;

            #[inline(always)]
            fn run(self) -> Vec<f64> {
                self.in_squares::<$lanes, 2>()
            }

            #[inline(always)]
            fn run_wide(self) -> Vec<f64> {
                self.in_squares::<$lanes, 4>()
            }
        }
    };
}

kernel!(f64 8);
kernel!(f32 16);

impl<T: Element, L: Element> PairStatistics<'_, T, L> {
    #[inline(always)]
    fn in_squares<const LANES: usize, const N: usize>(self) -> Vec<f64>
    where
        Blocking: Squares<L, LANES, N>,
    {
        let count = self.rows.len();
        let mut packed = vec![0.0; packed_len(count)];
        let squares = PANEL.min(count).div_ceil(N);
        let zero = [Tile([[L::ZERO; LANES]; GROUPS]); N];
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
    fn diagonal_panel<const LANES: usize, const N: usize>(
        &self,
        panel: Range<usize>,
        tiles: &mut Strip<L, LANES, N>,
        sums: &mut [Square<N>],
        packed: &mut [f64],
    ) where
        Blocking: Squares<L, LANES, N>,
    {
        let squares = panel.len().div_ceil(N);
        let sums = &mut sums[..squares * squares];
        sums.as_flattened_mut().as_flattened_mut().fill([0.0; SUMS]);
        for start in self.block.clone().step_by(STRIP * GROUPS * LANES) {
            for tiles in self.copy(panel.clone(), start, tiles) {
                for first in (0..squares).step_by(RESIDENT) {
                    let end = squares.min(first + RESIDENT);
                    for other in first..squares {
                        for square in first..end.min(other) {
                            Blocking::add_square(&mut sums[square * squares + other], &tiles[square], &tiles[other]);
                        }
                        if other < end {
                            Blocking::add_triangle(&mut sums[other * squares + other], &tiles[other]);
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
    fn panel_pair<const LANES: usize, const N: usize>(
        &self,
        lows: Range<usize>,
        highs: Range<usize>,
        (left, right): (&mut Strip<L, LANES, N>, &mut Strip<L, LANES, N>),
        sums: &mut [Square<N>],
        packed: &mut [f64],
    ) where
        Blocking: Squares<L, LANES, N>,
    {
        let squares = highs.len().div_ceil(N);
        let sums = &mut sums[..lows.len().div_ceil(N) * squares];
        sums.as_flattened_mut().as_flattened_mut().fill([0.0; SUMS]);
        for start in self.block.clone().step_by(STRIP * GROUPS * LANES) {
            let (left, right) = (self.copy(lows.clone(), start, left), self.copy(highs.clone(), start, right));
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

    /// Copies the strip from `start` on, and returns its tiles. A short tile is filled up with zeros, which add nothing to
    /// any sum; what is left of the last rows' square belongs to no row and is ignored.
    #[inline(always)]
    fn copy<'a, const LANES: usize, const N: usize>(
        &self,
        panel: Range<usize>,
        start: usize,
        tiles: &'a mut Strip<L, LANES, N>,
    ) -> std::slice::ChunksExact<'a, [Tile<L, LANES>; N]> {
        let length = GROUPS * LANES;
        let end = self.block.end.min(start + STRIP * length);
        let squares = panel.len().div_ceil(N);
        for (index, row) in self.rows[panel.clone()].iter().enumerate() {
            let ahead = &self.rows[panel.clone()].get(index + AHEAD).unwrap_or(row)[start..end];
            for (tile, (values, ahead)) in row[start..end].chunks(length).zip(ahead.chunks(length)).enumerate() {
                prefetch(ahead);
                let Tile(tile) = &mut tiles[tile * squares + index / N][index % N];
                let (groups, rest) = values.as_chunks::<LANES>();
                if groups.len() == GROUPS {
                    for (group, values) in tile.iter_mut().zip(groups) {
                        *group = values.map(L::of);
                    }
                    continue;
                }
                let (filled, empty) = tile.as_flattened_mut().split_at_mut(values.len());
                for (lane, value) in filled.iter_mut().zip(groups.as_flattened().iter().chain(rest)) {
                    *lane = L::of(*value);
                }
                empty.fill(L::ZERO);
            }
        }
        tiles[..(end - start).div_ceil(length) * squares].chunks_exact(squares)
    }
}

#[inline(always)]
fn fold(sums: &Sums) -> f64 {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests;
