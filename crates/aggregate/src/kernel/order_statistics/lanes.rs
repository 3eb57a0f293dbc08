//! Tiles of the rows, side by side.

use std::ops::Range;

use crate::element::Element;
use crate::rows::RowsError;

/// Coordinates worked on at once.
pub(super) const LANES: usize = 32;

/// Most tiles of a row copied at once.
const LONGEST_STRIP: usize = 8;

/// The copied tiles of all rows stay in the second-level cache.
const STRIP_BYTES: usize = 128 << 10;

/// One coordinate's value in each lane, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Lanes<T>(pub(super) [T; LANES]);

impl<T: Element> Lanes<T> {
    /// At most [`LANES`] values; the lanes past them are zero.
    #[inline(always)]
    fn from_slice(slice: &[T]) -> Self {
        if let Ok(lanes) = slice.try_into() {
            return Self(lanes);
        }
        let mut lanes = [T::ZERO; LANES];
        lanes[..slice.len()].copy_from_slice(slice);
        Self(lanes)
    }
}

/// A copy of some tiles of every row. Rows are often allocated at the same offset within a page, so that their tiles
/// compete for the same few cache lines: reading them once, in long runs, and working on the copy avoids that.
pub(super) struct Strip<T> {
    /// Tiles per row.
    pub(super) tiles: usize,
    /// Tile t of row i at i · tiles + t; lanes past the last coordinate are zero.
    values: Vec<Lanes<T>>,
}

impl<T: Element> Strip<T> {
    #[inline(always)]
    pub(super) fn new(rows: usize) -> Self {
        let tiles = (STRIP_BYTES / (rows * size_of::<Lanes<T>>())).clamp(1, LONGEST_STRIP);
        Self { tiles, values: vec![Lanes([T::ZERO; LANES]); rows * tiles] }
    }

    /// Copies the coordinates `range` of every row; says whether all of them are finite.
    #[inline(always)]
    pub(super) fn load(&mut self, rows: &[&[T]], range: Range<usize>) -> bool {
        // Zero times a finite value is zero; times anything else, NaN, which stays.
        let mut poison = [T::ZERO; LANES];
        for (row, tiles) in rows.iter().zip(self.values.chunks_exact_mut(self.tiles)) {
            let mut chunks = row[range.clone()].chunks(LANES);
            for lanes in tiles {
                *lanes = Lanes::from_slice(chunks.next().unwrap_or_default());
                for (poison, value) in poison.iter_mut().zip(lanes.0) {
                    *poison = *poison + value * T::ZERO;
                }
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
    pub(super) fn tile(&self, tile: usize) -> impl Iterator<Item = &[T; LANES]> + Clone {
        self.values.chunks_exact(self.tiles).map(move |tiles| &tiles[tile].0)
    }

    #[inline(always)]
    pub(super) fn copy_tile(&self, tile: usize, values: &mut [Lanes<T>]) {
        for (lanes, from) in values.iter_mut().zip(self.tile(tile)) {
            lanes.0 = *from;
        }
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
