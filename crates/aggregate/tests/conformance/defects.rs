//! Defects that implementations of these rules are known to have. The number is the row of the design's list.

use testudo_aggregate::{AggregateError, RowsError, RuleConfig, RuleError, WeightsError, aggregate};

use crate::common::{Random, all_rules_for, has_a_radius, rule, run};

#[test]
fn defect_1_distances_are_never_negative_and_pick_the_right_row_far_from_the_origin() {
    let mut random = Random(21);
    for _ in 0..10 {
        let base: Vec<f64> = (0..2000).map(|_| random.normal() * 1000.0).collect();
        let rows: Vec<Vec<f32>> =
            (0..7).map(|_| base.iter().map(|value| (value + random.normal() * 1e-2) as f32).collect()).collect();
        let wide: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect();
        let centred: Vec<Vec<f64>> =
            wide.iter().map(|row| row.iter().zip(&wide[0]).map(|(a, b)| a - b).collect()).collect();
        let krum = RuleConfig::with_byzantine("krum", 2).unwrap();
        let (raw, reference) = (run(&krum, &rows).unwrap(), run(&krum, &centred).unwrap());
        assert_eq!(raw.selected, reference.selected);
        assert!(raw.scores.unwrap().iter().all(|score| *score > 0.0));
    }
}

#[test]
fn defect_3_claimed_counts_do_not_move_robust_rules_and_bad_counts_are_refused() {
    let rows: [&[f32]; 5] = [&[1.0], &[1.1], &[0.9], &[1.0], &[100.0]];
    let krum = RuleConfig::with_byzantine("krum", 1).unwrap();
    let error = aggregate(krum.rule(), &rows, Some(&[1.0, 1.0, 1.0, 1.0, 1e15]), None).unwrap_err();
    assert_eq!(error, AggregateError::WeightsUnused { kind: "krum" });
    for kind in ["median", "trimmed_mean", "multi_krum"] {
        let config = RuleConfig::with_byzantine(kind, 1).unwrap();
        let result = aggregate(config.rule(), &rows, Some(&[1.0, 1.0, 1.0, 1.0, 1e15]), None);
        // Capped at three medians the claim is less than half of all weight, or it is refused.
        match result {
            Ok(result) => assert!((0.9..=1.1).contains(&result.output[0]), "{kind}: {:?}", result.output),
            Err(error) => panic!("{kind}: {error}"),
        }
    }
    let mean = rule("kind = \"mean\"");
    let refuse = |weights: &[f64]| aggregate(mean.rule(), &rows, Some(weights), None).unwrap_err();
    assert_eq!(refuse(&[0.0; 5]), WeightsError::AllZero.into());
    assert_eq!(refuse(&[1.0, -2.0, 1.0, 1.0, 1.0]), WeightsError::Invalid { row: 1, weight: -2.0 }.into());
    assert!(matches!(
        refuse(&[f64::NAN, 1.0, 1.0, 1.0, 1.0]),
        AggregateError::Weights(WeightsError::Invalid { row: 0, .. })
    ));
    assert_eq!(refuse(&[1.0; 4]), WeightsError::Count { got: 4, rows: 5 }.into());
}

#[test]
fn defects_4_and_9_non_finite_rows_are_refused_before_any_choice() {
    let clean = Random(22).rows::<f32>(9, 5000);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (row, coordinate) in [(0, 0), (8, 4999), (4, 4096), (3, 31)] {
            let mut rows = clean.clone();
            rows[row][coordinate] = bad;
            for config in all_rules_for(9, 2) {
                let expected = AggregateError::Rows(RowsError::NonFinite { row, coordinate });
                assert_eq!(run(&config, &rows).unwrap_err(), expected, "{config}");
            }
            let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let mut weights = [1.0; 9];
            weights[row] = 0.0;
            let unweighted = aggregate(rule("kind = \"mean\"").rule(), &views, Some(&weights), None);
            assert_eq!(unweighted.unwrap_err(), RowsError::NonFinite { row, coordinate }.into());
        }
    }
}

#[test]
fn defect_7_sums_do_not_overflow_the_transport_type() {
    let rows = vec![vec![f32::MAX; 3]; 7];
    for config in all_rules_for(7, 2).into_iter().filter(|config| !has_a_radius(config)) {
        let result = run(&config, &rows).unwrap();
        let expected = if result.degenerate.is_some() { [0.0; 3] } else { [f32::MAX; 3] };
        assert_eq!(result.output, expected, "{config}");
    }
    let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let result = aggregate(rule("kind = \"mean\"").rule(), &views, Some(&[1e300; 7]), None).unwrap();
    assert_eq!(result.output, [f32::MAX; 3]);
    let wide = vec![vec![f64::MAX; 2]; 3];
    assert_eq!(run(&rule("kind = \"trimmed_mean\"\nbyzantine = 0"), &wide).unwrap().output, [f64::MAX; 2]);
}

#[test]
fn defect_8_too_few_rows_or_too_many_selected_are_refused() {
    let rows = Random(23).rows::<f32>(6, 3);
    for text in ["kind = \"krum\"\nbyzantine = 2", "kind = \"multi_krum\"\nbyzantine = 1\nselect = 6"] {
        assert!(matches!(run(&rule(text), &rows).unwrap_err(), AggregateError::Rule(_)), "{text}");
    }
    assert!(run(&rule("kind = \"multi_krum\"\nbyzantine = 1\nselect = 5"), &rows).is_ok());
}

#[test]
fn defect_11_caf_of_identical_rows_or_without_byzantine_is_the_mean() {
    let rows = vec![vec![3.0_f64, -1.0, 0.25]; 7];
    for f in 0..=3 {
        let caf = RuleConfig::with_byzantine("caf", f).unwrap();
        assert_eq!(run(&caf, &rows).unwrap().output, rows[0]);
    }
    let rows = Random(30).rows::<f64>(7, 20);
    let (caf, mean) = (rule("kind = \"caf\"\nbyzantine = 0"), rule("kind = \"mean\""));
    assert_eq!(run(&caf, &rows).unwrap().output, run(&mean, &rows).unwrap().output);
}

#[test]
fn defect_12_spectral_rules_use_exact_eigenvalues_and_repeat_themselves() {
    // Two directions of nearly the same variance: one power iteration from a random start picks either.
    let mut random = Random(31);
    let mut rows = random.rows::<f64>(9, 30);
    for (row, values) in rows.iter_mut().enumerate() {
        values[0] += 9.0 * [1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0][row];
        values[1] += 8.9 * [0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 0.0][row];
    }
    for kind in ["caf", "smea", "dnc"] {
        let text = format!("kind = \"{kind}\"\nbyzantine = 4");
        let config = rule(&if kind == "dnc" { text + "\niterations = 1" } else { text });
        let first = run(&config, &rows).unwrap();
        for _ in 0..50 {
            assert_eq!(run(&config, &rows).unwrap(), first, "{kind}");
        }
        if kind == "dnc" {
            // The four rows along the first direction, by 0.1 in 9.
            assert_eq!(first.selected, [4, 5, 6, 7, 8]);
        }
    }
}

#[test]
fn defect_23_lengths_are_judged_before_clipping_and_honest_rows_are_not_forced_into_two_clusters() {
    let signguard = RuleConfig::with_byzantine("signguard", 4).unwrap();
    let mut random = Random(32);
    let (mut rejected, rounds) = (0, 25);
    for _ in 0..rounds {
        let mut rows = random.rows::<f32>(20, 4000);
        let result = run(&signguard, &rows).unwrap();
        rejected += result.verdicts.iter().filter(|verdict| verdict.is_rejected()).count();
        rows[7].iter_mut().for_each(|value| *value *= 10.0);
        assert!(run(&signguard, &rows).unwrap().verdicts[7].is_rejected(), "clipped first it would be ordinary");
    }
    let share = rejected as f64 / f64::from(rounds);
    println!("SIGNGUARD {share}");
    assert!(share < 4.0, "{share} of 20 honest rows rejected");
}

#[test]
fn defect_26_filters_with_nothing_in_common_are_an_error_and_never_a_zero_update() {
    // The largest cluster of signs has the short rows, the ordinary lengths are elsewhere.
    let sign = |share: f64, length: f64| -> Vec<f64> {
        let mut random = Random(33);
        (0..40_000).map(|_| if random.uniform() < share { length } else { -length }).collect()
    };
    let rows = vec![sign(0.9, 0.01), sign(0.9, 50.0), sign(0.9, 0.02), sign(0.1, 1.0), sign(0.5, 1.0)];
    let error = run(&RuleConfig::with_byzantine("signguard", 2).unwrap(), &rows).unwrap_err();
    assert!(matches!(error, AggregateError::Rule(RuleError::AllRejected { kind: "signguard", rows: 5, .. })));
    // Iterations that could drop every row are refused beforehand, whatever they would drop.
    let dnc = rule("kind = \"dnc\"\nbyzantine = 1\niterations = 5\ncoordinates = 1");
    let error = run(&dnc, &rows).unwrap_err();
    assert!(matches!(error, AggregateError::Rule(RuleError::Parameter { kind: "dnc", key: "iterations", .. })));
    let mut random = Random(34);
    let dnc = rule("kind = \"dnc\"\nbyzantine = 2\niterations = 5\ncoordinates = 4");
    for _ in 0..50 {
        let result = run(&dnc, &random.rows::<f64>(11, 60)).unwrap();
        assert!(!result.selected.is_empty() && result.output.iter().any(|value| *value != 0.0));
    }
}

#[test]
fn defect_14_f64_rows_stay_f64_and_many_rows_use_direct_differences() {
    let mut random = Random(24);
    let rows: Vec<Vec<f64>> = (0..40).map(|_| (0..50).map(|_| 1e9 + random.normal() * 1e-3).collect()).collect();
    let result = run(&RuleConfig::with_byzantine("krum", 10).unwrap(), &rows).unwrap();
    let score = |row: usize| {
        let distance = |other: &Vec<f64>| rows[row].iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mut distances: Vec<f64> = rows.iter().map(distance).collect();
        distances.sort_by(f64::total_cmp);
        distances[1..=28].iter().sum::<f64>()
    };
    let best = (0..40).min_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
    assert_eq!(result.selected, [best]);
    assert_eq!(result.output, rows[best]);
}

#[test]
fn defect_21_scores_add_squared_distances() {
    // Squared distances favour row 0 (25 + 25 < 1 + 64), fourth powers too, but plain distances row 1; and with
    // 16 + 36 against 1 + 49 the squares favour the second choice where fourth powers favour the first.
    let rows: Vec<Vec<f64>> = [0.0, 4.0, -6.0, 100.0, 101.0, 107.0].iter().map(|value| vec![*value]).collect();
    let result = run(&rule("kind = \"krum\"\nbyzantine = 1\nneighbours = \"paper\""), &rows).unwrap();
    let expected = [
        52.0 + 1e4,
        116.0 + 96.0 * 96.0,
        136.0 + 106.0 * 106.0,
        50.0 + 96.0 * 96.0,
        37.0 + 97.0 * 97.0,
        85.0 + 103.0 * 103.0,
    ];
    assert_eq!(result.scores.unwrap(), expected);
}

#[test]
fn defect_22_survivors_are_added_and_extremes_never_subtracted() {
    let rows: Vec<Vec<f64>> = [1e8, -2e8, 3.0, 3.0, 3.0].iter().map(|value| vec![*value]).collect();
    assert_eq!(run(&rule("kind = \"trimmed_mean\"\nbyzantine = 1"), &rows).unwrap().output, [3.0]);
    let rows: Vec<Vec<f64>> = [1e200, -2e200, 3.0, 2.0, 4.0].iter().map(|value| vec![*value]).collect();
    assert_eq!(run(&rule("kind = \"trimmed_mean\"\nbyzantine = 1"), &rows).unwrap().output, [3.0]);
}

#[test]
fn defect_36_the_mean_of_ones_is_one() {
    let rows = vec![vec![1.0_f64; 10]; 9];
    for config in all_rules_for(9, 3).into_iter().filter(|config| !has_a_radius(config)) {
        let result = run(&config, &rows).unwrap();
        let expected = if result.degenerate.is_some() { [0.0; 10] } else { [1.0; 10] };
        assert_eq!(result.output, expected, "{config}");
    }
}

#[test]
fn defects_5_and_15_rows_that_are_given_are_never_changed_and_nothing_passes_unclipped() {
    let before = Random(41).rows::<f32>(9, 300);
    let rows = before.clone();
    let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    for pre in ["\"arc\"", "{ kind = \"clip\", radius = 0.5 }", "\"nnm\"", "\"bucketing\""] {
        let config = rule(&format!("kind = \"median\"\nbyzantine = 1\npre = [{pre}]"));
        aggregate(config.rule(), &views, None, None).unwrap();
    }
    for config in all_rules_for(9, 1) {
        run(&config, &rows).unwrap();
    }
    assert_eq!(rows, before);
    // A length beyond measure is refused or goes to zero; it does not pass because comparisons with NaN are false.
    let clip = rule("kind = \"mean\"\npre = [{ kind = \"clip\", radius = 1.0 }]");
    let poisoned = vec![vec![f32::NAN, 0.0], vec![0.5, 0.0], vec![0.5, 0.0]];
    assert_eq!(run(&clip, &poisoned).unwrap_err(), RowsError::NonFinite { row: 0, coordinate: 0 }.into());
    let huge = vec![vec![1e200_f64, 1e200], vec![0.5, 0.0], vec![0.5, 0.0]];
    let result = run(&clip, &huge).unwrap();
    assert!((result.output[0] - 1.0 / 3.0).abs() < 1e-15 && result.output[1] == 0.0, "{:?}", result.output);
    // Whole numbers are clipped like others, not rounded to zero.
    let whole = vec![vec![3.0_f32, 4.0]; 3];
    let output = run(&clip, &whole).unwrap().output;
    assert!((output[0] - 0.6).abs() < 1e-6 && (output[1] - 0.8).abs() < 1e-6, "{output:?}");
}
