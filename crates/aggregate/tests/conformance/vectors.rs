//! The golden vectors and the validity table.

use serde_json::Value;
use testudo_aggregate::{
    Aggregate, AggregateError, Inputs, Mixing, RowsError, RuleConfig, aggregate, aggregate_inputs, mix_rows,
    pre_aggregate,
};

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

/// One expectation: the rule it names, and what the rule is given besides the rows.
struct Case {
    text: String,
    extras: Vec<Vec<f64>>,
    weights: Option<Vec<f64>>,
}

/// The rule a vector names, with its parameters; `None` for entries that show what other libraries return.
fn configured(expect: &Value, input: &[Vec<f64>]) -> Option<Case> {
    let params = &expect["params"];
    let f = &params["f"];
    let name = expect["rule"].as_str().unwrap();
    let zero = vec![0.0; input[0].len()];
    let with_f = |kind: &str| format!("kind = \"{kind}\"\nbyzantine = {f}");
    let mut extras = Vec::new();
    let text = match name {
        "mean" | "weighted_mean" => "kind = \"mean\"".to_owned(),
        "median" | "weighted_median" => "kind = \"median\"".to_owned(),
        "trimmed_mean" | "meamed" | "phocas" | "cge" | "krum" | "mda" => with_f(name),
        "trimmed_mean_fraction" => {
            format!("kind = \"trimmed_mean\"\nfraction = {}\nfloor = true", params["beta"])
        }
        "smea_exact" => with_f("smea"),
        "caf_exact" => with_f("caf"),
        "krum_nf1" => with_f("krum") + "\nneighbours = \"byzfl\"",
        "multikrum" => with_f("multi_krum") + &format!("\nselect = {}", params["m"]),
        "multikrum_nf1" => with_f("multi_krum") + &format!("\nselect = {}\nneighbours = \"byzfl\"", params["m"]),
        "bulyan" => with_f("bulyan"),
        "bulyan_oneshot" => with_f("bulyan") + "\nselection = \"one_shot\"",
        "monna" => with_f("monna") + &format!("\nrow = {}", params["idx"]),
        "dnc_full" => with_f("dnc") + &format!("\nfilter = {}\niterations = 1\ncoordinates = 1000000", params["c"]),
        "geometric_median" | "geometric_median_weighted" | "geometric_median_zero_start" => {
            // Where there is no tolerance every step is taken.
            let tolerance = params["ftol"].as_f64().unwrap_or(0.0);
            let (Some(steps), Some(nu)) = (params["T"].as_u64(), params["nu"].as_f64()) else { return None };
            let start = if name.ends_with("zero_start") { "zero" } else { "mean" };
            format!(
                "kind = \"geometric_median\"\nsteps = {steps}\nnu = {nu:e}\ntolerance = {tolerance:e}\nstart = \"{start}\""
            )
        }
        "centered_clipping" | "centered_clipping_2nd_round" | "centered_clipping_from_median" => {
            let text = format!("kind = \"centered_clipping\"\nradius = {}\nsteps = {}", params["tau"], params["L"]);
            let views: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
            extras.push(match name {
                "centered_clipping" => zero,
                "centered_clipping_from_median" => {
                    aggregate(rule("kind = \"median\"").rule(), &views, None, None).unwrap().output
                }
                _ => {
                    let inputs = Inputs { extras: &[&zero], ..Inputs::new(&views) };
                    aggregate_inputs(rule(&text).rule(), &inputs).unwrap().output
                }
            });
            text
        }
        "fltrust" | "fltrust_zero_reference" => {
            extras.push(params.get("g0").filter(|g0| g0.is_array()).map_or(zero, numbers));
            "kind = \"fltrust\"".to_owned()
        }
        "foolsgold_weights" => {
            extras.extend(vec![zero; input.len()]);
            "kind = \"foolsgold\"".to_owned()
        }
        "rlr" => format!("kind = \"rlr\"\nquorum = {}", params["theta"]),
        "nnm+trimmed_mean" => with_f("trimmed_mean") + "\npre = [\"nnm\"]",
        "nnm" | "bucketing" | "clipping" | "arc" => return None,
        other => panic!("unknown rule {other} in the vectors"),
    };
    Some(Case { text, extras, weights: params.get("weights").map(numbers) })
}

fn tolerance(expect: &Value, scale: f64, expected: f64) -> f64 {
    expect["tol"].as_f64().unwrap_or(1e-11 * scale + 1e-11 * expected.abs())
}

fn check_values(id: &str, expect: &Value, scale: f64, got: &[f64]) {
    let expected = numbers(expect.get("ref").unwrap_or(&expect["out"]));
    assert_eq!(got.len(), expected.len(), "{id} {}", expect["rule"]);
    for (got, expected) in got.iter().zip(expected) {
        let tolerance = tolerance(expect, scale, expected);
        assert!((got - expected).abs() <= tolerance, "{id} {}: {got} is not {expected}", expect["rule"]);
    }
}

fn check_selection(id: &str, expect: &Value, result: &Aggregate<f64>) {
    let name = expect["rule"].as_str().unwrap();
    if let (Some(select), false) = (expect["select"].as_array(), expect["ambiguous"] == true) {
        let mut expected: Vec<usize> = select.iter().map(|row| row.as_u64().unwrap() as usize).collect();
        let mut got = result.selected.clone();
        if name != "bulyan" {
            expected.sort_unstable();
            got.sort_unstable();
        }
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

/// Whether an entry can be compared at all: see the document's own header.
fn comparable(expect: &Value) -> bool {
    let name = expect["rule"].as_str().unwrap();
    let by_coordinate = ["meamed", "phocas", "bulyan", "bulyan_oneshot"].contains(&name);
    let skipped = expect["ill_conditioned"] == true || expect["out"].is_null();
    let foreign = expect["agrees_with_ref"] == false;
    !(skipped || foreign || by_coordinate && expect["ambiguous"] == true)
}

#[test]
fn every_golden_vector_is_met() {
    let document = document();
    let mut checked = 0;
    for case in document["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let scale = case["scale"].as_f64().unwrap();
        let input = matrix(&case["input"]);
        let rows: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
        for expect in case["expect"].as_array().unwrap().iter().filter(|expect| comparable(expect)) {
            let Some(Case { text, extras, weights }) = configured(expect, &input) else { continue };
            let extras: Vec<&[f64]> = extras.iter().map(Vec::as_slice).collect();
            let weights = weights.as_deref();
            let inputs = Inputs { extras: &extras, weights, ..Inputs::new(&rows) };
            let result = aggregate_inputs(rule(&text).rule(), &inputs)
                .unwrap_or_else(|error| panic!("{id} {}: {error}", expect["rule"]));
            if expect["rule"] == "foolsgold_weights" {
                check_values(id, expect, 1.0, result.scores.as_ref().unwrap());
            } else {
                check_values(id, expect, scale, &result.output);
            }
            check_selection(id, expect, &result);
            checked += 1;
        }
    }
    assert!(checked > 1200, "{checked}");
}

#[test]
fn every_golden_matrix_of_pre_aggregation_is_met() {
    let document = document();
    let mut checked = 0;
    for case in document["cases"].as_array().unwrap() {
        let input = matrix(&case["input"]);
        let rows: Vec<&[f64]> = input.iter().map(Vec::as_slice).collect();
        for expect in case["expect"].as_array().unwrap().iter().filter(|expect| comparable(expect)) {
            let params = &expect["params"];
            let f = params["f"].as_u64().unwrap_or(0) as usize;
            let pre = |text: &str| rule(&format!("kind = \"mean\"\nbyzantine = {f}\npre = [{text}]")).pre().to_vec();
            let mixed = match expect["rule"].as_str().unwrap() {
                "nnm" => pre_aggregate(&pre("\"nnm\""), f, &rows, 0).unwrap(),
                "arc" => pre_aggregate(&pre("\"arc\""), f, &rows, 0).unwrap(),
                "clipping" => {
                    let step = format!("{{ kind = \"clip\", radius = {} }}", params["c"]);
                    pre_aggregate(&pre(&step), f, &rows, 0).unwrap()
                }
                "bucketing" => {
                    let order: Vec<usize> = numbers(&params["perm"]).iter().map(|row| *row as usize).collect();
                    mix_rows(&Mixing::buckets(&order, params["s"].as_u64().unwrap() as usize), &rows).unwrap()
                }
                _ => continue,
            };
            check_values(case["id"].as_str().unwrap(), expect, case["scale"].as_f64().unwrap(), &mixed.concat());
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
}

#[test]
fn strict_ranges_equal_the_validity_table() {
    let document = document();
    for entry in document["validity"].as_array().unwrap() {
        let (n, f) = (entry["n"].as_u64().unwrap() as usize, entry["f"].as_u64().unwrap() as usize);
        for (name, valid) in entry.as_object().unwrap() {
            let Some(valid) = valid.as_bool() else { continue };
            let text = match name.as_str() {
                "multikrum" => format!("kind = \"multi_krum\"\nbyzantine = {f}"),
                "monna" => format!("kind = \"monna\"\nbyzantine = {f}\nrow = 0"),
                "nnm" | "arc" => format!("kind = \"mean\"\nbyzantine = {f}\npre = [\"{name}\"]"),
                "byzfl_krum_accepts" => format!("kind = \"krum\"\nbyzantine = {f}\nneighbours = \"byzfl\""),
                _ => format!("kind = \"{name}\"\nbyzantine = {f}"),
            };
            assert_eq!(rule(&text).rule().check(n).is_ok(), valid, "{name}, n = {n}, f = {f}");
        }
    }
}

#[test]
fn bucketing_is_valid_where_the_table_says_so() {
    let document = document();
    for entry in document["bucketing_bound"].as_array().unwrap() {
        let (n, f, s) = (entry["n"].as_u64().unwrap() as usize, &entry["f"], &entry["s"]);
        let text = format!("kind = \"mean\"\nbyzantine = {f}\npre = [{{ kind = \"bucketing\", size = {s} }}]");
        assert_eq!(rule(&text).rule().check(n).is_ok(), entry["ok"].as_bool().unwrap(), "{entry}");
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
    check_values("nonfinite", &serde_json::json!({"rule": "mean", "out": entry["mean"]}), 1.0, &clean.output);
    for (kind, field, byzantine) in
        [("trimmed_mean", "trimmed_mean", 2), ("median", "median", 2), ("krum", "krum_f1", 1)]
    {
        let fitted = RuleConfig::with_byzantine(kind, f as usize).unwrap().fit(rows.len()).unwrap();
        assert_eq!(fitted.rule().byzantine(), byzantine, "{kind}");
        let result = aggregate(fitted.rule(), &rows, None, None).unwrap();
        check_values("nonfinite", &serde_json::json!({"rule": kind, "out": entry[field]}), 1.0, &result.output);
    }
}
