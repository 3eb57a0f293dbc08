//! CPU work that leaves the engine owning its data and returns as [`Done`].

use crate::TaskSpec;
use bytes::Bytes;
use rayon::prelude::*;
use std::{cell::Cell, ops::Range, sync::Arc};
use testudo_aggregate::{
    Combine, Needs, OptimizerConfig, Plan, Rows, UnitStatistics, combine_unit, first_non_finite, observe_unit,
};
use testudo_protocol::{ClientId, Digest, Model};

/// Most values whose memory a thread keeps for its next unit.
const KEPT: usize = 1 << 20;

/// The bytes of one row in one unit: little-endian f32, in as many pieces as the spool has them.
pub type RowBytes = Vec<Bytes>;

/// A piece of work on one unit of the rows, or on the finished aggregate.
#[derive(Debug, Clone)]
pub struct Job {
    work: Work,
}

#[derive(Debug, Clone)]
enum Work {
    Observe { unit: usize, range: Range<usize>, rows: Arc<[ClientId]>, needs: Needs },
    Combine { unit: usize, range: Range<usize>, rows: Arc<[ClientId]>, plan: Arc<Plan> },
    Finish { base: Arc<Model>, state: Arc<Vec<Vec<f32>>>, aggregate: Vec<f32>, optimizer: OptimizerConfig },
}

/// What a job found.
#[derive(Debug)]
pub struct Done(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Outcome {
    Observed { unit: usize, statistics: UnitStatistics },
    Combined { unit: usize, aggregate: Vec<f32>, trimmed: Vec<(usize, u64)> },
    Finished(Box<Finished>),
    Failed { detail: String },
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) model: Model,
    pub(crate) file: Bytes,
    pub(crate) digest: Digest,
    pub(crate) state: Vec<Vec<f32>>,
    pub(crate) norm: f64,
}

impl Job {
    pub(crate) fn observe(unit: usize, range: Range<usize>, rows: Arc<[ClientId]>, needs: Needs) -> Self {
        Self { work: Work::Observe { unit, range, rows, needs } }
    }

    /// Reads only the rows the plan uses.
    pub(crate) fn combine(unit: usize, range: Range<usize>, survivors: &Arc<[ClientId]>, plan: &Arc<Plan>) -> Self {
        Self { work: Work::Combine { unit, range, rows: survivors.clone(), plan: plan.clone() } }
    }

    pub(crate) fn finish(spec: &TaskSpec, base: Arc<Model>, state: Arc<Vec<Vec<f32>>>, aggregate: Vec<f32>) -> Self {
        Self { work: Work::Finish { base, state, aggregate, optimizer: spec.optimizer.clone() } }
    }

    /// Whose bytes the job reads, in this order.
    pub fn rows(&self) -> Vec<ClientId> {
        match &self.work {
            Work::Observe { rows, .. } => rows.to_vec(),
            Work::Combine { rows, plan, .. } => used(plan).into_iter().map(|row| rows[row].clone()).collect(),
            Work::Finish { .. } => Vec::new(),
        }
    }

    /// Which bytes of each payload the job reads.
    pub fn bytes(&self) -> Range<u64> {
        match &self.work {
            Work::Observe { range, .. } | Work::Combine { range, .. } => range.start as u64 * 4..range.end as u64 * 4,
            Work::Finish { .. } => 0..0,
        }
    }

    /// Does the work. `rows` holds the bytes of [`Job::rows`] over [`Job::bytes`].
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

impl Work {
    fn run(self, bytes: &[RowBytes]) -> Result<Outcome, String> {
        match self {
            Self::Observe { unit, range, needs, .. } => decoded(bytes, range.len(), |values| {
                let slices: Vec<&[f32]> = values.chunks_exact(range.len()).collect();
                let rows = Rows::new(&slices, range.start).map_err(|error| error.to_string())?;
                let statistics = observe_unit(&rows, needs).map_err(|error| error.to_string())?;
                Ok(Outcome::Observed { unit, statistics })
            }),
            Self::Combine { unit, range, plan, .. } => decoded(bytes, range.len(), |values| {
                let slices: Vec<&[f32]> = values.chunks_exact(range.len()).collect();
                let rows = Rows::new(&slices, range.start).map_err(|error| error.to_string())?;
                let used = used(&plan);
                let mut aggregate = vec![0.0; range.len()];
                let counts =
                    combine_unit(&rows, &narrow(&plan, &used), &mut aggregate).map_err(|error| error.to_string())?;
                let trimmed = used.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
                Ok(Outcome::Combined { unit, aggregate, trimmed })
            }),
            Self::Finish { base, state, aggregate, optimizer } => finish(&base, &state, &aggregate, &optimizer),
        }
    }
}

/// The rows a plan reads: all, or those of positive weight.
fn used(plan: &Plan) -> Vec<usize> {
    match &plan.combine {
        Combine::WeightedSum { weights, .. } => (0..weights.len()).filter(|&row| weights[row] != 0.0).collect(),
        _ => (0..plan.rows()).collect(),
    }
}

/// The same plan over the used rows only. Rows of weight 0 add nothing, so the bits are the same.
fn narrow(plan: &Plan, used: &[usize]) -> Plan {
    let combine = match &plan.combine {
        Combine::WeightedSum { weights, divisor } => {
            Combine::WeightedSum { weights: used.iter().map(|&row| weights[row]).collect(), divisor: *divisor }
        }
        other => other.clone(),
    };
    let verdicts = used.iter().map(|&row| plan.verdicts[row]).collect();
    Plan { verdicts, selected: (0..used.len()).collect(), scores: None, combine }
}

/// Works on all rows one after the other as f32. Their memory is the thread's own and used again: fresh memory for
/// every unit would cost more than decoding into it.
fn decoded<T>(
    rows: &[RowBytes],
    coordinates: usize,
    work: impl FnOnce(&[f32]) -> Result<T, String>,
) -> Result<T, String> {
    thread_local!(static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
    let mut values = MEMORY.take();
    values.clear();
    let result = decode(rows, coordinates, &mut values).and_then(|()| work(&values));
    if values.capacity() <= KEPT {
        MEMORY.set(values);
    }
    result
}

fn decode(rows: &[RowBytes], coordinates: usize, values: &mut Vec<f32>) -> Result<(), String> {
    values.reserve_exact(rows.len() * coordinates);
    for (index, row) in rows.iter().enumerate() {
        let length: usize = row.iter().map(Bytes::len).sum();
        if length != coordinates * 4 {
            return Err(format!("row {index} has {length} bytes instead of {}", coordinates * 4));
        }
        decode_row(row, values);
    }
    Ok(())
}

fn decode_row(pieces: &[Bytes], values: &mut Vec<f32>) {
    let (mut cut, mut held) = ([0u8; 4], 0);
    for piece in pieces {
        let mut piece = &piece[..];
        // A coordinate may be cut by the end of a piece.
        while held > 0 && !piece.is_empty() {
            cut[held] = piece[0];
            (held, piece) = (held + 1, &piece[1..]);
            if held == 4 {
                values.push(f32::from_le_bytes(cut));
                held = 0;
            }
        }
        let (whole, rest) = piece.as_chunks::<4>();
        values.extend(whole.iter().map(|four| f32::from_le_bytes(*four)));
        cut[held..held + rest.len()].copy_from_slice(rest);
        held += rest.len();
    }
}

/// Coordinates the optimiser steps at a time; they are independent, so the result does not depend on it.
const STEP: usize = 1 << 16;

fn finish(base: &Model, state: &[Vec<f32>], aggregate: &[f32], optimizer: &OptimizerConfig) -> Result<Outcome, String> {
    let mut parameters = base.parameters().to_vec();
    let mut state = state.to_vec();
    if state.is_empty() {
        let start = |index| vec![optimizer.initial_state(index) as f32; parameters.len()];
        state = (0..optimizer.state_vectors()).map(start).collect();
    }
    step(optimizer, &mut parameters, aggregate, &mut state)?;
    let squares: f64 = aggregate.par_chunks(STEP).map(squares_of).collect::<Vec<f64>>().iter().sum();
    if state.iter().any(|vector| first_non_finite(vector).is_some()) {
        return Err("the server optimiser's state is no longer finite".into());
    }
    let model = base.with_parameters(parameters).map_err(|error| error.to_string())?;
    let file = Bytes::from(model.to_safetensors());
    let digest = Digest::of(&file);
    Ok(Outcome::Finished(Box::new(Finished { model, file, digest, state, norm: squares.sqrt() })))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_decode_alike_however_they_are_cut(values in prop::collection::vec(any::<f32>(), 1..40), cut in 1usize..23) {
            let payload: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let pieces: RowBytes = payload.chunks(cut).map(Bytes::copy_from_slice).collect();
            let decoded = decoded(&[pieces], values.len(), |values| Ok(values.to_vec())).unwrap();
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded), bits(&values));
        }
    }

    #[test]
    fn a_row_of_the_wrong_length_is_a_failure_not_a_panic() {
        let error = decoded(&[vec![Bytes::from_static(&[0; 7])]], 2, |_| Ok(())).unwrap_err();
        assert!(error.contains("7 bytes instead of 8"), "{error}");
    }
}
