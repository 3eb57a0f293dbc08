//! Primitives of secure aggregation, suite `pairwise/1` (Bonawitz et al. 2017, active variant; Bell et al. 2020 for
//! large groups).
//!
//! Randomness is an argument everywhere. Secrets are zeroised on drop, printed without content and compared in
//! constant time; every decoder refuses what its encoder could not have written.

pub mod agreement;
pub mod assignment;
pub mod graph;
pub mod hypergeometric;
pub mod identity;
pub mod merkle;
pub mod seal;
pub mod shamir;
pub mod transcript;
