//! Phocas: the mean around the trimmed mean.

use serde::Serialize;

use super::Definition;
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::centre::Centre;
use crate::plan::{Combine, Plan};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Xie et al. 2018: per coordinate the mean of the n−f values nearest to the trimmed mean. Of two equally near values
/// the lower one is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phocas {
    /// *f*: values left out.
    pub byzantine: usize,
}

impl Rule for Phocas {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY.check(self.kind(), rows, self.byzantine)
    }

    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        let keep = rows - self.byzantine;
        let centre = Centre::TrimmedMean { cut: self.byzantine };
        Ok(Plan::accepting(rows, Combine::MeanAround { centre, keep }).into())
    }
}

impl Definition for Phocas {
    const INFO: RuleInfo = RuleInfo {
        kind: "phocas",
        name: "mean around the trimmed mean",
        definition: "per coordinate the mean of the n−f values nearest to the trimmed mean",
        formula: "1/(n−f) · Σ_{i ∈ Nⱼ} xᵢⱼ for every coordinate j, Nⱼ the n−f values nearest to their trimmed mean with cut f",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "bounded, no published κ",
        cost: "nd, one read; up to 2f+2 ranks per coordinate",
        source: "Xie et al. 2018 (arXiv 1805.09682), Phocas",
        fails: &[
            "values inside the honest spread stay in, as with every rule by coordinates: ALIE and Min-Max",
            "up to f values as far off as the farthest honest value it keeps stay in",
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
        aggregate(RuleConfig::with_byzantine("phocas", byzantine).unwrap().rule(), &rows, None, None).unwrap().output[0]
    }

    #[test]
    fn the_values_nearest_to_the_trimmed_mean_are_averaged() {
        // Trimmed mean (1 + 2 + 6)/3 = 3: 100 is the farthest.
        assert_eq!(run(1, &[0.0, 1.0, 2.0, 6.0, 100.0]), 9.0 / 4.0);
        // Trimmed mean 3: of 0 and 6 the lower is kept.
        assert_eq!(run(1, &[3.0, 0.0, 6.0]), 1.5);
        // Trimmed mean 5, median 4: 8 is nearer to the first, 1 to the second.
        assert_eq!(run(2, &[1.0, 4.0, 4.0, 4.0, 7.0, 8.0, 8.9]), (4.0 * 3.0 + 7.0 + 8.0) / 5.0);
    }

    #[test]
    fn without_byzantine_it_is_the_mean_and_huge_values_are_left_out() {
        assert_eq!(run(0, &[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(run(2, &[1e200, 1.0, 2.0, 3.0, -1e200]), 2.0);
    }
}
