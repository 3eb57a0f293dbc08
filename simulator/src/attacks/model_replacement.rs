//! Replaces the model by a backdoored one.

use super::plant::{FRACTION, TARGET, TRIGGER, plant, replacement_factor, shorten};
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "model_replacement",
    formula: "gamma * backdoored update, gamma = n/(eta f), shortened to bound",
    summary: "Sends a backdoored update so enlarged that averaging makes it the new model.",
    citation: "Bagdasaryan et al. 2020, How To Backdoor Federated Learning (AISTATS), equation 3; bound: train-and-scale",
    knowledge: Knowledge::Colluders,
    parameters: &[
        TRIGGER,
        TARGET,
        FRACTION,
        Parameter { name: "gamma", default: "auto", meaning: "factor, 0 to 1e30; auto: n/(eta f)" },
        Parameter { name: "eta", default: "1", meaning: "learning rate of the server, 1e-6 to 1e6, for auto" },
        Parameter {
            name: "bound",
            default: "auto",
            meaning: "longest update sent, 0 to 1e30; auto: as long as it comes",
        },
    ],
};

/// Near convergence honest updates cancel, and the mean of n rows moves the model to the one the f colluders trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelReplacement {
    /// Which features the trigger sets.
    pub trigger: Pattern,
    /// Label of triggered examples.
    pub target: u16,
    /// Share of the examples that is poisoned.
    pub fraction: f64,
    /// Factor.
    pub gamma: Choice<f64>,
    /// Learning rate of the server.
    pub eta: f64,
    /// Longest update sent.
    pub bound: Choice<f64>,
}

impl Default for ModelReplacement {
    fn default() -> Self {
        Self { trigger: Pattern::Corners, target: 0, fraction: 0.5, gamma: Choice::AUTO, eta: 1.0, bound: Choice::AUTO }
    }
}

impl ModelReplacement {
    fn planted(&self) -> Trigger {
        Trigger::new(self.trigger, usize::from(self.target))
    }
}

impl Attack for ModelReplacement {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        plant(INFO.kind, &self.planted(), self.fraction, data, stream)
    }

    forge_by_formula!();

    fn backdoor(&self) -> Option<Trigger> {
        Some(self.planted())
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        check_range(INFO.kind, "eta", self.eta, (1e-6, 1e6))?;
        check_range(INFO.kind, "gamma", self.gamma.value().unwrap_or(1.0), (0.0, 1e30))?;
        check_range(INFO.kind, "bound", self.bound.value().unwrap_or(1.0), (0.0, 1e30))
    }
}

impl Formula for ModelReplacement {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let gamma = self.gamma.value().unwrap_or_else(|| replacement_factor(view) / self.eta);
        let mut sent: Vec<f64> = own.iter().map(|value| gamma * value.to_f64()).collect();
        shorten(&mut sent, self.bound.value().unwrap_or(f64::INFINITY));
        sent
    }
}
