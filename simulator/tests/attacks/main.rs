//! Attacks against their reference vectors, their formulas and the rules they are made for.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod backdoors;
mod formulas;
mod rounds;
mod trajectories;
mod vectors;

use testudo_aggregate::RuleConfig;
use testudo_simulator::attack::{Attack, Crowd, Deployed, Observation, View};
use testudo_simulator::attacks;
use testudo_simulator::random::{Purpose, Stream, stream};

fn random() -> Stream {
    stream(1, Purpose::Attack, 2, 3)
}

/// What `text` makes of honest rows in f64.
fn sent(text: &str, all: Observation<'_, f64>) -> Vec<f64> {
    let attack = attacks::parse(text).unwrap();
    let own = all.colluders.first().or(all.honest.first()).cloned().unwrap_or_default();
    attack.vector(&View::new(attack.knowledge(), all), &own, &mut random())
}

fn rule(text: &str) -> RuleConfig {
    serde_json::from_str(text).unwrap()
}

fn deployed(rule: &RuleConfig) -> Option<Deployed<'_, f64>> {
    Some(Deployed { rule: rule.rule(), extras: &[], seed: 1, memory: None })
}

/// `honest` rows and `colluding` attackers, as declared.
fn seen(honest: &[Vec<f64>], colluding: usize) -> Observation<'_, f64> {
    let crowd = Crowd { rows: honest.len() + colluding, colluding, declared: colluding };
    Observation { round: 1, crowd, honest, ..Observation::default() }
}

fn rows(count: usize, dimension: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = stream(seed, Purpose::Noise, 0, 0);
    (0..count).map(|_| (0..dimension).map(|_| 0.4 + random.normal()).collect()).collect()
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    (0..rows[0].len()).map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / rows.len() as f64).collect()
}

fn distance2(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
