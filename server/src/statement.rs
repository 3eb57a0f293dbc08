//! What a privacy budget says: one struct for the command line, its JSON, and whoever reads that JSON again.

use crate::store::{AccountRow, Heads, PlanRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use testudo_privacy::{
    accountant::zcdp::RHO_UNIT,
    budget::{Account, Charge, ChargeMechanism, Entry, Gate, VerifyError, verify},
    mechanism::participation::ParticipationLimit,
    sensitivity::Adjacency,
};

mod wire;

pub use wire::{WireError, from_wire, to_wire};

/// An ε above which a bound says little.
const LARGE_EPSILON: f64 = 10.0;
/// A noise multiplier below which one release alone says much.
const SMALL_NOISE: f64 = 0.3;

/// A population's budget, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Whose.
    pub population: String,
    /// What is protected: one client.
    pub privacy_unit: String,
    /// Who sees what before the noise.
    pub trust_model: String,
    /// What is added up.
    pub gate: Gate,
    /// The limit of ε.
    pub epsilon_limit: f64,
    /// ε of what is spent, rounded up.
    pub epsilon_spent: f64,
    /// ε once everything reserved and planned is spent too, rounded up.
    pub epsilon_promised: f64,
    /// ε of what is spent if nothing is claimed for sampling, rounded up; `None` if that needs charges that were not
    /// asked for.
    pub epsilon_unamplified: Option<f64>,
    /// At this δ.
    pub delta: f64,
    /// ρ spent; `None` like `epsilon_unamplified`.
    pub rho_spent: Option<f64>,
    /// Exact totals.
    pub units: Units,
    /// Its tasks, oldest first.
    pub tasks: Vec<TaskStatement>,
    /// What deserves a second look.
    pub warnings: Vec<String>,
    /// What the bound does not cover.
    pub not_covered: Vec<String>,
    /// Number and hash of the newest charge.
    pub head: Option<Head>,
    /// Every charge, in order, if they were asked for.
    pub history: Option<Vec<Line>>,
}

/// Totals in units of 2⁻⁴⁰ of what the gate adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// The limit.
    pub limit: i64,
    /// Spent.
    pub spent: i64,
    /// Reserved by open rounds.
    pub reserved: i64,
    /// Planned by tasks, not reserved yet.
    pub planned: i64,
}

/// One task's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatement {
    /// Which.
    pub task: String,
    /// Where it stands.
    pub state: String,
    /// Who adds the noise: the server (central) or every client to its own update (local).
    #[serde(default = "central")]
    pub trust: String,
    /// What may differ between neighbouring data.
    pub adjacency: Adjacency,
    /// How noise is added, as it is charged.
    pub mechanism: ChargeMechanism,
    /// `privacy.mechanism` as the task has it; empty where its text does not say.
    #[serde(default)]
    pub mechanism_word: String,
    /// How often and how far apart one client takes part, where the noise counts on that.
    #[serde(default)]
    pub participation_limit: Option<ParticipationLimit>,
    /// σ over the sensitivity.
    pub noise_multiplier: f64,
    /// σ in the units of updates, where the task's clip is known and fixed.
    pub sigma: Option<f64>,
    /// L2 norm that updates are clipped to; where it starts, if it adapts.
    pub clip: Option<f64>,
    /// Whether the clip follows the updates' norms. Every round's record has the clip it used.
    #[serde(default)]
    pub adaptive_clip: bool,
    /// σ in grid steps.
    pub sigma_grid: u64,
    /// The sensitivity in grid steps.
    pub sensitivity_grid: u64,
    /// Rounds planned.
    pub rounds_planned: u64,
    /// Rounds charged: released, or abandoned too late.
    pub rounds_charged: u64,
    /// Rounds released.
    pub rounds_released: u64,
    /// Rounds under way.
    pub rounds_reserved: u64,
    /// Rounds that the plan still holds.
    pub rounds_left: u64,
    /// The most updates of any one client that were recorded, where clients noise their own.
    #[serde(default)]
    pub most_updates: Option<u64>,
    /// ε of that client's updates in this task, rounded up.
    #[serde(default)]
    pub epsilon_of_most: Option<f64>,
    /// Version of the noise sampler.
    pub sampler_version: u32,
    /// Version of the accountant.
    pub accountant_version: u32,
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest charge's number.
    pub index: u64,
    /// Its hash.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
}

/// One charge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// From 0, without gaps.
    pub index: u64,
    /// The task.
    pub task: String,
    /// The round.
    pub round: u64,
    /// The parameters charged.
    pub charge: Charge,
    /// SHA-256 of the released model; `None` for a round that was abandoned too late.
    pub release: Option<String>,
    /// The hash of the charge before.
    #[serde(with = "hex::serde")]
    pub previous: [u8; 32],
    /// The hash of this one.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
}

/// Why a statement does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatementError {
    /// It came without its charges.
    #[error("the charges are missing: export them with `testudo privacy show --json`")]
    NoHistory,
    /// Something in the chain.
    #[error(transparent)]
    Chain(#[from] VerifyError),
    /// A charge's release is no digest.
    #[error("entry {0}: its release is no SHA-256 digest")]
    Release(u64),
    /// The totals.
    #[error("the charges add up to {sum} units, {shown} are shown as spent")]
    Spent {
        /// Of the chain.
        sum: i64,
        /// Of the account.
        shown: i64,
    },
    /// The limit is not that of its ε and δ.
    #[error("the limit of {shown} units is not that of ε = {epsilon} at δ = {delta:e}")]
    Limit {
        /// Of the account.
        shown: i64,
        /// The limit of ε.
        epsilon: f64,
        /// At this δ.
        delta: f64,
    },
    /// More than the limit.
    #[error("{taken} units are spent and promised, over the limit of {limit}")]
    Overdrawn {
        /// Spent, reserved and planned.
        taken: i64,
        /// The limit.
        limit: i64,
    },
    /// What is shown is not what the units say.
    #[error("ε = {shown} is shown as spent, the units say {computed}")]
    Epsilon {
        /// Shown.
        shown: f64,
        /// Of the units.
        computed: f64,
    },
    /// `budget.head` knows a charge that is not here.
    #[error("charge number {0}, which budget.head knows, is not in it: this is an older ledger")]
    Older(u64),
}

impl Statement {
    /// A budget as it is shown; `entries` are all its charges, where they are known.
    #[must_use]
    pub fn new(account: &AccountRow, entries: Option<&[Entry]>) -> Self {
        let rho = match (account.gate, entries) {
            (Gate::Rho | Gate::Zcdp, _) => Some(account.spent),
            (Gate::Renyi { .. }, None) => None,
            (Gate::Renyi { .. }, Some(entries)) => Some(
                entries
                    .iter()
                    .fold(0_i64, |sum, entry| sum.saturating_add(entry.charge.rho_units().unwrap_or(i64::MAX))),
            ),
        };
        Self {
            population: account.population.clone(),
            privacy_unit: "client".into(),
            trust_model: trust_model(account),
            gate: account.gate,
            epsilon_limit: account.epsilon,
            epsilon_spent: account.spent_epsilon,
            epsilon_promised: account.promised_epsilon,
            epsilon_unamplified: rho.map(|units| {
                // The exact ε of Gaussians holds for them alone.
                let is_gaussian = |entry: &Entry| entry.charge.gate() == Gate::Rho;
                let gate = match account.gate {
                    Gate::Renyi { .. } if !entries.unwrap_or_default().iter().all(is_gaussian) => Gate::Zcdp,
                    Gate::Renyi { .. } => Gate::Rho,
                    own => own,
                };
                gate.epsilon(units, account.delta)
            }),
            delta: account.delta,
            rho_spent: rho.map(|units| units as f64 * RHO_UNIT),
            units: Units {
                limit: account.limit,
                spent: account.spent,
                reserved: account.reserved,
                planned: account.planned,
            },
            tasks: account.plans.iter().map(|plan| task(plan, account)).collect(),
            warnings: warnings(account),
            not_covered: not_covered(account),
            head: account.head.map(|(index, hash)| Head { index, hash }),
            history: entries.map(|entries| entries.iter().map(line).collect()),
        }
    }

    /// Recomputes everything that follows from the charges. `published` is what `budget.head` says of the population.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self, published: Option<(u64, [u8; 32])>) -> Result<(), StatementError> {
        let lines = self.history.as_ref().ok_or(StatementError::NoHistory)?;
        let entries = lines.iter().map(|line| self.entry(line)).collect::<Result<Vec<_>, _>>()?;
        let sum = verify(&entries, self.gate, self.head.as_ref().map(|head| (head.index, head.hash)))?;
        let Units { limit, spent, reserved, planned } = self.units;
        if sum != spent {
            return Err(StatementError::Spent { sum, shown: spent });
        }
        let (epsilon, delta) = (self.epsilon_limit, self.delta);
        let expected = Account::new(&self.population, self.gate, epsilon, delta).map(|account| account.units().0);
        if expected != Ok(limit) {
            return Err(StatementError::Limit { shown: limit, epsilon, delta });
        }
        let taken = spent.saturating_add(reserved).saturating_add(planned);
        if taken > limit || reserved < 0 || planned < 0 {
            return Err(StatementError::Overdrawn { taken, limit });
        }
        let computed = self.gate.epsilon(spent, delta);
        if computed != self.epsilon_spent {
            return Err(StatementError::Epsilon { shown: self.epsilon_spent, computed });
        }
        match published {
            Some((index, hash)) if !entries.iter().any(|entry| (entry.index, entry.hash) == (index, hash)) => {
                Err(StatementError::Older(index))
            }
            _ => Ok(()),
        }
    }

    fn entry(&self, line: &Line) -> Result<Entry, StatementError> {
        let mut digest = [0; 32];
        let release = match &line.release {
            None => None,
            Some(text) => {
                hex::decode_to_slice(text, &mut digest).map_err(|_| StatementError::Release(line.index))?;
                Some(digest)
            }
        };
        Ok(Entry {
            index: line.index,
            previous: line.previous,
            population: self.population.clone(),
            task: line.task.clone(),
            round: line.round,
            charge: line.charge,
            release,
            hash: line.hash,
        })
    }
}

/// Populations that `budget.head` knows and a ledger does not.
#[must_use]
pub fn missing<'a>(published: &'a Heads, statements: &[Statement]) -> Vec<&'a str> {
    let known = |population: &str| statements.iter().any(|statement| statement.population == population);
    published.keys().map(String::as_str).filter(|population| !known(population)).collect()
}

fn task(plan: &PlanRow, account: &AccountRow) -> TaskStatement {
    let charge = &plan.charge;
    let noise_multiplier = charge.noise_multiplier();
    // Replace-one: the sensitivity is twice the clip.
    let sensitivity = match charge.adjacency {
        Adjacency::ReplaceOne => 2.0,
        Adjacency::ZeroOut | Adjacency::AddOrRemove => 1.0,
    };
    // Of the sum: shares add up.
    let sigma_grid = match charge.mechanism {
        ChargeMechanism::Shares { .. } => noise_multiplier * charge.sensitivity_grid as f64,
        _ => charge.sigma_grid as f64,
    };
    TaskStatement {
        task: plan.task.to_string(),
        state: plan.state.word().into(),
        trust: charge.mechanism.trust().into(),
        adjacency: charge.adjacency,
        mechanism: charge.mechanism,
        mechanism_word: plan.mechanism.clone(),
        participation_limit: limit(plan),
        noise_multiplier,
        sigma: plan.clip.filter(|_| !plan.adaptive_clip && !is_correlated(charge)).map(|clip| {
            match plan.grid_bits.filter(|bits| *bits < 32) {
                Some(bits) => sigma_grid * clip / (1_u64 << bits) as f64,
                None => clip * sensitivity * noise_multiplier,
            }
        }),
        clip: plan.clip,
        adaptive_clip: plan.adaptive_clip,
        sigma_grid: charge.sigma_grid,
        sensitivity_grid: charge.sensitivity_grid,
        rounds_planned: plan.rounds(),
        rounds_charged: plan.charged,
        rounds_released: plan.released,
        rounds_reserved: plan.reserved,
        rounds_left: plan.left(),
        most_updates: plan.most_updates,
        epsilon_of_most: plan.most_updates.map(|updates| {
            let each = account.gate.amount(charge).unwrap_or(i64::MAX);
            let units = each.saturating_mul(i64::try_from(updates).unwrap_or(i64::MAX));
            account.gate.epsilon(units, account.delta)
        }),
        sampler_version: charge.sampler_version,
        accountant_version: charge.accountant_version,
    }
}

/// The limit on participations behind a charge; only trees count the rounds strictly between two of them.
fn limit(plan: &PlanRow) -> Option<ParticipationLimit> {
    let ChargeMechanism::Correlated { participations, separation, .. } = plan.charge.mechanism else { return None };
    match plan.mechanism.as_str() {
        "tree" => ParticipationLimit::between(participations, separation).ok(),
        _ => ParticipationLimit::new(participations, separation).ok(),
    }
}

/// Whether the charge's σ is that of a node or of a matrix's noise, and not of a release.
fn is_correlated(charge: &Charge) -> bool {
    matches!(charge.mechanism, ChargeMechanism::Correlated { .. })
}

fn central() -> String {
    ChargeMechanism::Gaussian.trust().into()
}

/// Every trust model of the population's tasks, in alphabetical order; that of the server before there are any.
fn trust_model(account: &AccountRow) -> String {
    let models: BTreeSet<&str> = account.plans.iter().map(|plan| plan.charge.mechanism.trust()).collect();
    if models.is_empty() { central() } else { models.into_iter().collect::<Vec<_>>().join(", ") }
}

fn line(entry: &Entry) -> Line {
    Line {
        index: entry.index,
        task: entry.task.clone(),
        round: entry.round,
        charge: entry.charge,
        release: entry.release.map(hex::encode),
        previous: entry.previous,
        hash: entry.hash,
    }
}

fn warnings(account: &AccountRow) -> Vec<String> {
    let mut list = Vec::new();
    if account.epsilon > LARGE_EPSILON {
        list.push(format!("a limit of ε = {} permits to learn much about a client", account.epsilon));
    }
    for plan in &account.plans {
        let z = plan.charge.noise_multiplier();
        if z < SMALL_NOISE {
            list.push(format!("task {}: a noise multiplier of {z:.4} hides little in a single release", plan.task));
        }
    }
    list
}

fn not_covered(account: &AccountRow) -> Vec<String> {
    let is_central = account.plans.iter().all(|plan| plan.charge.mechanism.trust() == "central");
    let server = match is_central {
        true => "the server itself, which sees what it noises",
        false => "the server itself in tasks of the central model, where it sees what it noises",
    };
    let samples = |plan: &PlanRow| matches!(plan.charge.mechanism, ChargeMechanism::PoissonGaussian { .. });
    let cohort = match account.plans.iter().all(samples) && !account.plans.is_empty() {
        true => "who belongs to the population, and who takes part for whoever sees the network's traffic",
        false => "who belongs to the population, and the size of a cohort",
    };
    [
        "losses, accuracies, counts, norms, verdicts and timings, where they are shown to others than the security role",
        cohort,
        server,
        "a person with several devices: k devices count as k clients",
        "clients that belong to another population as well: their budgets add up",
        "clients under several names, where a task limits how often one takes part",
        "single examples of a client's data as a unit",
    ]
    .map(String::from)
    .into()
}

#[cfg(test)]
mod tests;
