//! Claims to have trained on many examples, so that its update weighs more.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "false_examples",
    formula: "x, with a false number of examples",
    summary: "Claims to have trained on many examples, so that its update weighs more.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[Parameter {
        name: "claimed",
        default: "1000000000",
        meaning: "claimed number of examples, any 64-bit number",
    }],
};

/// An honest update under a false claim: decides alone wherever claims weigh and nobody caps them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FalseExamples {
    /// The claim.
    pub claimed: u64,
}

impl Default for FalseExamples {
    fn default() -> Self {
        Self { claimed: 1_000_000_000 }
    }
}

impl Attack for FalseExamples {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::Examples { claimed: self.claimed }
    }
}

impl Formula for FalseExamples {}
