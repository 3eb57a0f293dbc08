//! Additive statistics of the rows, summed in one fixed binary tree over blocks.
//!
//! The tree: leaf k is the statistics of block k. Node k of the next level is the sum of nodes 2k and 2k+1; where the
//! ragged tail leaves no node 2k+1, node 2k passes up unchanged; and so on to one root. A unit is 2^j aligned blocks,
//! hence exactly node `unit index` of level j (the last unit too, tail included), so the root does not depend on the
//! unit size, nor on which unit came first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a rule's `decide` must know about the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Needs {
    /// Squared distances among the rows and from the origin.
    pub pair_distances: bool,
}

impl Needs {
    /// Nothing but the number of rows: the rows are read once.
    pub const NOTHING: Self = Self { pair_distances: false };
    /// Squared distances: the rows are read twice.
    pub const PAIR_DISTANCES: Self = Self { pair_distances: true };

    /// Whether the observing pass can be left out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::NOTHING
    }
}

/// One unit's contribution: a subtree of the summation tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitStatistics {
    rows: usize,
    /// Squared distances among the points (rows, then the origin), packed: pair (i, j), i < j, at j(j−1)/2 + i.
    #[serde(with = "crate::plan::infinite_as_null")]
    distances: Option<Vec<f64>>,
}

impl UnitStatistics {
    pub(crate) fn new(rows: usize, distances: Option<Vec<f64>>) -> Self {
        Self { rows, distances }
    }

    /// Number of rows observed.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The parent of two sibling nodes.
    pub(crate) fn join(mut self, right: &Self) -> Self {
        if let (Some(left), Some(right)) = (&mut self.distances, &right.distances) {
            for (sum, value) in left.iter_mut().zip(right) {
                *sum += value;
            }
        }
        self
    }

    fn same_shape(&self, other: &Self) -> bool {
        self.rows == other.rows && self.distances.as_ref().map(Vec::len) == other.distances.as_ref().map(Vec::len)
    }
}

/// Collects the units of a round in any order and sums them in the order of the tree.
///
/// Siblings are summed as soon as both are there, so units that arrive roughly in order need memory for about
/// log2(units) of them, not for all.
#[derive(Debug)]
pub struct StatisticsTree {
    nodes: BTreeMap<(u32, usize), UnitStatistics>,
    arrived: Vec<bool>,
}

impl StatisticsTree {
    /// An empty tree for `units` units, see [`crate::Units::count`].
    #[must_use]
    pub fn new(units: usize) -> Self {
        Self { nodes: BTreeMap::new(), arrived: vec![false; units] }
    }

    /// Adds the statistics of unit `unit`.
    ///
    /// # Errors
    ///
    /// When there is no such unit, it is there already, or its shape differs from the others'. The tree is unchanged.
    pub fn insert(&mut self, unit: usize, statistics: UnitStatistics) -> Result<(), StatisticsError> {
        match self.arrived.get(unit) {
            None => return Err(StatisticsError::NoSuchUnit { unit, units: self.arrived.len() }),
            Some(true) => return Err(StatisticsError::Duplicate { unit }),
            Some(false) => {}
        }
        if self.nodes.values().next().is_some_and(|other| !other.same_shape(&statistics)) {
            return Err(StatisticsError::Shape { unit });
        }
        self.arrived[unit] = true;
        let (mut level, mut index, mut node) = (0_u32, unit, statistics);
        let mut width = self.arrived.len();
        while width > 1 {
            let sibling = index ^ 1;
            if sibling < width {
                let Some(other) = self.nodes.remove(&(level, sibling)) else { break };
                node = if index < sibling { node.join(&other) } else { other.join(&node) };
            }
            (level, index, width) = (level + 1, index / 2, width.div_ceil(2));
        }
        self.nodes.insert((level, index), node);
        Ok(())
    }

    /// The statistics of all units.
    ///
    /// # Errors
    ///
    /// When a unit is missing.
    pub fn finish(mut self) -> Result<RowStatistics, StatisticsError> {
        if let Some(unit) = self.arrived.iter().position(|arrived| !arrived) {
            return Err(StatisticsError::Missing { unit });
        }
        let Some((_, root)) = self.nodes.pop_first() else {
            return Err(StatisticsError::NoUnits);
        };
        Ok(RowStatistics { rows: root.rows, distances: root.distances })
    }
}

/// Why units do not add up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatisticsError {
    /// The index is past the last unit.
    #[error("unit {unit} does not exist; there are {units} units")]
    NoSuchUnit {
        /// The index given.
        unit: usize,
        /// Number of units.
        units: usize,
    },
    /// The unit was added before.
    #[error("the statistics of unit {unit} were added twice")]
    Duplicate {
        /// Index of the unit.
        unit: usize,
    },
    /// The unit was observed with other rows or other needs.
    #[error("unit {unit} was observed with other rows or other needs than the units before it")]
    Shape {
        /// Index of the unit.
        unit: usize,
    },
    /// A unit was never added.
    #[error("the statistics of unit {unit} are missing")]
    Missing {
        /// Index of the first missing unit.
        unit: usize,
    },
    /// There is no unit at all.
    #[error("there are no units")]
    NoUnits,
}

/// What `decide` sees: n, and what the rule said it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct RowStatistics {
    rows: usize,
    distances: Option<Vec<f64>>,
}

impl RowStatistics {
    /// Statistics for rules that need nothing but the number of rows.
    #[must_use]
    pub fn unobserved(rows: usize) -> Self {
        Self { rows, distances: None }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The squared distances, if they were observed.
    #[must_use]
    pub fn distances(&self) -> Option<Distances<'_>> {
        let packed = self.distances.as_deref()?;
        Some(Distances { rows: self.rows, packed })
    }
}

/// Squared Euclidean distances among n rows and the origin, in f64; `+Inf` where they are beyond f64, never NaN.
#[derive(Clone, Copy, Debug)]
pub struct Distances<'a> {
    rows: usize,
    packed: &'a [f64],
}

impl Distances<'_> {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Squared distance of rows `i` and `j`.
    ///
    /// # Panics
    ///
    /// When a row does not exist.
    #[must_use]
    pub fn distance2(&self, i: usize, j: usize) -> f64 {
        assert!(i < self.rows && j < self.rows, "rows {i} and {j} of {}", self.rows);
        if i == j { 0.0 } else { self.packed[packed_index(i.min(j), i.max(j))] }
    }

    /// Squared length of row `i`.
    ///
    /// # Panics
    ///
    /// When the row does not exist.
    #[must_use]
    pub fn norm2(&self, i: usize) -> f64 {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        self.packed[packed_index(i, self.rows)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Values whose sum depends on the order of addition.
    fn leaves(count: usize) -> Vec<UnitStatistics> {
        (0..count)
            .map(|k| {
                let value = (k as f64 + 1.0).sqrt() * 10_f64.powi((k * 7 % 13) as i32 - 6);
                UnitStatistics::new(1, Some(vec![value]))
            })
            .collect()
    }

    fn level_by_level(leaves: &[UnitStatistics]) -> u64 {
        let mut level = leaves.to_vec();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| if let [left, right] = pair { left.clone().join(right) } else { pair[0].clone() })
                .collect();
        }
        level[0].distances.as_ref().unwrap()[0].to_bits()
    }

    #[test]
    fn the_tree_sums_level_by_level_whatever_the_order_of_arrival() {
        for count in 1..40 {
            let leaves = leaves(count);
            let expected = level_by_level(&leaves);
            for stride in [1, 3, 7, 11, 37] {
                if count % stride == 0 && stride > 1 {
                    continue;
                }
                for reverse in [false, true] {
                    let mut tree = StatisticsTree::new(count);
                    for step in 0..count {
                        let unit = step * stride % count;
                        let unit = if reverse { count - 1 - unit } else { unit };
                        tree.insert(unit, leaves[unit].clone()).unwrap();
                    }
                    let root = tree.finish().unwrap();
                    assert_eq!(root.distances().unwrap().norm2(0).to_bits(), expected, "{count} units, {stride}");
                }
            }
        }
    }

    #[test]
    fn units_in_order_keep_only_a_logarithm_of_nodes() {
        let mut tree = StatisticsTree::new(1000);
        for (unit, leaf) in leaves(1000).into_iter().enumerate() {
            tree.insert(unit, leaf).unwrap();
            assert!(tree.nodes.len() <= 11);
        }
    }

    #[test]
    fn a_unit_survives_json_with_an_infinite_distance() {
        for distances in [None, Some(vec![0.1 + 0.2, f64::INFINITY])] {
            let unit = UnitStatistics::new(2, distances);
            assert_eq!(serde_json::from_str::<UnitStatistics>(&serde_json::to_string(&unit).unwrap()).unwrap(), unit);
        }
    }

    #[test]
    fn units_that_do_not_add_up_are_refused() {
        let unit = UnitStatistics::new(2, Some(vec![1.0, 2.0, 3.0]));
        let mut tree = StatisticsTree::new(3);
        assert_eq!(tree.insert(3, unit.clone()), Err(StatisticsError::NoSuchUnit { unit: 3, units: 3 }));
        tree.insert(0, unit.clone()).unwrap();
        assert_eq!(tree.insert(0, unit), Err(StatisticsError::Duplicate { unit: 0 }));
        assert_eq!(tree.insert(1, UnitStatistics::new(2, None)), Err(StatisticsError::Shape { unit: 1 }));
        assert_eq!(tree.insert(1, UnitStatistics::new(1, Some(vec![1.0]))), Err(StatisticsError::Shape { unit: 1 }));
        assert_eq!(tree.finish(), Err(StatisticsError::Missing { unit: 1 }));
        assert_eq!(StatisticsTree::new(0).finish(), Err(StatisticsError::NoUnits));
    }
}
