//! SignGuard: rows of ordinary length and ordinary signs.

mod mean_shift;

use serde::Serialize;

use super::centred::check_eigen_rows;
use super::clipped::{clipped_mean, median_length};
use super::{Definition, norms};
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::needs::{Needs, Share};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Xu et al. 2022, Algorithm 2: the rows of 0.1 to 3 times the median length that are also in the largest mean-shift
/// cluster of sign statistics, the shares of positive, zero and negative coordinates in a 10 % sample; these are then
/// shortened to the median length, and the mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SignGuard {
    /// *f*.
    pub byzantine: usize,
}

/// A tenth.
const SHARE: Share = Share { per_million: 100_000 };
/// Shortest and longest accepted row, in medians.
const SHORTEST: f64 = 0.1;
const LONGEST: f64 = 3.0;

impl Rule for SignGuard {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        check_eigen_rows(self.kind(), rows)?;
        MINORITY.check(self.kind(), rows, self.byzantine)
    }

    fn needs(&self) -> Needs {
        Needs { signs: Some(SHARE), ..Needs::NORMS }
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let kind = self.kind();
        let lengths = &norms(kind, statistics)?[..rows];
        let signs = statistics.signs().ok_or(RuleError::NotObserved { kind, what: "signs" })?;
        let Some(radius) = median_length(lengths) else {
            return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
        };
        let ordinary: Vec<bool> = lengths
            .iter()
            .map(|&length| length.is_finite() && length >= SHORTEST * radius && length <= LONGEST * radius)
            .collect();
        let cluster = mean_shift::largest_cluster(&signs[..rows]);
        let kept: Vec<usize> = (0..rows).filter(|&row| ordinary[row] && cluster[row]).collect();
        if kept.is_empty() {
            let why = "no row has both an ordinary length and the signs of the largest cluster";
            return Err(RuleError::AllRejected { kind, rows, why });
        }
        let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as f64;
        let plan = clipped_mean(&kept, lengths, radius, weights.as_slice())
            .note("radius", radius)
            .note("rows of ordinary length", count(&ordinary))
            .note("rows of ordinary signs", count(&cluster));
        Ok(plan.into())
    }
}

impl Definition for SignGuard {
    const INFO: RuleInfo = RuleInfo {
        kind: "signguard",
        name: "SignGuard",
        definition: "mean of the rows of 0.1 to 3 times the median length and of the largest cluster of sign \
                     statistics, shortened to the median length",
        formula: "Σ_{i ∈ K} xᵢ · min(1, S/‖xᵢ‖) / |K|, S = medianᵢ ‖xᵢ‖, K = {‖xᵢ‖/S ∈ [0.1, 3]} ∩ largest cluster of \
                  (+, 0, −) shares",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n",
        breakdown: "heuristic, f ≤ (n−1)/2",
        bound: "none",
        cost: "nd for lengths and a tenth of the signs, n² per step of mean shift, then nd",
        source: "Xu et al. 2022, Algorithm 2",
        fails: &[
            "vectors of a few hundred coordinates give a sample too small to tell signs apart",
            "bad rows that keep the shares of signs, permuted ones too, are kept",
            "honest rows with other shares of signs, as on heterogeneous clients, are dropped",
        ],
    };

    byzantine_alone!();
}

#[cfg(test)]
mod tests;
