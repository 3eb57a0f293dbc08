//! The rule interface: statistics in, plan out.

use std::fmt::Debug;

use thiserror::Error;

use crate::plan::Plan;
use crate::rows::Weights;
use crate::statistics::{Needs, RowStatistics};

/// An aggregation rule. Deterministic: the same rows give the same bits for any thread count and any arrival order.
///
/// Rows are numbered in the order of their keys, which the caller sorts; ties go to the lowest row.
pub trait Rule: Debug + Send + Sync {
    /// The rule's kind, as in its configuration.
    fn kind(&self) -> &'static str;

    /// *f*: the number of bad rows the rule is set to tolerate.
    fn byzantine(&self) -> usize;

    /// Fewest rows for which the guarantee holds with this *f*.
    fn min_rows(&self) -> usize;

    /// Whether the rule's guarantee holds for `rows` rows.
    ///
    /// # Errors
    ///
    /// Names the rule, n, f, and what would be valid.
    fn check(&self, rows: usize) -> Result<(), RuleError>;

    /// What [`Rule::decide`] needs to know about the rows.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Whether row weights take effect. Guarantees of robust rules assume equal weights.
    fn uses_weights(&self) -> bool {
        false
    }

    /// From n x n numbers to a plan. Sees no coordinates.
    ///
    /// # Errors
    ///
    /// Whatever [`Rule::check`] refuses, statistics or weights that do not fit, and rows of which none may be used.
    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Plan, RuleError>;
}

/// Why a rule cannot be applied to these rows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// Too many bad rows declared for this many rows.
    #[error("{kind} with byzantine = {byzantine} needs {range}, that is at least {min_rows} rows, but got {rows}; {}", fix(*largest, *rows))]
    Range {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// f.
        byzantine: usize,
        /// The strict range in words of n and f.
        range: &'static str,
        /// Fewest rows for this f.
        min_rows: usize,
        /// Largest valid f for this n.
        largest: Option<usize>,
    },
    /// More rows to be selected than the rule may trust.
    #[error("{kind} with byzantine = {byzantine} and {rows} rows can select 1 to {} rows, but select = {select}", rows.saturating_sub(*byzantine))]
    Select {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// f.
        byzantine: usize,
        /// m.
        select: usize,
    },
    /// More rows than the statistics may grow to.
    #[error("{kind} compares every pair of rows and takes at most {limit} rows, but got {rows}; use larger groups")]
    TooManyRows {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The statistics the rule asked for were not observed.
    #[error("{kind} needs squared distances, but the rows were not observed")]
    NotObserved {
        /// The rule.
        kind: &'static str,
    },
    /// The weights are for another number of rows.
    #[error("{weights} weights for {rows} rows; give one per row")]
    WeightCount {
        /// Weights given.
        weights: usize,
        /// Rows observed.
        rows: usize,
    },
    /// Every row is too far from the others for f64.
    #[error("{kind} rejects all {rows} rows: their distances are beyond f64; bound the updates' length")]
    AllRejected {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
    },
}

fn fix(largest: Option<usize>, rows: usize) -> String {
    match largest {
        Some(largest) => format!("with {rows} rows byzantine may be at most {largest}"),
        None => format!("no byzantine is valid with {rows} rows"),
    }
}
