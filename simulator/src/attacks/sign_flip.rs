//! Sends its own update reversed and enlarged.

use super::prelude::*;

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

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for SignFlip {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        own.iter().map(|value| -self.scale * value.to_f64()).collect()
    }
}
