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
    /// Whether it takes its whole time, whoever has answered.
    #[serde(default)]
    whole_time: bool,
}

/// Parameters that no round can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// The cohort is empty, too large, or names a client twice.
    #[error("a cohort holds 1 to {} different clients (none only where it is a secret sample)", limits::COHORT)]
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
        if cohort.is_empty() || !is_cohort(&cohort) {
            return Err(ParamsError::Cohort);
        }
        if minimum == 0 || minimum > target || target > cohort.len() {
            return Err(ParamsError::Counts { minimum, target, cohort: cohort.len() });
        }
        Ok(Self { cohort, target, minimum, deadline, whole_time: false })
    }

    /// A round of a secret sample: it ends at `deadline` with as many updates as there are then, none too, because nothing
    /// about it may tell who or how many were drawn. The cohort is kept sorted and may be empty.
    ///
    /// # Errors
    /// [`ParamsError::Cohort`] if it is too large or names a client twice.
    pub fn secret(mut cohort: Vec<ClientId>, deadline: Tick) -> Result<Self, ParamsError> {
        cohort.sort();
        if !is_cohort(&cohort) {
            return Err(ParamsError::Cohort);
        }
        let target = cohort.len();
        Ok(Self { cohort, target, minimum: 0, deadline, whole_time: true })
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

    /// Whether it takes its whole time, whoever has answered.
    pub fn takes_its_whole_time(&self) -> bool {
        self.whole_time
    }
}

/// Whether sorted clients are not too many and all different.
fn is_cohort(sorted: &[ClientId]) -> bool {
    sorted.len() <= limits::COHORT && sorted.windows(2).all(|pair| pair[0] != pair[1])
}
