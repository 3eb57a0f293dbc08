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
        let fraction = (noised_bits / self.planned + 0.5).clamp(-1.0, 2.0);
        let next = clip * fast::exp(-self.rate * (fraction - self.quantile));
        if next.is_nan() { self.least } else { next.clamp(self.least, self.most) }
    }
}

/// Twice a client's bit, so that it is an integer: 1 if the norm is at most the clip, else −1; its grid step is ½.
#[must_use]
pub fn doubled_bit(norm: f64, clip: f64) -> i64 {
    if norm <= clip { 1 } else { -1 }
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
    fn bits_without_enough_noise_are_refused() {
        assert!(update_noise_multiplier(1.0, 0.5).is_err());
        assert!(update_noise_multiplier(1.0, f64::NAN).is_err());
        assert!(update_noise_multiplier(1.0, 0.51).unwrap() > 4.0);
        assert!(AdaptiveClip::new(1.0, 0.2, 0.1, 1.0, 10.0).is_err());
        assert!(AdaptiveClip::new(0.5, 0.2, 1.0, 0.1, 10.0).is_err());
    }
}
