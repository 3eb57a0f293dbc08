//! SMEA: the mean of the subset of least top covariance eigenvalue.

use serde::Serialize;

use super::centred::{ROUNDING, centred, least, measurable};
use super::krum::mean_of;
use super::{Definition, distances};
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::eigen::largest;
use crate::needs::Needs;
use crate::range::MINORITY_OF_PAIRS;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{Distances, RowStatistics};

/// Smallest maximum eigenvalue averaging, Allouah et al. 2023, section 5: the mean of the n−f rows whose covariance has
/// the least largest eigenvalue, over all subsets. Subsets whose eigenvalues differ by rounding alone (1e-12) are ties,
/// which go to the lexicographically first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Smea {
    /// *f*.
    pub byzantine: usize,
}

/// Subsets times the cube of their size that may be searched: seconds, not minutes.
const BUDGET: u64 = 20_000_000_000;

impl Smea {
    /// C(n, f)·(n−f)³, saturating.
    fn steps(&self, rows: usize) -> u64 {
        let (f, keep) = (self.byzantine as u128, (rows - self.byzantine) as u128);
        let mut subsets = 1_u128;
        for k in 1..=f {
            subsets = subsets * (keep + k) / k;
            if subsets > u128::from(u64::MAX) {
                return u64::MAX;
            }
        }
        u64::try_from(subsets.saturating_mul(keep * keep * keep)).unwrap_or(u64::MAX)
    }
}

impl Rule for Smea {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        let (kind, byzantine) = (self.kind(), self.byzantine);
        MINORITY_OF_PAIRS.check(kind, rows, byzantine)?;
        // Without bad rows there is one subset and nothing to search.
        if byzantine > 0 && self.steps(rows) > BUDGET {
            return Err(RuleError::Budget { kind, rows, byzantine, budget: BUDGET });
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs::PAIR_DISTANCES
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let distances = distances(self.kind(), statistics)?;
        if self.byzantine == 0 {
            return Ok(mean_of(rows, (0..rows).collect(), weights.as_slice(), |_| true)?.into());
        }
        let measured = measurable(distances, rows);
        let candidates: Vec<usize> = (0..rows).filter(|&row| measured[row]).collect();
        let size = rows - self.byzantine;
        if candidates.len() < size {
            return Err(RuleError::AllRejected { kind: self.kind(), rows, why: BEYOND_F64 });
        }
        let (selected, eigenvalue) = Search::new(distances, &candidates, size).run();
        let plan = mean_of(rows, selected, weights.as_slice(), |row| measured[row])?;
        #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
        let variance = eigenvalue / size as f64;
        Ok(plan.note("largest eigenvalue", variance).into())
    }
}

/// Branch and bound over the subsets in lexicographic order. A subset's scatter is at least that of any part of it, so
/// a part whose largest eigenvalue is too large already need not be completed.
struct Search<'a> {
    distances: Distances<'a>,
    candidates: &'a [usize],
    size: usize,
    /// Largest eigenvalue of the scatter that a subset must fall below.
    bound: f64,
    best: Vec<usize>,
    part: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(distances: Distances<'a>, candidates: &'a [usize], size: usize) -> Self {
        // A good first bound: the rows nearest to the row that has the nearest neighbours. The subset itself is found
        // again in its turn, or one before it that is as good.
        let around = |&row: &usize| -> (f64, Vec<usize>) {
            let from: Vec<f64> = candidates.iter().map(|&other| distances.distance2(row, other)).collect();
            let near = least(&from, size);
            (near.iter().map(|&at| from[at]).sum(), near)
        };
        let tightest = candidates.iter().map(around).min_by(|a, b| a.0.total_cmp(&b.0));
        let guess: Vec<usize> =
            tightest.map(|(_, near)| near.into_iter().map(|at| candidates[at]).collect()).unwrap_or_default();
        let bound = scatter(distances, &guess) * (1.0 + 2.0 * ROUNDING) + f64::MIN_POSITIVE;
        Self { distances, candidates, size, bound, best: guess, part: Vec::with_capacity(size) }
    }

    fn run(mut self) -> (Vec<usize>, f64) {
        self.extend(0);
        let eigenvalue = scatter(self.distances, &self.best);
        (self.best, eigenvalue)
    }

    /// Completes the part with candidates from `next` on.
    fn extend(&mut self, next: usize) {
        let missing = self.size - self.part.len();
        let left = self.candidates.len() - next;
        if missing == left || missing == 0 {
            let length = self.part.len();
            self.part.extend_from_slice(&self.candidates[next..next + missing]);
            self.judge();
            self.part.truncate(length);
            return;
        }
        for at in next..=self.candidates.len() - missing {
            self.part.push(self.candidates[at]);
            if self.part.len() < 2 || self.is_below_bound() {
                self.extend(at + 1);
            }
            self.part.pop();
        }
    }

    fn judge(&mut self) {
        if !self.is_below_bound() {
            return;
        }
        let eigenvalue = scatter(self.distances, &self.part);
        if eigenvalue < self.bound {
            self.best.clone_from(&self.part);
            self.bound = eigenvalue * (1.0 - ROUNDING);
        }
    }

    /// Whether all eigenvalues of the part's scatter are below the bound: bound·I − G then has a Cholesky factor.
    fn is_below_bound(&self) -> bool {
        let n = self.part.len();
        let mut factor = centred(self.distances, &self.part, &vec![1.0; n]);
        for j in 0..n {
            for i in j..n {
                let (above, below) = factor.split_at(i * n);
                let row_j = if i == j { &below[..j] } else { &above[j * n..j * n + j] };
                let product: f64 = below[..j].iter().zip(row_j).map(|(a, b)| a * b).sum();
                let own = if i == j { self.bound } else { 0.0 };
                let value = own - below[j] - product;
                if i == j && (value <= 0.0 || value.is_nan()) {
                    return false;
                }
                factor[i * n + j] = if i == j { value.sqrt() } else { value / factor[j * n + j] };
            }
        }
        true
    }
}

/// The largest eigenvalue of Σ (x − m)(x − m)ᵀ over the members.
fn scatter(distances: Distances<'_>, members: &[usize]) -> f64 {
    largest(centred(distances, members, &vec![1.0; members.len()]), members.len()).max(0.0)
}

impl Definition for Smea {
    const INFO: RuleInfo = RuleInfo {
        kind: "smea",
        name: "SMEA",
        definition: "mean of the n−f rows whose covariance has the least largest eigenvalue",
        formula: "x̄_S, S = argmin_{|S| = n−f} λ_max(1/|S| · Σ_{i ∈ S} (xᵢ − x̄_S)(xᵢ − x̄_S)ᵀ)",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n, C(n, f)·(n−f)³ ≤ 2·10¹⁰",
        breakdown: "f ≤ (n−1)/2",
        bound: "κ = 4ρ, also with the largest eigenvalue in place of the variance: two such means differ from that of \
                their common rows by at most √(ρλ) each",
        cost: "n²d/2 for the distances, then up to C(n, f) eigenproblems",
        source: "Allouah et al. 2023 (privacy, robustness, utility), section 5",
        fails: &[
            "the exact search ends at some 25 rows with f near n/2, 100 rows with f = 2",
            "it always leaves out f rows, honest ones where fewer are bad",
        ],
    };

    byzantine_alone!();
}

#[cfg(test)]
mod tests;
