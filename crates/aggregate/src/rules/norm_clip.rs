//! Norm clipping: the mean of shortened rows.

use serde::Serialize;

use super::{Definition, norms};
use crate::catalogue::{ParameterInfo, RuleInfo, required_positive};
use crate::needs::Needs;
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::pre::{RADIUS, clip_factor};
use crate::range::ANY;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::series::exp;
use crate::statistics::RowStatistics;
use crate::verdict::{RowReason, Verdict};

/// The mean of xᵢ · min(1, c/‖xᵢ‖), with weights the weighted mean. A row whose length is beyond f64 counts as a zero
/// row, and says so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NormClip {
    /// Where c comes from.
    #[serde(flatten)]
    pub bound: Bound,
}

/// The length rows are clipped to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Bound {
    /// The same in every round.
    Radius {
        /// *c*.
        radius: f64,
    },
    /// A running quantile of the rows' lengths, Andrew et al. 2021, Algorithm 1: after every round
    /// c ← c · exp(−rate · (share of rows with length ≤ c − quantile)). The first round starts at the quantile of its
    /// own lengths.
    Quantile {
        /// The share of rows to leave unclipped.
        quantile: f64,
        /// How fast c follows.
        rate: f64,
    },
}

const QUANTILE: &str =
    "the share of rows to leave unclipped, a number above 0 and below 1; then c follows the rows' lengths";
const RATE: &str = "how fast c follows, a number above 0";
const DEFAULT_RATE: f64 = 0.2;

impl Rule for NormClip {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    fn byzantine(&self) -> usize {
        0
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        ANY.check(self.kind(), rows, 0)
    }

    fn needs(&self) -> Needs {
        Needs::NORMS
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let (kind, rows) = (self.kind(), statistics.rows());
        self.check(rows)?;
        weights.check_count(rows)?;
        let mut norms = norms(kind, statistics)?;
        norms.truncate(rows);
        if norms.iter().all(|norm| norm.is_infinite()) {
            return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
        }
        let (radius, memory) = self.bound.radii(&norms, statistics.memory());
        let factors: Vec<f64> = norms.iter().map(|&norm| clip_factor(norm, radius)).collect();
        let verdicts = factors.iter().zip(&norms).map(|(&factor, norm)| verdict(factor, norm.is_finite())).collect();
        let clipped = weights.as_slice().iter().zip(&factors).map(|(weight, factor)| weight * factor).collect();
        let combine = Combine::WeightedSum { weights: clipped, divisor: weights.sum() };
        let plan = Plan { memory, ..Plan::new(verdicts, combine) };
        Ok(plan.note("radius", radius).note("unclipped", share(&norms, radius)).into())
    }
}

/// What is said of a row after clipping.
pub(super) fn verdict(factor: f64, measurable: bool) -> Verdict {
    match factor {
        _ if !measurable => Verdict::Rejected { reason: RowReason::Magnitude },
        1.0 => Verdict::Accepted,
        factor => Verdict::Clipped { factor },
    }
}

/// The share of rows not longer than `radius`.
#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn share(norms: &[f64], radius: f64) -> f64 {
    norms.iter().filter(|norm| **norm <= radius).count() as f64 / norms.len() as f64
}

impl Bound {
    /// The radius of this round, and what to remember for the next.
    fn radii(self, norms: &[f64], memory: Option<f64>) -> (f64, Option<f64>) {
        match self {
            Self::Radius { radius } => (radius, None),
            Self::Quantile { quantile, rate } => {
                let usable = |radius: &f64| radius.is_finite() && *radius > 0.0;
                let radius = memory.filter(usable).unwrap_or_else(|| quantile_of(norms, quantile));
                let next = radius * exp(-rate * (share(norms, radius) - quantile));
                // A radius of 0 (nothing but zero rows yet) could never grow again: the next round starts anew.
                (radius, Some(next).filter(usable).or(Some(radius).filter(usable)))
            }
        }
    }
}

/// The smallest length that a share `quantile` of the rows does not exceed; lengths beyond f64 are no radius.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "row counts are far below 2^53, and a share of them is not negative"
)]
fn quantile_of(norms: &[f64], quantile: f64) -> f64 {
    let rank = (quantile * norms.len() as f64).ceil() as usize;
    let mut sorted: Vec<f64> = norms.iter().copied().filter(|norm| norm.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[rank.clamp(1, sorted.len()) - 1]
}

impl Definition for NormClip {
    const INFO: RuleInfo = RuleInfo {
        kind: "norm_clip",
        name: "norm clipping",
        definition: "mean of the rows, those longer than c scaled to length c; c fixed or a running quantile",
        formula: "Σ wᵢxᵢ · min(1, c/‖xᵢ‖) / Σ wᵢ",
        parameters: &[
            ParameterInfo {
                key: "radius",
                meaning: "c, on the scale of the updates; or give quantile",
                range: RADIUS,
                default: None,
                example: Some(1.0),
            },
            ParameterInfo {
                key: "quantile",
                meaning: "the share of rows to leave unclipped, instead of radius",
                range: QUANTILE,
                default: Some("none: radius is fixed"),
                example: None,
            },
            ParameterInfo {
                key: "rate",
                meaning: "with quantile: how fast c follows the rows' lengths",
                range: RATE,
                default: Some("0.2"),
                example: None,
            },
        ],
        range: "c > 0; 0 < quantile < 1 and rate > 0",
        breakdown: "none: it limits what a bad row can do, f rows move the aggregate by up to 2cf/n",
        bound: "none",
        cost: "nd for the lengths, then nd",
        source: "Sun et al. 2019 (arXiv 1911.07963); Andrew et al. 2021 (arXiv 1905.03871), Algorithm 1",
        fails: &[
            "it limits, it does not remove: attackers of honest length count in full, in every round",
            "the radius lives on the scale of the updates: with unnormalised momentum it grows as 1/(1−β)",
            "a running quantile follows the attackers where more than a share 1−quantile of the rows is bad",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        if !parameters.holds("quantile") {
            return Ok(Bound::Radius { radius: required_positive(parameters, "radius", RADIUS)? }.into());
        }
        if parameters.holds("radius") {
            let expected = "left out where `radius` is given: both say how long rows may be";
            parameters.number("quantile", expected, |_| false)?;
        }
        let within = |value| 0.0 < value && value < 1.0;
        let Some(quantile) = parameters.number("quantile", QUANTILE, within)? else {
            return Err(parameters.missing("quantile", QUANTILE));
        };
        let rate = parameters.number("rate", RATE, |value| value > 0.0)?.unwrap_or(DEFAULT_RATE);
        Ok(Bound::Quantile { quantile, rate }.into())
    }

    fn lowered(&self, _byzantine: usize, _rows: usize) -> Self {
        self.clone()
    }

    fn describe(&self) -> String {
        match self.bound {
            Bound::Radius { radius } => format!("radius = {radius}"),
            Bound::Quantile { quantile, rate } => format!("quantile = {quantile}, rate = {rate}"),
        }
    }
}

impl From<Bound> for NormClip {
    fn from(bound: Bound) -> Self {
        Self { bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composition::RuleConfig;
    use crate::{Aggregate, AggregateError, Inputs, aggregate_inputs};

    fn run(text: &str, memory: Option<f64>, rows: &[&[f64]]) -> Aggregate<f64> {
        let rule: RuleConfig = toml::from_str(&format!("kind = \"norm_clip\"\n{text}")).unwrap();
        aggregate_inputs(rule.rule(), &Inputs { memory, ..Inputs::new(rows) }).unwrap()
    }

    #[test]
    fn long_rows_are_scaled_to_the_radius_and_count_by_their_weight() {
        let rows: [&[f64]; 3] = [&[3.0, 4.0], &[0.5, 0.0], &[0.0, -1e100]];
        let result = run("radius = 1", None, &rows);
        assert!((result.output[0] - 1.1 / 3.0).abs() < 1e-15 && (result.output[1] + 0.2 / 3.0).abs() < 1e-15);
        assert_eq!(result.verdicts[..2], [Verdict::Clipped { factor: 0.2 }, Verdict::Accepted]);
        let rule = NormClip::from(Bound::Radius { radius: 1.0 });
        let weights = [2.0, 2.0, 0.0];
        let weighted = aggregate_inputs(&rule, &Inputs { weights: Some(&weights), ..Inputs::new(&rows) }).unwrap();
        assert!((weighted.output[0] - 0.55).abs() < 1e-15 && (weighted.output[1] - 0.4).abs() < 1e-15);
    }

    #[test]
    fn a_row_beyond_f64_counts_as_zero_and_all_of_them_are_refused() {
        let rows: [&[f64]; 2] = [&[1e200], &[4.0]];
        let result = run("radius = 8", None, &rows);
        assert_eq!((result.output[0], result.verdicts[0]), (2.0, Verdict::Rejected { reason: RowReason::Magnitude }));
        let rule = NormClip::from(Bound::Radius { radius: 1.0 });
        let error = aggregate_inputs(&rule, &Inputs::new(&rows[..1])).unwrap_err();
        assert!(matches!(error, AggregateError::Rule(RuleError::AllRejected { .. })));
        let huge: [&[f32]; 2] = [&[1e30], &[1.0]];
        assert_eq!(aggregate_inputs(&rule, &Inputs::new(&huge)).unwrap().output, [1.0]);
    }

    #[test]
    fn the_running_radius_starts_at_the_quantile_and_follows_it() {
        let rows: [&[f64]; 4] = [&[1.0], &[2.0], &[3.0], &[40.0]];
        let first = run("quantile = 0.5\nrate = 1", None, &rows);
        assert_eq!((first.notes[0].value, first.memory), (2.0, Some(2.0)));
        assert_eq!(first.output, [1.75]);
        // Of three lengths up to 10 a share of 3/4 is within: too many by 1/4.
        let next = run("quantile = 0.5\nrate = 1", Some(10.0), &rows);
        assert_eq!((next.notes[0].value, next.notes[1].value), (10.0, 0.75));
        assert!((next.memory.unwrap() - 10.0 * (-0.25_f64).exp()).abs() < 1e-14);
        let mut radius = 1e-3;
        for _ in 0..200 {
            radius = run("quantile = 0.7", Some(radius), &rows).memory.unwrap();
        }
        assert!((2.7..3.5).contains(&radius), "{radius}");
    }

    #[test]
    fn a_radius_of_zero_is_forgotten_and_bad_memory_is_not_used() {
        let zero: [&[f64]; 2] = [&[0.0], &[0.0]];
        let result = run("quantile = 0.5", None, &zero);
        assert_eq!((result.output[0], result.memory), (0.0, None));
        let rows: [&[f64]; 2] = [&[1.0], &[2.0]];
        for memory in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert_eq!(run("quantile = 0.5", Some(memory), &rows).notes[0].value, 1.0);
        }
        assert_eq!(run("quantile = 0.5\nrate = 1e9", Some(1e-300), &rows).memory, Some(1e-300));
    }

    #[test]
    fn radius_and_quantile_exclude_each_other() {
        let refuse = |text: &str| {
            toml::from_str::<RuleConfig>(&format!("kind = \"norm_clip\"\n{text}")).unwrap_err().to_string()
        };
        assert!(refuse("radius = 1\nquantile = 0.5").contains("left out where `radius` is given"));
        assert!(refuse("").contains("`radius` is missing"));
        assert!(refuse("radius = 1\nrate = 1").contains("unknown key `rate`"));
        assert!(refuse("quantile = 1").contains("`quantile` is 1"));
    }
}
