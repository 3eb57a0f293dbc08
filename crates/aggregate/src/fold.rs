//! Exact sums of masked inputs mod 2^32.

use thiserror::Error;

use crate::kernel::ring;

/// Words of the accumulator that all inputs are added to before the next: 32 KiB stay in the first-level cache.
const TILE: usize = 8 * 1024;

/// Why inputs cannot be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// An input is not one word per coordinate.
    #[error(
        "input {input} has {bytes} bytes, not {expected}: four for each coordinate; refuse the upload it came from"
    )]
    Length {
        /// Which input.
        input: usize,
        /// The bytes of all its pieces; `usize::MAX` when that overflows.
        bytes: usize,
        /// What the accumulator asks for.
        expected: usize,
    },
}

/// Adds one input, little-endian words in pieces cut at any byte, to the accumulator mod 2^32.
///
/// # Errors
///
/// When the pieces do not hold one word per value of the accumulator, which is then untouched.
pub fn fold(accumulator: &mut [u32], pieces: &[&[u8]]) -> Result<(), FoldError> {
    fold_all(accumulator, &[pieces])
}

/// Adds several inputs, as [`fold`] would one after the other, but reads and writes the accumulator once.
///
/// # Errors
///
/// When the pieces of some input do not hold one word per value of the accumulator, which is then untouched.
pub fn fold_all(accumulator: &mut [u32], inputs: &[&[&[u8]]]) -> Result<(), FoldError> {
    let expected = accumulator.len().saturating_mul(4);
    for (input, pieces) in inputs.iter().enumerate() {
        let bytes = pieces.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        if bytes != expected {
            return Err(FoldError::Length { input, bytes, expected });
        }
    }
    let mut cursors: Vec<Cursor<'_>> = inputs.iter().map(|pieces| Cursor { piece: &[], pieces }).collect();
    for tile in accumulator.chunks_mut(TILE) {
        let (groups, rest) = cursors.as_chunks_mut();
        for group in groups {
            add_four(tile, group);
        }
        for cursor in rest {
            cursor.add_to(tile);
        }
    }
    Ok(())
}

/// What is left of one input.
struct Cursor<'a> {
    piece: &'a [u8],
    pieces: &'a [&'a [u8]],
}

/// Adds the next words of four inputs: together where each has them in one piece.
fn add_four(accumulator: &mut [u32], cursors: &mut [Cursor<'_>; 4]) {
    let bytes = 4 * accumulator.len();
    if cursors.iter_mut().all(|cursor| cursor.open().len() >= bytes) {
        ring::add_four(accumulator, cursors.each_mut().map(|cursor| cursor.take(bytes)));
        return;
    }
    for cursor in cursors {
        cursor.add_to(accumulator);
    }
}

impl<'a> Cursor<'a> {
    /// Adds the next words, as many as the accumulator has.
    fn add_to(&mut self, mut accumulator: &mut [u32]) {
        while !accumulator.is_empty() {
            let whole = (self.open().len() / 4).min(accumulator.len());
            if whole == 0 {
                accumulator[0] = accumulator[0].wrapping_add(self.split_word());
                accumulator = &mut accumulator[1..];
                continue;
            }
            let (now, later) = accumulator.split_at_mut(whole);
            ring::add(now, self.take(4 * whole));
            accumulator = later;
        }
    }

    /// A word that begins in one piece and ends in another.
    fn split_word(&mut self) -> u32 {
        let mut word = [0; 4];
        for byte in &mut word {
            self.open();
            // The lengths were checked: there is a byte for each of the word's four.
            *byte = self.take(1).first().copied().unwrap_or_default();
        }
        u32::from_le_bytes(word)
    }

    /// The piece at hand: the next one that is not empty.
    fn open(&mut self) -> &'a [u8] {
        while self.piece.is_empty()
            && let Some((first, rest)) = self.pieces.split_first()
        {
            (self.piece, self.pieces) = (first, rest);
        }
        self.piece
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.piece.split_at(bytes.min(self.piece.len()));
        self.piece = rest;
        taken
    }
}

#[cfg(test)]
mod tests;
