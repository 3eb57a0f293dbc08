//! CAF: covariance-bound agnostic filter.

use serde::Serialize;

use super::centred::{MAX_EIGEN_ROWS, check_eigen_rows, measurable, principal};
use super::{Definition, distances};
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::needs::Needs;
use crate::plan::{Combine, Plan};
use crate::range::MINORITY_OF_PAIRS;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{Distances, RowStatistics};
use crate::verdict::{RowReason, Verdict};

/// arXiv 2505.01874: rows lose weight by how far they reach along the direction of largest variance, until weight n−2f
/// is left; the weighted mean of least largest variance on the way is the aggregate. Unweighted; f = 0 is the mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caf {
    /// *f*.
    pub byzantine: usize,
}

impl Rule for Caf {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY_OF_PAIRS.check(self.kind(), rows, self.byzantine)?;
        check_eigen_rows(self.kind(), rows)
    }

    fn needs(&self) -> Needs {
        Needs::PAIR_DISTANCES
    }

    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    fn decide(&self, statistics: &RowStatistics, _weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        let distances = distances(self.kind(), statistics)?;
        if self.byzantine == 0 {
            let sum = Combine::WeightedSum { weights: vec![1.0; rows], divisor: rows as f64 };
            return Ok(Plan::accepting(rows, sum).into());
        }
        let measured = measurable(distances, rows);
        let filter = Filter::run(distances, &measured, (rows - 2 * self.byzantine) as f64, allowed(rows));
        let Some(Filter { weights, variance, steps, forced }) = filter else {
            return Err(RuleError::AllRejected { kind: self.kind(), rows, why: BEYOND_F64 });
        };
        let verdict = |row: usize| match (weights[row] > 0.0, measured[row]) {
            (true, _) => Verdict::Accepted,
            (false, true) => Verdict::Rejected { reason: RowReason::NotSelected },
            (false, false) => Verdict::Rejected { reason: RowReason::Magnitude },
        };
        let verdicts = (0..rows).map(verdict).collect();
        let divisor = weights.iter().sum();
        let plan = Plan::new(verdicts, Combine::WeightedSum { weights, divisor });
        let plan = plan.note("steps", steps as f64).note("largest eigenvalue", variance);
        Ok(if forced > 0 { plan.note("steps past the budget", forced as f64) } else { plan }.into())
    }
}

/// The weights whose covariance had the least largest eigenvalue.
struct Filter {
    weights: Vec<f64>,
    variance: f64,
    steps: usize,
    /// Steps past the budget.
    forced: usize,
}

/// Operations of all steps taken one by one, and the most steps.
const OPERATIONS: usize = 2_000_000_000;
const MOST_STEPS: usize = 100_000;
/// Times the steps that are taken one by one after which every step must take a row.
const BUDGET: usize = 4;
/// The share of its weight a row may lose in steps taken together.
const LOSS: f64 = 1.0 / 16.0;
/// How near to the end, in weight, steps taken together stop.
const NEAR: f64 = 1e-9;

impl Filter {
    /// Filters until no more than weight `least` is left; `None` if there is no more to begin with.
    ///
    /// τ is compared with its maximum over all rows, those without weight too, as in the paper. Where such rows reach
    /// far beyond the others every step takes a small share τᵢ/max τ only, and there may be any number of steps; their
    /// size is then all that max τ decides. Steps that cannot come to an end one by one are taken together: 2^k at a
    /// time along one direction, no row losing more than [`LOSS`].
    ///
    /// Rows of many different lengths, placed for the purpose, could make even that go on for hours. Past [`BUDGET`]
    /// times the `allowed` steps τ is compared with its maximum over the rows that have weight, as filters for robust
    /// means do (Diakonikolas et al. 2019): every step then takes at least one row's whole weight, and the end is near.
    #[allow(clippy::cast_precision_loss, reason = "numbers of steps are far below 2^53")]
    fn run(distances: Distances<'_>, measured: &[bool], least: f64, allowed: usize) -> Option<Self> {
        let rows = measured.len();
        let mut weights: Vec<f64> = measured.iter().map(|&measured| f64::from(u8::from(measured))).collect();
        let mut best: Option<Self> = None;
        let (mut steps, mut forced, mut together) = (0, 0, false);
        loop {
            let total: f64 = weights.iter().sum();
            if total <= least {
                break;
            }
            steps += 1;
            let (members, others): (Vec<usize>, Vec<usize>) =
                (0..rows).filter(|&row| measured[row]).partition(|&row| weights[row] > 0.0);
            let own: Vec<f64> = members.iter().map(|&row| weights[row]).collect();
            let principal = principal(distances, &members, &own, &others);
            let variance = principal.eigenvalue / total;
            if best.as_ref().is_none_or(|best| variance < best.variance) {
                best = Some(Self { weights: weights.clone(), variance, steps, forced });
            }
            let most = principal.projections2.iter().copied().fold(0.0, f64::max);
            if most == 0.0 {
                break;
            }
            let past = steps > allowed.saturating_mul(BUDGET);
            forced += usize::from(past);
            let farthest = if past { most } else { most.max(principal.others2) };
            let shares: Vec<f64> = principal.projections2.iter().map(|value| value / farthest).collect();
            // Once steps are taken together the last ones are too, and end close enough to `least`.
            together |= !past && allowed.saturating_sub(steps) as f64 * (most / farthest) * total < total - least;
            if together && total - least <= NEAR * least {
                break;
            }
            let Some(kept) = take(&own, &shares, if together { most / farthest } else { 1.0 }, least) else { break };
            // What is below f64's normal range adds nothing.
            members.iter().zip(kept).for_each(|(&row, c)| weights[row] = if c.is_normal() { c } else { 0.0 });
        }
        best.map(|best| Self { steps, forced, ..best })
    }
}

/// Steps that may be taken one by one.
fn allowed(rows: usize) -> usize {
    (OPERATIONS / (rows * rows * rows)).clamp(64, MOST_STEPS)
}

/// The weights after one step, or after as many as take no more than [`LOSS`] from the row that loses the share `most`
/// and leave more than `least`. `None`: so little is lost that nothing changes.
fn take(weights: &[f64], shares: &[f64], most: f64, least: f64) -> Option<Vec<f64>> {
    let mut doublings = 0;
    let mut loss = most;
    while loss * (2.0 - loss) <= LOSS && loss > 0.0 {
        loss *= 2.0 - loss;
        doublings += 1;
    }
    loop {
        // 1 − (1 − share)^(2^k), without losing small shares against 1.
        let lost = |share: f64| (0..doublings).fold(share, |lost, _| lost * (2.0 - lost));
        let kept: Vec<f64> = weights.iter().zip(shares).map(|(weight, &share)| weight * (1.0 - lost(share))).collect();
        if doublings > 0 && kept.iter().sum::<f64>() <= least {
            doublings -= 1;
            continue;
        }
        return (kept != weights).then_some(kept);
    }
}

impl Definition for Caf {
    const INFO: RuleInfo = RuleInfo {
        kind: "caf",
        name: "CAF",
        definition: "weighted mean of least largest covariance eigenvalue while rows that reach far along the top \
                     eigenvector lose weight, down to weight n−2f",
        formula: "cᵢ ← cᵢ(1 − τᵢ/max τ), τᵢ = ⟨v, xᵢ − μ_c⟩², v the top eigenvector of the c-weighted covariance",
        parameters: &[BYZANTINE_INFO],
        range: "2f < n, n ≤ 1024",
        breakdown: "f ≤ (n−1)/2",
        bound: "spectral",
        cost: "n²d/2 for the distances, then eigenproblems of n³, some ten where no row is far off, hundreds where one is",
        source: "arXiv 2505.01874, Algorithm 1",
        fails: &[
            "where the two largest eigenvalues are close the direction, and with it the weights, hang on small changes",
            "honest rows of a rare kind lose their weight first",
            "bad rows of many different lengths make it take many steps; past its budget it drops a row with every step \
             and says so",
        ],
    };

    byzantine_alone!();
}

const _: () = assert!(MAX_EIGEN_ROWS == 1024, "the catalogue says so");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Aggregate, aggregate};

    fn run(byzantine: usize, rows: &[&[f64]]) -> Aggregate<f64> {
        aggregate(&Caf { byzantine }, rows, None, None).unwrap()
    }

    #[test]
    fn a_hand_computed_line() {
        // 0, 1, 2, 5: mean 2, τ = 4, 1, 0, 9, so c = 5/9, 8/9, 1, 0; Σc = 22/9 > 2, variance 3.5 before.
        // Then μ = 26/22 = 13/11; the row without weight reaches farthest, 42/11: c = 5/9·(1 − 169/1764), … leaves 2.33;
        // and so on for eleven steps, computed apart in f64.
        let mut weights = [1.0_f64; 4];
        let (values, mut mean, mut steps) = ([0.0, 1.0, 2.0, 5.0], 0.0, 0.0);
        while weights.iter().sum::<f64>() > 2.0 {
            mean = weights.iter().zip(values).map(|(c, x)| c * x).sum::<f64>() / weights.iter().sum::<f64>();
            let most = values.map(|x| (x - mean) * (x - mean)).into_iter().fold(0.0, f64::max);
            weights.iter_mut().zip(values).for_each(|(c, x)| *c *= 1.0 - (x - mean) * (x - mean) / most);
            steps += 1.0;
        }
        let result = run(1, &[&[0.0], &[1.0], &[2.0], &[5.0]]);
        assert!((result.output[0] - mean).abs() < 1e-14, "{:?} {mean}", result.output);
        assert_eq!(result.verdicts[3], Verdict::Rejected { reason: RowReason::NotSelected });
        assert_eq!(result.notes[0].value, steps);
    }

    #[test]
    fn without_byzantine_or_spread_it_is_the_mean() {
        assert_eq!(run(0, &[&[0.0], &[1.0], &[8.0]]).output, [3.0]);
        assert_eq!(run(1, &[[0.5, 7.0].as_slice(); 9]).output, [0.5, 7.0]);
        assert_eq!(run(0, &[&[5.0]]).output, [5.0]);
    }

    #[test]
    fn rows_beyond_f64_lose_their_weight_first() {
        let result = run(2, &[&[1e200], &[0.0], &[1.0], &[-1e200], &[2.0]]);
        assert!((0.0..=2.0).contains(&result.output[0]));
        for row in [0, 3] {
            assert_eq!(result.verdicts[row], Verdict::Rejected { reason: RowReason::Magnitude });
        }
        let error = aggregate(&Caf { byzantine: 1 }, &[&[0.0], &[1e200], &[-1e200]], None, None).unwrap_err();
        assert!(error.to_string().contains("rejects all 3 rows"), "{error}");
    }

    #[test]
    fn steps_taken_together_end_where_single_steps_would() {
        // Row 0 reaches so far that all that matters of it is that steps are small: any distance ends alike.
        let end = |far: f64| {
            let rows: [&[f64]; 6] = [&[far, 0.0], &[1.0, 0.3], &[2.0, 0.1], &[3.0, 1.0], &[2.0, -1.0], &[2.5, 0.2]];
            run(1, &rows)
        };
        let near = end(1e2);
        assert!(near.notes[0].value > 1000.0 && near.notes[0].value < 100_000.0, "{:?}", near.notes);
        for far in [1e6, 1e12, 1e100] {
            let result = end(far);
            assert!(result.notes[0].value < 1000.0, "{:?}", result.notes);
            for (got, expected) in result.output.iter().zip(&near.output) {
                assert!((got - expected).abs() < 0.02, "{far}: {:?} {:?}", result.output, near.output);
            }
        }
    }

    #[test]
    fn past_the_budget_every_step_takes_a_row_and_the_honest_ones_decide() {
        use crate::needs::Needs;
        use crate::observe::observe_unit;
        use crate::rows::Rows;
        use crate::statistics::{Observation, StatisticsTree};

        // Each far row a thousand times farther than the one before, in a direction of its own.
        let mut rows: Vec<Vec<f64>> = (0..8).map(|row| vec![1.0 + f64::from(row) * 0.1, 0.0, 0.0, 0.0]).collect();
        for (at, far) in [1e4, 1e7, 1e10].into_iter().enumerate() {
            let mut row = vec![0.0; 4];
            row[at + 1] = far;
            rows.push(row);
        }
        let views: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let observation = Observation::first(Needs::PAIR_DISTANCES, rows.len(), 4, 0);
        let mut tree = StatisticsTree::new(1);
        tree.insert(0, observe_unit(&Rows::new(&views, 0).unwrap(), &observation).unwrap()).unwrap();
        let statistics = tree.finish(&observation).unwrap();
        let filter = Filter::run(statistics.distances().unwrap(), &[true; 11], 5.0, 0).unwrap();
        assert!(filter.forced > 0 && filter.forced == filter.steps && filter.steps <= 11, "{}", filter.steps);
        assert_eq!(filter.weights[8..], [0.0; 3]);
        assert!(filter.weights[..8].iter().sum::<f64>() > 0.0);
    }

    #[test]
    fn a_far_row_does_not_blur_the_others() {
        let far: [&[f32]; 5] = [&[1e30, 0.0], &[1.0, 0.0], &[2.0, 0.0], &[3.0, 1.0], &[2.0, -1.0]];
        let result = aggregate(&Caf { byzantine: 1 }, &far, None, None).unwrap();
        assert_eq!(result.weights.unwrap()[0], 0.0);
        assert!((1.0..=3.0).contains(&result.output[0]) && result.output[1].abs() <= 1.0);
    }
}
