use super::*;
use proptest::prelude::*;

/// Per coordinate: the sum without the `cut` smallest and largest.
fn trimmed_sum(rows: &[Vec<f64>], cut: usize) -> Vec<f64> {
    (0..rows[0].len())
        .map(|coordinate| {
            let mut column: Vec<f64> = rows.iter().map(|row| row[coordinate]).collect();
            column.sort_by(f64::total_cmp);
            column[cut..column.len() - cut].iter().sum()
        })
        .collect()
}

/// Σ (projection onto the ball of `radius` around `centre`) − centre.
fn centred_sum(rows: &[Vec<f64>], centre: &[f64], radius: f64) -> Vec<f64> {
    let mut sum = vec![0.0; centre.len()];
    for row in rows {
        let offset: Vec<f64> = row.iter().zip(centre).map(|(row, centre)| row - centre).collect();
        let scale = (radius / norm(&offset)).min(1.0);
        for (sum, offset) in sum.iter_mut().zip(&offset) {
            *sum += scale * offset;
        }
    }
    sum
}

fn multi_krum_sum(rows: &[Vec<f64>], byzantine: usize, selected: usize) -> Vec<f64> {
    let mut scored: Vec<(f64, usize)> = (0..rows.len())
        .map(|index| {
            let mut distances: Vec<f64> = (0..rows.len())
                .filter(|other| *other != index)
                .map(|other| distance(&rows[index], &rows[other]))
                .collect();
            distances.sort_by(f64::total_cmp);
            let near = rows.len() - byzantine - 2;
            (distances[..near].iter().map(|distance| distance * distance).sum(), index)
        })
        .collect();
    scored.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    let mut sum = vec![0.0; rows[0].len()];
    for (_, index) in &scored[..selected] {
        for (sum, value) in sum.iter_mut().zip(&rows[*index]) {
            *sum += value;
        }
    }
    sum
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn distance(left: &[f64], right: &[f64]) -> f64 {
    norm(&left.iter().zip(right).map(|(left, right)| left - right).collect::<Vec<_>>())
}

/// Rows within the unit ball.
fn rows(count: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    let row = prop::collection::vec(-1.0..1.0_f64, 3).prop_map(|row| {
        let scale = (1.0 / norm(&row)).min(1.0);
        row.into_iter().map(|value| value * scale).collect()
    });
    prop::collection::vec(row, count)
}

fn bound(rule: Combination, count: u64, adjacency: Adjacency) -> f64 {
    rule.sensitivity(RowBounds::clients(count, 1.0), adjacency).unwrap().numerator
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_client_moves_a_private_rule_further_than_its_bound(mut rows in rows(7), other in rows(1)) {
        let centre = [0.3, -0.2, 0.1];
        type Sum = Box<dyn Fn(&[Vec<f64>]) -> Vec<f64>>;
        let rules: [(Combination, Sum); 4] = [
            (Combination::ClippedSum, Box::new(|rows| trimmed_sum(rows, 0))),
            (Combination::TrimmedMean { cut: 2 }, Box::new(|rows| trimmed_sum(rows, 2))),
            (Combination::CentredClipping { radius: 0.4 }, Box::new(move |rows| centred_sum(rows, &centre, 0.4))),
            (
                Combination::MultiKrum { selected: 3, accept_large_sensitivity: true },
                Box::new(|rows| multi_krum_sum(rows, 2, 3)),
            ),
        ];
        let before: Vec<Vec<f64>> = rules.iter().map(|(_, sum)| sum(&rows)).collect();
        rows[0] = other[0].clone();
        for ((rule, sum), before) in rules.iter().zip(&before) {
            let moved = distance(&sum(&rows), before);
            prop_assert!(moved <= bound(*rule, 7, Adjacency::ReplaceOne) + 1e-12, "{:?}: {}", rule, moved);
        }
        // Zero-out: the contribution is 0; in centred clipping it is left out.
        rows[0] = vec![0.0; 3];
        let zeroed = [trimmed_sum(&rows, 0), trimmed_sum(&rows, 2)];
        for (((rule, _), before), zeroed) in rules.iter().zip(&before).zip(&zeroed) {
            let moved = distance(zeroed, before);
            prop_assert!(moved <= bound(*rule, 7, Adjacency::ZeroOut) + 1e-12, "{:?}: {}", rule, moved);
        }
    }
}

#[test]
fn the_trimmed_mean_attains_its_bound() {
    // k rows at ±1 each; the client's value passes between them whole.
    let mut rows = vec![vec![-1.0], vec![1.0], vec![0.0], vec![1.0], vec![-1.0]];
    let before = trimmed_sum(&rows, 1);
    rows[2] = vec![1.0];
    assert_eq!(distance(&trimmed_sum(&rows, 1), &before), 1.0);
    let sensitivity =
        Combination::TrimmedMean { cut: 1 }.sensitivity(RowBounds::clients(5, 1.0), Adjacency::ZeroOut).unwrap();
    assert_eq!(sensitivity, Sensitivity { numerator: 1.0_f64.next_up(), divisor: 3.0 });
}

#[test]
fn the_median_really_moves_by_the_whole_clip() {
    // That is why it is refused: trimming all but one of three rows.
    let before = trimmed_sum(&[vec![0.0], vec![1.0], vec![0.0]], 1);
    let after = trimmed_sum(&[vec![1.0], vec![1.0], vec![0.0]], 1);
    assert_eq!(distance(&before, &after), 1.0);
}

#[test]
fn rules_without_a_proof_are_refused_with_the_reason_and_alternatives() {
    let rows = RowBounds::clients(20, 1.0);
    for kind in [
        "median",
        "krum",
        "geometric_median",
        "bulyan",
        "flame",
        "dnc",
        "signguard",
        "foolsgold",
        "rlr",
        "nnm",
        "arc",
        "mean",
    ] {
        let error = Combination::Other { kind }.sensitivity(rows, Adjacency::ZeroOut).unwrap_err().to_string();
        assert!(error.contains(kind) && error.contains("trimmed_mean"), "{error}");
    }
    let krum = |accept_large_sensitivity| Combination::MultiKrum { selected: 5, accept_large_sensitivity };
    assert!(
        krum(false).sensitivity(rows, Adjacency::ZeroOut).unwrap_err().to_string().contains("accept_large_sensitivity")
    );
    assert!(krum(true).sensitivity(rows, Adjacency::ZeroOut).is_ok());
    assert!(Combination::TrimmedMean { cut: 3 }.sensitivity(rows, Adjacency::AddOrRemove).is_err());
}

#[test]
fn groups_shrink_the_shift_but_not_what_a_selection_moves() {
    let groups = RowBounds::groups(10, 8, 1.0);
    let numerator = |rule: Combination| rule.sensitivity(groups, Adjacency::ZeroOut).unwrap().numerator;
    assert!((numerator(Combination::ClippedSum) - 0.125).abs() < 1e-15);
    assert!((numerator(Combination::TrimmedMean { cut: 2 }) - 0.125).abs() < 1e-15);
    let krum = Combination::MultiKrum { selected: 1, accept_large_sensitivity: true };
    assert!((numerator(krum) - 2.0).abs() < 1e-15);
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    let rows = RowBounds::clients(4, 1.0);
    assert!(Combination::TrimmedMean { cut: 2 }.sensitivity(rows, Adjacency::ZeroOut).is_err());
    assert!(Combination::CentredClipping { radius: f64::NAN }.sensitivity(rows, Adjacency::ZeroOut).is_err());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Combination::ClippedSum.sensitivity(RowBounds::clients(4, bad), Adjacency::ZeroOut).is_err());
    }
    assert!(Combination::ClippedSum.sensitivity(RowBounds::clients(0, 1.0), Adjacency::ZeroOut).is_err());
}
