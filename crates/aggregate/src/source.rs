//! The driver over rows that need not be in memory: observe, decide, combine, a unit at a time.

use std::ops::Range;

use crate::aggregate::AggregateError;
use crate::combine::{add_counts, combine_unit};
use crate::element::Element;
use crate::kernel::finite::first_non_finite;
use crate::observe::observe_unit;
use crate::plan::{Note, Plan};
use crate::rows::{Rows, RowsError, Weights, WeightsError};
use crate::rule::{Decision, Rule};
use crate::statistics::{Observation, RowStatistics, StatisticsTree};
use crate::unit::Units;
use crate::verdict::Verdict;

/// Most looks at the rows: each pre-aggregation may ask for one, and the rule for two more.
pub const MOST_LOOKS: usize = 16;

/// What is done with the rows of one unit.
pub type Work<'a, T> = dyn FnMut(&[&[T]]) -> Result<(), AggregateError> + 'a;

/// What is done with one unit of the aggregate.
pub type Write<'a, T> = dyn FnMut(Range<usize>, &[T]) -> Result<(), AggregateError> + 'a;

/// Rows, then extra rows, a unit at a time: a file, a spool, memory.
pub trait Source<T: Element> {
    /// Hands the coordinates `range` of all rows and extra rows to `work`.
    ///
    /// # Errors
    ///
    /// What `work` refuses, and [`AggregateError::Io`] for what cannot be read.
    fn unit(&mut self, range: Range<usize>, work: &mut Work<'_, T>) -> Result<(), AggregateError>;
}

/// What is to be aggregated, apart from the coordinates.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Number of rows, extra rows not counted.
    pub rows: usize,
    /// Number of coordinates.
    pub dimension: usize,
    /// One weight per row, or `None` for equal weights.
    pub weights: Option<&'a [f64]>,
    /// The round's seed.
    pub seed: u64,
    /// What the rule's last aggregate asked to remember.
    pub memory: Option<f64>,
    /// The unit length in coordinates (default: [`Units::for_rows`]).
    pub unit_len: Option<usize>,
}

/// What a rule made of rows, apart from the aggregate itself. The fields are those of [`crate::Aggregate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// One verdict per row.
    pub verdicts: Vec<Verdict>,
    /// The weight of each row in the aggregate, for rules that weigh rows.
    pub weights: Option<Vec<f64>>,
    /// One score per row, for rules that score.
    pub scores: Option<Vec<f64>>,
    /// The rows used.
    pub selected: Vec<usize>,
    /// Figures that explain the decision.
    pub notes: Vec<Note>,
    /// A number for the rule's next round.
    pub memory: Option<f64>,
    /// Set when the aggregate means nothing and must not be used.
    pub degenerate: Option<String>,
}

/// Aggregates rows from a source, on the current rayon pool, and hands the aggregate to `write` unit by unit, in
/// order. Memory is bounded by the unit, not by the rows.
///
/// # Errors
///
/// As [`crate::aggregate_inputs`], and whatever source and `write` report.
pub fn aggregate_source<T: Element>(
    rule: &dyn Rule,
    task: &Task<'_>,
    source: &mut dyn Source<T>,
    write: &mut Write<'_, T>,
) -> Result<Summary, AggregateError> {
    let Task { rows, dimension, seed, memory, unit_len, .. } = *task;
    if rows == 0 {
        return Err(RowsError::NoRows.into());
    }
    rule.check(rows)?;
    let weights = checked_weights(rule, rows, task.weights)?;
    let units = match unit_len {
        Some(unit_len) => Units::new(dimension, unit_len)?,
        None => Units::for_rows(dimension, rows + rule.needs().extras.count(rows))?,
    };
    let observation = Observation::first(rule.needs(), rows, dimension, seed).with_memory(memory);
    let looked = !observation.needs.is_nothing();
    let plan = decide(rule, source, &weights, units, observation)?;
    let mut output = vec![T::ZERO; units.unit_len().min(dimension)];
    let mut trimmed = vec![0; rows];
    for range in units.iter() {
        let output = &mut output[..range.len()];
        source.unit(range.clone(), &mut |points| {
            let view = Rows::new(points, range.start)?;
            if !looked {
                refuse_unread_rows(&view, &weights)?;
            }
            add_counts(&mut trimmed, &combine_unit(&view, &plan, output)?);
            Ok(())
        })?;
        write(range, output)?;
    }
    let verdicts = plan.final_verdicts(&trimmed, dimension);
    let weights = plan.weights();
    let Plan { scores, selected, notes, memory, degenerate, .. } = plan;
    Ok(Summary { verdicts, weights, scores, selected, notes, memory, degenerate })
}

/// Looks at the rows as often as the rule asks to.
pub(crate) fn decide<T: Element>(
    rule: &dyn Rule,
    source: &mut dyn Source<T>,
    weights: &Weights,
    units: Units,
    mut observation: Observation,
) -> Result<Plan, AggregateError> {
    let mut statistics = match observation.needs.is_nothing() {
        true => observation.unobserved(),
        false => observe(source, &observation, units)?,
    };
    for _ in 0..MOST_LOOKS {
        match rule.decide(&statistics, weights)? {
            Decision::Plan(plan) => return Ok(*plan),
            Decision::Refine(refinement) => {
                observation = observation.refined(*refinement);
                statistics = observe(source, &observation, units)?;
            }
        }
    }
    Err(AggregateError::Undecided { kind: rule.kind() })
}

fn observe<T: Element>(
    source: &mut dyn Source<T>,
    observation: &Observation,
    units: Units,
) -> Result<RowStatistics, AggregateError> {
    let mut tree = StatisticsTree::new(units.count());
    for (unit, range) in units.iter().enumerate() {
        source.unit(range.clone(), &mut |points| {
            tree.insert(unit, observe_unit(&Rows::new(points, range.start)?, observation)?)?;
            Ok(())
        })?;
    }
    Ok(tree.finish(observation)?)
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
fn refuse_unread_rows<T: Element>(rows: &Rows<'_, T>, weights: &Weights) -> Result<(), RowsError> {
    for (row, _) in weights.as_slice().iter().enumerate().filter(|(_, weight)| **weight == 0.0) {
        if let Some(within) = first_non_finite(rows.slices()[row]) {
            return Err(RowsError::NonFinite { row, coordinate: rows.first_coordinate() + within });
        }
    }
    Ok(())
}
