//! The kernels: norm, truncation, exact energy, addition.

/// What updates are made of: f32 or f64.
pub trait Coordinate: Copy + Into<f64> + Send + Sync + sealed::Sealed + 'static {}

impl Coordinate for f32 {}
impl Coordinate for f64 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// ‖values‖ = norm·2^exponent in a fixed order of additions; `None` if a value is not finite.
pub(super) fn norm<T: Coordinate>(values: &[T]) -> Option<(f64, i32)> {
    let plain = sum_of_squares(values, 1.0);
    // Squares of f32 stay far inside; those of f64 may leave the range at either end.
    if plain.is_finite() && (plain > 1e-280 || size_of::<T>() == 4) {
        return Some((plain.sqrt(), 0));
    }
    let largest = values.iter().fold(0.0_f64, |largest, value| {
        let size = (*value).into().abs();
        // NaN wins: max would drop it.
        if size > largest || size.is_nan() { size } else { largest }
    });
    if values.iter().any(|value| !(*value).into().is_finite()) {
        return None;
    }
    if largest == 0.0 {
        return Some((0.0, 0));
    }
    // The largest becomes a number near 1.
    let exponent = (((largest.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(-1000);
    Some((sum_of_squares(values, power_of_two(-exponent)).sqrt(), exponent))
}

/// 2^exponent, 0 or ∞ beyond the range.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2)
}

/// Σq² of q = trunc(value·factor).
pub(super) fn energy<T: Coordinate>(values: &[T], factor: f64) -> u128 {
    let mut total = 0;
    for values in values.chunks(BLOCK) {
        let mut energy = Energy::default();
        for value in values {
            energy.add(steps(*value, factor));
        }
        total += energy.total();
    }
    total
}

/// The same, and adds q to `sums`.
pub(super) fn add<T: Coordinate>(values: &[T], factor: f64, sums: &mut [i64]) -> u128 {
    let mut total = 0;
    for (values, sums) in values.chunks(BLOCK).zip(sums.chunks_mut(BLOCK)) {
        let mut energy = Energy::default();
        for (value, sum) in values.iter().zip(sums) {
            let steps = steps(*value, factor);
            energy.add(steps);
            // The grid bounds contributions and steps such that no sum leaves the range; one that is about to be undone
            // may, and wraps back.
            *sum = sum.wrapping_add(i64::from(steps));
        }
        total += energy.total();
    }
    total
}

/// Undoes [`add`].
pub(super) fn subtract<T: Coordinate>(values: &[T], factor: f64, sums: &mut [i64]) {
    for (value, sum) in values.iter().zip(sums) {
        *sum = sum.wrapping_sub(i64::from(steps(*value, factor)));
    }
}

/// Values between two additions to the u128 total.
const BLOCK: usize = 4096;

/// Squares in two halves: 2³² of them fit.
#[derive(Default)]
struct Energy {
    low: u64,
    high: u64,
}

impl Energy {
    #[inline(always)]
    fn add(&mut self, steps: i32) {
        let size = u64::from(steps.unsigned_abs());
        let square = size * size;
        self.low += square & 0xffff_ffff;
        self.high += square >> 32;
    }

    fn total(&self) -> u128 {
        (u128::from(self.high) << 32) + u128::from(self.low)
    }
}

/// trunc(value·factor), at most 31 bits: beyond them the conversion saturates, which lowers the norm too.
#[inline(always)]
fn steps<T: Coordinate>(value: T, factor: f64) -> i32 {
    (value.into() * factor) as i32
}

/// Σ(value·scale)² over eight interleaved partial sums.
fn sum_of_squares<T: Coordinate>(values: &[T], scale: f64) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            let value = (*value).into() * scale;
            *sum += value * value;
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        let value = (*value).into() * scale;
        *sum += value * value;
    }
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}
