//! Minimum-diameter averaging.

use serde::Serialize;

use super::krum::mean_of;
use super::{Definition, distances};
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::needs::Needs;
use crate::range::MINORITY_OF_PAIRS;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

mod search;

use search::{Outcome, least_diameter, most_visits};

/// El Mhamdi et al. 2020: the mean of the n−f rows of least diameter, the largest distance among them. Exact: of subsets
/// of equal diameter the lexicographically first, and where the search could take too long the rule is refused
/// beforehand, never cut short. Weights
/// never move the selection; they weigh the selected rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mda {
    /// *f*: rows left out.
    pub byzantine: usize,
}

/// Rows the search may visit, whatever the rows: a few seconds.
const BUDGET: u64 = 1_000_000_000;

impl Rule for Mda {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        let (kind, byzantine) = (self.kind(), self.byzantine);
        MINORITY_OF_PAIRS.check(kind, rows, byzantine)?;
        // The longest search there may be: rows placed for the purpose must not stop a round.
        if most_visits(rows, byzantine) > BUDGET {
            return Err(RuleError::Budget { kind, rows, byzantine, budget: BUDGET });
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs::NEAR_PAIR_DISTANCES
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let (kind, byzantine, rows) = (self.kind(), self.byzantine, statistics.rows());
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(kind, byzantine)?;
        let distances = distances(kind, statistics)?;
        let distance = |a: usize, b: usize| distances.distance2(a, b);
        match least_diameter(rows, byzantine, distance, BUDGET) {
            Outcome::Found { members, diameter2 } => {
                let near = |row: usize| members.iter().all(|&member| distance(row, member).is_finite());
                let measurable: Vec<bool> = (0..rows).map(near).collect();
                let plan = mean_of(rows, members, weights.as_slice(), |row| measurable[row])?;
                Ok(plan.note("diameter", diameter2.sqrt()).into())
            }
            Outcome::Infinite => Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 }),
            Outcome::Exhausted => Err(RuleError::Budget { kind, rows, byzantine, budget: BUDGET }),
        }
    }
}

impl Definition for Mda {
    const INFO: RuleInfo = RuleInfo {
        kind: "mda",
        name: "minimum-diameter averaging",
        definition: "mean of the n−f rows of least diameter, the largest distance among them",
        formula: "1/(n−f) · Σ_{i ∈ S} xᵢ, S = argmin over |S| = n−f of max_{i,j ∈ S} ‖xᵢ − xⱼ‖",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n, and an exact search of 1.47^f steps within its budget: f up to about 30",
        breakdown: "f < n/2",
        bound: "bounded, no published κ of its own; worst ratio seen at n = 9, f = 4: 16",
        cost: "n²d/2 for the distances, an exact search that can grow as 2^f, then (n−f)d",
        source: "El Mhamdi et al. 2020 (arXiv 1905.03853), MDA; Rousseeuw 1985 for the idea",
        fails: &[
            "an exact search, never approximated: from about f = 30 on it could take too long and is refused",
            "on heterogeneous clients it leaves out the minority",
        ],
    };

    byzantine_alone!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{RowReason, Verdict};
    use crate::{Aggregate, AggregateError, aggregate};

    fn run(byzantine: usize, values: &[f64]) -> Aggregate<f64> {
        let rows: Vec<&[f64]> = values.chunks(1).collect();
        aggregate(&Mda { byzantine }, &rows, None, None).unwrap()
    }

    #[test]
    fn the_tightest_rows_are_averaged() {
        let result = run(2, &[0.0, 5.0, 9.0, 10.0, 12.0]);
        assert_eq!((result.selected, result.notes[0].value), (vec![2, 3, 4], 3.0));
        assert_eq!(run(0, &[1.0, 2.0, 6.0]).output, [3.0]);
        assert_eq!(run(0, &[7.0]).output, [7.0]);
    }

    #[test]
    fn of_equal_diameters_the_first_subset_is_taken() {
        // 0 1 2, 1 2 3 and 2 3 4 have diameter 2.
        assert_eq!(run(2, &[0.0, 1.0, 2.0, 3.0, 4.0]).selected, [0, 1, 2]);
        assert_eq!(run(2, &[4.0, 0.0, 3.0, 1.0, 2.0]).selected, [0, 2, 4]);
        assert_eq!(run(2, &[3.0; 5]).selected, [0, 1, 2]);
    }

    #[test]
    fn rows_beyond_f64_are_left_out_and_too_many_of_them_refused() {
        let result = run(1, &[1.0, 1e200, 2.0]);
        assert_eq!((result.output[0], result.verdicts[1]), (1.5, Verdict::Rejected { reason: RowReason::Magnitude }));
        let rows: [&[f64]; 3] = [&[1.0], &[1e200], &[-1e200]];
        let error = aggregate(&Mda { byzantine: 1 }, &rows, None, None).unwrap_err();
        assert!(matches!(error, AggregateError::Rule(RuleError::AllRejected { .. })));
        let rows: [&[f32]; 3] = [&[1e30], &[1.0], &[2.0]];
        assert_eq!(aggregate(&Mda { byzantine: 1 }, &rows, None, None).unwrap().output, [1.5]);
    }
}
