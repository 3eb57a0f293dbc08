//! Benches of the workspace. Run them with `cargo bench -p testudo-benches`.
//!
//! `benches/kernels.rs` times every kernel beside one pass over the rows, `benches/rules.rs` every aggregation rule and
//! kernel path, `benches/masks.rs` masking, folding and quantising, `benches/noise.rs` noise, `benches/secagg.rs` both
//! sides of a masked round, on one thread.

pub mod masked_round;

/// Rows of `dimension` pseudo-random f32 values in −1..1, the same ones every time.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "24 bits of randomness fit in f32")]
pub fn rows(count: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| (0..dimension).map(|_| next()).collect()).collect()
}
