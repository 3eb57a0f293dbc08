//! Every rule against vectors, properties, and defects that other implementations are known to have.

mod common;
mod defects;
mod determinism;
mod properties;
mod robustness;
mod vectors;
