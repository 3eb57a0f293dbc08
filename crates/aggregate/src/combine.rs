//! The combining pass over one unit.

use std::ops::Range;

use rayon::prelude::*;

use crate::aggregate::AggregateError;
use crate::centre::Centre;
use crate::element::Element;
use crate::kernel::mix::Mixer;
use crate::kernel::order_statistics::OrderStatistics;
use crate::kernel::sign_vote::sign_vote;
use crate::kernel::weighted_sum::weighted_sum;
use crate::mixing::Mixing;
use crate::observe::{divide, in_whole_vector};
use crate::plan::{Combine, Plan};
use crate::rows::{Rows, RowsError};
use crate::unit::BLOCK;

/// Applies a plan to one unit: writes the unit's aggregate to `out` and returns how many of each row's coordinates
/// were cut, to be added up over the units for [`Plan::final_verdicts`]. A coordinate counts as cut when its value
/// lies strictly outside the kept values. `rows` holds the rows, then the extra rows the rule's needs name. Uses the
/// current rayon pool; give it a unit at a time.
///
/// # Errors
///
/// When a row the plan uses is not finite, or the plan or `out` has another shape than the rows; `out` is then
/// undefined.
pub fn combine_unit<T: Element>(rows: &Rows<'_, T>, plan: &Plan, out: &mut [T]) -> Result<Vec<u64>, AggregateError> {
    if plan.rows() > rows.count() {
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
    let mut trimmed = vec![0; step.rows];
    for counts in blocks {
        add_counts(&mut trimmed, &counts.map_err(|error| in_whole_vector(error, rows))?);
    }
    if let Some(among) = step.among {
        let mut of_all = vec![0; plan.mixing.as_ref().map_or(plan.rows(), Mixing::rows)];
        for (&row, count) in among.iter().zip(trimmed) {
            of_all[row] = count;
        }
        trimmed = of_all;
    }
    Ok(match &plan.mixing {
        Some(mixing) => mixing.owners().iter().map(|&owner| trimmed[owner]).collect(),
        None => trimmed,
    })
}

/// Bytes of mixed rows made before they are combined: they stay in the second-level cache.
const MIXED_BYTES: usize = 256 << 10;

/// Fewest coordinates mixed at a time.
const LEAST_STRETCH: usize = 64;

/// A combine step made ready for one number of rows.
struct Step<'a> {
    /// Number of rows it works on: mixed rows where there is a mixing.
    rows: usize,
    /// Which ones, if not all.
    among: Option<&'a [usize]>,
    /// The coefficients and divisors of the mixed rows it works on.
    mixing: Option<(Mixer, Vec<f64>)>,
    work: Work<'a>,
}

enum Work<'a> {
    WeightedSum { weights: &'a [f64], divisor: f64 },
    SignVote { weights: &'a [f64], divisor: f64, quorum: usize },
    Order(OrderStatistics),
}

impl<'a> Step<'a> {
    fn new(plan: &'a Plan, points: usize) -> Result<Self, AggregateError> {
        let unfit = AggregateError::PlanCombine { rows: points };
        if plan.mixing.as_ref().is_some_and(|mixing| !mixing.fits(points + 1) || mixing.owners().len() != plan.rows()) {
            return Err(unfit);
        }
        let all = plan.mixing.as_ref().map_or(plan.rows(), Mixing::rows);
        let among = plan.among.as_deref();
        // Weights are for all rows.
        let in_order =
            matches!(plan.combine, Combine::Median { .. } | Combine::TrimmedMean { .. } | Combine::MeanAround { .. });
        if among.is_some_and(|among| {
            !in_order || among.is_empty() || !among.is_sorted_by(|a, b| a < b) || among.iter().any(|&row| row >= all)
        }) {
            return Err(unfit);
        }
        let rows = among.map_or(all, <[usize]>::len);
        let weighted =
            |weights: &[f64], count: usize| weights.len() == count && weights.iter().all(|weight| weight.is_finite());
        let positive = |weights: &[f64]| {
            weighted(weights, rows) && weights.iter().all(|weight| *weight >= 0.0) && weights.iter().any(|w| *w > 0.0)
        };
        let work = match &plan.combine {
            Combine::WeightedSum { weights, divisor }
                if weighted(weights, points) && divisor.is_normal() && plan.mixing.is_none() =>
            {
                Work::WeightedSum { weights, divisor: *divisor }
            }
            Combine::SignVote { weights, divisor, quorum } if weighted(weights, rows) && divisor.is_normal() => {
                Work::SignVote { weights, divisor: *divisor, quorum: *quorum }
            }
            Combine::Median { even } => Work::Order(OrderStatistics::median(rows, *even)),
            Combine::WeightedMedian { weights } if positive(weights) => {
                Work::Order(OrderStatistics::weighted_median(weights))
            }
            Combine::TrimmedMean { cut } if *cut < rows.div_ceil(2) => {
                Work::Order(OrderStatistics::trimmed_mean(rows, *cut))
            }
            Combine::WeightedTrimmedMean { weights, cut }
                if positive(weights) && *cut >= 0.0 && *cut < weights.iter().sum::<f64>() / 2.0 =>
            {
                Work::Order(OrderStatistics::weighted_trimmed_mean(weights, *cut))
            }
            Combine::MeanAround { centre, keep } if fits(*centre, rows) && (1..=rows).contains(keep) => {
                Work::Order(OrderStatistics::mean_around(rows, *centre, *keep))
            }
            _ => return Err(unfit),
        };
        let mixing = plan.mixing.as_ref().map(|mixing| match among {
            None => (Mixer::new(points, &mixing.dense()), mixing.divisors().to_vec()),
            Some(among) => {
                let dense = mixing.dense();
                let row = |&row: &usize| dense[row * points..(row + 1) * points].iter().copied();
                let dense: Vec<f64> = among.iter().flat_map(row).collect();
                (Mixer::new(points, &dense), among.iter().map(|&row| mixing.divisor(row)).collect())
            }
        });
        Ok(Self { rows, among, mixing, work })
    }

    fn apply<T: Element>(&self, points: &[&[T]], range: Range<usize>, out: &mut [T]) -> Result<Vec<u64>, RowsError> {
        let Some((mixer, divisors)) = &self.mixing else {
            if let Some(among) = self.among {
                let rows: Vec<&[T]> = among.iter().map(|&row| points[row]).collect();
                return self.work.apply(&rows, range, out).map_err(|error| match error {
                    RowsError::NonFinite { row, coordinate } => RowsError::NonFinite { row: among[row], coordinate },
                    other => other,
                });
            }
            // Only weighted sums read extra rows.
            let rows = if matches!(self.work, Work::WeightedSum { .. }) { points } else { &points[..self.rows] };
            return self.work.apply(rows, range, out);
        };
        // A stretch at a time, so that the mixed rows are still in the cache when they are combined.
        let stretch = (MIXED_BYTES / size_of::<f64>() / self.rows.max(1)).clamp(LEAST_STRETCH, BLOCK);
        let stretch = stretch / LEAST_STRETCH * LEAST_STRETCH;
        let (mut mixed, mut wide) = (vec![0.0; self.rows * stretch], vec![0.0; stretch]);
        let mut totals = Vec::new();
        for (index, out) in out.chunks_mut(stretch).enumerate() {
            let (length, first) = (out.len(), range.start + index * stretch);
            let (mixed, wide) = (&mut mixed[..self.rows * length], &mut wide[..length]);
            mixer.mix(points, first..first + length, mixed)?;
            divide(divisors, mixed, length);
            let views: Vec<&[f64]> = mixed.chunks_exact(length).collect();
            let counts = self.work.apply(&views, 0..length, wide).map_err(|error| match error {
                RowsError::NonFinite { row, coordinate } => {
                    RowsError::NonFinite { row, coordinate: first + coordinate }
                }
                other => other,
            })?;
            for (value, wide) in out.iter_mut().zip(wide) {
                *value = T::from_f64(*wide);
            }
            match totals.is_empty() {
                true => totals = counts,
                false => add_counts(&mut totals, &counts),
            }
        }
        Ok(totals)
    }
}

impl Work<'_> {
    fn apply<T: Element>(&self, rows: &[&[T]], range: Range<usize>, out: &mut [T]) -> Result<Vec<u64>, RowsError> {
        match self {
            Self::WeightedSum { weights, divisor } => {
                weighted_sum(rows, weights, *divisor, range, out).map(|()| Vec::new())
            }
            Self::SignVote { weights, divisor, quorum } => {
                sign_vote(rows, weights, *divisor, *quorum, range, out).map(|()| Vec::new())
            }
            Self::Order(order) => order.apply(rows, range, out),
        }
    }
}

/// Whether there is such a centre of `rows` values.
fn fits(centre: Centre, rows: usize) -> bool {
    match centre {
        Centre::Median => true,
        Centre::TrimmedMean { cut } => cut < rows.div_ceil(2),
    }
}

pub(crate) fn add_counts(totals: &mut [u64], counts: &[u64]) {
    for (total, count) in totals.iter_mut().zip(counts) {
        *total += count;
    }
}
