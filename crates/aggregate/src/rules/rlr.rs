//! Robust learning rate: the mean, turned around where the rows' signs disagree.

use serde::Serialize;

use super::Definition;
use crate::catalogue::{DECLARED_INFO, ParameterInfo, RuleInfo, declared_byzantine};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Ozdayi et al. 2021, section 4: per coordinate the mean where |Σ sign| ≥ θ, else minus the mean. Weights weigh the
/// mean; every row has one vote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RobustLearningRate {
    /// *f*: only checked against the quorum. Default 0: none declared.
    pub byzantine: usize,
    /// θ, votes that must agree on balance.
    pub quorum: usize,
}

const QUORUM: &str = "θ, the votes that must agree on balance, a whole number above f and at most n−f";

impl Rule for RobustLearningRate {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        let (kind, byzantine) = (self.kind(), self.byzantine);
        // f < θ ≤ n−f has a solution where this holds.
        MINORITY.check(kind, rows, byzantine)?;
        if byzantine < self.quorum && self.quorum <= rows - byzantine {
            return Ok(());
        }
        let expected = format!("from f+1 = {} to n−f = {}", byzantine + 1, rows - byzantine);
        let value = self.quorum.to_string();
        Err(RuleError::Parameter { kind, key: "quorum", value, rows, byzantine, expected })
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let (weights, divisor) = (weights.as_slice().to_vec(), weights.sum());
        Ok(Plan::accepting(rows, Combine::SignVote { weights, divisor, quorum: self.quorum }).into())
    }
}

impl Definition for RobustLearningRate {
    const INFO: RuleInfo = RuleInfo {
        kind: "rlr",
        name: "robust learning rate",
        definition: "per coordinate the mean, negated where fewer than θ signs agree on balance",
        formula: "x̄ where |Σᵢ sign(xᵢ)| ≥ θ, else −x̄",
        parameters: &[
            DECLARED_INFO,
            ParameterInfo {
                key: "quorum",
                meaning: "θ, votes that must agree on balance",
                range: QUORUM,
                default: None,
                example: Some(1.0),
            },
        ],
        range: "f < θ ≤ n−f",
        breakdown: "against backdoors f < θ; none against rows of any length",
        bound: "none",
        cost: "nd, one read",
        source: "Ozdayi et al. 2021, section 4, equation (2)",
        fails: &[
            "made for backdoors only: it is a mean, one long row moves it anywhere",
            "it costs accuracy: honest rows that disagree are walked uphill, on heterogeneous clients in many coordinates",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let byzantine = declared_byzantine(parameters)?;
        match parameters.count_from("quorum", QUORUM, 1)? {
            Some(quorum) => Ok(Self { byzantine, quorum }),
            None => Err(parameters.missing("quorum", QUORUM)),
        }
    }

    fn lowered(&self, byzantine: usize, rows: usize) -> Self {
        Self { byzantine, quorum: self.quorum.min(rows.saturating_sub(byzantine)) }
    }

    fn exemplary(self, byzantine: usize) -> Self {
        Self { quorum: byzantine.saturating_add(1), ..self }
    }

    fn describe(&self) -> String {
        format!("byzantine = {}, quorum = {}", self.byzantine, self.quorum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::aggregate;

    #[test]
    fn the_mean_is_turned_around_where_the_vote_misses_the_quorum() {
        // Votes 3, 1, 1 (a zero abstains), 0.
        let rows: [&[f64]; 3] = [&[1.0, 6.0, 3.0, 2.0], &[2.0, -3.0, 0.0, -2.0], &[3.0, 3.0, 0.0, 0.0]];
        let output = |quorum| {
            let rule = RobustLearningRate { byzantine: 0, quorum };
            aggregate(&rule, &rows, None, None).unwrap().output
        };
        assert_eq!(output(1), [2.0, 2.0, 1.0, 0.0]);
        assert_eq!(output(2), [2.0, -2.0, -1.0, 0.0]);
        // Weights weigh the mean, not the votes.
        let rule = RobustLearningRate { byzantine: 0, quorum: 3 };
        let result = aggregate(&rule, &rows, Some(&[1.0, 1.0, 2.0]), None).unwrap();
        assert_eq!(result.output, [2.25, -2.25, -0.75, -0.0]);
    }

    #[test]
    fn the_quorum_lies_above_byzantine_and_within_the_honest_rows() {
        let check = |byzantine, quorum, rows| RobustLearningRate { byzantine, quorum }.check(rows);
        assert!(check(2, 3, 5).is_ok());
        for (byzantine, quorum, rows) in [(2, 2, 5), (2, 4, 5)] {
            let message = check(byzantine, quorum, rows).unwrap_err().to_string();
            assert!(message.contains("it must be from f+1 = 3 to n−f = 3"), "{message}");
        }
        assert!(matches!(check(2, 3, 4), Err(RuleError::Range { .. })));
        assert_eq!(RobustLearningRate { byzantine: 1, quorum: 6 }.min_rows(), 7);
    }
}
