//! Budgets on the wire and back. Figures that follow from others are computed again by whoever reads them.

use crate::store::{AccountRow, PlanRow, TaskState};
use testudo_privacy::{
    budget::{Account, Charge, ChargeMechanism, Entry, Gate},
    sensitivity::Adjacency,
};
use testudo_proto::v1::{self, charge::Mechanism};
use testudo_protocol::TaskName;

/// A message that no server of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer has an impossible {0}")]
pub struct WireError(&'static str);

/// A budget with some of its charges.
#[must_use]
pub fn to_wire(account: &AccountRow, entries: &[Entry]) -> v1::Budget {
    v1::Budget {
        population: account.population.clone(),
        order: match account.gate {
            Gate::Rho => 0,
            Gate::Zcdp => 1,
            Gate::Renyi { order } => order,
        },
        epsilon_limit: account.epsilon,
        delta: account.delta,
        limit_units: account.limit,
        spent_units: account.spent,
        reserved_units: account.reserved,
        planned_units: account.planned,
        head_index: account.head.map(|(index, _)| index),
        head_hash: account.head.map(|(_, hash)| hash.to_vec().into()).unwrap_or_default(),
        created_at_ms: account.created_at,
        plans: account.plans.iter().map(plan_to_wire).collect(),
        charges: entries.iter().map(entry_to_wire).collect(),
    }
}

/// A budget and the charges that came with it.
///
/// # Errors
/// Names the field that is impossible.
pub fn from_wire(budget: v1::Budget) -> Result<(AccountRow, Vec<Entry>), WireError> {
    let gate = match budget.order {
        0 => Gate::Rho,
        1 => Gate::Zcdp,
        order => Gate::Renyi { order },
    };
    Account::new(&budget.population, gate, budget.epsilon_limit, budget.delta).map_err(|_| WireError("limit"))?;
    if [budget.limit_units, budget.spent_units, budget.reserved_units, budget.planned_units]
        .iter()
        .any(|units| *units < 0)
    {
        return Err(WireError("total"));
    }
    let head = match budget.head_index {
        None => None,
        Some(index) => Some((index, hash(&budget.head_hash, "head_hash")?)),
    };
    let (spent, reserved, planned) = (budget.spent_units, budget.reserved_units, budget.planned_units);
    let promised = spent.saturating_add(reserved).saturating_add(planned);
    let population = budget.population;
    let entries = budget.charges.into_iter().map(|charge| entry(&population, charge)).collect::<Result<_, _>>()?;
    let account = AccountRow {
        gate,
        epsilon: budget.epsilon_limit,
        delta: budget.delta,
        limit: budget.limit_units,
        spent,
        reserved,
        planned,
        spent_epsilon: gate.epsilon(spent, budget.delta),
        promised_epsilon: gate.epsilon(promised, budget.delta),
        head,
        plans: budget.plans.into_iter().map(plan).collect::<Result<_, _>>()?,
        created_at: budget.created_at_ms,
        population,
    };
    Ok((account, entries))
}

fn plan_to_wire(plan: &PlanRow) -> v1::BudgetPlan {
    v1::BudgetPlan {
        task: plan.task.to_string(),
        state: plan.state.word().into(),
        clip: plan.clip,
        grid_bits: plan.grid_bits,
        adaptive_clip: plan.adaptive_clip,
        mechanism: plan.mechanism.clone(),
        charge: Some(charge_to_wire(&plan.charge)),
        releases: plan.releases,
        charged: plan.charged,
        released: plan.released,
        reserved: plan.reserved,
        most_updates: plan.most_updates,
    }
}

fn entry_to_wire(entry: &Entry) -> v1::BudgetCharge {
    v1::BudgetCharge {
        index: entry.index,
        previous: entry.previous.to_vec().into(),
        task: entry.task.clone(),
        round: entry.round,
        charge: Some(charge_to_wire(&entry.charge)),
        release: entry.release.map(|digest| digest.to_vec().into()).unwrap_or_default(),
        hash: entry.hash.to_vec().into(),
    }
}

fn charge_to_wire(charge: &Charge) -> v1::Charge {
    v1::Charge {
        adjacency: match charge.adjacency {
            Adjacency::ZeroOut => "zero_out",
            Adjacency::AddOrRemove => "add_or_remove",
            Adjacency::ReplaceOne => "replace_one",
        }
        .into(),
        mechanism: Some(match charge.mechanism {
            ChargeMechanism::Gaussian => Mechanism::Gaussian(v1::charge::Gaussian {}),
            ChargeMechanism::PoissonGaussian { rate } => Mechanism::PoissonRate(rate),
            ChargeMechanism::Correlated { rounds, participations, separation } => {
                Mechanism::Correlated(v1::charge::Correlated { rounds, participations, separation })
            }
            ChargeMechanism::CorrelatedStep { step } => Mechanism::CorrelatedStep(step),
            ChargeMechanism::Local => Mechanism::Local(v1::charge::Local {}),
            ChargeMechanism::Shares { honest, coordinates } => {
                Mechanism::Shares(v1::charge::Shares { honest, coordinates })
            }
        }),
        sigma_grid: charge.sigma_grid,
        sensitivity_grid: charge.sensitivity_grid,
        releases: charge.releases,
        sampler_version: charge.sampler_version,
        accountant_version: charge.accountant_version,
    }
}

fn plan(plan: v1::BudgetPlan) -> Result<PlanRow, WireError> {
    use TaskState::{Failed, Finished, Paused, Running, Stopped};
    let state = [Running, Paused, Finished, Stopped, Failed].into_iter().find(|state| state.word() == plan.state);
    Ok(PlanRow {
        task: TaskName::new(plan.task).map_err(|_| WireError("task"))?,
        state: state.ok_or(WireError("state"))?,
        clip: plan.clip,
        grid_bits: plan.grid_bits,
        adaptive_clip: plan.adaptive_clip,
        mechanism: plan.mechanism,
        charge: charge(plan.charge)?,
        releases: plan.releases,
        charged: plan.charged,
        released: plan.released,
        reserved: plan.reserved,
        most_updates: plan.most_updates,
    })
}

fn entry(population: &str, charged: v1::BudgetCharge) -> Result<Entry, WireError> {
    Ok(Entry {
        index: charged.index,
        previous: hash(&charged.previous, "previous")?,
        population: population.to_owned(),
        task: charged.task,
        round: charged.round,
        charge: charge(charged.charge)?,
        release: match charged.release.is_empty() {
            true => None,
            false => Some(hash(&charged.release, "release")?),
        },
        hash: hash(&charged.hash, "hash")?,
    })
}

fn charge(charge: Option<v1::Charge>) -> Result<Charge, WireError> {
    let charge = charge.ok_or(WireError("charge"))?;
    let adjacency = match charge.adjacency.as_str() {
        "zero_out" => Adjacency::ZeroOut,
        "add_or_remove" => Adjacency::AddOrRemove,
        "replace_one" => Adjacency::ReplaceOne,
        _ => return Err(WireError("adjacency")),
    };
    let mechanism = match charge.mechanism.ok_or(WireError("mechanism"))? {
        Mechanism::Gaussian(_) => ChargeMechanism::Gaussian,
        Mechanism::PoissonRate(rate) => ChargeMechanism::PoissonGaussian { rate },
        Mechanism::Correlated(run) => ChargeMechanism::Correlated {
            rounds: run.rounds,
            participations: run.participations,
            separation: run.separation,
        },
        Mechanism::CorrelatedStep(step) => ChargeMechanism::CorrelatedStep { step },
        Mechanism::Local(_) => ChargeMechanism::Local,
        Mechanism::Shares(shares) => ChargeMechanism::Shares { honest: shares.honest, coordinates: shares.coordinates },
    };
    let charge = Charge {
        adjacency,
        mechanism,
        sigma_grid: charge.sigma_grid,
        sensitivity_grid: charge.sensitivity_grid,
        releases: charge.releases,
        sampler_version: charge.sampler_version,
        accountant_version: charge.accountant_version,
    };
    charge.check().map_err(|_| WireError("charge"))?;
    Ok(charge)
}

fn hash(bytes: &[u8], what: &'static str) -> Result<[u8; 32], WireError> {
    bytes.try_into().map_err(|_| WireError(what))
}
