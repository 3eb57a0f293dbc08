//! The coordinate-wise median.

use serde::Serialize;

use super::{BYZANTINE, Definition, MINORITY, ParameterInfo, RuleInfo};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::rows::Weights;
use crate::rule::{Rule, RuleError};
use crate::statistics::RowStatistics;
use crate::verdict::Verdict;

/// Per coordinate the middle value; for an even number of rows the average of the middle two. Unweighted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Median {
    /// *f*: only checked, the median does not depend on it. Default 0: none declared.
    pub byzantine: usize,
}

impl Rule for Median {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn min_rows(&self) -> usize {
        MINORITY.min_rows(self.byzantine)
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY.check(self, rows)
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Plan, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        Ok(Plan {
            verdicts: vec![Verdict::Accepted; rows],
            selected: (0..rows).collect(),
            scores: None,
            combine: Combine::Median,
        })
    }
}

impl Definition for Median {
    const INFO: RuleInfo = RuleInfo {
        kind: "median",
        definition: "per coordinate the middle value; even n: average of the middle two",
        parameters: &[ParameterInfo {
            key: "byzantine",
            meaning: "bad rows to tolerate; only checked, the result does not depend on it",
            default: Some("0: none declared"),
        }],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "κ = 4(1+ρ)²",
        source: "Yin et al. 2018, Definition 1",
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { byzantine: parameters.count("byzantine", BYZANTINE)?.unwrap_or(0) })
    }

    fn fit(&self, rows: usize) -> Result<Self, RuleError> {
        Ok(Self { byzantine: MINORITY.fit(self, rows)? })
    }

    fn describe(&self) -> String {
        format!("byzantine = {}", self.byzantine)
    }
}
