//! Sends an upload again.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "replay",
    formula: "an upload that was sent before",
    summary: "Sends an upload again.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[Parameter {
        name: "of",
        default: "own",
        meaning: "own: of the round before; other: of another client in this round; twice: a second one of this round",
    }],
};

/// Refused by the binding of every upload to its client, round and digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// Which upload is sent again.
    pub of: Replayed,
}

impl Attack for Replay {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::Replay { of: self.of }
    }
}

impl Formula for Replay {}
