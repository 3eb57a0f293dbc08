//! The weighted mean: no robustness, the reference for everything else.

use serde::Serialize;

use super::{Definition, RuleInfo};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::rows::Weights;
use crate::rule::{Rule, RuleError};
use crate::statistics::RowStatistics;
use crate::verdict::Verdict;

/// Σ wᵢxᵢ / Σ wᵢ. One bad row moves it anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mean {}

impl Rule for Mean {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        0
    }

    fn min_rows(&self) -> usize {
        1
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        if rows > 0 {
            return Ok(());
        }
        Err(RuleError::Range { kind: self.kind(), rows, byzantine: 0, range: "n ≥ 1", min_rows: 1, largest: None })
    }

    fn uses_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Plan, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        if weights.as_slice().len() != rows {
            return Err(RuleError::WeightCount { weights: weights.as_slice().len(), rows });
        }
        Ok(Plan {
            verdicts: vec![Verdict::Accepted; rows],
            selected: (0..rows).collect(),
            scores: None,
            combine: Combine::WeightedSum { weights: weights.as_slice().to_vec(), divisor: weights.sum() },
        })
    }
}

impl Definition for Mean {
    const INFO: RuleInfo = RuleInfo {
        kind: "mean",
        definition: "weighted mean of the rows, Σ wᵢxᵢ / Σ wᵢ",
        parameters: &[],
        range: "n ≥ 1; weights finite and ≥ 0, not all 0",
        breakdown: "no bad row",
        bound: "none",
        source: "McMahan et al. 2017, Algorithm 1",
    };

    fn parse(_parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self {})
    }

    fn fit(&self, rows: usize) -> Result<Self, RuleError> {
        self.check(rows)?;
        Ok(self.clone())
    }

    fn describe(&self) -> String {
        String::new()
    }
}
