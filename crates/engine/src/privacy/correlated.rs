//! Correlated noise (DP-FTRL) as a running task has it: one plan for all its releases, and limits on who takes part.

use std::sync::Arc;
use testudo_privacy::{
    ParameterError,
    accountant::matrix::Toeplitz,
    budget::Charge,
    mechanism::{participation::ParticipationLimit, run::RunPlan},
};

/// A run of correlated noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlated {
    /// Tree or matrix.
    pub kind: CorrelatedKind,
    /// How often, and how far apart, one client takes part: the proof rests on it.
    pub limit: ParticipationLimit,
    plan: Arc<RunPlan>,
}

/// Which correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorrelatedKind {
    /// Noise on the nodes of a binary tree over the releases.
    Tree,
    /// Noise through the inverse of a banded lower triangular Toeplitz matrix.
    Matrix {
        /// Coefficients of its first column.
        bands: usize,
    },
}

impl CorrelatedKind {
    /// The word in `privacy.mechanism`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Matrix { .. } => "matrix",
        }
    }
}

/// What a task asks for.
#[derive(Debug, Clone)]
pub(crate) struct AskedRun {
    /// The matrix's first column; `None`: a tree.
    pub(crate) matrix: Option<Toeplitz>,
    pub(crate) rounds: u64,
    pub(crate) limit: ParticipationLimit,
}

impl Correlated {
    /// A run whose noise has a standard deviation of `sigma` grid steps.
    pub(crate) fn new(asked: &AskedRun, sigma: u64) -> Result<Self, ParameterError> {
        let AskedRun { matrix, rounds, limit } = asked;
        let (kind, plan) = match matrix {
            None => (CorrelatedKind::Tree, RunPlan::tree(*rounds, *limit)?),
            Some(matrix) => {
                let bands = matrix.coefficients().len();
                (CorrelatedKind::Matrix { bands }, RunPlan::matrix(matrix, sigma, *limit)?)
            }
        };
        Ok(Self { kind, limit: *limit, plan: Arc::new(plan) })
    }

    /// The whole run's charge for one contribution of `sensitivity` grid steps.
    pub(crate) fn charge(&self, sigma: u64, sensitivity: u64) -> Result<Charge, ParameterError> {
        self.plan.charge(sigma, sensitivity, self.limit)
    }

    /// The noise of its steps.
    pub(crate) fn plan(&self) -> &RunPlan {
        &self.plan
    }
}
