//! The averages, once the bounds are known.

use super::lanes::{LANES, Lanes};
use super::window::Window;
use crate::element::Element;

/// Lanes whose sums are kept in registers while going through the rows.
pub(super) const PART: usize = 16;

/// The average of two values; exact where it does not round, and never beyond them.
#[inline(always)]
pub(super) fn middle<T: Element>(Lanes(low): &Lanes<T>, Lanes(high): &Lanes<T>) -> [f64; LANES] {
    let mut averages = [0.0; LANES];
    for lane in 0..LANES {
        averages[lane] = between(low[lane].to_f64(), high[lane].to_f64());
    }
    averages
}

#[inline(always)]
pub(super) fn between(low: f64, high: f64) -> f64 {
    let sum = low + high;
    if sum.is_finite() { sum * 0.5 } else { low * 0.5 + high * 0.5 }
}

/// The mean of the `kept` values of the window; when told to `COUNT`, per row the lanes outside it.
#[inline(always)]
pub(super) fn kept_mean<T: Element, const COUNT: bool>(
    tile: &[Lanes<T>],
    window: &Window<T>,
    kept: usize,
    outside: &mut [[u32; PART]],
) -> [f64; LANES] {
    let mut averages = [0.0; LANES];
    for (part, averages) in averages.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
        let rows = tile.iter().map(|Lanes(lanes)| &lanes.as_chunks::<PART>().0[part]);
        let low = &window.low.0.as_chunks::<PART>().0[part];
        let high = &window.high.0.as_chunks::<PART>().0[part];
        let below = &window.below.as_chunks::<PART>().0[part];
        *averages = kept_mean_of_part::<T, COUNT>(rows, low, high, below, kept, outside);
    }
    averages
}

#[inline(always)]
fn kept_mean_of_part<'a, T: Element, const COUNT: bool>(
    rows: impl Iterator<Item = &'a [T; PART]> + Clone,
    low: &[T; PART],
    high: &[T; PART],
    below: &[f64; PART],
    kept: usize,
    outside: &mut [[u32; PART]],
) -> [f64; PART] {
    let mut sums = [0.0_f64; PART];
    let mut above_low = [0_u32; PART];
    let mut below_high = [0_u32; PART];
    let mut count = 0;
    for values in rows.clone() {
        let mut inside = [T::ZERO; PART];
        for lane in 0..PART {
            let value = values[lane];
            let (above, under) = (value > low[lane], value < high[lane]);
            inside[lane] = if above & under { value } else { T::ZERO };
            above_low[lane] += u32::from(above);
            below_high[lane] += u32::from(under);
        }
        // Apart from the loop above, so that the counts are added in as many lanes as the type allows.
        for lane in 0..PART {
            sums[lane] += inside[lane].to_f64();
        }
        if COUNT {
            let outside = &mut outside[count];
            for lane in 0..PART {
                outside[lane] += u32::from((values[lane] < low[lane]) | (values[lane] > high[lane]));
            }
        }
        count += 1;
    }
    let kept = as_f64(kept);
    let count = as_f64(count);
    let cut = count - kept;
    let mut averages = [0.0; PART];
    let mut finite = true;
    for lane in 0..PART {
        let (low, high) = (low[lane].to_f64(), high[lane].to_f64());
        // Of the values not above the low bound some are cut, the rest are the bound itself; so at the top.
        let kept_low = count - f64::from(above_low[lane]) - below[lane];
        let kept_high = count - f64::from(below_high[lane]) - (cut - below[lane]);
        let sum = kept_low.mul_add(low, kept_high.mul_add(high, sums[lane]));
        // With equal bounds every kept value is the bound, and the numbers of kept lows and highs overlap.
        averages[lane] = if low == high { low } else { sum / kept };
        finite &= averages[lane].is_finite();
    }
    if !finite {
        for lane in 0..PART {
            if !averages[lane].is_finite() {
                let column = rows.clone().map(|values| values[lane].to_f64());
                let (low, high) = (low[lane].to_f64(), high[lane].to_f64());
                averages[lane] = scaled_mean(column, low, high, kept, (below[lane], cut - below[lane]));
            }
        }
    }
    averages
}

/// The kept mean where the sum is beyond f64: every value is divided first.
#[cold]
fn scaled_mean(column: impl Iterator<Item = f64>, low: f64, high: f64, kept: f64, cut: (f64, f64)) -> f64 {
    let (mut mean, mut kept_low, mut kept_high) = (0.0, -cut.0, -cut.1);
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
pub(super) fn as_f64(rows: usize) -> f64 {
    rows as f64
}
