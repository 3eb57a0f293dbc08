//! The rows of one unit, and their weights.

use thiserror::Error;

use crate::element::Element;
use crate::rule::{Rule, RuleError};
use crate::scale::power_of_two_below;
use crate::unit::BLOCK;

/// n equally long slices: the same unit of every row, in the order of the rows' keys.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    rows: &'a [&'a [T]],
    first_coordinate: usize,
}

impl<'a, T: Element> Rows<'a, T> {
    /// Views `rows` as the unit that starts at `first_coordinate` of the whole vector.
    ///
    /// # Errors
    ///
    /// When there is no row or no coordinate, the rows differ in length, or the unit does not start at a block.
    pub fn new(rows: &'a [&'a [T]], first_coordinate: usize) -> Result<Self, RowsError> {
        let Some(first) = rows.first() else {
            return Err(RowsError::NoRows);
        };
        if first.is_empty() {
            return Err(RowsError::NoCoordinates);
        }
        if let Some(row) = rows.iter().position(|row| row.len() != first.len()) {
            return Err(RowsError::Length { row, got: rows[row].len(), expected: first.len() });
        }
        if !first_coordinate.is_multiple_of(BLOCK) {
            return Err(RowsError::Alignment { first_coordinate });
        }
        Ok(Self { rows, first_coordinate })
    }

    /// Number of rows, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Coordinates of this unit, at least one.
    #[must_use]
    pub fn unit_len(&self) -> usize {
        self.rows[0].len()
    }

    /// Where this unit starts in the whole vector.
    #[must_use]
    pub fn first_coordinate(&self) -> usize {
        self.first_coordinate
    }

    /// The slices themselves.
    #[must_use]
    pub fn slices(&self) -> &'a [&'a [T]] {
        self.rows
    }
}

/// Why slices are not the rows of a unit, or not rows a rule may see.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowsError {
    /// There is nothing to aggregate.
    #[error("there are no rows; at least one is needed")]
    NoRows,
    /// The rows are empty.
    #[error("the rows have no coordinates; at least one is needed")]
    NoCoordinates,
    /// A row is longer or shorter than the first.
    #[error("row {row} has {got} coordinates, the first row has {expected}; all rows must be equally long")]
    Length {
        /// Index of the row.
        row: usize,
        /// Its length.
        got: usize,
        /// The length of the first row.
        expected: usize,
    },
    /// The unit would not be a subtree of the summation tree.
    #[error("a unit cannot start at coordinate {first_coordinate}; units start at multiples of {BLOCK}")]
    Alignment {
        /// The refused start.
        first_coordinate: usize,
    },
    /// Rows or extra rows are missing, or there are too many.
    #[error("{got} rows and extra rows were given; the rule needs {expected}")]
    Count {
        /// Rows and extra rows given.
        got: usize,
        /// Rows and extra rows needed.
        expected: usize,
    },
    /// Rules refuse rows with NaN or infinite coordinates: reject the row before aggregating.
    #[error("row {row} is not finite at coordinate {coordinate}; reject the row before aggregating")]
    NonFinite {
        /// Index of the row.
        row: usize,
        /// Coordinate in the whole vector.
        coordinate: usize,
    },
}

/// Medians of the weights that one weight of a robust rule may count.
const MOST_MEDIANS: f64 = 3.0;

/// One non-negative weight per row, scaled by a power of two so that the largest is at least one and below two: whole
/// numbers stay exact, so that "half of all weight" is.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Vec<f64>);

impl Weights {
    /// Equal weights for `rows` rows.
    ///
    /// # Errors
    ///
    /// When there is no row.
    pub fn equal(rows: usize) -> Result<Self, WeightsError> {
        if rows == 0 {
            return Err(WeightsError::Empty);
        }
        Ok(Self(vec![1.0; rows]))
    }

    /// Checks `weights` and scales them, so that huge weights cannot overflow a sum.
    ///
    /// # Errors
    ///
    /// When there is no weight, one is negative, NaN or infinite, or all are zero.
    pub fn new(weights: &[f64]) -> Result<Self, WeightsError> {
        if weights.is_empty() {
            return Err(WeightsError::Empty);
        }
        if let Some(row) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(WeightsError::Invalid { row, weight: weights[row] });
        }
        let largest = weights.iter().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            return Err(WeightsError::AllZero);
        }
        // Dividing by a power of two changes no digit, except of weights too small to matter.
        let scale = power_of_two_below(largest);
        Ok(Self(weights.iter().map(|weight| weight / scale).collect()))
    }

    /// Weights as `rule` may use them: for a robust rule none counts more than three times the median weight,
    /// or that of the positive ones where the median is 0.
    ///
    /// # Errors
    ///
    /// As [`Weights::new`].
    pub fn for_rule(rule: &dyn Rule, weights: &[f64]) -> Result<Self, WeightsError> {
        let checked = Self::new(weights)?;
        if rule.uses_weights() {
            return Ok(checked);
        }
        // Where most weights are 0 the median is that of the others: there is a cap in any case.
        let mut sorted = checked.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = |sorted: &[f64]| (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        let positive = &sorted[sorted.partition_point(|weight| *weight == 0.0)..];
        let cap = MOST_MEDIANS * if median(&sorted) > 0.0 { median(&sorted) } else { median(positive) };
        Self::new(&checked.0.iter().map(|weight| weight.min(cap)).collect::<Vec<_>>())
    }

    /// Whether all rows weigh the same.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.0.iter().all(|&weight| weight == self.0[0])
    }

    /// Refuses weights of which `byzantine` rows can hold half: f · w_max ≥ ½ Σw.
    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    pub(crate) fn check_majority(&self, kind: &'static str, byzantine: usize) -> Result<(), RuleError> {
        if byzantine > 0 && byzantine as f64 * self.largest() >= 0.5 * self.sum() {
            return Err(RuleError::WeightMajority { kind, byzantine });
        }
        Ok(())
    }

    /// The largest weight.
    pub(crate) fn largest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// Refuses weights for another number of rows.
    pub(crate) fn check_count(&self, rows: usize) -> Result<(), RuleError> {
        if self.0.len() == rows { Ok(()) } else { Err(RuleError::WeightCount { weights: self.0.len(), rows }) }
    }

    /// The scaled weights in row order.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// Their sum, at least one.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }
}

/// Why weights were refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum WeightsError {
    /// There are no rows to weigh.
    #[error("there are no weights; give one per row")]
    Empty,
    /// A weight is negative, NaN or infinite.
    #[error("the weight of row {row} is {weight}; weights must be finite and at least 0")]
    Invalid {
        /// Index of the row.
        row: usize,
        /// The refused weight.
        weight: f64,
    },
    /// No row would count.
    #[error("all weights are 0; at least one must be positive")]
    AllZero,
    /// There are more or fewer weights than rows.
    #[error("{got} weights for {rows} rows; give one per row")]
    Count {
        /// Weights given.
        got: usize,
        /// Rows given.
        rows: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_unequal_length_are_refused_by_index() {
        let rows: [&[f32]; 3] = [&[1.0, 2.0], &[1.0, 2.0], &[1.0]];
        assert_eq!(Rows::new(&rows, 0).unwrap_err(), RowsError::Length { row: 2, got: 1, expected: 2 });
        assert_eq!(Rows::<f32>::new(&[], 0).unwrap_err(), RowsError::NoRows);
        assert_eq!(Rows::<f32>::new(&[&[]], 0).unwrap_err(), RowsError::NoCoordinates);
        assert_eq!(Rows::new(&rows[..2], 8).unwrap_err(), RowsError::Alignment { first_coordinate: 8 });
    }

    #[test]
    fn weights_that_cannot_be_used_are_refused() {
        assert_eq!(Weights::new(&[]), Err(WeightsError::Empty));
        assert_eq!(Weights::new(&[1.0, -0.5]), Err(WeightsError::Invalid { row: 1, weight: -0.5 }));
        assert!(matches!(Weights::new(&[f64::NAN]), Err(WeightsError::Invalid { row: 0, .. })));
        assert!(matches!(Weights::new(&[1.0, f64::INFINITY]), Err(WeightsError::Invalid { row: 1, .. })));
        assert_eq!(Weights::new(&[0.0, 0.0]), Err(WeightsError::AllZero));
    }

    #[test]
    fn no_weight_of_a_robust_rule_escapes_its_cap_where_most_are_zero() {
        let median = crate::composition::RuleConfig::median(1);
        let capped = |weights: &[f64]| Weights::for_rule(median.rule(), weights).unwrap().as_slice().to_vec();
        // Capped to 6, and scaled by a power of two.
        assert_eq!(capped(&[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1e15]), [0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 1.5]);
        assert_eq!(capped(&[0.0, 2.0, 1.0, 2.0, 1e15]), [0.0, 0.5, 0.25, 0.5, 1.5]);
        assert_eq!(capped(&[0.0, 0.0, 5.0]), [0.0, 0.0, 1.25]);
    }

    #[test]
    fn huge_weights_do_not_overflow() {
        let weights = Weights::new(&[f64::MAX, f64::MAX / 2.0]).unwrap();
        assert!(weights.as_slice()[0] < 2.0 && weights.sum().is_finite());
        assert_eq!(weights.as_slice()[1], weights.as_slice()[0] / 2.0);
    }

    #[test]
    fn whole_numbers_stay_exact() {
        let weights = Weights::new(&[9.0, 4.0, 2.0, 1.0, 2.0, 3.0, 3.0]).unwrap();
        assert_eq!(weights.as_slice()[0] + weights.as_slice()[5], weights.sum() / 2.0);
    }
}
