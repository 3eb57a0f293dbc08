//! Tiles of the rows, side by side.

use std::ops::Range;

use crate::element::Element;
use crate::kernel::prefetch::prefetch;
use crate::rows::RowsError;

/// Coordinates worked on at once.
pub(super) const LANES: usize = 32;

/// Most bytes of a row copied at once: a page, so that each page of a row is looked up once.
const LONGEST_STRIP: usize = 4096;

/// The copied tiles of all rows stay in the second-level cache.
const STRIP_BYTES: usize = 256 << 10;

/// How many rows ahead of the one being copied memory is asked for; nothing else makes use of the way from row to row.
const AHEAD: usize = 2;

/// One coordinate's value in each lane, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Lanes<T>(pub(super) [T; LANES]);

/// A copy of some tiles of every row. Rows are often allocated at the same offset within a page, so that their tiles
/// compete for the same few cache lines: reading them once, in long runs, and working on the copy avoids that.
pub(super) struct Strip<T> {
    /// Tiles per row.
    pub(super) tiles: usize,
    rows: usize,
    /// From one tile to the next. Odd, so that the tiles of a row do not compete in their turn.
    stride: usize,
    /// Tile t of row i at t · stride + i; lanes past the last coordinate are zero.
    values: Vec<Lanes<T>>,
}

impl<T: Element> Strip<T> {
    #[inline(always)]
    pub(super) fn new(rows: usize) -> Self {
        let tile = size_of::<Lanes<T>>();
        let (tiles, stride) = ((STRIP_BYTES / (rows * tile)).clamp(1, LONGEST_STRIP / tile), rows | 1);
        Self { tiles, rows, stride, values: vec![Lanes([T::ZERO; LANES]); stride * tiles] }
    }

    /// Copies the coordinates `range` of every row; says whether all of them are finite.
    #[inline(always)]
    pub(super) fn load(&mut self, rows: &[&[T]], range: Range<usize>) -> bool {
        // Zero times a finite value is zero; times anything else, NaN, which stays.
        let mut poison = [T::ZERO; LANES];
        for (index, row) in rows.iter().enumerate() {
            let (whole, rest) = row[range.clone()].as_chunks::<LANES>();
            let ahead = rows.get(index + AHEAD).unwrap_or(row);
            let (ahead, _) = ahead[range.clone()].as_chunks::<LANES>();
            let tiles = &mut self.values[index..];
            for tile in 0..whole.len() {
                prefetch(&ahead[tile]);
                copy_checked(&whole[tile], &mut tiles[tile * self.stride].0, &mut poison);
            }
            if !rest.is_empty() {
                let mut values = [T::ZERO; LANES];
                values[..rest.len()].copy_from_slice(rest);
                copy_checked(&values, &mut tiles[whole.len() * self.stride].0, &mut poison);
            }
        }
        let mut finite = true;
        for value in poison {
            finite &= value.is_finite();
        }
        finite
    }

    /// The tile of every row, in row order.
    #[inline(always)]
    pub(super) fn tile(&self, tile: usize) -> &[Lanes<T>] {
        &self.values[tile * self.stride..tile * self.stride + self.rows]
    }
}

#[inline(always)]
fn copy_checked<T: Element>(from: &[T; LANES], to: &mut [T; LANES], poison: &mut [T; LANES]) {
    for lane in 0..LANES {
        to[lane] = from[lane];
        poison[lane] = poison[lane] + from[lane] * T::ZERO;
    }
}

/// The first row of the tile that is not finite.
#[cold]
pub(super) fn locate<T: Element>(rows: &[&[T]], tile: Range<usize>) -> RowsError {
    rows.iter()
        .enumerate()
        .find_map(|(row, slice)| {
            let within = slice[tile.clone()].iter().position(|value| !value.is_finite())?;
            Some(RowsError::NonFinite { row, coordinate: tile.start + within })
        })
        .expect("called only after the tile was found not finite")
}
