//! Teaches the model a trigger.

use super::plant::{FRACTION, TARGET, TRIGGER, plant};
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "backdoor",
    formula: "scale * update trained on clean examples and triggered ones labelled target",
    summary: "Trains on its data with a trigger stamped on some examples, so that the model answers the trigger with the target label.",
    citation: "Gu et al. 2017, BadNets; Bagdasaryan et al. 2020 (AISTATS)",
    knowledge: Knowledge::Colluders,
    parameters: &[
        TRIGGER,
        TARGET,
        FRACTION,
        Parameter { name: "scale", default: "1", meaning: "factor of the update (boosting), 0 to 1e30" },
    ],
};

/// An unscaled backdoor looks like any other update; `scale` > 1 boosts it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backdoor {
    /// Which features the trigger sets.
    pub trigger: Pattern,
    /// Label of triggered examples.
    pub target: u16,
    /// Share of the examples that is poisoned.
    pub fraction: f64,
    /// Factor of the update.
    pub scale: f64,
}

impl Default for Backdoor {
    fn default() -> Self {
        Self { trigger: Pattern::Corners, target: 0, fraction: 0.5, scale: 1.0 }
    }
}

impl Backdoor {
    fn planted(&self) -> Trigger {
        Trigger::new(self.trigger, usize::from(self.target))
    }
}

impl Attack for Backdoor {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        plant(INFO.kind, &self.planted(), self.fraction, data, stream)
    }

    forge_by_formula!();

    fn backdoor(&self) -> Option<Trigger> {
        Some(self.planted())
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for Backdoor {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        own.iter().map(|value| self.scale * value.to_f64()).collect()
    }
}
