//! Every rule against vectors, properties, and defects that other implementations are known to have.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod defects;
mod defects_of_distances;
mod determinism;
mod properties;
mod robustness;
mod vectors;
