//! The observing pass over one unit.

use std::ops::Range;

use crate::element::Element;
use crate::kernel::finite::first_non_finite;
use crate::kernel::mix::mix;
use crate::kernel::norms::{norms, norms_and_distances};
use crate::kernel::pair_statistics::{near_pair_statistics, pair_statistics};
use crate::kernel::signs::signs;
use crate::mixing::Mixing;
use crate::needs::DistanceNeeds;
use crate::rows::{Rows, RowsError};
use crate::scale::power_of_two_below;
use crate::statistics::{Observation, UnitStatistics};
use crate::unit::BLOCK;

/// Observes one unit: the statistics of its blocks, summed as a subtree of [`crate::StatisticsTree`]. `rows` holds the
/// rows, then the extra rows the observation's needs name. Uses the current rayon pool; give it a unit at a time.
///
/// # Errors
///
/// When a row is not finite, or rows or extra rows are missing.
pub fn observe_unit<T: Element>(rows: &Rows<'_, T>, observation: &Observation) -> Result<UnitStatistics, RowsError> {
    let expected = observation.rows + observation.needs.extras.count(observation.rows);
    if rows.count() != expected {
        return Err(RowsError::Count { got: rows.count(), expected });
    }
    let observer = Observer { rows, observation, measured: observation.measured() };
    observer.subtree(0..rows.unit_len().div_ceil(BLOCK)).map_err(|error| in_whole_vector(error, rows))
}

struct Observer<'a, T> {
    rows: &'a Rows<'a, T>,
    observation: &'a Observation,
    measured: Option<Mixing>,
}

impl<T: Element> Observer<'_, T> {
    /// The subtree over `blocks`: the left child is the largest power of two of blocks that leaves something to the
    /// right, which is what pairing 2k with 2k+1 level by level comes to.
    fn subtree(&self, blocks: Range<usize>) -> Result<UnitStatistics, RowsError> {
        if blocks.len() <= 1 {
            return self.block(blocks.start * BLOCK..self.rows.unit_len().min(blocks.end * BLOCK));
        }
        let middle = blocks.start + (1 << (blocks.len() - 1).ilog2());
        let (left, right) = rayon::join(|| self.subtree(blocks.start..middle), || self.subtree(middle..blocks.end));
        Ok(left?.join(&right?))
    }

    fn block(&self, block: Range<usize>) -> Result<UnitStatistics, RowsError> {
        let first = self.rows.first_coordinate() + block.start;
        let Some(mixing) = &self.measured else {
            return self.measure(self.rows.slices(), block, first);
        };
        let length = block.len();
        let mut mixed = vec![0.0; mixing.rows() * length];
        mix(self.rows.slices(), &mixing.dense(), block, &mut mixed)?;
        divide(mixing.divisors(), &mut mixed, length);
        let views: Vec<&[f64]> = mixed.chunks_exact(length).collect();
        self.measure(&views, 0..length, first).map_err(|error| match error {
            RowsError::NonFinite { row, coordinate } => {
                RowsError::NonFinite { row, coordinate: first - self.rows.first_coordinate() + coordinate }
            }
            other => other,
        })
    }

    /// `first` is where the block starts in the whole vector.
    fn measure<E: Element>(
        &self,
        points: &[&[E]],
        block: Range<usize>,
        first: usize,
    ) -> Result<UnitStatistics, RowsError> {
        let Observation { needs, seed, dimension, .. } = *self.observation;
        let rows = self.observation.measured_rows();
        let distances = match needs.distances {
            DistanceNeeds::None => {
                refuse_non_finite(points, block.clone())?;
                Vec::new()
            }
            DistanceNeeds::Norms => norms(points, block.clone())?,
            DistanceNeeds::From(anchor) => {
                let point = anchor.point(rows);
                let Some(&from) = points.get(point) else {
                    return Err(RowsError::Count { got: points.len(), expected: point + 1 });
                };
                norms_and_distances(points, from, block.clone())?
            }
            DistanceNeeds::NearPairs => near_pair_statistics(points, block.clone())?,
            DistanceNeeds::Pairs => pair_statistics(points, block.clone())?,
        };
        let at = |within: usize| first + within;
        let counts = match needs.signs {
            None => Vec::new(),
            Some(share) => {
                let chosen: Vec<usize> = (0..block.len())
                    .filter(|&within| share.chooses(seed, 0, at(within)))
                    .map(|within| block.start + within)
                    .collect();
                signs(&points[..rows], block.clone(), Some(&chosen))?
            }
        };
        let mut samples = Vec::new();
        if let Some(wanted) = needs.samples {
            if wanted.coordinates >= dimension {
                // All samples are the same, and the distances over all coordinates may be there already.
                samples.push(match needs.distances {
                    DistanceNeeds::Pairs => distances.clone(),
                    _ => pair_statistics(points, block.clone())?,
                });
                return Ok(UnitStatistics::new(points.len(), needs.distances, distances, counts, samples));
            }
            for sample in 0..wanted.count {
                let chosen: Vec<usize> = (0..block.len())
                    .filter(|&within| wanted.choose(seed, sample, at(within), dimension))
                    .map(|within| block.start + within)
                    .collect();
                samples.push(pairs_of(points, &chosen)?);
            }
        }
        Ok(UnitStatistics::new(points.len(), needs.distances, distances, counts, samples))
    }
}

/// Squared distances over the chosen coordinates alone.
fn pairs_of<E: Element>(points: &[&[E]], chosen: &[usize]) -> Result<Vec<f64>, RowsError> {
    let gathered: Vec<Vec<E>> =
        points.iter().map(|row| chosen.iter().map(|&coordinate| row[coordinate]).collect()).collect();
    let views: Vec<&[E]> = gathered.iter().map(Vec::as_slice).collect();
    pair_statistics(&views, 0..chosen.len())
}

fn refuse_non_finite<E: Element>(points: &[&[E]], block: Range<usize>) -> Result<(), RowsError> {
    for (row, slice) in points.iter().enumerate() {
        if let Some(within) = first_non_finite(&slice[block.clone()]) {
            return Err(RowsError::NonFinite { row, coordinate: block.start + within });
        }
    }
    Ok(())
}

/// The last step of mixing: sums become means.
pub(crate) fn divide(divisors: &[f64], mixed: &mut [f64], length: usize) {
    for (&divisor, values) in divisors.iter().zip(mixed.chunks_exact_mut(length)) {
        if divisor == 1.0 {
            continue;
        }
        // By a power of two multiplication is exact too, and several times quicker.
        match power_of_two_below(divisor) == divisor && divisor < 1e300 {
            true => values.iter_mut().for_each(|value| *value *= divisor.recip()),
            false => values.iter_mut().for_each(|value| *value /= divisor),
        }
    }
}

/// Kernels count coordinates from the start of the unit.
pub(crate) fn in_whole_vector<T: Element>(error: RowsError, rows: &Rows<'_, T>) -> RowsError {
    match error {
        RowsError::NonFinite { row, coordinate } => {
            RowsError::NonFinite { row, coordinate: rows.first_coordinate() + coordinate }
        }
        other => other,
    }
}
