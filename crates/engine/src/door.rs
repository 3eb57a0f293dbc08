//! Checks on an update while it streams in, before any rule sees it.

use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use testudo_protocol::{Decoder, Digest, Encoding, Layout, Reason, Reject, Run};

/// Follows one payload from its first byte to its last, and decodes it where it is not plain f32.
///
/// Norm and verdict do not depend on how the bytes are cut into chunks.
#[derive(Debug, Clone)]
pub struct Door {
    layout: Arc<Layout>,
    max_l2: Option<f64>,
    hash: Sha256,
    /// Bytes of the payload seen so far.
    position: u64,
    /// Longest payload.
    most: u64,
    /// For encodings other than f32.
    decoder: Option<Decoder>,
    /// Bytes of a coordinate cut by a chunk's end.
    carry: Vec<u8>,
    coordinates: usize,
    /// Sums of squares by coordinate index mod 8: a fixed order at any chunk size.
    squares: [f64; 8],
    non_finite: Option<usize>,
    /// Nothing is to be seen in the values: masked inputs are uniform words, and what a private task saw in them it would
    /// have to hide.
    blind: bool,
    /// Masked inputs: as long as announced.
    masked: bool,
}

/// A payload that passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passed {
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// Its L2 norm; 0 where it is not looked at: masked inputs, private tasks.
    pub norm: f64,
}

impl Door {
    /// A door for updates of this layout and encoding, with the task's cap on the L2 norm. Takes at most `most` payload
    /// bytes: as many as were announced.
    pub fn new(layout: Arc<Layout>, max_l2: Option<f64>, encoding: Encoding, most: u64) -> Self {
        let (hash, carry) = (Sha256::new(), Vec::with_capacity(4));
        let most = most.min(*encoding.lengths(&layout).end());
        let decoder = (!encoding.is_plain()).then(|| Decoder::new(encoding, layout.clone()));
        Self {
            layout,
            max_l2,
            hash,
            position: 0,
            most,
            decoder,
            carry,
            coordinates: 0,
            squares: [0.0; 8],
            non_finite: None,
            blind: encoding == Encoding::Masked,
            masked: encoding == Encoding::Masked,
        }
    }

    /// A door for updates of a private task: form alone is checked. A value that is not finite refuses nothing, because
    /// who is refused is seen without noise; and the norm is not told.
    pub fn private(layout: Arc<Layout>, encoding: Encoding, most: u64) -> Self {
        Self { blind: true, ..Self::new(layout, None, encoding, most) }
    }

    /// Bytes of the payload seen so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of plain f32 they stand for: what the spool holds.
    pub fn stored(&self) -> u64 {
        self.coordinates as u64 * 4 + self.carry.len() as u64
    }

    /// Whether the payload is plain f32, to be stored as it comes through [`Door::feed`]; otherwise
    /// [`Door::decode`] says what to store.
    pub fn is_plain(&self) -> bool {
        self.decoder.is_none()
    }

    /// Takes the next bytes of a plain payload.
    ///
    /// # Errors
    /// `OVERSIZE` for more bytes than the layout has.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        self.count(bytes)?;
        self.plain(bytes);
        Ok(())
    }

    /// Takes the next bytes of an encoded payload; answers the coordinates they stand for. Give it few bytes at a
    /// time: a sparse payload's may stand for many more.
    ///
    /// # Errors
    /// As [`Decoder::feed`], and `OVERSIZE`.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Vec<Run>, Reject> {
        self.count(bytes)?;
        let mut runs = Vec::new();
        if let Some(decoder) = &mut self.decoder {
            decoder.feed(bytes, &mut runs)?;
        }
        self.follow(&runs);
        Ok(runs)
    }

    /// The coordinates that the end of an encoded payload stands for.
    ///
    /// # Errors
    /// `TRUNCATED` when coordinates are missing.
    pub fn decode_end(&mut self) -> Result<Vec<Run>, Reject> {
        let mut runs = Vec::new();
        if let Some(decoder) = &mut self.decoder {
            decoder.finish(&mut runs)?;
        }
        self.follow(&runs);
        Ok(runs)
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        if self.position + bytes.len() as u64 > self.most {
            let detail = format!("more than the {} bytes announced", self.most);
            return Err(Reject::new(Reason::Oversize, detail));
        }
        self.position += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(())
    }

    fn follow(&mut self, runs: &[Run]) {
        for run in runs {
            match run {
                Run::Values(values) => {
                    for &value in values {
                        self.note(value, self.coordinates % 8);
                        self.coordinates += 1;
                    }
                }
                Run::Zeros(count) => self.coordinates += count,
            }
        }
    }

    fn plain(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if !self.carry.is_empty() {
            let need = (4 - self.carry.len()).min(rest.len());
            self.carry.extend_from_slice(&rest[..need]);
            rest = &rest[need..];
            if self.carry.len() < 4 {
                return;
            }
            let whole = std::mem::take(&mut self.carry);
            self.scan(&whole);
        }
        let whole = rest.len() / 4 * 4;
        self.scan(&rest[..whole]);
        self.carry.extend_from_slice(&rest[whole..]);
    }

    /// The verdict on the whole payload.
    ///
    /// # Errors
    /// `TRUNCATED`, `DIGEST_MISMATCH`, `NON_FINITE` (with tensor and position) or `MAGNITUDE`, in this order.
    pub fn finish(self, announced: Digest) -> Result<Passed, Reject> {
        // A masked input may be a weight longer than the layout; how long it must be was said when it was announced.
        let expected = if self.masked { self.most } else { self.layout.bytes() };
        if self.stored() != expected {
            let detail = format!("{} of {expected} bytes", self.stored());
            return Err(Reject::new(Reason::Truncated, detail));
        }
        let digest = Digest(self.hash.finalize().into());
        if digest != announced {
            // What a private task saw of an update it would have to hide, even of one damaged on its way.
            let detail = match self.blind {
                true => "the bytes are not those that the header announces".to_string(),
                false => format!("the bytes have {}, the header says {}", digest.short(), announced.short()),
            };
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
        if self.blind {
            self.coordinates += bytes.len() / 4;
            return;
        }
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
        let mut door = Door::new(layout, cap, Encoding::F32, u64::MAX);
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
    fn a_private_door_looks_at_the_form_alone() {
        let values = [f32::NAN, f32::INFINITY, 1e30, 3.0];
        let payload = bytes(&values);
        let mut door = Door::private(layout(4), Encoding::F32, u64::MAX);
        door.feed(&payload).unwrap();
        assert_eq!(door.clone().finish(Digest::of(&payload)).unwrap().norm, 0.0);
        assert_eq!(door.clone().finish(Digest::of(b"other")).unwrap_err().reason, Reason::DigestMismatch);
        assert_eq!(door.feed(&[0; 4]).unwrap_err().reason, Reason::Oversize);
    }

    #[test]
    fn wrong_lengths_and_digests_are_refused() {
        let layout = layout(4);
        let mut door = Door::new(layout, None, Encoding::F32, u64::MAX);
        door.feed(&[0; 15]).unwrap();
        assert_eq!(door.clone().feed(&[0; 2]).unwrap_err().reason, Reason::Oversize);
        assert_eq!(door.clone().finish(Digest::of(&[0; 15])).unwrap_err().reason, Reason::Truncated);
        door.feed(&[0; 1]).unwrap();
        assert_eq!(door.finish(Digest::of(b"other")).unwrap_err().reason, Reason::DigestMismatch);
    }

    proptest! {
        #[test]
        fn an_encoded_payload_has_the_norm_of_what_it_stands_for(
            values in prop::collection::vec(-1e3f32..1e3, 2..80), cut in 1usize..50, which in 1usize..5
        ) {
            let layout = layout(values.len() as u64);
            let encoding = Encoding::ALL[which];
            let payload = encoding.encode(&values, &layout);
            let mut door = Door::new(layout, None, encoding, u64::MAX);
            let mut runs = Vec::new();
            for piece in payload.chunks(cut) {
                runs.extend(door.decode(piece).unwrap());
            }
            runs.extend(door.decode_end().unwrap());
            let stored: Vec<f32> = runs.into_iter().flat_map(|run| match run {
                Run::Values(values) => values,
                Run::Zeros(count) => vec![0.0; count],
            }).collect();
            prop_assert_eq!(door.position(), payload.len() as u64);
            let passed = door.finish(Digest::of(&payload)).unwrap();
            prop_assert_eq!(passed.norm.to_bits(), pass(&stored, None, 4096).unwrap().norm.to_bits());
        }

        #[test]
        fn the_norm_does_not_depend_on_chunks(values in prop::collection::vec(-1e3f32..1e3, 2..80), cut in 1usize..50) {
            prop_assert_eq!(pass(&values, None, cut).unwrap(), pass(&values, None, 4096).unwrap());
        }
    }
}
