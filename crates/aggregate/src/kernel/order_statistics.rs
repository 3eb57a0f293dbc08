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

type Lanes<T> = [T; LANES];

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
        let mut values: Vec<Lanes<T>> = vec![[T::ZERO; LANES]; rows.len()];
        let mut column = Vec::with_capacity(if matches!(order.finder, Finder::Selection) { rows.len() } else { 0 });
        let mut outside = vec![0; if order.average == Average::Kept { rows.len() } else { 0 }];
        for (tile, out) in out.chunks_mut(LANES).enumerate() {
            let start = range.start + tile * LANES;
            let tile = start..start + out.len();
            if !load_all(rows, tile.clone(), &mut values) {
                return Err(locate(rows, tile));
            }
            let (low, high) = match &order.finder {
                Finder::Network(network) => {
                    exchange_all(network, &mut values);
                    (values[order.low], values[order.high])
                }
                Finder::Selection => select_all(&values, order.low, order.high, &mut column, tile.len()),
            };
            let averages = match order.average {
                Average::Bounds => middle(&low, &high),
                Average::Kept => kept_mean(order, rows, tile, &low, &high, &mut outside),
            };
            for (value, average) in out.iter_mut().zip(averages) {
                *value = T::from_f64(average);
            }
        }
        Ok(outside)
    }
}

/// Loads a tile of every row; says whether all values are finite.
#[inline(always)]
fn load_all<T: Element>(rows: &[&[T]], tile: Range<usize>, values: &mut [Lanes<T>]) -> bool {
    // Zero times a finite value is zero; times anything else, NaN, which stays.
    let mut poison = [T::ZERO; LANES];
    for (row, lanes) in rows.iter().zip(values) {
        *lanes = load(row, tile.clone());
        for lane in 0..LANES {
            poison[lane] = poison[lane] + lanes[lane] * T::ZERO;
        }
    }
    let mut finite = true;
    for value in poison {
        finite &= value.is_finite();
    }
    finite
}

/// One row's tile; lanes past a short tile are zero.
#[inline(always)]
fn load<T: Element>(row: &[T], tile: Range<usize>) -> Lanes<T> {
    let slice = &row[tile];
    if let Ok(lanes) = slice.try_into() {
        return lanes;
    }
    let mut lanes = [T::ZERO; LANES];
    lanes[..slice.len()].copy_from_slice(slice);
    lanes
}

#[inline(always)]
fn exchange_all<T: Element>(network: &[Exchange], values: &mut [Lanes<T>]) {
    for exchange in network {
        let (a, b) = (values[exchange.low], values[exchange.high]);
        if exchange.keep != Keep::High {
            let low = &mut values[exchange.low];
            for lane in 0..LANES {
                low[lane] = if b[lane] < a[lane] { b[lane] } else { a[lane] };
            }
        }
        if exchange.keep != Keep::Low {
            let high = &mut values[exchange.high];
            for lane in 0..LANES {
                high[lane] = if b[lane] < a[lane] { a[lane] } else { b[lane] };
            }
        }
    }
}

#[inline(always)]
fn select_all<T: Element>(
    values: &[Lanes<T>],
    low: usize,
    high: usize,
    column: &mut Vec<T>,
    width: usize,
) -> (Lanes<T>, Lanes<T>) {
    let (mut lows, mut highs) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    for lane in 0..width {
        column.clear();
        column.extend(values.iter().map(|lanes| lanes[lane]));
        let (_, lowest, above) = column.select_nth_unstable_by(low, T::order);
        lows[lane] = *lowest;
        highs[lane] = if high == low { *lowest } else { *above.select_nth_unstable_by(high - low - 1, T::order).1 };
    }
    (lows, highs)
}

#[inline(always)]
fn middle<T: Element>(low: &Lanes<T>, high: &Lanes<T>) -> [f64; LANES] {
    let mut averages = [0.0; LANES];
    for lane in 0..LANES {
        let (low, high) = (low[lane].to_f64(), high[lane].to_f64());
        let sum = low + high;
        averages[lane] = if sum.is_finite() { sum * 0.5 } else { low * 0.5 + high * 0.5 };
    }
    averages
}

/// Rows are gone through once per this many lanes, so that the sums stay in registers.
const PART: usize = 8;

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn kept_mean<T: Element>(
    order: &OrderStatistics,
    rows: &[&[T]],
    tile: Range<usize>,
    low: &Lanes<T>,
    high: &Lanes<T>,
    outside: &mut [u64],
) -> [f64; LANES] {
    let width = tile.len();
    let mut averages = [0.0; LANES];
    let (lows, _) = low.as_chunks::<PART>();
    let (highs, _) = high.as_chunks::<PART>();
    let (parts, _) = averages.as_chunks_mut::<PART>();
    for (part, ((low, high), averages)) in lows.iter().zip(highs).zip(parts).enumerate() {
        let start = tile.start + part * PART;
        if part * PART >= width {
            break;
        }
        let end = tile.end.min(start + PART);
        let mut sums = [0.0_f64; PART];
        let mut inside = [0_u32; PART];
        let mut not_above_low = [0_u32; PART];
        for (row, outside) in rows.iter().zip(outside.iter_mut()) {
            let slice = &row[start..end];
            let values: [T; PART] = match slice.try_into() {
                Ok(values) => values,
                Err(_) => {
                    let mut values = [T::ZERO; PART];
                    values[..slice.len()].copy_from_slice(slice);
                    values
                }
            };
            let mut cut = 0_u32;
            for lane in 0..PART {
                let value = values[lane];
                let within = value > low[lane] && value < high[lane];
                sums[lane] += if within { value.to_f64() } else { 0.0 };
                inside[lane] += u32::from(within);
                not_above_low[lane] += u32::from(value <= low[lane]);
                cut += u32::from(value < low[lane]) + u32::from(value > high[lane]);
            }
            *outside += u64::from(cut);
        }
        for lane in 0..PART {
            let (low, high) = (low[lane].to_f64(), high[lane].to_f64());
            if low == high {
                averages[lane] = low;
                continue;
            }
            let kept_low = f64::from(not_above_low[lane]) - order.low as f64;
            let not_below_high = order.rows as f64 - f64::from(inside[lane]) - f64::from(not_above_low[lane]);
            let kept_high = not_below_high - order.low as f64;
            let kept = order.rows as f64 - 2.0 * order.low as f64;
            let sum = kept_low.mul_add(low, kept_high.mul_add(high, sums[lane]));
            averages[lane] = if sum.is_finite() { sum / kept } else { scaled_mean(rows, start + lane, low, high, kept) };
        }
    }
    averages
}

/// The kept mean where the sum is beyond f64: every value is divided first.
#[cold]
fn scaled_mean<T: Element>(rows: &[&[T]], coordinate: usize, low: f64, high: f64, kept: f64) -> f64 {
    let mut mean = 0.0;
    let (mut inside, mut not_above_low) = (0.0, 0.0);
    for row in rows {
        let value = row[coordinate].to_f64();
        if value > low && value < high {
            mean += value / kept;
            inside += 1.0;
        }
        if value <= low {
            not_above_low += 1.0;
        }
    }
    let rows = count(rows.len());
    let cut = (rows - kept) / 2.0;
    let (kept_low, kept_high) = (not_above_low - cut, rows - inside - not_above_low - cut);
    mean + low / kept * kept_low + high / kept * kept_high
}

#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn count(rows: usize) -> f64 {
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
