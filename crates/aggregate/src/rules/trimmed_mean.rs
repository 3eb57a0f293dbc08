//! The coordinate-wise trimmed mean.

use serde::Serialize;

use super::Definition;
use crate::catalogue::{BYZANTINE_INFO, RuleInfo, required_byzantine};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Per coordinate the mean without the f lowest and the f highest values. With f = 0 it is the mean. With weights the
/// weighted mean without f times the largest weight at each end.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY.check(self.kind(), rows, self.byzantine)
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        if weights.is_equal() {
            return Ok(Plan::accepting(rows, Combine::TrimmedMean { cut: self.byzantine }).into());
        }
        weights.check_majority(self.kind(), self.byzantine)?;
        // The largest weight is one.
        let cut = self.byzantine as f64;
        let combine = Combine::WeightedTrimmedMean { weights: weights.as_slice().to_vec(), cut };
        Ok(Plan::accepting(rows, combine).into())
    }
}

impl Definition for TrimmedMean {
    const INFO: RuleInfo = RuleInfo {
        kind: "trimmed_mean",
        name: "coordinate-wise trimmed mean",
        definition: "per coordinate the mean without the f lowest and the f highest values",
        formula: "1/(n−2f) · Σ_{k=f+1}^{n−f} x₍ₖ₎ⱼ for every coordinate j, x₍ₖ₎ⱼ its k-th smallest value",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "κ = 6ρ(1+ρ)",
        cost: "nd, one read; a pruned sorting network per coordinate",
        source: "Yin et al. 2018, Definition 2",
        fails: &[
            "ALIE and Min-Max stay inside the values it keeps",
            "on heterogeneous clients alone it loses what the minority knows; arc and nnm before it have the best worst \
             case measured (digits, Dirichlet 0.5: 85.2 %)",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { byzantine: required_byzantine(parameters)? })
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine }
    }

    fn describe(&self) -> String {
        format!("byzantine = {}", self.byzantine)
    }
}
