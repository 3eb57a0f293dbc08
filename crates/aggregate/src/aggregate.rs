//! The in-memory driver: observe, decide, combine.

use thiserror::Error;

use crate::combine::{add_counts, combine_unit};
use crate::composition::RuleConfig;
use crate::element::Element;
use crate::kernel::finite::first_non_finite;
use crate::kernel::mix::mix;
use crate::mixing::Mixing;
use crate::observe::{divide, observe_unit};
use crate::plan::{Note, Plan};
use crate::pre::PreConfig;
use crate::rows::{Rows, RowsError, Weights, WeightsError};
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::{Observation, RowStatistics, StatisticsError, StatisticsTree};
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
    let rows = inputs.rows.len();
    let points: Vec<&[T]> = inputs.rows.iter().chain(inputs.extras).copied().collect();
    Rows::new(inputs.rows, 0)?;
    let dimension = Rows::new(&points, 0)?.unit_len();
    rule.check(rows)?;
    let expected = rows + rule.needs().extras.count(rows);
    if points.len() != expected {
        return Err(RowsError::Count { got: points.len(), expected }.into());
    }
    let weights = checked_weights(rule, rows, inputs.weights)?;
    let units = match inputs.unit_len {
        Some(unit_len) => Units::new(dimension, unit_len)?,
        None => Units::for_rows(dimension, points.len())?,
    };
    let observation = Observation::first(rule.needs(), rows, dimension, inputs.seed).with_memory(inputs.memory);
    let plan = decide(rule, &points, &weights, units, observation)?;
    let mut output = vec![T::ZERO; dimension];
    let mut trimmed = vec![0; rows];
    for range in units.iter() {
        let slices: Vec<&[T]> = points.iter().map(|row| &row[range.clone()]).collect();
        let counts = combine_unit(&Rows::new(&slices, range.start)?, &plan, &mut output[range])?;
        add_counts(&mut trimmed, &counts);
    }
    let verdicts = plan.final_verdicts(&trimmed, dimension);
    let weights = plan.weights();
    let Plan { scores, selected, notes, memory, degenerate, .. } = plan;
    Ok(Aggregate { output, verdicts, weights, scores, selected, notes, memory, degenerate })
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
    let plan = decide(&rule, rows, &Weights::equal(rows.len())?, units, observation)?;
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

/// Looks at the rows as often as the rule asks to.
fn decide<T: Element>(
    rule: &dyn Rule,
    points: &[&[T]],
    weights: &Weights,
    units: Units,
    mut observation: Observation,
) -> Result<Plan, AggregateError> {
    let mut statistics = if observation.needs.is_nothing() {
        refuse_unread_rows(points, weights)?;
        observation.unobserved()
    } else {
        observe_all(points, &observation, units)?
    };
    for _ in 0..MOST_LOOKS {
        match rule.decide(&statistics, weights)? {
            Decision::Plan(plan) => return Ok(*plan),
            Decision::Refine(refinement) => {
                observation = observation.refined(*refinement);
                statistics = observe_all(points, &observation, units)?;
            }
        }
    }
    Err(AggregateError::Undecided { kind: rule.kind() })
}

/// Most looks at the rows: each pre-aggregation may ask for one, and the rule for one more.
pub const MOST_LOOKS: usize = 16;

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
    /// The output is longer or shorter than the unit.
    #[error("the output has {output} coordinates, but the unit has {unit}")]
    OutputLength {
        /// Coordinates of the output.
        output: usize,
        /// Coordinates of the unit.
        unit: usize,
    },
}

fn checked_weights(rule: &dyn Rule, rows: usize, weights: Option<&[f64]>) -> Result<Weights, AggregateError> {
    let Some(weights) = weights else { return Ok(Weights::equal(rows)?) };
    if !rule.accepts_weights() {
        return Err(AggregateError::WeightsUnused { kind: rule.kind() });
    }
    if weights.len() != rows {
        return Err(WeightsError::Count { got: weights.len(), rows }.into());
    }
    Ok(Weights::for_rule(rule, weights)?)
}

/// Rows of weight 0 are never read by the combine; a rule refuses them all the same when they are not finite.
fn refuse_unread_rows<T: Element>(points: &[&[T]], weights: &Weights) -> Result<(), RowsError> {
    for (row, slice) in points.iter().enumerate().filter(|(row, _)| weights.as_slice().get(*row) == Some(&0.0)) {
        if let Some(coordinate) = first_non_finite(slice) {
            return Err(RowsError::NonFinite { row, coordinate });
        }
    }
    Ok(())
}

fn observe_all<T: Element>(
    points: &[&[T]],
    observation: &Observation,
    units: Units,
) -> Result<RowStatistics, AggregateError> {
    let mut tree = StatisticsTree::new(units.count());
    for (unit, range) in units.iter().enumerate() {
        let slices: Vec<&[T]> = points.iter().map(|row| &row[range.clone()]).collect();
        tree.insert(unit, observe_unit(&Rows::new(&slices, range.start)?, observation)?)?;
    }
    Ok(tree.finish(observation)?)
}
