//! Trimmed means and medians of honest rows and f equal rows: the honest values are sorted once, and every question is
//! one pass over them.

use testudo_aggregate::{Combine, Even, Plan};

use crate::scalar::Scalar;

/// Coordinates handled side by side.
const LANES: usize = 8;

/// Most honest values that are sorted: beyond, the sorted copy costs more memory than it saves time.
const MOST_VALUES: usize = 1 << 22;

/// Honest values sorted per coordinate, and the values that are cut at each end.
pub(super) struct Ordered<S> {
    /// Per block of coordinates the honest values in increasing order.
    blocks: Vec<Vec<[S; LANES]>>,
    /// Per rank among the honest values: whether it is kept if the forged value is above it, or not above it.
    kept: Vec<(bool, bool)>,
    /// Values kept.
    count: f64,
}

impl<S: Scalar> Ordered<S> {
    /// `None` unless the plan is a plain trimmed mean or median of all rows.
    pub(super) fn new(plan: &Plan, honest: &[Vec<S>], copies: usize) -> Option<Self> {
        let rows = honest.len() + copies;
        let cut = match plan.combine {
            Combine::TrimmedMean { cut } => cut,
            Combine::Median { even: Even::Average } => rows.saturating_sub(1) / 2,
            _ => return None,
        };
        let dimension = honest.first()?.len();
        let plain = plan.mixing.is_none() && plan.among.is_none() && plan.degenerate.is_none();
        if !plain || honest.len().saturating_mul(dimension) > MOST_VALUES {
            return None;
        }
        let within = |rank: usize| (cut..rows - cut).contains(&rank);
        let kept = (0..honest.len()).map(|rank| (within(rank), within(rank + copies))).collect();
        let network = network(honest.len());
        let block = |from: usize| {
            let mut values = vec![[S::ZERO; LANES]; honest.len()];
            let to = (from + LANES).min(dimension);
            for (values, row) in values.iter_mut().zip(honest) {
                values[..to - from].copy_from_slice(&row[from..to]);
            }
            for &(low, high) in &network {
                let (a, b) = (values[low], values[high]);
                for lane in 0..LANES {
                    values[low][lane] = if b[lane] < a[lane] { b[lane] } else { a[lane] };
                    values[high][lane] = if b[lane] < a[lane] { a[lane] } else { b[lane] };
                }
            }
            values
        };
        let blocks = (0..dimension).step_by(LANES).map(block).collect();
        Some(Self { blocks, kept, count: (rows - 2 * cut) as f64 })
    }

    /// The aggregate when every forged row is `forged`.
    pub(super) fn aggregate(&self, forged: &[f64]) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.blocks.len() * LANES);
        for (block, forged) in self.blocks.iter().zip(forged.chunks(LANES)) {
            let mut own = [0.0; LANES];
            own[..forged.len()].copy_from_slice(forged);
            let (mut sums, mut counts) = ([0.0; LANES], [0.0; LANES]);
            for (values, &(if_below, if_not)) in block.iter().zip(&self.kept) {
                let (if_below, if_not) = (f64::from(u8::from(if_below)), f64::from(u8::from(if_not)));
                for lane in 0..LANES {
                    let value = values[lane].to_f64();
                    let share = if value < own[lane] { if_below } else { if_not };
                    sums[lane] += share * value;
                    counts[lane] += share;
                }
            }
            // Whatever is kept beside the honest values is the forged one.
            out.extend(
                (0..forged.len()).map(|lane| (sums[lane] + (self.count - counts[lane]) * own[lane]) / self.count),
            );
        }
        out
    }
}

/// Compared pairs that sort `count` values (Batcher 1968, odd-even merge sort).
fn network(count: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut run = 1;
    while run < count {
        let mut step = run;
        while step >= 1 {
            for from in (step % run..count.saturating_sub(step)).step_by(2 * step) {
                for low in from..(from + step).min(count - step) {
                    if low / (2 * run) == (low + step) / (2 * run) {
                        pairs.push((low, low + step));
                    }
                }
            }
            step /= 2;
        }
        run *= 2;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_sorts_any_number_of_values() {
        for count in 0..24_usize {
            let network = network(count);
            for seed in 0..50_usize {
                let mut values: Vec<usize> = (0..count).map(|i| (i * (2 * seed + 1) + seed * seed) % 17).collect();
                for &(low, high) in &network {
                    if values[high] < values[low] {
                        values.swap(low, high);
                    }
                }
                assert!(values.is_sorted(), "{count}: {values:?}");
            }
        }
    }
}
