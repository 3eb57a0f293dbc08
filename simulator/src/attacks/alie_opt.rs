//! Searches the number of standard deviations of ALIE against the deployed rule.

use super::prelude::*;
use super::search::Search;

pub(super) const INFO: Info = Info {
    kind: "alie_opt",
    formula: "mu + tau * sigma, tau = argmax |AGG - mu|",
    summary: "Searches the number of standard deviations of ALIE that moves the deployed rule's output furthest from the honest mean.",
    citation: "Baruch et al. 2019; the search as in Allouah et al. 2023 (AISTATS)",
    knowledge: Knowledge::Omniscient,
    parameters: &super::search::PARAMETERS,
};

/// The search of [`Search`] over the value ‖AGG(H ∪ f·a(τ)) − μ‖ of the whole deployed rule with a copy of its state;
/// without a rule in sight, of the mean. Without colluders it sends μ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlieOpt(pub Search);

impl Attack for AlieOpt {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        self.0.check(INFO.kind)
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
        let (tau, _) = self.0.run(|tau| response.damage(tau));
        response.at(tau)
    }
}
