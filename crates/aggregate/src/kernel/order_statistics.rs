//! Median and trimmed mean, per coordinate.
//!
//! Two steps. The first finds only the bounding values, of ranks `low` and `high`, by a pruned sorting network across
//! [`LANES`] coordinates at once, or by selection for many rows. The second goes through the rows in order and adds
//! the values strictly between the bounds in f64, then each bound as often as it is among the kept. So the result
//! depends on the values and the row order alone, not on how the bounds were found.

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use super::network::{Exchange, Keep, selection_network};
use crate::element::Element;
use crate::rows::RowsError;

/// Coordinates worked on at once.
const LANES: usize = 32;

/// Most rows for the network; its n log² n steps lose to selection beyond.
const NETWORK_ROWS: usize = 256;

/// Lanes whose sums are kept in registers while going through the rows.
const PART: usize = 16;

/// Most tiles of a row copied at once.
const LONGEST_STRIP: usize = 8;

/// The copied tiles of all rows stay in the second-level cache.
const STRIP_BYTES: usize = 128 << 10;

/// One coordinate's value in each lane, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes<T>([T; LANES]);

/// How to find and what to do with the bounding values, for one number of rows.
#[derive(Clone, Debug)]
pub(crate) struct OrderStatistics {
    rows: usize,
    low: usize,
    high: usize,
    finder: Finder,
    average: Average,
}

#[derive(Clone, Debug)]
enum Finder {
    Network(Vec<Exchange>),
    Selection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Average {
    /// Of the two bounds.
    Bounds,
    /// Of all values of rank low to high.
    Kept,
}

impl OrderStatistics {
    /// The median of `rows` values, at least one.
    pub(crate) fn median(rows: usize) -> Self {
        Self::new(rows, (rows - 1) / 2, Average::Bounds)
    }

    /// The mean without the `cut` lowest and highest values; twice `cut` is less than `rows`.
    pub(crate) fn trimmed_mean(rows: usize, cut: usize) -> Self {
        Self::new(rows, cut, Average::Kept)
    }

    fn new(rows: usize, low: usize, average: Average) -> Self {
        let high = rows - 1 - low;
        let finder = if rows <= NETWORK_ROWS {
            Finder::Network(selection_network(rows, &[low, high]))
        } else {
            Finder::Selection
        };
        Self { rows, low, high, finder, average }
    }

    /// Applies it to the coordinates `range` of the rows. Returns per row how many of its values lie outside the
    /// bounds; nothing for the median, which cuts no row.
    ///
    /// # Errors
    ///
    /// When a row is not finite; the coordinate is relative to the rows' slices.
    pub(crate) fn apply<T: Element>(
        &self,
        rows: &[&[T]],
        range: Range<usize>,
        out: &mut [T],
    ) -> Result<Vec<u64>, RowsError> {
        dispatch(Apply { order: self, rows, range, out })
    }
}

struct Apply<'a, T> {
    order: &'a OrderStatistics,
    rows: &'a [&'a [T]],
    range: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Apply<'_, T> {
    type Output = Result<Vec<u64>, RowsError>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { order, rows, range, out } = self;
        let mut strip = Strip::new(rows.len());
        let mut values: Vec<Lanes<T>> = vec![Lanes([T::ZERO; LANES]); rows.len()];
        let mut column = Vec::with_capacity(if matches!(order.finder, Finder::Selection) { rows.len() } else { 0 });
        let mut outside = vec![[0_u32; PART]; if order.average == Average::Kept { rows.len() } else { 0 }];
        for (index, out) in out.chunks_mut(strip.tiles * LANES).enumerate() {
            let start = range.start + index * strip.tiles * LANES;
            if !strip.load(rows, start..start + out.len()) {
                return Err(locate(rows, start..start + out.len()));
            }
            for (tile, out) in out.chunks_mut(LANES).enumerate() {
                for (row, lanes) in values.iter_mut().enumerate() {
                    *lanes = strip.values[row * strip.tiles + tile];
                }
                let (low, high) = match &order.finder {
                    Finder::Network(network) => {
                        exchange_all(network, &mut values);
                        (values[order.low], values[order.high])
                    }
                    Finder::Selection => select_all(&values, order.low, order.high, &mut column),
                };
                let averages = match order.average {
                    Average::Bounds => middle(&low, &high),
                    Average::Kept => kept_mean(order, &strip, tile, &low, &high, &mut outside),
                };
                for (value, average) in out.iter_mut().zip(averages) {
                    *value = T::from_f64(average);
                }
            }
        }
        Ok(outside.iter().map(|lanes| lanes.iter().map(|&count| u64::from(count)).sum()).collect())
    }
}

/// A copy of some tiles of every row. Rows are often allocated at the same offset within a page, so that their tiles
/// compete for the same few cache lines: reading them once, in long runs, and working on the copy avoids that.
struct Strip<T> {
    /// Tiles per row.
    tiles: usize,
    /// Tile t of row i at i · tiles + t; lanes past the last coordinate are zero.
    values: Vec<Lanes<T>>,
}

impl<T: Element> Strip<T> {
    #[inline(always)]
    fn new(rows: usize) -> Self {
        let tiles = (STRIP_BYTES / (rows * size_of::<Lanes<T>>())).clamp(1, LONGEST_STRIP);
        Self { tiles, values: vec![Lanes([T::ZERO; LANES]); rows * tiles] }
    }

    /// Copies the coordinates `range` of every row; says whether all of them are finite.
    #[inline(always)]
    fn load(&mut self, rows: &[&[T]], range: Range<usize>) -> bool {
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
}

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

#[inline(always)]
fn exchange_all<T: Element>(network: &[Exchange], values: &mut [Lanes<T>]) {
    for exchange in network {
        let (Lanes(a), Lanes(b)) = (values[exchange.low], values[exchange.high]);
        if exchange.keep != Keep::High {
            let Lanes(low) = &mut values[exchange.low];
            for lane in 0..LANES {
                low[lane] = if b[lane] < a[lane] { b[lane] } else { a[lane] };
            }
        }
        if exchange.keep != Keep::Low {
            let Lanes(high) = &mut values[exchange.high];
            for lane in 0..LANES {
                high[lane] = if b[lane] < a[lane] { a[lane] } else { b[lane] };
            }
        }
    }
}

#[inline(always)]
fn select_all<T: Element>(values: &[Lanes<T>], low: usize, high: usize, column: &mut Vec<T>) -> (Lanes<T>, Lanes<T>) {
    let (mut lows, mut highs) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    for lane in 0..LANES {
        column.clear();
        column.extend(values.iter().map(|lanes| lanes.0[lane]));
        let (_, lowest, above) = column.select_nth_unstable_by(low, T::order);
        lows[lane] = *lowest;
        highs[lane] = if high == low { *lowest } else { *above.select_nth_unstable_by(high - low - 1, T::order).1 };
    }
    (Lanes(lows), Lanes(highs))
}

#[inline(always)]
fn middle<T: Element>(Lanes(low): &Lanes<T>, Lanes(high): &Lanes<T>) -> [f64; LANES] {
    let mut averages = [0.0; LANES];
    for lane in 0..LANES {
        let (low, high) = (low[lane].to_f64(), high[lane].to_f64());
        let sum = low + high;
        averages[lane] = if sum.is_finite() { sum * 0.5 } else { low * 0.5 + high * 0.5 };
    }
    averages
}

#[inline(always)]
fn kept_mean<T: Element>(
    order: &OrderStatistics,
    strip: &Strip<T>,
    tile: usize,
    Lanes(low): &Lanes<T>,
    Lanes(high): &Lanes<T>,
    outside: &mut [[u32; PART]],
) -> [f64; LANES] {
    let mut averages = [0.0; LANES];
    let (lows, _) = low.as_chunks::<PART>();
    let (highs, _) = high.as_chunks::<PART>();
    let (parts, _) = averages.as_chunks_mut::<PART>();
    for (part, ((low, high), averages)) in lows.iter().zip(highs).zip(parts).enumerate() {
        let values = strip.values.chunks_exact(strip.tiles).map(|tiles| &tiles[tile].0.as_chunks::<PART>().0[part]);
        *averages = kept_mean_of_part(order, values, low, high, outside);
    }
    averages
}

#[inline(always)]
fn kept_mean_of_part<'a, T: Element>(
    order: &OrderStatistics,
    rows: impl Iterator<Item = &'a [T; PART]> + Clone,
    low: &[T; PART],
    high: &[T; PART],
    outside: &mut [[u32; PART]],
) -> [f64; PART] {
    let mut sums = [0.0_f64; PART];
    let mut above_low = [0_u32; PART];
    let mut below_high = [0_u32; PART];
    for (values, outside) in rows.clone().zip(outside) {
        for lane in 0..PART {
            let value = values[lane];
            let (above, below) = (value > low[lane], value < high[lane]);
            let kept = if above & below { value } else { T::ZERO };
            sums[lane] += kept.to_f64();
            above_low[lane] += u32::from(above);
            below_high[lane] += u32::from(below);
            outside[lane] += u32::from((value < low[lane]) | (value > high[lane]));
        }
    }
    let (count, cut) = (as_f64(order.rows), as_f64(order.low));
    let kept = count - 2.0 * cut;
    let mut averages = [0.0; PART];
    let mut finite = true;
    for lane in 0..PART {
        let (low, high) = (low[lane].to_f64(), high[lane].to_f64());
        // Of the values not above the low bound the cut ones are gone, the rest are the bound itself; so at the top.
        let kept_low = count - f64::from(above_low[lane]) - cut;
        let kept_high = count - f64::from(below_high[lane]) - cut;
        let sum = kept_low.mul_add(low, kept_high.mul_add(high, sums[lane]));
        // With equal bounds every kept value is the bound, and the numbers of kept lows and highs overlap.
        averages[lane] = if low == high { low } else { sum / kept };
        finite &= averages[lane].is_finite();
    }
    if !finite {
        for lane in 0..PART {
            if !averages[lane].is_finite() {
                let column = rows.clone().map(|values| values[lane].to_f64());
                averages[lane] = scaled_mean(column, low[lane].to_f64(), high[lane].to_f64(), kept, cut);
            }
        }
    }
    averages
}

/// The kept mean where the sum is beyond f64: every value is divided first.
#[cold]
fn scaled_mean(column: impl Iterator<Item = f64>, low: f64, high: f64, kept: f64, cut: f64) -> f64 {
    let (mut mean, mut kept_low, mut kept_high) = (0.0, -cut, -cut);
    for value in column {
        if value <= low {
            kept_low += 1.0;
        } else if value >= high {
            kept_high += 1.0;
        } else {
            mean += value / kept;
        }
    }
    mean + low / kept * kept_low + high / kept * kept_high
}

#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn as_f64(rows: usize) -> f64 {
    rows as f64
}

/// The first row of the tile that is not finite.
#[cold]
fn locate<T: Element>(rows: &[&[T]], tile: Range<usize>) -> RowsError {
    rows.iter()
        .enumerate()
        .find_map(|(row, slice)| {
            let within = slice[tile.clone()].iter().position(|value| !value.is_finite())?;
            Some(RowsError::NonFinite { row, coordinate: tile.start + within })
        })
        .expect("called only after the tile was found not finite")
}

#[cfg(test)]
mod tests;
