//! The reference trajectories: every attack and rule of theirs, through the deployed rules, in f64.

use serde_json::Value;
use testudo_aggregate::{Inputs, RuleConfig, aggregate_inputs};
use testudo_simulator::attack::{Attack, Observation, View};
use testudo_simulator::attacks;
use testudo_simulator::data::{Dataset, digits};
use testudo_simulator::workload::{Scratch, Softmax, Workload};

use super::{random, rule, seen};

const F: usize = 4;

#[test]
fn every_trajectory_matches_to_nine_digits_where_rounding_does_not_decide() {
    let file: Value = serde_json::from_str(include_str!("../../vectors/trajectories.json")).unwrap();
    let entries = file["trajectories"].as_array().unwrap();
    assert_eq!(entries.len(), 44);
    let exact = entries.iter().filter(|entry| follow(entry)).count();
    assert_eq!(exact, 40);
}

/// Whether parameters were compared, not accuracies alone.
fn follow(entry: &Value) -> bool {
    let data = digits::load();
    let train = data.subset(&(0..1_437).collect::<Vec<_>>());
    let test = data.subset(&(1_437..1_797).collect::<Vec<_>>());
    let mut flipped = train.clone();
    flipped.relabel(|_, label| 9 - label).unwrap();
    let parts = partition(entry["partition"].as_str().unwrap(), &train, entry["honest"].as_u64().unwrap() as usize);
    let rule = named(entry["rule"].as_str().unwrap());
    let attack = match entry["attack"].as_str().unwrap() {
        "none" => "none",
        "ipm_2" => "ipm:2",
        "alie_minus_1.5" => "alie:1.5",
        "mimic_0" => "mimic:0",
        "scale_-10" => "sign_flip_mean:10",
        other => other,
    };
    let attack = attacks::parse(attack).unwrap();
    let softmax = Softmax::new(64, 10);
    let mut parameters: Vec<f64> = softmax.initial(0);
    let mut last = vec![0.0; parameters.len()];
    let exact = entry["rounding_sensitivity"].as_f64().unwrap() < 1e-10;
    let tolerance = entry["accuracy_tolerance"].as_f64().unwrap_or(1e-12);
    let mut curve = entry["curve"].as_array().unwrap().iter().peekable();
    for round in 1..=entry["rounds"].as_u64().unwrap() {
        let honest = gradients(&softmax, &parameters, &train, &parts);
        let mut rows = honest.clone();
        if rows.len() < 20 {
            let flipped = gradients(&softmax, &parameters, &flipped, &parts);
            let all = Observation { round, flipped: &flipped, ..seen(&honest, F) };
            let forged = attack.vector(&View::new(attack.knowledge(), all), &honest[0], &mut random());
            rows.resize_with(20, || forged.clone());
        }
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let stateful = rule.rule().needs().extras.last_aggregate;
        let extras: Vec<&[f64]> = if stateful { vec![&last] } else { Vec::new() };
        last = aggregate_inputs(rule.rule(), &Inputs { extras: &extras, ..Inputs::new(&rows) }).unwrap().output;
        parameters.iter_mut().zip(&last).for_each(|(value, slope)| *value -= slope);
        let Some(expected) = curve.next_if(|point| point["round"] == round) else { continue };
        let evaluation = softmax.evaluate(&parameters, &test);
        let off = (evaluation.accuracy - expected["acc"].as_f64().unwrap()).abs();
        assert!(
            off <= tolerance,
            "{} {} {} round {round}: accuracy off by {off}",
            entry["partition"],
            entry["attack"],
            entry["rule"]
        );
        if exact {
            let relative = norm(&parameters) / expected["norm"].as_f64().unwrap() - 1.0;
            assert!(
                relative.abs() < 1e-9,
                "{} {} {} round {round}: {relative}",
                entry["partition"],
                entry["attack"],
                entry["rule"]
            );
        }
    }
    assert!(curve.next().is_none());
    if exact {
        let length = norm(&parameters);
        for (field, from) in [("theta_head", 200), ("theta_bias", 640)] {
            for (actual, expected) in parameters[from..].iter().zip(entry[field].as_array().unwrap()) {
                assert!(
                    (actual - expected.as_f64().unwrap()).abs() < 1e-9 * length,
                    "{} {}",
                    entry["attack"],
                    entry["rule"]
                );
            }
        }
    }
    exact
}

fn named(name: &str) -> RuleConfig {
    let text = match name {
        "mean" => r#"{"kind":"mean"}"#,
        "median" => r#"{"kind":"median","byzantine":4}"#,
        "trimmed_mean" => r#"{"kind":"trimmed_mean","byzantine":4}"#,
        "nnm+trimmed_mean" => r#"{"kind":"trimmed_mean","byzantine":4,"pre":["nnm"]}"#,
        "krum" => r#"{"kind":"krum","byzantine":4}"#,
        "multikrum_m=n-f" => r#"{"kind":"multi_krum","byzantine":4}"#,
        "bulyan" => r#"{"kind":"bulyan","byzantine":4}"#,
        "geometric_median_nu1e-6_T50" => {
            r#"{"kind":"geometric_median","byzantine":4,"nu":1e-6,"steps":50,"tolerance":0}"#
        }
        "centered_clipping_tau0.1_L1_stateful" => {
            r#"{"kind":"centered_clipping","byzantine":4,"radius":0.1,"steps":1}"#
        }
        other => panic!("unknown rule {other}"),
    };
    rule(text)
}

fn gradients(softmax: &Softmax, parameters: &[f64], data: &Dataset, parts: &[Vec<usize>]) -> Vec<Vec<f64>> {
    let mut scratch = Scratch::default();
    let gradient = |part: &Vec<usize>| {
        let mut gradient = vec![0.0; parameters.len()];
        softmax.loss_and_gradient(parameters, data, part, &mut gradient, &mut scratch);
        gradient
    };
    parts.iter().map(gradient).collect()
}

fn partition(kind: &str, train: &Dataset, honest: usize) -> Vec<Vec<usize>> {
    if kind == "mod" {
        return (0..honest).map(|client| (client..train.len()).step_by(honest).collect()).collect();
    }
    testudo_simulator::data::Partition::Extreme {}.divide(train, honest, 0).unwrap()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}
