//! The golden vectors of the coordinate-wise rules.

use serde_json::Value;

use super::*;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn order(rule: &str, params: &Value, count: usize) -> Option<OrderStatistics> {
    let byzantine = || params["f"].as_u64().and_then(|f| usize::try_from(f).ok()).unwrap();
    Some(match rule {
        "median" => OrderStatistics::median(count, Even::Average),
        "weighted_median" => OrderStatistics::weighted_median(&numbers(&params["weights"])),
        "trimmed_mean" => OrderStatistics::trimmed_mean(count, byzantine()),
        "meamed" => OrderStatistics::mean_around(count, Centre::Median, count - byzantine()),
        "phocas" => OrderStatistics::mean_around(count, Centre::TrimmedMean { cut: byzantine() }, count - byzantine()),
        _ => return None,
    })
}

#[test]
fn the_coordinate_rules_agree_with_the_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../vectors/rules.json")).unwrap();
    let mut compared = std::collections::BTreeMap::new();
    for case in vectors["cases"].as_array().unwrap() {
        let rows: Vec<Vec<f64>> = case["input"].as_array().unwrap().iter().map(numbers).collect();
        let case_of_rows = Case { range: 0..rows[0].len(), rows };
        for expect in case["expect"].as_array().unwrap() {
            let rule = expect["rule"].as_str().unwrap();
            let canonical = matches!(expect["source"].as_str(), Some("ref" | "byzfl"));
            let skipped = [&expect["ambiguous"], &expect["ill_conditioned"]].contains(&&Value::Bool(true));
            let Some(order) = order(rule, &expect["params"], case_of_rows.rows.len()) else { continue };
            let out = if expect["ref"].is_null() { &expect["out"] } else { &expect["ref"] };
            if !canonical || skipped || out.is_null() {
                continue;
            }
            let got = case_of_rows.apply(&order).out;
            let scale = case["scale"].as_f64().unwrap();
            for (got, expected) in got.iter().zip(numbers(out)) {
                let tolerance = expect["tol"].as_f64().unwrap_or(1e-11 * scale + 1e-11 * expected.abs());
                assert!((got - expected).abs() <= tolerance, "{}, {rule}: {got} is not {expected}", case["id"]);
            }
            *compared.entry(rule.to_owned()).or_insert(0) += 1;
        }
    }
    for rule in ["median", "trimmed_mean"] {
        assert!(compared.contains_key(rule), "{compared:?}");
    }
}
