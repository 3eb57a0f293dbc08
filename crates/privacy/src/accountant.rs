//! Accountants, one per theorem. Every ε is rounded up.

pub mod fixed_size;
pub mod gaussian;
pub mod poisson;
pub mod rdp;
pub mod zcdp;
