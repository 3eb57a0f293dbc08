//! No attack.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, Info, Knowledge};

pub(super) const INFO: Info = Info {
    kind: "none",
    formula: "x",
    summary: "Behaves honestly: the control.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[],
};

/// Sends what an honest client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct None {}

impl Attack for None {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }
}
