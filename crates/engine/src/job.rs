//! CPU work that leaves the engine owning its data and returns as [`Done`].

mod private;

use crate::{
    Carry, TaskSpec,
    part::{Plain, plain_tensors},
    row_set::{GroupRow, RowSet},
    rows,
};
use bytes::Bytes;
pub(crate) use private::{Factors, Found, Shared, Step};
use rayon::prelude::*;
use std::{ops::Range, sync::Arc};
use testudo_aggregate::{
    Decision, Observation, OptimizerConfig, Plan, RowStatistics, Rows, Rule, RuleError, UnitStatistics, Weights,
    combine_unit, first_non_finite, observe_unit,
};
use testudo_protocol::{
    ClientId, Digest, Model,
    secagg::{Misfit, Opened, Opening},
};

/// The bytes of one row in one unit: little-endian f32, in as many pieces as the spool has them.
pub type RowBytes = Vec<Bytes>;

/// A piece of work on one unit of the rows, or on the finished aggregate.
#[derive(Debug)]
pub struct Job {
    work: Work,
}

#[derive(Debug)]
enum Work {
    Open { index: usize, opening: Box<Opening>, weights_at: Option<usize> },
    Observe { unit: Unit, observation: Arc<Observation> },
    Decide(Box<Decide>),
    Combine { unit: Unit, plan: Arc<Plan>, remember: bool },
    Private { unit: Unit, shared: Arc<Shared>, step: Step },
    Finish(Finish),
}

/// Which rows a job is about, and where.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// The part of the model.
    pub(crate) part: usize,
    /// The unit of the part.
    pub(crate) index: usize,
    /// Coordinates of the part's own vector.
    pub(crate) own: Range<usize>,
    /// Where they lie in the model's vector.
    pub(crate) places: Vec<Range<usize>>,
    /// What the rows are.
    pub(crate) rows: Arc<RowSet>,
    /// The rows behind them.
    pub(crate) extras: Arc<[Extra]>,
}

/// A row besides the clients' own.
#[derive(Debug, Clone)]
pub(crate) enum Extra {
    /// Nothing is known yet.
    Zero,
    /// A vector of the whole model that is in memory.
    Vector(Arc<Vec<f32>>),
    /// A client's update of this round.
    Update(ClientId),
}

/// A rule's decision: some search or solve eigenproblems, which is no work for whoever drives the engine.
#[derive(Debug, Clone)]
struct Decide {
    part: usize,
    rule: Arc<dyn Rule>,
    statistics: RowStatistics,
    weights: Weights,
}

#[derive(Debug, Clone)]
struct Finish {
    base: Arc<Model>,
    /// Coordinates that are added as they are, past the optimiser.
    plain: Vec<Plain>,
    carry: Arc<Carry>,
    aggregate: Vec<f32>,
    optimizer: OptimizerConfig,
}

/// What a job found.
#[derive(Debug)]
pub struct Done(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Outcome {
    Opened { index: usize, result: Result<GroupRow, String>, misfits: Vec<Misfit> },
    Observed { unit: Unit, statistics: UnitStatistics },
    Decided { part: usize, decision: Result<Decision, RuleError> },
    Combined(Combined),
    Private { unit: Unit, found: Found },
    Finished(Box<Finished>),
    Failed { detail: String },
}

#[derive(Debug)]
pub(crate) struct Combined {
    pub(crate) unit: Unit,
    pub(crate) aggregate: Vec<f32>,
    /// Rows with cut coordinates, and how many.
    pub(crate) trimmed: Vec<(usize, u64)>,
    /// Per row the sum of its client's updates up to this one, if the rule wants to remember it.
    pub(crate) history: Vec<Vec<f32>>,
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) model: Model,
    pub(crate) file: Bytes,
    pub(crate) digest: Digest,
    pub(crate) optimizer: Vec<Vec<f32>>,
    pub(crate) aggregate: Vec<f32>,
    pub(crate) norm: f64,
}

impl Job {
    /// Rebuilds the masks of a group's sum, and the sum of its weights, which lie at that coordinate if there are any.
    pub(crate) fn open(index: usize, opening: Opening, weights_at: Option<usize>) -> Self {
        Self { work: Work::Open { index, opening: Box::new(opening), weights_at } }
    }

    pub(crate) fn observe(unit: Unit, observation: Arc<Observation>) -> Self {
        Self { work: Work::Observe { unit, observation } }
    }

    pub(crate) fn decide(part: usize, rule: Arc<dyn Rule>, statistics: RowStatistics, weights: Weights) -> Self {
        Self { work: Work::Decide(Box::new(Decide { part, rule, statistics, weights })) }
    }

    /// Reads only the rows the plan uses, unless their clients' histories are to be remembered.
    pub(crate) fn combine(unit: Unit, plan: Arc<Plan>, remember: bool) -> Self {
        Self { work: Work::Combine { unit, plan, remember } }
    }

    /// A step of a private sum.
    pub(crate) fn private(unit: Unit, shared: Arc<Shared>, step: Step) -> Self {
        Self { work: Work::Private { unit, shared, step } }
    }

    pub(crate) fn finish(spec: &TaskSpec, base: Arc<Model>, carry: Arc<Carry>, aggregate: Vec<f32>) -> Self {
        let plain = plain_tensors(base.layout(), &spec.tensors);
        Self { work: Work::Finish(Finish { base, plain, carry, aggregate, optimizer: spec.optimizer.clone() }) }
    }

    /// Whose bytes the job reads, in this order.
    pub fn rows(&self) -> Vec<ClientId> {
        let (unit, used) = match &self.work {
            Work::Observe { unit, .. } => (unit, (0..unit.rows.len()).collect()),
            Work::Combine { unit, plan, remember } => (unit, used(unit, plan, *remember)),
            Work::Private { unit, step, .. } => (unit, step.used(unit.rows.len())),
            Work::Open { opening, weights_at: Some(_), .. } => return opening.clients().collect(),
            Work::Open { .. } | Work::Decide(_) | Work::Finish(_) => return Vec::new(),
        };
        used.into_iter().flat_map(|row| unit.rows.clients_of(row)).cloned().chain(unit.updates()).collect()
    }

    /// Which bytes of each payload the job reads.
    pub fn bytes(&self) -> Vec<Range<u64>> {
        match &self.work {
            Work::Private { step: Step::Noise { .. }, .. } => Vec::new(),
            Work::Observe { unit, .. } | Work::Combine { unit, .. } | Work::Private { unit, .. } => {
                let words = unit.rows.windows(&unit.places);
                words.into_iter().map(|place| place.start as u64 * 4..place.end as u64 * 4).collect()
            }
            Work::Open { weights_at, .. } => weights_at.iter().map(|&at| at as u64 * 4..at as u64 * 4 + 4).collect(),
            Work::Decide(_) | Work::Finish(_) => Vec::new(),
        }
    }

    /// Does the work. `rows` holds the bytes of [`Job::rows`] over [`Job::bytes`], one range after the other.
    ///
    /// Never panics on what it is given: a row of the wrong length comes back as a failure.
    pub fn run(self, rows: &[RowBytes]) -> Done {
        Done(self.work.run(rows).unwrap_or_else(|detail| Outcome::Failed { detail }))
    }

    /// The job could not get its bytes.
    pub fn failed(detail: impl Into<String>) -> Done {
        Done(Outcome::Failed { detail: detail.into() })
    }
}

/// The rows that are read: those the plan uses, or all.
fn used(unit: &Unit, plan: &Plan, remember: bool) -> Vec<usize> {
    if remember { (0..unit.rows.len()).collect() } else { plan.used() }
}

impl Unit {
    /// Clients whose updates are extra rows.
    fn updates(&self) -> impl Iterator<Item = ClientId> {
        self.extras
            .iter()
            .filter_map(|extra| if let Extra::Update(client) = extra { Some(client.clone()) } else { None })
    }

    /// Works on the rows and extra rows of the unit as numbers, one after the other.
    fn with_points<T>(
        &self,
        used: &[usize],
        bytes: &[RowBytes],
        work: impl FnOnce(&Rows<'_, f32>) -> Result<T, String>,
    ) -> Result<T, String> {
        let length = self.own.len();
        rows::in_own_memory(|points| {
            let updates = self.extras.iter().filter(|extra| matches!(extra, Extra::Update(_))).count();
            let (own, updates) = bytes.split_at_checked(bytes.len().saturating_sub(updates)).unwrap_or((bytes, &[]));
            self.rows.decode(used, &self.places, own, points)?;
            if points.len() != used.len() * length {
                return Err(format!("{} rows instead of {}", points.len() / length.max(1), used.len()));
            }
            let mut extra = Vec::new();
            rows::decode(updates, length, &mut extra)?;
            let mut updates = extra.into_iter();
            for extra in self.extras.iter() {
                match extra {
                    Extra::Zero => points.resize(points.len() + length, 0.0),
                    Extra::Vector(vector) => {
                        for place in &self.places {
                            points.extend(vector.get(place.clone()).ok_or("a carried vector is too short")?);
                        }
                    }
                    Extra::Update(_) => points.extend(updates.by_ref().take(length)),
                }
            }
            let slices: Vec<&[f32]> = points.chunks_exact(length).collect();
            work(&Rows::new(&slices, self.own.start).map_err(|error| error.to_string())?)
        })
    }
}

impl Work {
    fn run(self, bytes: &[RowBytes]) -> Result<Outcome, String> {
        match self {
            Self::Open { index, opening, weights_at } => Ok(opened(index, &opening, weights_at, bytes)),
            Self::Observe { unit, observation } => {
                let all: Vec<usize> = (0..unit.rows.len()).collect();
                let statistics = unit.with_points(&all, bytes, |rows| {
                    observe_unit(rows, &observation).map_err(|error| error.to_string())
                })?;
                Ok(Outcome::Observed { unit, statistics })
            }
            Self::Combine { unit, plan, remember } => {
                let used = used(&unit, &plan, remember);
                let narrowed = if remember { None } else { Some(plan.narrowed()) };
                let mut aggregate = vec![0.0; unit.own.len()];
                let (counts, history) = unit.with_points(&used, bytes, |rows| {
                    let counts = combine_unit(rows, narrowed.as_ref().unwrap_or(&plan), &mut aggregate);
                    let history = if remember { sums(rows.slices(), used.len()) } else { Vec::new() };
                    Ok((counts.map_err(|error| error.to_string())?, history))
                })?;
                let trimmed = used.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
                Ok(Outcome::Combined(Combined { unit, aggregate, trimmed, history }))
            }
            Self::Decide(decide) => {
                let Decide { part, rule, statistics, weights } = *decide;
                Ok(Outcome::Decided { part, decision: rule.decide(&statistics, &weights) })
            }
            Self::Private { unit, shared, step } => step.run(&shared, unit, bytes),
            Self::Finish(finish) => finish.run(),
        }
    }
}

/// A group's masks, and the sum of its weights.
fn opened(index: usize, opening: &Opening, weights_at: Option<usize>, bytes: &[RowBytes]) -> Outcome {
    let number = opening.terms.group;
    let Opened { survivors, masks, misfits } = match opening.open() {
        Ok(opened) => opened,
        Err(lost) => return Outcome::Opened { index, result: Err(lost.to_string()), misfits: Vec::new() },
    };
    let mut row = GroupRow { number, survivors, masks, weight: None };
    let mut sum = [0];
    let result = match weights_at {
        None => Ok(row),
        Some(at) => row.unmask(std::slice::from_ref(&(at..at + 1)), bytes, &mut sum).map(|()| {
            row.weight = Some(sum[0]);
            row
        }),
    };
    Outcome::Opened { index, result, misfits }
}

/// Row plus history, for each row: histories are the last extra rows.
fn sums(points: &[&[f32]], rows: usize) -> Vec<Vec<f32>> {
    let histories = &points[points.len() - rows..];
    let sum = |(row, history): (&&[f32], &&[f32])| {
        row.iter().zip(*history).map(|(a, b)| (a + b).clamp(f32::MIN, f32::MAX)).collect()
    };
    points[..rows].iter().zip(histories).map(sum).collect()
}

/// Coordinates the optimiser steps at a time; they are independent, so the result does not depend on it.
const STEP: usize = 1 << 16;

impl Finish {
    fn run(self) -> Result<Outcome, String> {
        let Self { base, plain, carry, aggregate, optimizer } = self;
        let mut parameters = base.parameters().to_vec();
        let mut state = carry.optimizer.clone();
        if state.is_empty() {
            let start = |index| vec![optimizer.initial_state(index) as f32; parameters.len()];
            state = (0..optimizer.state_vectors()).map(start).collect();
        }
        // The optimiser sees nothing of what is added past it, and so keeps no state of it.
        let mut seen = aggregate;
        let kept: Vec<Vec<f32>> = plain.iter().map(|tensor| seen[tensor.range.clone()].to_vec()).collect();
        plain.iter().for_each(|tensor| seen[tensor.range.clone()].fill(0.0));
        step(&optimizer, &mut parameters, &seen, &mut state)?;
        let mut aggregate = seen;
        for (tensor, kept) in plain.iter().zip(kept) {
            aggregate[tensor.range.clone()].copy_from_slice(&kept);
        }
        for tensor in plain {
            let range = tensor.range.clone();
            let old = base.parameters()[range.clone()].iter().zip(&aggregate[range.clone()]);
            for (value, (old, delta)) in parameters[range].iter_mut().zip(old) {
                *value = tensor.apply(*old, *delta);
            }
        }
        let squares: f64 = aggregate.par_chunks(STEP).map(squares_of).collect::<Vec<f64>>().iter().sum();
        if state.iter().any(|vector| first_non_finite(vector).is_some()) {
            return Err("the server optimiser's state is no longer finite".into());
        }
        let model = base.with_parameters(parameters).map_err(|error| error.to_string())?;
        let file = Bytes::from(model.to_safetensors());
        let (digest, norm) = (Digest::of(&file), squares.sqrt());
        Ok(Outcome::Finished(Box::new(Finished { model, file, digest, optimizer: state, aggregate, norm })))
    }
}

/// One optimiser step, on all cores of the current pool.
fn step(
    optimizer: &OptimizerConfig,
    parameters: &mut [f32],
    aggregate: &[f32],
    state: &mut [Vec<f32>],
) -> Result<(), String> {
    let mut states: Vec<_> = state.iter_mut().map(|vector| vector.chunks_mut(STEP)).collect();
    let parts = parameters.chunks_mut(STEP).zip(aggregate.chunks(STEP)).map(|(parameters, delta)| {
        let vectors: Vec<&mut [f32]> = states.iter_mut().filter_map(Iterator::next).collect();
        (parameters, delta, vectors)
    });
    let parts: Vec<_> = parts.collect();
    parts.into_par_iter().try_for_each(|(parameters, delta, mut vectors)| {
        optimizer.apply_unit(parameters, delta, &mut vectors).map_err(|error| error.to_string())
    })
}

/// Sum of squares of one piece, in coordinate order.
fn squares_of(piece: &[f32]) -> f64 {
    piece.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}
