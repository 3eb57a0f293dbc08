//! `testudo demo --dp`: the robust training with differential privacy, and what it cost.

use crate::{
    commands::{load::operator::Operator, privacy::describe},
    exit::{Exit, Failure},
};
use serde_json::{Value, json};
use testudo_server::statement::{self, Statement};

/// Whose budget pays.
const POPULATION: &str = "demo";

/// How the demo's robust training is private.
#[derive(Debug, Clone)]
pub(super) struct Private {
    pub(super) noise_multiplier: f64,
    pub(super) budget_epsilon: f64,
    /// A twentieth of one over the population, which is everybody who trains.
    pub(super) delta: f64,
    /// The population: everybody in the demo.
    pub(super) clients: usize,
}

impl Private {
    /// Updates are clipped to this L2 norm: that of most honest updates of the first rounds.
    pub(super) const CLIP_L2: f64 = 0.5;
    /// Unless told: σ = 4 C.
    pub(super) const NOISE_MULTIPLIER: f64 = 4.0;
    /// Unless told: what the usual run needs, rounded up.
    pub(super) const BUDGET_EPSILON: f64 = 5.0;

    pub(super) fn new(clients: usize, noise_multiplier: Option<f64>, budget_epsilon: Option<f64>) -> Self {
        Self {
            noise_multiplier: noise_multiplier.unwrap_or(Self::NOISE_MULTIPLIER),
            budget_epsilon: budget_epsilon.unwrap_or(Self::BUDGET_EPSILON),
            delta: 0.05 / clients.max(1) as f64,
            clients,
        }
    }

    /// The sections of `task.toml` that clip and noise.
    pub(super) fn sections(&self) -> String {
        format!(
            "[encoding]\nclip_l2 = {:?}\n\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"{POPULATION}\"\n\
             noise_multiplier = {:?}\nbudget_epsilon = {:?}\ndelta = {:?}\nclients = {}\n\n",
            Self::CLIP_L2,
            self.noise_multiplier,
            self.budget_epsilon,
            self.delta,
            self.clients
        )
    }
}

/// What the ledger says after the private training.
#[derive(Debug)]
pub(super) struct Spent {
    statement: Statement,
    guarantees: Vec<String>,
}

impl Spent {
    /// Asks the server, and adds its charges up again.
    ///
    /// # Errors
    /// A server without that budget, or charges that do not add up.
    pub(super) async fn ask(operator: &Operator, guarantees: Vec<String>) -> Result<Self, Failure> {
        let what = "cannot show the privacy budget";
        let wrong = |why: String| Failure::new(Exit::Verification, what, why);
        let budget = operator.budget(POPULATION).await?;
        let (account, entries) = statement::from_wire(budget).map_err(|error| wrong(error.to_string()))?;
        let statement = Statement::new(&account, Some(&entries));
        statement.verify(None).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { statement, guarantees })
    }

    /// What the task promised.
    pub(super) fn guarantees(&self) -> &[String] {
        &self.guarantees
    }

    /// For people.
    pub(super) fn text(&self, colour: bool) -> String {
        describe(&self.statement, colour)
    }

    /// For programs.
    pub(super) fn object(&self) -> Value {
        json!({ "guarantees": self.guarantees, "budget": self.statement })
    }

    /// One sentence.
    pub(super) fn line(&self) -> String {
        let statement = &self.statement;
        let releases: u64 = statement.tasks.iter().map(|task| task.rounds_released).sum();
        format!(
            "Its {releases} releases together tell about any one client at most epsilon = {} at delta = {:e}, of a limit of {}; \
             no amplification by sampling is claimed.",
            rounded_up(statement.epsilon_spent),
            statement.delta,
            statement.epsilon_limit
        )
    }
}

/// Three decimals, the last one up.
fn rounded_up(epsilon: f64) -> f64 {
    (epsilon * 1000.0).ceil() / 1000.0
}
