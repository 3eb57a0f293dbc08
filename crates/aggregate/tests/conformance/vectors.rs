//! The golden vectors and the validity table.

use serde_json::Value;
use testudo_aggregate::{Aggregate, AggregateError, RowsError, RuleConfig, aggregate};

use crate::common::rule;

fn document() -> Value {
    serde_json::from_str(include_str!("../../vectors/rules.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// The rule a vector names, with its parameters.
fn configured(expect: &Value) -> RuleConfig {
    let params = &expect["params"];
    let f = &params["f"];
    match expect["rule"].as_str().unwrap() {
        "mean" | "weighted_mean" => rule("kind = \"mean\""),
        "median" => rule("kind = \"median\""),
        "trimmed_mean" => rule(&format!("kind = \"trimmed_mean\"\nbyzantine = {f}")),
        "krum" => rule(&format!("kind = \"krum\"\nbyzantine = {f}")),
        "krum_nf1" => rule(&format!("kind = \"krum\"\nbyzantine = {f}\nneighbours = \"byzfl\"")),
        "multikrum" => rule(&format!("kind = \"multi_krum\"\nbyzantine = {f}\nselect = {}", params["m"])),
        "multikrum_nf1" => {
            rule(&format!("kind = \"multi_krum\"\nbyzantine = {f}\nselect = {}\nneighbours = \"byzfl\"", params["m"]))
        }
        other => panic!("unknown rule {other} in the vectors"),
    }
}

fn check_output(id: &str, expect: &Value, scale: f64, result: &Aggregate<f64>) {
    let expected = numbers(expect.get("ref").unwrap_or(&expect["out"]));
    assert_eq!(result.output.len(), expected.len());
    for (got, expected) in result.output.iter().zip(expected) {
        let tolerance = expect["tol"].as_f64().unwrap_or(1e-11 * scale + 1e-11 * expected.abs());
        assert!((got - expected).abs() <= tolerance, "{id} {}: {got} is not {expected}", expect["rule"]);
    }
}

fn check_selection(id: &str, expect: &Value, result: &Aggregate<f64>) {
    let name = expect["rule"].as_str().unwrap();
    if let (Some(select), false) = (expect["select"].as_array(), expect["ambiguous"] == true) {
        let mut expected: Vec<usize> = select.iter().map(|row| row.as_u64().unwrap() as usize).collect();
        let mut got = result.selected.clone();
        expected.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, expected, "{id} {name}");
    }
    if let Some(expected) = expect["scores"].as_array() {
        for (got, expected) in result.scores.as_ref().unwrap().iter().zip(expected) {
            match expected.as_f64() {
                Some(expected) => {
                    assert!((got - expected).abs() <= 1e-9 * expected.abs(), "{id} {name}: {got} {expected}")
                }
                None => assert_eq!(*got, f64::INFINITY, "{id} {name}"),
            }
        }
    }
}

#[test]
fn every_golden_vector_is_met() {
    let document = document();
    let mut checked = 0;
    for case in document["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let input = matrix(&case["input"]);
        let rows: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
        for expect in case["expect"].as_array().unwrap() {
            if expect["ill_conditioned"] == true || expect["out"].is_null() {
                continue;
            }
            let config = configured(expect);
            let weights = expect["params"].get("weights").map(numbers);
            let result = aggregate(config.rule(), &rows, weights.as_deref(), None).unwrap();
            check_output(id, expect, case["scale"].as_f64().unwrap(), &result);
            check_selection(id, expect, &result);
            checked += 1;
        }
    }
    assert_eq!(checked, 320);
}

#[test]
fn strict_ranges_equal_the_validity_table() {
    let document = document();
    for entry in document["validity"].as_array().unwrap() {
        let (n, f) = (entry["n"].as_u64().unwrap() as usize, entry["f"].as_u64().unwrap() as usize);
        for (name, kind) in
            [("median", "median"), ("trimmed_mean", "trimmed_mean"), ("krum", "krum"), ("multikrum", "multi_krum")]
        {
            let config = RuleConfig::with_byzantine(kind, f).unwrap();
            assert_eq!(config.rule().check(n).is_ok(), entry[name].as_bool().unwrap(), "{kind}, n = {n}, f = {f}");
        }
    }
}

#[test]
fn non_finite_rows_are_refused_by_name_and_the_rest_aggregates_with_a_fitted_byzantine() {
    let document = document();
    let entry = &document["nonfinite"][0];
    let value = |cell: &Value| match cell.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => cell.as_f64().unwrap(),
    };
    let input: Vec<Vec<f64>> = entry["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_array().unwrap().iter().map(value).collect())
        .collect();
    let mut rows: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
    let f = entry["f"].as_u64().unwrap();
    let kinds = ["mean", "median", "trimmed_mean", "krum", "multi_krum"];
    for kind in kinds {
        let config = RuleConfig::with_byzantine(kind, f as usize).unwrap();
        let error = aggregate(config.rule(), &rows, None, None).unwrap_err();
        assert!(matches!(error, AggregateError::Rows(RowsError::NonFinite { row: 1 | 3, .. })), "{kind}: {error}");
    }
    let mut dropped = Vec::new();
    let clean = loop {
        match aggregate(rule("kind = \"mean\"").rule(), &rows, None, None) {
            Ok(result) => break result,
            Err(AggregateError::Rows(RowsError::NonFinite { row, .. })) => {
                dropped.push(input.iter().position(|input| std::ptr::eq(input.as_slice(), rows[row])).unwrap() as u64);
                rows.remove(row);
            }
            Err(other) => panic!("{other}"),
        }
    };
    dropped.sort_unstable();
    assert_eq!(Value::from(dropped), entry["dropped"]);
    check_output("nonfinite", &serde_json::json!({"rule": "mean", "out": entry["mean"]}), 1.0, &clean);
    for (kind, field, byzantine) in
        [("trimmed_mean", "trimmed_mean", 2), ("median", "median", 2), ("krum", "krum_f1", 1)]
    {
        let fitted = RuleConfig::with_byzantine(kind, f as usize).unwrap().fit(rows.len()).unwrap();
        assert_eq!(fitted.rule().byzantine(), byzantine, "{kind}");
        let result = aggregate(fitted.rule(), &rows, None, None).unwrap();
        check_output("nonfinite", &serde_json::json!({"rule": kind, "out": entry[field]}), 1.0, &result);
    }
}
