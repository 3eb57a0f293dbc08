//! The rule interface: statistics in, decision out.

use std::fmt::Debug;

use thiserror::Error;

use crate::needs::Needs;
use crate::plan::Plan;
use crate::rows::Weights;
use crate::statistics::{Frame, Refinement, RowStatistics};

/// An aggregation rule. Deterministic: the same rows give the same bits for any thread count and any arrival order.
///
/// Rows are numbered in the order of their keys, which the caller sorts; ties go to the lowest row.
pub trait Rule: Debug + Send + Sync {
    /// The rule's kind, as in its configuration.
    fn kind(&self) -> &'static str;

    /// *f*: the number of bad rows the rule is set to tolerate.
    fn byzantine(&self) -> usize;

    /// The same for `rows` rows, for rules that are set to a share of them.
    fn byzantine_among(&self, _rows: usize) -> usize {
        self.byzantine()
    }

    /// Whether the rule's guarantee holds for `rows` rows.
    ///
    /// # Errors
    ///
    /// Names the rule, n, f, and what would be valid.
    fn check(&self, rows: usize) -> Result<(), RuleError>;

    /// Fewest rows for which the guarantee holds with this *f*; `usize::MAX` if there is no such number.
    fn min_rows(&self) -> usize {
        // Small numbers one by one: shares of the rows are rounded, and an exact search may be over its budget again at
        // twice the fewest rows. Beyond, ranges are linear in f: grow until one is valid, then search below it.
        if let Some(rows) = (1..=FEW_ROWS).find(|&rows| self.check(rows).is_ok()) {
            return rows;
        }
        let steps = std::iter::successors(Some(self.byzantine().max(1)), |&n| n.checked_add(n / 8 + 1));
        let Some(valid) = steps.take(300).find(|&n| self.check(n).is_ok()) else { return usize::MAX };
        let (mut below, mut least) = (0, valid);
        while least - below > 1 {
            let middle = below + (least - below) / 2;
            if self.check(middle).is_ok() { least = middle } else { below = middle }
        }
        least
    }

    /// What [`Rule::decide`] needs to know about the rows.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Whether rows are weighed unless somebody says otherwise. Guarantees of robust rules assume equal weights.
    fn uses_weights(&self) -> bool {
        false
    }

    /// Whether row weights may be given. Robust rules take them only when asked to, and capped: see
    /// [`crate::Weights::for_rule`].
    fn accepts_weights(&self) -> bool {
        self.uses_weights()
    }

    /// Whether it matters which client a row is, so that no pre-aggregation may merge rows.
    fn tells_rows_apart(&self) -> bool {
        self.needs().extras.history
    }

    /// From n x n numbers to a plan, or to the wish for a second look. Sees no coordinates.
    ///
    /// # Errors
    ///
    /// Whatever [`Rule::check`] refuses, statistics or weights that do not fit, and rows of which none may be used.
    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError>;
}

/// Rows up to which [`Rule::min_rows`] tries every number.
const FEW_ROWS: usize = 1 << 12;

/// What a rule makes of statistics.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// What to do with every unit.
    Plan(Box<Plan>),
    /// The statistics cannot tell; observe this and decide again. At most once per pre-aggregation and twice more.
    Refine(Box<Refinement>),
}

impl From<Plan> for Decision {
    fn from(plan: Plan) -> Self {
        Self::Plan(Box::new(plan))
    }
}

impl Decision {
    /// Measure the same points more exactly.
    pub(crate) fn look_closer(needs: Needs, rows: usize) -> Self {
        Self::Refine(Box::new(Refinement { needs, stage: 0, mixing: None, factors: vec![1.0; rows], frame: None }))
    }

    /// Measure the same points near a reference.
    pub(crate) fn refine(needs: Needs, frame: Frame, rows: usize) -> Self {
        let frame = Some(frame);
        Self::Refine(Box::new(Refinement { needs, stage: 0, mixing: None, factors: vec![1.0; rows], frame }))
    }
}

/// Why a rule cannot be applied to these rows.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Too many bad rows declared for this many rows.
    #[error("{kind} with byzantine = {byzantine} needs {range}, but there are {rows} rows; {}", fix(*min_rows, *largest, *rows))]
    Range {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// f.
        byzantine: usize,
        /// The strict range in words of n and f.
        range: &'static str,
        /// Fewest rows for this f, where there is such a number.
        min_rows: Option<usize>,
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
    /// A parameter does not fit the number of rows.
    #[error("{kind}: {key} = {value} does not fit {rows} rows with byzantine = {byzantine}; it must be {expected}")]
    Parameter {
        /// The rule.
        kind: &'static str,
        /// The parameter.
        key: &'static str,
        /// Its value.
        value: String,
        /// n.
        rows: usize,
        /// f.
        byzantine: usize,
        /// What would be valid, in words and numbers.
        expected: String,
    },
    /// More rows than the statistics may grow to.
    #[error(
        "{kind} compares every pair of rows and takes at most {limit} rows, but there are {rows}; use larger groups"
    )]
    TooManyRows {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// An exact search would take too long, and none of its shortcuts applies.
    #[error(
        "{kind}: the exact search over {rows} rows with byzantine = {byzantine} exceeds its budget of {budget} steps; lower byzantine or the number of rows"
    )]
    Budget {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// f.
        byzantine: usize,
        /// Steps allowed.
        budget: u64,
    },
    /// The statistics the rule asked for were not observed.
    #[error("{kind} needs {what}, but the rows were not observed so")]
    NotObserved {
        /// The rule.
        kind: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// The weights are for another number of rows.
    #[error("{weights} weights for {rows} rows; give one per row")]
    WeightCount {
        /// Weights given.
        weights: usize,
        /// Rows observed.
        rows: usize,
    },
    /// A few rows could hold the majority of the weight.
    #[error(
        "{kind}: {byzantine} rows of the largest weight hold half of all weight or more; cap the weights lower or weigh all rows alike"
    )]
    WeightMajority {
        /// The rule.
        kind: &'static str,
        /// f.
        byzantine: usize,
    },
    /// Every row is too far from the others for f64, or nothing is left of them.
    #[error("{kind} rejects all {rows} rows: {why}")]
    AllRejected {
        /// The rule.
        kind: &'static str,
        /// n.
        rows: usize,
        /// Why, and what to do.
        why: &'static str,
    },
}

/// Distances beyond f64, as [`RuleError::AllRejected`] says it.
pub(crate) const BEYOND_F64: &str = "their distances are beyond f64; bound the updates' length";

fn fix(min_rows: Option<usize>, largest: Option<usize>, rows: usize) -> String {
    let more = min_rows.map(|min_rows| format!("it takes at least {min_rows} rows")).unwrap_or_default();
    let fewer = match largest {
        Some(largest) => format!("with {rows} rows byzantine may be at most {largest}"),
        None => format!("no byzantine is valid with {rows} rows"),
    };
    if more.is_empty() { fewer } else { format!("{more}; {fewer}") }
}
