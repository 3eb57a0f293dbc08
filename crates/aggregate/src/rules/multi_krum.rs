//! Multi-Krum: the mean of the rows with the best Krum scores.

use serde::Serialize;

use super::krum::{NEIGHBOURS_INFO, Neighbours, select_best};
use super::{Definition, ParameterInfo, RuleInfo, required_byzantine};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::Plan;
use crate::rows::Weights;
use crate::rule::{Rule, RuleError};
use crate::statistics::{Needs, RowStatistics};

/// Blanchard et al. 2017: the mean of the m rows of lowest Krum score, unweighted. Ties go to the lowest row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

    fn min_rows(&self) -> usize {
        let for_select = self.select.unwrap_or(0).saturating_add(self.byzantine);
        self.neighbours.range().min_rows(self.byzantine).max(for_select)
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        self.neighbours.check(self, rows)?;
        let Some(select) = self.select else { return Ok(()) };
        if (1..=rows - self.byzantine).contains(&select) {
            return Ok(());
        }
        Err(RuleError::Select { kind: self.kind(), rows, byzantine: self.byzantine, select })
    }

    fn needs(&self) -> Needs {
        Needs::PAIR_DISTANCES
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Plan, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        select_best(self, statistics, self.neighbours, self.select.unwrap_or(rows - self.byzantine))
    }
}

impl Definition for MultiKrum {
    const INFO: RuleInfo = RuleInfo {
        kind: "multi_krum",
        definition: "mean of the m rows of lowest Krum score, unweighted",
        parameters: &[
            ParameterInfo { key: "byzantine", meaning: "f", default: None },
            ParameterInfo { key: "select", meaning: "m, rows to average", default: Some("n−f") },
            NEIGHBOURS_INFO,
        ],
        range: "n ≥ 2f+3 and 1 ≤ m ≤ n−f; neighbours = \"byzfl\": 2f < n",
        breakdown: "f ≤ (n−3)/2",
        bound: "no worse than Krum",
        source: "Blanchard et al. 2017, section 5; arXiv 2602.03899",
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let byzantine = required_byzantine(parameters)?;
        let select = parameters.count("select", SELECT)?;
        Ok(Self { byzantine, select, neighbours: Neighbours::parse(parameters)? })
    }

    fn fit(&self, rows: usize) -> Result<Self, RuleError> {
        let byzantine = self.neighbours.range().fit(self, rows)?;
        let select = self.select.map(|select| select.min(rows - byzantine));
        Ok(Self { byzantine, select, neighbours: self.neighbours })
    }

    fn describe(&self) -> String {
        let select = self.select.map(|select| format!(", select = {select}")).unwrap_or_default();
        format!("byzantine = {}{select}{}", self.byzantine, self.neighbours.describe())
    }
}
