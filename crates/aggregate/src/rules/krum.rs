//! Krum: the one row with the closest neighbours.

use serde::Serialize;

use super::{Definition, distances};
use crate::catalogue::{BYZANTINE_INFO, ParameterInfo, RuleInfo, required_byzantine};
use crate::needs::Needs;
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::{KRUM, MINORITY_OF_PAIRS, Range};
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{Distances, RowStatistics};
use crate::verdict::{RowReason, Verdict};

/// Blanchard et al. 2017: score i = sum of the squared distances to the n−f−2 nearest other rows; the row of lowest
/// score is the aggregate. Ties go to the lowest row. Unweighted.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        self.neighbours.range().check(self.kind(), rows, self.byzantine)
    }

    fn needs(&self) -> Needs {
        Needs::NEAR_PAIR_DISTANCES
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        let count = self.neighbours.count(rows, self.byzantine);
        let scores = scores(distances(self.kind(), statistics)?, rows, count);
        Ok(select_best(self.kind(), scores, 1, &vec![1.0; rows])?.into())
    }
}

impl Definition for Krum {
    const INFO: RuleInfo = RuleInfo {
        kind: "krum",
        name: "Krum",
        definition: "the row with the least sum of squared distances to its n−f−2 nearest other rows",
        formula: "x_k, k = argminᵢ Σ_{j ∈ Nᵢ} ‖xᵢ − xⱼ‖², Nᵢ the n−f−2 nearest other rows",
        parameters: &[BYZANTINE_INFO, NEIGHBOURS_INFO],
        range: "n ≥ 2f+3; neighbours = \"byzfl\": 2f < n",
        breakdown: "f ≤ (n−3)/2",
        bound: "κ = 6(1+ρ), shown for n−f−1 neighbours",
        cost: "n²d/2 for the distances, then one row",
        source: "Blanchard et al. 2017, section 4",
        fails: &[
            "unusable on heterogeneous clients even without attack: digits, Dirichlet 0.5, 72 %",
            "it lets colluders in under unscaled backdoors",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { byzantine: required_byzantine(parameters)?, neighbours: Neighbours::parse(parameters)? })
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine, ..self.clone() }
    }

    fn describe(&self) -> String {
        format!("byzantine = {}{}", self.byzantine, self.neighbours.describe())
    }
}

pub(super) const NEIGHBOURS_INFO: ParameterInfo = ParameterInfo {
    key: "neighbours",
    meaning: "\"paper\": n−f−2 neighbours; \"byzfl\": n−f−1, to compare with ByzFL",
    range: NEIGHBOURS,
    default: Some("\"paper\""),
    example: None,
};

const NEIGHBOURS: &str = "\"paper\" or \"byzfl\"";

impl Neighbours {
    pub(super) fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let choices = [("paper", Self::Paper), ("byzfl", Self::Byzfl)];
        Ok(parameters.choice("neighbours", NEIGHBOURS, &choices)?.unwrap_or_default())
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
            Self::Paper => KRUM,
            Self::Byzfl => MINORITY_OF_PAIRS,
        }
    }

    /// Neighbours counted; the rule's range has been checked.
    pub(super) fn count(self, rows: usize, byzantine: usize) -> usize {
        match self {
            Self::Paper => rows - byzantine - 2,
            Self::Byzfl => rows - byzantine - 1,
        }
    }
}

/// The plan that averages the `select` rows of lowest score with these weights. A row whose score is beyond f64 sorts
/// last and is rejected even when it would be among them: the mean is of the rest.
pub(super) fn select_best(
    kind: &'static str,
    scores: Vec<f64>,
    select: usize,
    weights: &[f64],
) -> Result<Plan, RuleError> {
    let rows = scores.len();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let selected: Vec<usize> = order.into_iter().take(select).filter(|&row| scores[row].is_finite()).collect();
    if selected.is_empty() {
        return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
    }
    Ok(mean_of(rows, selected, weights, |row| scores[row].is_finite())?.with_scores(scores))
}

/// The plan that averages the selected rows. Of the others those that are not `measurable` are rejected for their
/// magnitude.
pub(super) fn mean_of(
    rows: usize,
    selected: Vec<usize>,
    weights: &[f64],
    measurable: impl Fn(usize) -> bool,
) -> Result<Plan, RuleError> {
    let rejected = |row: usize| {
        let reason = if measurable(row) { RowReason::NotSelected } else { RowReason::Magnitude };
        Verdict::Rejected { reason }
    };
    let mut verdicts: Vec<Verdict> = (0..rows).map(rejected).collect();
    let mut kept = vec![0.0; rows];
    for &row in &selected {
        verdicts[row] = Verdict::Accepted;
        kept[row] = weights[row];
    }
    let divisor: f64 = kept.iter().sum();
    if divisor == 0.0 {
        // All selected rows weigh nothing: they count alike.
        return mean_of(rows, selected, &vec![1.0; rows], measurable);
    }
    let combine = Combine::WeightedSum { weights: kept, divisor };
    Ok(Plan::new(verdicts, combine).with_selected(selected))
}

/// Krum scores over `count` neighbours. The distances are added from the smallest up, so that a score depends on
/// their values alone.
pub(super) fn scores(distances: Distances<'_>, rows: usize, count: usize) -> Vec<f64> {
    let mut nearest = Vec::with_capacity(rows);
    let score = |row: usize| {
        nearest.clear();
        nearest.extend((0..rows).filter(|&other| other != row).map(|other| distances.distance2(row, other)));
        nearest.sort_unstable_by(f64::total_cmp);
        nearest[..count].iter().sum::<f64>() + 0.0
    };
    (0..rows).map(score).collect()
}
