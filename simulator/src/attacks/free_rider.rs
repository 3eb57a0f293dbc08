//! Contributes nothing.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "free_rider",
    formula: "scale * (w_t - w_(t-1)) + N(0, (noise * t^-decay)^2)",
    summary: "Sends zeros, or the last change of the model with some noise, to receive the model without training.",
    citation: "Fraboni et al. 2021 (AISTATS); Lin et al. 2019",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter {
            name: "scale",
            default: "0",
            meaning: "multiple of the last change of the model, 0 to 1e6; 0 looks at nothing",
        },
        Parameter { name: "noise", default: "0", meaning: "standard deviation of added noise in round 1, 0 to 1e30" },
        Parameter { name: "decay", default: "0", meaning: "how fast the noise falls with the round number t, 0 to 10" },
    ],
};

/// With the defaults all zeros, the plainest free-rider; with `scale` = 1 and some noise a disguised one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreeRider {
    /// Multiple of the last change of the released model.
    pub scale: f64,
    /// Standard deviation of the noise in round 1.
    pub noise: f64,
    /// Exponent with which the noise falls.
    pub decay: f64,
}

impl Attack for FreeRider {
    fn knowledge(&self) -> Knowledge {
        if self.scale > 0.0 { Knowledge::Colluders } else { INFO.knowledge }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e6))?;
        check_range(INFO.kind, "noise", self.noise, (0.0, 1e30))?;
        check_range(INFO.kind, "decay", self.decay, (0.0, 10.0))
    }
}

impl Formula for FreeRider {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let sd = self.noise * Scalar::exp(-self.decay * ln(view.round().max(1) as f64));
        let mut sent = vec![0.0; own.len()];
        if self.scale > 0.0 {
            sent.iter_mut().zip(view.previous()).for_each(|(value, change)| *value = self.scale * change.to_f64());
        }
        if sd > 0.0 {
            sent.iter_mut().for_each(|value| *value += sd * stream.normal());
        }
        sent
    }
}
