//! Streams of noise: draws in order, from two keystreams of one key.

use super::{
    BINS, Law, NoiseKey,
    decide::Decider,
    table::{GUARD, NoiseTable},
};
use chacha20::{
    ChaCha20, KeyIvInit as _,
    cipher::{StreamCipher as _, StreamCipherSeek as _},
};
use std::fmt;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Draws of a block: 4 bytes each for bin and alias, then 8 each for sign, offset and acceptance.
const BLOCK: usize = 512;

/// A sum left the range of i64. Nothing of it may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a noised sum left the range of 64-bit integers: clip, grid and noise multiplier do not fit together")]
pub struct Overflow;

/// The noise of one key. A sequence: however it is read, its n-th value is the same.
pub struct NoiseStream<'table> {
    table: &'table NoiseTable,
    decider: Decider,
    main: ChaCha20,
    side: Side,
    keystream: Box<Keystream>,
    /// Accepted values of the current block.
    values: Box<Values>,
    /// The first of them that was not handed out, and how many there are.
    next: usize,
    length: usize,
    /// Number of the current block's first draw.
    draw: u64,
}

impl<'table> NoiseStream<'table> {
    /// The stream of `key`, which must not be used for any other.
    #[must_use]
    pub fn new(table: &'table NoiseTable, key: &NoiseKey) -> Self {
        Self::with_guard(table, key, GUARD)
    }

    /// Values in order.
    ///
    /// # Panics
    /// After 2³² draws, which are 256 GiB of keystream.
    pub fn fill(&mut self, out: &mut [i64]) {
        let mut out = out;
        while !out.is_empty() {
            let ready = self.ready();
            let count = ready.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&ready[..count]);
            self.next += count;
            out = later;
        }
    }

    /// Adds a value to every element.
    ///
    /// # Errors
    /// If a sum leaves the range of i64; the elements are then useless.
    ///
    /// # Panics
    /// Like [`Self::fill`].
    pub fn add_to(&mut self, sums: &mut [i64]) -> Result<(), Overflow> {
        let mut sums = sums;
        while !sums.is_empty() {
            let ready = self.ready();
            let count = ready.len().min(sums.len());
            let (now, later) = sums.split_at_mut(count);
            // Both operands' signs against the sum's: collected, so that the loop stays without branches.
            let mut wrapped = 0_i64;
            for (sum, value) in now.iter_mut().zip(&ready[..count]) {
                let total = sum.wrapping_add(*value);
                wrapped |= (*sum ^ total) & (*value ^ total);
                *sum = total;
            }
            if wrapped < 0 {
                return Err(Overflow);
            }
            self.next += count;
            sums = later;
        }
        Ok(())
    }

    /// The same with a wider guard, so that exact decisions happen often enough to be tested.
    pub(super) fn with_guard(table: &'table NoiseTable, key: &NoiseKey, guard: f64) -> Self {
        let cipher = |name: &[u8; 12]| ChaCha20::new(&key.0.into(), &(*name).into());
        Self {
            table,
            decider: Decider::new(table, guard),
            main: cipher(b"testudo main"),
            side: Side { key: key.clone(), words: [0; 8], at: None },
            keystream: Box::new(Keystream([0; 12 * BLOCK])),
            values: Box::new(Values([0; BLOCK])),
            next: 0,
            length: 0,
            draw: 0,
        }
    }

    /// Values of the current block that were not handed out; at least one.
    fn ready(&mut self) -> &[i64] {
        while self.next == self.length {
            self.block();
        }
        &self.values.0[self.next..self.length]
    }

    fn block(&mut self) {
        assert!(self.draw < 1 << 32, "2³² draws of one key");
        self.keystream.0.fill(0);
        self.main.apply_keystream(&mut self.keystream.0);
        let mut open = [0_u16; BLOCK];
        let count = match self.table.law {
            Law::Rounded => self.propose::<false>(&mut open),
            Law::Discrete => self.propose::<true>(&mut open),
        };
        // What is rejected leaves a gap; the pieces between gaps move up.
        let (mut kept, mut from) = (0, 0);
        for &index in &open[..count] {
            let index = usize::from(index);
            if self.accepts(index) {
                continue;
            }
            self.values.0.copy_within(from..index, kept);
            kept += index - from;
            from = index + 1;
        }
        self.values.0.copy_within(from..BLOCK, kept);
        (self.next, self.length) = (0, kept + BLOCK - from);
        self.draw += BLOCK as u64;
    }

    /// Every draw's value, and the places of those that are not accepted at once.
    #[inline]
    fn propose<const DISCRETE: bool>(&mut self, open: &mut [u16; BLOCK]) -> usize {
        let (columns, accepts) = (&*self.table.columns, &*self.table.accepts);
        let (offset_bits, fine_bits) = (self.table.offset_bits & 31, self.table.fine_bits & 31);
        let half = if DISCRETE { 0 } else { 1_u64 << (fine_bits.max(1) - 1) };
        let (first, second) = self.keystream.0.split_at(4 * BLOCK);
        let draws = first.as_chunks::<4>().0.iter().zip(second.as_chunks::<8>().0);
        let mut count = 0;
        for (index, ((first, second), value)) in draws.zip(self.values.0.iter_mut()).enumerate() {
            let (first, second) = (u32::from_le_bytes(*first), u64::from_le_bytes(*second));
            let bin = bin(columns, first);
            let y = step(bin, second, offset_bits);
            let negative = (second >> 63) as i64;
            let magnitude = ((y + half) >> fine_bits) as i64;
            *value = (magnitude ^ -negative) + negative;
            let mut later = second as u32 >= accepts[bin];
            if DISCRETE {
                later |= (y as i64 | (negative - 1)) == 0;
            }
            // Written always, counted only where it matters: no branch. count ≤ index < BLOCK.
            open[count & (BLOCK - 1)] = index as u16;
            count += usize::from(later);
        }
        count
    }

    /// The slow decision on the draw at `index` of the block.
    fn accepts(&mut self, index: usize) -> bool {
        let (first, second) = self.keystream.0.split_at(4 * BLOCK);
        let first = u32::from_le_bytes(first.as_chunks::<4>().0[index]);
        let second = u64::from_le_bytes(second.as_chunks::<8>().0[index]);
        let bin = bin(&self.table.columns, first);
        let y = step(bin, second, self.table.offset_bits);
        // −0 would count 0 twice.
        if self.table.law == Law::Discrete && y == 0 && second >> 63 == 1 {
            return false;
        }
        // Accepted at once: it was only asked about because of the sign of 0.
        if (second as u32) < self.table.accepts[bin] {
            return true;
        }
        self.decider.accepts(self.table, &mut self.side, self.draw + index as u64, bin, y, second as u32)
    }
}

impl fmt::Debug for NoiseStream<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NoiseStream").field("table", self.table).finish_non_exhaustive()
    }
}

/// Further bits of single draws, addressed by the draw's number: the main stream never shifts.
pub(super) struct Side {
    key: NoiseKey,
    /// Four pairs of words.
    words: [u64; 8],
    /// The draw and level they belong to.
    at: Option<(u64, u64)>,
}

impl Side {
    /// The `index`-th pair of words of a draw: one for its uniform, one for φ.
    pub(super) fn words(&mut self, draw: u64, index: u64) -> (u64, u64) {
        let (level, pair) = (index / 4, (index % 4) as usize);
        if self.at != Some((draw, level)) {
            let mut name = *b"side\0\0\0\0\0\0\0\0";
            name[4..].copy_from_slice(&level.to_le_bytes());
            let mut cipher = ChaCha20::new(&self.key.0.into(), &name.into());
            // A block of 64 bytes a draw, and fewer than 2³² draws.
            cipher.seek(64 * draw);
            let mut block = [0; 64];
            cipher.apply_keystream(&mut block);
            for (word, bytes) in self.words.iter_mut().zip(block.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            block.zeroize();
            self.at = Some((draw, level));
        }
        (self.words[2 * pair], self.words[2 * pair + 1])
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.words.zeroize();
    }
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Keystream([u8; 12 * BLOCK]);

#[derive(Zeroize, ZeroizeOnDrop)]
struct Values([i64; BLOCK]);

/// The bin that the alias table gives for 32 uniform bits.
#[inline(always)]
fn bin(columns: &[u32; BINS], random: u32) -> usize {
    let column = random >> 22;
    let word = columns[column as usize];
    let bin = if random & ((1 << 22) - 1) < word >> 10 { column } else { word };
    (bin & (BINS as u32 - 1)) as usize
}

/// The fine step: the bin and, below the sign, its offset.
#[inline(always)]
fn step(bin: usize, random: u64, offset_bits: u32) -> u64 {
    let offset = (random & (u64::MAX >> 1)) >> (63 - offset_bits);
    (bin as u64) << offset_bits | offset
}

#[cfg(test)]
mod tests;
