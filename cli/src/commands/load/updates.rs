//! What the clients of a load test send: different updates that share their memory.

use bytes::Bytes;
use testudo_protocol::Digest;

/// Largest absolute value of a coordinate: small enough that no number of rounds overflows.
const LARGEST: f32 = 0.01;

/// Pseudo-random updates of one dimension. Client *i*'s coordinate *j* is number *i* + *j* of one sequence, so any two
/// clients differ in every coordinate, and all of them together need little more memory than one.
#[derive(Debug, Clone)]
pub(super) struct Updates {
    sequence: Bytes,
    dimension: usize,
}

impl Updates {
    /// Updates for `clients` clients.
    pub(super) fn new(dimension: usize, clients: usize, seed: u64) -> Self {
        let mut state = seed;
        let mut bytes = Vec::with_capacity((dimension + clients) * 4);
        for _ in 0..dimension + clients {
            bytes.extend_from_slice(&value(&mut state).to_le_bytes());
        }
        Self { sequence: bytes.into(), dimension }
    }

    /// One client's payload, without copying it.
    pub(super) fn payload(&self, client: usize) -> Bytes {
        self.sequence.slice(client * 4..(client + self.dimension) * 4)
    }

    /// One client's payload and its SHA-256.
    pub(super) fn sealed(&self, client: usize) -> (Bytes, Digest) {
        let payload = self.payload(client);
        let digest = Digest::of(&payload);
        (payload, digest)
    }
}

/// Evenly from -[`LARGEST`] to [`LARGEST`]. SplitMix64 (Steele, Lea and Flood 2014).
fn value(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let unit = (bits >> 40) as f32 / (1u64 << 24) as f32;
    (2.0 * unit - 1.0) * LARGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_another_update_of_the_right_length_and_small_finite_values() {
        let updates = Updates::new(1000, 5, 7);
        let mut digests: Vec<Digest> = (0..5).map(|client| updates.sealed(client).1).collect();
        for client in 0..5 {
            let payload = updates.payload(client);
            assert_eq!(payload.len(), 4000);
            let values = payload.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            assert!(values.into_iter().all(|value| value.abs() <= LARGEST));
        }
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 5);
        assert_eq!(Updates::new(1000, 5, 7).payload(3), updates.payload(3));
        assert_ne!(Updates::new(1000, 5, 8).payload(3), updates.payload(3));
    }
}
