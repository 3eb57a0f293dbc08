//! Numbers of about 106 bits: unevaluated sums of two f64 (Dekker 1971; Knuth, TAOCP 2, 4.2.2).
//!
//! Every operation has a relative error below 2⁻¹⁰⁰, the functions below 2⁻⁹⁰. What is reported goes through
//! [`Wide::upper`], whose margin of 2⁻⁵⁰ covers any chain of them that does not cancel more than 40 bits.

use std::{
    cmp::Ordering,
    ops::{Add, Div, Mul, Neg, Sub},
};

/// `high + low`, where `high` is the f64 next to the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wide {
    high: f64,
    low: f64,
}

impl Wide {
    pub(crate) const ZERO: Self = Self { high: 0.0, low: 0.0 };
    pub(crate) const ONE: Self = Self { high: 1.0, low: 0.0 };
    pub(crate) const INFINITY: Self = Self { high: f64::INFINITY, low: 0.0 };
    /// ln 2.
    const LN_2: Self = Self { high: std::f64::consts::LN_2, low: 2.319_046_813_846_299_6e-17 };
    /// π.
    pub(crate) const PI: Self = Self { high: std::f64::consts::PI, low: 1.224_646_799_147_353_2e-16 };

    /// The f64 next to the value.
    pub(crate) fn nearest(self) -> f64 {
        self.high
    }

    /// An f64 above the value, whatever the rounding errors so far: larger by 2⁻⁵⁰ of it.
    pub(crate) fn upper(self) -> f64 {
        // 0 only arises exactly: from zeros, not from rounding.
        if !self.high.is_finite() || self.high == 0.0 {
            return self.high;
        }
        (self.high + self.high.abs() * 2_f64.powi(-50)).next_up()
    }

    pub(crate) fn is_finite(self) -> bool {
        self.high.is_finite()
    }

    pub(crate) fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    pub(crate) fn min(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    /// Times 2^`power`, exact unless the result leaves the range of f64.
    pub(crate) fn scale(self, power: i32) -> Self {
        // Two steps: a power of two on its own may be out of range where the product is not.
        let half = power / 2;
        let (first, second) = (2_f64.powi(half), 2_f64.powi(power - half));
        Self { high: self.high * first * second, low: self.low * first * second }
    }

    /// The square root; 0 for what is not positive.
    pub(crate) fn sqrt(self) -> Self {
        if self.high <= 0.0 {
            return Self::ZERO;
        }
        if !self.is_finite() {
            return self;
        }
        // One Newton step from the 53-bit root doubles the correct bits.
        let root = Self::from(self.high.sqrt());
        root + (self - root * root) / (root + root)
    }

    /// e to the power of this.
    pub(crate) fn exp(self) -> Self {
        if self.high > 709.0 {
            return Self::INFINITY;
        }
        if self.high < -700.0 {
            return if self.high < -745.0 {
                Self::ZERO
            } else {
                (self + Self::from(64.0)).exp() * Self::from(-64.0).exp()
            };
        }
        let power = (self.high / std::f64::consts::LN_2).round_ties_even();
        let rest = self - Self::LN_2 * Self::from(power);
        // |power| ≤ 1024.
        (rest.exp_m1_small() + Self::ONE).scale(power as i32)
    }

    /// e to the power of this, less 1, without cancellation near 0.
    pub(crate) fn exp_m1(self) -> Self {
        if self.high.abs() < 0.5 { self.exp_m1_small() } else { self.exp() - Self::ONE }
    }

    /// The natural logarithm; −∞ for 0.
    pub(crate) fn ln(self) -> Self {
        if self.high <= 0.0 {
            return Self { high: f64::NEG_INFINITY, low: 0.0 };
        }
        if !self.is_finite() {
            return self;
        }
        let mut number = self;
        let mut power = 0_i32;
        if number.high < f64::MIN_POSITIVE {
            number = number.scale(128);
            power = -128;
        }
        let exponent = ((number.high.to_bits() >> 52) & 0x7ff) as i32 - 1022;
        number = number.scale(-exponent);
        power += exponent;
        if number.high < std::f64::consts::FRAC_1_SQRT_2 {
            number = number.scale(1);
            power -= 1;
        }
        // Now 0.7 ≤ number < 1.42. A Newton step on exp from the 53-bit logarithm.
        let guess = Self::from(super::fast::ln(number.high));
        let logarithm = guess + (number * (-guess).exp() - Self::ONE).ln_1p_small();
        logarithm + Self::LN_2 * Self::from(f64::from(power))
    }

    /// The natural logarithm of 1 plus this, without cancellation near 0.
    pub(crate) fn ln_1p(self) -> Self {
        if self.high.abs() < 0.05 { self.ln_1p_small() } else { (self + Self::ONE).ln() }
    }

    /// exp − 1 for |self| ≤ 0.5: Taylor at a 512th, then (1+s)² − 1 = 2s + s² nine times.
    fn exp_m1_small(self) -> Self {
        let small = self.scale(-9);
        // |small| < 2⁻¹⁰: the first term left out is below 2⁻¹²⁰ of the sum.
        let mut sum = Self::ONE;
        for divisor in (2..=10_u32).rev() {
            sum = Self::ONE + small * sum / Self::from(f64::from(divisor));
        }
        let mut result = small * sum;
        for _ in 0..9 {
            result = result.scale(1) + result * result;
        }
        result
    }

    /// ln(1+x) = 2 artanh(x/(2+x)) for |x| < 0.05.
    fn ln_1p_small(self) -> Self {
        let ratio = self / (self + Self::from(2.0));
        let square = ratio * ratio;
        // square < 7·10⁻⁴: eleven terms leave less than 2⁻¹¹⁶.
        let mut sum = Self::ZERO;
        for odd in (0..11_u32).rev().map(|index| 2 * index + 1) {
            sum = sum * square + Self::ONE / Self::from(f64::from(odd));
        }
        (ratio * sum).scale(1)
    }
}

impl From<f64> for Wide {
    fn from(value: f64) -> Self {
        Self { high: value, low: 0.0 }
    }
}

impl From<u64> for Wide {
    fn from(value: u64) -> Self {
        // The rounded f64 may be 2⁶⁴, so the difference is taken in i128.
        let high = value as f64;
        Self { high, low: (i128::from(value) - high as i128) as f64 }
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.high.partial_cmp(&other.high) {
            Some(Ordering::Equal) => self.low.partial_cmp(&other.low),
            order => order,
        }
    }
}

impl Neg for Wide {
    type Output = Self;
    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

impl Add for Wide {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let (sum, error) = two_sum(self.high, other.high);
        if !sum.is_finite() {
            return Self { high: sum, low: 0.0 };
        }
        let (low, low_error) = two_sum(self.low, other.low);
        let (sum, error) = quick_two_sum(sum, error + low);
        let (high, low) = quick_two_sum(sum, error + low_error);
        Self { high, low }
    }
}

impl Sub for Wide {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Wide {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let (product, error) = two_product(self.high, other.high);
        if !product.is_finite() || product == 0.0 {
            return Self { high: product, low: 0.0 };
        }
        let (high, low) = quick_two_sum(product, error + (self.high * other.low + self.low * other.high));
        Self { high, low }
    }
}

impl Div for Wide {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let first = self.high / other.high;
        if !first.is_finite() || first == 0.0 || !other.is_finite() {
            return Self { high: first, low: 0.0 };
        }
        let rest = self - other * Self::from(first);
        let second = rest.high / other.high;
        let rest = rest - other * Self::from(second);
        let third = rest.high / other.high;
        let (high, low) = quick_two_sum(first, second);
        Self { high, low } + Self::from(third)
    }
}

/// a + b and its rounding error.
fn two_sum(left: f64, right: f64) -> (f64, f64) {
    let sum = left + right;
    let back = sum - left;
    (sum, (left - (sum - back)) + (right - back))
}

/// The same where |left| ≥ |right|.
fn quick_two_sum(left: f64, right: f64) -> (f64, f64) {
    let sum = left + right;
    (sum, right - (sum - left))
}

/// a × b and its rounding error, from halves of 26 bits: without FMA, which stock flags would call as a function.
fn two_product(left: f64, right: f64) -> (f64, f64) {
    let product = left * right;
    // Beyond 2⁹⁹⁰ the split itself would overflow; nothing is computed that close to the end of the range.
    if !product.is_finite() || left.abs() > 2_f64.powi(990) || right.abs() > 2_f64.powi(990) {
        return (product, 0.0);
    }
    let (left_high, left_low) = split(left);
    let (right_high, right_low) = split(right);
    let error =
        ((left_high * right_high - product) + left_high * right_low + left_low * right_high) + left_low * right_low;
    (product, error)
}

fn split(value: f64) -> (f64, f64) {
    let scaled = value * 134_217_729.0;
    let high = scaled - (scaled - value);
    (high, value - high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dashu::float::{FBig, round::mode::HalfEven};

    type Big = FBig<HalfEven, 2>;

    fn big(value: Wide) -> Big {
        let exact = |part: f64| Big::try_from(part).unwrap().with_precision(300).value();
        exact(value.high) + exact(value.low)
    }

    fn assert_close(name: &str, got: Wide, expected: &Big) {
        let difference = (big(got) - expected).to_f64().value().abs();
        let allowed = expected.to_f64().value().abs() * 2_f64.powi(-90);
        assert!(difference <= allowed, "{name}: {difference:e} > {allowed:e}");
    }

    #[test]
    fn functions_agree_with_300_bits_to_90() {
        let mut value = 1e-9;
        while value < 600.0 {
            for signed in [value, -value] {
                let wide = Wide::from(signed) / Wide::from(3.0);
                let exact = big(wide);
                assert_close("exp", wide.exp(), &exact.exp());
                assert_close("exp_m1", wide.exp_m1(), &exact.exp_m1());
                if signed > 0.0 {
                    assert_close("ln", wide.ln(), &exact.ln());
                    assert_close("sqrt", wide.sqrt() * wide.sqrt(), &exact);
                    assert_close("quotient", Wide::ONE / wide * wide, &Big::ONE);
                }
                if signed > -2.9 {
                    assert_close("ln_1p", wide.ln_1p(), &exact.ln_1p());
                }
            }
            value *= 1.37;
        }
    }

    #[test]
    fn the_upper_bound_is_above() {
        for value in [1.0, -1.0, 1e-300, 123.456] {
            let wide = Wide::from(value) / Wide::from(7.0);
            assert!(Wide::from(wide.upper()) > wide && wide.upper() < wide.nearest() + wide.nearest().abs() * 1e-14);
        }
    }

    #[test]
    fn integers_convert_exactly() {
        for value in [0, 1, u64::MAX, u64::MAX - 1, (1 << 53) + 1] {
            let wide = Wide::from(value);
            assert_eq!(wide.high as i128 + wide.low as i128, i128::from(value));
        }
    }
}
