//! Key streams in 64-byte registers, fused with what is done with them: nothing is stored but the result.
#![expect(unsafe_code, reason = "calling functions compiled for instructions that were detected at run time")]

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aeskeygenassist_si128, _mm_loadu_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_storeu_si128,
    _mm_xor_si128, _mm512_add_epi32, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_broadcast_i32x4, _mm512_cmplt_epu32_mask, _mm512_loadu_si512, _mm512_mask_add_epi32, _mm512_rol_epi32,
    _mm512_set_epi32, _mm512_set_epi64, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_sub_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};
use std::is_x86_feature_detected;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{BLOCKS, LINE, Line, Use};

/// Rounds of AES-256, and one more key than rounds.
const ROUND_KEYS: usize = 15;

/// Lines of AES in flight: two per cycle with a latency of four, beside fifteen registers of round keys.
const AES_LINES: usize = 8;

/// Lines of ChaCha20 in flight: one per lane of a register.
const CHACHA_LINES: usize = 16;

const WRITE: u8 = Use::Write as u8;
const ADD: u8 = Use::Add as u8;
const SUBTRACT: u8 = Use::Subtract as u8;

/// The round keys of AES-256 (FIPS 197, section 5.2), on a machine with VAES and AVX-512.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct AesKeys([[u8; 16]; ROUND_KEYS]);

impl AesKeys {
    /// Expands a key, unless the machine lacks the instructions.
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        if !(is_x86_feature_detected!("aes") && is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx512f"))
        {
            return None;
        }
        let mut keys = Self([[0; 16]; ROUND_KEYS]);
        // SAFETY: the function requires AES-NI, which was just detected.
        unsafe { expand_key(key, &mut keys.0) };
        Some(keys)
    }

    /// Uses the stream from `first_line` on, one line for each.
    pub(super) fn apply(&self, first_line: u64, lines: &mut [Line], how: Use) {
        // SAFETY: the functions require VAES and AVX-512F, which were detected when the keys were made.
        unsafe {
            match how {
                Use::Write => aes::<WRITE>(&self.0, first_line, lines),
                Use::Add => aes::<ADD>(&self.0, first_line, lines),
                Use::Subtract => aes::<SUBTRACT>(&self.0, first_line, lines),
            }
        }
    }
}

/// The key of ChaCha20, on a machine with AVX-512.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct ChaChaKey([u32; 8]);

impl ChaChaKey {
    /// Takes a key, unless the machine lacks the instructions.
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        if !is_x86_feature_detected!("avx512f") {
            return None;
        }
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Some(Self(words))
    }

    /// Uses the stream from `first_line` on, one line for each.
    pub(super) fn apply(&self, first_line: u64, lines: &mut [Line], how: Use) {
        // SAFETY: the functions require AVX-512F, which was detected when the key was made.
        unsafe {
            match how {
                Use::Write => chacha::<WRITE>(&self.0, first_line, lines),
                Use::Add => chacha::<ADD>(&self.0, first_line, lines),
                Use::Subtract => chacha::<SUBTRACT>(&self.0, first_line, lines),
            }
        }
    }
}

/// The words of whole lines as lines; what is left over is not among them.
pub(super) fn lines(words: &mut [u32]) -> &mut [Line] {
    let count = words.len() / super::WORDS;
    // SAFETY: the lines cover `count * 16` of the slice's words, which are borrowed for as long; bytes may have any
    // alignment and any bits, and so may words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), count) }
}

#[target_feature(enable = "aes")]
fn expand_key(key: &[u8; 32], keys: &mut [[u8; 16]; ROUND_KEYS]) {
    let [even, odd] = key.as_chunks::<16>().0 else { return };
    let (mut even, mut odd) = (load_block(even), load_block(odd));
    store_block(&mut keys[0], even);
    store_block(&mut keys[1], odd);
    macro_rules! next_even {
        ($round:literal, $constant:literal) => {
            let word = _mm_aeskeygenassist_si128::<$constant>(odd);
            even = _mm_xor_si128(running_xor(even), _mm_shuffle_epi32::<0b11_11_11_11>(word));
            store_block(&mut keys[$round], even);
        };
    }
    macro_rules! next_odd {
        ($round:literal) => {
            let word = _mm_aeskeygenassist_si128::<0>(even);
            odd = _mm_xor_si128(running_xor(odd), _mm_shuffle_epi32::<0b10_10_10_10>(word));
            store_block(&mut keys[$round], odd);
        };
    }
    next_even!(2, 0x01);
    next_odd!(3);
    next_even!(4, 0x02);
    next_odd!(5);
    next_even!(6, 0x04);
    next_odd!(7);
    next_even!(8, 0x08);
    next_odd!(9);
    next_even!(10, 0x10);
    next_odd!(11);
    next_even!(12, 0x20);
    next_odd!(13);
    next_even!(14, 0x40);
}

/// Each of four words xored with all words before it.
#[inline]
#[target_feature(enable = "sse2")]
fn running_xor(words: __m128i) -> __m128i {
    let pairs = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    _mm_xor_si128(pairs, _mm_slli_si128::<8>(pairs))
}

#[target_feature(enable = "avx512f,vaes")]
fn aes<const USE: u8>(keys: &[[u8; 16]; ROUND_KEYS], first_line: u64, lines: &mut [Line]) {
    let mut wide = [_mm512_setzero_si512(); ROUND_KEYS];
    for (wide, key) in wide.iter_mut().zip(keys) {
        *wide = _mm512_broadcast_i32x4(load_block(key));
    }
    let block = first_line.wrapping_mul(BLOCKS);
    let [a, b, c, d] = [0, 1, 2, 3].map(|ahead| block.wrapping_add(ahead).cast_signed());
    let mut counters = _mm512_set_epi64(0, d, 0, c, 0, b, 0, a);
    let next = _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4);
    let (groups, rest) = lines.as_chunks_mut::<AES_LINES>();
    for group in groups {
        counters = aes_lines::<USE, AES_LINES>(&wide, counters, next, group);
    }
    for line in rest {
        counters = aes_lines::<USE, 1>(&wide, counters, next, std::array::from_mut(line));
    }
}

/// Some lines at once, and the counters of the next.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn aes_lines<const USE: u8, const N: usize>(
    keys: &[__m512i; ROUND_KEYS],
    mut counters: __m512i,
    next: __m512i,
    lines: &mut [Line; N],
) -> __m512i {
    let mut states = [counters; N];
    for state in &mut states {
        *state = _mm512_xor_si512(counters, keys[0]);
        counters = _mm512_add_epi64(counters, next);
    }
    for key in &keys[1..ROUND_KEYS - 1] {
        for state in &mut states {
            *state = _mm512_aesenc_epi128(*state, *key);
        }
    }
    for (state, line) in states.into_iter().zip(lines) {
        put::<USE>(line, _mm512_aesenclast_epi128(state, keys[ROUND_KEYS - 1]));
    }
    counters
}

#[target_feature(enable = "avx512f")]
fn chacha<const USE: u8>(key: &[u32; 8], first_line: u64, lines: &mut [Line]) {
    for (group, line) in lines.chunks_mut(CHACHA_LINES).zip((first_line..).step_by(CHACHA_LINES)) {
        let words = transposed(chacha_lines(key, line));
        for (line, words) in group.iter_mut().zip(words) {
            put::<USE>(line, words);
        }
    }
}

/// Sixteen blocks (RFC 8439, section 2.3, the counter in words 12 and 13): register i holds word i of each.
#[inline]
#[target_feature(enable = "avx512f")]
fn chacha_lines(key: &[u32; 8], first_line: u64) -> [__m512i; 16] {
    const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    let mut start = [_mm512_setzero_si512(); 16];
    for (register, word) in start.iter_mut().zip(CONSTANTS.iter().chain(key)) {
        *register = _mm512_set1_epi32(word.cast_signed());
    }
    let first = _mm512_set1_epi32((first_line as u32).cast_signed());
    let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    start[12] = _mm512_add_epi32(first, lanes);
    let high = _mm512_set1_epi32(((first_line >> 32) as u32).cast_signed());
    let carried = _mm512_cmplt_epu32_mask(start[12], first);
    start[13] = _mm512_mask_add_epi32(high, carried, high, _mm512_set1_epi32(1));
    let mut state = start;
    // Four quarter rounds, step by step beside each other, so that none waits for its own last step. The indices are
    // literals: in a loop over them the state would live in memory.
    macro_rules! quarter_rounds {
        ($([$a:literal, $b:literal, $c:literal, $d:literal]),*) => {
            $(state[$a] = _mm512_add_epi32(state[$a], state[$b]);)*
            $(state[$d] = _mm512_rol_epi32::<16>(_mm512_xor_si512(state[$d], state[$a]));)*
            $(state[$c] = _mm512_add_epi32(state[$c], state[$d]);)*
            $(state[$b] = _mm512_rol_epi32::<12>(_mm512_xor_si512(state[$b], state[$c]));)*
            $(state[$a] = _mm512_add_epi32(state[$a], state[$b]);)*
            $(state[$d] = _mm512_rol_epi32::<8>(_mm512_xor_si512(state[$d], state[$a]));)*
            $(state[$c] = _mm512_add_epi32(state[$c], state[$d]);)*
            $(state[$b] = _mm512_rol_epi32::<7>(_mm512_xor_si512(state[$b], state[$c]));)*
        };
    }
    for _ in 0..10 {
        quarter_rounds!([0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]);
        quarter_rounds!([0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]);
    }
    for (word, start) in state.iter_mut().zip(start) {
        *word = _mm512_add_epi32(*word, start);
    }
    state
}

/// Register i holds word i of sixteen lines; then line i's sixteen words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(words: [__m512i; 16]) -> [__m512i; 16] {
    // Quads: `quads[g][c]` holds, in quarter q, words 4 g to 4 g + 3 of line 4 q + c.
    let mut quads = [[_mm512_setzero_si512(); 4]; 4];
    for (quad, rows) in quads.iter_mut().zip(words.as_chunks::<4>().0) {
        let (low, low_next) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3]));
        let (high, high_next) = (_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        quad[0] = _mm512_unpacklo_epi64(low, low_next);
        quad[1] = _mm512_unpackhi_epi64(low, low_next);
        quad[2] = _mm512_unpacklo_epi64(high, high_next);
        quad[3] = _mm512_unpackhi_epi64(high, high_next);
    }
    let mut lines = [_mm512_setzero_si512(); 16];
    for c in 0..4 {
        let (front, front_next) = (
            _mm512_shuffle_i32x4::<0b01_00_01_00>(quads[0][c], quads[1][c]),
            _mm512_shuffle_i32x4::<0b01_00_01_00>(quads[2][c], quads[3][c]),
        );
        let (back, back_next) = (
            _mm512_shuffle_i32x4::<0b11_10_11_10>(quads[0][c], quads[1][c]),
            _mm512_shuffle_i32x4::<0b11_10_11_10>(quads[2][c], quads[3][c]),
        );
        lines[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(front, front_next);
        lines[4 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(front, front_next);
        lines[8 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(back, back_next);
        lines[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(back, back_next);
    }
    lines
}

#[inline]
#[target_feature(enable = "avx512f")]
fn put<const USE: u8>(line: &mut Line, stream: __m512i) {
    const { assert!(size_of::<Line>() == LINE && LINE == size_of::<__m512i>()) }
    // SAFETY: a line is 64 readable bytes, and the load takes any alignment.
    let before = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
    let after = match USE {
        ADD => _mm512_add_epi32(before, stream),
        SUBTRACT => _mm512_sub_epi32(before, stream),
        _ => stream,
    };
    // SAFETY: a line is 64 writable bytes, and the store takes any alignment.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), after) };
}

#[inline]
#[target_feature(enable = "sse2")]
fn load_block(block: &[u8; 16]) -> __m128i {
    // SAFETY: a block is 16 readable bytes, and the load takes any alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store_block(block: &mut [u8; 16], value: __m128i) {
    // SAFETY: a block is 16 writable bytes, and the store takes any alignment.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) };
}
