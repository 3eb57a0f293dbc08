//! FoolsGold: rows whose clients have always moved alike share one vote.

mod weights;

use serde::Serialize;

use super::Definition;
use crate::catalogue::RuleInfo;
use crate::needs::{Extras, Needs};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::{ANY, Range};
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{Distances, Frame, RowStatistics, Spread};
use crate::verdict::{RowReason, Verdict};

/// Fung et al. 2020, Algorithm 1: rows are weighed by how little the sum of their client's updates, this one included,
/// is like any other client's. Two sums whose cosine is within 1e-9 of 1 are the same. Where all clients are the same
/// nobody counts: the update is zero and must not be released. Unweighted; the scores are the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FoolsGold {}

const RANGE: Range = ANY.of_pairs();

/// Digits that inner products of sums may lose: cosines are right to about 1e-16 times this.
const LOSS: f64 = 1e4;

impl Rule for FoolsGold {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        0
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        RANGE.check(self.kind(), rows, 0)
    }

    fn needs(&self) -> Needs {
        Needs { extras: Extras { history: true, ..Extras::default() }, ..Needs::PAIR_DISTANCES }
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        let kind = self.kind();
        if statistics.extras() != rows {
            return Err(RuleError::NotObserved { kind, what: "a history per row" });
        }
        let sums = Sums::new(statistics).ok_or(RuleError::NotObserved { kind, what: "squared distances" })?;
        let Sums { cosines, infinite } = match sums {
            Ok(sums) => sums,
            Err(frame) => return Ok(Decision::refine(self.needs(), frame, rows)),
        };
        let present: Vec<usize> = (0..rows).filter(|&row| !infinite[row]).collect();
        if present.is_empty() {
            return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
        }
        let mut scores = vec![0.0; rows];
        let weights = weights::weights(&present, |a, b| cosines[a * rows + b]);
        present.iter().zip(weights).for_each(|(&row, weight)| scores[row] = weight);
        let verdict = |row: usize| match (scores[row] > 0.0, infinite[row]) {
            (true, _) => Verdict::Accepted,
            (false, true) => Verdict::Rejected { reason: RowReason::Magnitude },
            (false, false) => Verdict::Rejected { reason: RowReason::NotSelected },
        };
        let verdicts = (0..rows).map(verdict).collect();
        let divisor: f64 = scores.iter().sum();
        let degenerate = (divisor == 0.0).then(|| "all clients have moved alike: no row counts".to_owned());
        let mut weights = scores.clone();
        weights.resize(rows + statistics.extras(), 0.0);
        let divisor = if degenerate.is_some() { 1.0 } else { divisor };
        let plan = Plan::new(verdicts, Combine::WeightedSum { weights, divisor }).with_scores(scores);
        Ok(Plan { degenerate, ..plan }.into())
    }
}

/// What is known about the sums of every row and its history.
struct Sums {
    cosines: Vec<f64>,
    infinite: Vec<bool>,
}

impl Sums {
    /// `Err`: too many digits would be lost, in rows that cancel against their history or are much longer than others;
    /// the sums must be measured themselves. `None`: distances were not observed.
    fn new(statistics: &RowStatistics) -> Option<Result<Self, Frame>> {
        let frame = statistics.refinement().and_then(|refinement| refinement.frame.as_ref());
        if frame.is_some_and(Frame::is_of_sums) { Self::measured(statistics) } else { Self::computed(statistics) }
    }

    fn measured(statistics: &RowStatistics) -> Option<Result<Self, Frame>> {
        let (rows, extras, origin) = (statistics.rows(), statistics.extras(), statistics.origin());
        let gram = statistics.gram(origin, Spread::Every)?.ok()?;
        let scaled: Vec<f64> = (0..rows).map(|row| gram.scaled(row, row).sqrt()).filter(|l| *l > 0.0).collect();
        let longest = scaled.iter().copied().fold(0.0, f64::max);
        if scaled.iter().any(|length| length * LOSS < longest) {
            // The lengths were not known well enough to bring them together; now they are.
            let lengths: Vec<f64> = (0..rows).map(|row| gram.length(row)).collect();
            return Some(Err(Frame::of_sums(origin, &lengths, extras)));
        }
        let cosines = (0..rows * rows).map(|at| gram.cosine(at / rows, at % rows)).collect();
        Some(Ok(Self { cosines, infinite: (0..rows).map(|row| gram.is_infinite(row)).collect() }))
    }

    /// From the four inner products of rows and histories.
    fn computed(statistics: &RowStatistics) -> Option<Result<Self, Frame>> {
        let (rows, origin) = (statistics.rows(), statistics.origin());
        let distances = statistics.distances()?;
        // ‖x‖ and ‖h‖ bound ‖x + h‖ and the rounding of everything below.
        let gross = |row: usize| 2.0 * (distances.norm2(row) + distances.norm2(rows + row));
        let gross: Vec<f64> = (0..rows).map(gross).collect();
        let infinite: Vec<bool> = gross.iter().map(|gross| !gross.is_finite()).collect();
        let norm2: Vec<f64> = (0..rows).map(|row| inner(distances, rows, row, row)).collect();
        let mut cosines = vec![0.0; rows * rows];
        for i in (0..rows).filter(|&i| gross[i] > 0.0 && !infinite[i]) {
            for j in (0..=i).filter(|&j| gross[j] > 0.0 && !infinite[j]) {
                let lengths = norm2[i].max(0.0).sqrt() * norm2[j].max(0.0).sqrt();
                let cosine = inner(distances, rows, i, j) / lengths;
                if gross[i] + gross[j] > LOSS * lengths || !cosine.is_finite() {
                    let length = |row: usize| match gross[row] {
                        gross if gross.is_finite() => norm2[row].max(gross * 1e-12).sqrt(),
                        _ => f64::INFINITY,
                    };
                    let lengths: Vec<f64> = (0..rows).map(length).collect();
                    return Some(Err(Frame::of_sums(origin, &lengths, statistics.extras())));
                }
                let cosine = cosine.clamp(-1.0, 1.0);
                (cosines[i * rows + j], cosines[j * rows + i]) = (cosine, cosine);
            }
        }
        Some(Ok(Self { cosines, infinite }))
    }
}

/// ⟨xᵢ + hᵢ, xⱼ + hⱼ⟩.
fn inner(distances: Distances<'_>, rows: usize, i: usize, j: usize) -> f64 {
    let product = |a: usize, b: usize| 0.5 * (distances.norm2(a) + distances.norm2(b) - distances.distance2(a, b));
    (product(i, j) + product(rows + i, rows + j)) + (product(i, rows + j) + product(rows + i, j))
}

impl Definition for FoolsGold {
    const INFO: RuleInfo = RuleInfo {
        kind: "foolsgold",
        name: "FoolsGold",
        definition: "mean of the rows weighed down where the sum of a client's updates points like another client's",
        formula: "Σ wᵢxᵢ / Σ wᵢ, wᵢ = clip(ln(aᵢ/(1−aᵢ)) + ½), aᵢ = 1 − maxⱼ cos(hᵢ + xᵢ, hⱼ + xⱼ), pardoned and rescaled",
        parameters: &[],
        range: "n ≥ 1; histories kept by client, never by position",
        breakdown: "any number of Sybils that move alike, no other attack",
        bound: "none",
        cost: "(2n)²d/2 for the distances, then nd; a history of d coordinates per client",
        source: "Fung et al. 2020, Algorithm 1",
        fails: &[
            "Sybils only: a single bad client, or colluders that keep apart, count in full",
            "honest clients with like data are weighed down: where all move alike the round ends without an update",
            "one long row moves the mean anywhere",
        ],
    };

    fn parse(_parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self {})
    }

    fn lowered(&self, _byzantine: usize, _rows: usize) -> Self {
        self.clone()
    }

    fn describe(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests;
