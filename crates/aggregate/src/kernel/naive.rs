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
    pairs(rows, wide_sum)
}

/// The same for `near_pair_statistics`.
pub(super) fn near_distances<T: Element>(rows: &[&[T]]) -> Vec<f64> {
    pairs(rows, |pairs| {
        let narrow = if T::NARROW { narrow_sum(pairs) } else { f64::NAN };
        let trusted = narrow.is_finite() && narrow >= pairs.len() as f64 * 2.0_f64.powi(-120);
        if trusted { narrow } else { wide_sum(pairs) }
    })
}

fn pairs<T: Element>(rows: &[&[T]], sum: impl Fn(&[(T, T)]) -> f64) -> Vec<f64> {
    let mut packed = vec![0.0; packed_len(rows.len())];
    for high in 0..=rows.len() {
        for low in 0..high {
            let other = |c: usize| if high < rows.len() { rows[high][c] } else { T::ZERO };
            let pairs: Vec<(T, T)> = (0..rows[0].len()).map(|c| (rows[low][c], other(c))).collect();
            packed[packed_index(low, high)] = sum(&pairs);
        }
    }
    packed
}

fn wide_sum<T: Element>(pairs: &[(T, T)]) -> f64 {
    let mut sums = [0.0_f64; 8];
    for (c, (value, other)) in pairs.iter().enumerate() {
        let difference = value.to_f64() - other.to_f64();
        sums[c % 8] = difference.mul_add(difference, sums[c % 8]);
    }
    total(sums)
}

/// Squares in f32, added up in f32 over 256 coordinates.
fn narrow_sum<T: Element>(pairs: &[(T, T)]) -> f64 {
    let mut sums = [0.0_f64; 8];
    for tile in pairs.chunks(256) {
        let mut lanes = [0.0_f32; 16];
        for (c, (value, other)) in tile.iter().enumerate() {
            let difference = f32::of(*value) - f32::of(*other);
            lanes[c % 16] = difference.mul_add(difference, lanes[c % 16]);
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += f64::from(lanes[i]) + f64::from(lanes[i + 8]);
        }
    }
    total(sums)
}

fn total([a, b, c, d, e, f, g, h]: [f64; 8]) -> f64 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
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

/// What an order statistic makes of rows: one value per coordinate, and per row how many of its values are cut.
pub(super) struct Ordered<T> {
    pub(super) out: Vec<T>,
    pub(super) outside: Vec<u64>,
}

/// Applies to every coordinate a function from its values in row order and sorted to a value and the bounds outside
/// of which values are cut.
pub(super) fn ordered<T: Element>(rows: &[&[T]], function: impl Fn(&[f64], &[f64]) -> (f64, f64, f64)) -> Ordered<T> {
    let mut result = Ordered { out: Vec::new(), outside: vec![0; rows.len()] };
    for c in 0..rows[0].len() {
        let column: Vec<f64> = rows.iter().map(|row| row[c].to_f64()).collect();
        let mut sorted = column.clone();
        sorted.sort_by(f64::total_cmp);
        let (value, low, high) = function(&column, &sorted);
        result.out.push(T::from_f64(value));
        for (outside, value) in result.outside.iter_mut().zip(&column) {
            *outside += u64::from(*value < low || *value > high);
        }
    }
    result
}

/// The mean of `kept`, some successive values of the sorted column, with its first and last.
pub(super) fn kept_mean(column: &[f64], kept: &[f64]) -> (f64, f64, f64) {
    let (low, high) = (kept[0], kept[kept.len() - 1]);
    let count = |bound: f64| kept.iter().filter(|value| **value == bound).count() as f64;
    let inside: f64 = column.iter().filter(|value| **value > low && **value < high).fold(0.0, |sum, value| sum + value);
    let sum = count(low).mul_add(low, count(high).mul_add(high, inside));
    let mean = if low == high { low } else { sum / kept.len() as f64 };
    (mean, low, high)
}

/// The `keep` values nearest to the centre, sorted; of equally near ones the lower.
pub(super) fn nearest(sorted: &[f64], centre: f64, keep: usize) -> Vec<f64> {
    let mut nearest = sorted.to_vec();
    nearest.sort_by(|a, b| (a - centre).abs().total_cmp(&(b - centre).abs()).then(a.total_cmp(b)));
    nearest.truncate(keep);
    nearest.sort_by(f64::total_cmp);
    nearest
}

/// The sum, in row order, of the weights of the values that count.
fn weight_where(column: &[f64], weights: &[f64], counts: impl Fn(f64) -> bool) -> f64 {
    column.iter().zip(weights).filter(|(value, _)| counts(**value)).fold(0.0, |sum, (_, weight)| sum + weight)
}

pub(super) fn weighted_median(column: &[f64], weights: &[f64]) -> f64 {
    let half = weights.iter().fold(0.0, |sum, weight| sum + weight) / 2.0;
    let mut values: Vec<f64> =
        column.iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(value, _)| *value).collect();
    values.sort_by(f64::total_cmp);
    let reached = |bound: f64| weight_where(column, weights, |value| value <= bound);
    let median = values.iter().position(|value| reached(*value) >= half).unwrap();
    let next = values.iter().find(|value| **value > values[median]);
    match next {
        Some(next) if reached(values[median]) == half => (values[median] + next) / 2.0,
        _ => values[median],
    }
}

/// Walks in from both ends, taking weight off the values until `cut` is gone at each. Returns the weighted mean of
/// what is left, and the lowest and highest value left.
pub(super) fn weighted_trimmed_mean(column: &[f64], weights: &[f64], cut: f64) -> (f64, f64, f64) {
    let mut values: Vec<(f64, f64)> =
        column.iter().copied().zip(weights.iter().copied()).filter(|(_, weight)| *weight > 0.0).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    for _ in 0..2 {
        let mut gone = 0.0;
        for (_, weight) in &mut values {
            let taken = weight.min(cut - gone);
            *weight -= taken;
            gone += taken;
        }
        values.reverse();
    }
    values.retain(|(_, weight)| *weight > 1e-12);
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mean = values.iter().map(|(value, weight)| value * (weight / total)).sum();
    (mean, values[0].0, values[values.len() - 1].0)
}
