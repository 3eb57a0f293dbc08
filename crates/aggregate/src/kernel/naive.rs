//! Slow, obvious twins of the kernels, for tests only.

use crate::element::Element;
use crate::statistics::{packed_index, packed_len};

pub(super) fn first_non_finite<T: Element>(values: &[T]) -> Option<usize> {
    values.iter().position(|value| !value.is_finite())
}

pub(super) fn weighted_sum<T: Element>(rows: &[&[T]], weights: &[f64], divisor: f64) -> Vec<T> {
    (0..rows[0].len())
        .map(|c| {
            let mut sum = 0.0;
            for (row, weight) in rows.iter().zip(weights) {
                if *weight != 0.0 {
                    sum = weight.mul_add(row[c].to_f64(), sum);
                }
            }
            T::from_f64(sum / divisor)
        })
        .collect()
}

/// Squared distances of one block, packed; the eight sums of `pair_statistics` spelt out.
pub(super) fn distances<T: Element>(rows: &[&[T]]) -> Vec<f64> {
    let mut packed = vec![0.0; packed_len(rows.len())];
    for high in 0..=rows.len() {
        for low in 0..high {
            let mut sums = [0.0_f64; 8];
            for c in 0..rows[0].len() {
                let other = if high < rows.len() { rows[high][c].to_f64() } else { 0.0 };
                let difference = rows[low][c].to_f64() - other;
                sums[c % 8] = difference.mul_add(difference, sums[c % 8]);
            }
            let [a, b, c, d, e, f, g, h] = sums;
            packed[packed_index(low, high)] = ((a + e) + (c + g)) + ((b + f) + (d + h));
        }
    }
    packed
}

pub(super) fn mix<T: Element>(points: &[&[T]], coefficients: &[f64]) -> Vec<f64> {
    let mut mixed = Vec::new();
    for row in coefficients.chunks(points.len()) {
        for c in 0..points[0].len() {
            let mut sum = 0.0;
            for (point, coefficient) in points.iter().zip(row) {
                if *coefficient != 0.0 {
                    sum = coefficient.mul_add(point[c].to_f64(), sum);
                }
            }
            mixed.push(sum + 0.0);
        }
    }
    mixed
}

pub(super) fn sign_vote<T: Element>(rows: &[&[T]], weights: &[f64], divisor: f64, quorum: usize) -> Vec<T> {
    let mut result = weighted_sum(rows, weights, divisor);
    for (c, value) in result.iter_mut().enumerate() {
        let positive = rows.iter().filter(|row| row[c].to_f64() > 0.0).count();
        let negative = rows.iter().filter(|row| row[c].to_f64() < 0.0).count();
        if positive.abs_diff(negative) < quorum {
            *value = T::from_f64(-value.to_f64());
        }
    }
    result
}

pub(super) fn signs<T: Element>(rows: &[&[T]], selected: &[usize]) -> Vec<[u64; 3]> {
    let count = |row: &&[T]| {
        let mut counts = [0; 3];
        for &c in selected {
            let value = row[c].to_f64();
            counts[if value > 0.0 {
                0
            } else if value == 0.0 {
                1
            } else {
                2
            }] += 1;
        }
        counts
    };
    rows.iter().map(count).collect()
}

/// Values at ranks `low` and `high`, the mean of the values of rank low..=high, and per row how many of its values
/// are outside.
pub(super) struct Trimmed {
    pub(super) middle: Vec<f64>,
    pub(super) mean: Vec<f64>,
    pub(super) outside: Vec<u64>,
}

pub(super) fn trimmed<T: Element>(rows: &[&[T]], low: usize, high: usize) -> Trimmed {
    let mut result = Trimmed { middle: Vec::new(), mean: Vec::new(), outside: vec![0; rows.len()] };
    for c in 0..rows[0].len() {
        let column: Vec<f64> = rows.iter().map(|row| row[c].to_f64()).collect();
        let mut sorted = column.clone();
        sorted.sort_by(f64::total_cmp);
        let kept = &sorted[low..=high];
        result.middle.push((sorted[low] + sorted[high]) / 2.0);
        result.mean.push(kept.iter().sum::<f64>() / kept.len() as f64);
        for (row, value) in column.iter().enumerate() {
            result.outside[row] += u64::from(*value < sorted[low] || *value > sorted[high]);
        }
    }
    result
}
