//! Stops answering from one step of the round on.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "dropout",
    formula: "x up to a step, then silence",
    summary: "Stops answering from one step of the round on.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[Parameter {
        name: "step",
        default: "input",
        meaning: "first message that is not sent: advertise_keys, share_keys, input, consistency or unmask",
    }],
};

/// Masked rounds know all steps, rounds in clear only `input`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dropout {
    /// The first message that is not sent.
    pub step: Step,
}

impl Attack for Dropout {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::Dropout { step: self.step }
    }
}

impl Formula for Dropout {}
