//! Multi-Krum: the mean of the rows with the best Krum scores.

use serde::Serialize;

use super::krum::{NEIGHBOURS_INFO, Neighbours, scores, select_best};
use super::{Definition, distances};
use crate::catalogue::{BYZANTINE_INFO, ParameterInfo, RuleInfo, required_byzantine};
use crate::needs::Needs;
use crate::parameters::{ParameterError, Parameters};
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Blanchard et al. 2017: the mean of the m rows of lowest Krum score. Ties go to the lowest row. Weights never move
/// the selection; they weigh the selected rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MultiKrum {
    /// *f*.
    pub byzantine: usize,
    /// *m*, rows to average; `None`: n−f.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<usize>,
    /// How many neighbours a score counts.
    #[serde(skip_serializing_if = "Neighbours::is_paper")]
    pub neighbours: Neighbours,
}

const SELECT: &str = "the number of rows to average, a whole number from 1 to n−f";

impl Rule for MultiKrum {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        self.neighbours.range().check(self.kind(), rows, self.byzantine)?;
        let Some(select) = self.select else { return Ok(()) };
        if (1..=rows - self.byzantine).contains(&select) {
            return Ok(());
        }
        Err(RuleError::Select { kind: self.kind(), rows, byzantine: self.byzantine, select })
    }

    fn needs(&self) -> Needs {
        Needs::NEAR_PAIR_DISTANCES
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let count = self.neighbours.count(rows, self.byzantine);
        let scores = scores(distances(self.kind(), statistics)?, rows, count);
        let select = self.select.unwrap_or(rows - self.byzantine);
        Ok(select_best(self.kind(), scores, select, weights.as_slice())?.into())
    }
}

impl Definition for MultiKrum {
    const INFO: RuleInfo = RuleInfo {
        kind: "multi_krum",
        name: "Multi-Krum",
        definition: "mean of the m rows of lowest Krum score",
        formula: "1/m · Σ xᵢ over the m rows of least Krum score",
        parameters: &[
            BYZANTINE_INFO,
            ParameterInfo {
                key: "select",
                meaning: "m, rows to average",
                range: SELECT,
                default: Some("n−f"),
                example: None,
            },
            NEIGHBOURS_INFO,
        ],
        range: "n ≥ 2f+3 and 1 ≤ m ≤ n−f; neighbours = \"byzfl\": 2f < n",
        breakdown: "f ≤ (n−3)/2",
        bound: "no worse than Krum",
        cost: "n²d/2 for the distances, then md",
        source: "Blanchard et al. 2017, section 5; arXiv 2602.03899",
        fails: &[
            "it always leaves out n−m rows, honest ones where fewer are bad",
            "it lets colluders in under unscaled backdoors",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let byzantine = required_byzantine(parameters)?;
        let select = parameters.count_from("select", SELECT, 1)?;
        Ok(Self { byzantine, select, neighbours: Neighbours::parse(parameters)? })
    }

    fn lowered(&self, byzantine: usize, rows: usize) -> Self {
        let select = self.select.map(|select| select.min(rows.saturating_sub(byzantine)));
        Self { byzantine, select, neighbours: self.neighbours }
    }

    fn describe(&self) -> String {
        let select = self.select.map(|select| format!(", select = {select}")).unwrap_or_default();
        format!("byzantine = {}{select}{}", self.byzantine, self.neighbours.describe())
    }
}
