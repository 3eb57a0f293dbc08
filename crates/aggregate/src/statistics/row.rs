//! What `decide` sees.

use crate::needs::{Anchor, DistanceNeeds};

use super::{Refinement, packed_index};

/// What is known about the rows. *Points* are the rows, then the extra rows, then the origin.
#[derive(Clone, Debug, PartialEq)]
pub struct RowStatistics {
    pub(super) rows: usize,
    pub(super) extras: usize,
    pub(super) level: DistanceNeeds,
    pub(super) distances: Vec<f64>,
    pub(super) signs: Vec<[u64; 3]>,
    pub(super) samples: Vec<Vec<f64>>,
    pub(super) seed: u64,
    pub(super) dimension: usize,
    pub(super) memory: Option<f64>,
    pub(super) refinement: Option<Refinement>,
}

impl RowStatistics {
    /// Statistics for rules that need nothing but the number of rows.
    #[must_use]
    pub fn unobserved(rows: usize) -> Self {
        Self {
            rows,
            extras: 0,
            level: DistanceNeeds::None,
            distances: Vec::new(),
            signs: Vec::new(),
            samples: Vec::new(),
            seed: 0,
            dimension: 0,
            memory: None,
            refinement: None,
        }
    }

    /// The same for a round with this seed and this many coordinates.
    #[must_use]
    pub fn with_seed(mut self, seed: u64, dimension: usize) -> Self {
        (self.seed, self.dimension) = (seed, dimension);
        self
    }

    /// The same with extra rows that were not measured.
    #[must_use]
    pub fn with_extras(mut self, extras: usize) -> Self {
        self.extras = extras;
        self
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of extra rows.
    #[must_use]
    pub fn extras(&self) -> usize {
        self.extras
    }

    /// Number of points: rows, extra rows, and the origin.
    #[must_use]
    pub fn points(&self) -> usize {
        self.rows + self.extras + 1
    }

    /// Index of the origin, the last point.
    #[must_use]
    pub fn origin(&self) -> usize {
        self.rows + self.extras
    }

    /// The round's seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Coordinates of the whole vector; 0 where nothing was observed.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// What the rule's last plan asked to remember.
    #[must_use]
    pub fn memory(&self) -> Option<f64> {
        self.memory
    }

    /// The same with this memory.
    #[must_use]
    pub fn with_memory(mut self, memory: Option<f64>) -> Self {
        self.memory = memory;
        self
    }

    /// The second look these statistics come from, if they do.
    #[must_use]
    pub fn refinement(&self) -> Option<&Refinement> {
        self.refinement.as_ref()
    }

    /// The squared distances among all points, if they were observed and not brought near a reference.
    #[must_use]
    pub fn distances(&self) -> Option<Distances<'_>> {
        let framed = self.refinement.as_ref().is_some_and(|refinement| refinement.frame.is_some());
        (self.level.are_pairs() && !framed).then_some(Distances { origin: self.origin(), packed: &self.distances })
    }

    /// Whether the distances are right to [`DistanceNeeds::NearPairs`] only.
    #[must_use]
    pub fn are_near(&self) -> bool {
        self.level == DistanceNeeds::NearPairs
    }

    /// The squared distances of rows and extra rows from `anchor`, if they or all distances were observed and not
    /// brought near a reference.
    #[must_use]
    pub fn distances2_from(&self, anchor: Anchor) -> Option<Vec<f64>> {
        let framed = self.refinement.as_ref().is_some_and(|refinement| refinement.frame.is_some());
        if framed { None } else { self.measured_from(anchor).map(|(_, distances)| distances) }
    }

    /// The squared lengths of rows and extra rows and their squared distances from `anchor` as measured, in whatever
    /// frame, if they were.
    pub(super) fn measured_from(&self, anchor: Anchor) -> Option<(Vec<f64>, Vec<f64>)> {
        let (origin, point) = (self.origin(), anchor.point(self.rows));
        if point >= origin {
            return None;
        }
        match self.level {
            DistanceNeeds::From(other) if other == anchor => {
                let (norms, distances) = self.distances.split_at(origin);
                Some((norms.to_vec(), distances.to_vec()))
            }
            DistanceNeeds::NearPairs | DistanceNeeds::Pairs => {
                let distances = Distances::of(self);
                let from = |from: usize| (0..origin).map(|other| distances.distance2(from, other)).collect();
                Some((from(origin), from(point)))
            }
            _ => None,
        }
    }

    /// The squared lengths of rows and extra rows, if they or all distances were observed.
    #[must_use]
    pub fn norms2(&self) -> Option<Vec<f64>> {
        match self.level {
            DistanceNeeds::None => None,
            DistanceNeeds::Norms => Some(self.distances.clone()),
            DistanceNeeds::From(_) => Some(self.distances[..self.origin()].to_vec()),
            DistanceNeeds::NearPairs | DistanceNeeds::Pairs => {
                let distances = self.distances()?;
                Some((0..self.origin()).map(|point| distances.norm2(point)).collect())
            }
        }
    }

    /// Per row and extra row the numbers of positive, zero and negative coordinates, if they were observed.
    #[must_use]
    pub fn signs(&self) -> Option<&[[u64; 3]]> {
        (!self.signs.is_empty()).then_some(&self.signs)
    }

    /// How many different samples were observed: samples of all coordinates are one.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples.len()
    }

    /// The squared distances over sample `sample`, if it was observed.
    #[must_use]
    pub fn sample(&self, sample: usize) -> Option<Distances<'_>> {
        let packed = self.samples.get(sample)?;
        Some(Distances { origin: self.origin(), packed })
    }
}

/// Squared Euclidean distances among points, in f64; `+Inf` where they are beyond f64, never NaN.
#[derive(Clone, Copy, Debug)]
pub struct Distances<'a> {
    origin: usize,
    packed: &'a [f64],
}

impl<'a> Distances<'a> {
    /// As measured, in whatever frame.
    pub(super) fn of(statistics: &'a RowStatistics) -> Self {
        Self { origin: statistics.origin(), packed: &statistics.distances }
    }

    /// Squared distance of points `i` and `j`.
    ///
    /// # Panics
    ///
    /// When a point does not exist.
    #[must_use]
    pub fn distance2(&self, i: usize, j: usize) -> f64 {
        assert!(i <= self.origin && j <= self.origin, "points {i} and {j} of {}", self.origin + 1);
        if i == j { 0.0 } else { self.packed[packed_index(i.min(j), i.max(j))] }
    }

    /// Squared length of point `i`.
    ///
    /// # Panics
    ///
    /// When the point does not exist.
    #[must_use]
    pub fn norm2(&self, i: usize) -> f64 {
        self.distance2(i, self.origin)
    }
}
