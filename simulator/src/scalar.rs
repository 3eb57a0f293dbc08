//! The number type of a workload, with arithmetic that does not depend on the system's mathematics library.
//!
//! `exp` and `ln` of the standard library call the platform's libm, whose last bits differ between systems. Studies
//! promise the same bits everywhere, so the few transcendental functions needed are built here from additions,
//! multiplications and bit operations, which IEEE 754 fixes exactly.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use testudo_aggregate::{Aggregate, AggregateError, Element, Inputs, Plan, Rows, Rule, aggregate_inputs, combine_unit};

/// A floating-point number a workload can compute in: `f32` for training, `f64` for reference trajectories.
pub trait Scalar:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// Additive identity.
    const ZERO: Self;
    /// Multiplicative identity.
    const ONE: Self;
    /// Exact conversion of a feature.
    fn from_f32(value: f32) -> Self;
    /// Nearest representable value.
    fn from_f64(value: f64) -> Self;
    /// Exact conversion.
    fn to_f64(self) -> f64;
    /// e to the power of `self`: the same bits on every platform; NaN stays NaN, underflow goes to zero.
    fn exp(self) -> Self;

    /// What `rule` makes of rows of this type: [`aggregate_inputs`].
    ///
    /// # Errors
    /// As [`aggregate_inputs`].
    fn aggregate(rule: &dyn Rule, inputs: &Inputs<'_, Self>) -> Result<Aggregate<Self>, AggregateError>;

    /// What a rule's `plan` makes of rows, extra rows behind them: [`combine_unit`].
    ///
    /// # Errors
    /// As [`combine_unit`].
    fn combine(rows: &[&[Self]], plan: &Plan, out: &mut [Self]) -> Result<(), AggregateError>;
}

fn combine<T: Element>(rows: &[&[T]], plan: &Plan, out: &mut [T]) -> Result<(), AggregateError> {
    combine_unit(&Rows::new(rows, 0)?, plan, out).map(|_| ())
}

/// 1/k! for k = 0, …, 13.
const EXP_TAYLOR: [f64; 14] = {
    let mut coefficients = [1.0; 14];
    let mut k = 1;
    while k < coefficients.len() {
        coefficients[k] = coefficients[k - 1] / k as f64;
        k += 1;
    }
    coefficients
};

impl Scalar for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn from_f32(value: f32) -> Self {
        value
    }

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn exp(self) -> Self {
        // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer without a library call.
        const ROUND: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        if self < -87.0 {
            return 0.0;
        }
        if self > 88.0 {
            return f32::INFINITY;
        }
        let power = (self * std::f32::consts::LOG2_E + ROUND) - ROUND;
        let r = (self - power * LN2_HIGH) - power * LN2_LOW;
        let tail = 1.0 / 720.0 + r * (1.0 / 5_040.0);
        let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * tail);
        let sum = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
        sum * f32::from_bits(((power as i32 + 127) as u32) << 23)
    }

    fn aggregate(rule: &dyn Rule, inputs: &Inputs<'_, Self>) -> Result<Aggregate<Self>, AggregateError> {
        aggregate_inputs(rule, inputs)
    }

    fn combine(rows: &[&[Self]], plan: &Plan, out: &mut [Self]) -> Result<(), AggregateError> {
        combine(rows, plan, out)
    }
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn exp(self) -> Self {
        // 1.5 * 2^52, as for f32.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        // The high part has trailing zero bits, so `power * LN2_HIGH` is exact.
        const LN2_HIGH: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
        const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
        if self < -708.0 {
            return 0.0;
        }
        if self > 709.0 {
            return f64::INFINITY;
        }
        let power = (self * std::f64::consts::LOG2_E + ROUND) - ROUND;
        let r = (self - power * LN2_HIGH) - power * LN2_LOW;
        // Taylor series: |r| <= ln(2)/2, so the term after r^13/13! is below 1e-17.
        let mut sum = 0.0;
        for coefficient in EXP_TAYLOR.iter().rev() {
            sum = sum * r + coefficient;
        }
        sum * f64::from_bits(((power as i64 + 1023) as u64) << 52)
    }

    fn aggregate(rule: &dyn Rule, inputs: &Inputs<'_, Self>) -> Result<Aggregate<Self>, AggregateError> {
        aggregate_inputs(rule, inputs)
    }

    fn combine(rows: &[&[Self]], plan: &Plan, out: &mut [Self]) -> Result<(), AggregateError> {
        combine(rows, plan, out)
    }
}

/// Natural logarithm of a positive, normal number, the same bits on every platform.
///
/// Zero gives minus infinity; negative numbers and NaN give NaN; positive infinity stays.
pub fn ln(value: f64) -> f64 {
    if value == 0.0 {
        return f64::NEG_INFINITY;
    }
    if value.is_nan() || value < 0.0 {
        return f64::NAN;
    }
    if value == f64::INFINITY {
        return value;
    }
    if value < f64::MIN_POSITIVE {
        // Denormal: move it into the normal range first.
        return ln(value * 18_014_398_509_481_984.0) - 54.0 * std::f64::consts::LN_2;
    }
    let bits = value.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh(s) with s = (m-1)/(m+1), |s| <= 0.172: the term after s^23/23 is below 1e-19.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in (1..=23_u32).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_of_f64_agrees_with_the_library_to_a_few_units_in_the_last_place() {
        for step in -7_000..7_000 {
            let x = f64::from(step) * 0.1;
            let expected = x.exp();
            let actual = Scalar::exp(x);
            assert!(
                (actual - expected).abs() <= 1e-15 * expected * (1.0 + x.abs() / 300.0),
                "{x}: {actual} {expected}"
            );
        }
    }

    #[test]
    fn exp_of_f32_agrees_with_the_library_to_a_few_units_in_the_last_place() {
        for step in -8_600..8_800 {
            let x = step as f32 * 0.01;
            let expected = f64::from(x).exp();
            let actual = f64::from(Scalar::exp(x));
            assert!((actual - expected).abs() <= 4e-7 * expected, "{x}: {actual} {expected}");
        }
    }

    #[test]
    fn exp_keeps_nan_and_saturates_at_both_ends() {
        assert!(Scalar::exp(f32::NAN).is_nan());
        assert!(Scalar::exp(f64::NAN).is_nan());
        assert_eq!(Scalar::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Scalar::exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(Scalar::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(Scalar::exp(1e9_f64), f64::INFINITY);
        assert_eq!(Scalar::exp(0.0_f32), 1.0);
    }

    #[test]
    fn ln_agrees_with_the_library() {
        for step in 1..20_000 {
            let x = f64::from(step) * 0.01;
            assert!((ln(x) - x.ln()).abs() <= 1e-15 * (1.0 + x.ln().abs()), "{x}");
        }
        for x in [1e-310, 5e-324, f64::MIN_POSITIVE, 1e300, f64::MAX] {
            assert!((ln(x) - x.ln()).abs() <= 1e-12, "{x}");
        }
    }

    #[test]
    fn ln_of_values_without_a_logarithm_is_defined() {
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!(ln(-1.0).is_nan());
        assert!(ln(f64::NAN).is_nan());
        assert_eq!(ln(f64::INFINITY), f64::INFINITY);
    }
}
