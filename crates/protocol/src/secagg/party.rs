//! A client's part in one masked round, step by step.
//!
//! Each step consumes the last one: a client cannot send two masked inputs, and cannot answer about two sets of
//! survivors. Secrets live in memory only and are zeroised when a step is dropped; a process that ends in the middle is a
//! dropout. What the device insists on beyond the protocol (smallest group, known keys, model) is the policy's to check,
//! before [`Advertised::new`] for what the session says and with [`Demands`] for what only the group shows.

mod advertised;
mod answer;
mod held;
mod masking;
mod roster;
mod sharing;

pub use advertised::{Advertised, Credentials};
pub use answer::{Answered, Answers, Confirming, Ready, Recorded};
pub use masking::{Masking, Sent};
pub use roster::Demands;
pub use sharing::Sharing;

use super::shamir;
use crate::{Digest, secagg::agreement};
use std::fmt;

/// Bytes from a cryptographic random generator.
pub type Randomness<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Why a client leaves a masked round for good. Nothing more leaves the device in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Abort {
    /// A signature that must be there does not fit.
    #[error("the signature of {whose} does not fit")]
    Signature {
        /// Whose.
        whose: String,
    },
    /// The server's randomness is not what it committed to.
    #[error("the server's randomness is not what it committed to")]
    Commitment,
    /// The caller or a neighbour is not where the draw puts it.
    #[error("the group is not the one that was drawn: {detail}")]
    Assignment {
        /// What is wrong.
        detail: String,
    },
    /// The group's roster cannot be.
    #[error("the group's roster cannot be: {detail}")]
    Roster {
        /// What is wrong.
        detail: String,
    },
    /// The set of members that shared, or survived, cannot be.
    #[error("the set of members cannot be: {detail}")]
    Members {
        /// What is wrong.
        detail: String,
    },
    /// Fewer than the threshold.
    #[error("{what}: {count}, and at least {threshold} are needed")]
    Threshold {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there must be.
        threshold: usize,
    },
    /// The server shows two different sets of survivors.
    #[error("the server showed two different sets of survivors")]
    Equivocation {
        /// Digest of the set answered before.
        answered: Digest,
        /// Digest of the new one.
        asked: Digest,
    },
    /// What this device remembers of the round is older than the round itself: somebody set it back.
    #[error("this device's record of answered rounds was set back")]
    Rollback,
    /// The device cannot keep the record that must come before the answer.
    #[error("the answer could not be recorded, so it was not given: {detail}")]
    Record {
        /// What failed.
        detail: String,
    },
    /// Fewer than the threshold, by what other clients did or did not do.
    #[error("{what}: {count}, and at least {threshold} are needed")]
    Peers {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there must be.
        threshold: usize,
    },
    /// This device has answered in this attempt at the round; another sum with it would show the difference of both.
    #[error("this attempt at the round was answered before")]
    Answered {
        /// The answer.
        answered: Box<Answered>,
    },
    /// What the device insists on is not met.
    #[error("against this device's policy: {detail}")]
    Demand {
        /// What is missing.
        detail: String,
    },
}

impl Abort {
    /// Whether the server must have done something that an honest one does not.
    pub fn is_misbehaviour(&self) -> bool {
        !matches!(self, Self::Peers { .. } | Self::Rollback | Self::Record { .. } | Self::Demand { .. })
    }
}

/// A member of the group that shares secrets with this client.
#[derive(Clone)]
struct Neighbour {
    index: u32,
    box_key: agreement::PublicKey,
    mask_key: agreement::PublicKey,
    identity: super::identity::VerifyingKey,
    aes: bool,
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Neighbour({})", self.index)
    }
}

/// Random bytes for a secret of 32 bytes.
fn secret(random: Randomness<'_>) -> zeroize::Zeroizing<[u8; 32]> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    random(&mut *bytes);
    bytes
}

/// Two shares of one neighbour, as a box holds them.
type Pair = (shamir::Share, shamir::Share);
