//! MeaMed: the mean around the median.

use serde::Serialize;

use super::Definition;
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::centre::Centre;
use crate::plan::{Combine, Plan};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Xie et al. 2018: per coordinate the mean of the n−f values nearest to the median. Of two equally near values the
/// lower one is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Meamed {
    /// *f*: values left out.
    pub byzantine: usize,
}

impl Rule for Meamed {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY.check(self.kind(), rows, self.byzantine)
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        let keep = rows - self.byzantine;
        Ok(Plan::accepting(rows, Combine::MeanAround { centre: Centre::Median, keep }).into())
    }
}

impl Definition for Meamed {
    const INFO: RuleInfo = RuleInfo {
        kind: "meamed",
        name: "mean around the median",
        definition: "per coordinate the mean of the n−f values nearest to the median",
        formula: "1/(n−f) · Σ_{i ∈ Nⱼ} xᵢⱼ for every coordinate j, Nⱼ the n−f values nearest to median(x₁ⱼ, …, xₙⱼ)",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "bounded, no published κ; worst ratio seen at n = 9, f = 4: 13.0, the weakest of the coordinate rules",
        cost: "nd, one read; up to 2f+2 ranks per coordinate",
        source: "Xie et al. 2018 (arXiv 1802.10116), MeaMed",
        fails: &[
            "it falls to 71 % on IID digits under Min-Sum",
            "up to f values as far off as the farthest honest value it keeps stay in: the trimmed mean is the better \
             choice almost always",
        ],
    };

    byzantine_alone!();
}

#[cfg(test)]
mod tests {
    use crate::aggregate;
    use crate::composition::RuleConfig;

    fn run(byzantine: usize, values: &[f64]) -> f64 {
        let rows: Vec<&[f64]> = values.chunks(1).collect();
        aggregate(RuleConfig::with_byzantine("meamed", byzantine).unwrap().rule(), &rows, None, None).unwrap().output[0]
    }

    #[test]
    fn the_values_nearest_to_the_median_are_averaged_and_the_lower_of_two_is_kept() {
        // Median 4, then 3, 5 and so on.
        assert_eq!(run(2, &[5.0, 100.0, 3.0, 4.0, 1.0]), 4.0);
        assert_eq!(run(2, &[5.0, 100.0, 3.0, 1.0, -100.0]), 3.0);
        assert_eq!(run(1, &[2.0, 4.0, 6.0]), 3.0);
        // Even: around the average of the middle two.
        assert_eq!(run(1, &[0.0, 4.0, 6.0, 20.0]), 10.0 / 3.0);
    }

    #[test]
    fn without_byzantine_it_is_the_mean_and_huge_values_are_left_out() {
        assert_eq!(run(0, &[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(run(0, &[7.0]), 7.0);
        assert_eq!(run(2, &[1e200, 1.0, 2.0, 3.0, -1e200]), 2.0);
        assert_eq!(run(1, &[f64::MAX, f64::MIN, 0.0]), f64::MIN / 2.0);
    }
}
