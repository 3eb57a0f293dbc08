//! Additive statistics of the rows, summed in one fixed binary tree over blocks.
//!
//! The tree: leaf k is the statistics of block k. Node k of the next level is the sum of nodes 2k and 2k+1; where the
//! ragged tail leaves no node 2k+1, node 2k passes up unchanged; and so on to one root. A unit is 2^j aligned blocks,
//! hence exactly node `unit index` of level j (the last unit too, tail included), so the root does not depend on the
//! unit size, nor on which unit came first.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Observation, RowStatistics, UnitStatistics};

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

    /// The statistics of all units, observed as `observation` says.
    ///
    /// # Errors
    ///
    /// When a unit is missing.
    pub fn finish(self, observation: &Observation) -> Result<RowStatistics, StatisticsError> {
        Ok(self.root()?.into_statistics(observation))
    }

    fn root(mut self) -> Result<UnitStatistics, StatisticsError> {
        if let Some(unit) = self.arrived.iter().position(|arrived| !arrived) {
            return Err(StatisticsError::Missing { unit });
        }
        self.nodes.pop_first().map(|(_, root)| root).ok_or(StatisticsError::NoUnits)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Values whose sum depends on the order of addition.
    fn leaves(count: usize) -> Vec<UnitStatistics> {
        (0..count)
            .map(|k| {
                let value = (k as f64 + 1.0).sqrt() * 10_f64.powi((k * 7 % 13) as i32 - 6);
                UnitStatistics::pairs(1, vec![value])
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
        level[0].distances[0].to_bits()
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
                    let root = tree.root().unwrap();
                    assert_eq!(root.distances[0].to_bits(), expected, "{count} units, {stride}");
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
        for unit in [UnitStatistics::nothing(2), UnitStatistics::pairs(2, vec![0.1 + 0.2, f64::INFINITY])] {
            assert_eq!(serde_json::from_str::<UnitStatistics>(&serde_json::to_string(&unit).unwrap()).unwrap(), unit);
        }
    }

    #[test]
    fn units_that_do_not_add_up_are_refused() {
        let unit = UnitStatistics::pairs(2, vec![1.0, 2.0, 3.0]);
        let mut tree = StatisticsTree::new(3);
        assert_eq!(tree.insert(3, unit.clone()), Err(StatisticsError::NoSuchUnit { unit: 3, units: 3 }));
        tree.insert(0, unit.clone()).unwrap();
        assert_eq!(tree.insert(0, unit), Err(StatisticsError::Duplicate { unit: 0 }));
        assert_eq!(tree.insert(1, UnitStatistics::nothing(2)), Err(StatisticsError::Shape { unit: 1 }));
        assert_eq!(tree.insert(1, UnitStatistics::pairs(1, vec![1.0])), Err(StatisticsError::Shape { unit: 1 }));
        assert_eq!(tree.root(), Err(StatisticsError::Missing { unit: 1 }));
        assert_eq!(StatisticsTree::new(0).root(), Err(StatisticsError::NoUnits));
    }
}
