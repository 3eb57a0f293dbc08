//! Sends more bytes than the model has.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "oversize",
    formula: "x with bytes appended",
    summary: "Sends more bytes than the model has.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[Parameter {
        name: "factor",
        default: "4",
        meaning: "announced and sent bytes as a multiple of the update, 2 to 1000000",
    }],
};

/// An honest update, sent dishonestly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Oversize {
    /// Announced and sent bytes as a multiple of the update.
    pub factor: u32,
}

impl Default for Oversize {
    fn default() -> Self {
        Self { factor: 4 }
    }
}

impl Attack for Oversize {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::Oversize { factor: self.factor }
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "factor", f64::from(self.factor), (2.0, 1e6))
    }
}

impl Formula for Oversize {}
