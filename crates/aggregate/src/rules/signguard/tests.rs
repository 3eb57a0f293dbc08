use super::*;
use crate::aggregate::{Aggregate, aggregate};
use crate::verdict::{RowReason, Verdict};

fn run(byzantine: usize, rows: &[Vec<f64>]) -> Aggregate<f64> {
    let views: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    aggregate(&SignGuard { byzantine }, &views, None, None).unwrap()
}

/// Rows of length about 1 with this share of positive coordinates, the rest negative.
fn rows(positive: &[f64], dimension: usize) -> Vec<Vec<f64>> {
    let value = |row: usize, share: f64, c: usize| {
        let drawn = (crate::needs::draw(9, row as u64, c) >> 11) as f64 / (1_u64 << 53) as f64;
        let size = 1.0 / (dimension as f64).sqrt();
        if drawn < share { size } else { -size }
    };
    positive.iter().enumerate().map(|(row, &share)| (0..dimension).map(|c| value(row, share, c)).collect()).collect()
}

const REJECTED: Verdict = Verdict::Rejected { reason: RowReason::NotSelected };

#[test]
fn rows_of_other_signs_are_dropped() {
    let input = rows(&[0.6, 0.6, 0.1, 0.6, 0.6, 0.1, 0.6], 20_000);
    let result = run(2, &input);
    assert_eq!(result.verdicts[2], REJECTED);
    assert_eq!(result.verdicts[5], REJECTED);
    assert_eq!(result.notes[2].value, 5.0);
}

#[test]
fn lengths_are_judged_raw_and_clipped_after_the_filters() {
    let mut input = rows(&[0.6; 7], 20_000);
    for (row, factor) in [(0, 2.0), (3, 3.5), (4, 0.05)] {
        input[row].iter_mut().for_each(|value| *value *= factor);
    }
    let result = run(2, &input);
    // Clipped first, row 3 would have passed the filter.
    assert_eq!((result.verdicts[3], result.verdicts[4]), (REJECTED, REJECTED));
    if !result.verdicts[0].is_rejected() {
        let Verdict::Clipped { factor } = result.verdicts[0] else { panic!("{:?}", result.verdicts) };
        assert!((factor - 0.5).abs() < 1e-12);
    }
    assert_eq!(result.notes[1].value, 5.0);
    assert!((result.notes[0].value - 1.0).abs() < 1e-12);
}

#[test]
fn a_longest_row_within_the_filter_counts_at_the_median_length() {
    let mut input = vec![vec![0.5; 4]; 5];
    input[1] = vec![1.5; 4];
    input[2] = vec![0.05; 4];
    let result = run(2, &input);
    assert_eq!(result.verdicts[1], Verdict::Clipped { factor: 1.0 / 3.0 });
    assert_eq!(result.verdicts[2], Verdict::Accepted);
    assert!((result.output[0] - (4.0 * 0.5 + 0.05) / 5.0).abs() < 1e-15);
}

#[test]
fn rows_without_a_common_member_of_both_filters_are_refused() {
    // The largest cluster of signs holds the rows of unusual length only.
    let mut input = rows(&[0.9, 0.9, 0.9, 0.1, 0.5], 40_000);
    for (row, factor) in [(0, 0.01), (1, 50.0), (2, 0.02)] {
        input[row].iter_mut().for_each(|value| *value *= factor);
    }
    let views: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
    let error = aggregate(&SignGuard { byzantine: 2 }, &views, None, None).unwrap_err();
    assert!(error.to_string().contains("no row has both"), "{error}");
}

#[test]
fn rows_beyond_f64_are_left_out() {
    let mut input = rows(&[0.6; 7], 2000);
    input[1].iter_mut().for_each(|value| *value *= 1e200);
    input[2].iter_mut().for_each(|value| *value *= 1e30);
    let result = run(3, &input);
    assert_eq!(result.verdicts[1], Verdict::Rejected { reason: RowReason::Magnitude });
    assert_eq!(result.verdicts[2], REJECTED);
    assert!(result.output.iter().all(|value| value.abs() < 1.0));
    assert_eq!(run(0, &[vec![2.0, -3.0]]).output, [2.0, -3.0]);
    assert_eq!(run(1, &vec![vec![0.0; 3]; 4]).output, [0.0; 3]);
    assert_eq!(run(1, &vec![vec![0.1, 7.0, -0.3]; 4]).output, [0.1, 7.0, -0.3]);
    let huge = vec![vec![1e200; 2]; 3];
    let views: Vec<&[f64]> = huge.iter().map(Vec::as_slice).collect();
    assert!(aggregate(&SignGuard { byzantine: 1 }, &views, None, None).is_err());
}
