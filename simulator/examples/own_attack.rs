//! An attack of your own: sends half of what the honest clients send, reversed, plus its own noise.

use testudo_aggregate::RuleConfig;
use testudo_simulator::attack::{Attack, Knowledge, View};
use testudo_simulator::data::digits;
use testudo_simulator::federation::Federation;
use testudo_simulator::random::Stream;
use testudo_simulator::workload::WorkloadConfig;

#[derive(Debug)]
struct Whisper;

impl Attack for Whisper {
    fn knowledge(&self) -> Knowledge {
        Knowledge::Honest
    }

    fn forge(&self, view: &View<'_>, update: &mut [f32], stream: &mut Stream) {
        let mean = view.honest_mean(update);
        update.iter_mut().zip(mean).for_each(|(value, mean)| *value = (-0.5 * mean + 0.01 * stream.normal()) as f32);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let federation = Federation::new(&digits::load(), 360, &WorkloadConfig::parse("mlp")?, 20, 4, 1)?;
    for kind in ["mean", "median", "krum", "trimmed_mean"] {
        let rule = RuleConfig::with_byzantine(kind, 4)?;
        let outcome = federation.run(rule.rule(), &Whisper, 20)?;
        println!("{kind:14} {:.1} %", 100.0 * outcome.accuracy[20]);
    }
    Ok(())
}
