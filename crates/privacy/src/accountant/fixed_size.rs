//! The Gaussian mechanism on a sample of fixed size without replacement: Wang, Balle and Kasiviswanathan 2019,
//! Theorem 9 and Corollary 21. Replace-one adjacency: the noise multiplier is σ/2C for a sum clipped to C.

use super::{poisson::log_one_plus_sum, rdp::RenyiCurve};
use crate::math::{
    Wide,
    fixed::{Interval, parts},
};
use dashu::{
    base::{BitTest as _, UnsignedAbs as _},
    integer::{IBig, UBig},
};

/// The largest order the curve is recorded at.
const MOST: usize = 256;

/// One round at the integer orders up to 256.
///
/// `cohort` of `population` clients take part, 0 < cohort ≤ population; `noise_multiplier` z > 0.
#[must_use]
pub fn curve(cohort: u64, population: u64, noise_multiplier: f64) -> RenyiCurve {
    let orders = super::rdp::INTEGER_ORDERS.iter().copied().filter(|&order| order as usize <= MOST);
    let z = Wide::from(noise_multiplier);
    let half_rate = (Wide::ONE / (z * z)).scale(-1);
    if cohort >= population {
        return RenyiCurve::of_rho(half_rate.upper(), orders.map(f64::from));
    }
    let terms = Terms::new(Wide::from(cohort) / Wide::from(population), half_rate, noise_multiplier);
    RenyiCurve::new(
        orders
            .map(|order| {
                let alpha = Wide::from(f64::from(order));
                // Never worse than no sampling at all.
                (f64::from(order), terms.divergence(order as usize).min(alpha * half_rate).upper())
            })
            .collect(),
    )
}

/// What the sums of all orders share.
struct Terms {
    /// ln j!.
    factorials: Vec<Wide>,
    /// ln(q^j · min{…}) for j from 0.
    gains: Vec<Wide>,
}

impl Terms {
    /// `rate` q and `half_rate` 1/2z².
    fn new(rate: Wide, half_rate: Wide, noise_multiplier: f64) -> Self {
        let log_rate = rate.ln();
        let mut factorials = vec![Wide::ZERO];
        for j in 1..=MOST {
            factorials.push(factorials[j - 1] + Wide::from(j as f64).ln());
        }
        let differences = log_differences(noise_multiplier);
        let (log_2, log_4) = (Wide::from(2.0).ln(), Wide::from(4.0).ln());
        let mut gains = vec![Wide::ZERO; 2];
        for j in 2..=MOST {
            let plain = log_2 + half_rate * Wide::from((j * (j - 1)) as f64);
            let better = if j == 2 {
                let exponent = half_rate.scale(1);
                log_4 + if exponent.nearest() > 80.0 { exponent } else { exponent.exp_m1().ln() }
            } else {
                let (below, above) = (2 * (j / 2), 2 * j.div_ceil(2));
                match (differences.get(below / 2), differences.get(above / 2)) {
                    (Some(below), Some(above)) => log_4 + (*below + *above).scale(-1),
                    _ => plain,
                }
            };
            gains.push(Wide::from(j as f64) * log_rate + plain.min(better));
        }
        Self { factorials, gains }
    }

    fn divergence(&self, order: usize) -> Wide {
        let terms: Vec<Wide> = (2..=order)
            .map(|j| self.factorials[order] - self.factorials[j] - self.factorials[order - j] + self.gains[j])
            .collect();
        log_one_plus_sum(&terms) / (Wide::from(order as f64) - Wide::ONE)
    }
}

/// ln B_l for l = 0, 2, 4, …: B_l = |Σ_i (−1)^i C(l,i) c_i|, c_i = e^{i(i−1)/2z²}, the l-th forward difference of c.
///
/// It is cut where 4√(B B) ≥ 2c_j is certain. C(l, l−m) c_{l−m}/c_l ≤ x^m/m! with x = l e^{−(l−1)/2z²}, so for x ≤ 0.4
/// B_l ≥ c_l/2, and c_{j−1}c_{j+1} ≥ c_j² gives the claim.
///
/// The differences cancel all but about z^{−l} of terms near 2^l: they are taken in fixed point with as many bits as
/// that needs, doubled until the error is below 2⁻⁶⁰ of every B_l.
fn log_differences(noise_multiplier: f64) -> Vec<Wide> {
    let variance = noise_multiplier * noise_multiplier;
    let certain = |l: usize| {
        let l = l as f64;
        // Logarithms from Wide: the cut must be the same on every machine.
        Wide::from(l).ln().nearest() - (l - 1.0) / (2.0 * variance) <= -1.0
    };
    // x falls in l once l > 2z², where the condition can first hold for l ≥ 2.
    let last = (1..=MOST / 2).map(|half| 2 * half).find(|&l| certain(l)).unwrap_or(MOST);
    if last == 2 {
        return vec![Wide::ZERO];
    }
    let mut bits = 512;
    loop {
        if let Some(logarithms) = differences(noise_multiplier, last, bits) {
            return logarithms;
        }
        bits *= 2;
    }
}

/// `None` if `bits` are too few.
fn differences(noise_multiplier: f64, last: usize, bits: usize) -> Option<Vec<Wide>> {
    // 1/z² exactly as a ratio, then t = e^{−1/z²} and 1/t.
    let (significand, exponent) = parts(noise_multiplier);
    let square = UBig::from(significand) * UBig::from(significand);
    let shift = 2 * exponent;
    let inverse = match shift >= 0 {
        true => Interval::ratio(&UBig::ONE, &(square << shift as usize), bits),
        false => Interval::ratio(&(UBig::ONE << shift.unsigned_abs() as usize), &square, bits),
    };
    let decay = inverse.exp_neg();
    // Relative error of 1/t: at least 120 bits of t must be there.
    if decay.low.bit_len() < 160 {
        return None;
    }
    let growth = (UBig::ONE << (2 * bits)) / &decay.low;
    // Relative errors in units of 2^-certain: t has the width of its interval, every product adds one.
    let certain = decay.low.bit_len() - 4;
    let mut row: Vec<IBig> = Vec::with_capacity(last + 1);
    let (mut value, mut factor) = (UBig::ONE << bits, UBig::ONE << bits);
    for _ in 0..=last {
        row.push(value.clone().into());
        value = (&value * &factor) >> bits;
        factor = (&factor * &growth) >> bits;
    }
    // c_l carries at most l² relative units, and the sum of C(l,i) c_i is at most 2^l c_l.
    let mut logarithms = vec![Wide::ZERO];
    let tops: Vec<usize> = row.iter().map(|value| value.bit_len()).collect();
    for (l, top) in tops.into_iter().enumerate().skip(1) {
        for index in 0..=last - l {
            row[index] = &row[index + 1] - &row[index];
        }
        if l % 2 == 1 {
            continue;
        }
        let size = row[0].bit_len();
        let error = top + l + 2 * (usize::BITS - l.leading_zeros()) as usize;
        if size + certain < error + 60 + 8 {
            return None;
        }
        logarithms.push(log(&row[0], bits));
    }
    Some(logarithms)
}

/// ln |value/2^bits| from the first 106 bits.
fn log(value: &IBig, bits: usize) -> Wide {
    let magnitude = value.clone().unsigned_abs();
    let drop = magnitude.bit_len().saturating_sub(106);
    let top = u128::try_from(&(magnitude >> drop)).unwrap_or(u128::MAX);
    let (high, low) = ((top >> 64) as u64, top as u64);
    let number = Wide::from(high).scale(64) + Wide::from(low);
    let power = drop as f64 - bits as f64;
    number.ln() + Wide::from(2.0).ln() * Wide::from(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_equal_their_closed_forms() {
        // B_2 = c_0 − 2c_1 + c_2 = e^{1/z²} − 1; B_4 = c_4 − 4c_3 + 6c_2 − 4c_1 + c_0.
        for z in [0.8, 2.0, 30.0, 500.0] {
            let got = log_differences(z);
            let unit = Wide::ONE / (Wide::from(z) * Wide::from(z));
            let second = unit.exp_m1();
            assert!((got[1] - second.ln()).nearest().abs() < 1e-25, "{z}");
            if let Some(fourth) = got.get(2) {
                let c = |i: f64| (unit * Wide::from(i * (i - 1.0) / 2.0)).exp_m1();
                let exact = c(4.0) - c(3.0).scale(2) + c(2.0) * Wide::from(6.0);
                assert!(((fourth.exp() - exact) / exact).nearest().abs() < 1e-12, "{z}");
            }
        }
    }

    #[test]
    fn everyone_in_the_cohort_is_the_plain_mechanism() {
        let curve = curve(10, 10, 2.0);
        assert!((curve.at(8.0).unwrap() - 1.0).abs() < 1e-14);
    }
}
