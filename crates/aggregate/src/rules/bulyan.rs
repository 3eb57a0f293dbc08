//! Bulyan: Krum again and again, then the values nearest to the median of what it selected.

use serde::Serialize;

use super::krum::scores;
use super::{Definition, distances};
use crate::catalogue::{BYZANTINE_INFO, ParameterInfo, RuleInfo, required_byzantine};
use crate::centre::Centre;
use crate::needs::Needs;
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::BULYAN;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{Distances, RowStatistics};
use crate::verdict::{RowReason, Verdict};

/// El Mhamdi et al. 2018: n−2f times Krum among the rows left; then per coordinate the mean of the n−4f selected values
/// nearest to the median of the selection. Ties go to the lowest row and the lower value. Unweighted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bulyan {
    /// *f*.
    pub byzantine: usize,
    /// How rows are selected.
    #[serde(skip_serializing_if = "Selection::is_iterated")]
    pub selection: Selection,
}

/// How Bulyan selects rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Scores are computed anew among the rows left after each choice, as in the paper.
    #[default]
    Iterated,
    /// The n−2f best rows of one scoring, a compatibility mode.
    OneShot,
}

impl Rule for Bulyan {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        BULYAN.check(self.kind(), rows, self.byzantine)
    }

    fn needs(&self) -> Needs {
        Needs::PAIR_DISTANCES
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let (kind, rows) = (self.kind(), statistics.rows());
        self.check(rows)?;
        let distances = distances(kind, statistics)?;
        let first = scores(distances, rows, rows - self.byzantine - 2);
        let count = rows - 2 * self.byzantine;
        let mut selected = match self.selection {
            Selection::Iterated => iterated(distances, rows, self.byzantine, &first, count),
            Selection::OneShot => {
                let mut order: Vec<usize> = (0..rows).collect();
                order.sort_by(|&a, &b| first[a].total_cmp(&first[b]));
                order.truncate(count);
                order
            }
        };
        if self.selection == Selection::OneShot {
            selected.retain(|&row| first[row].is_finite());
        }
        if selected.is_empty() {
            return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
        }
        // Fewer are selected only where more rows than f are beyond f64.
        let keep = (rows - 4 * self.byzantine).min(selected.len());
        let rejected = |&score: &f64| {
            let reason = if score.is_finite() { RowReason::NotSelected } else { RowReason::Magnitude };
            Verdict::Rejected { reason }
        };
        let mut verdicts: Vec<Verdict> = first.iter().map(rejected).collect();
        for &row in &selected {
            verdicts[row] = Verdict::Accepted;
        }
        let mut among = selected.clone();
        among.sort_unstable();
        let plan = Plan::new(verdicts, Combine::MeanAround { centre: Centre::Median, keep });
        Ok(Plan { among: Some(among), ..plan.with_selected(selected).with_scores(first) }.into())
    }
}

/// Rounding that scores kept by subtraction may have taken, relative to the first score, for as many rows as there may be.
const DRIFT: f64 = 1e-11;

/// Krum `count` times: the winner among the rows left leaves them. The winner's score is the sum from the smallest
/// distance up, as Krum's own, so that ties are the ties of the definition; sums kept up to date by subtraction only tell
/// which rows cannot win. A row all of whose distances are beyond f64 and whose length is, too, is never chosen.
fn iterated(distances: Distances<'_>, rows: usize, byzantine: usize, first: &[f64], count: usize) -> Vec<usize> {
    // Per row its distances to the rows left, from the smallest up.
    let mut nearest: Vec<Vec<f64>> = (0..rows)
        .map(|row| {
            let others = (0..rows).filter(|&other| other != row);
            let mut sorted: Vec<f64> = others.map(|other| distances.distance2(row, other)).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted
        })
        .collect();
    // NaN where nothing is known.
    let mut about = first.to_vec();
    let mut left: Vec<usize> = (0..rows).collect();
    let mut selected = Vec::with_capacity(count);
    // The last single row has no neighbour: its score is 0.
    let neighbours_among = |left: usize| left.saturating_sub(byzantine + 2).max(1).min(left.saturating_sub(1));
    while selected.len() < count {
        let neighbours = neighbours_among(left.len());
        let bound = left.iter().map(|&row| about[row] + DRIFT * first[row]).fold(f64::INFINITY, f64::min);
        let loses = |row: usize| about[row] - DRIFT * first[row] > bound;
        let score = |row: usize| nearest[row][..neighbours].iter().sum::<f64>();
        // Of those beyond f64 one that is so only because of its neighbours.
        let far =
            |row: usize, score: f64| (score.is_infinite() || neighbours == 0) && distances.norm2(row).is_infinite();
        let mut best: Option<(usize, usize, f64)> = None;
        for (at, &row) in left.iter().enumerate().filter(|(_, row)| !loses(**row)) {
            // Copies of a row have its distances and its score: of equal ones the first stays.
            if best.is_some_and(|(_, best, _)| nearest[best][..neighbours] == nearest[row][..neighbours]) {
                continue;
            }
            let score = score(row);
            if !far(row, score) && best.is_none_or(|(_, _, least)| score < least) {
                best = Some((at, row, score));
            }
        }
        let Some((at, winner, _)) = best else { break };
        left.remove(at);
        selected.push(winner);
        let fewer = neighbours_among(left.len()) + 1 == neighbours;
        for &row in &left {
            let gone = distances.distance2(row, winner);
            let at = nearest[row].partition_point(|distance| *distance < gone);
            about[row] -= match fewer {
                true if at < neighbours => gone,
                true => nearest[row][neighbours - 1],
                false => f64::NAN,
            };
            nearest[row].remove(at);
        }
    }
    selected
}

impl Definition for Bulyan {
    const INFO: RuleInfo = RuleInfo {
        kind: "bulyan",
        name: "Bulyan",
        definition: "n−2f times Krum among the rows left, then per coordinate the mean of the n−4f selected values \
                     nearest to their median",
        formula: "S: repeat n−2f times: move argmin of the Krum score among the n′ rows left, with max(1, n′−f−2) \
                  neighbours, to S; then 1/(n−4f) · Σ_{i ∈ Nⱼ} xᵢⱼ, Nⱼ the n−4f rows of S nearest to the median of S",
        parameters: &[
            BYZANTINE_INFO,
            ParameterInfo {
                key: "selection",
                meaning: "\"iterated\": as in the paper; \"one_shot\": the best of one scoring, to compare with Flower",
                range: SELECTION,
                default: Some("\"iterated\""),
                example: None,
            },
        ],
        range: "n ≥ 4f+3",
        breakdown: "f ≤ (n−3)/4",
        bound: "leeway of a bad row per coordinate in the order of 1/√d of Krum's; no published κ",
        cost: "n²d/2 for the distances, n³/3 to decide, then (n−2f)d and a sorting network per coordinate",
        source: "El Mhamdi et al. 2018 (arXiv 1802.07927), section 4",
        fails: &[
            "its range is the narrowest: of 50 rows sampled from 1,000 with 50 bad ones it fits at a risk of 1e-3, not \
             at 1e-6",
            "on heterogeneous clients it leaves out the same minority as Krum",
            "one rounding error in a choice moves the result: selections are compared in f64 only",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let byzantine = required_byzantine(parameters)?;
        let choices = [("iterated", Selection::Iterated), ("one_shot", Selection::OneShot)];
        let selection = parameters.choice("selection", SELECTION, &choices)?.unwrap_or_default();
        Ok(Self { byzantine, selection })
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine, ..self.clone() }
    }

    fn describe(&self) -> String {
        let selection = if self.selection.is_iterated() { "" } else { ", selection = one_shot" };
        format!("byzantine = {}{selection}", self.byzantine)
    }
}

const SELECTION: &str = "\"iterated\" or \"one_shot\"";

impl Selection {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    fn is_iterated(&self) -> bool {
        *self == Self::Iterated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Aggregate, aggregate};

    fn run(byzantine: usize, selection: Selection, values: &[f64]) -> Aggregate<f64> {
        let rows: Vec<&[f64]> = values.chunks(1).collect();
        aggregate(&Bulyan { byzantine, selection }, &rows, None, None).unwrap()
    }

    #[test]
    fn scores_are_computed_anew_after_every_choice() {
        let values = [0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 100.0];
        // Neighbours 4, 3, 2, 1, 1. Scores at first: 0: 1+9+36+100, 1: 1+4+25+81, 3: 4+9+9+49, 6: 9+16+25+36, and so on.
        let result = run(1, Selection::Iterated, &values);
        assert_eq!(result.scores.as_ref().unwrap()[..4], [146.0, 111.0, 71.0, 86.0]);
        // Row 2 first. Left 0 1 6 10 15 100, 3 neighbours: 137, 107, 77, 41+... : row 3 with 16+25+36 = 77.
        // Left 0 1 10 15 100, 2 neighbours: 101, 82, 106, 221: row 1. Left 0 10 15 100, one neighbour: 25 twice: row 4.
        // Left 0 15 100: 225, 225, 7225: row 0.
        assert_eq!(result.selected, [2, 3, 1, 4, 0]);
        // Median 3, the three nearest 3, 1 and, of 0 and 6, the lower.
        assert_eq!(result.output, [4.0 / 3.0]);
        assert!(result.verdicts[6].is_rejected() && result.verdicts[5].is_rejected());
        assert_eq!(result.verdicts[4], Verdict::Trimmed { share: 1.0 });
        let one_shot = run(1, Selection::OneShot, &values);
        assert_eq!(one_shot.selected[..2], [2, 3]);
    }

    #[test]
    fn ties_go_to_the_lowest_row_and_the_last_single_row_is_taken_as_it_is() {
        assert_eq!(run(0, Selection::Iterated, &[4.0; 3]).selected, [0, 1, 2]);
        assert_eq!(run(1, Selection::Iterated, &[4.0; 7]).selected, [0, 1, 2, 3, 4]);
        assert_eq!(run(0, Selection::Iterated, &[0.0, 1.0, 5.0]).output, [2.0]);
    }

    #[test]
    fn rows_beyond_f64_come_last_or_not_at_all() {
        let mut values = [1.0, 1e200, 2.0, 3.0, 4.0, 5.0, 6.0];
        let result = run(1, Selection::Iterated, &values);
        assert_eq!((result.output[0], result.verdicts[1]), (3.0, Verdict::Rejected { reason: RowReason::Magnitude }));
        // More of them than f: what is left is averaged.
        let result = run(0, Selection::Iterated, &values);
        assert_eq!((result.output[0], result.verdicts[1]), (3.5, Verdict::Rejected { reason: RowReason::Magnitude }));
        values.iter_mut().enumerate().for_each(|(row, value)| *value = 1e200 * (row as f64 + 1.0));
        let rows: Vec<&[f64]> = values.chunks(1).collect();
        for selection in [Selection::Iterated, Selection::OneShot] {
            assert!(aggregate(&Bulyan { byzantine: 1, selection }, &rows, None, None).is_err());
        }
        let huge: Vec<Vec<f32>> = [1.0, 1e30, 2.0, 3.0, 4.0, 5.0, 6.0].map(|value| vec![value]).to_vec();
        let huge: Vec<&[f32]> = huge.iter().map(Vec::as_slice).collect();
        let rule = Bulyan { byzantine: 1, selection: Selection::Iterated };
        assert_eq!(aggregate(&rule, &huge, None, None).unwrap().output, [3.0]);
    }

    #[test]
    fn the_choice_is_that_of_scoring_every_time_from_scratch() {
        let mut random = 1_u64;
        for round in 0..40 {
            let (n, f) = (7 + round % 13, (4 + round % 13) / 4);
            let mut draw = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Few values, hence ties.
                ((random >> 33) % (3 + 40 * (round as u64 % 2))) as f64
            };
            let rows: Vec<Vec<f64>> = (0..n).map(|_| (0..3).map(|_| draw()).collect()).collect();
            let views: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
            let rule = Bulyan { byzantine: f, selection: Selection::Iterated };
            let distance = |a: usize, b: usize| rows[a].iter().zip(&rows[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let mut left: Vec<usize> = (0..n).collect();
            let mut expected = Vec::new();
            for _ in 0..n - 2 * f {
                let score = |row: usize| {
                    let mut sorted: Vec<f64> =
                        left.iter().filter(|other| **other != row).map(|other| distance(row, *other)).collect();
                    sorted.sort_by(f64::total_cmp);
                    sorted.iter().take(left.len().saturating_sub(f + 2).max(1)).sum::<f64>()
                };
                let best = left.iter().copied().min_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
                left.retain(|row| *row != best);
                expected.push(best);
            }
            assert_eq!(aggregate(&rule, &views, None, None).unwrap().selected, expected);
        }
    }
}
