//! The kernels that carry every rule, and the finite check.
//!
//! Each is one safe body, compiled once for the portable instruction set and once for the widest the machine has
//! (`dispatch`). A body fixes the order of every floating-point operation and fuses multiply-adds explicitly, so
//! that all paths give the same bits; `naive` holds the slow, obvious twins they are tested against.

pub(crate) mod cipher;
pub(crate) mod dispatch;
pub(crate) mod finite;
pub(crate) mod levels;
pub(crate) mod mix;
pub(crate) mod network;
pub(crate) mod norms;
pub(crate) mod order_statistics;
pub(crate) mod pair_statistics;
pub(crate) mod prefetch;
pub(crate) mod ring;
pub(crate) mod sign_vote;
pub(crate) mod signs;
pub(crate) mod weighted_sum;

#[cfg(test)]
mod naive;
