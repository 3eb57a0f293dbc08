//! Contributes nothing.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, Info, Knowledge, View};
use crate::random::Stream;

pub(super) const INFO: Info = Info {
    kind: "free_rider",
    formula: "0",
    summary: "Sends an update of zeros to receive the model without training.",
    citation: "Fraboni et al. 2021 (AISTATS)",
    knowledge: Knowledge::Data,
    parameters: &[],
};

/// All zeros: the plainest free-rider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeRider {}

impl Attack for FreeRider {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn forge(&self, _: &View<'_>, update: &mut [f32], _: &mut Stream) {
        update.fill(0.0);
    }
}
