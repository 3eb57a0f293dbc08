//! Symmetries every rule must have.

use proptest::prelude::*;
use testudo_aggregate::{Inputs, Rule, RuleConfig, Verdict, aggregate, aggregate_inputs, pre_aggregate};

use crate::common::{Random, all_rules_for, has_a_radius, rule, run, scales};

/// Rules that move with the rows.
const MOVE: [&str; 10] =
    ["median", "trimmed_mean", "krum", "multi_krum", "bulyan", "meamed", "phocas", "geometric_median", "mda", "monna"];

/// Rules whose aggregate moves with the rows, with the digits that are left of it at an offset of 1e8.
const TRANSLATED: [(&str, f64); 3] =
    [("kind = \"smea\"", 1e-15), ("kind = \"caf\"", 1e-15), ("kind = \"dnc\"\niterations = 1", 1e-15)];

/// Eigenvectors turn with rounding errors, over the gap between eigenvalues; so do the weights that follow from them.
fn digits(config: &RuleConfig) -> f64 {
    if config.kind() == "caf" { 1e-9 } else { 1e-13 }
}

fn close(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * (1.0 + expected.abs())
}

fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    for (got, expected) in got.iter().zip(expected) {
        assert!(close(*got, *expected, tolerance), "{what}: {got} {expected}");
    }
}

/// The same verdict, but for the last digits of a factor.
fn alike(a: Verdict, b: Verdict) -> bool {
    match (a, b) {
        (Verdict::Clipped { factor: a }, Verdict::Clipped { factor: b }) => close(a, b, 1e-14),
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_rows_does_not_matter(seed: u64, n in 5_usize..14, d in 1_usize..60) {
        let mut random = Random(seed);
        let rows = random.rows::<f64>(n, d);
        let order = random.permutation(n);
        let shuffled: Vec<Vec<f64>> = order.iter().map(|&row| rows[row].clone()).collect();
        // MoNNA goes by the number of a row. Ties are the rule elsewhere: in MDA the two rows farthest apart set the
        // diameter of many subsets, and among Bulyan's last rows two are nearest to each other.
        let by_number = |config: &RuleConfig| {
            let iterated = config.kind() == "bulyan" && !config.to_string().contains("one_shot");
            iterated || ["monna", "mda"].contains(&config.kind())
        };
        for config in all_rules_for(n, (n - 3) / 2).into_iter().filter(|config| !by_number(config)) {
            let Ok(a) = run(&config, &rows) else {
                prop_assert!(run(&config, &shuffled).is_err(), "{}", &config);
                continue;
            };
            let b = run(&config, &shuffled).unwrap();
            assert_close(&b.output, &a.output, digits(&config), &config.to_string());
            for (position, &row) in order.iter().enumerate() {
                prop_assert!(alike(b.verdicts[position], a.verdicts[row]), "{}", &config);
            }
        }
        let trusted = random.below(n);
        let monna = |row: usize| rule(&format!("kind = \"monna\"\nbyzantine = 1\nrow = {row}"));
        let position = order.iter().position(|&row| row == trusted).unwrap();
        let (a, b) = (run(&monna(trusted), &rows).unwrap(), run(&monna(position), &shuffled).unwrap());
        assert_close(&b.output, &a.output, 1e-13, "monna");
        let mda = RuleConfig::with_byzantine("mda", (n - 3) / 2).unwrap();
        let (a, b) = (run(&mda, &rows).unwrap(), run(&mda, &shuffled).unwrap());
        prop_assert_eq!(a.notes, b.notes, "the least diameter");
    }

    #[test]
    fn translation_moves_the_aggregate_with_the_rows(seed: u64, n in 5_usize..12, d in 1_usize..40) {
        // Multiples of 2^-16 survive the shift by 1e8 exactly.
        let mut random = Random(seed);
        let mut rows = random.rows::<f64>(n, d);
        rows.iter_mut().flatten().for_each(|value| *value = (*value * 65536.0).round() / 65536.0);
        let moved: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|value| value + 1e8).collect()).collect();
        for kind in MOVE {
            let config = RuleConfig::with_byzantine(kind, (n - 3) / 2).unwrap().fit(n).unwrap();
            let (a, b) = (run(&config, &rows).unwrap(), run(&config, &moved).unwrap());
            prop_assert_eq!(&a.selected, &b.selected);
            let expected: Vec<f64> = a.output.iter().map(|value| value + 1e8).collect();
            assert_close(&b.output, &expected, 1e-15, kind);
            if let (Some(a), Some(b)) = (a.scores, b.scores) {
                assert_close(&b, &a, 1e-9, kind);
            }
        }
    }

    #[test]
    fn translation_moves_the_filters_with_the_rows(seed: u64, n in 5_usize..12, d in 1_usize..40) {
        let mut random = Random(seed);
        let mut rows = random.rows::<f64>(n, d);
        rows.iter_mut().flatten().for_each(|value| *value = (*value * 65536.0).round() / 65536.0);
        let moved: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|value| value + 1e8).collect()).collect();
        for (text, tolerance) in TRANSLATED {
            let config = crate::common::rule(&format!("{text}\nbyzantine = {}", (n - 1) / 2));
            let (a, b) = (run(&config, &rows).unwrap(), run(&config, &moved).unwrap());
            prop_assert_eq!(&a.verdicts, &b.verdicts);
            let expected: Vec<f64> = a.output.iter().map(|value| value + 1e8).collect();
            assert_close(&b.output, &expected, tolerance, text);
        }
    }

    #[test]
    fn positive_scaling_scales_the_aggregate(seed: u64, n in 5_usize..12, d in 1_usize..40, exponent in -60_i32..60) {
        let mut random = Random(seed);
        let rows = random.rows::<f64>(n, d);
        let factor = 2_f64.powi(exponent);
        let scaled: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|value| value * factor).collect()).collect();
        for config in all_rules_for(n, 1).into_iter().filter(scales) {
            let Ok(a) = run(&config, &rows) else {
                prop_assert!(run(&config, &scaled).is_err(), "{}", &config);
                continue;
            };
            let b = run(&config, &scaled).unwrap();
            let expected: Vec<f64> = a.output.iter().map(|value| value * factor).collect();
            prop_assert_eq!(&b.output, &expected, "{}", &config);
            prop_assert_eq!(&a.verdicts, &b.verdicts);
        }
    }

    #[test]
    fn cut_coordinates_of_distinct_values_are_exactly_twice_byzantine(seed: u64, n in 3_usize..20, d in 1_usize..100) {
        let mut random = Random(seed);
        let rows = random.rows::<f64>(n, d);
        let f = random.below((n - 1) / 2 + 1);
        let result = run(&RuleConfig::with_byzantine("trimmed_mean", f).unwrap(), &rows).unwrap();
        let share = |verdict: &Verdict| if let Verdict::Trimmed { share } = verdict { share * d as f64 } else { 0.0 };
        let cut: f64 = result.verdicts.iter().map(share).sum();
        prop_assert!((cut - (2 * f * d) as f64).abs() < 1e-6);
    }
}

#[test]
fn without_byzantine_the_trimmed_mean_is_the_mean() {
    let rows = Random(5).rows::<f64>(9, 500);
    let mean = run(&RuleConfig::with_byzantine("mean", 0).unwrap(), &rows).unwrap();
    let trimmed = run(&RuleConfig::with_byzantine("trimmed_mean", 0).unwrap(), &rows).unwrap();
    assert_close(&trimmed.output, &mean.output, 1e-15, "trimmed_mean");
    assert_eq!(trimmed.verdicts, [Verdict::Accepted; 9]);
}

#[test]
fn without_byzantine_every_rule_that_leaves_out_rows_is_the_mean() {
    let rows = Random(6).rows::<f64>(7, 50);
    let mean = run(&RuleConfig::with_byzantine("mean", 0).unwrap(), &rows).unwrap();
    for kind in ["trimmed_mean", "meamed", "phocas", "multi_krum", "bulyan", "mda", "cge", "monna"] {
        let result = run(&RuleConfig::with_byzantine(kind, 0).unwrap(), &rows).unwrap();
        assert_close(&result.output, &mean.output, 1e-15, kind);
        assert_eq!(result.verdicts, [Verdict::Accepted; 7], "{kind}");
    }
}

#[test]
fn one_row_equal_rows_and_zero_rows_have_a_defined_outcome() {
    for config in all_rules_for(1, 0) {
        let result = run(&config, &[vec![1.5_f32, -2.0]]).unwrap();
        match config.to_string().as_str() {
            // A length of 2.5 against a radius.
            "norm_clip (radius = 1)" | "centered_clipping (byzantine = 0, radius = 1)" => {
                assert_eq!(result.output, [0.6, -0.8]);
            }
            "centered_clipping (byzantine = 0, radius = 0.5, steps = 3)" => assert_eq!(result.output, [0.9, -1.2]),
            _ => assert_eq!(result.output, [1.5, -2.0], "{config}"),
        }
    }
    for n in 3..9 {
        for row in [vec![0.0_f32; 5], vec![0.1, -3.7, 1e-40, f32::MAX, 1e30]] {
            for config in all_rules_for(n, 0).into_iter().chain(all_rules_for(n, (n - 3) / 2)) {
                let result = run(&config, &vec![row.clone(); n]).unwrap();
                if result.degenerate.is_some() {
                    assert_eq!(result.output, [0.0; 5], "{config}, {n} rows");
                    continue;
                }
                if !has_a_radius(&config) || row[0] == 0.0 {
                    assert_eq!(result.output, row, "{config}, {n} rows");
                }
                assert!(result.output.iter().all(|value| value.is_finite()), "{config}, {n} rows");
                assert!(!result.verdicts[0].is_rejected(), "ties go to the lowest row: {config}");
            }
        }
    }
}

#[test]
fn clipping_is_the_same_before_the_mean_as_a_rule_and_as_a_first_round_of_centred_clipping() {
    let mut random = Random(19);
    for n in [1, 2, 9] {
        let rows = random.rows::<f64>(n, 30);
        let outputs = [
            "kind = \"norm_clip\"\nradius = 5",
            "kind = \"mean\"\npre = [{ kind = \"clip\", radius = 5 }]",
            "kind = \"centered_clipping\"\nradius = 5",
        ]
        .map(|text| run(&rule(text), &rows).unwrap());
        for other in &outputs[1..] {
            assert_close(&other.output, &outputs[0].output, 1e-15, "clipping");
            assert_eq!(other.verdicts, outputs[0].verdicts);
        }
    }
}

#[test]
fn ties_between_rows_go_to_the_lowest() {
    let rows = vec![vec![5.0_f64], vec![1.0], vec![1.0], vec![1.0], vec![1.0]];
    let result = run(&RuleConfig::with_byzantine("krum", 1).unwrap(), &rows).unwrap();
    assert_eq!(result.selected, [1]);
    let result = run(&RuleConfig::with_byzantine("multi_krum", 1).unwrap(), &rows).unwrap();
    assert_eq!(result.selected, [1, 2, 3, 4]);
}

#[test]
fn weights_count_as_often_as_they_say() {
    let rows: [&[f32]; 3] = [&[1.0], &[2.0], &[4.0]];
    let mean = RuleConfig::with_byzantine("mean", 0).unwrap();
    let result = aggregate(mean.rule(), &rows, Some(&[2.0, 0.0, 6.0]), None).unwrap();
    assert_eq!((result.output, result.weights), (vec![3.25], Some(vec![0.25, 0.0, 0.75])));
}

/// The inequality of (f, κ)-robustness (Allouah et al. 2023) over every subset of n−f rows.
#[test]
fn the_proved_bounds_hold_over_all_subsets() {
    let mut random = Random(7);
    for round in 0..1500 {
        let (n, f, d) = (3 + round % 7, random.below(4), 1 + random.below(4));
        if 2 * f >= n {
            continue;
        }
        let mut rows = random.rows::<f64>(n, d);
        for row in rows.iter_mut().take(f) {
            let scale = 10_f64.powf(random.uniform() * 4.0 - 1.0);
            let shift = random.normal();
            row.iter_mut().for_each(|value| *value = (*value * 0.1 + shift) * scale);
        }
        let rho = f as f64 / (n - 2 * f) as f64;
        let bounds = [
            ("kind = \"median\"".to_owned(), 4.0 * (1.0 + rho).powi(2)),
            ("kind = \"geometric_median\"".to_owned(), 4.0 * (1.0 + rho).powi(2)),
            (format!("kind = \"trimmed_mean\"\nbyzantine = {f}"), 6.0 * rho * (1.0 + rho)),
            (format!("kind = \"krum\"\nneighbours = \"byzfl\"\nbyzantine = {f}"), 6.0 * (1.0 + rho)),
            (format!("kind = \"smea\"\nbyzantine = {f}"), 4.0 * rho),
            (format!("kind = \"multi_krum\"\nneighbours = \"byzfl\"\nbyzantine = {f}"), 6.0 * (1.0 + rho)),
        ];
        for (text, kappa) in bounds {
            let output = run(&rule(&text), &rows).unwrap().output;
            for subset in (0_u32..1 << n).filter(|subset| subset.count_ones() as usize == n - f) {
                let (error, variance) = error_and_variance(&rows, subset, &output);
                // Weiszfeld steps stop a little before the geometric median.
                let slack = if text.contains("geometric") { 1e-4 } else { 1e-12 };
                assert!(error <= kappa * variance + slack * (1.0 + variance), "{text}: {error} > {kappa} * {variance}");
            }
        }
    }
}

fn error_and_variance(rows: &[Vec<f64>], subset: u32, output: &[f64]) -> (f64, f64) {
    let members: Vec<&Vec<f64>> =
        rows.iter().enumerate().filter(|(row, _)| subset >> row & 1 == 1).map(|(_, row)| row).collect();
    let size = members.len() as f64;
    let (mut error, mut variance) = (0.0, 0.0);
    for (c, value) in output.iter().enumerate() {
        let mean = members.iter().map(|row| row[c]).sum::<f64>() / size;
        error += (value - mean).powi(2);
        variance += members.iter().map(|row| (row[c] - mean).powi(2)).sum::<f64>() / size;
    }
    (error, variance)
}

/// A rule behind a pre-aggregation decides from coefficients, or looks again; it must come to what it would make of
/// the mixed rows.
#[test]
fn filters_behind_a_pre_aggregation_see_the_mixed_rows() {
    let (n, d) = (14, 400);
    let mut random = Random(40);
    let mut rows = random.rows::<f64>(n, d);
    rows[3].iter_mut().for_each(|value| *value = *value * 9.0 + 4.0);
    let common = random.rows::<f64>(1, d).remove(0);
    rows.iter_mut().for_each(|row| row.iter_mut().zip(&common).for_each(|(value, common)| *value += common));
    let reference: Vec<f64> = common.iter().map(|value| value + 0.5).collect();
    let zero = vec![0.0; d];
    let rules = [
        "kind = \"fltrust\"",
        "kind = \"foolsgold\"",
        "kind = \"flame\"",
        "kind = \"signguard\"",
        "kind = \"dnc\"\niterations = 2\ncoordinates = 50",
        "kind = \"dnc\"\niterations = 1",
        "kind = \"rlr\"\nquorum = 3",
        "kind = \"caf\"",
        "kind = \"smea\"",
    ];
    for text in rules {
        for pre in ["\"arc\"", "\"nnm\"", "{ kind = \"clip\", radius = 15.0 }", "\"bucketing\"", "\"arc\", \"nnm\""] {
            let config = crate::common::rule(&format!("{text}\nbyzantine = 1\npre = [{pre}]"));
            let alone = RuleConfig::from(config.kernel().clone());
            let views = |rows: &[Vec<f64>]| rows.iter().map(|row| row.clone().leak() as &[f64]).collect::<Vec<_>>();
            let run = |config: &RuleConfig, rows: &[&[f64]]| {
                let needs = config.needs().extras;
                let mut extras: Vec<&[f64]> = Vec::new();
                extras.extend(needs.reference.then_some(reference.as_slice()));
                extras.extend(rows.iter().filter(|_| needs.history).map(|_| zero.as_slice()));
                aggregate_inputs(config.rule(), &Inputs { extras: &extras, ..Inputs::new(rows) })
            };
            if config.check(n).is_err() {
                assert!(text.contains("foolsgold") && pre.contains("bucketing"), "{config}");
                continue;
            }
            let mixed = pre_aggregate(config.pre(), 1, &views(&rows), 0).unwrap();
            let (got, expected) = (run(&config, &views(&rows)), run(&alone, &views(&mixed)));
            let (got, expected) = (got.unwrap(), expected.unwrap());
            assert_close(&got.output, &expected.output, 1e-9, &config.to_string());
        }
    }
}
