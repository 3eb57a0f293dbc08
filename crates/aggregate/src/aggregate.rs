//! The two per-unit functions jobs call, and the in-memory driver around them.

use std::ops::Range;

use rayon::prelude::*;
use thiserror::Error;

use crate::centre::Even;
use crate::element::Element;
use crate::kernel::finite::first_non_finite;
use crate::kernel::order_statistics::OrderStatistics;
use crate::kernel::pair_statistics::pair_statistics;
use crate::kernel::weighted_sum::weighted_sum;
use crate::plan::{Combine, Plan};
use crate::rows::{Rows, RowsError, Weights, WeightsError};
use crate::rule::{Rule, RuleError};
use crate::statistics::{Needs, RowStatistics, StatisticsError, StatisticsTree, UnitStatistics};
use crate::unit::{BLOCK, UnitError, Units};
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
}

/// Aggregates rows that are in memory, on the current rayon pool.
///
/// `weights` must be `None` for rules that do not use them, else one per row (default: equal). `unit_len` is the unit
/// length in coordinates (default: [`Units::for_rows`]); it cannot be seen in the result.
///
/// # Errors
///
/// Rows that are not equally long or not finite, weights that are invalid or would have no effect, an invalid unit
/// length, and whatever the rule refuses.
pub fn aggregate<T: Element>(
    rule: &dyn Rule,
    rows: &[&[T]],
    weights: Option<&[f64]>,
    unit_len: Option<usize>,
) -> Result<Aggregate<T>, AggregateError> {
    let dimension = Rows::new(rows, 0)?.unit_len();
    rule.check(rows.len())?;
    let weights = checked_weights(rule, rows.len(), weights)?;
    let units = match unit_len {
        Some(unit_len) => Units::new(dimension, unit_len)?,
        None => Units::for_rows(dimension, rows.len())?,
    };
    let statistics = if rule.needs().is_nothing() {
        refuse_unread_rows(rows, &weights)?;
        RowStatistics::unobserved(rows.len())
    } else {
        observe_all(rows, rule.needs(), units)?
    };
    let plan = rule.decide(&statistics, &weights)?;
    let mut output = vec![T::ZERO; dimension];
    let mut trimmed = vec![0; rows.len()];
    for range in units.iter() {
        let slices: Vec<&[T]> = rows.iter().map(|row| &row[range.clone()]).collect();
        let counts = combine_unit(&Rows::new(&slices, range.start)?, &plan, &mut output[range])?;
        add_counts(&mut trimmed, &counts);
    }
    let verdicts = plan.final_verdicts(&trimmed, dimension);
    let weights = plan.weights();
    Ok(Aggregate { output, verdicts, weights, scores: plan.scores, selected: plan.selected })
}

/// Observes one unit: the statistics of its blocks, summed as a subtree of [`StatisticsTree`]. Uses the current rayon
/// pool; give it a unit at a time.
///
/// # Errors
///
/// When a row is not finite.
pub fn observe_unit<T: Element>(rows: &Rows<'_, T>, needs: Needs) -> Result<UnitStatistics, RowsError> {
    if !needs.pair_distances {
        for (row, slice) in rows.slices().iter().enumerate() {
            if let Some(within) = first_non_finite(slice) {
                return Err(in_whole_vector(RowsError::NonFinite { row, coordinate: within }, rows));
            }
        }
        return Ok(UnitStatistics::new(rows.count(), None));
    }
    observe_subtree(rows, 0..rows.unit_len().div_ceil(BLOCK)).map_err(|error| in_whole_vector(error, rows))
}

/// Applies a plan to one unit: writes the unit's aggregate to `out` and returns how many of each row's coordinates
/// were cut, to be added up over the units for [`Plan::final_verdicts`]. A coordinate counts as cut when its value
/// lies strictly outside the kept values. Uses the current rayon pool; give it a unit at a time.
///
/// # Errors
///
/// When a row the plan uses is not finite, or the plan or `out` has another shape than the rows; `out` is then
/// undefined.
pub fn combine_unit<T: Element>(rows: &Rows<'_, T>, plan: &Plan, out: &mut [T]) -> Result<Vec<u64>, AggregateError> {
    if plan.rows() != rows.count() {
        return Err(AggregateError::PlanRows { plan: plan.rows(), rows: rows.count() });
    }
    if out.len() != rows.unit_len() {
        return Err(AggregateError::OutputLength { output: out.len(), unit: rows.unit_len() });
    }
    let step = Step::new(plan, rows.count())?;
    let blocks: Vec<Result<Vec<u64>, RowsError>> = out
        .par_chunks_mut(BLOCK)
        .enumerate()
        .map(|(block, out)| step.apply(rows.slices(), block * BLOCK..block * BLOCK + out.len(), out))
        .collect();
    let mut trimmed = vec![0; rows.count()];
    for counts in blocks {
        add_counts(&mut trimmed, &counts.map_err(|error| in_whole_vector(error, rows))?);
    }
    Ok(trimmed)
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
    /// The output is longer or shorter than the unit.
    #[error("the output has {output} coordinates, but the unit has {unit}")]
    OutputLength {
        /// Coordinates of the output.
        output: usize,
        /// Coordinates of the unit.
        unit: usize,
    },
}

/// A combine step made ready for one number of rows.
enum Step<'a> {
    WeightedSum { weights: &'a [f64], divisor: f64 },
    Order(OrderStatistics),
}

impl<'a> Step<'a> {
    fn new(plan: &'a Plan, rows: usize) -> Result<Self, AggregateError> {
        match &plan.combine {
            Combine::WeightedSum { weights, divisor }
                if weights.len() == rows && divisor.is_normal() && weights.iter().all(|weight| weight.is_finite()) =>
            {
                Ok(Self::WeightedSum { weights, divisor: *divisor })
            }
            Combine::Median => Ok(Self::Order(OrderStatistics::median(rows, Even::Average))),
            Combine::TrimmedMean { cut } if *cut < rows.div_ceil(2) => {
                Ok(Self::Order(OrderStatistics::trimmed_mean(rows, *cut)))
            }
            Combine::WeightedSum { .. } | Combine::TrimmedMean { .. } => Err(AggregateError::PlanCombine { rows }),
        }
    }

    fn apply<T: Element>(&self, rows: &[&[T]], range: Range<usize>, out: &mut [T]) -> Result<Vec<u64>, RowsError> {
        match self {
            Self::WeightedSum { weights, divisor } => {
                weighted_sum(rows, weights, *divisor, range, out).map(|()| Vec::new())
            }
            Self::Order(order) => order.apply(rows, range, out),
        }
    }
}

fn checked_weights(rule: &dyn Rule, rows: usize, weights: Option<&[f64]>) -> Result<Weights, AggregateError> {
    let Some(weights) = weights else { return Ok(Weights::equal(rows)?) };
    if !rule.uses_weights() {
        return Err(AggregateError::WeightsUnused { kind: rule.kind() });
    }
    if weights.len() != rows {
        return Err(WeightsError::Count { got: weights.len(), rows }.into());
    }
    Ok(Weights::new(weights)?)
}

/// Rows of weight 0 are never read by the combine; a rule refuses them all the same when they are not finite.
fn refuse_unread_rows<T: Element>(rows: &[&[T]], weights: &Weights) -> Result<(), RowsError> {
    for (row, slice) in rows.iter().enumerate().filter(|(row, _)| weights.as_slice()[*row] == 0.0) {
        if let Some(coordinate) = first_non_finite(slice) {
            return Err(RowsError::NonFinite { row, coordinate });
        }
    }
    Ok(())
}

fn observe_all<T: Element>(rows: &[&[T]], needs: Needs, units: Units) -> Result<RowStatistics, AggregateError> {
    let mut tree = StatisticsTree::new(units.count());
    for (unit, range) in units.iter().enumerate() {
        let slices: Vec<&[T]> = rows.iter().map(|row| &row[range.clone()]).collect();
        tree.insert(unit, observe_unit(&Rows::new(&slices, range.start)?, needs)?)?;
    }
    Ok(tree.finish()?)
}

/// The subtree over `blocks`: the left child is the largest power of two of blocks that leaves something to the
/// right, which is what pairing 2k with 2k+1 level by level comes to.
fn observe_subtree<T: Element>(rows: &Rows<'_, T>, blocks: Range<usize>) -> Result<UnitStatistics, RowsError> {
    if blocks.len() <= 1 {
        let coordinates = blocks.start * BLOCK..rows.unit_len().min(blocks.end * BLOCK);
        return Ok(UnitStatistics::new(rows.count(), Some(pair_statistics(rows.slices(), coordinates)?)));
    }
    let middle = blocks.start + (1 << (blocks.len() - 1).ilog2());
    let (left, right) =
        rayon::join(|| observe_subtree(rows, blocks.start..middle), || observe_subtree(rows, middle..blocks.end));
    Ok(left?.join(&right?))
}

fn add_counts(totals: &mut [u64], counts: &[u64]) {
    for (total, count) in totals.iter_mut().zip(counts) {
        *total += count;
    }
}

/// Kernels count coordinates from the start of the unit.
fn in_whole_vector<T: Element>(error: RowsError, rows: &Rows<'_, T>) -> RowsError {
    match error {
        RowsError::NonFinite { row, coordinate } => {
            RowsError::NonFinite { row, coordinate: rows.first_coordinate() + coordinate }
        }
        other => other,
    }
}
