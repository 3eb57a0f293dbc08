//! Exact tails of the hypergeometric and the binomial distribution.
//!
//! Every probability of the support is obtained from the mode outwards by multiplying ratios of neighbours, as a
//! mantissa with an exponent of its own, then divided by the sum of all. All terms are positive, so nothing cancels:
//! a tail is correct to about 1e-12 relative, be it 2^−40 or 2^−4000.

use std::ops::{Add, Mul, RangeInclusive};

/// A non-negative number with a binary exponent beyond that of `f64`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probability {
    /// Zero, or in [1, 2).
    mantissa: f64,
    exponent: i64,
}

impl Probability {
    /// Impossible.
    pub const ZERO: Self = Self { mantissa: 0.0, exponent: 0 };
    /// Certain.
    pub const ONE: Self = Self { mantissa: 1.0, exponent: 0 };

    /// The nearest `f64`; 0 when below its range.
    pub fn value(self) -> f64 {
        let exponent = self.exponent.clamp(-1_100, 1_023);
        // In two steps, since 2^−1100 itself is below the range.
        let half = (exponent / 2) as i32;
        self.mantissa * 2f64.powi(half) * 2f64.powi(exponent as i32 - half)
    }

    /// The logarithm to base 2; −∞ of zero.
    pub fn log2(self) -> f64 {
        self.mantissa.log2() + self.exponent as f64
    }

    /// The natural logarithm; −∞ of zero.
    pub fn ln(self) -> f64 {
        self.mantissa.ln() + self.exponent as f64 * std::f64::consts::LN_2
    }

    /// A positive finite or zero number. Others would have no meaning here and count as zero.
    pub(super) fn new(value: f64) -> Self {
        if !(value.is_finite() && value > 0.0) {
            return Self::ZERO;
        }
        // Subnormal numbers are lifted into the normal range first.
        let (value, lift) = if value < f64::MIN_POSITIVE { (value * 2f64.powi(64), -64) } else { (value, 0) };
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i64 - 1_023;
        Self { mantissa: f64::from_bits((bits & !(0x7ff << 52)) | (1_023 << 52)), exponent: exponent + lift }
    }

    fn over(self, divisor: Self) -> Self {
        let quotient = Self::new(self.mantissa / divisor.mantissa);
        if quotient == Self::ZERO { quotient } else { quotient.shifted(self.exponent - divisor.exponent) }
    }

    fn shifted(self, by: i64) -> Self {
        Self { mantissa: self.mantissa, exponent: self.exponent + by }
    }
}

impl Mul<f64> for Probability {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        let product = Self::new(self.mantissa * factor);
        if product == Self::ZERO { product } else { product.shifted(self.exponent) }
    }
}

impl Add for Probability {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        if self.mantissa == 0.0 {
            return other;
        }
        if other.mantissa == 0.0 {
            return self;
        }
        let (large, small) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let distance = large.exponent - small.exponent;
        if distance > 200 {
            return large;
        }
        Self::new(large.mantissa + small.mantissa * 2f64.powi(-(distance as i32))).shifted(large.exponent)
    }
}

/// Both tails of a distribution on consecutive numbers, at every point.
#[derive(Debug, Clone)]
pub struct Tails {
    /// Smallest possible value.
    least: u64,
    /// P[X < least + i], for i from 0 to the length of the support.
    below: Vec<Probability>,
    /// P[X ≥ least + i], likewise.
    from: Vec<Probability>,
}

impl Tails {
    /// X marked among `drawn` without replacement from `population`, of which `marked` are marked. Numbers beyond the
    /// population count as all of it.
    pub fn hypergeometric(population: u64, marked: u64, drawn: u64) -> Self {
        Self::hypergeometric_to(population, marked, drawn, u32::MAX)
    }

    /// The same without the far ends, where single values are less than 2^−`bits` times as likely as the mode: enough
    /// for tails well above that, and much shorter.
    pub(super) fn hypergeometric_to(population: u64, marked: u64, drawn: u64, bits: u32) -> Self {
        let (marked, drawn) = (marked.min(population), drawn.min(population));
        let unmarked = population - marked;
        let least = drawn.saturating_sub(unmarked);
        let most = drawn.min(marked);
        let mode = (u128::from(drawn) + 1) * (u128::from(marked) + 1) / (u128::from(population) + 2);
        let ratio = |x: u64| {
            let up = (marked - x) as f64 * (drawn - x) as f64;
            up / ((x + 1) as f64 * (unmarked + x + 1 - drawn) as f64)
        };
        Self::from_ratios(least..=most, u64::try_from(mode).unwrap_or(most), bits, ratio)
    }

    /// X successes in `trials` independent trials. A probability outside [0, 1] counts as its nearest end, NaN as 1.
    pub fn binomial(trials: u64, probability: f64) -> Self {
        if probability <= 0.0 {
            return Self::from_ratios(0..=0, 0, u32::MAX, |_| 0.0);
        }
        if probability >= 1.0 || probability.is_nan() {
            return Self::from_ratios(trials..=trials, trials, u32::MAX, |_| 0.0);
        }
        let odds = probability / (1.0 - probability);
        let mode = ((trials as f64 + 1.0) * probability) as u64;
        Self::from_ratios(0..=trials, mode, u32::MAX, |x| (trials - x) as f64 / (x + 1) as f64 * odds)
    }

    /// `P(X > x)`.
    pub fn above(&self, x: u64) -> Probability {
        x.checked_add(1).map_or(Probability::ZERO, |next| self.at_least(next))
    }

    /// P[X ≥ x].
    pub fn at_least(&self, x: u64) -> Probability {
        self.from[self.place(x)]
    }

    /// `P(X < x)`.
    pub fn below(&self, x: u64) -> Probability {
        self.below[self.place(x)]
    }

    /// P[X ≤ x].
    pub fn at_most(&self, x: u64) -> Probability {
        x.checked_add(1).map_or(Probability::ONE, |next| self.below(next))
    }

    /// Smallest x with `P(X > x)` ≤ 2^`log2_bound`.
    pub fn quantile_above(&self, log2_bound: f64) -> u64 {
        // P[X > least + i − 1] falls with i; at the end of the support it is zero.
        let i = self.from.partition_point(|tail| tail.log2() > log2_bound);
        (self.least + i as u64).saturating_sub(1)
    }

    /// Largest x with `P(X < x)` ≤ 2^`log2_bound`; one beyond the support when every x qualifies.
    pub fn quantile_below(&self, log2_bound: f64) -> u64 {
        // P[X < least] is zero, so the first always qualifies.
        let i = self.below.partition_point(|tail| tail.log2() <= log2_bound);
        self.least + (i as u64).saturating_sub(1)
    }

    fn place(&self, x: u64) -> usize {
        usize::try_from(x.saturating_sub(self.least)).unwrap_or(usize::MAX).min(self.below.len() - 1)
    }

    /// `ratio(x)` is P[X = x + 1] / P[X = x] within the support.
    fn from_ratios(support: RangeInclusive<u64>, mode: u64, bits: u32, ratio: impl Fn(u64) -> f64) -> Self {
        let (first, last) = support.into_inner();
        let mode = mode.clamp(first, last);
        let matters = |weight: &Probability| weight.exponent >= -i64::from(bits);
        let outwards = |weight: Probability, ratio: f64| Some(weight * ratio).filter(matters);
        let mut least = mode;
        let mut weights = vec![Probability::ONE];
        while least > first
            && let Some(weight) = outwards(weights[(mode - least) as usize], ratio(least - 1).recip())
        {
            weights.push(weight);
            least -= 1;
        }
        weights.reverse();
        for x in mode..last {
            let Some(weight) = outwards(weights[(x - least) as usize], ratio(x)) else {
                break;
            };
            weights.push(weight);
        }
        let length = weights.len();
        let mut below = vec![Probability::ZERO; length + 1];
        let mut from = vec![Probability::ZERO; length + 1];
        for i in 0..length {
            below[i + 1] = below[i] + weights[i];
            from[length - 1 - i] = from[length - i] + weights[length - 1 - i];
        }
        // The sum from the smaller end is the more exact one; both agree to rounding.
        let total = below[length];
        for tails in [&mut below, &mut from] {
            for tail in tails.iter_mut() {
                *tail = tail.over(total);
            }
        }
        below[length] = Probability::ONE;
        from[0] = Probability::ONE;
        Self { least, below, from }
    }
}

#[cfg(test)]
mod tests;
