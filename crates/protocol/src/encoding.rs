//! Shorter encodings of an update, decoded with bounds.

mod decoder;

pub use decoder::{Decoder, LONGEST_GAP, Run};

use crate::{Layout, secagg::ROTATION_BLOCK};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// How a payload stands for the f32 coordinates of an update. All numbers are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// 4 bytes per coordinate: the coordinates themselves.
    #[default]
    F32,
    /// 2 bytes: IEEE 754 binary16. Values beyond 65504 do not fit.
    F16,
    /// 2 bytes: the upper half of an f32.
    Bf16,
    /// Per tensor a scale (f32) and a zero point (i32), then a byte q per coordinate: scale · (q − zero point).
    Int8,
    /// A count (u32), then per coordinate that is not 0 its index (u32, ascending) and its value (f32).
    Sparse,
    /// 4 bytes per coordinate: levels of the quantiser under masks, and 4 for the client's weight where the task has
    /// weights; or whole blocks of noised steps. Only masked rounds take it, and take nothing else.
    Masked,
    /// 4 bytes per coordinate: an f32 update that its client has noised. Only tasks with noise on the client take it, and
    /// take nothing else.
    Noised,
}

/// Bytes before the coordinates of a tensor in [`Encoding::Int8`].
const INT8_HEADER: u64 = 8;
/// Largest scale: all 255 steps of it are finite.
const LARGEST_SCALE: f32 = f32::MAX / 256.0;
/// Bytes of an entry of [`Encoding::Sparse`].
const SPARSE_ENTRY: u64 = 8;
/// Bytes of the count of [`Encoding::Sparse`].
const SPARSE_HEADER: u64 = 4;

/// A word that names no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no encoding; there are f32, f16, bf16, int8 and sparse")]
pub struct UnknownEncoding(String);

impl Encoding {
    /// Every encoding that a task may accept in clear mode.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Sparse];

    /// The word on the wire and in configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Sparse => "sparse",
            Self::Masked => "masked",
            Self::Noised => "noised",
        }
    }

    /// Reads the word on the wire, where masked inputs and noised updates have one too.
    ///
    /// # Errors
    /// [`UnknownEncoding`].
    pub fn from_wire(word: &str) -> Result<Self, UnknownEncoding> {
        let own = [Self::Masked, Self::Noised].into_iter().find(|encoding| encoding.word() == word);
        own.map_or_else(|| word.parse(), Ok)
    }

    /// Whether the payload is stored as it comes: 4 bytes per coordinate.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::F32 | Self::Masked | Self::Noised)
    }

    /// How long a payload for this layout can be. A sparse payload may name every coordinate once.
    pub fn lengths(self, layout: &Layout) -> RangeInclusive<u64> {
        let dimension = layout.dimension() as u64;
        let exactly = |length| length..=length;
        match self {
            Self::F32 | Self::Noised => exactly(dimension * 4),
            // With a weight, or filled up to whole blocks.
            Self::Masked => dimension * 4..=dimension.next_multiple_of(ROTATION_BLOCK) * 4 + 4,
            Self::F16 | Self::Bf16 => exactly(dimension * 2),
            Self::Int8 => exactly(dimension + layout.tensors().len() as u64 * INT8_HEADER),
            Self::Sparse => SPARSE_HEADER..=SPARSE_HEADER + dimension * SPARSE_ENTRY,
        }
    }

    /// The payload of a flat delta. What does not fit becomes the largest number that does; int8 is symmetric, with
    /// the nearest of 255 steps per tensor.
    ///
    /// `delta` has the layout's dimension and is finite. There is no payload of [`Encoding::Masked`] without masks, and
    /// none of [`Encoding::Noised`] without noise: it is empty.
    pub fn encode(self, delta: &[f32], layout: &Layout) -> Vec<u8> {
        let finite16 = |value: f32| f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
        let finite_brain = |value: f32| bf16::from_f32(value.clamp(bf16::MIN.to_f32(), bf16::MAX.to_f32()));
        match self {
            Self::F32 => delta.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => delta.iter().flat_map(|&value| finite16(value).to_le_bytes()).collect(),
            Self::Bf16 => delta.iter().flat_map(|&value| finite_brain(value).to_le_bytes()).collect(),
            Self::Int8 => int8(delta, layout),
            Self::Sparse => sparse(delta),
            Self::Masked | Self::Noised => Vec::new(),
        }
    }
}

fn int8(delta: &[f32], layout: &Layout) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(delta.len() + layout.tensors().len() * INT8_HEADER as usize);
    let mut rest = delta;
    for tensor in layout.tensors() {
        let length = tensor.coordinates().unwrap_or(0) as usize;
        let (values, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = (largest / 127.0).min(LARGEST_SCALE);
        bytes.extend_from_slice(&scale.to_le_bytes());
        bytes.extend_from_slice(&0i32.to_le_bytes());
        // A scale below f32's range makes every value 0.
        let step = |&value: &f32| if scale > 0.0 { (value / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
        bytes.extend(values.iter().map(|value| step(value).to_le_bytes()[0]));
    }
    bytes
}

fn sparse(delta: &[f32]) -> Vec<u8> {
    let kept: Vec<(u32, f32)> = delta
        .iter()
        .enumerate()
        .filter(|(_, value)| **value != 0.0)
        .map(|(index, value)| (index as u32, *value))
        .collect();
    let mut bytes = Vec::with_capacity(4 + kept.len() * SPARSE_ENTRY as usize);
    bytes.extend_from_slice(&(kept.len() as u32).to_le_bytes());
    for (index, value) in kept {
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Sets all but the `keep` values of largest magnitude to 0; of equal ones the first stay.
pub fn keep_largest(delta: &mut [f32], keep: usize) {
    if keep >= delta.len() {
        return;
    }
    let mut order: Vec<usize> = (0..delta.len()).collect();
    let by_magnitude = |a: &usize, b: &usize| delta[*b].abs().total_cmp(&delta[*a].abs()).then(a.cmp(b));
    if keep > 0 {
        order.select_nth_unstable_by(keep - 1, by_magnitude);
    }
    for &index in &order[keep..] {
        delta[index] = 0.0;
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Encoding {
    type Err = UnknownEncoding;
    fn from_str(word: &str) -> Result<Self, UnknownEncoding> {
        Self::ALL.into_iter().find(|encoding| encoding.word() == word).ok_or_else(|| UnknownEncoding(word.to_string()))
    }
}

#[cfg(test)]
mod tests;
