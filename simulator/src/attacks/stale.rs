//! Sends old updates.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "stale",
    formula: "the own update of round t - rounds",
    summary: "Sends the honest update it trained some rounds ago.",
    citation: "",
    knowledge: Knowledge::Colluders,
    parameters: &[Parameter { name: "rounds", default: "5", meaning: "age in rounds, 1 to 100" }],
};

/// Honest until an update of that age exists. Needs a driver that remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stale {
    /// Age in rounds.
    pub rounds: usize,
}

impl Default for Stale {
    fn default() -> Self {
        Self { rounds: 5 }
    }
}

impl Attack for Stale {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { memory: true, ..Wishes::default() }
    }

    forge_by_formula!();

    /// The last `rounds` updates, oldest first.
    fn remember(&self, view: &View<'_>, update: &[f32]) -> Vec<f32> {
        let mut queue = view.memory().to_vec();
        queue.extend_from_slice(update);
        let surplus = queue.len().saturating_sub(self.rounds * update.len());
        queue.drain(..surplus);
        queue
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "rounds", self.rounds as f64, (1.0, 100.0))
    }
}

impl Formula for Stale {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        if own.is_empty() || view.memory().len() != self.rounds * own.len() {
            return own.iter().map(|value| value.to_f64()).collect();
        }
        view.memory()[..own.len()].iter().map(|value| f64::from(*value)).collect()
    }
}
