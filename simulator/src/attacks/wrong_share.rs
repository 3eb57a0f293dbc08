//! Gives a wrong share of a secret in a masked round.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "wrong_share",
    formula: "x, and a share that was not dealt",
    summary: "Gives a wrong share of a secret in a masked round.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[],
};

/// Refused with evidence: shares are committed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongShare {}

impl Attack for WrongShare {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::WrongShare
    }
}

impl Formula for WrongShare {}
