//! exp and ln in f64 with a relative error below 2⁻⁵⁰, inlined so that loops over them vectorise.

/// e to the power of `value`; 0 below −708.
#[inline]
pub(crate) fn exp(value: f64) -> f64 {
    let clamped = value.clamp(-708.0, 709.0);
    // Adding 1.5·2⁵² rounds to an integer, which then stands in the low bits.
    let shifted = clamped * std::f64::consts::LOG2_E + 6_755_399_441_055_744.0;
    let power = shifted - 6_755_399_441_055_744.0;
    // ln 2 in two parts; the first has 21 low zero bits, so its product with |power| ≤ 1024 is exact.
    let rest = clamped - power * 0.693_147_180_369_123_8 - power * 1.908_214_929_270_587_7e-10;
    let mut sum = 1.0;
    // |rest| ≤ 0.347: the term left out is below 2⁻⁵⁷.
    for inverse in INVERSES {
        sum = 1.0 + rest * inverse * sum;
    }
    // |power| ≤ 1023: a normal power of two.
    let scale = f64::from_bits(((power as i64 + 1023) as u64) << 52);
    if value < -708.0 { 0.0 } else { sum * scale }
}

/// 1/13, 1/12, … 1: the steps of Horner's scheme for exp.
const INVERSES: [f64; 13] = [
    1.0 / 13.0,
    1.0 / 12.0,
    1.0 / 11.0,
    1.0 / 10.0,
    1.0 / 9.0,
    1.0 / 8.0,
    1.0 / 7.0,
    1.0 / 6.0,
    1.0 / 5.0,
    1.0 / 4.0,
    1.0 / 3.0,
    1.0 / 2.0,
    1.0,
];

/// The natural logarithm of a positive normal number.
#[inline]
pub(crate) fn ln(value: f64) -> f64 {
    let bits = value.to_bits();
    let mut power = ((bits >> 52) as i64 - 1023) as f64;
    let mut fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if fraction > std::f64::consts::SQRT_2 {
        fraction *= 0.5;
        power += 1.0;
    }
    // ln f = 2 artanh((f−1)/(f+1)); the ratio is at most 0.172, twelve terms leave 2⁻⁶⁰.
    let ratio = (fraction - 1.0) / (fraction + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for inverse in ODD_INVERSES {
        sum = sum * square + inverse;
    }
    let rest = 2.0 * ratio * sum;
    power * 0.693_147_180_369_123_8 + (power * 1.908_214_929_270_587_7e-10 + rest)
}

/// 1/23, 1/21, … 1.
const ODD_INVERSES: [f64; 12] = [
    1.0 / 23.0,
    1.0 / 21.0,
    1.0 / 19.0,
    1.0 / 17.0,
    1.0 / 15.0,
    1.0 / 13.0,
    1.0 / 11.0,
    1.0 / 9.0,
    1.0 / 7.0,
    1.0 / 5.0,
    1.0 / 3.0,
    1.0,
];

/// e to the power of `value`, less 1, without cancellation near 0.
#[inline]
pub(crate) fn exp_m1(value: f64) -> f64 {
    if value.abs() > 0.35 {
        return exp(value) - 1.0;
    }
    let mut sum = 1.0;
    for inverse in INVERSES.iter().take(12) {
        sum = 1.0 + value * inverse * sum;
    }
    value * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Wide;

    #[test]
    fn both_agree_with_twice_the_precision() {
        let mut value = 1e-12;
        while value < 700.0 {
            for signed in [value, -value] {
                for (name, got, exact) in [
                    ("exp", exp(signed), Wide::from(signed).exp().nearest()),
                    ("exp_m1", exp_m1(signed), Wide::from(signed).exp_m1().nearest()),
                    ("ln", ln(value), Wide::from(value).ln().nearest()),
                ] {
                    assert!((got - exact).abs() <= exact.abs() * 2_f64.powi(-50), "{name} {signed}: {got} {exact}");
                }
            }
            value *= 1.013;
        }
        assert_eq!(exp(-800.0), 0.0);
    }
}
