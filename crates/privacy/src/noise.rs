//! Integer Gaussian noise, exactly distributed, from a keystream.
//!
//! The sampler is an exact envelope: 1024 bins of the half line, an integer alias table that picks one, and a rejection
//! step whose decision is exact. Nothing depends on libm, on the thread or on how a vector is cut: draw n of a stream is
//! a function of its key and of n alone.
//!
//! What is missing are values beyond 16σ: less than 2⁻¹⁸⁷ in total variation per value.

mod decide;
mod key;
#[cfg(feature = "opendp")]
pub mod opendp;
mod stream;
mod table;

pub use key::{NoiseKey, NoiseSeed, SAMPLER_VERSION};
pub use stream::{NoiseStream, Overflow};
pub use table::{Law, NoiseTable};

/// Bins of the half line, and columns of the alias table.
const BINS: usize = 1024;
