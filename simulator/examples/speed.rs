//! What a round of a study costs: the gradients of its clients, and each attack against each kind of rule.
//!
//! `cargo run --release -p testudo-simulator --example speed`

use std::time::{Duration, Instant};

use testudo_aggregate::{Inputs, RuleConfig, aggregate_inputs};
use testudo_simulator::attack::{Attack, Crowd, Deployed, Observation, View};
use testudo_simulator::attacks;
use testudo_simulator::data::digits;
use testudo_simulator::random::{Purpose, stream};
use testudo_simulator::workload::{Scratch, WorkloadConfig};

const HONEST: usize = 16;
const COLLUDERS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = digits::load();
    let mut honest = Vec::new();
    for workload in ["softmax", "mlp"] {
        let workload = WorkloadConfig::parse(workload)?.build::<f32>(data.width(), data.classes())?;
        let model = workload.initial(1);
        let mut gradients = vec![vec![0.0; model.len()]; HONEST];
        let mut scratch = Scratch::default();
        let time = best(|| {
            for (client, gradient) in gradients.iter_mut().enumerate() {
                let rows: Vec<usize> = (client * 32..(client + 1) * 32).collect();
                workload.loss_and_gradient(&model, &data, &rows, gradient, &mut scratch);
            }
        });
        println!("gradients of {HONEST} clients, batch 32, d = {}: {time:?}", model.len());
        let time = best(|| workload.accuracy(&model, &data));
        println!("evaluation of {} examples: {time:?}", data.len());
        honest = gradients;
    }
    let rules = [
        r#"{"kind":"mean"}"#,
        r#"{"kind":"median","byzantine":4}"#,
        r#"{"kind":"trimmed_mean","byzantine":4}"#,
        r#"{"kind":"krum","byzantine":4}"#,
        r#"{"kind":"bulyan","byzantine":4}"#,
        r#"{"kind":"meamed","byzantine":4}"#,
        r#"{"kind":"geometric_median","byzantine":4}"#,
        r#"{"kind":"trimmed_mean","byzantine":4,"pre":["arc","nnm"]}"#,
    ];
    let kinds = ["none", "ipm", "alie", "mimic", "min_max", "min_sum", "fang_krum", "ipm_opt", "alie_opt", "adaptive"];
    print!("{:34} {:>9}", "rule", "itself");
    kinds.iter().for_each(|kind| print!(" {kind:>9}"));
    println!("   µs a round, n = {}, d = {}", HONEST + COLLUDERS, honest[0].len());
    for text in rules {
        let rule: RuleConfig = serde_json::from_str(text)?;
        let mut rows: Vec<&[f32]> = honest.iter().map(Vec::as_slice).collect();
        rows.extend([honest[0].as_slice(); COLLUDERS]);
        let itself = best(|| aggregate_inputs(rule.rule(), &Inputs::new(&rows)).is_ok());
        print!("{:34} {:>9}", rule.to_string(), itself.as_micros());
        for kind in kinds {
            let attack = attacks::parse(kind)?;
            let deployed = Some(Deployed { rule: rule.rule(), extras: &[], seed: 1, memory: None });
            let crowd = Crowd { rows: HONEST + COLLUDERS, colluding: COLLUDERS, declared: COLLUDERS };
            let all = Observation { round: 1, crowd, honest: &honest, deployed, ..Observation::default() };
            let view = View::new(attack.knowledge(), all);
            let mut update = honest[0].clone();
            let mut random = stream(1, Purpose::Attack, 1, 0);
            print!(" {:>9}", best(|| attack.forge(&view, &mut update, &mut random)).as_micros());
        }
        println!();
    }
    Ok(())
}

/// The least time of several runs.
fn best<T>(mut run: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(run());
        start.elapsed()
    };
    (0..30).map(time).min().unwrap_or_default()
}
