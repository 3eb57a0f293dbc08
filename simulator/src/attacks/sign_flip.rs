//! Sends its own update reversed and enlarged.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, AttackError, Info, Knowledge, Parameter, View, check_range};
use crate::random::Stream;

pub(super) const INFO: Info = Info {
    kind: "sign_flip",
    formula: "-scale * x",
    summary: "Pushes the model backwards: sends its own update reversed and enlarged.",
    citation: "Li et al. 2019, RSA (AAAI), section 6; Karimireddy et al. 2021",
    knowledge: Knowledge::Colluders,
    parameters: &[Parameter { name: "scale", default: "10", meaning: "factor of the reversed update, 0 to 1e30" }],
};

/// −`scale`·x. With f of n clients the mean becomes (1 − (1 + `scale`)·f/n)·μ: a scale of 1 at f/n = 0.2 is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignFlip {
    /// Factor of the reversed update.
    pub scale: f64,
}

impl Default for SignFlip {
    fn default() -> Self {
        Self { scale: 10.0 }
    }
}

impl Attack for SignFlip {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn forge(&self, _: &View<'_>, update: &mut [f32], _: &mut Stream) {
        let scale = self.scale as f32;
        update.iter_mut().for_each(|value| *value *= -scale);
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}
