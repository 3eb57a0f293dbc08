//! Squared distances among the rows and from the origin, for one block.
//!
//! Direct differences in f64, eight sums by coordinate index mod 8, fused multiply-add, one fixed fold: the same bits
//! whatever the instruction set and however the pairs are tiled. Nothing is ever subtracted from a sum, so a distance
//! cannot be negative.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::finite::first_non_finite;
use crate::element::Element;
use crate::rows::RowsError;
use crate::statistics::{packed_index, packed_len};

/// Sums kept per pair.
const SUMS: usize = 8;

/// Coordinates widened to f64 at a time, as groups of [`SUMS`].
const GROUPS: usize = 16;
const TILE: usize = GROUPS * SUMS;

/// Rows widened together. Two panels of widened rows stay close to the first-level cache, their sums in the second.
const PANEL: usize = 16;

/// Pairs summed together: one row against this many others.
const OTHERS: usize = 4;

type Sums = [f64; SUMS];

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

/// Space for two panels of widened rows and their sums, reused for every pair of panels.
struct Scratch {
    left: Vec<Wide>,
    right: Vec<Wide>,
    pairs: Vec<Sums>,
    norms: Vec<Sums>,
}

impl<T: Element> Kernel for PairStatistics<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let count = self.rows.len();
        let mut packed = vec![0.0; packed_len(count)];
        let panel = PANEL.min(count);
        let zero = Wide([[0.0; SUMS]; GROUPS]);
        let mut scratch = Scratch {
            left: vec![zero; panel],
            right: vec![zero; if count > PANEL { panel } else { 0 }],
            pairs: vec![[0.0; SUMS]; panel * panel],
            norms: vec![[0.0; SUMS]; panel],
        };
        for low in (0..count).step_by(PANEL) {
            let lows = low..count.min(low + PANEL);
            diagonal_panel(self.rows, lows.clone(), self.block.clone(), &mut scratch, &mut packed);
            for high in (lows.end..count).step_by(PANEL) {
                let highs = high..count.min(high + PANEL);
                panel_pair(self.rows, lows.clone(), highs, self.block.clone(), &mut scratch, &mut packed);
            }
        }
        packed
    }
}

/// Pairs within one panel, and the squared lengths of its rows.
#[inline(always)]
fn diagonal_panel<T: Element>(
    rows: &[&[T]],
    panel: Range<usize>,
    block: Range<usize>,
    scratch: &mut Scratch,
    packed: &mut [f64],
) {
    let count = panel.len();
    scratch.pairs.fill([0.0; SUMS]);
    scratch.norms.fill([0.0; SUMS]);
    for start in block.clone().step_by(TILE) {
        let tile = start..block.end.min(start + TILE);
        widen(&rows[panel.clone()], tile, &mut scratch.left);
        for row in 0..count {
            add_norm(&mut scratch.norms[row], &scratch.left[row]);
            let others = &scratch.left[row + 1..count];
            let sums = &mut scratch.pairs[row * count + row + 1..(row + 1) * count];
            add_pairs(sums, &scratch.left[row], others);
        }
    }
    for row in 0..count {
        packed[packed_index(panel.start + row, rows.len())] = fold(&scratch.norms[row]);
        for other in row + 1..count {
            let pair = packed_index(panel.start + row, panel.start + other);
            packed[pair] = fold(&scratch.pairs[row * count + other]);
        }
    }
}

/// Pairs of a row in `lows` and a row in `highs`.
#[inline(always)]
fn panel_pair<T: Element>(
    rows: &[&[T]],
    lows: Range<usize>,
    highs: Range<usize>,
    block: Range<usize>,
    scratch: &mut Scratch,
    packed: &mut [f64],
) {
    let width = highs.len();
    scratch.pairs.fill([0.0; SUMS]);
    for start in block.clone().step_by(TILE) {
        let tile = start..block.end.min(start + TILE);
        widen(&rows[lows.clone()], tile.clone(), &mut scratch.left);
        widen(&rows[highs.clone()], tile, &mut scratch.right);
        for row in 0..lows.len() {
            let sums = &mut scratch.pairs[row * width..(row + 1) * width];
            add_pairs(sums, &scratch.left[row], &scratch.right[..width]);
        }
    }
    for (row, low) in lows.enumerate() {
        for (other, high) in highs.clone().enumerate() {
            packed[packed_index(low, high)] = fold(&scratch.pairs[row * width + other]);
        }
    }
}

/// Copies a tile to f64. A short tile is filled up with zeros, which add nothing to any sum.
#[inline(always)]
fn widen<T: Element>(rows: &[&[T]], tile: Range<usize>, wide: &mut [Wide]) {
    for (row, Wide(wide)) in rows.iter().zip(wide) {
        let wide = wide.as_flattened_mut();
        let (filled, rest) = wide.split_at_mut(tile.len());
        for (wide, value) in filled.iter_mut().zip(&row[tile.clone()]) {
            *wide = value.to_f64();
        }
        rest.fill(0.0);
    }
}

#[inline(always)]
fn add_norm(sums: &mut Sums, Wide(row): &Wide) {
    let mut total = *sums;
    for group in row {
        for lane in 0..SUMS {
            total[lane] = group[lane].mul_add(group[lane], total[lane]);
        }
    }
    *sums = total;
}

/// Adds one row's differences from each of the others.
#[inline(always)]
fn add_pairs(sums: &mut [Sums], row: &Wide, others: &[Wide]) {
    let (four, rest) = others.as_chunks::<OTHERS>();
    let (four_sums, rest_sums) = sums.as_chunks_mut::<OTHERS>();
    for (sums, others) in four_sums.iter_mut().zip(four) {
        add_tile(sums, row, others);
    }
    for (sum, other) in rest_sums.iter_mut().zip(rest) {
        add_tile(std::array::from_mut(sum), row, std::array::from_ref(other));
    }
}

#[inline(always)]
fn add_tile<const N: usize>(sums: &mut [Sums; N], Wide(row): &Wide, others: &[Wide; N]) {
    let mut totals = *sums;
    for (group, mine) in row.iter().enumerate() {
        for other in 0..N {
            for lane in 0..SUMS {
                let difference = mine[lane] - others[other].0[group][lane];
                totals[other][lane] = difference.mul_add(difference, totals[other][lane]);
            }
        }
    }
    *sums = totals;
}

#[inline(always)]
fn fold(sums: &Sums) -> f64 {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(bits(&PairStatistics { rows: &rows, block }.run()), expected, "portable, {count} x {length}");
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
