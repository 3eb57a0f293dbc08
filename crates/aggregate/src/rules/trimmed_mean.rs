//! The coordinate-wise trimmed mean.

use serde::Serialize;

use super::{Definition, MINORITY, ParameterInfo, RuleInfo, required_byzantine};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::rows::Weights;
use crate::rule::{Rule, RuleError};
use crate::statistics::RowStatistics;
use crate::verdict::Verdict;

/// Per coordinate the mean without the f lowest and the f highest values. Unweighted. With f = 0 it is the mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrimmedMean {
    /// *f*: values cut at each end.
    pub byzantine: usize,
}

impl Rule for TrimmedMean {
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
            combine: Combine::TrimmedMean { cut: self.byzantine },
        })
    }
}

impl Definition for TrimmedMean {
    const INFO: RuleInfo = RuleInfo {
        kind: "trimmed_mean",
        definition: "per coordinate the mean without the f lowest and the f highest values",
        parameters: &[ParameterInfo { key: "byzantine", meaning: "f, values cut at each end", default: None }],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "κ = 6ρ(1+ρ)",
        source: "Yin et al. 2018, Definition 2",
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { byzantine: required_byzantine(parameters)? })
    }

    fn fit(&self, rows: usize) -> Result<Self, RuleError> {
        Ok(Self { byzantine: MINORITY.fit(self, rows)? })
    }

    fn describe(&self) -> String {
        format!("byzantine = {}", self.byzantine)
    }
}
