//! No attack.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "none",
    formula: "x",
    summary: "Behaves honestly: the control.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[],
};

/// Sends what an honest client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct None {}

impl Attack for None {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }
}

impl Formula for None {}
