//! Fixed ranges of coordinates: blocks, and units of blocks.

use std::ops::Range;

use thiserror::Error;

/// Coordinates in one block: the leaf of the summation tree and the smallest unit.
pub const BLOCK: usize = 4096;

/// Bytes of f32 rows that one unit of [`Units::for_rows`] may hold.
const UNIT_BYTES: usize = 64 << 20;

/// Largest unit [`Units::for_rows`] chooses, in coordinates.
const LARGEST_UNIT: usize = 1 << 20;

/// The division of a vector of `dimension` coordinates into units of `unit_len`.
///
/// A unit is 2^j whole blocks, aligned to its own length, so that its statistics are one subtree of the summation
/// tree. The last unit may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    dimension: usize,
    unit_len: usize,
}

impl Units {
    /// Divides `dimension` coordinates into units of `unit_len` coordinates.
    ///
    /// # Errors
    ///
    /// When there is no coordinate, or `unit_len` is not [`BLOCK`] times a power of two.
    pub fn new(dimension: usize, unit_len: usize) -> Result<Self, UnitError> {
        if dimension == 0 {
            return Err(UnitError::Empty);
        }
        if !unit_len.is_multiple_of(BLOCK) || !(unit_len / BLOCK).is_power_of_two() {
            return Err(UnitError::Length { unit_len });
        }
        Ok(Self { dimension, unit_len })
    }

    /// The default division for `rows` rows: the longest unit of at most 2^20 coordinates whose f32 rows fit in
    /// 64 MiB, and never less than one block.
    ///
    /// # Errors
    ///
    /// When there is no coordinate.
    pub fn for_rows(dimension: usize, rows: usize) -> Result<Self, UnitError> {
        let fitting = UNIT_BYTES / size_of::<f32>() / rows.max(1);
        let power = if fitting == 0 { 1 } else { 1 << fitting.ilog2() };
        Self::new(dimension, power.clamp(BLOCK, LARGEST_UNIT))
    }

    /// Coordinates in the whole vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Coordinates in every unit but perhaps the last.
    #[must_use]
    pub fn unit_len(&self) -> usize {
        self.unit_len
    }

    /// Number of units, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.dimension.div_ceil(self.unit_len)
    }

    /// The coordinates of unit `index`, or `None` past the last unit.
    #[must_use]
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        if index >= self.count() {
            return None;
        }
        let start = index * self.unit_len;
        Some(start..self.dimension.min(start.saturating_add(self.unit_len)))
    }

    /// All units in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<usize>> + use<> {
        let Self { dimension, unit_len } = *self;
        (0..self.count()).map(move |index| {
            let start = index * unit_len;
            start..dimension.min(start.saturating_add(unit_len))
        })
    }
}

/// Why a division into units was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// The vector has no coordinate.
    #[error("the dimension is 0; an update needs at least one coordinate")]
    Empty,
    /// The unit length is not a power-of-two number of blocks.
    #[error("unit length {unit_len} is not {BLOCK} times a power of two; use for example {}", BLOCK * 16)]
    Length {
        /// The refused length, in coordinates.
        unit_len: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_every_coordinate_once_and_only_the_last_is_short() {
        for dimension in [1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7] {
            let units = Units::new(dimension, 2 * BLOCK).unwrap();
            let ranges: Vec<_> = units.iter().collect();
            assert_eq!(ranges.len(), units.count());
            assert_eq!(ranges.first().unwrap().start, 0);
            assert_eq!(ranges.last().unwrap().end, dimension);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].len() == 2 * BLOCK));
            for (index, range) in ranges.iter().enumerate() {
                assert_eq!(units.range(index).as_ref(), Some(range));
            }
            assert_eq!(units.range(ranges.len()), None);
        }
    }

    #[test]
    fn a_unit_is_a_power_of_two_of_blocks_or_refused() {
        for unit_len in [0, 1, BLOCK - 1, 3 * BLOCK, BLOCK + 1] {
            assert_eq!(Units::new(10, unit_len), Err(UnitError::Length { unit_len }));
        }
        assert_eq!(Units::new(0, BLOCK), Err(UnitError::Empty));
    }

    #[test]
    fn default_units_hold_at_most_64_mib_of_rows() {
        for (rows, unit_len) in
            [(1, 1 << 20), (16, 1 << 20), (17, 1 << 19), (200, 1 << 16), (5000, BLOCK), (1 << 30, BLOCK)]
        {
            assert_eq!(Units::for_rows(1 << 22, rows).unwrap().unit_len(), unit_len, "{rows} rows");
        }
    }
}
