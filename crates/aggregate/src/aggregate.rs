//! Aggregating rows that are in memory.

use std::ops::Range;

use thiserror::Error;

use crate::composition::RuleConfig;
use crate::element::Element;
use crate::kernel::mix::mix;
use crate::mixing::Mixing;
use crate::observe::divide;
use crate::plan::Note;
use crate::pre::PreConfig;
use crate::rows::{Rows, RowsError, Weights, WeightsError};
use crate::rule::{Rule, RuleError};
use crate::source::{MOST_LOOKS, Source, Summary, Task, Work, aggregate_source, decide};
use crate::statistics::{Observation, StatisticsError};
use crate::unit::{UnitError, Units};
use crate::verdict::Verdict;

/// What a rule made of a set of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate<T> {
    /// The aggregate, d coordinates.
    pub output: Vec<T>,
    /// One verdict per row.
    pub verdicts: Vec<Verdict>,
    /// The weight of each row in the aggregate, for rules that weigh rows.
    pub weights: Option<Vec<f64>>,
    /// One score per row, lower is better, for rules that score.
    pub scores: Option<Vec<f64>>,
    /// The rows used: best first for rules that select, else in row order.
    pub selected: Vec<usize>,
    /// Figures that explain the decision.
    pub notes: Vec<Note>,
    /// A number for [`Inputs::memory`] of the rule's next round.
    pub memory: Option<f64>,
    /// Set when the aggregate means nothing and must not be used.
    pub degenerate: Option<String>,
}

/// Rows in memory, and what else a rule may need.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// The rows, in the order of their keys.
    pub rows: &'a [&'a [T]],
    /// The extra rows the rule's needs name, in the order of [`crate::Extras`].
    pub extras: &'a [&'a [T]],
    /// One weight per row, or `None` for equal weights. Must be `None` for rules that do not use them.
    pub weights: Option<&'a [f64]>,
    /// The round's seed, for rules that draw samples or permutations.
    pub seed: u64,
    /// What the rule's last aggregate asked to remember.
    pub memory: Option<f64>,
    /// The unit length in coordinates (default: [`Units::for_rows`]); it cannot be seen in the result.
    pub unit_len: Option<usize>,
}

impl<'a, T> Inputs<'a, T> {
    /// Equal weights, no extra rows, seed 0.
    #[must_use]
    pub fn new(rows: &'a [&'a [T]]) -> Self {
        Self { rows, extras: &[], weights: None, seed: 0, memory: None, unit_len: None }
    }
}

/// Aggregates rows that are in memory, on the current rayon pool. See [`aggregate_inputs`] for rules that need more.
///
/// `weights` must be `None` for rules that do not use them, else one per row (default: equal). `unit_len` is the unit
/// length in coordinates (default: [`Units::for_rows`]); it cannot be seen in the result.
///
/// # Errors
///
/// As [`aggregate_inputs`].
pub fn aggregate<T: Element>(
    rule: &dyn Rule,
    rows: &[&[T]],
    weights: Option<&[f64]>,
    unit_len: Option<usize>,
) -> Result<Aggregate<T>, AggregateError> {
    aggregate_inputs(rule, &Inputs { weights, unit_len, ..Inputs::new(rows) })
}

/// Aggregates rows that are in memory, on the current rayon pool.
///
/// # Errors
///
/// Rows that are not equally long or not finite, missing extra rows, weights that are invalid or would have no effect,
/// an invalid unit length, and whatever the rule refuses.
pub fn aggregate_inputs<T: Element>(rule: &dyn Rule, inputs: &Inputs<'_, T>) -> Result<Aggregate<T>, AggregateError> {
    let points: Vec<&[T]> = inputs.rows.iter().chain(inputs.extras).copied().collect();
    Rows::new(inputs.rows, 0)?;
    let dimension = Rows::new(&points, 0)?.unit_len();
    let expected = inputs.rows.len() + rule.needs().extras.count(inputs.rows.len());
    if points.len() != expected {
        return Err(RowsError::Count { got: points.len(), expected }.into());
    }
    let mut output = vec![T::ZERO; dimension];
    let task = Task {
        rows: inputs.rows.len(),
        dimension,
        weights: inputs.weights,
        seed: inputs.seed,
        memory: inputs.memory,
        unit_len: inputs.unit_len,
    };
    let summary = aggregate_source(rule, &task, &mut InMemory(&points), &mut |range, unit| {
        output[range].copy_from_slice(unit);
        Ok(())
    })?;
    let Summary { verdicts, weights, scores, selected, notes, memory, degenerate } = summary;
    Ok(Aggregate { output, verdicts, weights, scores, selected, notes, memory, degenerate })
}

struct InMemory<'a, T>(&'a [&'a [T]]);

impl<T: Element> Source<T> for InMemory<'_, T> {
    fn unit(&mut self, range: Range<usize>, work: &mut Work<'_, T>) -> Result<(), AggregateError> {
        let slices: Vec<&[T]> = self.0.iter().map(|row| &row[range.clone()]).collect();
        work(&slices)
    }
}

/// The rows after pre-aggregation, in f64: what a rule behind it works on.
///
/// # Errors
///
/// As [`aggregate_inputs`].
pub fn pre_aggregate<T: Element>(
    pre: &[PreConfig],
    byzantine: usize,
    rows: &[&[T]],
    seed: u64,
) -> Result<Vec<Vec<f64>>, AggregateError> {
    // A rule without a plan of its own: the median's keeps the mixed rows as they are.
    let rule = RuleConfig::median(byzantine).after(pre.to_vec(), byzantine);
    let dimension = Rows::new(rows, 0)?.unit_len();
    rule.check(rows.len())?;
    let observation = Observation::first(rule.needs(), rows.len(), dimension, seed);
    let units = Units::for_rows(dimension, rows.len())?;
    let plan = decide(&rule, &mut InMemory(rows), &Weights::equal(rows.len())?, units, observation)?;
    match plan.mixing {
        Some(mixing) => mix_rows(&mixing, rows),
        None => Ok(rows.iter().map(|row| row.iter().map(|value| value.to_f64()).collect()).collect()),
    }
}

/// The rows of a mixing, in f64.
///
/// # Errors
///
/// When the rows are not equally long or not finite, or the mixing is for another number of rows.
pub fn mix_rows<T: Element>(mixing: &Mixing, rows: &[&[T]]) -> Result<Vec<Vec<f64>>, AggregateError> {
    let dimension = Rows::new(rows, 0)?.unit_len();
    if !mixing.fits(rows.len() + 1) {
        return Err(AggregateError::PlanCombine { rows: rows.len() });
    }
    let mut mixed = vec![0.0; mixing.rows() * dimension];
    mix(rows, &mixing.dense(), 0..dimension, &mut mixed)?;
    divide(mixing.divisors(), &mut mixed, dimension);
    Ok(mixed.chunks_exact(dimension).map(<[f64]>::to_vec).collect())
}

/// Why rows could not be aggregated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// The rows are not what a rule may see.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The rule refuses them.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The weights are not usable.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Weights were given to a rule on which they have no effect.
    #[error("{kind} does not use weights; leave them out or use the mean")]
    WeightsUnused {
        /// The rule.
        kind: &'static str,
    },
    /// The unit length is not usable.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The units' statistics do not add up.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The plan was made for another number of rows.
    #[error("the plan is for {plan} rows, but the unit has {rows}")]
    PlanRows {
        /// Rows of the plan.
        plan: usize,
        /// Rows of the unit.
        rows: usize,
    },
    /// The plan cannot be carried out on so many rows: it was not made by `decide`.
    #[error("the plan's combine step does not fit {rows} rows")]
    PlanCombine {
        /// Rows of the unit.
        rows: usize,
    },
    /// The rule asks for one look after the other.
    #[error("{kind} did not decide after {MOST_LOOKS} looks at the rows")]
    Undecided {
        /// The rule.
        kind: &'static str,
    },
    /// Rows could not be read, or a part of the result not written.
    #[error("{0}")]
    Io(String),
    /// The output is longer or shorter than the unit.
    #[error("the output has {output} coordinates, but the unit has {unit}")]
    OutputLength {
        /// Coordinates of the output.
        output: usize,
        /// Coordinates of the unit.
        unit: usize,
    },
}
