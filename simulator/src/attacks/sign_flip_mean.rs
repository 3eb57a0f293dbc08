//! Sends the honest mean reversed.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "sign_flip_mean",
    formula: "-scale * mu",
    summary: "Sends the reverse of what the honest clients send on average, at its own length.",
    citation: "Li et al. 2019, RSA (AAAI), section 6, with the mean in place of the own update",
    knowledge: Knowledge::Honest,
    parameters: &[Parameter { name: "scale", default: "1", meaning: "factor, 0 to 1e30" }],
};

/// −`scale`·μ. With scale 1 the mean of n rows becomes (1 − 2f/n)·μ: harmless at f/n = 0.2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignFlipMean {
    /// Factor.
    pub scale: f64,
}

impl Default for SignFlipMean {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Attack for SignFlipMean {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for SignFlipMean {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        view.honest_mean(own).iter().map(|mean| -self.scale * mean).collect()
    }
}
