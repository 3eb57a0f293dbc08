//! Attacks nothing.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "inference_only",
    formula: "x",
    summary: "Behaves honestly and only watches: the negative control for detectors.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[],
};

/// Sends what an honest client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceOnly {}

impl Attack for InferenceOnly {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }
}

impl Formula for InferenceOnly {}
