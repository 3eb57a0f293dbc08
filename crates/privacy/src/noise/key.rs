//! Keys of noise: one seed per release, one key per manifest and unit.

use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Changes whenever the same key would give other noise.
pub const SAMPLER_VERSION: u32 = 1;

/// 32 bytes from the operating system, drawn for one release and sealed until it is published.
///
/// Never derived from a user's seed, a round's number or the time: whoever knows it can subtract the noise.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NoiseSeed([u8; 32]);

impl NoiseSeed {
    /// Wraps fresh random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of one unit's noise in one sum.
    ///
    /// `manifest` is the digest of what is summed: another set of uploads gets other noise, so that the same noise never
    /// meets two sums, whose difference would have none. `sigma` is the noise's standard deviation in grid units.
    #[must_use]
    pub fn key(&self, manifest: &[u8; 32], sigma: f64, unit: u64) -> NoiseKey {
        let mut key = [0; 32];
        let info: [&[u8]; 5] = [
            b"testudo noise",
            manifest,
            &sigma.to_bits().to_le_bytes(),
            &SAMPLER_VERSION.to_le_bytes(),
            &unit.to_le_bytes(),
        ];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand_multi_info(&info, &mut key)
            .expect("32 bytes are at most 255 times a digest");
        NoiseKey(key)
    }
}

impl fmt::Debug for NoiseSeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NoiseSeed(…)")
    }
}

/// The ChaCha20 key of one stream of noise.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NoiseKey(pub(super) [u8; 32]);

impl NoiseKey {
    /// Wraps a key that is used for one stream alone.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for NoiseKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NoiseKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_release_changes_the_key() {
        let seed = NoiseSeed::new([7; 32]);
        let base = seed.key(&[1; 32], 5.0, 0).0;
        assert_eq!(base, seed.key(&[1; 32], 5.0, 0).0);
        for other in [
            seed.key(&[2; 32], 5.0, 0),
            seed.key(&[1; 32], 5.0_f64.next_up(), 0),
            seed.key(&[1; 32], 5.0, 1),
            NoiseSeed::new([8; 32]).key(&[1; 32], 5.0, 0),
        ] {
            assert_ne!(base, other.0);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?} {:?}", NoiseSeed::new([77; 32]), NoiseKey::new([77; 32])), "NoiseSeed(…) NoiseKey(…)");
    }
}
