//! Sends one number everywhere.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, AttackError, Info, Knowledge, Parameter, View, check_range};
use crate::random::Stream;

pub(super) const INFO: Info = Info {
    kind: "constant",
    formula: "value * (1, ..., 1)",
    summary: "Sends the same number in every coordinate.",
    citation: "Li et al. 2019, RSA (AAAI), section 6 (same-value attack)",
    knowledge: Knowledge::Data,
    parameters: &[Parameter { name: "value", default: "1", meaning: "every coordinate, -1e30 to 1e30" }],
};

/// `value` in every coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Constant {
    /// Every coordinate.
    pub value: f64,
}

impl Default for Constant {
    fn default() -> Self {
        Self { value: 1.0 }
    }
}

impl Attack for Constant {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn forge(&self, _: &View<'_>, update: &mut [f32], _: &mut Stream) {
        update.fill(self.value as f32);
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "value", self.value, (-1e30, 1e30))
    }
}
