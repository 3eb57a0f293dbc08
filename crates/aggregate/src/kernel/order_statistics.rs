//! Medians, trimmed means and means around a centre, per coordinate.
//!
//! Two steps. The first puts the values of the ranks that matter in place, by a pruned sorting network across
//! [`LANES`] coordinates at once, or by selection for many rows. The second goes through the rows in order and adds
//! the values strictly between the bounds in f64, then each bound as often as it is among the kept. So the result
//! depends on the values and the row order alone, not on how the bounds were found.

mod lanes;
mod mean;
mod rank;
mod weighted;
mod window;

use std::ops::Range;

use super::dispatch::{Kernel, dispatch};
use crate::centre::{Centre, Even};
use crate::element::Element;
use crate::rows::RowsError;
use lanes::{LANES, Lanes, Strip, locate};
use mean::{PART, kept_mean, middle};
use rank::Finder;
use weighted::Masses;
use window::{Window, nearest};

/// What to compute from the values of a coordinate, for one number of rows.
#[derive(Clone, Debug)]
pub(crate) struct OrderStatistics {
    rows: usize,
    finder: Finder,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// The average of the values of two ranks, the same one twice for a single value.
    Middle { low: usize, high: usize },
    /// The mean of the values without `cut` at each end.
    Trimmed { cut: usize },
    /// The mean of the `keep` values nearest to the centre.
    Around { centre: Centre, keep: usize },
    /// The value at half of the weight.
    WeightedMedian(Masses),
    /// The weighted mean without some weight at each end.
    WeightedTrimmed(Masses),
}

impl Step {
    /// The weights, of a step that weighs rows.
    fn masses(&self) -> Option<&Masses> {
        match self {
            Self::WeightedMedian(masses) | Self::WeightedTrimmed(masses) => Some(masses),
            Self::Middle { .. } | Self::Trimmed { .. } | Self::Around { .. } => None,
        }
    }

    /// The ranks, among `rows` values, that it reads.
    fn ranks(&self, rows: usize) -> Vec<usize> {
        match self {
            Self::Middle { low, high } => vec![*low, *high],
            Self::Trimmed { cut } => vec![*cut, rows - 1 - cut],
            Self::Around { centre, keep } => {
                let (low, high) = match centre {
                    Centre::Median => middle_ranks(rows, Even::Average),
                    Centre::TrimmedMean { cut } => (*cut, rows - 1 - cut),
                };
                (0..=rows - keep).chain(keep - 1..rows).chain([low, high]).collect()
            }
            Self::WeightedMedian(_) | Self::WeightedTrimmed(_) => (0..rows).collect(),
        }
    }
}

impl OrderStatistics {
    fn new(rows: usize, step: Step) -> Self {
        let counted = step.masses().map_or(rows, |masses| masses.rows.len());
        Self { rows, finder: Finder::new(counted, &step.ranks(counted)), step }
    }

    /// The median of `rows` values, at least one.
    pub(crate) fn median(rows: usize, even: Even) -> Self {
        let (low, high) = middle_ranks(rows, even);
        Self::new(rows, Step::Middle { low, high })
    }

    /// The mean without the `cut` lowest and highest values; twice `cut` is less than `rows`.
    pub(crate) fn trimmed_mean(rows: usize, cut: usize) -> Self {
        Self::new(rows, Step::Trimmed { cut })
    }

    /// The mean of the `keep` values nearest to the centre, `keep` at least one and at most `rows`; of two equally
    /// near values the lower one is kept. The values kept are a window of the sorted ones.
    pub(crate) fn mean_around(rows: usize, centre: Centre, keep: usize) -> Self {
        Self::new(rows, Step::Around { centre, keep })
    }

    /// The smallest value whose cumulative weight reaches half of the total, averaged with the next value when it is
    /// exactly half. Weights are finite and not negative, at least one is positive; rows of weight 0 are not read.
    ///
    /// The cumulative weight of a value is the sum, in row order, of the weights of all values up to it.
    pub(crate) fn weighted_median(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().fold(0.0, |sum, weight| sum + weight);
        Self::new(weights.len(), Step::WeightedMedian(Masses::new(weights, total * 0.5)))
    }

    /// The weighted mean without the weight `cut_mass` at each end, less than half of the total; a value at the bound
    /// counts with what is left of its weight. Weights as for [`Self::weighted_median`].
    pub(crate) fn weighted_trimmed_mean(weights: &[f64], cut_mass: f64) -> Self {
        Self::new(weights.len(), Step::WeightedTrimmed(Masses::new(weights, cut_mass)))
    }

    /// Applies it to the coordinates `range` of the rows. Returns per row how many of its values lie outside the
    /// kept ones; nothing for the medians, which cut no row.
    ///
    /// # Errors
    ///
    /// When a row is not finite; the coordinate is relative to the rows' slices.
    pub(crate) fn apply<T: Element>(
        &self,
        rows: &[&[T]],
        range: Range<usize>,
        out: &mut [T],
    ) -> Result<Vec<u64>, RowsError> {
        let Some(masses) = self.step.masses() else {
            return dispatch(Apply { order: self, rows, range, out });
        };
        let counted: Vec<&[T]> = masses.rows.iter().map(|&row| rows[row]).collect();
        let outside = dispatch(Apply { order: self, rows: &counted, range, out }).map_err(|error| match error {
            RowsError::NonFinite { row, coordinate } => RowsError::NonFinite { row: masses.rows[row], coordinate },
            other => other,
        })?;
        let mut of_all = vec![0; if outside.is_empty() { 0 } else { self.rows }];
        for (&row, count) in masses.rows.iter().zip(outside) {
            of_all[row] = count;
        }
        Ok(of_all)
    }

    /// Whether values are cut off, so that rows are told how many of theirs.
    fn cuts(&self) -> bool {
        !matches!(self.step, Step::Middle { .. } | Step::WeightedMedian(_))
    }
}

fn middle_ranks(rows: usize, even: Even) -> (usize, usize) {
    let (lower, upper) = ((rows - 1) / 2, rows / 2);
    match even {
        Even::Average => (lower, upper),
        Even::Lower => (lower, lower),
        Even::Upper => (upper, upper),
    }
}

struct Apply<'a, T> {
    order: &'a OrderStatistics,
    rows: &'a [&'a [T]],
    range: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Apply<'_, T> {
    type Output = Result<Vec<u64>, RowsError>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { order, rows, range, out } = self;
        let mut strip = Strip::new(rows.len());
        let mut values = vec![Lanes([T::ZERO; LANES]); rows.len()];
        let mut column = Vec::new();
        let mut outside = vec![[0_u32; PART]; if order.cuts() { rows.len() } else { 0 }];
        for (index, out) in out.chunks_mut(strip.tiles * LANES).enumerate() {
            let start = range.start + index * strip.tiles * LANES;
            if !strip.load(rows, start..start + out.len()) {
                return Err(locate(rows, start..start + out.len()));
            }
            for (tile, out) in out.chunks_mut(LANES).enumerate() {
                let tile = strip.tile(tile);
                order.finder.place(tile, &mut values, &mut column);
                let averages = average(&order.step, tile, &values, &mut outside);
                for (value, average) in out.iter_mut().zip(averages) {
                    *value = T::from_f64(average);
                }
            }
        }
        Ok(outside.iter().map(|lanes| lanes.iter().map(|&count| u64::from(count)).sum()).collect())
    }
}

/// What the step makes of one tile, once the values of the ranks it reads are in place.
#[inline(always)]
fn average<T: Element>(
    step: &Step,
    tile: &[Lanes<T>],
    values: &[Lanes<T>],
    outside: &mut [[u32; PART]],
) -> [f64; LANES] {
    let rows = values.len();
    match step {
        Step::Middle { low, high } => middle(&values[*low], &values[*high]),
        Step::Trimmed { cut } => kept_mean::<T, true>(tile, &Window::trimmed(values, *cut), rows - 2 * cut, outside),
        Step::Around { centre, keep } => {
            let centre = match *centre {
                Centre::Median => middle(&values[(rows - 1) / 2], &values[rows / 2]),
                Centre::TrimmedMean { cut } => {
                    kept_mean::<T, false>(tile, &Window::trimmed(values, cut), rows - 2 * cut, &mut [])
                }
            };
            kept_mean::<T, true>(tile, &nearest(values, *keep, &centre), *keep, outside)
        }
        Step::WeightedMedian(masses) => masses.median(tile, values),
        Step::WeightedTrimmed(masses) => masses.trimmed_mean(tile, values, outside),
    }
}

#[cfg(test)]
mod tests;
