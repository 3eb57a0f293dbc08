//! Sends its update when the round is over.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "late",
    formula: "x, after the deadline",
    summary: "Sends its update when the round is over.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[Parameter {
        name: "by_ms",
        default: "1000",
        meaning: "milliseconds after the deadline, 1 to 86400000",
    }],
};

/// An honest update, sent dishonestly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Late {
    /// Milliseconds after the deadline.
    pub by_ms: u64,
}

impl Default for Late {
    fn default() -> Self {
        Self { by_ms: 1000 }
    }
}

impl Attack for Late {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::Late { by_ms: self.by_ms }
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "by_ms", self.by_ms as f64, (1.0, 86_400_000.0))
    }
}

impl Formula for Late {}
