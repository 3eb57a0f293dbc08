//! Payload bytes to coordinates, as they stream in.

use super::{Encoding, LARGEST_SCALE, SPARSE_ENTRY, SPARSE_HEADER};
use crate::{Layout, Reason, Reject};
use half::{bf16, f16};
use std::sync::Arc;

/// Decoded coordinates, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Run {
    /// These.
    Values(Vec<f32>),
    /// That many zeros, more than [`LONGEST_GAP`].
    Zeros(usize),
}

/// Zeros that are written out among values; a longer run of them stays a number, so that a short payload cannot
/// become a large vector at once.
pub const LONGEST_GAP: usize = 1024;

/// Adds to the values at the end.
fn values(out: &mut Vec<Run>) -> &mut Vec<f32> {
    if !matches!(out.last(), Some(Run::Values(_))) {
        out.push(Run::Values(Vec::new()));
    }
    match out.last_mut() {
        Some(Run::Values(values)) => values,
        _ => unreachable!("values were just put there"),
    }
}

fn zeros(out: &mut Vec<Run>, count: usize) {
    match count {
        0 => {}
        count if count <= LONGEST_GAP => {
            let values = values(out);
            values.resize(values.len() + count, 0.0);
        }
        count => out.push(Run::Zeros(count)),
    }
}

/// Decodes one payload, however its bytes are cut. Never more coordinates than the layout has, whatever the bytes say.
#[derive(Debug, Clone)]
pub struct Decoder {
    encoding: Encoding,
    layout: Arc<Layout>,
    /// Bytes of an item that a chunk's end has cut.
    cut: Vec<u8>,
    /// Coordinates decoded.
    coordinates: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// The next item is a coordinate, or an entry of a sparse payload.
    Values,
    /// The next item is the header of tensor `tensor`, or the count of a sparse payload.
    Header { tensor: usize },
    /// Coordinates of tensor `tensor`, of which `left` are to come.
    Steps { tensor: usize, left: usize, scale: f32, zero: i32 },
    /// Entries of a sparse payload that are to come.
    Entries { left: u64 },
}

impl Decoder {
    /// A decoder for updates of this layout.
    pub fn new(encoding: Encoding, layout: Arc<Layout>) -> Self {
        let state = match encoding {
            Encoding::F32 | Encoding::Masked | Encoding::Noised | Encoding::F16 | Encoding::Bf16 => State::Values,
            Encoding::Int8 | Encoding::Sparse => State::Header { tensor: 0 },
        };
        Self { encoding, layout, cut: Vec::with_capacity(8), coordinates: 0, state }
    }

    /// The encoding.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Takes the next bytes and adds their coordinates to `out`.
    ///
    /// # Errors
    /// `MALFORMED` for scales, zero points, counts and indices out of bounds, `NON_FINITE` for a scale that is not
    /// finite, `OVERSIZE` for more coordinates than the layout has. The payload is then refused as a whole.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Run>) -> Result<(), Reject> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let width = self.width();
            if self.cut.is_empty() && rest.len() >= width {
                rest = self.take(rest, out)?;
                continue;
            }
            let need = (width - self.cut.len()).min(rest.len());
            self.cut.extend_from_slice(&rest[..need]);
            rest = &rest[need..];
            if self.cut.len() == width {
                let whole = std::mem::take(&mut self.cut);
                self.take(&whole, out)?;
            }
        }
        Ok(())
    }

    /// The end of the payload: the coordinates after the last entry of a sparse payload are 0.
    ///
    /// # Errors
    /// `TRUNCATED` when coordinates are missing.
    pub fn finish(&mut self, out: &mut Vec<Run>) -> Result<(), Reject> {
        let dimension = self.layout.dimension();
        if self.cut.is_empty() && matches!(self.state, State::Entries { left: 0 }) {
            zeros(out, dimension - self.coordinates);
            self.coordinates = dimension;
        }
        if self.cut.is_empty() && self.coordinates == dimension {
            return Ok(());
        }
        let detail = format!("ends after {} of {dimension} coordinates", self.coordinates);
        Err(Reject::new(Reason::Truncated, detail))
    }

    /// Bytes of the next item.
    fn width(&self) -> usize {
        match self.state {
            State::Values => {
                if self.encoding.is_plain() {
                    4
                } else {
                    2
                }
            }
            State::Header { .. } => {
                if self.encoding == Encoding::Int8 {
                    8
                } else {
                    SPARSE_HEADER as usize
                }
            }
            State::Steps { .. } => 1,
            State::Entries { .. } => SPARSE_ENTRY as usize,
        }
    }

    /// Takes whole items off the front of `bytes`, at least one.
    fn take<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<Run>) -> Result<&'a [u8], Reject> {
        match self.state {
            State::Values => {
                let width = self.width();
                let count = bytes.len() / width;
                self.count(count)?;
                let (whole, rest) = bytes.split_at(count * width);
                match self.encoding {
                    Encoding::F16 => {
                        values(out).extend(whole.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()))
                    }
                    Encoding::Bf16 => {
                        values(out).extend(whole.as_chunks().0.iter().map(|two| bf16::from_le_bytes(*two).to_f32()))
                    }
                    _ => values(out).extend(whole.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four))),
                }
                Ok(rest)
            }
            State::Header { tensor } => {
                let (header, rest) = bytes.split_at(self.width());
                self.state =
                    if self.encoding == Encoding::Int8 { self.steps(header, tensor)? } else { self.entries(header)? };
                Ok(rest)
            }
            State::Steps { tensor, left, scale, zero } => {
                let count = left.min(bytes.len());
                self.count(count)?;
                let (whole, rest) = bytes.split_at(count);
                values(out).extend(whole.iter().map(|&byte| scale * (i32::from(byte as i8) - zero) as f32));
                self.state = match left - count {
                    0 => State::Header { tensor: tensor + 1 },
                    left => State::Steps { tensor, left, scale, zero },
                };
                Ok(rest)
            }
            State::Entries { left } => {
                let mut rest = bytes;
                let mut left = left;
                while let Some(entry) = rest.first_chunk::<8>() {
                    if left == 0 {
                        return Err(Reject::new(Reason::Oversize, "more entries than announced"));
                    }
                    self.entry(entry, out)?;
                    left -= 1;
                    rest = &rest[8..];
                }
                self.state = State::Entries { left };
                Ok(rest)
            }
        }
    }

    fn steps(&self, header: &[u8], tensor: usize) -> Result<State, Reject> {
        let Some(name) = self.layout.tensors().get(tensor) else {
            return Err(Reject::new(Reason::Oversize, "more bytes than the last tensor has coordinates"));
        };
        let (scale, zero) = header.split_at(4);
        let scale = f32::from_le_bytes(scale.try_into().unwrap_or_default());
        let zero = i32::from_le_bytes(zero.try_into().unwrap_or_default());
        let place = |what: String| format!("tensor {:?}: {what}", name.name);
        if !scale.is_finite() {
            return Err(Reject::new(Reason::NonFinite, place("its scale is not finite".into())));
        }
        if !(0.0..=LARGEST_SCALE).contains(&scale) {
            let detail = place(format!("a scale of {scale:e}; it must be from 0 to {LARGEST_SCALE:e}"));
            return Err(Reject::new(Reason::Malformed, detail));
        }
        if !(-128..=127).contains(&zero) {
            let detail = place(format!("a zero point of {zero}; it must be from -128 to 127"));
            return Err(Reject::new(Reason::Malformed, detail));
        }
        let left = name.coordinates().unwrap_or(0) as usize;
        // An empty tensor has a header and nothing more.
        Ok(if left == 0 { State::Header { tensor: tensor + 1 } } else { State::Steps { tensor, left, scale, zero } })
    }

    fn entries(&self, header: &[u8]) -> Result<State, Reject> {
        let left = u64::from(u32::from_le_bytes(header.try_into().unwrap_or_default()));
        let dimension = self.layout.dimension() as u64;
        if left > dimension {
            let detail = format!("{left} entries, but the model has {dimension} coordinates");
            return Err(Reject::new(Reason::Malformed, detail));
        }
        Ok(State::Entries { left })
    }

    fn entry(&mut self, entry: &[u8; 8], out: &mut Vec<Run>) -> Result<(), Reject> {
        let [a, b, c, d, value @ ..] = *entry;
        let index = u32::from_le_bytes([a, b, c, d]) as usize;
        if index < self.coordinates || index >= self.layout.dimension() {
            let detail = format!(
                "index {index} after {} coordinates of {}; indices ascend",
                self.coordinates,
                self.layout.dimension()
            );
            return Err(Reject::new(Reason::Malformed, detail));
        }
        zeros(out, index - self.coordinates);
        values(out).push(f32::from_le_bytes(value));
        self.coordinates = index + 1;
        Ok(())
    }

    /// Counts coordinates, before they are decoded.
    fn count(&mut self, more: usize) -> Result<(), Reject> {
        let dimension = self.layout.dimension();
        if more > dimension - self.coordinates {
            return Err(Reject::new(Reason::Oversize, format!("more than the model's {dimension} coordinates")));
        }
        self.coordinates += more;
        Ok(())
    }
}
