//! The reference vectors.

use serde_json::Value;
use testudo_aggregate::RuleConfig;
use testudo_simulator::attack::Observation;
use testudo_simulator::attacks::largest_deviation;

use super::{deployed, rule, seen, sent};

fn file() -> Value {
    serde_json::from_str(include_str!("../../vectors/attacks.json")).unwrap()
}

/// The attack in the short form, and the rule it is asked to optimise against.
fn translated(expected: &Value, f: usize) -> (String, Option<RuleConfig>) {
    let params = &expected["params"];
    let number = |key: &str| params[key].as_f64().unwrap();
    let text = match expected["attack"].as_str().unwrap() {
        "ipm" => format!("ipm:{}", number("tau")),
        "alie" => format!("alie:z={},sign={}", number("tau"), params["sign"].as_str().unwrap()),
        "alie_zmax" => "alie".to_owned(),
        "mimic" => format!("mimic:{}", number("epsilon")),
        "min_sum_ndss_code" => "min_sum:bound=min".to_owned(),
        "fang_trim_deterministic" => format!("fang_trim:b={},deterministic=true", number("b")),
        kind @ ("ipm_opt" | "alie_opt") => format!(
            "{kind}:directions=positive,evaluations={},delta={},ratio={}",
            number("evals"),
            number("delta"),
            number("ratio")
        ),
        other => other.to_owned(),
    };
    let defence = params["defence"].as_str().map(|defence| match defence {
        "mean|clip2" => rule(r#"{"kind":"mean","pre":[{"kind":"clip","radius":2.0}]}"#),
        "trimmed_mean" => rule(&format!(r#"{{"kind":"trimmed_mean","byzantine":{f}}}"#)),
        "nnm,trimmed_mean" => rule(&format!(r#"{{"kind":"trimmed_mean","byzantine":{f},"pre":["nnm"]}}"#)),
        "krum_nf1" => rule(&format!(r#"{{"kind":"krum","byzantine":{f},"neighbours":"byzfl"}}"#)),
        other => panic!("unknown defence {other}"),
    });
    (text, defence)
}

#[test]
fn every_vector_is_met_within_its_tolerance() {
    let file = file();
    let mut compared = 0;
    for case in file["attacks"].as_array().unwrap() {
        let honest: Vec<Vec<f64>> = serde_json::from_value(case["honest"].clone()).unwrap();
        let f = case["f"].as_u64().unwrap() as usize;
        let largest = honest.iter().flatten().fold(1.0_f64, |most, value| most.max(value.abs()));
        for expected in case["expect"].as_array().unwrap() {
            let (text, defence) = translated(expected, f);
            let all =
                Observation { flipped: &honest, deployed: defence.as_ref().and_then(deployed), ..seen(&honest, f) };
            let actual = sent(&text, all);
            let out: Vec<f64> = serde_json::from_value(expected["out"].clone()).unwrap();
            assert_eq!(actual.len(), out.len());
            let tolerance = expected["tol"].as_f64().unwrap_or(1e-11);
            for (actual, out) in actual.iter().zip(&out) {
                let bound = tolerance * largest.max(out.abs());
                assert!((actual - out).abs() <= bound, "{} {text}: {actual} instead of {out}", case["id"]);
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 31);
}

#[test]
fn the_deviations_of_alie_match_the_table() {
    let file = file();
    let table = file["alie_zmax"].as_array().unwrap();
    assert_eq!(table.len(), 53);
    for entry in table {
        let number = |key: &str| entry[key].as_u64().unwrap() as usize;
        let (actual, expected) = (largest_deviation(number("n"), number("f")), entry["z"].as_f64().unwrap());
        assert!((actual - expected).abs() <= 1e-11 * expected.abs().max(1.0), "{entry}: {actual}");
    }
}
