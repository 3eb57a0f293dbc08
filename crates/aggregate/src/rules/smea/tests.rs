use super::super::centred::tests::observed;
use super::*;
use crate::aggregate::{Aggregate, aggregate};
use crate::verdict::{RowReason, Verdict};

fn run(byzantine: usize, rows: &[&[f64]]) -> Aggregate<f64> {
    aggregate(&Smea { byzantine }, rows, None, None).unwrap()
}

#[test]
fn the_subset_of_least_spread_wins_and_ties_go_to_the_first() {
    assert_eq!(run(1, &[&[0.0], &[5.0], &[1.0]]).selected, [0, 2]);
    // 0, 1, 2 and 1, 2, 3 spread alike; so do all pairs of neighbours.
    assert_eq!(run(1, &[&[0.0], &[1.0], &[2.0], &[3.0]]).selected, [0, 1, 2]);
    assert_eq!(run(2, &[&[0.0], &[9.0], &[0.0], &[9.0], &[0.0]]).selected, [0, 2, 4]);
    assert_eq!(run(1, &[[4.0, 1.0].as_slice(); 5]).selected, [0, 1, 2, 3]);
    // The largest eigenvalue counts, not the whole variance: three spread rows against two spread the same way.
    let rows: [&[f64]; 4] = [&[1.0, 0.0], &[-0.5, 0.9], &[-0.5, -0.9], &[1.5, 0.0]];
    assert_eq!(run(1, &rows).selected, [0, 1, 2]);
}

#[test]
fn the_note_is_the_largest_eigenvalue_of_the_covariance() {
    let result = run(1, &[&[0.0], &[5.0], &[1.0]]);
    assert!((result.notes[0].value - 0.25).abs() < 1e-15);
}

/// Every subset, one after the other.
fn naive(distances: Distances<'_>, rows: usize, size: usize) -> (Vec<usize>, f64) {
    let mut best = (Vec::new(), f64::INFINITY);
    let mut subsets: Vec<Vec<usize>> = (0_u32..1 << rows)
        .filter(|subset| subset.count_ones() as usize == size)
        .map(|subset| (0..rows).filter(|row| subset >> row & 1 == 1).collect())
        .collect();
    subsets.sort_unstable();
    for subset in subsets {
        let value = scatter(distances, &subset);
        if value < best.1 * (1.0 - ROUNDING) || best.1 == f64::INFINITY {
            best = (subset, value);
        }
    }
    best
}

#[test]
fn branch_and_bound_equals_the_search_through_all_subsets() {
    for seed in 0..60 {
        let (rows, d) = (4 + seed as usize % 9, 1 + seed as usize % 5);
        let f = 1 + seed as usize % ((rows - 1) / 2);
        // Every third case on a coarse grid, for ties.
        let value = |row: usize, c: usize| {
            let drawn = crate::needs::draw(seed, row as u64, c);
            if seed % 3 == 0 { (drawn % 3) as f64 } else { (drawn >> 11) as f64 / (1_u64 << 53) as f64 }
        };
        let input: Vec<Vec<f64>> = (0..rows).map(|row| (0..d).map(|c| value(row, c)).collect()).collect();
        let views: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
        let result = run(f, &views);
        let statistics = observed(&views);
        let (expected, eigenvalue) = naive(statistics.distances().unwrap(), rows, rows - f);
        assert_eq!(result.selected, expected, "seed {seed}");
        let got = result.notes[0].value * (rows - f) as f64;
        assert!((got - eigenvalue).abs() <= 1e-13 * eigenvalue, "seed {seed}");
    }
}

#[test]
fn far_rows_are_left_out_and_rows_beyond_f64_named() {
    let result = run(2, &[&[1e200], &[0.0], &[1.0], &[-1e200], &[2.0]]);
    assert_eq!((result.selected, result.output), (vec![1, 2, 4], vec![1.0]));
    assert_eq!(result.verdicts[3], Verdict::Rejected { reason: RowReason::Magnitude });
    let far: [&[f32]; 4] = [&[1e30, 0.0], &[1.0, 0.0], &[2.0, 0.5], &[3.0, 1.0]];
    let result = aggregate(&Smea { byzantine: 1 }, &far, None, None).unwrap();
    assert_eq!((result.selected, result.output), (vec![1, 2, 3], vec![2.0, 0.5]));
    let error = aggregate(&Smea { byzantine: 1 }, &[&[0.0], &[1e200], &[-1e200]], None, None).unwrap_err();
    assert!(error.to_string().contains("rejects all 3 rows"), "{error}");
}

#[test]
fn a_search_beyond_the_budget_is_refused_when_checked() {
    let check = |byzantine, rows| Smea { byzantine }.check(rows);
    assert!(check(11, 24).is_ok() && check(2, 100).is_ok() && check(0, 4000).is_ok());
    let message = check(10, 64).unwrap_err().to_string();
    assert!(message.contains("the exact search over 64 rows with byzantine = 10 exceeds its budget"), "{message}");
    assert!(matches!(check(400, 1000), Err(RuleError::Budget { .. })));
    assert!(matches!(check(2, 4), Err(RuleError::Range { .. })));
    assert_eq!(Smea { byzantine: 20 }.min_rows(), usize::MAX);
    assert_eq!(Smea { byzantine: 3 }.min_rows(), 7);
}
