//! What is known about the rows: additive statistics per unit, their sum, and what follows from it.

pub mod tree;

mod affine;
mod column;
mod frame;
mod gram;
mod mixed;
mod row;

use serde::{Deserialize, Serialize};

use crate::mixing::Mixing;
use crate::needs::{DistanceNeeds, Needs};

pub(crate) use affine::Affine;
pub use frame::Frame;
pub(crate) use frame::Spread;
pub(crate) use gram::Gram;
pub use row::{Distances, RowStatistics};
pub use tree::{StatisticsError, StatisticsTree};

/// How the rows of a round are observed: the same for every unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// What is observed.
    pub needs: Needs,
    /// Number of rows, extra rows not counted.
    pub rows: usize,
    /// Coordinates of the whole vector.
    pub dimension: usize,
    /// The round's seed: samples and permutations come from it.
    pub seed: u64,
    /// What the rule's last plan asked to remember, see [`crate::Plan::memory`].
    pub memory: Option<f64>,
    /// Set for a second look: which combinations of the rows are observed instead of the rows themselves.
    pub refinement: Option<Refinement>,
}

/// A second look at the rows, which a rule asks for where the first cannot tell: see [`crate::Decision::Refine`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refinement {
    /// What is observed now.
    pub needs: Needs,
    /// Pre-aggregations that are done.
    pub stage: usize,
    /// The rows after those pre-aggregations; `None`: the rows themselves.
    pub mixing: Option<Mixing>,
    /// Per row what pre-aggregation has multiplied it by.
    pub factors: Vec<f64>,
    /// The scales that bring every point near a reference.
    pub frame: Option<Frame>,
}

/// One unit's contribution: a subtree of the summation tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitStatistics {
    /// Rows and extra rows.
    points: usize,
    level: DistanceNeeds,
    /// Squared lengths; behind them squared distances from one point, where they are observed; or squared distances
    /// among the points and, last, the origin, packed: pair (i, j), i < j, at j(j−1)/2 + i.
    #[serde(with = "crate::infinite")]
    distances: Vec<f64>,
    signs: Vec<[u64; 3]>,
    samples: Vec<SampleDistances>,
}

/// Packed squared distances over one sample of the coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SampleDistances(#[serde(with = "crate::infinite")] pub(crate) Vec<f64>);

impl UnitStatistics {
    pub(crate) fn new(
        points: usize,
        level: DistanceNeeds,
        distances: Vec<f64>,
        signs: Vec<[u64; 3]>,
        samples: Vec<Vec<f64>>,
    ) -> Self {
        Self { points, level, distances, signs, samples: samples.into_iter().map(SampleDistances).collect() }
    }

    /// Number of rows and extra rows observed.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// The parent of two sibling nodes.
    pub(crate) fn join(mut self, right: &Self) -> Self {
        add(&mut self.distances, &right.distances);
        for (sum, counts) in self.signs.iter_mut().zip(&right.signs) {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        for (sums, sample) in self.samples.iter_mut().zip(&right.samples) {
            add(&mut sums.0, &sample.0);
        }
        self
    }

    fn same_shape(&self, other: &Self) -> bool {
        let shape = |unit: &Self| {
            let samples: Vec<usize> = unit.samples.iter().map(|sample| sample.0.len()).collect();
            (unit.points, unit.level, unit.distances.len(), unit.signs.len(), samples)
        };
        shape(self) == shape(other)
    }

    fn into_statistics(self, observation: &Observation) -> RowStatistics {
        let rows = observation.measured_rows();
        let samples = self.samples.into_iter().map(|sample| sample.0).collect();
        let mut statistics = RowStatistics::unobserved(rows).with_seed(observation.seed, observation.dimension);
        statistics.extras = self.points - rows.min(self.points);
        statistics.level = self.level;
        statistics.distances = self.distances;
        statistics.signs = self.signs;
        statistics.samples = samples;
        statistics.memory = observation.memory;
        statistics.refinement.clone_from(&observation.refinement);
        statistics
    }

    #[cfg(test)]
    pub(crate) fn pairs(points: usize, distances: Vec<f64>) -> Self {
        Self::new(points, DistanceNeeds::Pairs, distances, Vec::new(), Vec::new())
    }

    #[cfg(test)]
    pub(crate) fn nothing(points: usize) -> Self {
        Self::new(points, DistanceNeeds::None, Vec::new(), Vec::new(), Vec::new())
    }
}

impl Observation {
    /// The first look at `rows` rows.
    #[must_use]
    pub fn first(needs: Needs, rows: usize, dimension: usize, seed: u64) -> Self {
        Self { needs, rows, dimension, seed, memory: None, refinement: None }
    }

    /// The same with what the rule's last plan asked to remember.
    #[must_use]
    pub fn with_memory(mut self, memory: Option<f64>) -> Self {
        self.memory = memory;
        self
    }

    /// The statistics of rows that need not be looked at.
    #[must_use]
    pub fn unobserved(&self) -> RowStatistics {
        let extras = self.needs.extras.count(self.rows);
        RowStatistics::unobserved(self.rows)
            .with_seed(self.seed, self.dimension)
            .with_extras(extras)
            .with_memory(self.memory)
    }

    /// The second look that a rule asked for.
    #[must_use]
    pub fn refined(&self, refinement: Refinement) -> Self {
        Self { needs: refinement.needs, refinement: Some(refinement), ..self.clone() }
    }

    /// Rows that are measured: fewer than there are after bucketing.
    pub(crate) fn measured_rows(&self) -> usize {
        let mixing = self.refinement.as_ref().and_then(|refinement| refinement.mixing.as_ref());
        mixing.map_or(self.rows, Mixing::rows)
    }

    /// The points to measure written over the points there are; `None`: those themselves. Extra rows come with them.
    pub(crate) fn measured(&self) -> Option<Mixing> {
        let refinement = self.refinement.as_ref()?;
        let extras = self.needs.extras.count(self.rows);
        let points = self.rows + extras + 1;
        let rows = self.measured_rows();
        let base = refinement.mixing.clone().unwrap_or_else(|| Mixing::scaling(points, &vec![1.0; self.rows]));
        let measured_points = rows + extras + 1;
        let frame = match &refinement.frame {
            Some(frame) => frame.mixing(measured_points),
            None => Mixing::scaling(measured_points, &vec![1.0; rows + extras]),
        };
        Some(frame.after(&base))
    }
}

fn add(sums: &mut [f64], values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// Where the pair (low, high), low < high, is kept.
pub(crate) fn packed_index(low: usize, high: usize) -> usize {
    high * (high - 1) / 2 + low
}

/// Length of the packed distances of `rows` rows and the origin.
pub(crate) fn packed_len(rows: usize) -> usize {
    (rows + 1) * rows / 2
}
