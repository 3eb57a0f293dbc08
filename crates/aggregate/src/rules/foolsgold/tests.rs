use super::*;
use crate::aggregate::{Aggregate, Inputs, aggregate_inputs};
use crate::element::Element;

fn run<T: Element>(rows: &[&[T]], histories: &[&[T]]) -> Aggregate<T> {
    aggregate_inputs(&FoolsGold {}, &Inputs { extras: histories, ..Inputs::new(rows) }).unwrap()
}

const ROWS: [&[f64]; 4] = [&[1.0, 0.2, 0.0], &[0.9, 0.3, 0.1], &[0.1, 1.0, 0.3], &[-0.2, 0.1, 1.0]];
const ZERO: [&[f64]; 4] = [&[0.0; 3]; 4];

#[track_caller]
fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance, "{got:?} is not {expected:?}");
    }
}

fn sums(histories: &[&[f64]]) -> Vec<Vec<f64>> {
    ROWS.iter().zip(histories).map(|(row, history)| row.iter().zip(*history).map(|(a, b)| a + b).collect()).collect()
}

#[test]
fn sybils_that_move_alike_share_nothing_with_the_mean() {
    let result = run(&[&[1.0, 0.0], &[2.0, 0.0], &[0.0, 1.0], &[-1.0, -1.0]], &[[0.0, 0.0].as_slice(); 4]);
    // Row 3 has a largest cosine of −√½, which pardoning turns into (−√½)² = ½ against the Sybils: a = ½, weight ½.
    assert_close(result.scores.as_ref().unwrap(), &[0.0, 0.0, 1.0, 0.5], 1e-15);
    assert_close(&result.output, &[-1.0 / 3.0, 1.0 / 3.0], 1e-15);
    assert_eq!(result.verdicts[1], Verdict::Rejected { reason: RowReason::NotSelected });
}

#[test]
fn the_history_counts_with_the_row() {
    let histories: [&[f64]; 4] = [&[5.0, 0.0, 1.0], &[0.0, 4.0, 0.0], &[5.0, -1.0, 1.0], &[0.0, 0.0, 2.0]];
    let summed = sums(&histories);
    let views: Vec<&[f64]> = summed.iter().map(Vec::as_slice).collect();
    let (got, expected) = (run(&ROWS, &histories), run(&views, &ZERO));
    assert_close(&got.scores.unwrap(), &expected.scores.unwrap(), 1e-13);
    // But the rows are averaged, not the sums.
    assert!(got.output.iter().all(|value| value.abs() <= 1.0));
}

#[test]
fn a_row_that_cancels_its_history_keeps_its_direction() {
    // The sums are the plain rows, under histories a million and a thousand million times longer.
    for far in [2_f64.powi(20), 2_f64.powi(30)] {
        let histories: Vec<Vec<f64>> =
            (0..4).map(|row| (0..3).map(|c| far * f64::from(1 + (row * 3 + c) % 5)).collect()).collect();
        // Multiples of 2^-10 survive beside the histories; weights between 0 and 1 show every digit of the cosines.
        let sums: Vec<Vec<f64>> = [[1.0, 0.0, 0.0], [0.625, 0.75, 0.0], [0.0, 0.0, 1.0], [0.125, -0.875, 0.25]]
            .iter()
            .map(|row| row.to_vec())
            .collect();
        let rows: Vec<Vec<f64>> = sums
            .iter()
            .zip(&histories)
            .map(|(sum, history)| sum.iter().zip(history).map(|(a, b)| a - b).collect())
            .collect();
        let views = |rows: &[Vec<f64>]| rows.iter().map(|row| row.clone().leak() as &[f64]).collect::<Vec<_>>();
        let got = run(&views(&rows), &views(&histories)).scores.unwrap();
        let expected = run(&views(&sums), &ZERO).scores.unwrap();
        assert!(expected[0] > 0.0 && expected[0] < 1.0, "{expected:?}");
        assert_close(&got, &expected, 1e-12);
    }
}

#[test]
fn rows_of_very_different_length_keep_their_directions() {
    for length in [1e-30, 1e9, 1e30] {
        let long: Vec<f64> = ROWS[2].iter().map(|value| value * length).collect();
        let result = run(&[ROWS[0], ROWS[1], &long, ROWS[3]], &ZERO);
        assert_close(&result.scores.unwrap(), &run(&ROWS, &ZERO).scores.unwrap(), 1e-12);
    }
    let single: [&[f32]; 3] = [&[1e30, 0.0], &[0.5, 1.0], &[0.0, -1e-20]];
    let result = run(&single, &[[0.0, 0.0].as_slice(); 3]);
    assert!(result.scores.unwrap().iter().all(|score| *score > 0.0) && result.output[0].is_finite());
}

#[test]
fn rows_or_histories_beyond_f64_are_left_out() {
    let result = run(&[ROWS[0], ROWS[1], &[1e200, 0.0, 0.0], ROWS[3]], &ZERO);
    assert_eq!(result.verdicts[2], Verdict::Rejected { reason: RowReason::Magnitude });
    assert!(result.output.iter().all(|value| value.abs() <= 1.0));
    let result = run(&ROWS, &[ZERO[0], &[-1e200, 0.0, 0.0], ZERO[2], ZERO[3]]);
    assert_eq!(result.scores.unwrap()[1], 0.0);
    let inputs: [&[f64]; 2] = [&[1e200], &[-1e200]];
    let error = aggregate_inputs(&FoolsGold {}, &Inputs { extras: &[[0.0].as_slice(); 2], ..Inputs::new(&inputs) })
        .unwrap_err();
    assert!(error.to_string().contains("rejects all 2 rows"), "{error}");
}

#[test]
fn identical_clients_leave_a_marked_zero_update_and_one_client_counts() {
    let result = run(&[ROWS[0]; 4], &ZERO);
    assert_eq!((result.output, result.scores), (vec![0.0; 3], Some(vec![0.0; 4])));
    assert!(result.degenerate.unwrap().contains("moved alike"));
    assert_eq!(run(&ROWS[..1], &ZERO[..1]).output, ROWS[0]);
    let result = run(&ZERO, &ZERO);
    assert_eq!((result.output, result.degenerate), (vec![0.0; 3], None));
}
