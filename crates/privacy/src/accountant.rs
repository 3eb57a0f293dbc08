//! Accountants, one per theorem. Every ε is rounded up.

pub mod distributed;
pub mod fixed_size;
pub mod gaussian;
pub mod laplace;
pub mod matrix;
mod plan;
pub mod pld;
pub mod poisson;
pub mod rdp;
pub mod skellam;
pub mod tree;
pub mod zcdp;

pub use plan::{Estimate, Mechanism, Report, Sampling};
