//! What a rule decided: verdicts, and one combine step for every unit.

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

/// A rule's decision about one set of rows. Holds no coordinate, so it can be recorded and sent to other replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One verdict per row. Trimmed shares are known only after the combine: see [`Plan::final_verdicts`].
    pub verdicts: Vec<Verdict>,
    /// The rows the combine uses: best first for rules that select, else in row order.
    pub selected: Vec<usize>,
    /// One score per row, lower is better, for rules that score; `+Inf` for a row beyond f64, serialised as null.
    #[serde(with = "infinite_as_null")]
    pub scores: Option<Vec<f64>>,
    /// What to do with the coordinates.
    pub combine: Combine,
}

/// The combine step, per coordinate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", content = "with", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Combine {
    /// Sum of weight times value in row order, divided by `divisor`. Rows of weight 0 are not read.
    ///
    /// The divisor is apart because dividing once at the end is exact where dividing the weights is not: the mean of
    /// nine ones is one, but nine times a ninth is not.
    WeightedSum {
        /// One per row.
        weights: Vec<f64>,
        /// For a mean the sum of the weights.
        divisor: f64,
    },
    /// The middle value; for an even number of rows the average of the middle two.
    Median,
    /// The mean without the `cut` lowest and the `cut` highest values.
    TrimmedMean {
        /// Values dropped at each end; less than half of the rows.
        cut: usize,
    },
}

impl Plan {
    /// Number of rows the plan is for.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.verdicts.len()
    }

    /// The weight of each row in the aggregate, where the combine is a weighted sum.
    #[must_use]
    pub fn weights(&self) -> Option<Vec<f64>> {
        match &self.combine {
            Combine::WeightedSum { weights, divisor } => Some(weights.iter().map(|weight| weight / divisor).collect()),
            Combine::Median | Combine::TrimmedMean { .. } => None,
        }
    }

    /// The verdicts once every unit is combined: a row with cut coordinates is `Trimmed`.
    ///
    /// `trimmed[i]` is the number of row i's coordinates that were cut, summed over all units; `dimension` the number
    /// of coordinates.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share is for reading; dimensions are far below 2^53")]
    pub fn final_verdicts(&self, trimmed: &[u64], dimension: usize) -> Vec<Verdict> {
        let counts = trimmed.iter().copied().chain(std::iter::repeat(0));
        self.verdicts
            .iter()
            .zip(counts)
            .map(|(verdict, count)| match verdict {
                Verdict::Accepted if count > 0 => Verdict::Trimmed { share: count as f64 / dimension as f64 },
                other => *other,
            })
            .collect()
    }
}

/// JSON has no infinity; a round record must still be readable back.
pub(crate) mod infinite_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(scores: &Option<Vec<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
        let finite = |scores: &Vec<f64>| -> Vec<Option<f64>> {
            scores.iter().map(|score| score.is_finite().then_some(*score)).collect()
        };
        scores.as_ref().map(finite).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f64>>, D::Error> {
        let scores = Option::<Vec<Option<f64>>>::deserialize(deserializer)?;
        Ok(scores.map(|scores| scores.into_iter().map(|score| score.unwrap_or(f64::INFINITY)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::RowReason;

    #[test]
    fn a_plan_survives_json_with_an_infinite_score() {
        let rejected = Verdict::Rejected { reason: RowReason::Magnitude };
        let plan = Plan {
            verdicts: vec![Verdict::Accepted, rejected],
            selected: vec![0],
            scores: Some(vec![1.5, f64::INFINITY]),
            combine: Combine::WeightedSum { weights: vec![1.0, 0.0], divisor: 1.0 },
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains("[1.5,null]"), "{text}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        for combine in [Combine::Median, Combine::TrimmedMean { cut: 3 }] {
            let plan = Plan { scores: None, combine, ..plan.clone() };
            assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        }
    }

    #[test]
    fn only_rows_with_cut_coordinates_become_trimmed() {
        let plan = Plan {
            verdicts: vec![Verdict::Accepted; 3],
            selected: vec![0, 1, 2],
            scores: None,
            combine: Combine::TrimmedMean { cut: 1 },
        };
        assert_eq!(
            plan.final_verdicts(&[0, 5, 10], 10),
            [Verdict::Accepted, Verdict::Trimmed { share: 0.5 }, Verdict::Trimmed { share: 1.0 }]
        );
        assert_eq!(plan.final_verdicts(&[], 10), plan.verdicts);
    }
}
