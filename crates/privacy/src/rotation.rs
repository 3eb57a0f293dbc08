//! A public random rotation: signs, then a Hadamard transform, block by block.
//!
//! It spreads what one coordinate holds over its whole block, so that sums of rotated updates stay far from the ends of
//! the ring in which they are taken. Everybody knows the seed: it hides nothing, and no proof of privacy rests on it.

use chacha20::{
    ChaCha20, KeyIvInit as _,
    cipher::{StreamCipher as _, StreamCipherSeek as _},
};

/// Coordinates of a block: 4^6, so that the transform's factor 1/√block is a power of two.
pub const BLOCK: usize = 4096;
/// 1/√[`BLOCK`].
const SCALE: f64 = 1.0 / 64.0;

/// The rotation of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    seed: [u8; 32],
}

impl Rotation {
    /// The rotation of a public seed: new in every round, so that nobody can prepare an update for it.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// Coordinates of a rotated vector of `dimension`: filled up with zeros to whole blocks.
    #[must_use]
    pub fn padded(dimension: usize) -> usize {
        dimension.next_multiple_of(BLOCK)
    }

    /// Rotates block number `index` of a vector in place. The same bits on every machine.
    pub fn forward(&self, index: u64, block: &mut [f64; BLOCK]) {
        self.sign(index, block);
        hadamard(block);
    }

    /// Undoes [`Self::forward`], but for rounding.
    pub fn inverse(&self, index: u64, block: &mut [f64; BLOCK]) {
        hadamard(block);
        self.sign(index, block);
    }

    fn sign(&self, index: u64, block: &mut [f64; BLOCK]) {
        let mut cipher = ChaCha20::new(&self.seed.into(), b"testudo sign".into());
        let mut bits = [0_u8; BLOCK / 8];
        // Vectors have at most 2³⁰ coordinates: 2²⁷ bytes.
        cipher.seek(index * bits.len() as u64);
        cipher.apply_keystream(&mut bits);
        for (eight, bits) in block.chunks_exact_mut(8).zip(bits) {
            for (at, value) in eight.iter_mut().enumerate() {
                // The sign bit alone: −0 and NaN too.
                *value = f64::from_bits(value.to_bits() ^ u64::from(bits >> at & 1) << 63);
            }
        }
    }
}

/// The orthonormal Walsh–Hadamard transform, its own inverse.
fn hadamard(block: &mut [f64; BLOCK]) {
    let mut half = 1;
    while half < BLOCK {
        for pair in block.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (left, right) in left.iter_mut().zip(right) {
                (*left, *right) = (*left + *right, *left - *right);
            }
        }
        half *= 2;
    }
    block.iter_mut().for_each(|value| *value *= SCALE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(value: impl Fn(usize) -> f64) -> Box<[f64; BLOCK]> {
        Box::new(std::array::from_fn(value))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn it_keeps_norms_and_comes_back(seed: [u8; 32], index in 0u64..1 << 18, values in prop::collection::vec(-1e3..1e3, 64)) {
            let rotation = Rotation::new(seed);
            let original = block(|at| values[at % 64] * ((at / 64) as f64 - 30.0));
            let mut rotated = original.clone();
            rotation.forward(index, &mut rotated);
            let norm = |block: &[f64; BLOCK]| block.iter().map(|value| value * value).sum::<f64>().sqrt();
            prop_assert!((norm(&rotated) / norm(&original) - 1.0).abs() < 1e-12);
            rotation.inverse(index, &mut rotated);
            for (got, expected) in rotated.iter().zip(original.iter()) {
                prop_assert!((got - expected).abs() <= 1e-9 * norm(&original));
            }
        }
    }

    #[test]
    fn one_coordinate_is_spread_evenly_and_never_alike() {
        let rotated = |seed: u8, index: u64, ones: &[usize]| {
            let mut block = block(|at| if ones.contains(&at) { 64.0 } else { 0.0 });
            Rotation::new([seed; 32]).forward(index, &mut block);
            block
        };
        assert!(rotated(1, 0, &[5]).iter().all(|value| value.abs() == 1.0));
        // Many coordinates at once: the same in no two blocks and under no two seeds.
        let many: Vec<usize> = (0..64).collect();
        let all: Vec<_> = (0..8)
            .flat_map(|seed| [rotated(seed, 0, &many), rotated(seed, 1, &many), rotated(seed, 1 << 17, &many)])
            .collect();
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn known_values_never_change() {
        let mut values = block(|at| at as f64);
        Rotation::new([7; 32]).forward(3, &mut values);
        let sum = values.iter().enumerate().fold(0_u64, |sum, (at, value)| {
            sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(value.to_bits() ^ at as u64)
        });
        assert_eq!(sum, KNOWN, "{sum:#x}");
    }

    /// Of all bits of a rotated block.
    const KNOWN: u64 = 0xc223_2703_4a99_c800;

    #[test]
    fn vectors_are_filled_up_to_whole_blocks() {
        for (dimension, padded) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(Rotation::padded(dimension), padded);
        }
    }
}
