//! A clip that follows a quantile of the norms: Andrew et al. 2021, Algorithm 1.
//!
//! Every client also sends b_i = ½ if its norm is at most C_t, else −½. The sum of the bits has sensitivity ½ and is one
//! more coordinate of the *same* noised vector, so sampling is accounted for once.

use crate::{
    error::{ParameterError, within},
    math::{Wide, fast},
};

/// How the clip moves. All of it is public and fixed beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveClip {
    quantile: f64,
    rate: f64,
    least: f64,
    most: f64,
    /// m̄, the planned cohort.
    planned: f64,
}

impl AdaptiveClip {
    /// Towards `quantile` τ of the norms (0.5 is usual) with learning `rate` η (0.2), within `least..=most`; `planned` is
    /// the fixed public denominator of the bits.
    ///
    /// # Errors
    /// A quantile outside (0, 1), a rate outside (0, 1], an empty or unbounded range, a planned cohort below 1.
    pub fn new(quantile: f64, rate: f64, least: f64, most: f64, planned: f64) -> Result<Self, ParameterError> {
        within("clip_quantile", quantile, 1e-6, 1.0 - 1e-6)?;
        within("clip_rate", rate, 1e-6, 1.0)?;
        within("clip_min", least, 1e-30, 1e30)?;
        within("clip_max", most, least, 1e30)?;
        within("cohort", planned, 1.0, 1e12)?;
        Ok(Self { quantile, rate, least, most, planned })
    }

    /// C_{t+1} from C_t and the noised sum of bits: clamp(C_t·exp(−η(b̃ − τ)), least, most) with b̃ = sum/m̄ + ½.
    ///
    /// A public function of released numbers: post-processing.
    #[must_use]
    pub fn next(&self, clip: f64, noised_bits: f64) -> f64 {
        // A fraction far outside 0..1 is noise; it moves the clip by no more than e^{±2η}.
        let fraction = self.fraction(noised_bits).clamp(-1.0, 2.0);
        let next = clip * fast::exp(-self.rate * (fraction - self.quantile));
        if next.is_nan() { self.least } else { next.clamp(self.least, self.most) }
    }

    /// b̃, the share of norms within the clip as far as the noise lets it be seen: an absent client counts half.
    #[must_use]
    pub fn fraction(&self, noised_bits: f64) -> f64 {
        noised_bits / self.planned + 0.5
    }
}

/// Twice a client's bit, so that it is an integer: 1 if the norm is at most the clip, else −1; its grid step is ½.
#[must_use]
pub fn doubled_bit(norm: f64, clip: f64) -> i64 {
    if norm <= clip { 1 } else { -1 }
}

/// The bit as one more coordinate of the clipped vector, in its grid steps: all coordinates get noise of one integer σ.
///
/// A client's bit adds [`half`](Self::half) or its negative, its vector a length of at most 2^s: zeroed out together they
/// move the whole by [`sensitivity`](Self::sensitivity).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitCoordinate {
    sigma: u64,
    half: u64,
    sensitivity: u64,
}

impl BitCoordinate {
    /// For vectors within `steps` = 2^s grid steps that are released with their bit at noise multiplier `effective`, the
    /// bits with noise of standard deviation `bits_stddev` σ_b at least.
    ///
    /// # Errors
    /// Those of [`update_noise_multiplier`], a σ above 2³⁵ steps, or bits that would be less than one step.
    pub fn new(effective: f64, bits_stddev: f64, steps: u64) -> Result<Self, ParameterError> {
        within("grid_steps", steps as f64, 2.0, 2_f64.powi(31))?;
        let alone = update_noise_multiplier(effective, bits_stddev)? * steps as f64;
        if alone > 2_f64.powi(35) {
            let fix = "give fewer grid_bits, a lower noise_multiplier, or more noise on the bits: σ must stay below 2^35 grid steps";
            return Err(ParameterError::new("grid_bits", steps.ilog2(), fix));
        }
        // Products and roots of integers below 2³⁶: each is rounded towards more noise and more charge.
        let least = alone.next_up().ceil();
        let half = (least / (2.0 * bits_stddev).next_up()).floor() as u64;
        if half == 0 {
            let fix = format!("give less than {}, half the noise on the updates in grid steps", least / 2.0);
            return Err(ParameterError::new("clip_count_stddev", bits_stddev, fix));
        }
        let square = u128::from(steps).pow(2) + u128::from(half).pow(2);
        let root = square.isqrt();
        // Below 2⁶⁵ only for noise far too small for a budget, which the charge refuses.
        let sensitivity = u64::try_from(root + u128::from(root * root < square)).unwrap_or(u64::MAX);
        let sigma = least.max((effective * sensitivity as f64).next_up().ceil()) as u64;
        Ok(Self { sigma, half, sensitivity })
    }

    /// σ of every coordinate, in grid steps.
    #[must_use]
    pub fn sigma(&self) -> u64 {
        self.sigma
    }

    /// h: what a client's bit adds or subtracts.
    #[must_use]
    pub fn half(&self) -> u64 {
        self.half
    }

    /// Δ of vector and bit together under zero-out: ⌈√(2^{2s} + h²)⌉.
    #[must_use]
    pub fn sensitivity(&self) -> u64 {
        self.sensitivity
    }

    /// σ_b of what [`Self::bits`] makes of the noised coordinate.
    #[must_use]
    pub fn bits_stddev(&self) -> f64 {
        self.sigma as f64 / (2.0 * self.half as f64)
    }

    /// Σb_i from the noised sum of this coordinate, for [`AdaptiveClip::next`].
    #[must_use]
    pub fn bits(&self, noised: i64) -> f64 {
        noised as f64 / (2.0 * self.half as f64)
    }
}

/// z_Δ such that the vector with noise z_Δ·C and the bits with noise `bits_stddev` together are a release with noise
/// multiplier `effective`, rounded up: 1/z² = 1/z_Δ² + 1/(2σ_b)² (Andrew et al. 2021, Theorem 1).
///
/// # Errors
/// If z ≥ 2σ_b: then the bits alone would cost more than the whole.
pub fn update_noise_multiplier(effective: f64, bits_stddev: f64) -> Result<f64, ParameterError> {
    within("noise_multiplier", effective, 1e-6, 1e6)?;
    if bits_stddev.is_nan() || bits_stddev <= effective / 2.0 {
        let fix = format!("give more than {}, half the noise multiplier", effective / 2.0);
        return Err(ParameterError::new("clip_count_stddev", bits_stddev, fix));
    }
    let inverse_square = |value: Wide| Wide::ONE / (value * value);
    let rest = inverse_square(Wide::from(effective)) - inverse_square(Wide::from(bits_stddev).scale(1));
    Ok((Wide::ONE / rest.sqrt()).upper())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clip_finds_the_median_of_the_norms() {
        let plan = AdaptiveClip::new(0.5, 0.2, 1e-3, 1e3, 101.0).unwrap();
        let norms: Vec<f64> = (0..101).map(|index| 1.0 + f64::from(index) / 10.0).collect();
        let mut clip = 0.1;
        for _ in 0..300 {
            let sum: i64 = norms.iter().map(|norm| doubled_bit(*norm, clip)).sum();
            clip = plan.next(clip, sum as f64 / 2.0);
        }
        assert!((clip - 6.0).abs() < 0.3, "{clip}");
    }

    #[test]
    fn noise_cannot_throw_the_clip_out_of_its_range() {
        let plan = AdaptiveClip::new(0.5, 1.0, 0.5, 2.0, 10.0).unwrap();
        for bits in [1e300, -1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!((0.5..=2.0).contains(&plan.next(1.0, bits)), "{bits}");
        }
        assert_eq!(doubled_bit(f64::NAN, 1.0), -1);
    }

    #[test]
    fn vector_and_bit_together_cost_no_more_than_the_noise_multiplier() {
        for effective in [0.1, 0.5, 1.0, 3.7, 20.0] {
            for times in [0.5001, 0.6, 1.0, 5.0, 1000.0] {
                for bits in [12, 16, 24] {
                    let found = BitCoordinate::new(effective, effective * times, 1 << bits).unwrap();
                    let (sigma, half) = (found.sigma() as f64, found.half() as f64);
                    assert!(sigma / found.sensitivity() as f64 >= effective, "{found:?}");
                    assert!(found.bits_stddev() >= effective * times, "{found:?}");
                    let square = 4_f64.powi(bits) + half * half;
                    assert!((found.sensitivity() as f64).powi(2) >= square, "{found:?}");
                    // Nothing is wasted but what rounding to whole steps takes.
                    assert!(sigma / (square.sqrt() * effective) < 1.0 + 8.0 / sigma + 2.0 / square.sqrt(), "{found:?}");
                }
            }
        }
        assert!(BitCoordinate::new(1.0, 0.5, 1 << 24).is_err());
        assert!(BitCoordinate::new(1e6, 1e6, 1 << 24).is_err());
        assert!(BitCoordinate::new(1.0, 1e9, 1 << 8).is_err(), "a bit below one step");
    }

    #[test]
    fn bits_without_enough_noise_are_refused() {
        assert!(update_noise_multiplier(1.0, 0.5).is_err());
        assert!(update_noise_multiplier(1.0, f64::NAN).is_err());
        assert!(update_noise_multiplier(1.0, 0.51).unwrap() > 4.0);
        assert!(AdaptiveClip::new(1.0, 0.2, 0.1, 1.0, 10.0).is_err());
        assert!(AdaptiveClip::new(0.5, 0.2, 1.0, 0.1, 10.0).is_err());
    }
}
