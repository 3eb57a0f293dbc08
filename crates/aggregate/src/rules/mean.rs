//! The weighted mean: no robustness, the reference for everything else.

use serde::Serialize;

use super::Definition;
use crate::catalogue::RuleInfo;
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::ANY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Σ wᵢxᵢ / Σ wᵢ. One bad row moves it anywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Mean {}

impl Rule for Mean {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        0
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        ANY.check(self.kind(), rows, 0)
    }

    fn uses_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        let combine = Combine::WeightedSum { weights: weights.as_slice().to_vec(), divisor: weights.sum() };
        Ok(Plan::accepting(rows, combine).into())
    }
}

impl Definition for Mean {
    const INFO: RuleInfo = RuleInfo {
        kind: "mean",
        name: "mean",
        definition: "weighted mean of the rows",
        formula: "Σ wᵢxᵢ / Σ wᵢ",
        parameters: &[],
        range: "n ≥ 1; weights finite and ≥ 0, not all 0",
        breakdown: "no bad row",
        bound: "none",
        cost: "nd, one read",
        source: "McMahan et al. 2017, Algorithm 1",
        fails: &[
            "one bad row moves it anywhere",
            "it beats most rules under weak attacks: digits with an unscaled sign flip 95.2 % against 84.4 % of the \
             trimmed mean, label flip 94.1 % against 83.2 %",
        ],
    };

    fn parse(_parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self {})
    }

    fn lowered(&self, _byzantine: usize, _rows: usize) -> Self {
        self.clone()
    }

    fn describe(&self) -> String {
        String::new()
    }
}
