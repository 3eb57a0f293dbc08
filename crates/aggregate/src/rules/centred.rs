//! Inner products about a mean, for the rules that go by principal directions.

use crate::eigen::leading;
use crate::rule::RuleError;
use crate::statistics::Distances;

/// Most rows of a rule that solves eigenproblems: one takes about n³ operations.
pub(super) const MAX_EIGEN_ROWS: usize = 1024;

/// Squared distances from which sums of them may leave f64's range: 2^1000.
const BEYOND: f64 = 1.071_508_607_186_267_3e301;

/// Values within this share of one another differ by rounding alone.
pub(super) const ROUNDING: f64 = 1e-12;

/// Refuses more rows than eigenproblems can be solved for.
pub(super) fn check_eigen_rows(kind: &'static str, rows: usize) -> Result<(), RuleError> {
    if rows <= MAX_EIGEN_ROWS { Ok(()) } else { Err(RuleError::TooManyRows { kind, rows, limit: MAX_EIGEN_ROWS }) }
}

/// The rows whose distances from one another all fit into f64. Of two rows infinitely far apart the one that is so far
/// from more rows goes first, among such the highest.
pub(super) fn measurable(distances: Distances<'_>, rows: usize) -> Vec<bool> {
    let infinite = |a: usize, b: usize| distances.distance2(a, b) >= BEYOND;
    let mut counts: Vec<usize> = (0..rows).map(|row| (0..rows).filter(|&other| infinite(row, other)).count()).collect();
    let mut kept = vec![true; rows];
    loop {
        // The last of the largest.
        let worst = (0..rows).filter(|&row| kept[row]).max_by_key(|&row| counts[row]);
        let Some(worst) = worst.filter(|&row| counts[row] > 0) else { return kept };
        kept[worst] = false;
        (0..rows).filter(|&row| infinite(row, worst)).for_each(|row| counts[row] -= 1);
    }
}

/// Inner products about the mean μ of some members with these positive weights: ⟨x − μ, y − μ⟩ is
/// ½(E_xμ + E_yμ − E_xy), E_xμ up to the same number for all x the weighted mean of E_xj. Rounding is about 1e-16 of the
/// largest squared distance. Equal rows have equal products, bit for bit.
struct Centre<'a> {
    distances: Distances<'a>,
    members: &'a [usize],
    weights: &'a [f64],
    total: f64,
    /// Per member the weighted mean of its squared distances, and the weighted mean of these.
    from: Vec<f64>,
    whole: f64,
}

impl<'a> Centre<'a> {
    fn new(distances: Distances<'a>, members: &'a [usize], weights: &'a [f64]) -> Self {
        let total = weights.iter().sum();
        let mut centre = Self { distances, members, weights, total, from: Vec::new(), whole: 0.0 };
        centre.from = members.iter().map(|&row| centre.mean_distance(row)).collect();
        centre.whole = centre.mean(centre.from.iter().copied());
        centre
    }

    fn mean(&self, values: impl Iterator<Item = f64>) -> f64 {
        values.zip(self.weights).map(|(value, weight)| weight * value).sum::<f64>() / self.total
    }

    fn mean_distance(&self, row: usize) -> f64 {
        self.mean(self.members.iter().map(|&member| self.distances.distance2(row, member)))
    }

    /// The products of a row, `from` its mean distance, with every member.
    fn products(&self, row: usize, from: f64) -> impl Iterator<Item = f64> {
        self.members.iter().zip(&self.from).map(move |(&member, member_from)| {
            0.5 * ((from + member_from) - self.whole - self.distances.distance2(row, member))
        })
    }

    /// The products of the members, row-major.
    fn gram(&self) -> Vec<f64> {
        self.members.iter().zip(&self.from).flat_map(|(&row, &from)| self.products(row, from)).collect()
    }
}

/// The inner products of the members about their mean, row-major.
pub(super) fn centred(distances: Distances<'_>, members: &[usize], weights: &[f64]) -> Vec<f64> {
    Centre::new(distances, members, weights).gram()
}

/// What the rows do along their principal direction.
pub(super) struct Principal {
    /// The largest eigenvalue of the weighted scatter Σ wᵢ(xᵢ − μ)(xᵢ − μ)ᵀ.
    pub(super) eigenvalue: f64,
    /// The second over the largest: near 1 the direction is arbitrary.
    pub(super) second: f64,
    /// ⟨v, xᵢ − μ⟩² per member; equal for equal members, bit for bit.
    pub(super) projections2: Vec<f64>,
    /// The largest of these among the other rows that were asked for, 0 if there are none.
    pub(super) others2: f64,
}

/// The principal direction of the members' weighted scatter, through the n x n matrix √wᵢ√wⱼ⟨xᵢ − μ, xⱼ − μ⟩, which
/// has the same eigenvalues; how far the members, and `others`, reach along it.
pub(super) fn principal(distances: Distances<'_>, members: &[usize], weights: &[f64], others: &[usize]) -> Principal {
    let count = members.len();
    let centre = Centre::new(distances, members, weights);
    let gram = centre.gram();
    let roots: Vec<f64> = weights.iter().map(|weight| weight.sqrt()).collect();
    let mut weighted = gram.clone();
    for (row, &root) in weighted.chunks_exact_mut(count).zip(&roots) {
        row.iter_mut().zip(&roots).for_each(|(value, other)| *value *= root * other);
    }
    let spectrum = leading(weighted, count, 2);
    let eigenvalue = spectrum.values[0];
    if eigenvalue <= 0.0 {
        return Principal { eigenvalue: 0.0, second: 0.0, projections2: vec![0.0; count], others2: 0.0 };
    }
    // √λ v = Σ √wⱼ uⱼ (xⱼ − μ). Not √λ uᵢ/√wᵢ: this way equal members are equal to the last bit.
    let combination: Vec<f64> = roots.iter().zip(&spectrum.vector).map(|(root, value)| root * value).collect();
    let length = eigenvalue.sqrt();
    let along = |products: &mut dyn Iterator<Item = f64>| -> f64 {
        products.zip(&combination).map(|(value, factor)| value * factor).sum::<f64>() / length
    };
    let project = |row: &[f64]| {
        let along = along(&mut row.iter().copied());
        along * along
    };
    let projections2 = gram.chunks_exact(count).map(project).collect();
    // A row far beyond the members leaves few digits of its products: it is then taken to reach as far as rounding
    // allows, and in any case no farther than it lies.
    let rounding = 1e-15 * combination.iter().map(|factor| factor.abs()).sum::<f64>() / length;
    let reach2 = |&row: &usize| {
        let from = centre.mean_distance(row);
        let (along, error) = (along(&mut centre.products(row, from)).abs(), rounding * from);
        let reach = if error > 1e-6 * along { along + error } else { along };
        (reach * reach).min(from)
    };
    let others2 = others.iter().map(reach2).fold(0.0, f64::max);
    let second = spectrum.values.get(1).map_or(0.0, |value| (value / eigenvalue).max(0.0));
    Principal { eigenvalue, second, projections2, others2 }
}

/// The `keep` members of least value. Values that differ from the last kept one by rounding alone count as ties, which
/// go to the lowest members.
pub(super) fn least(values: &[f64], keep: usize) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(&boundary) = keep.checked_sub(1).and_then(|last| sorted.get(last)) else { return Vec::new() };
    let margin = ROUNDING * boundary;
    let below: Vec<usize> = (0..values.len()).filter(|&at| values[at] < boundary - margin).collect();
    let ties = (0..values.len()).filter(|&at| (boundary - margin..=boundary + margin).contains(&values[at]));
    let mut kept: Vec<usize> = ties.take(keep - below.len()).chain(below.iter().copied()).collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::needs::Needs;
    use crate::statistics::{Observation, RowStatistics};

    pub(in crate::rules) fn observed(rows: &[&[f64]]) -> RowStatistics {
        let observation = Observation::first(Needs::PAIR_DISTANCES, rows.len(), rows[0].len(), 0);
        let unit = crate::observe::observe_unit(&crate::rows::Rows::new(rows, 0).unwrap(), &observation).unwrap();
        let mut tree = crate::statistics::StatisticsTree::new(1);
        tree.insert(0, unit).unwrap();
        tree.finish(&observation).unwrap()
    }

    #[test]
    fn centred_products_are_those_of_the_centred_rows() {
        let statistics = observed(&[&[0.0, 0.0], &[2.0, 0.0], &[1.0, 3.0]]);
        let distances = statistics.distances().unwrap();
        // Mean (1, 1); rows (−1, −1), (1, −1), (0, 2).
        let expected = [2.0, 0.0, -2.0, 0.0, 2.0, -2.0, -2.0, -2.0, 4.0];
        let got = centred(distances, &[0, 1, 2], &[1.0; 3]);
        got.iter().zip(expected).for_each(|(got, expected)| assert!((got - expected).abs() < 1e-15 * 4.0));
        // Weights 1, 1, 2: mean (1, 1.5); eigenvalues of diag(2, 9).
        let principal = principal(distances, &[0, 1, 2], &[1.0, 1.0, 2.0], &[]);
        assert!((principal.eigenvalue - 9.0).abs() < 1e-14);
        assert!((principal.second - 2.0 / 9.0).abs() < 1e-14);
        principal.projections2.iter().for_each(|value| assert!((value - 2.25).abs() < 1e-14));
        // Without the third row, which reaches 1 from the mean (1, 0) along neither: v is along x.
        let principal = super::principal(distances, &[0, 1], &[1.0; 2], &[2]);
        assert!((principal.projections2[0] - 1.0).abs() < 1e-15 && principal.others2 < 1e-25);
    }

    #[test]
    fn rows_infinitely_far_from_most_are_set_aside() {
        let statistics = observed(&[&[1e200], &[0.0], &[1.0], &[-1e200], &[2.0]]);
        assert_eq!(measurable(statistics.distances().unwrap(), 5), [false, true, true, false, true]);
        // Far from the origin but near one another: nothing is wrong with them.
        let statistics = observed(&[&[1e200], &[1e200], &[1e200]]);
        assert_eq!(measurable(statistics.distances().unwrap(), 3), [true; 3]);
        let statistics = observed(&[&[1e200], &[-1e200]]);
        assert_eq!(measurable(statistics.distances().unwrap(), 2), [true, false]);
    }

    #[test]
    fn ties_at_the_boundary_go_to_the_lowest() {
        assert_eq!(least(&[3.0, 1.0, 3.0 - 1e-15, 0.5, 3.0], 3), [0, 1, 3]);
        assert_eq!(least(&[3.0, 1.0, 2.0], 2), [1, 2]);
        assert_eq!(least(&[0.0; 4], 2), [0, 1]);
        assert_eq!(least(&[1.0, 0.0], 0), [0_usize; 0]);
    }
}
