//! MoNNA: the mean of the nearest neighbours of one trusted row.

use serde::Serialize;

use super::krum::mean_of;
use super::{Definition, norms2};
use crate::catalogue::{BYZANTINE_INFO, ParameterInfo, RuleInfo, required_byzantine};
use crate::needs::{Anchor, Needs};
use crate::parameters::{ParameterError, Parameters};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Farhadkhani et al. 2023: the mean of the n−f rows nearest to row `row`, itself included. Ties go to the lowest row.
/// Weights never move the selection; they weigh the selected rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Monna {
    /// *f*.
    pub byzantine: usize,
    /// The trusted row, counted from 0 in the order of the keys.
    pub row: usize,
}

const ROW: &str = "the trusted row, a whole number from 0 to n−1";

impl Rule for Monna {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        let (kind, byzantine) = (self.kind(), self.byzantine);
        MINORITY.check(kind, rows, byzantine)?;
        if self.row < rows {
            return Ok(());
        }
        let (value, expected) = (self.row.to_string(), format!("from 0 to {}", rows - 1));
        Err(RuleError::Parameter { kind, key: "row", value, rows, byzantine, expected })
    }

    fn tells_rows_apart(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::from_point(Anchor::Row(self.row))
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let norms2 = norms2(self.kind(), statistics)?;
        let (kind, what) = (self.kind(), "distances from the trusted row");
        let mut from =
            statistics.distances2_from(Anchor::Row(self.row)).ok_or(RuleError::NotObserved { kind, what })?;
        from.truncate(rows);
        let mut order: Vec<usize> = (0..rows).collect();
        // The row itself comes before its copies; of other ties the lowest comes first, because the sort is stable.
        order.sort_by(|&a, &b| from[a].total_cmp(&from[b]).then((a != self.row).cmp(&(b != self.row))));
        order.truncate(rows - self.byzantine);
        // From a trusted row beyond f64 all others are equally far.
        if norms2[self.row].is_finite() {
            order.retain(|&row| from[row].is_finite());
        }
        let plan = mean_of(rows, order, weights.as_slice(), |row| from[row].is_finite())?;
        Ok(plan.with_scores(from.into_iter().map(f64::sqrt).collect()).into())
    }
}

impl Definition for Monna {
    const INFO: RuleInfo = RuleInfo {
        kind: "monna",
        name: "nearest neighbours of a trusted row",
        definition: "mean of the n−f rows nearest to one trusted row, itself included",
        formula: "1/(n−f) · Σ_{i ∈ N} xᵢ, N the n−f rows of least ‖xᵢ − x_row‖",
        parameters: &[
            BYZANTINE_INFO,
            ParameterInfo {
                key: "row",
                meaning: "the trusted row, in the order of the keys",
                range: ROW,
                default: None,
                example: Some(0.0),
            },
        ],
        range: "2f < n and 0 ≤ row < n",
        breakdown: "f < n/2, if the trusted row is honest",
        bound: "none without trust in the row",
        cost: "nd for the distances, then (n−f)d",
        source: "Farhadkhani et al. 2023 (arXiv 2209.10931), nearest-neighbour averaging",
        fails: &[
            "it is for peers without a server, each of which trusts its own row: a bad trusted row decides everything",
            "on heterogeneous clients it follows the trusted row",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let byzantine = required_byzantine(parameters)?;
        match parameters.count("row", ROW)? {
            Some(row) => Ok(Self { byzantine, row }),
            None => Err(parameters.missing("row", ROW)),
        }
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine, row: self.row }
    }

    fn describe(&self) -> String {
        format!("byzantine = {}, row = {}", self.byzantine, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{RowReason, Verdict};
    use crate::{AggregateError, aggregate};

    fn run(byzantine: usize, row: usize, values: &[f64]) -> crate::Aggregate<f64> {
        let rows: Vec<&[f64]> = values.chunks(1).collect();
        aggregate(&Monna { byzantine, row }, &rows, None, None).unwrap()
    }

    #[test]
    fn the_nearest_rows_of_the_trusted_row_are_averaged_nearest_first() {
        let result = run(2, 3, &[0.0, 9.0, 4.0, 5.0, -9.0]);
        // 1 from 5, then 4 on the other side.
        assert_eq!((result.output[0], result.selected), (6.0, vec![3, 2, 1]));
        assert_eq!(result.scores.unwrap(), [5.0, 4.0, 1.0, 0.0, 14.0]);
    }

    #[test]
    fn ties_go_to_the_lowest_row_but_never_past_the_trusted_one() {
        assert_eq!(run(1, 1, &[4.0, 5.0, 6.0]).selected, [1, 0]);
        assert_eq!(run(2, 4, &[5.0; 5]).selected, [4, 0, 1]);
    }

    #[test]
    fn rows_beyond_f64_are_rejected_unless_the_trusted_one_is() {
        let result = run(0, 0, &[1.0, 1e200, 2.0]);
        assert_eq!((result.output[0], result.verdicts[1]), (1.5, Verdict::Rejected { reason: RowReason::Magnitude }));
        let result = run(1, 1, &[1.0, 1e200, 2.0]);
        assert_eq!((result.output[0], result.selected), (5e199, vec![1, 0]));
        let row = [1.0_f64];
        let error = aggregate(&Monna { byzantine: 0, row: 1 }, &[row.as_slice()], None, None).unwrap_err();
        assert!(matches!(error, AggregateError::Rule(RuleError::Parameter { key: "row", .. })), "{error}");
    }
}
