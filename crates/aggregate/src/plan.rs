//! What a rule decided: verdicts, and one combine step for every unit.

use serde::{Deserialize, Serialize};

use crate::centre::{Centre, Even};
use crate::mixing::Mixing;
use crate::verdict::Verdict;

/// A rule's decision about one set of rows. Holds no coordinate, so it can be recorded and sent to other replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One verdict per row. Trimmed shares are known only after the combine: see [`Plan::final_verdicts`].
    pub verdicts: Vec<Verdict>,
    /// The rows the combine uses: best first for rules that select, else in row order.
    pub selected: Vec<usize>,
    /// One score per row, for rules that score; `+Inf` for a row beyond f64, serialised as null.
    #[serde(with = "crate::infinite::optional")]
    pub scores: Option<Vec<f64>>,
    /// The rows the combine works on, where they are not the rows themselves.
    pub mixing: Option<Mixing>,
    /// The rows, ascending, that order statistics look at; `None`: all. Mixed rows where there is a mixing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<Vec<usize>>,
    /// What to do with the coordinates.
    pub combine: Combine,
    /// Figures that explain the decision, such as the iterations of the geometric median.
    pub notes: Vec<Note>,
    /// A number for the rule's next round, such as a running radius.
    pub memory: Option<f64>,
    /// Set when the aggregate means nothing (no row was trusted, say): a round must not release it.
    pub degenerate: Option<String>,
}

/// One figure of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// What it is.
    pub name: String,
    /// The figure.
    pub value: f64,
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
        /// One per row, then one per extra row.
        weights: Vec<f64>,
        /// For a mean the sum of the weights.
        divisor: f64,
    },
    /// The middle value.
    Median {
        /// What the middle of an even number of values is.
        even: Even,
    },
    /// The value at which half of the weight is reached.
    WeightedMedian {
        /// One per row.
        weights: Vec<f64>,
    },
    /// The mean without the `cut` lowest and the `cut` highest values.
    TrimmedMean {
        /// Values dropped at each end; less than half of the rows.
        cut: usize,
    },
    /// The weighted mean without weight `cut` at each end.
    WeightedTrimmedMean {
        /// One per row.
        weights: Vec<f64>,
        /// Weight dropped at each end; less than half of their sum.
        cut: f64,
    },
    /// The mean of the `keep` values nearest to a centre.
    MeanAround {
        /// The centre.
        centre: Centre,
        /// Values kept, from 1 to all.
        keep: usize,
    },
    /// The weighted sum, negated where fewer than `quorum` signs agree on balance: |Σ sign| < quorum.
    SignVote {
        /// One per row.
        weights: Vec<f64>,
        /// For a mean the sum of the weights.
        divisor: f64,
        /// θ.
        quorum: usize,
    },
}

impl Plan {
    /// A plan that accepts every row.
    pub(crate) fn accepting(rows: usize, combine: Combine) -> Self {
        Self::new(vec![Verdict::Accepted; rows], combine)
    }

    /// A plan with these verdicts that uses every row that is not rejected.
    pub(crate) fn new(verdicts: Vec<Verdict>, combine: Combine) -> Self {
        let selected = (0..verdicts.len()).filter(|&row| !verdicts[row].is_rejected()).collect();
        Self {
            verdicts,
            selected,
            scores: None,
            mixing: None,
            among: None,
            combine,
            notes: Vec::new(),
            memory: None,
            degenerate: None,
        }
    }

    pub(crate) fn with_scores(mut self, scores: Vec<f64>) -> Self {
        self.scores = Some(scores);
        self
    }

    pub(crate) fn with_selected(mut self, selected: Vec<usize>) -> Self {
        self.selected = selected;
        self
    }

    pub(crate) fn note(mut self, name: &str, value: f64) -> Self {
        self.notes.push(Note { name: name.to_owned(), value });
        self
    }

    /// Number of rows the plan is for.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.verdicts.len()
    }

    /// The weight of each row in the aggregate, where the combine is a weighted sum.
    #[must_use]
    pub fn weights(&self) -> Option<Vec<f64>> {
        match &self.combine {
            Combine::WeightedSum { weights, divisor } => {
                Some(weights[..self.rows()].iter().map(|weight| weight / divisor).collect())
            }
            _ => None,
        }
    }

    /// The rows that the combine reads: all, those of a weight other than 0, or those it is restricted to.
    #[must_use]
    pub fn used(&self) -> Vec<usize> {
        match (&self.combine, &self.among) {
            (Combine::WeightedSum { weights, .. }, _) => (0..self.rows()).filter(|&row| weights[row] != 0.0).collect(),
            (_, Some(among)) if self.mixing.is_none() => among.clone(),
            _ => (0..self.rows()).collect(),
        }
    }

    /// The same plan over the rows of [`Plan::used`] only, with the same bits: rows of weight 0 add nothing.
    #[must_use]
    pub fn narrowed(&self) -> Self {
        let used = self.used();
        let mut plan = self.clone();
        if used.len() == self.rows() {
            return plan;
        }
        if let Combine::WeightedSum { weights, divisor } = &self.combine {
            let kept = used.iter().map(|&row| weights[row]).chain(weights[self.rows()..].iter().copied()).collect();
            plan.combine = Combine::WeightedSum { weights: kept, divisor: *divisor };
        }
        plan.among = None;
        plan.verdicts = used.iter().map(|&row| self.verdicts[row]).collect();
        plan.selected = (0..used.len()).collect();
        plan.scores = None;
        plan
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::RowReason;

    fn steps() -> Vec<Combine> {
        let weights = vec![0.25, 1.0];
        vec![
            Combine::Median { even: Even::Average },
            Combine::WeightedMedian { weights: weights.clone() },
            Combine::TrimmedMean { cut: 3 },
            Combine::WeightedTrimmedMean { weights: weights.clone(), cut: 0.125 },
            Combine::MeanAround { centre: Centre::TrimmedMean { cut: 1 }, keep: 2 },
            Combine::SignVote { weights, divisor: 1.25, quorum: 2 },
        ]
    }

    #[test]
    fn a_plan_survives_json_with_an_infinite_score() {
        let rejected = Verdict::Rejected { reason: RowReason::Magnitude };
        let sum = Combine::WeightedSum { weights: vec![1.0, 0.0], divisor: 1.0 };
        let mut plan = Plan::new(vec![Verdict::Accepted, rejected], sum).with_scores(vec![1.5, f64::INFINITY]);
        plan.mixing = Some(Mixing::buckets(&[1, 0], 2));
        let plan = plan.note("steps", 3.0);
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains("[1.5,null]"), "{text}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        for combine in steps() {
            let plan = Plan { scores: None, combine, ..plan.clone() };
            assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        }
    }

    #[test]
    fn only_rows_with_cut_coordinates_become_trimmed() {
        let plan = Plan::accepting(3, Combine::TrimmedMean { cut: 1 });
        assert_eq!(
            plan.final_verdicts(&[0, 5, 10], 10),
            [Verdict::Accepted, Verdict::Trimmed { share: 0.5 }, Verdict::Trimmed { share: 1.0 }]
        );
        assert_eq!(plan.final_verdicts(&[], 10), plan.verdicts);
    }

    #[test]
    fn a_narrowed_plan_keeps_the_weights_of_extra_rows() {
        let rejected = Verdict::Rejected { reason: RowReason::NotSelected };
        let sum = Combine::WeightedSum { weights: vec![1.0, 0.0, 2.0, 0.5], divisor: 4.0 };
        let plan = Plan::new(vec![Verdict::Accepted, rejected, Verdict::Accepted], sum);
        assert_eq!(plan.used(), [0, 2]);
        assert_eq!(plan.weights(), Some(vec![0.25, 0.0, 0.5]));
        let narrow = plan.narrowed();
        assert_eq!(narrow.combine, Combine::WeightedSum { weights: vec![1.0, 2.0, 0.5], divisor: 4.0 });
        assert_eq!(narrow.rows(), 2);
    }

    #[test]
    fn a_restricted_plan_reads_only_the_rows_it_is_restricted_to() {
        let combine = Combine::MeanAround { centre: Centre::Median, keep: 1 };
        let plan = Plan { among: Some(vec![0, 2]), ..Plan::accepting(3, combine) };
        assert_eq!((plan.used(), plan.narrowed().rows(), plan.narrowed().among), (vec![0, 2], 2, None));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        // A mixed row may need every row.
        let mixed = Plan { mixing: Some(Mixing::buckets(&[0, 1, 2], 1)), ..plan };
        assert_eq!((mixed.used(), mixed.narrowed()), (vec![0, 1, 2], mixed.clone()));
    }
}
