//! CGE: the mean of the shortest rows, a baseline.

use serde::Serialize;

use super::krum::select_best;
use super::{Definition, norms2};
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::needs::Needs;
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Gupta et al. 2020, comparative gradient elimination: the mean of the n−f shortest rows. Ties go to the lowest
/// row. Weights never move the selection; they weigh the selected rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cge {
    /// *f*: rows left out.
    pub byzantine: usize,
}

impl Rule for Cge {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY.check(self.kind(), rows, self.byzantine)
    }

    fn needs(&self) -> Needs {
        Needs::NORMS
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        // Squared lengths tell rows apart that roots round to the same length.
        let norms2 = norms2(self.kind(), statistics)?[..rows].to_vec();
        let norms = norms2.iter().map(|norm2| norm2.sqrt()).collect();
        let plan = select_best(self.kind(), norms2, rows - self.byzantine, weights.as_slice())?;
        Ok(plan.with_scores(norms).into())
    }
}

impl Definition for Cge {
    const INFO: RuleInfo = RuleInfo {
        kind: "cge",
        name: "comparative gradient elimination",
        definition: "mean of the n−f shortest rows; a baseline, not robust",
        formula: "1/(n−f) · Σ_{i ∈ S} xᵢ, S the n−f rows of least ‖xᵢ‖",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n",
        breakdown: "none: bad rows shorter than the honest ones all count",
        bound: "none: worst ratio seen at n = 7: 8·10⁵",
        cost: "nd for the lengths, then (n−f)d",
        source: "Gupta et al. 2020 (arXiv 2008.04699), CGE",
        fails: &[
            "not (f, κ)-robust: a bad row only has to be short, whatever its direction",
            "it prefers the rows of clients that learn nothing new",
        ],
    };

    byzantine_alone!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{RowReason, Verdict};
    use crate::{AggregateError, aggregate};

    #[test]
    fn the_shortest_rows_are_averaged_and_ties_go_to_the_lowest() {
        let rows: [&[f64]; 5] = [&[3.0, 4.0], &[0.0, 1.0], &[-5.0, 0.0], &[4.0, 3.0], &[2.0, 0.0]];
        let result = aggregate(&Cge { byzantine: 2 }, &rows, None, None).unwrap();
        assert_eq!((result.output, result.selected), (vec![5.0 / 3.0, 5.0 / 3.0], vec![1, 4, 0]));
        assert_eq!(result.scores.unwrap(), [5.0, 1.0, 5.0, 5.0, 2.0]);
        let weighted = aggregate(&Cge { byzantine: 2 }, &rows, Some(&[1.0, 2.0, 2.0, 2.0, 2.0]), None).unwrap();
        assert_eq!(weighted.output, [7.0 / 5.0, 6.0 / 5.0]);
    }

    #[test]
    fn lengths_beyond_f64_sort_last_and_are_rejected() {
        let rows: [&[f64]; 3] = [&[1e200], &[2.0], &[-1e200]];
        let result = aggregate(&Cge { byzantine: 1 }, &rows, None, None).unwrap();
        let magnitude = Verdict::Rejected { reason: RowReason::Magnitude };
        assert_eq!((result.output[0], result.verdicts), (2.0, vec![magnitude, Verdict::Accepted, magnitude]));
        let error = aggregate(&Cge { byzantine: 0 }, &rows[..1], None, None).unwrap_err();
        assert!(matches!(error, AggregateError::Rule(RuleError::AllRejected { kind: "cge", .. })));
    }
}
