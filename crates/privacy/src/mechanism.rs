//! Mechanisms: what is computed on whose data, and what it costs.

pub mod adaptive_clip;
pub mod correlated;
pub mod distributed;
pub mod fed_avg;
pub mod local;
pub mod participation;
pub mod run;
pub mod tree;
