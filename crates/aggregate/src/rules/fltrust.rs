//! FLTrust: rows weighed by their agreement with a trusted update.

use serde::Serialize;

use super::Definition;
use crate::catalogue::RuleInfo;
use crate::needs::{Anchor, Extras, Needs};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::ANY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;
use crate::verdict::{RowReason, Verdict};

/// Cao et al. 2021, Algorithm 2: every row is brought to the length of the trusted update g and weighed by
/// max(0, cos(xᵢ, g)). Where g is zero or no row agrees with it the update is zero and must not be released. Unweighted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FlTrust {}

/// The only extra row.
const REFERENCE: Anchor = Anchor::Extra(0);

impl Rule for FlTrust {
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
        Needs { extras: Extras { reference: true, ..Extras::default() }, ..Needs::from_point(REFERENCE) }
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        let not_observed = |what| RuleError::NotObserved { kind: self.kind(), what };
        if statistics.extras() == 0 {
            return Err(not_observed("a reference"));
        }
        let reference = REFERENCE.point(rows);
        let column = match statistics.column(REFERENCE) {
            None => return Err(not_observed("distances from the reference")),
            Some(Err(frame)) => return Ok(Decision::refine(self.needs(), frame, rows)),
            Some(Ok(column)) => column,
        };
        let length = column.length(reference);
        let mut trust = vec![0.0; rows];
        let mut weights = vec![0.0; rows + statistics.extras()];
        let mut verdicts = Vec::with_capacity(rows);
        for row in 0..rows {
            let factor = length / column.length(row);
            let cosine = column.cosine(row);
            // A factor that is not finite belongs to a row too short to have a direction.
            let usable = cosine > 0.0 && factor.is_finite() && factor > 0.0;
            verdicts.push(match usable {
                true if factor < 1.0 => Verdict::Clipped { factor },
                true => Verdict::Accepted,
                false if column.is_infinite(row) => Verdict::Rejected { reason: RowReason::Magnitude },
                false => Verdict::Rejected { reason: RowReason::NotSelected },
            });
            if usable {
                trust[row] = cosine;
                weights[row] = cosine * factor;
            }
        }
        let divisor: f64 = trust.iter().sum();
        let degenerate = match divisor > 0.0 {
            true => None,
            false if length == 0.0 => Some("the trusted update is zero".to_owned()),
            false if column.is_infinite(reference) => Some("the trusted update is beyond f64".to_owned()),
            false => Some("no row agrees with the trusted update".to_owned()),
        };
        let divisor = if degenerate.is_some() { 1.0 } else { divisor };
        let plan = Plan::new(verdicts, Combine::WeightedSum { weights, divisor }).with_scores(trust);
        Ok(Plan { degenerate, ..plan }.into())
    }
}

impl Definition for FlTrust {
    const INFO: RuleInfo = RuleInfo {
        kind: "fltrust",
        name: "FLTrust",
        definition: "mean of the rows brought to the length of a trusted update, weighed by their cosine with it where \
                     that is positive",
        formula: "Σ tᵢ (‖g‖/‖xᵢ‖) xᵢ / Σ tᵢ, tᵢ = max(0, cos(xᵢ, g))",
        parameters: &[],
        range: "n ≥ 1; a finite trusted update",
        breakdown: "any number of bad rows, if the data behind the trusted update match the clients'",
        bound: "none",
        cost: "nd for lengths and distances, then nd",
        source: "Cao et al. 2021, Algorithm 2",
        fails: &[
            "where the trusted data are not like the clients' the aggregate follows the trusted data",
            "rows at a right angle to the trusted update, new directions of honest clients too, count nothing",
            "a zero trusted update, or one that no row agrees with, ends the round without an update",
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
mod tests {
    use super::*;
    use crate::aggregate::{Aggregate, Inputs, aggregate_inputs};
    use crate::element::Element;

    fn run<T: Element>(rows: &[&[T]], reference: &[T]) -> Aggregate<T> {
        aggregate_inputs(&FlTrust {}, &Inputs { extras: &[reference], ..Inputs::new(rows) }).unwrap()
    }

    #[test]
    fn rows_count_by_their_cosine_at_the_length_of_the_reference() {
        let result = run::<f64>(&[&[4.0, 0.0], &[3.0, 4.0], &[-1.0, 0.0], &[0.0, 9.0], &[0.0, 0.0]], &[2.0, 0.0]);
        assert_eq!(result.scores, Some(vec![1.0, 0.6, 0.0, 0.0, 0.0]));
        // (1·(2, 0) + 0.6·(1.2, 1.6)) / 1.6.
        assert!((result.output[0] - 1.7).abs() < 1e-15 && (result.output[1] - 0.6).abs() < 1e-15);
        assert_eq!(result.verdicts[0], Verdict::Clipped { factor: 0.5 });
        assert_eq!(result.verdicts[2], Verdict::Rejected { reason: RowReason::NotSelected });
        assert_eq!(result.degenerate, None);
    }

    #[test]
    fn without_trust_the_update_is_zero_and_marked() {
        for (reference, why) in [([0.0, 0.0], "is zero"), ([1.0, 0.0], "no row agrees")] {
            let result = run::<f32>(&[&[-1.0, 5.0], &[-2.0, 0.0]], &reference);
            assert_eq!(result.output, [0.0, 0.0]);
            assert!(result.degenerate.unwrap().contains(why));
        }
    }

    #[test]
    fn far_and_tiny_rows_keep_their_directions() {
        let rows: [&[f32]; 3] = [&[0.6e30, 0.8e30], &[1e-30, 0.0], &[0.0, 1.0]];
        let result = run(&rows, &[1.0, 0.0]);
        let trust = result.scores.unwrap();
        assert!((trust[0] - 0.6).abs() < 1e-7 && trust[1] == 1.0 && trust[2] == 0.0, "{trust:?}");
        assert!((result.output[0] - 0.85).abs() < 1e-6 && (result.output[1] - 0.3).abs() < 1e-6);
        // The squares' product would leave f64's range.
        let long: [&[f64]; 2] = [&[0.6e100, 0.8e100], &[1e100, 0.0]];
        let trust = run(&long, &[1e100, 0.0]).scores.unwrap();
        assert!((trust[0] - 0.6).abs() < 1e-15 && (trust[1] - 1.0).abs() < 1e-15, "{trust:?}");
        let wide: [&[f64]; 4] = [&[1e200, 1e200], &[1e-161, 1e-161], &[2.0, 1.0], &[1e120, 0.0]];
        let result = run(&wide, &[1.0, 0.0]);
        let trust = result.scores.unwrap();
        assert_eq!(result.verdicts[0], Verdict::Rejected { reason: RowReason::Magnitude });
        assert!((trust[1] - 0.5_f64.sqrt()).abs() < 1e-6, "{trust:?}");
        assert!((trust[2] - 0.8_f64.sqrt()).abs() < 1e-15, "{trust:?}");
        assert!(result.output.iter().all(|value| value.abs() <= 1.0));
    }
}
