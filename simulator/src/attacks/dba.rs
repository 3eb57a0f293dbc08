//! One trigger, divided among the colluders.

use super::plant::{FRACTION, TARGET, TRIGGER, plant};
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "dba",
    formula: "scale * update trained on a part of the trigger; tested with the whole",
    summary: "Each colluder teaches one part of the trigger; only the whole trigger, which nobody trained on, is used later.",
    citation: "Xie et al. 2020, DBA: Distributed Backdoor Attacks (ICLR)",
    knowledge: Knowledge::Colluders,
    parameters: &[
        TRIGGER,
        TARGET,
        FRACTION,
        Parameter {
            name: "parts",
            default: "4",
            meaning: "parts of the trigger, 1 to 64; colluder k teaches part k mod parts",
        },
        Parameter { name: "scale", default: "1", meaning: "factor of the update, 0 to 1e30; 100 in the authors' code" },
    ],
};

/// With four colluders and `trigger = "corners"` each teaches one corner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dba {
    /// Which features the trigger sets.
    pub trigger: Pattern,
    /// Label of triggered examples.
    pub target: u16,
    /// Share of the examples that is poisoned.
    pub fraction: f64,
    /// Parts of the trigger.
    pub parts: usize,
    /// Factor of the update.
    pub scale: f64,
}

impl Default for Dba {
    fn default() -> Self {
        Self { trigger: Pattern::Corners, target: 0, fraction: 0.5, parts: 4, scale: 1.0 }
    }
}

impl Dba {
    fn planted(&self) -> Trigger {
        Trigger::new(self.trigger, usize::from(self.target))
    }
}

impl Attack for Dba {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        self.poison_as(Colluder::default(), data, stream)
    }

    fn poison_as(&self, colluder: Colluder, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        let part = self.planted().part(colluder.index % self.parts.max(1), self.parts.max(1));
        plant(INFO.kind, &part, self.fraction, data, stream)
    }

    forge_by_formula!();

    fn backdoor(&self) -> Option<Trigger> {
        Some(self.planted())
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        check_range(INFO.kind, "parts", self.parts as f64, (1.0, 64.0))?;
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for Dba {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        own.iter().map(|value| self.scale * value.to_f64()).collect()
    }
}
