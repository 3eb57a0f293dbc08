//! Seekable mask streams, fused with the add.
//!
//! A mask is a key stream read as words of the ring Z/2^32: one word per coordinate of the whole vector. Any stretch of
//! it can be expanded on its own, so masks are applied per unit, in any order and on any number of threads, with the
//! same result.

use rayon::prelude::*;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::kernel::cipher::{LINE, Scratch, Stream};

/// Coordinates a mask covers: 2^36, the 2^32 blocks of one ChaCha20 stream (RFC 8439, section 2.3).
pub const MOST_COORDINATES: u64 = 1 << 36;

/// Coordinates all masks run through before the next: 256 KiB stay in the second-level cache.
const TILE: usize = 64 * 1024;

/// What expands a mask's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-256 in counter mode. Block j is the encryption of j (u64, little-endian) followed by eight zero bytes;
    /// coordinate i is word i mod 4 (u32, little-endian) of block i div 4.
    Aes256Ctr,
    /// ChaCha20 (RFC 8439) with a zero nonce and the counter starting at 0; coordinate i is word i (u32, little-endian)
    /// of the stream.
    ChaCha20,
}

impl Cipher {
    /// The quicker one on this machine: AES where there are instructions for it. Without them AES is computed in
    /// constant time too, several times slower than ChaCha20.
    #[must_use]
    pub fn preferred() -> Self {
        if aes::hardware_accelerated() { Self::Aes256Ctr } else { Self::ChaCha20 }
    }
}

/// The key of one mask, used with one cipher for one vector. Zeroised when dropped, and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MaskKey([u8; 32]);

impl MaskKey {
    /// Takes 32 uniformly random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn stream(&self, cipher: Cipher) -> Stream {
        match cipher {
            Cipher::Aes256Ctr => Stream::aes(&self.0),
            Cipher::ChaCha20 => Stream::chacha(&self.0),
        }
    }
}

/// Whether a mask is added or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// Added mod 2^32.
    Add,
    /// Subtracted mod 2^32.
    Subtract,
}

/// One mask to apply.
#[derive(Clone)]
pub struct Mask {
    /// Names the stream.
    pub key: MaskKey,
    /// Expands it.
    pub cipher: Cipher,
    /// What is done with it.
    pub sign: Sign,
}

/// Why masks cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MaskError {
    /// The vector is longer than a mask.
    #[error(
        "coordinates {first_coordinate}..+{coordinates} reach beyond the {MOST_COORDINATES} that a mask covers; \
         split the vector and use a key for each part"
    )]
    TooLong {
        /// Where the accumulator starts in the whole vector.
        first_coordinate: usize,
        /// Its length.
        coordinates: usize,
    },
}

/// Applies masks to the coordinates of a vector that start at `first_coordinate`, mod 2^32. The coordinates are spread
/// over the current rayon pool when it has several threads; the result is the same on any.
///
/// # Errors
///
/// When the coordinates reach beyond [`MOST_COORDINATES`]; the accumulator is then untouched.
pub fn apply_masks(accumulator: &mut [u32], first_coordinate: usize, masks: &[Mask]) -> Result<(), MaskError> {
    let (first, coordinates) = (first_coordinate as u64, accumulator.len());
    if first.checked_add(coordinates as u64).is_none_or(|end| end > MOST_COORDINATES) {
        return Err(MaskError::TooLong { first_coordinate, coordinates });
    }
    let streams: Vec<(Stream, Sign)> = masks.iter().map(|mask| (mask.key.stream(mask.cipher), mask.sign)).collect();
    if coordinates <= TILE || rayon::current_num_threads() == 1 {
        let mut scratch = Scratch::new();
        for (tile, start) in accumulator.chunks_mut(TILE).zip((first..).step_by(TILE)) {
            apply_to_tile(tile, start, &streams, &mut scratch);
        }
        return Ok(());
    }
    accumulator.par_chunks_mut(TILE).enumerate().for_each_init(Scratch::new, |scratch, (index, tile)| {
        apply_to_tile(tile, first + (index * TILE) as u64, &streams, scratch);
    });
    Ok(())
}

/// A mask's stream as a source of random bytes, from its start: what [`crate::Quantizer::quantize`] asks for. Zeroised
/// when dropped.
///
/// It has no end in practice: beyond the length of a mask, ChaCha20 goes on with a 64-bit block counter.
pub struct KeyStream {
    stream: Stream,
    next_line: u64,
    /// A line of which the last `left` bytes have not been handed out.
    line: [u8; LINE],
    left: usize,
}

impl KeyStream {
    /// Starts the stream of a key, which must serve no other purpose.
    #[must_use]
    pub fn new(key: &MaskKey, cipher: Cipher) -> Self {
        Self { stream: key.stream(cipher), next_line: 0, line: [0; LINE], left: 0 }
    }

    /// Writes the next bytes of the stream.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let (head, rest) = bytes.split_at_mut(self.left.min(bytes.len()));
        self.hand_out(head);
        let (lines, tail) = rest.split_at_mut(rest.len() - rest.len() % LINE);
        self.stream.write(self.next_line, lines);
        self.next_line = self.next_line.wrapping_add((lines.len() / LINE) as u64);
        if tail.is_empty() {
            return;
        }
        self.stream.write(self.next_line, &mut self.line);
        self.next_line = self.next_line.wrapping_add(1);
        self.left = LINE;
        self.hand_out(tail);
    }

    fn hand_out(&mut self, bytes: &mut [u8]) {
        let start = LINE - self.left;
        bytes.copy_from_slice(&self.line[start..start + bytes.len()]);
        self.left -= bytes.len();
    }
}

impl Drop for KeyStream {
    fn drop(&mut self) {
        self.line.zeroize();
    }
}

fn apply_to_tile(tile: &mut [u32], first: u64, streams: &[(Stream, Sign)], scratch: &mut Scratch) {
    for (stream, sign) in streams {
        stream.apply(tile, first, *sign == Sign::Subtract, scratch);
    }
}

#[cfg(test)]
mod tests;
