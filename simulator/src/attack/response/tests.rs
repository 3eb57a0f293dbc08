use super::*;
use crate::attack::{Crowd, Knowledge, Observation as Seen, estimate};
use crate::random::{Purpose, stream};
use testudo_aggregate::catalogue;

fn rows(count: usize, dimension: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = stream(seed, Purpose::Noise, 0, 0);
    (0..count).map(|_| (0..dimension).map(|_| 0.3 + random.normal()).collect()).collect()
}

#[test]
fn points_keep_their_lengths_and_distances_in_fewer_coordinates() {
    let mut points = rows(6, 50, 1);
    points.push(points[0].iter().zip(&points[1]).map(|(a, b)| a - 2.0 * b).collect());
    points.push(vec![0.0; 50]);
    points.push(points[2].iter().map(|value| value * 1e6).collect());
    let placed = place(&points);
    assert!(placed[0].len() <= 6, "{}", placed[0].len());
    for i in 0..points.len() {
        for j in 0..=i {
            let (expected, actual) = (distance2(&points[i], &points[j]), distance2(&placed[i], &placed[j]));
            let scale = dot(&points[i], &points[i]).max(dot(&points[j], &points[j]));
            assert!((expected - actual).abs() <= 1e-12 * scale, "{i} {j}: {expected} {actual}");
        }
    }
}

#[test]
fn the_short_way_answers_as_every_rule_does_on_all_coordinates() {
    let honest = rows(11, 300, 2);
    let mean = estimate::mean(&honest);
    let direction = estimate::deviation(&honest, &mean);
    let previous = vec![rows(1, 300, 3).remove(0)];
    let mut compared = 0;
    for info in catalogue() {
        for pre in [&[][..], &["nnm"], &["arc", "nnm"], &["bucketing"]] {
            // Mixing makes rows coincide, and a choice among equals is a matter of rounding.
            if !pre.is_empty() && ["bulyan", "mda", "smea", "krum", "multi_krum", "monna"].contains(&info.kind) {
                continue;
            }
            let Ok(rule) = RuleConfig::with_byzantine(info.kind, 2) else { continue };
            let before = serde_json::json!({ "kind": "median", "byzantine": 2, "pre": pre });
            let before: RuleConfig = serde_json::from_value(before).unwrap();
            let rule = rule.after(before.pre().to_vec(), 2);
            let extras: &[Vec<f64>] = match rule.needs().extras.count(14) {
                0 => &[],
                1 => &previous,
                _ => continue,
            };
            let deployed = Some(Deployed { rule: rule.rule(), extras, seed: 5, memory: None });
            let crowd = Crowd { rows: 14, colluding: 3, declared: 2 };
            let all = Seen { honest: &honest, deployed, crowd, ..Seen::default() };
            let view = View::new(Knowledge::Omniscient, all);
            let response = Response::new(&view, &mean, true, &direction);
            for tau in [0.0, 0.7, -3.0, 40.0] {
                let forged = response.at(tau);
                let mut all: Vec<&[f64]> = honest.iter().map(Vec::as_slice).collect();
                all.extend([forged.as_slice(); 3]);
                let extras: Vec<&[f64]> = extras.iter().map(Vec::as_slice).collect();
                let inputs = Inputs { extras: &extras, seed: 5, ..Inputs::new(&all) };
                let expected = testudo_aggregate::aggregate_inputs(rule.rule(), &inputs)
                    .ok()
                    .filter(|aggregate| aggregate.degenerate.is_none())
                    .map_or(0.0, |aggregate| distance2(&aggregate.output, &mean).sqrt());
                let actual = response.damage(tau);
                assert!((actual - expected).abs() <= 1e-9 * (1.0 + expected), "{rule} {tau}: {actual} {expected}");
                compared += usize::from(expected > 0.0);
            }
        }
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn without_a_rule_in_sight_an_attack_reckons_with_the_mean() {
    let honest = rows(4, 10, 7);
    let mean = estimate::mean(&honest);
    let view = View::new(Knowledge::Honest, Seen { honest: &honest, ..Seen::default() });
    let response = Response::new(&view, &mean, false, &mean);
    // (4μ − τμ)/5 − μ = −(1 + τ)μ/5, so the reversal is (1 + τ)‖μ‖/5.
    let (damage, reversal) = response.damage_and_reversal(-4.0);
    let expected = estimate::norm(&mean);
    assert!((damage - expected).abs() < 1e-12 && (reversal - expected).abs() < 1e-12, "{damage} {reversal}");
}
