//! Defects of rules that cut by count, select by distance or iterate. The number is the row of the design's list.

use testudo_aggregate::rules::Cut;
use testudo_aggregate::{AggregateError, Inputs, RowsError, RuleConfig, Verdict, aggregate, aggregate_inputs};

use crate::common::{Random, rule, run};

/// Iterated Krum spelt out: the rows in order of selection.
fn krum_by_krum(rows: &[Vec<f64>], f: usize) -> Vec<usize> {
    let distance = |a: usize, b: usize| rows[a].iter().zip(&rows[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut selected = Vec::new();
    while selected.len() < rows.len() - 2 * f {
        let score = |row: usize| {
            let mut sorted: Vec<f64> = left.iter().filter(|&&o| o != row).map(|&other| distance(row, other)).collect();
            sorted.sort_by(f64::total_cmp);
            sorted.iter().take(left.len().saturating_sub(f + 2).max(1)).sum::<f64>()
        };
        let best = left.iter().copied().min_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
        left.retain(|row| *row != best);
        selected.push(best);
    }
    selected
}

#[test]
fn defects_2_and_38_bulyan_scores_anew_after_every_choice() {
    let mut random = Random(31);
    let mut differing = 0;
    for _ in 0..100 {
        let rows = random.rows::<f64>(15, 6);
        let result = run(&rule("kind = \"bulyan\"\nbyzantine = 3"), &rows).unwrap();
        assert_eq!(result.selected, krum_by_krum(&rows, 3));
        let one_shot = run(&rule("kind = \"bulyan\"\nbyzantine = 3\nselection = \"one_shot\""), &rows).unwrap();
        let mut by_score: Vec<usize> = (0..15).collect();
        let scores = one_shot.scores.unwrap();
        by_score.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        assert_eq!(one_shot.selected, by_score[..9]);
        differing += usize::from(one_shot.output != result.output);
    }
    assert!(differing > 80, "{differing}");
}

#[test]
fn defect_6_byzantine_is_a_count_and_zero_cuts_nothing() {
    let rows: Vec<Vec<f64>> = (0..44).map(|row| vec![if row < 15 { 1e6 } else { f64::from(row) }]).collect();
    let result = run(&RuleConfig::with_byzantine("trimmed_mean", 15).unwrap(), &rows).unwrap();
    // 15 + ... + 43 without its 15 smallest: 30 to 43.
    assert_eq!(result.output, [36.5]);
    let result = run(&RuleConfig::with_byzantine("trimmed_mean", 0).unwrap(), &[vec![1.0_f32], vec![2.0]]).unwrap();
    assert_eq!(result.output, [1.5]);
    // The share f/n, cut off, is f−1 for some: only where that is asked for.
    let (mut pairs, mut short) = (0, Vec::new());
    for n in 1..=200 {
        for f in (1..n).take_while(|f| 2 * f < n) {
            let cut = |floor| Cut::Fraction { fraction: f as f64 / n as f64, floor }.of(n);
            assert_eq!(cut(false), f, "n = {n}");
            pairs += 1;
            if cut(true) != f {
                assert_eq!(cut(true), f - 1);
                short.push((n, f));
            }
        }
    }
    assert_eq!((pairs, short.len(), short[0]), (9900, 368, (44, 15)));
}

#[test]
fn defect_10_centred_clipping_has_no_default_radius_takes_whole_numbers_and_forgets_refused_rounds() {
    let missing = toml::from_str::<RuleConfig>("kind = \"centered_clipping\"").unwrap_err().to_string();
    assert!(missing.contains("`radius` is missing"), "{missing}");
    let (whole, real) = ("kind = \"centered_clipping\"\nradius = 2", "kind = \"centered_clipping\"\nradius = 2.0");
    assert_eq!(rule(whole), rule(real));
    let rows: [&[f64]; 3] = [&[1.0, 0.0], &[5.0, 2.0], &[0.0, 1.0]];
    let poisoned: [&[f64]; 3] = [rows[0], &[f64::NAN, 0.0], rows[2]];
    let last: &[f64] = &[0.5, 0.5];
    let step = |rows: &[&[f64]]| aggregate_inputs(rule(whole).rule(), &Inputs { extras: &[last], ..Inputs::new(rows) });
    let before = step(&rows).unwrap();
    let refused = step(&poisoned).unwrap_err();
    assert_eq!(refused, AggregateError::Rows(RowsError::NonFinite { row: 1, coordinate: 0 }));
    let after = step(&rows).unwrap();
    assert_eq!((after.output, after.memory), (before.output, None));
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn objective(rows: &[Vec<f64>], weights: &[f64], z: &[f64]) -> f64 {
    rows.iter().zip(weights).map(|(row, weight)| weight * distance(row, z)).sum()
}

#[test]
fn defect_13_the_geometric_median_does_not_start_at_zero() {
    let rows = Random(32).rows::<f64>(9, 20);
    let moved: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|value| value + 1024.0).collect()).collect();
    for text in ["", "\nsteps = 3\ntolerance = 0"] {
        let config = rule(&format!("kind = \"geometric_median\"{text}"));
        let (here, there) = (run(&config, &rows).unwrap().output, run(&config, &moved).unwrap().output);
        let back: Vec<f64> = there.iter().map(|value| value - 1024.0).collect();
        assert!(distance(&here, &back) < 1e-10);
    }
    let zero = rule("kind = \"geometric_median\"\nstart = \"zero\"\nsteps = 3\nnu = 0.1\ntolerance = 0");
    let (here, there) = (run(&zero, &rows).unwrap().output, run(&zero, &moved).unwrap().output);
    let back: Vec<f64> = there.iter().map(|value| value - 1024.0).collect();
    assert!(distance(&here, &back) > 1e-3, "the compatibility mode reproduces it");
}

#[test]
fn defects_28_and_29_equal_weights_stay_apart_and_weights_do_not_compound() {
    let mut random = Random(33);
    let mean = rule("kind = \"mean\"");
    for round in 0..60 {
        let (n, d) = (3 + round % 9, 1 + round % 17);
        let mut rows = random.rows::<f64>(n, d);
        rows[0].iter_mut().for_each(|value| *value *= 100.0);
        let weights: Vec<f64> = (0..n).map(|row| if row % 2 == 0 { 1.0 } else { 2.0 }).collect();
        let views: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        for weights in [vec![1.0; n], weights] {
            let config = rule("kind = \"geometric_median\"");
            let median = aggregate(config.rule(), &views, Some(&weights), None).unwrap().output;
            let mean = aggregate(mean.rule(), &views, Some(&weights), None).unwrap().output;
            assert!(objective(&rows, &weights, &median) <= objective(&rows, &weights, &mean));
            // No small move improves it by more than the tolerance and the floor under distances allow.
            for _ in 0..10 {
                let step: Vec<f64> = median.iter().map(|value| value + 1e-2 * random.normal()).collect();
                let (here, there) = (objective(&rows, &weights, &median), objective(&rows, &weights, &step));
                assert!(here <= there * (1.0 + 1e-5), "{here} {there}");
            }
        }
    }
    // Equal weights are one per row, not one per value: the first row alone is far off.
    let rows: [&[f64]; 3] = [&[1000.0], &[1.0], &[2.0]];
    let config = rule("kind = \"geometric_median\"");
    let output = aggregate(config.rule(), &rows, Some(&[1.0; 3]), None).unwrap().output;
    assert!((output[0] - 2.0).abs() < 1e-3, "{output:?}");
}

#[test]
fn defect_30_bulyan_takes_huge_rows_refuses_nan_by_name_and_keeps_n_minus_4f() {
    let config = rule("kind = \"bulyan\"\nbyzantine = 2");
    let mut rows: Vec<Vec<f64>> = (0..11).map(|row| vec![f64::from(row)]).collect();
    rows[3] = vec![f64::NAN];
    let error = run(&config, &rows).unwrap_err();
    assert_eq!(error, AggregateError::Rows(RowsError::NonFinite { row: 3, coordinate: 0 }));
    for huge in [1e21, 1e200] {
        rows[3] = vec![huge];
        let result = run(&config, &rows).unwrap();
        assert!(result.verdicts[3].is_rejected() && result.output[0] < 10.0);
        // Seven are selected, and of these three are kept.
        assert_eq!(result.selected.len(), 7);
        assert_eq!(result.verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count(), 3);
    }
    assert!(config.rule().check(10).is_err() && config.rule().check(11).is_ok());
}
