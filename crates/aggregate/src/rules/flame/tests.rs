use super::*;
use crate::aggregate::{Aggregate, aggregate};
use crate::element::Element;
use crate::verdict::{RowReason, Verdict};

fn run<T: Element>(byzantine: usize, rows: &[&[T]]) -> Aggregate<T> {
    aggregate(&Flame { byzantine }, rows, None, None).unwrap()
}

fn on_a_line(values: &[f64], size: usize) -> Vec<usize> {
    let points: Vec<usize> = (0..values.len()).collect();
    densest(&points, size, |a, b| (values[a] - values[b]).abs()).unwrap()
}

#[test]
fn the_component_that_first_reaches_the_size_is_kept() {
    // Edges 1, 1.5, 2, 3: three of five are together at 1.5.
    assert_eq!(on_a_line(&[0.0, 1.0, 2.5, 4.5, 7.5], 3), [0, 1, 2]);
    // Two pairs at distance 1 meet at 3: all four, though three would do.
    assert_eq!(on_a_line(&[0.0, 1.0, 4.0, 5.0, 20.0], 3), [0, 1, 2, 3]);
    // Ties: the neighbours at the same distance come in together.
    assert_eq!(on_a_line(&[4.0, 3.0, 2.0, 1.0, 0.0], 3), [0, 1, 2, 3, 4]);
    assert_eq!(on_a_line(&[7.0, 7.0, 9.0, 7.0, 1.0, 7.0], 4), [0, 1, 3, 5]);
    assert_eq!(on_a_line(&[7.0], 1), [0]);
    assert!(densest(&[0, 1], 3, |_, _| 0.0).is_none());
}

/// The condensed tree as Campello et al. build it, point by point: thresholds from the largest down; the root keeps
/// the one component of at least `size`; a point's density is where it leaves the root.
fn naive(values: &[f64], size: usize) -> Vec<usize> {
    let mut thresholds: Vec<f64> = vec![];
    for (i, a) in values.iter().enumerate() {
        thresholds.extend(values[..i].iter().map(|b| (a - b).abs()));
    }
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    // λ = 1/distance at which each point leaves: the least threshold at which it is still in the root.
    let mut leaves = vec![f64::INFINITY; values.len()];
    for threshold in thresholds.into_iter().rev() {
        let component = |start: usize| {
            let mut inside = vec![start];
            let mut at = 0;
            while at < inside.len() {
                for other in 0..values.len() {
                    if !inside.contains(&other) && (values[inside[at]] - values[other]).abs() <= threshold {
                        inside.push(other);
                    }
                }
                at += 1;
            }
            inside
        };
        for start in 0..values.len() {
            let inside = component(start);
            if inside.len() >= size {
                inside.iter().for_each(|&point| leaves[point] = threshold);
            }
        }
    }
    let densest = leaves.iter().copied().fold(f64::INFINITY, f64::min);
    (0..values.len()).filter(|&point| leaves[point] <= densest).collect()
}

#[test]
fn it_is_hdbscan_with_a_single_cluster() {
    for seed in 0..200 {
        let n = 5 + (seed % 9) as usize;
        let value = |row: usize| {
            let drawn = crate::needs::draw(seed, 0, row);
            if seed % 2 == 0 { (drawn % 13) as f64 } else { (drawn % 1_000_003) as f64 }
        };
        let values: Vec<f64> = (0..n).map(value).collect();
        assert_eq!(on_a_line(&values, n / 2 + 1), naive(&values, n / 2 + 1), "{values:?}");
    }
}

#[test]
fn kept_rows_are_shortened_to_the_median_length() {
    let rows: [&[f64]; 5] = [&[1.0, 0.0], &[4.0, 0.01], &[2.0, 0.01], &[0.0, -8.0], &[0.0, 3.0]];
    let result = run(2, &rows);
    assert_eq!(result.selected, [0, 1, 2]);
    let radius = 3.0;
    let factor = radius / (16.0_f64 + 1e-4).sqrt();
    let Verdict::Clipped { factor: got } = result.verdicts[1] else { panic!("{:?}", result.verdicts) };
    assert!((got - factor).abs() < 1e-15);
    assert!((result.output[0] - (3.0 + 4.0 * factor) / 3.0).abs() < 1e-15);
    assert_eq!(result.verdicts[3], Verdict::Rejected { reason: RowReason::NotSelected });
}

#[test]
fn parallel_rows_are_one_cluster_whatever_their_length() {
    let rows: [&[f64]; 5] = [&[0.1, 0.3], &[0.7, 2.1], &[1e-9, 3e-9], &[1e12, 3e12], &[0.3, 0.9]];
    let result = run(2, &rows);
    assert_eq!(result.selected, [0, 1, 2, 3, 4]);
    let length: f64 = 0.3 * 10.0_f64.sqrt();
    assert!((result.notes[0].value - length).abs() < 1e-15);
}

#[test]
fn far_rows_are_clipped_and_rows_beyond_f64_left_out() {
    let rows: [&[f32]; 5] = [&[1e30, 0.0], &[1.0, 0.1], &[1.0, -0.1], &[0.0, 1.0], &[0.0, -1.0]];
    let result = run(2, &rows);
    assert_eq!(result.selected, [0, 1, 2]);
    assert!(result.output[0] <= 1.1 && result.output[1].abs() < 1e-6, "{:?}", result.output);
    let rows: [&[f64]; 5] = [&[1e200, 0.0], &[1.0, 0.1], &[1.0, -0.1], &[0.0, 1.0], &[0.0, -1.0]];
    let result = run(2, &rows);
    assert_eq!(result.verdicts[0], Verdict::Rejected { reason: RowReason::Magnitude });
    assert!(result.output.iter().all(|value| value.abs() <= 1.1));
    let rows: [&[f64]; 5] = [&[1e200], &[-1e200], &[3e200], &[1.0], &[2.0]];
    let error = aggregate(&Flame { byzantine: 2 }, &rows, None, None).unwrap_err();
    assert!(error.to_string().contains("rejects all 5 rows"), "{error}");
}

#[test]
fn fewer_than_five_rows_are_refused() {
    let message = Flame { byzantine: 1 }.check(4).unwrap_err().to_string();
    assert!(message.contains("needs 2f < n and n ≥ 5, but there are 4 rows; it takes at least 5 rows"), "{message}");
    assert!(Flame { byzantine: 2 }.check(5).is_ok() && Flame { byzantine: 3 }.check(6).is_err());
    assert_eq!((Flame { byzantine: 0 }.min_rows(), Flame { byzantine: 7 }.min_rows()), (5, 15));
    assert_eq!(run(2, &[[0.1_f64, 7.0].as_slice(); 5]).output, [0.1, 7.0]);
    assert_eq!(run(2, &[[0.0_f64, 0.0].as_slice(); 5]).output, [0.0, 0.0]);
}
