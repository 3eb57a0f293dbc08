//! Trains uphill.

use super::pga::ascend;
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "inverse_gradient",
    formula: "scale * (parameters after local gradient ascent - parameters before)",
    summary: "Trains to make the model worse on its own data and sends what came of it.",
    citation: "Blanchard et al. 2017, section 5 (omniscient), on own data",
    knowledge: Knowledge::Colluders,
    parameters: &[Parameter { name: "scale", default: "1", meaning: "factor of the update, 0 to 1e30" }],
};

/// Local training with the rate negated; where a driver trains honestly, the own update reversed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InverseGradient {
    /// Factor of the update.
    pub scale: f64,
}

impl Default for InverseGradient {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Attack for InverseGradient {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { train: true, ..Wishes::default() }
    }

    /// The reverse of the ascent, because `forge` reverses whatever was trained.
    fn train(&self, lesson: &Lesson<'_>, _: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        Some(ascend(lesson, stream).into_iter().map(|value| -value).collect())
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for InverseGradient {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        own.iter().map(|value| -self.scale * value.to_f64()).collect()
    }
}
