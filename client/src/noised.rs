//! An update with the device's own noise: clipped and noised in integers, before anything leaves.

use crate::{Error, masked, update::Parcel};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use testudo_privacy::{
    mechanism::local::LocalNoise,
    noise::{Law, NoiseKey, NoiseStream, NoiseTable},
};
use testudo_proto::{OwnNoise, framing, v1};
use testudo_protocol::{Digest, Encoding};
use zeroize::Zeroizing;

/// Clips an update and adds noise to it, fresh with every call: call it once a round. What is not finite becomes noise
/// alone, because who left a round over it would be seen without noise.
///
/// Sums beyond f32 become the largest number that fits. The claim of examples is not sent.
pub(crate) fn noised(noise: &OwnNoise, tensors: Vec<v1::Tensor>, delta: &[f32]) -> Result<Parcel, Error> {
    let unfit = |error: &dyn fmt::Display| Error::Policy(format!("the round's noise: {error}"));
    let local =
        LocalNoise::with_sigma(noise.clip_l2, noise.grid_bits, noise.sigma_grid).map_err(|error| unfit(&error))?;
    let table = NoiseTable::new(Law::Rounded, local.sigma()).map_err(|error| unfit(&error))?;
    let mut key = Zeroizing::new([0; 32]);
    masked::random(&mut *key);
    let mut stream = NoiseStream::new(&table, &NoiseKey::new(*key));
    let (sums, _) = local.randomise(delta, &mut stream).map_err(|error| unfit(&error))?;
    let values: Vec<f32> = sums.release(1.0).map(|value| (value as f32).clamp(f32::MIN, f32::MAX)).collect();
    Ok(parcel(tensors, framing::payload(&values)))
}

/// A noised update's bytes, ready for the wire.
pub(crate) fn parcel(tensors: Vec<v1::Tensor>, payload: Bytes) -> Parcel {
    // The server is not told how many examples there were: nothing noises that number.
    Parcel { tensors, digest: Digest::of(&payload), payload, examples: 1, encoding: Encoding::Noised }
}

/// The bytes of a noised update that was on its way: sent again as they are, because a second noise would tell more.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kept(pub(crate) Bytes);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} bytes)", self.0.len())
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hex::decode(String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: OwnNoise = OwnNoise { clip_l2: 0.5, grid_bits: 20, sigma_grid: 3 << 20 };

    fn values(delta: &[f32]) -> Vec<f32> {
        framing::coordinates(&noised(&NOISE, Vec::new(), delta).unwrap().payload).collect()
    }

    #[test]
    fn an_update_leaves_clipped_and_with_noise_of_its_own() {
        // A thousand times the clip in its one coordinate that is not zero.
        let mut delta = vec![0.0; 40_000];
        delta[0] = 500.0;
        let (first, second) = (values(&delta), values(&delta));
        assert_ne!(first, second, "each call draws its own noise");
        let variance = first.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 40_000.0;
        assert!((variance.sqrt() / 1.5 - 1.0).abs() < 0.02, "{variance}");
        assert!(first[0].abs() < 0.5 + 16.0 * 1.5, "the clip holds: {}", first[0]);
        // Whole steps of the grid: low bits tell nothing.
        let step = 0.5 / 1_048_576.0;
        assert!(first.iter().all(|value| (f64::from(*value) / step).fract() == 0.0 || value.abs() > 4.0));
    }

    #[test]
    fn what_is_not_finite_is_noise_alone() {
        let delta: Vec<f32> = (0..10_000).map(|at| if at == 7 { f32::NAN } else { 1000.0 }).collect();
        let mean = values(&delta).iter().map(|value| f64::from(*value)).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 5.0 * 1.5 / 100.0, "{mean}");
        assert!(values(&[f32::INFINITY; 3]).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn noise_that_no_grid_holds_is_refused() {
        let bad = OwnNoise { grid_bits: 31, sigma_grid: u64::MAX, ..NOISE };
        assert!(matches!(noised(&bad, Vec::new(), &[0.0]), Err(Error::Policy(_))));
    }

    #[test]
    fn kept_bytes_come_back_as_they_were_and_are_not_printed() {
        let kept = Kept(Bytes::from_static(&[0, 1, 255, 77]));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
        assert_eq!(format!("{kept:?}"), "Kept(4 bytes)");
        assert!(serde_json::from_str::<Kept>("\"no\"").is_err());
    }
}
