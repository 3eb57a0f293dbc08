//! The key streams of masks, by the line: 64 bytes, sixteen words, which is four AES blocks or one ChaCha20 block.
//!
//! On a machine with 64-byte registers and the instructions for them, lines go from the registers straight into the
//! accumulator (`wide`). Elsewhere the `aes` and `chacha20` crates, which choose their own instructions, expand a tile
//! of them that is then added. All give the same words.

#[cfg_attr(target_arch = "x86_64", path = "cipher/wide.rs")]
#[cfg_attr(not(target_arch = "x86_64"), path = "cipher/none.rs")]
mod wide;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, StreamCipherCore};
use aes::{Aes256Enc, Block};
use chacha20::{ChaCha20LegacyCore, KeyIvInit};
use zeroize::{Zeroize, Zeroizing};

use super::ring;

/// Words of a line.
pub(crate) const WORDS: usize = 16;

/// Bytes of a line.
pub(crate) const LINE: usize = 4 * WORDS;

/// Lines expanded at a time: 8 KiB stay in the first-level cache beside the accumulator's.
const TILE: usize = 128;

/// AES blocks per line.
const BLOCKS: u64 = 4;

type Line = [u8; LINE];

/// What is done with words of a stream.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Use {
    Write,
    Add,
    Subtract,
}

/// A key made ready to expand any part of its stream. Zeroised when dropped.
pub(crate) struct Stream(Keyed);

enum Keyed {
    /// Block j is the encryption of j as a little-endian u64, followed by eight zero bytes.
    Aes(Box<Aes256Enc>),
    WideAes(Box<wide::AesKeys>),
    /// A zero nonce and a 64-bit counter: below 2^32 lines the stream of RFC 8439.
    ChaCha(Zeroizing<[u8; 32]>),
    WideChaCha(wide::ChaChaKey),
}

impl Stream {
    pub(crate) fn aes(key: &[u8; 32]) -> Self {
        match wide::AesKeys::new(key) {
            Some(keys) => Self(Keyed::WideAes(Box::new(keys))),
            None => Self::narrow_aes(key),
        }
    }

    pub(crate) fn chacha(key: &[u8; 32]) -> Self {
        match wide::ChaChaKey::new(key) {
            Some(key) => Self(Keyed::WideChaCha(key)),
            None => Self::narrow_chacha(key),
        }
    }

    fn narrow_aes(key: &[u8; 32]) -> Self {
        Self(Keyed::Aes(Box::new(Aes256Enc::new(key.into()))))
    }

    fn narrow_chacha(key: &[u8; 32]) -> Self {
        Self(Keyed::ChaCha(Zeroizing::new(*key)))
    }

    /// Writes the lines from `first_line` on; `bytes` is a whole number of lines.
    pub(crate) fn write(&self, first_line: u64, bytes: &mut [u8]) {
        match &self.0 {
            Keyed::WideAes(keys) => keys.apply(first_line, bytes.as_chunks_mut().0, Use::Write),
            Keyed::WideChaCha(key) => key.apply(first_line, bytes.as_chunks_mut().0, Use::Write),
            Keyed::Aes(cipher) => {
                let (blocks, _) = Block::slice_as_chunks_mut(bytes);
                for (block, counter) in blocks.iter_mut().zip(first_line.wrapping_mul(BLOCKS)..) {
                    block[..8].copy_from_slice(&counter.to_le_bytes());
                    block[8..].fill(0);
                }
                cipher.encrypt_blocks(blocks);
            }
            Keyed::ChaCha(key) => {
                let mut core = ChaCha20LegacyCore::new((&**key).into(), &Array::from([0; 8]));
                core.set_block_pos(first_line);
                core.write_keystream_blocks(Array::slice_as_chunks_mut(bytes).0);
            }
        }
    }

    /// Adds the stream from word `first` on to the accumulator, or subtracts it, mod 2^32.
    pub(crate) fn apply(&self, accumulator: &mut [u32], first: u64, subtract: bool, scratch: &mut Scratch) {
        let within = (first % WORDS as u64) as usize;
        let mut line = first / WORDS as u64;
        let mut rest = accumulator;
        if within > 0 {
            let (head, tail) = rest.split_at_mut(rest.len().min(WORDS - within));
            self.apply_within(head, line, within, subtract, scratch);
            (rest, line) = (tail, line + 1);
        }
        let whole = rest.len() - rest.len() % WORDS;
        let (lines, tail) = rest.split_at_mut(whole);
        self.apply_lines(lines, line, subtract, scratch);
        self.apply_within(tail, line + (whole / WORDS) as u64, 0, subtract, scratch);
    }

    /// Applies part of one line.
    fn apply_within(&self, part: &mut [u32], line: u64, skip: usize, subtract: bool, scratch: &mut Scratch) {
        if part.is_empty() {
            return;
        }
        let bytes = &mut scratch.0[..LINE];
        self.write(line, bytes);
        combine(part, &bytes[4 * skip..4 * (skip + part.len())], subtract);
    }

    /// Applies whole lines.
    fn apply_lines(&self, lines: &mut [u32], first_line: u64, subtract: bool, scratch: &mut Scratch) {
        let how = if subtract { Use::Subtract } else { Use::Add };
        match &self.0 {
            Keyed::WideAes(keys) => keys.apply(first_line, wide::lines(lines), how),
            Keyed::WideChaCha(key) => key.apply(first_line, wide::lines(lines), how),
            Keyed::Aes(_) | Keyed::ChaCha(_) => {
                for (tile, line) in lines.chunks_mut(TILE * WORDS).zip((first_line..).step_by(TILE)) {
                    let bytes = &mut scratch.0[..4 * tile.len()];
                    self.write(line, bytes);
                    combine(tile, bytes, subtract);
                }
            }
        }
    }
}

/// Where lines are expanded. Zeroised when dropped.
pub(crate) struct Scratch(Box<[u8; TILE * LINE]>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(Box::new([0; TILE * LINE]))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn combine(accumulator: &mut [u32], bytes: &[u8], subtract: bool) {
    if subtract {
        ring::subtract(accumulator, bytes);
    } else {
        ring::add(accumulator, bytes);
    }
}

#[cfg(test)]
mod tests;
