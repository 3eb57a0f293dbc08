//! Mechanisms: what is computed on whose data, and what it costs.

pub mod adaptive_clip;
