//! Krum: the one row with the closest neighbours.

use serde::Serialize;

use super::{Definition, MAX_PAIR_ROWS, MINORITY, ParameterInfo, Range, RuleInfo, required_byzantine};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::rows::Weights;
use crate::rule::{Rule, RuleError};
use crate::statistics::{Needs, RowStatistics};
use crate::verdict::{RowReason, Verdict};

/// Blanchard et al. 2017: score i = sum of the squared distances to the n−f−2 nearest other rows; the row of lowest
/// score is the aggregate. Ties go to the lowest row. Unweighted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Krum {
    /// *f*.
    pub byzantine: usize,
    /// How many neighbours a score counts.
    #[serde(skip_serializing_if = "Neighbours::is_paper")]
    pub neighbours: Neighbours,
}

/// How many neighbours a Krum score counts, and so the strict range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Neighbours {
    /// n−f−2, as in the paper; n ≥ 2f+3.
    #[default]
    Paper,
    /// n−f−1, as in ByzFL, a compatibility mode; 2f < n.
    Byzfl,
}

impl Rule for Krum {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn min_rows(&self) -> usize {
        self.neighbours.range().min_rows(self.byzantine)
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        self.neighbours.check(self, rows)
    }

    fn needs(&self) -> Needs {
        Needs::PAIR_DISTANCES
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Plan, RuleError> {
        self.check(statistics.rows())?;
        select_best(self, statistics, self.neighbours, 1)
    }
}

impl Definition for Krum {
    const INFO: RuleInfo = RuleInfo {
        kind: "krum",
        definition: "the row with the least sum of squared distances to its n−f−2 nearest other rows",
        parameters: &[ParameterInfo { key: "byzantine", meaning: "f", default: None }, NEIGHBOURS_INFO],
        range: "n ≥ 2f+3; neighbours = \"byzfl\": 2f < n",
        breakdown: "f ≤ (n−3)/2",
        bound: "κ = 6(1+ρ), shown for n−f−1 neighbours",
        source: "Blanchard et al. 2017, section 4",
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { byzantine: required_byzantine(parameters)?, neighbours: Neighbours::parse(parameters)? })
    }

    fn fit(&self, rows: usize) -> Result<Self, RuleError> {
        Ok(Self { byzantine: self.neighbours.range().fit(self, rows)?, neighbours: self.neighbours })
    }

    fn describe(&self) -> String {
        format!("byzantine = {}{}", self.byzantine, self.neighbours.describe())
    }
}

pub(super) const NEIGHBOURS_INFO: ParameterInfo = ParameterInfo {
    key: "neighbours",
    meaning: "\"paper\": n−f−2 neighbours; \"byzfl\": n−f−1, to compare with ByzFL",
    default: Some("\"paper\""),
};

impl Neighbours {
    pub(super) fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let choices = [("paper", Self::Paper), ("byzfl", Self::Byzfl)];
        Ok(parameters.choice("neighbours", "\"paper\" or \"byzfl\"", &choices)?.unwrap_or_default())
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn is_paper(&self) -> bool {
        *self == Self::Paper
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Paper => "",
            Self::Byzfl => ", neighbours = byzfl",
        }
    }

    pub(super) fn range(self) -> Range {
        match self {
            Self::Paper => Range { text: "n ≥ 2f+3", beyond_twice: 3 },
            Self::Byzfl => MINORITY,
        }
    }

    pub(super) fn check(self, rule: &dyn Rule, rows: usize) -> Result<(), RuleError> {
        if rows > MAX_PAIR_ROWS {
            return Err(RuleError::TooManyRows { kind: rule.kind(), rows, limit: MAX_PAIR_ROWS });
        }
        self.range().check(rule, rows)
    }

    /// Neighbours counted; the rule's range has been checked.
    fn count(self, rows: usize, byzantine: usize) -> usize {
        match self {
            Self::Paper => rows - byzantine - 2,
            Self::Byzfl => rows - byzantine - 1,
        }
    }
}

/// The plan that averages the `select` rows of lowest score. A row whose score is beyond f64 sorts last and is
/// rejected even when it would be among them: the mean is of the rest.
pub(super) fn select_best(
    rule: &dyn Rule,
    statistics: &RowStatistics,
    neighbours: Neighbours,
    select: usize,
) -> Result<Plan, RuleError> {
    let rows = statistics.rows();
    let scores = scores(rule, statistics, neighbours)?;
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let selected: Vec<usize> = order.into_iter().take(select).filter(|&row| scores[row].is_finite()).collect();
    if selected.is_empty() {
        return Err(RuleError::AllRejected { kind: rule.kind(), rows });
    }
    let mut verdicts: Vec<Verdict> = scores.iter().map(|&score| rejected(score)).collect();
    let mut weights = vec![0.0; rows];
    for &row in &selected {
        verdicts[row] = Verdict::Accepted;
        weights[row] = 1.0;
    }
    let divisor = weights.iter().sum();
    Ok(Plan { verdicts, selected, scores: Some(scores), combine: Combine::WeightedSum { weights, divisor } })
}

/// Krum scores. The distances are added from the smallest up, so that a score depends on their values alone.
fn scores(rule: &dyn Rule, statistics: &RowStatistics, neighbours: Neighbours) -> Result<Vec<f64>, RuleError> {
    let Some(distances) = statistics.distances() else {
        return Err(RuleError::NotObserved { kind: rule.kind() });
    };
    let rows = statistics.rows();
    let count = neighbours.count(rows, rule.byzantine());
    let mut nearest = Vec::with_capacity(rows);
    let score = |row: usize| {
        nearest.clear();
        nearest.extend((0..rows).filter(|&other| other != row).map(|other| distances.distance2(row, other)));
        nearest.sort_unstable_by(f64::total_cmp);
        nearest[..count].iter().sum::<f64>() + 0.0
    };
    Ok((0..rows).map(score).collect())
}

fn rejected(score: f64) -> Verdict {
    let reason = if score.is_finite() { RowReason::NotSelected } else { RowReason::Magnitude };
    Verdict::Rejected { reason }
}
