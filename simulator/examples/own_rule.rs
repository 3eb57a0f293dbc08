//! A rule of your own: the mean of the updates that are no longer than the median length.

use testudo_aggregate::{Combine, Decision, Needs, Plan, RowReason, RowStatistics, Rule, RuleError, Verdict, Weights};
use testudo_simulator::attacks;
use testudo_simulator::data::digits;
use testudo_simulator::federation::Federation;
use testudo_simulator::workload::WorkloadConfig;

#[derive(Debug)]
struct ShorterHalf;

impl Rule for ShorterHalf {
    fn kind(&self) -> &'static str {
        "shorter_half"
    }

    fn byzantine(&self) -> usize {
        0
    }

    fn check(&self, _rows: usize) -> Result<(), RuleError> {
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs::NORMS
    }

    fn decide(&self, statistics: &RowStatistics, _: &Weights) -> Result<Decision, RuleError> {
        let missing = RuleError::NotObserved { kind: self.kind(), what: "the rows' lengths" };
        let lengths = statistics.norms2().ok_or(missing)?;
        let mut sorted = lengths.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[(sorted.len() - 1) / 2];
        let weights: Vec<f64> = lengths.iter().map(|length| f64::from(u8::from(*length <= median))).collect();
        let rejected = Verdict::Rejected { reason: RowReason::Magnitude };
        let verdict = |weight: &f64| if *weight > 0.0 { Verdict::Accepted } else { rejected };
        let plan = Plan {
            verdicts: weights.iter().map(verdict).collect(),
            selected: (0..weights.len()).filter(|&row| weights[row] > 0.0).collect(),
            combine: Combine::WeightedSum { divisor: weights.iter().sum(), weights },
            scores: Some(lengths),
            mixing: None,
            among: None,
            notes: Vec::new(),
            memory: None,
            degenerate: None,
        };
        Ok(plan.into())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let federation = Federation::new(&digits::load(), 360, &WorkloadConfig::parse("mlp")?, 20, 4, 1)?;
    for attack in ["none", "sign_flip", "ipm:0.5", "adaptive"] {
        let outcome = federation.run(&ShorterHalf, &attacks::parse(attack)?, 20)?;
        println!("{attack:14} {:.1} %", 100.0 * outcome.accuracy[20]);
    }
    Ok(())
}
