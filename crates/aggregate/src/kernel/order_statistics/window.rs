//! The values a mean keeps: a window of the sorted ones.

use super::lanes::{LANES, Lanes};
use super::mean::as_f64;
use crate::element::Element;

/// Magnitude beyond which differences are taken between halves, so that they cannot overflow.
const HUGE: f64 = f64::MAX / 4.0;

/// Per lane the lowest and the highest value kept, and how many values were cut below.
pub(super) struct Window<T> {
    pub(super) low: Lanes<T>,
    pub(super) high: Lanes<T>,
    pub(super) below: [f64; LANES],
}

impl<T: Element> Window<T> {
    /// Without the `cut` lowest and highest values.
    #[inline(always)]
    pub(super) fn trimmed(values: &[Lanes<T>], cut: usize) -> Self {
        Self { low: values[cut], high: values[values.len() - 1 - cut], below: [as_f64(cut); LANES] }
    }
}

/// The `keep` values nearest to the centre. Reads the values that can be at an end of the window.
///
/// The window moves up by one as long as the value it would gain is nearer than the one it would lose. Rounding keeps
/// the order of the differences, so it stops at the best place.
#[inline(always)]
pub(super) fn nearest<T: Element>(values: &[Lanes<T>], keep: usize, centre: &[f64; LANES]) -> Window<T> {
    let mut window = Window { low: values[0], high: values[keep - 1], below: [0.0; LANES] };
    let spare = values.len() - keep;
    let (lowest, highest) = (&values[0].0, &values[values.len() - 1].0);
    let (mut scales, mut scaled) = ([1.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        let largest = lowest[lane].to_f64().abs().max(highest[lane].to_f64().abs());
        scales[lane] = if largest > HUGE { 0.5 } else { 1.0 };
        scaled[lane] = centre[lane] * scales[lane];
    }
    for shift in 0..spare {
        let (lost, next, gained) = (&values[shift].0, &values[shift + 1].0, &values[shift + keep].0);
        for lane in 0..LANES {
            let below = scaled[lane] - lost[lane].to_f64() * scales[lane];
            let above = gained[lane].to_f64() * scales[lane] - scaled[lane];
            let moves = above < below;
            window.low.0[lane] = if moves { next[lane] } else { window.low.0[lane] };
            window.high.0[lane] = if moves { gained[lane] } else { window.high.0[lane] };
            window.below[lane] += if moves { 1.0 } else { 0.0 };
        }
    }
    window
}
