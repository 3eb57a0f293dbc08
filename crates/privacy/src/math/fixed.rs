//! Fixed-point numbers of any length over `dashu`'s integers, with their error in units of the last place.

use dashu::{
    base::BitTest as _,
    integer::{IBig, UBig},
};

/// A non-negative number known to lie in `low..=high`, both over 2^`bits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) low: UBig,
    pub(crate) high: UBig,
    pub(crate) bits: usize,
}

impl Interval {
    /// numerator/denominator, to `bits` fractional bits.
    pub(crate) fn ratio(numerator: &UBig, denominator: &UBig, bits: usize) -> Self {
        let low = (numerator << bits) / denominator;
        let high = &low + UBig::ONE;
        Self { low, high, bits }
    }

    /// e^−x for every x in this interval.
    pub(crate) fn exp_neg(&self) -> Self {
        // e^−x falls: the upper end of x gives the lower end of the result.
        let (small, error) = exp_neg(&self.high, self.bits);
        let low = if small > error { small - error } else { UBig::ZERO };
        let (large, error) = exp_neg(&self.low, self.bits);
        Self { low, high: large + error, bits: self.bits }
    }
}

/// A non-negative finite f64 as significand × 2^exponent.
pub(crate) fn parts(value: f64) -> (u64, i32) {
    debug_assert!(value >= 0.0 && value.is_finite());
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32;
    let fraction = bits & ((1 << 52) - 1);
    if exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), exponent - 1075) }
}

/// e^−x of x = `x`/2^`bits`, and the largest error, both over 2^`bits`.
///
/// Taylor at x/2^s, then s squarings. A truncated quotient or product costs one unit each; a squaring of a value below 1
/// doubles the error and adds two units.
fn exp_neg(x: &UBig, bits: usize) -> (UBig, UBig) {
    // Below 2^-8 the series loses 8 bits and more a term.
    let halvings = 8 + x.bit_len().saturating_sub(bits);
    // As many guard bits as the squarings cost, and 16 for the series.
    let guard = halvings + 16;
    let width = bits + guard;
    let small = IBig::from((x << guard) >> halvings);
    let one = IBig::ONE << width;
    let (mut sum, mut term, mut count) = (one.clone(), one, 0_u32);
    while term != IBig::ZERO {
        count += 1;
        term = -((term * &small) >> width) / IBig::from(count);
        sum += &term;
    }
    let mut value = UBig::try_from(sum).unwrap_or(UBig::ZERO);
    // Two units a term, one for the rest of the series (its next term is below one unit), one for x.
    let mut error = UBig::from(2 * count + 4);
    for _ in 0..halvings {
        value = (&value * &value) >> width;
        // |(v+e)² − v²| ≤ 2e + e², and e² is below one unit while e < 2^{width/2}.
        error = (error << 1) + UBig::from(2_u32);
    }
    (value >> guard, (error >> guard) + UBig::from(2_u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dashu::float::{FBig, round::mode::HalfEven};

    #[test]
    fn the_interval_holds_the_exponential_and_is_narrow() {
        for (numerator, denominator) in [(0_u32, 1_u32), (1, 3), (1, 1), (50, 7), (600, 1), (1, 1_000_000)] {
            for bits in [64, 256, 700] {
                let x = Interval::ratio(&UBig::from(numerator), &UBig::from(denominator), bits);
                let got = x.exp_neg();
                let precise = |value: u32| FBig::<HalfEven, 2>::from(value).with_precision(1200).value();
                let exact = (-(precise(numerator) / precise(denominator))).exp();
                let at = |value: &UBig| {
                    FBig::<HalfEven, 2>::from_parts(value.clone().into(), -(bits as isize)).with_precision(1200).value()
                };
                assert!(at(&got.low) <= exact && exact <= at(&got.high), "{numerator}/{denominator} {bits}");
                assert!(&got.high - &got.low <= UBig::from(8_u32), "{numerator}/{denominator} {bits}");
            }
        }
    }

    #[test]
    fn parts_multiply_back() {
        for value in [0.0, 1.0, 0.1, 5e-324, f64::MAX, 2_f64.powi(-1022)] {
            let (significand, exponent) = parts(value);
            let half = exponent / 2;
            assert_eq!(significand as f64 * 2_f64.powi(half) * 2_f64.powi(exponent - half), value);
        }
    }
}
