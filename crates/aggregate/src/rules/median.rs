//! The coordinate-wise median.

use serde::Serialize;

use super::Definition;
use crate::catalogue::{DECLARED_INFO, ParameterInfo, RuleInfo, declared_byzantine};
use crate::centre::Even;
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Per coordinate the middle value; for an even number of rows the average of the middle two. With weights the value
/// at which half of the weight is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Median {
    /// *f*: only checked, the median does not depend on it. Default 0: none declared.
    pub byzantine: usize,
    /// What the middle of an even number of values is.
    #[serde(skip_serializing_if = "is_average")]
    pub even: Even,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_average(even: &Even) -> bool {
    *even == Even::Average
}

const EVEN: &str = "\"average\", \"lower\" or \"upper\"";

impl Rule for Median {
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
        self.even == Even::Average
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        if weights.is_equal() {
            return Ok(Plan::accepting(rows, Combine::Median { even: self.even }).into());
        }
        weights.check_majority(self.kind(), self.byzantine)?;
        Ok(Plan::accepting(rows, Combine::WeightedMedian { weights: weights.as_slice().to_vec() }).into())
    }
}

impl Definition for Median {
    const INFO: RuleInfo = RuleInfo {
        kind: "median",
        name: "coordinate-wise median",
        definition: "per coordinate the middle value; even n: average of the middle two",
        formula: "median(x₁ⱼ, …, xₙⱼ) for every coordinate j",
        parameters: &[
            DECLARED_INFO,
            ParameterInfo {
                key: "even",
                meaning: "the middle of an even number of values; \"lower\" and \"upper\" reproduce other libraries",
                range: EVEN,
                default: Some("\"average\""),
                example: None,
            },
        ],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "κ = 4(1+ρ)²",
        cost: "nd, one read; a pruned sorting network per coordinate",
        source: "Yin et al. 2018, Definition 1",
        fails: &[
            "it ignores how coordinates belong together: on heterogeneous clients it drifts from every one of them",
            "with client-chosen top-k updates it is 0 almost everywhere",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let choices = [("average", Even::Average), ("lower", Even::Lower), ("upper", Even::Upper)];
        let even = parameters.choice("even", EVEN, &choices)?.unwrap_or_default();
        Ok(Self { byzantine: declared_byzantine(parameters)?, even })
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine, ..self.clone() }
    }

    fn describe(&self) -> String {
        let even = match self.even {
            Even::Average => "",
            Even::Lower => ", even = lower",
            Even::Upper => ", even = upper",
        };
        format!("byzantine = {}{even}", self.byzantine)
    }
}
