//! One pair at a time in f64, with the bits of the tiled sums: for pairs whose squares leave the range of f32.

use super::squares::{SUMS, Sums};
use super::{fold, packed_index};
use crate::element::Element;
use crate::kernel::dispatch::Kernel;
use std::ops::Range;

/// Least mean square of a difference whose sum in f32 is trusted, 2^−120: what squares below the range of f32 lose, at most
/// 2^−150 each, is then less than 2^−30 of it.
const LEAST_MEAN_SQUARE: f64 = f64::from_bits((1023 - 120) << 52);

/// Replaces the packed squared distances that f32 cannot be trusted with. `packed` is over the coordinates `block`.
pub(super) struct Exact<'a, T> {
    pub(super) rows: &'a [&'a [T]],
    pub(super) block: Range<usize>,
    pub(super) packed: &'a mut [f64],
}

impl<T: Element> Kernel for Exact<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (count, least) = (self.rows.len(), LEAST_MEAN_SQUARE * self.block.len() as f64);
        for row in 0..count {
            // The partner after the last row is the origin.
            for partner in row + 1..=count {
                let sum = &mut self.packed[packed_index(row, partner)];
                if sum.is_finite() && *sum >= least {
                    continue;
                }
                let values = &self.rows[row][self.block.clone()];
                let others = self.rows.get(partner).map(|other| &other[self.block.clone()]);
                *sum = match others {
                    // Copies are common, and nothing was lost.
                    Some(others) if *sum == 0.0 && values == others => continue,
                    Some(others) => fold(&sums_between(values, others)),
                    None => fold(&sums_from_origin(values)),
                };
            }
        }
    }
}

#[inline(always)]
fn sums_between<T: Element>(values: &[T], others: &[T]) -> Sums {
    let mut sums = [0.0; SUMS];
    let ((values, rest), (others, remaining)) = (values.as_chunks::<SUMS>(), others.as_chunks::<SUMS>());
    for (values, others) in values.iter().zip(others) {
        for lane in 0..SUMS {
            let difference = values[lane].to_f64() - others[lane].to_f64();
            sums[lane] = difference.mul_add(difference, sums[lane]);
        }
    }
    for ((sum, value), other) in sums.iter_mut().zip(rest).zip(remaining) {
        let difference = value.to_f64() - other.to_f64();
        *sum = difference.mul_add(difference, *sum);
    }
    sums
}

#[inline(always)]
fn sums_from_origin<T: Element>(values: &[T]) -> Sums {
    let mut sums = [0.0; SUMS];
    let (values, rest) = values.as_chunks::<SUMS>();
    for values in values {
        for lane in 0..SUMS {
            sums[lane] = values[lane].to_f64().mul_add(values[lane].to_f64(), sums[lane]);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum = value.to_f64().mul_add(value.to_f64(), *sum);
    }
    sums
}
