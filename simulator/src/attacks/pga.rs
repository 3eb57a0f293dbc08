//! Climbs the loss, then scales against the rule.

use super::prelude::*;
use super::search::{Directions, Search};

pub(super) const INFO: Info = Info {
    kind: "pga",
    formula: "s |mu| a/|a|, a = local gradient ascent, s = argmax |AGG - mu|",
    summary: "Trains to make the model worse, and sends the result at the length that hurts the deployed rule most.",
    citation: "Shejwalkar et al. 2022, Back to the Drawing Board (IEEE S&P), section 4",
    knowledge: Knowledge::Omniscient,
    parameters: &[
        Parameter {
            name: "most",
            default: "10",
            meaning: "longest multiple of the honest mean's length, 1 to 1e6; 1 under norm bounding",
        },
        Parameter { name: "evaluations", default: "20", meaning: "questions put to the rule, 1 to 1000" },
    ],
};

/// The direction comes from gradient ascent on the colluder's own data; where a driver trains honestly, from the reverse
/// of the own update. Its length is at most `most`·‖μ‖, searched against the whole rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pga {
    /// Longest multiple of ‖μ‖.
    pub most: f64,
    /// Questions put to the rule.
    pub evaluations: usize,
}

impl Default for Pga {
    fn default() -> Self {
        Self { most: 10.0, evaluations: 20 }
    }
}

impl Attack for Pga {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { train: true, ..Wishes::default() }
    }

    fn train(&self, lesson: &Lesson<'_>, _: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        Some(ascend(lesson, stream))
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "most", self.most, (1.0, 1e6))?;
        check_range(INFO.kind, "evaluations", self.evaluations as f64, (1.0, 1000.0))
    }
}

/// Local training uphill: the honest one with the rate negated.
pub(super) fn ascend(lesson: &Lesson<'_>, stream: &mut Stream) -> Vec<f32> {
    let training = lesson.training;
    let uphill = crate::workload::LocalTraining { learning_rate: -training.learning_rate, ..training };
    lesson.workload.local_sgd(lesson.model, lesson.data, &uphill, stream)
}

impl Formula for Pga {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mean = view.honest_mean(own);
        let (length, own_length) = (estimate::norm(&mean), estimate::norm(own));
        if length == 0.0 || own_length == 0.0 || !own_length.is_finite() {
            return mean.iter().map(|mean| -mean).collect();
        }
        // An honestly trained update points downhill, an ascended one does not.
        let side = if estimate::dot(own, &mean) > 0.0 { -1.0 } else { 1.0 };
        let scale = side * length / own_length;
        let direction: Vec<f64> = own.iter().map(|value| scale * value.to_f64()).collect();
        let response = Response::new(view, &mean, false, &direction);
        let search = Search { directions: Directions::Positive, evaluations: self.evaluations, delta: 1.0, ratio: 0.8 };
        let within = |tau: f64| if tau > self.most { 0.0 } else { response.damage(tau) };
        let (tau, _) = search.run(within);
        response.at(if tau > 0.0 { tau } else { 1.0 })
    }
}
