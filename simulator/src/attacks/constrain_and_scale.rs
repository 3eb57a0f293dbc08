//! A backdoor trained to stay near the model, then enlarged.

use super::plant::{FRACTION, TARGET, TRIGGER, controlled_sgd, plant, replacement_factor};
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "constrain_and_scale",
    formula: "gamma * update trained on alpha * loss + (1 - alpha) * |w - w_t|^2/2",
    summary: "Trains a backdoor that stays near the released model, so that it still looks normal when enlarged.",
    citation: "Bagdasaryan et al. 2020, How To Backdoor Federated Learning (AISTATS), section 4.3",
    knowledge: Knowledge::Colluders,
    parameters: &[
        TRIGGER,
        TARGET,
        FRACTION,
        Parameter {
            name: "alpha",
            default: "0.5",
            meaning: "weight of the task in the loss, 0 to 1; the rest keeps the model near",
        },
        Parameter { name: "gamma", default: "auto", meaning: "factor, 0 to 1e30; auto: n/f" },
    ],
};

/// The anomaly term is the squared distance from the released model. Where a driver trains honestly, only the scaling
/// remains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstrainAndScale {
    /// Which features the trigger sets.
    pub trigger: Pattern,
    /// Label of triggered examples.
    pub target: u16,
    /// Share of the examples that is poisoned.
    pub fraction: f64,
    /// Weight of the task in the loss.
    pub alpha: f64,
    /// Factor.
    pub gamma: Choice<f64>,
}

impl Default for ConstrainAndScale {
    fn default() -> Self {
        Self { trigger: Pattern::Corners, target: 0, fraction: 0.5, alpha: 0.5, gamma: Choice::AUTO }
    }
}

impl ConstrainAndScale {
    fn planted(&self) -> Trigger {
        Trigger::new(self.trigger, usize::from(self.target))
    }
}

impl Attack for ConstrainAndScale {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { train: true, ..Wishes::default() }
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        plant(INFO.kind, &self.planted(), self.fraction, data, stream)
    }

    fn train(&self, lesson: &Lesson<'_>, _: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        let alpha = self.alpha as f32;
        let bend = |gradient: &mut [f32], moved: &[f32]| {
            gradient.iter_mut().zip(moved).for_each(|(slope, moved)| *slope = alpha * *slope + (1.0 - alpha) * moved);
        };
        Some(controlled_sgd(lesson, stream, bend, |_, _| ()))
    }

    forge_by_formula!();

    fn backdoor(&self) -> Option<Trigger> {
        Some(self.planted())
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        check_range(INFO.kind, "alpha", self.alpha, (0.0, 1.0))?;
        check_range(INFO.kind, "gamma", self.gamma.value().unwrap_or(1.0), (0.0, 1e30))
    }
}

impl Formula for ConstrainAndScale {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let gamma = self.gamma.value().unwrap_or_else(|| replacement_factor(view));
        own.iter().map(|value| gamma * value.to_f64()).collect()
    }
}
