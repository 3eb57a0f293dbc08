//! DnC: divide and conquer, the filter along principal directions of random samples.

use serde::Serialize;

use super::Definition;
use super::centred::{MAX_EIGEN_ROWS, check_eigen_rows, least, measurable, principal};
use super::krum::mean_of;
use crate::catalogue::{BYZANTINE_INFO, ParameterInfo, RuleInfo, required_byzantine};
use crate::needs::{Needs, Samples};
use crate::parameters::{ParameterError, Parameters};
use crate::range::MINORITY_OF_PAIRS;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::{Distances, RowStatistics};

/// Shejwalkar and Houmansadr 2021, Algorithm 2: per iteration a random sample of the coordinates, in which the
/// ⌊c·f⌋ rows that reach farthest along the top right singular vector of the centred rows are dropped; the mean of the
/// rows that no iteration dropped. Ties (1e-12) keep the lowest row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DivideAndConquer {
    /// *f*.
    pub byzantine: usize,
    /// *c*, dropped rows per bad row.
    pub filter: f64,
    /// Samples drawn.
    pub iterations: usize,
    /// *b*, expected coordinates of a sample; as many as there are or more takes all.
    pub coordinates: usize,
}

const FILTER: &str = "c, the rows to drop per bad row, a number above 0";
const ITERATIONS: &str = "the number of samples, a whole number from 1 to 100";
/// Most of them: more would only take time.
const MOST_ITERATIONS: usize = 100;
const COORDINATES: &str = "b, the coordinates of a sample, a whole number of at least 1";
const DEFAULT_FILTER: f64 = 1.0;
const DEFAULT_ITERATIONS: usize = 5;
const DEFAULT_COORDINATES: usize = 10_000;

impl DivideAndConquer {
    /// c·f.
    #[allow(clippy::cast_precision_loss, reason = "checked against row counts, which are far below 2^53")]
    fn dropped(&self) -> f64 {
        self.filter * self.byzantine as f64
    }
}

impl Rule for DivideAndConquer {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    fn check(&self, rows: usize) -> Result<(), RuleError> {
        let (kind, byzantine) = (self.kind(), self.byzantine);
        check_eigen_rows(kind, rows)?;
        MINORITY_OF_PAIRS.check(kind, rows, byzantine)?;
        if byzantine > 0 && self.dropped() < 1.0 {
            let (value, expected) = (self.filter.to_string(), format!("at least {}", 1.0 / byzantine as f64));
            return Err(RuleError::Parameter { kind, key: "filter", value, rows, byzantine, expected });
        }
        // Else the iterations could drop every row.
        if self.dropped() * (self.iterations as f64) < rows as f64 {
            return Ok(());
        }
        let expected = format!("such that filter · byzantine · iterations < {rows}");
        let value = format!("{} with filter = {}", self.iterations, self.filter);
        Err(RuleError::Parameter { kind, key: "iterations", value, rows, byzantine, expected })
    }

    fn needs(&self) -> Needs {
        let samples = Samples { count: self.iterations, coordinates: self.coordinates };
        Needs { samples: Some(samples), ..Needs::NOTHING }
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let mut kept =
            Kept { rows: vec![true; rows], measured: vec![true; rows], scores: vec![0.0; rows], second: 0.0 };
        // Samples of all coordinates are one.
        for sample in 0..self.iterations.min(statistics.sample_count().max(1)) {
            let what = "squared distances over samples";
            let distances = statistics.sample(sample).ok_or(RuleError::NotObserved { kind: self.kind(), what })?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be less than n")]
            kept.filter(distances, self.dropped() as usize);
        }
        let selected: Vec<usize> = (0..rows).filter(|&row| kept.rows[row]).collect();
        if selected.is_empty() {
            let why = "every row was dropped in one of the iterations; lower filter or iterations";
            return Err(RuleError::AllRejected { kind: self.kind(), rows, why });
        }
        let plan = mean_of(rows, selected, weights.as_slice(), |row| kept.measured[row])?;
        Ok(plan.with_scores(kept.scores).note("second over largest eigenvalue", kept.second).into())
    }
}

/// What the iterations have left.
struct Kept {
    rows: Vec<bool>,
    measured: Vec<bool>,
    /// The largest squared projection over the iterations.
    scores: Vec<f64>,
    /// The second over the largest eigenvalue where they were closest.
    second: f64,
}

impl Kept {
    /// Drops `count` rows; rows beyond f64 reach farthest and are among them.
    fn filter(&mut self, distances: Distances<'_>, count: usize) {
        let measured = measurable(distances, self.rows.len());
        let members: Vec<usize> = (0..measured.len()).filter(|&row| measured[row]).collect();
        let principal = principal(distances, &members, &vec![1.0; members.len()], &[]);
        let left = members.len().min(self.rows.len() - count);
        let mut stays = vec![false; self.rows.len()];
        least(&principal.projections2, left).into_iter().for_each(|at| stays[members[at]] = true);
        let mut projections2 = vec![f64::INFINITY; self.rows.len()];
        members.iter().zip(&principal.projections2).for_each(|(&row, value)| projections2[row] = *value);
        for row in 0..self.rows.len() {
            self.rows[row] &= stays[row];
            self.measured[row] &= measured[row];
            self.scores[row] = self.scores[row].max(projections2[row]);
        }
        self.second = self.second.max(principal.second);
    }
}

impl Definition for DivideAndConquer {
    const INFO: RuleInfo = RuleInfo {
        kind: "dnc",
        name: "DnC",
        definition: "mean of the rows that are never among the ⌊c·f⌋ farthest along the top singular vector of a \
                     random sample of the coordinates",
        formula: "Σ_{i ∈ K} xᵢ / |K|, K = ∩ₜ Kₜ, Kₜ the n−⌊c·f⌋ rows of least ⟨vₜ, xᵢ − x̄⟩²",
        parameters: &[
            BYZANTINE_INFO,
            ParameterInfo {
                key: "filter",
                meaning: "c, rows to drop per bad row in each iteration",
                range: FILTER,
                default: Some("1"),
                example: None,
            },
            ParameterInfo {
                key: "iterations",
                meaning: "samples drawn",
                range: ITERATIONS,
                default: Some("5"),
                example: None,
            },
            ParameterInfo {
                key: "coordinates",
                meaning: "b, expected coordinates of a sample; as many as there are or more takes all",
                range: COORDINATES,
                default: Some("10000"),
                example: None,
            },
        ],
        range: "2f < n, c·f·iterations < n, n ≤ 1024",
        breakdown: "heuristic",
        bound: "none",
        cost: "n²b/2 for the distances and n³ per iteration, then one read",
        source: "Shejwalkar and Houmansadr 2021, Algorithm 2",
        fails: &[
            "a row that is huge in a few coordinates escapes samples that miss them",
            "it drops honest rows in every iteration, and different ones where fewer than f are bad",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self {
            byzantine: required_byzantine(parameters)?,
            filter: parameters.number("filter", FILTER, |value| value > 0.0)?.unwrap_or(DEFAULT_FILTER),
            iterations: parameters
                .count_within("iterations", ITERATIONS, 1..=MOST_ITERATIONS)?
                .unwrap_or(DEFAULT_ITERATIONS),
            coordinates: parameters.count_from("coordinates", COORDINATES, 1)?.unwrap_or(DEFAULT_COORDINATES),
        })
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine, ..self.clone() }
    }

    fn describe(&self) -> String {
        let Self { byzantine, filter, iterations, coordinates } = self;
        format!("byzantine = {byzantine}, filter = {filter}, iterations = {iterations}, coordinates = {coordinates}")
    }
}

const _: () = assert!(MAX_EIGEN_ROWS == 1024, "the catalogue says so");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Aggregate, Inputs, aggregate, aggregate_inputs};
    use crate::verdict::{RowReason, Verdict};

    fn full(byzantine: usize) -> DivideAndConquer {
        DivideAndConquer { byzantine, filter: 1.0, iterations: 1, coordinates: 1_000_000 }
    }

    fn run(rule: &DivideAndConquer, rows: &[&[f64]]) -> Aggregate<f64> {
        aggregate(rule, rows, None, None).unwrap()
    }

    #[test]
    fn the_farthest_along_the_top_direction_is_dropped_not_the_farthest() {
        // Variance 2·25 along x, 2·26.01/… along y is less: the row (0, 5.1) is farthest, but not along x.
        let rows: [&[f64]; 5] = [&[5.0, 0.0], &[-5.5, 0.0], &[0.0, 5.1], &[0.25, -2.5], &[0.25, -2.6]];
        let result = run(&full(1), &rows);
        assert_eq!(result.selected, [0, 2, 3, 4]);
        let scores = result.scores.unwrap();
        assert!((scores[1] - 5.5 * 5.5).abs() < 0.2 && scores[2] < 0.2, "{scores:?}");
        assert!(result.output[0] == 5.5 / 4.0 && result.output[1].abs() < 1e-15);
    }

    #[test]
    fn copies_are_ties_and_the_lowest_stays() {
        // Mean 1.5 (six at 0, two at 6): the copies reach 4.5, one of them stays.
        let rows: [&[f64]; 8] = [&[0.0], &[6.0], &[0.0], &[0.0], &[6.0], &[0.0], &[0.0], &[0.0]];
        assert_eq!(run(&full(1), &rows).selected, [0, 1, 2, 3, 5, 6, 7]);
        // −1 and 1 are equally far: the same tie without copies.
        assert_eq!(run(&full(1), &[&[-1.0], &[1.0], &[0.0]]).selected, [0, 2]);
    }

    #[test]
    fn iterations_intersect_and_must_leave_a_row() {
        let rule = DivideAndConquer { byzantine: 1, filter: 1.5, iterations: 3, coordinates: 4 };
        assert!(rule.check(5).is_ok());
        let message = rule.check(4).unwrap_err().to_string();
        assert!(message.contains("filter · byzantine · iterations < 4"), "{message}");
        // Row 0 is far in coordinates 0..32, row 1 in the rest: samples of half the coordinates see both.
        let value = |row: usize, c: usize| match row {
            0 if c < 32 => 50.0,
            1 if c >= 32 => 60.0,
            _ => ((row * 7 + c * 3) % 5) as f64,
        };
        let rows: Vec<Vec<f64>> = (0..12).map(|row| (0..64).map(|c| value(row, c)).collect()).collect();
        let views: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let rule = DivideAndConquer { byzantine: 2, filter: 1.0, iterations: 4, coordinates: 32 };
        let first = aggregate_inputs(&rule, &Inputs { seed: 1, ..Inputs::new(&views) }).unwrap();
        assert!(!first.selected.contains(&0) && !first.selected.contains(&1), "{:?}", first.selected);
        assert!(first.output.iter().all(|value| (0.0..5.0).contains(value)));
        // Another seed, another sample.
        let scores = |seed| aggregate_inputs(&rule, &Inputs { seed, ..Inputs::new(&views) }).unwrap().scores;
        assert_eq!(scores(1), first.scores);
        assert_ne!(scores(2), first.scores);
    }

    #[test]
    fn samples_of_all_coordinates_are_measured_once() {
        let rows: [&[f64]; 12] =
            [&[0.0], &[1.0], &[2.0], &[3.0], &[4.0], &[5.0], &[6.0], &[7.0], &[8.0], &[9.0], &[10.0], &[99.0]];
        let five = DivideAndConquer { iterations: 5, ..full(1) };
        assert_eq!(run(&five, &rows).selected, run(&full(1), &rows).selected);
        assert_eq!(run(&five, &rows).output, [5.0]);
    }

    #[test]
    fn rows_beyond_f64_are_among_the_dropped() {
        let result = run(&full(2), &[&[1e200], &[0.0], &[1.0], &[-1e200], &[2.0]]);
        assert_eq!((result.selected, result.output), (vec![1, 2, 4], vec![1.0]));
        assert_eq!(result.verdicts[0], Verdict::Rejected { reason: RowReason::Magnitude });
        assert_eq!(result.scores.unwrap()[3], f64::INFINITY);
        assert_eq!(run(&full(1), &[[3.0, 0.1].as_slice(); 3]).output, [3.0, 0.1]);
        assert_eq!(run(&full(0), &[&[3.0]]).output, [3.0]);
    }
}
