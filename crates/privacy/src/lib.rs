//! Differential privacy: clipping, noise, accountants and the budget.
//!
//! Pure: time, randomness and I/O are arguments. Everything that decides (a clip, a noise value, a charge, an ε) is
//! computed with integers or with the five operations IEEE 754 fixes, so every machine gets the same bits.
//!
//! Only `noise::opendp` sees the opendp crate, behind the feature `opendp`, which clients do not turn on.

pub mod accountant;
pub mod budget;
pub mod clip;
mod error;
mod math;
pub mod mechanism;
pub mod noise;
pub mod rotation;
pub mod sensitivity;

pub use error::ParameterError;
