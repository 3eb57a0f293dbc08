//! Elementary functions by series, of additions, multiplications and divisions alone: the platform's library differs
//! between machines in the last digit, and aggregates must not.

/// The natural logarithm of a positive normal number, to about 1e-16.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "an exponent of eleven bits")]
pub(crate) fn ln(value: f64) -> f64 {
    let bits = value.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m−1)/(m+1)), with squares below 0.03.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * ratio * series
}

/// The exponential of a number, to a few units in the last place; 0 and infinity beyond f64.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the exponents of f64")]
pub(crate) fn exp(value: f64) -> f64 {
    // Digits of ln 2 in two parts, so that multiples of the first are exact.
    const HIGH: f64 = 6.931_471_803_691_238e-1;
    const LOW: f64 = 1.908_214_929_270_587_7e-10;
    if value.is_nan() {
        return value;
    }
    let value = value.clamp(-800.0, 800.0);
    // value = k ln 2 + rest, |rest| ≤ ½ ln 2.
    let k = (value * std::f64::consts::LOG2_E).round_ties_even();
    let rest = (value - k * HIGH) - k * LOW;
    let series = (1..=14).rev().fold(1.0, |sum, term| sum * rest / f64::from(term) + 1.0);
    // In two steps: the first factor alone may be beyond f64 where the product is not.
    let half = (k / 2.0).trunc();
    series * power_of_two(half as i32) * power_of_two((k - half) as i32)
}

/// 2^exponent for the exponents of normal numbers.
#[allow(clippy::cast_sign_loss, reason = "at least 1")]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent.clamp(-1022, 1023) + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_the_librarys() {
        for exponent in -40..40 {
            for step in 1..50 {
                let value = f64::from(step) * 2_f64.powi(exponent) / 7.0;
                let expected = value.ln();
                assert!((ln(value) - expected).abs() <= 4e-16 * expected.abs().max(1.0), "{value}");
            }
        }
    }

    #[test]
    fn the_exponential_is_the_librarys_over_its_whole_range() {
        for step in -7400..7097 {
            let value = f64::from(step) / 10.0 + 0.037;
            let expected = value.exp();
            assert!((exp(value) - expected).abs() <= 1e-15 * expected + f64::from_bits(1), "{value} {}", exp(value));
        }
        assert_eq!([exp(0.0), exp(-1e9), exp(1e9)], [1.0, 0.0, f64::INFINITY]);
        assert!(exp(f64::NAN).is_nan() && exp(f64::INFINITY) == f64::INFINITY && exp(f64::NEG_INFINITY) == 0.0);
    }
}
