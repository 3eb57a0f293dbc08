//! Extreme rows: huge, copied, nearly equal, far from the origin.

use testudo_aggregate::{AggregateError, PreConfig, RowReason, RuleConfig, RuleError, Verdict};

use crate::common::{Random, all_rules_for, rule, run};

#[test]
fn huge_rows_leave_the_coordinate_rules_inside_the_honest_box() {
    let mut random = Random(11);
    for (n, f) in [(5, 2), (8, 3), (20, 9), (64, 20), (300, 60)] {
        for huge in [1e30_f32, -1e30, f32::MAX, f32::MIN] {
            let mut rows = random.rows::<f32>(n, 70);
            for row in rows.iter_mut().take(f) {
                row.iter_mut().for_each(|value| *value = if random.below(3) == 0 { -huge } else { huge });
            }
            for kind in ["median", "trimmed_mean", "meamed", "phocas"] {
                let result = run(&RuleConfig::with_byzantine(kind, f).unwrap(), &rows).unwrap();
                for (c, value) in result.output.iter().enumerate() {
                    let honest = rows[f..].iter().map(|row| row[c]);
                    let (low, high) = (honest.clone().fold(f32::MAX, f32::min), honest.fold(f32::MIN, f32::max));
                    assert!((low..=high).contains(value), "{kind}, n = {n}: {value} not in {low}..={high}");
                }
                if kind != "median" {
                    assert!(result.verdicts[..f].iter().all(|verdict| *verdict == Verdict::Trimmed { share: 1.0 }));
                }
            }
        }
    }
}

#[test]
fn huge_or_copied_rows_never_make_a_rule_fail_or_yield_nan() {
    let mut random = Random(12);
    for (n, f) in [(5, 1), (9, 3), (13, 5)] {
        let honest = random.rows::<f32>(n, 40);
        let attacks: Vec<Vec<f32>> =
            vec![vec![1e30; 40], vec![f32::MAX; 40], vec![f32::MIN; 40], honest[n - 1].clone(), vec![1e-45; 40]];
        for attack in attacks {
            let mut rows = honest.clone();
            rows.iter_mut().take(f).for_each(|row| row.clone_from(&attack));
            for config in all_rules_for(n, f) {
                let result = match run(&config, &rows) {
                    Err(AggregateError::Rule(RuleError::AllRejected { .. })) if config.kind() == "signguard" => {
                        continue;
                    }
                    result => result.unwrap(),
                };
                assert!(result.output.iter().all(|value| value.is_finite()), "{config}");
            }
        }
    }
}

#[test]
fn every_pre_aggregation_goes_with_every_rule() {
    let mut random = Random(20);
    let (n, f) = (16, 2);
    let mut rows = random.rows::<f32>(n, 30);
    for huge in [false, true] {
        if huge {
            rows.iter_mut().take(f).for_each(|row| row.fill(1e30));
        }
        for pre in ["clip", "arc", "nnm", "bucketing"] {
            for config in all_rules_for(n, f) {
                let config = config.after(vec![PreConfig::example(pre).unwrap()], f);
                // Bucketing leaves fewer rows than some rules take.
                let Ok(config) = config.fit(n) else { continue };
                let result = run(&config, &rows).unwrap();
                assert!(result.output.iter().all(|value| value.is_finite()), "{config}");
                assert_eq!(result.verdicts.len(), n, "{config}");
            }
        }
    }
}

#[test]
fn krum_rejects_huge_rows_and_accepts_one_honest_row() {
    let mut rows = Random(13).rows::<f32>(11, 50);
    rows.iter_mut().take(4).for_each(|row| row.iter_mut().for_each(|value| *value = 1e30));
    let krum = run(&RuleConfig::with_byzantine("krum", 4).unwrap(), &rows).unwrap();
    assert_eq!(krum.verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count(), 1);
    assert!(krum.selected[0] >= 4);
    let multi = run(&RuleConfig::with_byzantine("multi_krum", 4).unwrap(), &rows).unwrap();
    for (row, verdict) in multi.verdicts.iter().enumerate() {
        let expected = if row < 4 { Verdict::Rejected { reason: RowReason::NotSelected } } else { Verdict::Accepted };
        assert_eq!(*verdict, expected);
    }
}

#[test]
fn rows_beyond_f64_sort_last_and_are_rejected_for_magnitude() {
    let mut rows = Random(14).rows::<f64>(9, 20);
    rows[2].iter_mut().for_each(|value| *value *= 1e200);
    rows[5].iter_mut().for_each(|value| *value *= -1e200);
    for kind in ["krum", "multi_krum", "mda", "cge"] {
        let result = run(&RuleConfig::with_byzantine(kind, 3).unwrap(), &rows).unwrap();
        for row in [2, 5] {
            assert_eq!(result.verdicts[row], Verdict::Rejected { reason: RowReason::Magnitude }, "{kind}");
        }
        assert!(result.output.iter().all(|value| value.abs() < 10.0), "{kind}");
        assert!(result.scores.into_iter().flatten().all(|score| !score.is_nan()));
    }
    for config in all_rules_for(9, 3) {
        let result = run(&config, &rows).unwrap();
        assert!(result.output.iter().all(|value| value.is_finite()), "{config}");
        assert!(result.scores.into_iter().flatten().all(|score| !score.is_nan()), "{config}");
    }
    let mut rows = Random(18).rows::<f64>(9, 20);
    rows.iter_mut().flatten().for_each(|value| *value *= 1e200);
    for kind in ["krum", "multi_krum", "bulyan", "mda", "cge", "geometric_median", "centered_clipping", "norm_clip"] {
        let config = RuleConfig::with_byzantine(kind, 3).unwrap().fit(9).unwrap();
        match run(&config, &rows).unwrap_err() {
            AggregateError::Rule(RuleError::AllRejected { kind: refused, rows: 9, .. }) => assert_eq!(refused, kind),
            other => panic!("{kind}: {other}"),
        }
    }
}

#[test]
fn filters_leave_out_rows_beyond_f64_and_huge_rows_reach_nothing() {
    let clean = Random(19).rows::<f64>(13, 20);
    let rules = ["smea", "caf", "flame", "signguard", "dnc", "fltrust", "foolsgold"];
    for kind in rules {
        let config = match kind {
            "fltrust" | "foolsgold" => rule(&format!("kind = \"{kind}\"")),
            "dnc" => rule("kind = \"dnc\"\nbyzantine = 3\niterations = 1"),
            _ => rule(&format!("kind = \"{kind}\"\nbyzantine = 3")),
        };
        let mut rows = clean.clone();
        rows[2].iter_mut().for_each(|value| *value *= 1e200);
        rows[5].iter_mut().for_each(|value| *value *= -1e200);
        let result = match run(&config, &rows) {
            // Few coordinates make a small sample of signs.
            Err(AggregateError::Rule(RuleError::AllRejected { .. })) if kind == "signguard" => continue,
            result => result.unwrap(),
        };
        for row in [2, 5] {
            assert_eq!(result.verdicts[row], Verdict::Rejected { reason: RowReason::Magnitude }, "{kind}");
        }
        assert!(result.output.iter().all(|value| value.abs() < 10.0), "{kind}: {:?}", result.output);
        // FoolsGold weighs directions alone.
        if kind == "foolsgold" {
            continue;
        }
        for huge in [1e30, -1e30, 1e120] {
            let mut rows = clean.clone();
            rows[2].iter_mut().for_each(|value| *value *= huge);
            rows[5].iter_mut().for_each(|value| *value = huge);
            let result = run(&config, &rows).unwrap();
            assert!(result.output.iter().all(|value| value.abs() < 10.0), "{kind}, {huge}: {:?}", result.output);
        }
    }
}

#[test]
fn distances_survive_an_offset_of_1e8() {
    let mut random = Random(15);
    let rows = random.rows::<f64>(7, 3000);
    let moved: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|value| value + 1e8).collect()).collect();
    // The reference is computed from the moved rows, because the move itself rounds.
    let back: Vec<Vec<f64>> = moved.iter().map(|row| row.iter().map(|value| value - 1e8).collect()).collect();
    let krum = RuleConfig::with_byzantine("krum", 1).unwrap();
    let (near, far) = (run(&krum, &back).unwrap(), run(&krum, &moved).unwrap());
    assert_eq!(near.selected, far.selected);
    for (a, b) in near.scores.unwrap().iter().zip(far.scores.unwrap()) {
        assert!((a - b).abs() <= 1e-9 * a, "{a} {b}");
    }
}

/// Relative error of the distances of f32 rows.
const NEAR: f64 = 18.0 / 16_777_216.0;

#[test]
fn a_small_spread_around_large_weights_keeps_its_digits() {
    let mut random = Random(16);
    let dimension = 1_000_000;
    let base: Vec<f64> = (0..dimension).map(|_| random.normal() * 0.05).collect();
    let rows: Vec<Vec<f32>> = (0..5)
        .map(|row| {
            base.iter().map(|value| (value + random.normal() * 1e-4 * (1.0 + f64::from(row) * 0.01)) as f32).collect()
        })
        .collect();
    let result = run(&RuleConfig::with_byzantine("krum", 1).unwrap(), &rows).unwrap();
    let exact =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    for (row, score) in result.scores.unwrap().iter().enumerate() {
        let mut distances: Vec<f64> =
            (0..5).filter(|&other| other != row).map(|other| exact(&rows[row], &rows[other])).collect();
        distances.sort_by(f64::total_cmp);
        let expected = distances[0] + distances[1];
        assert!((score - expected).abs() <= NEAR * expected, "{score} {expected}");
    }
}

#[test]
fn rows_that_differ_in_one_coordinate_of_a_long_vector_are_told_apart() {
    // Length 4.5e4: a single-precision inner product would lose the difference of 1e-4 in 2e9.
    let base = vec![45.0_f32; 1_000_000];
    let mut rows = vec![base; 5];
    for (row, values) in rows.iter_mut().enumerate() {
        values[row * 1000] += 0.01 * (row as f32 + 1.0);
    }
    let result = run(&RuleConfig::with_byzantine("krum", 1).unwrap(), &rows).unwrap();
    assert_eq!(result.selected, [0]);
    let delta: Vec<f64> = (0..5).map(|row| f64::from(rows[row][row * 1000]) - 45.0).collect();
    let expected = 2.0 * delta[0].powi(2) + delta[1].powi(2) + delta[2].powi(2);
    assert!((result.scores.unwrap()[0] - expected).abs() <= NEAR * expected);
}

#[test]
fn nearly_equal_colluders_keep_positive_distances() {
    let mut random = Random(17);
    let mut rows = random.rows::<f64>(9, 1000);
    for colluder in 1..4 {
        rows[colluder] = rows[0].clone();
        rows[colluder][colluder] += 1e-9;
    }
    let result = run(&RuleConfig::with_byzantine("krum", 3).unwrap(), &rows).unwrap();
    let scores = result.scores.unwrap();
    assert!(scores.iter().all(|score| *score > 0.0));
    // Four neighbours, of which three are copies: the fourth distance decides.
    assert!(scores[..4].iter().all(|score| (score - scores[0]).abs() < 1e-6));
}
