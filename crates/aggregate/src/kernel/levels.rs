//! Stochastic rounding of an update's coordinates onto the levels of a quantiser, and the way back.

use super::dispatch::{Kernel, dispatch};
use crate::element::Element;

/// What maps a coordinate to a level, all in f64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Multiplies the coordinate first.
    pub(crate) scale: f64,
    /// The largest magnitude after that; what is beyond is cut, and counted.
    pub(crate) bound: f64,
    /// Levels per unit of magnitude.
    pub(crate) density: f64,
    /// The highest level; `-bound` goes to level 0.
    pub(crate) levels: u32,
}

/// Writes every coordinate's level to `out`, taking 24 bits of the coordinate's four random bytes, and returns how many
/// were cut. Values are finite; the slices hold equally many coordinates.
pub(crate) fn round(values: &[f32], random: &[u8], grid: Grid, out: &mut [u32]) -> u64 {
    dispatch(Round { values, random, grid, out })
}

/// How sums of levels become a row's coordinates, all in f64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Sums count as negative from `2^32 - tail` on.
    pub(crate) tail: u32,
    /// The distance of two levels.
    pub(crate) step: f64,
    /// What the sum times the step is multiplied with and divided by.
    pub(crate) ratio: Ratio,
}

/// See [`Row`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ratio {
    /// `sum * step / clients - bound`.
    Even { clients: f64, bound: f64 },
    /// `(sum * step - offset) * levels / weight`.
    Weighted { offset: f64, levels: f64, weight: f64 },
}

/// Writes the row that the sums make to `out`, equally long.
pub(crate) fn to_row(sums: &[u32], row: Row, out: &mut [f32]) {
    dispatch(ToRow { sums, row, out });
}

struct Round<'a> {
    values: &'a [f32],
    random: &'a [u8],
    grid: Grid,
    out: &'a mut [u32],
}

impl Kernel for Round<'_> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        // Values up to 2^31 + 1 plus this have their integer part in the low mantissa bits.
        const WHOLE: f64 = (1_u64 << 52) as f64;
        const FRACTION: f64 = 1.0 / (1_u32 << 24) as f64;
        let Grid { scale, bound, density, levels } = self.grid;
        let top = f64::from(levels);
        let middle = top / 2.0;
        let mut cut = 0_u64;
        for ((value, word), level) in self.values.iter().zip(self.random.as_chunks().0).zip(self.out.iter_mut()) {
            let scaled = f64::from(*value) * scale;
            cut += u64::from(scaled.abs() > bound);
            let low = if scaled < -bound { -bound } else { scaled };
            let clamped = if low > bound { bound } else { low };
            let position = clamped * density + middle;
            // The middle of one of 2^24 intervals: exact, below 1, and unbiased where `r / 2^24` would round down more
            // often than up. 24 bits fit in i32, which every instruction set converts.
            let draw = f64::from((u32::from_le_bytes(*word) >> 8) as i32) * FRACTION + FRACTION / 2.0;
            let floor = (position + draw).floor();
            let capped = if floor > top { top } else { floor };
            *level = (capped + WHOLE).to_bits() as u32;
        }
        cut
    }
}

struct ToRow<'a> {
    sums: &'a [u32],
    row: Row,
    out: &'a mut [f32],
}

impl Kernel for ToRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Row { tail, step, ratio } = self.row;
        match ratio {
            Ratio::Even { clients, bound } => {
                for (sum, value) in self.sums.iter().zip(self.out) {
                    *value = f32::from_f64(lifted(*sum, tail) * step / clients - bound);
                }
            }
            Ratio::Weighted { offset, levels, weight } => {
                for (sum, value) in self.sums.iter().zip(self.out) {
                    *value = f32::from_f64((lifted(*sum, tail) * step - offset) * levels / weight);
                }
            }
        }
    }
}

/// The number in `-tail..2^32 - tail` that the sum stands for.
#[inline(always)]
fn lifted(sum: u32, tail: u32) -> f64 {
    f64::from(sum.wrapping_add(tail)) - f64::from(tail)
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::*;

    fn naive(value: f32, random: &[u8], grid: Grid) -> u32 {
        let scaled = (f64::from(value) * grid.scale).clamp(-grid.bound, grid.bound);
        let draw = (f64::from(u32::from_le_bytes(random.try_into().unwrap()) >> 8) + 0.5) / 16_777_216.0;
        let position = scaled * grid.density + f64::from(grid.levels) / 2.0 + draw;
        (position.floor() as u32).min(grid.levels)
    }

    #[test]
    fn every_path_equals_the_naive_rounding_at_every_length_and_alignment() {
        let values: Vec<f32> = (0..200_i16).map(|i| f32::from(i * 37 % 101 - 50) / 31.0).collect();
        let random: Vec<u8> = (0..900_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 17) as u8).collect();
        for bits in [2, 16, 24, 31] {
            let levels = (1_u32 << bits) - 1;
            let grid = Grid { scale: 0.9, bound: 1.25, density: f64::from(levels) / 2.5, levels };
            for length in 0..130 {
                let offset = length % 5;
                let values = &values[offset..offset + length];
                let random = &random[offset..offset + 4 * length];
                let expected: Vec<u32> =
                    values.iter().zip(random.chunks(4)).map(|(value, random)| naive(*value, random, grid)).collect();
                let cut = values.iter().filter(|value| (f64::from(**value) * 0.9).abs() > 1.25).count() as u64;
                for path in Path::ALL {
                    let mut out = vec![u32::MAX; length];
                    assert_eq!(dispatch_up_to(path, Round { values, random, grid, out: &mut out }), cut, "{path:?}");
                    assert_eq!(out, expected, "{path:?} {bits}");
                }
            }
        }
    }

    #[test]
    fn every_path_makes_the_same_row_at_every_length() {
        let sums: Vec<u32> = (0..130_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let weighted = Ratio::Weighted { offset: 2.25, levels: 65_535.0, weight: 170_000.0 };
        for (ratio, tail) in [(Ratio::Even { clients: 3.0, bound: 0.75 }, 0), (weighted, 1 << 30)] {
            let row = Row { tail, step: 1.5 / 65_535.0, ratio };
            let naive = |sum: u32| {
                let lifted =
                    if sum >= tail.wrapping_neg() && tail > 0 { i64::from(sum) - (1 << 32) } else { sum.into() };
                let product = lifted as f64 * row.step;
                match ratio {
                    Ratio::Even { clients, bound } => (product / clients - bound) as f32,
                    Ratio::Weighted { offset, levels, weight } => ((product - offset) * levels / weight) as f32,
                }
            };
            for length in 0..130 {
                let expected: Vec<f32> = sums[..length].iter().copied().map(naive).collect();
                for path in Path::ALL {
                    let mut out = vec![f32::NAN; length];
                    dispatch_up_to(path, ToRow { sums: &sums[..length], row, out: &mut out });
                    assert_eq!(out, expected, "{path:?}");
                }
            }
        }
    }
}
