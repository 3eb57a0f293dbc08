//! The checked parameters of one round.

use crate::{ClientId, Tick, limits};
use serde::{Deserialize, Serialize};

/// What a [`Round`](crate::Round) is opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundParams {
    cohort: Vec<ClientId>,
    target: usize,
    minimum: usize,
    deadline: Tick,
}

/// Parameters that no round can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// The cohort is empty, too large, or names a client twice.
    #[error("a cohort holds 1 to {} different clients", limits::COHORT)]
    Cohort,
    /// `1 ≤ minimum ≤ target ≤ cohort` does not hold.
    #[error("needs 1 ≤ minimum ({minimum}) ≤ target ({target}) ≤ cohort ({cohort})")]
    Counts {
        /// Fewest updates for a release.
        minimum: usize,
        /// Updates that close the round early.
        target: usize,
        /// Clients selected.
        cohort: usize,
    },
}

impl RoundParams {
    /// `target` updates close the round; at `deadline` at least `minimum` are needed. The cohort is kept sorted.
    ///
    /// # Errors
    /// [`ParamsError`] unless `1 ≤ minimum ≤ target ≤ cohort` and all clients differ.
    pub fn new(mut cohort: Vec<ClientId>, target: usize, minimum: usize, deadline: Tick) -> Result<Self, ParamsError> {
        cohort.sort();
        if cohort.is_empty() || cohort.len() > limits::COHORT || cohort.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ParamsError::Cohort);
        }
        if minimum == 0 || minimum > target || target > cohort.len() {
            return Err(ParamsError::Counts { minimum, target, cohort: cohort.len() });
        }
        Ok(Self { cohort, target, minimum, deadline })
    }

    /// The selected clients, sorted.
    pub fn cohort(&self) -> &[ClientId] {
        &self.cohort
    }

    /// Updates that close the round before its deadline.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Fewest updates for a release.
    pub fn minimum(&self) -> usize {
        self.minimum
    }

    /// When the round stops taking updates.
    pub fn deadline(&self) -> Tick {
        self.deadline
    }
}
