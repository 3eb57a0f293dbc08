//! The geometric median by smoothed Weiszfeld steps.

use serde::Serialize;

use super::{Definition, distances};
use crate::catalogue::{DECLARED_INFO, ParameterInfo, RuleInfo, declared_byzantine};
use crate::needs::Needs;
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::MINORITY_OF_PAIRS;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{RowStatistics, Spread};
use crate::verdict::{RowReason, Verdict};

mod weiszfeld;

use weiszfeld::Weiszfeld;

/// Pillutla et al. 2022, Algorithm 2: z ← Σ βᵢxᵢ / Σ βᵢ with βᵢ = wᵢ / max(ν, ‖xᵢ − z‖).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GeometricMedian {
    /// *f*: only checked, the geometric median does not depend on it. Default 0: none declared.
    pub byzantine: usize,
    /// The first iterate.
    pub start: Start,
    /// ν, the distance below which rows count as if they were so far away.
    pub nu: f64,
    /// Most steps.
    pub steps: usize,
    /// Relative change of the objective at which the steps end; 0: exactly `steps` steps.
    pub tolerance: f64,
}

/// The first iterate of the geometric median.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The weighted mean of the rows. With a tolerance, and rows a million times as far away as others, the mean of the
    /// half nearest to the most central row where the objective is lower there: such rows must not cost the steps.
    #[default]
    Mean,
    /// The origin, as in ByzFL, a compatibility mode.
    Zero,
}

impl Default for GeometricMedian {
    fn default() -> Self {
        Self { byzantine: 0, start: Start::Mean, nu: 1e-6, steps: 100, tolerance: 1e-10 }
    }
}

impl Rule for GeometricMedian {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        self.byzantine
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY_OF_PAIRS.check(self.kind(), rows, self.byzantine)
    }

    fn needs(&self) -> Needs {
        Needs::NEAR_PAIR_DISTANCES
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let (kind, rows) = (self.kind(), statistics.rows());
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(kind, self.byzantine)?;
        let framed = statistics.refinement().and_then(|refinement| refinement.frame.as_ref());
        let reference = match framed {
            Some(frame) => frame.reference(),
            None => central(kind, statistics, weights.as_slice())?,
        };
        let gram = match statistics.gram(reference, Spread::Far) {
            None => return Err(RuleError::NotObserved { kind, what: "squared distances" }),
            Some(Err(frame)) => return Ok(Decision::refine(Needs::PAIR_DISTANCES, frame, rows)),
            Some(Ok(gram)) => gram,
        };
        let far = |row: usize| gram.is_infinite(row);
        let weights: Vec<f64> =
            weights.as_slice().iter().enumerate().map(|(row, w)| if far(row) { 0.0 } else { *w }).collect();
        let near = (0..rows).filter(|&row| !far(row)).count();
        // Without a majority near one another no row is nearer to the truth than another.
        if 2 * near <= rows || weights.iter().all(|weight| *weight == 0.0) {
            return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
        }
        let found = Weiszfeld { rule: self, gram: &gram, weights }.run();
        if statistics.are_near() && !found.is_even() {
            return Ok(Decision::look_closer(Needs::PAIR_DISTANCES, rows));
        }
        let magnitude = Verdict::Rejected { reason: RowReason::Magnitude };
        let verdicts = (0..rows).map(|row| if far(row) { magnitude } else { Verdict::Accepted }).collect();
        let combine = Combine::WeightedSum { divisor: found.weights.iter().sum(), weights: found.weights };
        let plan = Plan::new(verdicts, combine).with_scores(found.distances);
        Ok(plan.note("steps", found.steps).note("residual", found.residual).into())
    }
}

/// The row of least weighted sum of distances to the others; the reference point, so that distances from points near
/// it are exact. Rows beyond f64 of fewer others come first.
fn central(kind: &'static str, statistics: &RowStatistics, weights: &[f64]) -> Result<usize, RuleError> {
    let (distances, rows) = (distances(kind, statistics)?, statistics.rows());
    let key = |row: usize| {
        let (mut beyond, mut sum) = (0_usize, 0.0);
        for (other, weight) in weights.iter().enumerate() {
            let distance = distances.distance2(row, other).sqrt();
            if distance.is_finite() { sum += weight * distance } else { beyond += 1 }
        }
        (row, beyond, sum)
    };
    let keys = (0..rows).map(key).min_by(|a, b| a.1.cmp(&b.1).then(a.2.total_cmp(&b.2)));
    Ok(keys.map_or(0, |(row, ..)| row))
}

const START: &str = "\"mean\" or \"zero\"";
const NU: &str = "a small distance on the scale of the updates, a number above 0";
const STEPS: &str = "the most steps, a whole number from 1 to 10,000";
/// Most of them: more would only take time.
const MOST_STEPS: usize = 10_000;
const TOLERANCE: &str = "a relative change of the objective, a number of at least 0; 0 takes all steps";

const fn info(key: &'static str, meaning: &'static str, range: &'static str, default: &'static str) -> ParameterInfo {
    ParameterInfo { key, meaning, range, default: Some(default), example: None }
}

impl Definition for GeometricMedian {
    const INFO: RuleInfo = RuleInfo {
        kind: "geometric_median",
        name: "geometric median",
        definition: "the point of least weighted sum of distances to the rows, by smoothed Weiszfeld steps",
        formula: "z ← Σ βᵢxᵢ / Σ βᵢ, βᵢ = wᵢ / max(ν, ‖xᵢ − z‖), until the objective Σ wᵢ‖xᵢ − z‖ changes by at most \
                  the tolerance",
        parameters: &[
            DECLARED_INFO,
            info("start", "the first iterate; \"zero\" reproduces ByzFL", START, "\"mean\""),
            info("nu", "ν, the distance below which weights stop growing", NU, "1e-6"),
            info("steps", "most Weiszfeld steps", STEPS, "100"),
            info("tolerance", "relative change of the objective at which to stop", TOLERANCE, "1e-10"),
        ],
        range: "2f < n, ν > 0",
        breakdown: "f < n/2",
        bound: "κ = 4(1+ρ)² at convergence",
        cost: "n²d/2 for the distances (twice where they are uneven), n² per step, then nd",
        source: "Pillutla et al. 2022 (arXiv 1912.13445), Algorithm 2",
        fails: &[
            "started at zero with few steps it is not translation invariant: moved by 1000 the error is 6.77, not 1.96",
            "ν lives on the scale of the updates: above their spread the result is the mean",
            "on heterogeneous clients it leans to the densest group",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        let default = Self::default();
        let choices = [("mean", Start::Mean), ("zero", Start::Zero)];
        Ok(Self {
            byzantine: declared_byzantine(parameters)?,
            start: parameters.choice("start", START, &choices)?.unwrap_or_default(),
            nu: parameters.number("nu", NU, |value| value > 0.0)?.unwrap_or(default.nu),
            steps: parameters.count_within("steps", STEPS, 1..=MOST_STEPS)?.unwrap_or(default.steps),
            tolerance: parameters.number("tolerance", TOLERANCE, |value| value >= 0.0)?.unwrap_or(default.tolerance),
        })
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        Self { byzantine, ..self.clone() }
    }

    fn describe(&self) -> String {
        let default = Self::default();
        let mut words = format!("byzantine = {}", self.byzantine);
        if self.start == Start::Zero {
            words += ", start = zero";
        }
        if self.nu.to_bits() != default.nu.to_bits() {
            words += &format!(", nu = {:e}", self.nu);
        }
        if self.steps != default.steps {
            words += &format!(", steps = {}", self.steps);
        }
        if self.tolerance.to_bits() != default.tolerance.to_bits() {
            words += &format!(", tolerance = {:e}", self.tolerance);
        }
        words
    }
}

#[cfg(test)]
mod tests;
