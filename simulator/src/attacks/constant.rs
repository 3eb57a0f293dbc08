//! Sends one number everywhere, or numbers around it.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "constant",
    formula: "value + spread * U[-1, 1] in every coordinate",
    summary: "Sends the same number in every coordinate, or random numbers around it.",
    citation: "Li et al. 2019, RSA (AAAI), section 6 (same-value attack)",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter { name: "value", default: "1", meaning: "every coordinate, -1e30 to 1e30" },
        Parameter {
            name: "spread",
            default: "0",
            meaning: "half the width of a uniform distribution around it, 0 to 1e30",
        },
    ],
};

/// `value` in every coordinate, plus an independent uniform number in ±`spread`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Constant {
    /// Every coordinate.
    pub value: f64,
    /// Half the width of the uniform distribution.
    pub spread: f64,
}

impl Default for Constant {
    fn default() -> Self {
        Self { value: 1.0, spread: 0.0 }
    }
}

impl Attack for Constant {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "value", self.value, (-1e30, 1e30))?;
        check_range(INFO.kind, "spread", self.spread, (0.0, 1e30))
    }
}

impl Formula for Constant {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let mut around = || if self.spread > 0.0 { stream.uniform_in(-self.spread, self.spread) } else { 0.0 };
        own.iter().map(|_| self.value + around()).collect()
    }
}
