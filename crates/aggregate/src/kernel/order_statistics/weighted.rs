//! Order statistics of weighted values.

use super::lanes::{LANES, Lanes};
use super::mean::{PART, between};
use crate::element::Element;

/// The rows that count, their weights, and the weight to be reached from an end.
#[derive(Clone, Debug)]
pub(super) struct Masses {
    pub(super) rows: Vec<usize>,
    weights: Vec<f64>,
    mass: f64,
}

/// An end of the sorted values, from which weight is cumulated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Bottom,
    Top,
}

impl Masses {
    pub(super) fn new(weights: &[f64], mass: f64) -> Self {
        let counted = || weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        Self { rows: counted().map(|(row, _)| row).collect(), weights: counted().map(|(_, w)| *w).collect(), mass }
    }

    /// The value at which the cumulative weight reaches half, from sorted values.
    #[inline(always)]
    pub(super) fn median<T: Element>(&self, tile: &[Lanes<T>], values: &[Lanes<T>]) -> [f64; LANES] {
        let half = self.mass;
        let median = self.bound(tile, values, End::Bottom, |weight| weight >= half);
        let weight = self.cumulate(tile, &median, End::Bottom);
        let mut next = values[values.len() - 1];
        for Lanes(values) in tile {
            for ((next, &value), &median) in next.0.iter_mut().zip(values).zip(&median.0) {
                *next = if (value > median) & (value < *next) { value } else { *next };
            }
        }
        let mut averages = [0.0; LANES];
        for lane in 0..LANES {
            let median = median.0[lane].to_f64();
            averages[lane] = if weight[lane] == half { between(median, next.0[lane].to_f64()) } else { median };
        }
        averages
    }

    /// The weighted mean between the bounds, from sorted values, and per row the lanes outside them.
    #[inline(always)]
    pub(super) fn trimmed_mean<T: Element>(
        &self,
        tile: &[Lanes<T>],
        values: &[Lanes<T>],
        outside: &mut [[u32; PART]],
    ) -> [f64; LANES] {
        let cut = self.mass;
        let low = self.bound(tile, values, End::Bottom, |weight| weight > cut);
        let high = self.bound(tile, values, End::Top, |weight| weight > cut);
        let up_to_low = self.cumulate(tile, &low, End::Bottom);
        let from_high = self.cumulate(tile, &high, End::Top);
        let (mut sums, mut masses) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for ((Lanes(values), &weight), outside) in tile.iter().zip(&self.weights).zip(outside) {
            let mut beyond = [0_u32; LANES];
            for lane in 0..LANES {
                let value = values[lane];
                let inside = (value > low.0[lane]) & (value < high.0[lane]);
                let kept = if inside { weight } else { 0.0 };
                sums[lane] = kept.mul_add(value.to_f64(), sums[lane]);
                masses[lane] += kept;
                beyond[lane] = u32::from((value < low.0[lane]) | (value > high.0[lane]));
            }
            for beyond in beyond.as_chunks::<PART>().0 {
                for (outside, beyond) in outside.iter_mut().zip(beyond) {
                    *outside += beyond;
                }
            }
        }
        let mut averages = [0.0; LANES];
        let mut finite = true;
        for lane in 0..LANES {
            let (low, high) = (low.0[lane].to_f64(), high.0[lane].to_f64());
            let (left_low, left_high) = (up_to_low[lane] - cut, from_high[lane] - cut);
            let sum = left_low.mul_add(low, left_high.mul_add(high, sums[lane]));
            masses[lane] += left_low + left_high;
            averages[lane] = if low >= high { low } else { sum / masses[lane] };
            finite &= averages[lane].is_finite();
        }
        if !finite {
            for lane in 0..LANES {
                if !averages[lane].is_finite() {
                    let column = tile.iter().map(|Lanes(values)| values[lane].to_f64());
                    let low = (low.0[lane].to_f64(), up_to_low[lane] - cut);
                    let high = (high.0[lane].to_f64(), from_high[lane] - cut);
                    averages[lane] = self.scaled_mean(column, low, high, masses[lane]);
                }
            }
        }
        averages
    }

    /// The weighted mean where the sum is beyond f64: every weight is divided first.
    #[cold]
    fn scaled_mean(&self, column: impl Iterator<Item = f64>, low: (f64, f64), high: (f64, f64), kept: f64) -> f64 {
        let inside = column.zip(&self.weights).filter(|(value, _)| *value > low.0 && *value < high.0);
        let sum = inside.fold(0.0, |sum, (value, weight)| (weight / kept).mul_add(value, sum));
        sum + low.1 / kept * low.0 + high.1 / kept * high.0
    }

    /// The first of the sorted values, from the given end, whose cumulative weight is `enough`.
    #[inline(always)]
    fn bound<T: Element>(
        &self,
        tile: &[Lanes<T>],
        values: &[Lanes<T>],
        end: End,
        enough: impl Fn(f64) -> bool,
    ) -> Lanes<T> {
        let last = values.len() - 1;
        // How far from the end, at least and at most.
        let (mut least, mut most) = ([0_usize; LANES], [last; LANES]);
        let value_at = |steps: &[usize; LANES]| {
            let mut pivot = Lanes([T::ZERO; LANES]);
            for (lane, (pivot, &steps)) in pivot.0.iter_mut().zip(steps).enumerate() {
                let rank = if end == End::Bottom { steps } else { last - steps };
                *pivot = values[rank].0[lane];
            }
            pivot
        };
        for _ in 0..values.len().next_power_of_two().ilog2() {
            let mut steps = [0; LANES];
            for lane in 0..LANES {
                steps[lane] = usize::midpoint(least[lane], most[lane]);
            }
            let weight = self.cumulate(tile, &value_at(&steps), end);
            for lane in 0..LANES {
                if enough(weight[lane]) {
                    most[lane] = steps[lane];
                } else {
                    least[lane] = most[lane].min(steps[lane] + 1);
                }
            }
        }
        value_at(&most)
    }

    /// The weight, summed in row order, of the values from the end up to the pivot.
    #[inline(always)]
    fn cumulate<T: Element>(&self, tile: &[Lanes<T>], pivot: &Lanes<T>, end: End) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for (Lanes(values), &weight) in tile.iter().zip(&self.weights) {
            for lane in 0..LANES {
                let within =
                    if end == End::Bottom { values[lane] <= pivot.0[lane] } else { values[lane] >= pivot.0[lane] };
                sums[lane] += if within { weight } else { 0.0 };
            }
        }
        sums
    }
}
