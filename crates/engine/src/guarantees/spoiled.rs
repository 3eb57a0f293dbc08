//! How many rows bad clients spoil when groups are drawn at random.
//!
//! A row is spoiled by one bad client in its group or more. Whether rows are spoiled is negatively associated, since
//! clients are drawn without replacement (Joag-Dev and Proschan 1983), so Chernoff's bound for independent rows holds.

use testudo_aggregate::Sampled;
use testudo_protocol::secagg::hypergeometric::Tails;

/// Work of the exact distribution above which it is not computed: rows × bad clients × clients of a group.
const EXACT_WORK: usize = 20_000_000;

/// The exact distribution of the number of spoiled rows: entry j is the probability that exactly j groups hold one of
/// `bad` clients or more, drawn uniformly among the clients of all groups. `None` where that would take too long.
pub fn spoiled_rows(sizes: &[usize], bad: usize) -> Option<Vec<f64>> {
    let clients: usize = sizes.iter().sum();
    let (bad, most) = (bad.min(clients), bad.min(sizes.len()));
    let largest = sizes.iter().copied().max().unwrap_or(0);
    if sizes.len().checked_mul(most)?.checked_mul(bad)?.checked_mul(largest.min(bad))? > EXACT_WORK {
        return None;
    }
    // state[j][m]: j groups so far are spoiled and m bad clients are left for the others.
    let mut state = vec![vec![0.0; bad + 1]; most + 1];
    state[0][bad] = 1.0;
    let mut left = clients;
    for &size in sizes {
        let mut next = vec![vec![0.0; bad + 1]; most + 1];
        for remaining in 0..=bad.min(left) {
            let tails = Tails::hypergeometric(left as u64, remaining as u64, size as u64);
            for taken in 0..=remaining.min(size) {
                let chance = tails.at_least(taken as u64).value() - tails.above(taken as u64).value();
                let hit = usize::from(taken > 0);
                for spoiled in 0..=most - hit.min(most) {
                    next[spoiled + hit][remaining - taken] += state[spoiled][remaining] * chance;
                }
            }
        }
        state = next;
        left -= size;
    }
    Some(state.into_iter().map(|left| left[0]).collect())
}

/// The probability that a group of `size` holds one of `bad` clients or more: 1 − C(n−g, b)/C(n, b).
pub(super) fn row_spoiled(clients: usize, bad: usize, size: usize) -> f64 {
    Tails::hypergeometric(clients as u64, bad as u64, size as u64).at_least(1).value()
}

/// Chernoff's bound on the probability that more than `tolerated` of `rows` rows are spoiled, each with at most this
/// probability: its natural logarithm, 0 where it says nothing.
pub(super) fn more_spoiled_ln(rows: usize, tolerated: usize, probability: f64) -> f64 {
    if tolerated >= rows {
        return f64::NEG_INFINITY;
    }
    let share = (tolerated + 1) as f64 / rows as f64;
    if share <= probability { 0.0 } else { -(rows as f64) * divergence(share, probability) }
}

/// The least number f such that more than f of `rows` rows are spoiled with at most the declared risk, for a cohort of
/// `cohort` clients in groups of at most `largest`.
///
/// The smaller of two bounds: a bad client spoils at most one row; and rows are spoiled like independent ones, exactly
/// so in an endless population, by Chernoff's bound in a finite one.
pub(crate) fn spoiled_rows_at_risk(sampled: &Sampled, cohort: usize, rows: usize, largest: usize) -> usize {
    let one_row_each = sampled.byzantine(cohort).min(rows);
    let by_row = match sampled.population {
        None => {
            let fraction = 1.0 - (1.0 - sampled.fraction).powi(i32::try_from(largest).unwrap_or(i32::MAX));
            if fraction < 1.0 { Sampled { fraction, ..*sampled }.byzantine(rows) } else { rows }
        }
        Some(population) => {
            let bad = ((sampled.fraction * population as f64 * (1.0 - 1e-15)).ceil() as usize).min(population);
            let probability = row_spoiled(population, bad, largest);
            (0..rows).find(|&f| more_spoiled_ln(rows, f, probability) <= sampled.risk.ln()).unwrap_or(rows)
        }
    };
    one_row_each.min(by_row)
}

/// KL(a‖b) of two coins, natural logarithm.
fn divergence(a: f64, b: f64) -> f64 {
    let term = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    term(a, b) + term(1.0 - a, 1.0 - b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Monte Carlo stands outside: every placement of the bad clients is counted.
    fn by_counting(sizes: &[usize], bad: usize) -> Vec<f64> {
        let clients: usize = sizes.iter().sum();
        let group: Vec<usize> = sizes.iter().enumerate().flat_map(|(at, &size)| vec![at; size]).collect();
        let mut counts = vec![0.0; bad.min(sizes.len()) + 1];
        let mut total = 0.0;
        for set in (0u32..1 << clients).filter(|set| set.count_ones() as usize == bad) {
            let hit: std::collections::BTreeSet<_> =
                (0..clients).filter(|at| set >> at & 1 == 1).map(|at| group[at]).collect();
            counts[hit.len()] += 1.0;
            total += 1.0;
        }
        counts.iter().map(|count| count / total).collect()
    }

    #[test]
    fn the_exact_distribution_is_that_of_all_placements() {
        for (sizes, bad) in
            [(vec![2, 2, 2, 2], 3), (vec![4, 3, 3], 4), (vec![3, 3, 2], 1), (vec![5, 4], 6), (vec![3], 0)]
        {
            let (exact, counted) = (spoiled_rows(&sizes, bad).unwrap(), by_counting(&sizes, bad));
            assert_eq!(exact.len(), counted.len());
            for (exact, counted) in exact.iter().zip(&counted) {
                assert!((exact - counted).abs() < 1e-12, "{sizes:?} {bad}: {exact} {counted}");
            }
        }
    }

    #[test]
    fn four_poisoned_of_32_in_groups_of_4_spoil_4_of_8_rows_every_second_time() {
        let spoiled = spoiled_rows(&[4; 8], 4).unwrap();
        // C(8,4)·4⁴/C(32,4)
        assert!((spoiled[4] - 70.0 * 256.0 / 35_960.0).abs() < 1e-12);
        assert_eq!(format!("{:.2}", spoiled[4]), "0.50");
        // Three never spoil four, so a median of eight stands.
        assert_eq!(spoiled_rows(&[4; 8], 3).unwrap().len(), 4);
    }

    #[test]
    fn a_share_of_bad_clients_spoils_more_rows_in_larger_groups_and_never_more_than_clients() {
        let sampled = Sampled { fraction: 0.01, risk: 1e-6, population: None };
        let of = |size: usize| spoiled_rows_at_risk(&sampled, 960, 960 / size, size);
        // An endless population: the binomial tail of 120 rows, each spoiled with 1 − 0.99⁸.
        let tails = Tails::binomial(120, 1.0 - 0.99f64.powi(8));
        assert_eq!(of(8), tails.quantile_above(1e-6f64.log2()) as usize);
        assert!(of(8) < sampled.byzantine(960) && of(4) >= of(8));
        assert!((of(16) as f64 / 60.0) > (of(8) as f64 / 120.0));
        let few = Sampled { population: Some(1000), ..sampled };
        assert!(spoiled_rows_at_risk(&few, 960, 120, 8) <= 10, "a population holds 10 bad clients");
    }

    proptest! {
        #[test]
        fn chernoffs_bound_is_never_below_the_exact_tail(
            rows in 2..12usize, size in 1..6usize, bad in 0..10usize, tolerated in 0..10usize,
        ) {
            let exact = spoiled_rows(&vec![size; rows], bad).unwrap();
            let tail: f64 = exact.iter().skip(tolerated + 1).sum();
            let bound = more_spoiled_ln(rows, tolerated, row_spoiled(rows * size, bad, size)).exp();
            prop_assert!(tail <= bound * (1.0 + 1e-9) + 1e-12, "{tail} {bound}");
            prop_assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
