//! Searches the number of standard deviations of ALIE against the deployed rule.

use super::prelude::*;
use super::search::{Directions, Search};

pub(super) const INFO: Info = Info {
    kind: "alie_opt",
    formula: "mu + tau * sigma, tau = argmax |AGG - mu|",
    summary: "Searches the number of standard deviations of ALIE that moves the deployed rule's output furthest from the honest mean.",
    citation: "Baruch et al. 2019; the search as in Allouah et al. 2023 (AISTATS)",
    knowledge: Knowledge::Omniscient,
    parameters: &[
        Parameter {
            name: "directions",
            default: "both",
            meaning: "both: a(tau) and a(-tau) are searched; positive or negative: one of them alone",
        },
        Parameter {
            name: "evaluations",
            default: "20",
            meaning: "questions put to the rule per direction, value(0) included; 1 to 1000",
        },
        Parameter { name: "delta", default: "10", meaning: "first step, 1e-6 to 1e6" },
        Parameter { name: "ratio", default: "0.8", meaning: "factor of the step after a failure, 0.01 to 0.99" },
    ],
};

/// The search of [`Search`] over the value ‖AGG(H ∪ f·a(τ)) − μ‖ of the whole deployed rule with a copy of its state;
/// without a rule in sight, of the mean. Without colluders it sends μ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlieOpt {
    /// Which sides are searched.
    pub directions: Directions,
    /// Questions put to the rule per direction.
    pub evaluations: usize,
    /// First step.
    pub delta: f64,
    /// Factor of the step after a failure.
    pub ratio: f64,
}

impl Default for AlieOpt {
    fn default() -> Self {
        Self { directions: Directions::Both, evaluations: 20, delta: 10.0, ratio: 0.8 }
    }
}

impl Attack for AlieOpt {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        self.search().check(INFO.kind)
    }
}

impl AlieOpt {
    fn search(&self) -> Search {
        let Self { directions, evaluations, delta, ratio } = *self;
        Search { directions, evaluations, delta, ratio }
    }
}

impl Formula for AlieOpt {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mean = view.honest_mean(own);
        if view.sample().is_empty() || view.crowd().colluding == 0 {
            return mean;
        }
        let deviation = view.honest_deviation(&mean);
        let response = Response::new(view, &mean, true, &deviation);
        let (tau, _) = self.search().run(|tau| response.damage(tau));
        response.at(tau)
    }
}
