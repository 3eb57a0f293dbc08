//! `testudo demo --dp`: the robust training with differential privacy, and what it cost.

use super::{mode::Mode, plan::Plan, secure::Secure};
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
    pub(super) clip_l2: f64,
    pub(super) noise_multiplier: f64,
    pub(super) budget_epsilon: f64,
    /// About a twentieth of one over the population, which is everybody who trains.
    pub(super) delta: f64,
    /// The population: everybody in the demo.
    pub(super) clients: usize,
}

impl Private {
    pub(super) fn new(mode: Mode, clients: usize, noise_multiplier: Option<f64>, budget_epsilon: Option<f64>) -> Self {
        Self {
            clip_l2: mode.clip_l2(),
            noise_multiplier: noise_multiplier.unwrap_or(mode.noise_multiplier()),
            budget_epsilon: budget_epsilon.unwrap_or(mode.budget_epsilon()),
            delta: one_digit(0.05 / clients.max(1) as f64),
            clients,
        }
    }

    /// The sections of `task.toml` that clip and noise.
    pub(super) fn sections(&self) -> String {
        format!("[encoding]\nclip_l2 = {:?}\n\n{}\n", self.clip_l2, self.section())
    }

    /// The sections where the clients noise the sums of their groups. Poisoned ones add nothing: they count as colluders, and
    /// everybody else but who vanishes as certain to be there.
    pub(super) fn shared_sections(&self, plan: &Plan, secure: &Secure) -> String {
        let Secure { group_size, dropouts, .. } = secure;
        let share = |clients: usize| clients as f64 / self.clients.max(1) as f64;
        format!(
            "[visibility]\nmasking = \"pairwise\"\ngroup_size = {group_size}\nstep_limit_s = {:?}\ncolluders = {:?}\n\
             dropout = {:?}\n\n[encoding]\nclip_l2 = {:?}\n\n{}trust = \"distributed\"\nhonest = {}\n\n",
            if dropouts.is_empty() { Self::STEP_LIMIT_S } else { Self::VANISHED_S },
            share(plan.poisoned),
            share(dropouts.len()),
            self.clip_l2,
            self.section(),
            group_size.saturating_sub(dropouts.len() + plan.poisoned).max(1),
        )
    }

    fn section(&self) -> String {
        format!(
            "[privacy]\nmechanism = \"gaussian\"\npopulation = \"{POPULATION}\"\nnoise_multiplier = {:?}\n\
             budget_epsilon = {:?}\ndelta = {:?}\nclients = {}\n",
            self.noise_multiplier, self.budget_epsilon, self.delta, self.clients
        )
    }

    /// How long each step of a round may take. All of them come, so a slow machine changes nothing.
    const STEP_LIMIT_S: f64 = 600.0;
    /// The same where it is waited for who vanished: a large group takes its time.
    const VANISHED_S: f64 = 20.0;
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

/// A figure that is read easily.
fn one_digit(value: f64) -> f64 {
    format!("{value:.0e}").parse().unwrap_or(value)
}

/// Three decimals, the last one up.
fn rounded_up(epsilon: f64) -> f64 {
    (epsilon * 1000.0).ceil() / 1000.0
}
