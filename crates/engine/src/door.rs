//! Checks on an update while it streams in, before any rule sees it.

use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use testudo_protocol::{Digest, Layout, Reason, Reject};

/// Follows one payload of little-endian f32 from its first byte to its last.
///
/// Norm and verdict do not depend on how the bytes are cut into chunks.
#[derive(Debug, Clone)]
pub struct Door {
    layout: Arc<Layout>,
    max_l2: Option<f64>,
    hash: Sha256,
    /// Bytes of a coordinate cut by a chunk's end.
    carry: Vec<u8>,
    coordinates: usize,
    /// Sums of squares by coordinate index mod 8: a fixed order at any chunk size.
    squares: [f64; 8],
    non_finite: Option<usize>,
}

/// A payload that passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passed {
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// Its L2 norm.
    pub norm: f64,
}

impl Door {
    /// A door for updates of this layout, with the task's cap on the L2 norm.
    pub fn new(layout: Arc<Layout>, max_l2: Option<f64>) -> Self {
        let (hash, carry) = (Sha256::new(), Vec::with_capacity(4));
        Self { layout, max_l2, hash, carry, coordinates: 0, squares: [0.0; 8], non_finite: None }
    }

    /// Bytes seen so far.
    pub fn position(&self) -> u64 {
        self.coordinates as u64 * 4 + self.carry.len() as u64
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `OVERSIZE` for more bytes than the layout has.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        if self.position() + bytes.len() as u64 > self.layout.bytes() {
            let detail = format!("more than the model's {} bytes", self.layout.bytes());
            return Err(Reject::new(Reason::Oversize, detail));
        }
        self.hash.update(bytes);
        let mut rest = bytes;
        if !self.carry.is_empty() {
            let need = (4 - self.carry.len()).min(rest.len());
            self.carry.extend_from_slice(&rest[..need]);
            rest = &rest[need..];
            if self.carry.len() < 4 {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.carry);
            self.scan(&whole);
        }
        let whole = rest.len() / 4 * 4;
        self.scan(&rest[..whole]);
        self.carry.extend_from_slice(&rest[whole..]);
        Ok(())
    }

    /// The verdict on the whole payload.
    ///
    /// # Errors
    /// `TRUNCATED`, `DIGEST_MISMATCH`, `NON_FINITE` (with tensor and position) or `MAGNITUDE`, in this order.
    pub fn finish(self, announced: Digest) -> Result<Passed, Reject> {
        if self.position() != self.layout.bytes() {
            let detail = format!("{} of {} bytes", self.position(), self.layout.bytes());
            return Err(Reject::new(Reason::Truncated, detail));
        }
        let digest = Digest(self.hash.finalize().into());
        if digest != announced {
            let detail = format!("the bytes have {}, the header says {}", digest.short(), announced.short());
            return Err(Reject::new(Reason::DigestMismatch, detail));
        }
        if let Some(coordinate) = self.non_finite {
            let place = self.layout.locate(coordinate);
            let place = place.map(|(tensor, index)| format!("tensor {:?}, position {index}", tensor.name));
            return Err(Reject::new(Reason::NonFinite, place.unwrap_or_default()));
        }
        // Squares of f32 stay below 2^256 and a payload holds at most 2^30 of them, so the sum is finite.
        let norm = self.squares.iter().sum::<f64>().sqrt();
        if let Some(cap) = self.max_l2
            && norm > cap
        {
            return Err(Reject::new(Reason::Magnitude, format!("L2 norm {norm:.6} over the task's cap of {cap}")));
        }
        Ok(Passed { digest, norm })
    }

    fn scan(&mut self, bytes: &[u8]) {
        let mut start = 0;
        while start < bytes.len() {
            // Up to the next multiple of eight coordinates one by one, then eight at a time.
            let lane = self.coordinates % 8;
            let eight = bytes[start..].first_chunk::<32>();
            match eight {
                Some(eight) if lane == 0 => {
                    self.take_eight(eight);
                    start += 32;
                }
                _ => {
                    let Some(four) = bytes[start..].first_chunk::<4>() else { return };
                    let value = f32::from_le_bytes(*four);
                    self.note(value, lane);
                    self.coordinates += 1;
                    start += 4;
                }
            }
        }
    }

    fn take_eight(&mut self, bytes: &[u8; 32]) {
        let mut finite = true;
        for lane in 0..8 {
            let value =
                f32::from_le_bytes([bytes[lane * 4], bytes[lane * 4 + 1], bytes[lane * 4 + 2], bytes[lane * 4 + 3]]);
            finite &= value.is_finite();
            self.squares[lane] += f64::from(value) * f64::from(value);
        }
        if !finite && self.non_finite.is_none() {
            let bad = (0..8).find(|&lane| {
                !f32::from_le_bytes([bytes[lane * 4], bytes[lane * 4 + 1], bytes[lane * 4 + 2], bytes[lane * 4 + 3]])
                    .is_finite()
            });
            self.non_finite = bad.map(|lane| self.coordinates + lane);
        }
        self.coordinates += 8;
    }

    fn note(&mut self, value: f32, lane: usize) {
        if !value.is_finite() && self.non_finite.is_none() {
            self.non_finite = Some(self.coordinates);
        }
        self.squares[lane] += f64::from(value) * f64::from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use testudo_protocol::Tensor;

    fn layout(coordinates: u64) -> Arc<Layout> {
        let layout = Layout::new(vec![
            Tensor { name: "w".into(), shape: vec![coordinates - 1] },
            Tensor { name: "b".into(), shape: vec![1] },
        ]);
        Arc::new(layout.unwrap())
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn pass(values: &[f32], cap: Option<f64>, cut: usize) -> Result<Passed, Reject> {
        let layout = layout(values.len() as u64);
        let payload = bytes(values);
        let mut door = Door::new(layout, cap);
        for chunk in payload.chunks(cut) {
            door.feed(chunk)?;
        }
        door.finish(Digest::of(&payload))
    }

    #[test]
    fn a_good_payload_passes_with_its_norm() {
        assert_eq!(pass(&[3.0, 0.0, 4.0], None, 5).unwrap().norm, 5.0);
    }

    #[test]
    fn non_finite_values_are_refused_with_their_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, 8, 20] {
                let mut values = vec![1.0; 21];
                values[at] = bad;
                let error = pass(&values, None, 13).unwrap_err();
                assert_eq!(error.reason, Reason::NonFinite);
                let place = if at == 20 {
                    "tensor \"b\", position 0".to_string()
                } else {
                    format!("tensor \"w\", position {at}")
                };
                assert_eq!(error.detail, place);
            }
        }
    }

    #[test]
    fn huge_tiny_and_negative_zero_values_are_harmless() {
        assert!(pass(&[f32::MAX; 30], None, 4).unwrap().norm.is_finite());
        assert_eq!(pass(&[-0.0, 1e-45], None, 4).unwrap().norm, f64::from(1e-45f32));
        assert_eq!(pass(&[f32::MAX; 30], Some(1e30), 4).unwrap_err().reason, Reason::Magnitude);
    }

    #[test]
    fn wrong_lengths_and_digests_are_refused() {
        let layout = layout(4);
        let mut door = Door::new(layout, None);
        door.feed(&[0; 15]).unwrap();
        assert_eq!(door.clone().feed(&[0; 2]).unwrap_err().reason, Reason::Oversize);
        assert_eq!(door.clone().finish(Digest::of(&[0; 15])).unwrap_err().reason, Reason::Truncated);
        door.feed(&[0; 1]).unwrap();
        assert_eq!(door.finish(Digest::of(b"other")).unwrap_err().reason, Reason::DigestMismatch);
    }

    proptest! {
        #[test]
        fn the_norm_does_not_depend_on_chunks(values in prop::collection::vec(-1e3f32..1e3, 2..80), cut in 1usize..50) {
            prop_assert_eq!(pass(&values, None, cut).unwrap(), pass(&values, None, 4096).unwrap());
        }
    }
}
