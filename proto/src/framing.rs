//! How long streams are cut into messages, and how numbers lie in them.

use bytes::Bytes;
use testudo_protocol::limits;

/// Longest answer to a step of a masked round, with what surrounds it.
pub const REPLY_BYTES: usize = testudo_protocol::secagg::REPLY_BYTES + 1024;
/// Largest message either side decodes: one chunk and what surrounds it.
pub const MESSAGE_BYTES: usize = limits::CHUNK_BYTES + limits::MESSAGE_OVERHEAD_BYTES;

/// Cuts bytes into chunks of at most `chunk_bytes`, without copying. Sizes outside 1 to
/// [`limits::CHUNK_BYTES`] are brought into that range.
pub fn chunks(mut bytes: Bytes, chunk_bytes: usize) -> impl Iterator<Item = Bytes> + Send {
    let most = chunk_bytes.clamp(1, limits::CHUNK_BYTES);
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(most.min(bytes.len()))))
}

/// An update's payload: its coordinates as little-endian 32-bit floats, 4 bytes each.
pub fn payload(coordinates: &[f32]) -> Bytes {
    let mut bytes = vec![0; coordinates.len() * 4];
    for (four, value) in bytes.chunks_exact_mut(4).zip(coordinates) {
        four.copy_from_slice(&value.to_le_bytes());
    }
    Bytes::from(bytes)
}

/// The coordinates of a payload; a tail of fewer than 4 bytes is left out.
pub fn coordinates(payload: &[u8]) -> impl Iterator<Item = f32> + '_ {
    payload.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_put_together_are_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), most in 0usize..50) {
            let pieces: Vec<_> = chunks(Bytes::from(bytes.clone()), most).collect();
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= most.max(1)));
            prop_assert_eq!(pieces.concat(), bytes);
        }

        #[test]
        fn a_payload_keeps_every_bit(bits in proptest::collection::vec(any::<u32>(), 0..50)) {
            let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let back: Vec<u32> = coordinates(&payload(&values)).map(f32::to_bits).collect();
            prop_assert_eq!(back, bits);
        }
    }

    #[test]
    fn no_chunk_is_longer_than_the_limit() {
        let bytes = Bytes::from(vec![0; limits::CHUNK_BYTES + 1]);
        let lengths: Vec<_> = chunks(bytes, usize::MAX).map(|piece| piece.len()).collect();
        assert_eq!(lengths, [limits::CHUNK_BYTES, 1]);
    }
}
