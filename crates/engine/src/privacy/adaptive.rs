//! A clip that follows a quantile of the updates' norms (Andrew et al. 2021), as a running task has it.

use testudo_aggregate::Note;
use testudo_privacy::{
    ParameterError,
    mechanism::adaptive_clip::{AdaptiveClip, BitCoordinate, doubled_bit},
};

/// What moves the clip from release to release. All of it is public and fixed beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveClipping {
    /// τ: the share of the norms that should be within the clip.
    pub quantile: f64,
    /// η.
    pub learning_rate: f64,
    /// The clip stays above this.
    pub least: f64,
    /// And below this.
    pub most: f64,
    /// σ_b: standard deviation of the noise on the number of norms within the clip.
    pub bits_noise: f64,
    bit: BitCoordinate,
    plan: AdaptiveClip,
}

/// What a task asks for; what is left out has its usual value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AskedClipping {
    pub(crate) quantile: Option<f64>,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) least: Option<f64>,
    pub(crate) most: Option<f64>,
    pub(crate) bits_noise: Option<f64>,
}

/// Usual values: the median, and a rate that takes the clip a tenth further while all norms lie on one side of it.
const QUANTILE: f64 = 0.5;
const LEARNING_RATE: f64 = 0.2;
/// The clip's range, in both directions from where it starts.
const RANGE: f64 = 1000.0;
/// Clients for each unit of noise on the bits.
const CLIENTS_PER_NOISE: f64 = 20.0;

/// Where a release found the clip and where it left it: public like the release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClipStep {
    pub(crate) clip: f64,
    pub(crate) share: f64,
    pub(crate) next: f64,
}

impl AdaptiveClipping {
    /// From `initial`, for cohorts of `planned` clients, on a grid of `steps` steps within the clip; vector and bits
    /// together are a release with noise multiplier `effective`.
    pub(crate) fn new(
        asked: AskedClipping,
        (initial, effective): (f64, f64),
        (planned, steps): (usize, u64),
    ) -> Result<Self, ParameterError> {
        let quantile = asked.quantile.unwrap_or(QUANTILE);
        let learning_rate = asked.learning_rate.unwrap_or(LEARNING_RATE);
        let least = asked.least.unwrap_or((initial / RANGE).max(1e-30));
        let most = asked.most.unwrap_or((initial * RANGE).min(1e30));
        let bits_noise = asked.bits_noise.unwrap_or(planned as f64 / CLIENTS_PER_NOISE);
        let plan = AdaptiveClip::new(quantile, learning_rate, least, most, planned as f64)?;
        if !(least..=most).contains(&initial) {
            let fix = format!("choose min and max around where the clip starts, clip_l2 = {initial}");
            return Err(ParameterError::new("clip_min", least, fix));
        }
        let bit = BitCoordinate::new(effective, bits_noise, steps).map_err(|error| match asked.bits_noise {
            None if bits_noise <= effective / 2.0 => {
                // Nobody wrote this figure: whoever reads of it must hear where it comes from.
                let fix = format!(
                    "it is cohort.size / {CLIENTS_PER_NOISE} unless written: {}, raise cohort.size above {}, or lower \
                     noise_multiplier",
                    error.fix,
                    (effective / 2.0 * CLIENTS_PER_NOISE).floor()
                );
                ParameterError { fix, ..error }
            }
            _ => error,
        })?;
        Ok(Self { quantile, learning_rate, least, most, bits_noise, bit, plan })
    }

    /// The coordinate that the bits add up in.
    pub(crate) fn bit(&self) -> &BitCoordinate {
        &self.bit
    }

    /// What an update of this norm adds to that coordinate; one that is not finite adds nothing anywhere.
    pub(crate) fn steps_of(&self, norm: f64, clip: f64) -> i64 {
        // Below 2³⁶: the coordinate's σ is.
        if norm.is_finite() { doubled_bit(norm, clip) * self.bit.half() as i64 } else { 0 }
    }

    /// The next clip from the noised sum of that coordinate.
    pub(crate) fn step(&self, clip: f64, noised: i64) -> ClipStep {
        let bits = self.bit.bits(noised);
        ClipStep { clip, share: self.plan.fraction(bits), next: self.plan.next(clip, bits) }
    }
}

impl ClipStep {
    /// For the round's record.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let note = |name: &str, value: f64| Note { name: name.into(), value };
        vec![
            note("clip", self.clip),
            note("noised share of norms within the clip", self.share),
            note("next clip", self.next),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clipping(asked: AskedClipping) -> Result<AdaptiveClipping, ParameterError> {
        AdaptiveClipping::new(asked, (0.1, 1.0), (100, 1 << 24))
    }

    #[test]
    fn what_is_left_out_has_its_usual_value() {
        let usual = clipping(AskedClipping::default()).unwrap();
        assert_eq!((usual.quantile, usual.learning_rate, usual.bits_noise), (0.5, 0.2, 5.0));
        assert!(usual.least < 1.01e-4 && usual.most > 99.0);
        let outside = AskedClipping { least: Some(0.2), ..AskedClipping::default() };
        assert_eq!(clipping(outside).unwrap_err().key, "clip_min");
    }

    #[test]
    fn the_clip_moves_towards_the_quantile_and_useless_updates_do_not_count() {
        let clipping = clipping(AskedClipping::default()).unwrap();
        let sum = |norms: &[f64]| norms.iter().map(|norm| clipping.steps_of(*norm, 0.1)).sum::<i64>();
        assert_eq!(sum(&[f64::NAN, f64::INFINITY]), 0);
        assert_eq!(sum(&[0.05, 0.2]), 0);
        let above = clipping.step(0.1, sum(&[1.0; 100]));
        assert!(above.share.abs() < 1e-12 && (above.next - 0.1 * 0.1_f64.exp()).abs() < 1e-9, "{above:?}");
        let below = clipping.step(0.1, sum(&[0.1; 100]));
        assert!((below.share - 1.0).abs() < 1e-12 && below.next < 0.1, "{below:?}");
    }
}
