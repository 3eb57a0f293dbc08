//! One population's budget.

use super::{Charge, ChargeMechanism, Entry};
use crate::{
    accountant::{gaussian, zcdp},
    error::{ParameterError, within},
    math::Wide,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// What is added up. Chosen when the account is made: a filter is valid under full adaptivity only if it is not chosen
/// afterwards (Feldman and Zrnic 2021; Koskela et al. 2022).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Gate {
    /// ρ of Gaussian releases, amplification left aside; shown by the exact Gaussian ε.
    Rho,
    /// ρ of anything that is ρ-zCDP, sums of discrete Gaussian shares too; shown by the conversion from zCDP.
    Zcdp,
    /// The Rényi divergence at one integer order.
    Renyi {
        /// α in 2..=1024.
        order: u32,
    },
}

impl Gate {
    /// What a charge adds, in units of 2⁻⁴⁰.
    #[must_use]
    pub fn amount(self, charge: &Charge) -> Option<i64> {
        match self {
            // What is not Gaussian has no place where ε is that of a Gaussian.
            Self::Rho => charge.rho_units().filter(|_| charge.mechanism.is_gaussian()),
            Self::Zcdp => charge.rho_units(),
            Self::Renyi { order } => charge.renyi_units(order),
        }
    }

    /// ε at `delta` of `units` spent, rounded up.
    #[must_use]
    pub fn epsilon(self, units: i64, delta: f64) -> f64 {
        let spent = units.max(0) as f64 * zcdp::RHO_UNIT;
        // i64 to f64 may round down by 2⁻⁵³.
        let spent = if spent == 0.0 { 0.0 } else { spent.next_up() };
        match self {
            Self::Rho => gaussian::epsilon(gaussian::mu_of_rho(spent), delta),
            Self::Zcdp => zcdp::epsilon(spent, delta),
            Self::Renyi { .. } if spent == 0.0 => 0.0,
            Self::Renyi { order } => {
                let excess = Wide::from(f64::from(order)) - Wide::ONE;
                zcdp::bound(Wide::from(spent), excess, Wide::from(delta).ln()).upper().max(0.0)
            }
        }
    }

    /// The most units that keep ε at `delta`.
    fn limit(self, epsilon: f64, delta: f64) -> i64 {
        let (mut low, mut high) = (0_i64, 1_i64 << 61);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.epsilon(middle, delta) <= epsilon {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Reserved before clients train.
    Reserved,
    /// The sum may have been noised: it can no longer be returned.
    Finalising,
    /// Released and charged, or abandoned too late.
    Spent,
    /// Given back.
    Returned,
}

/// Why a round ended without a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The deadline passed, too few survived, a freeze or a restart: nothing about update *values* decided.
    IndependentOfUpdates,
    /// Someone or something looked at values: that in itself is a release.
    MayDependOnUpdates,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reservation {
    charge: Charge,
    amount: i64,
    state: ReservationState,
}

/// A population's limit, what was spent of it, and what is reserved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    population: String,
    gate: Gate,
    epsilon: f64,
    delta: f64,
    limit: i64,
    spent: i64,
    reserved: i64,
    /// Unspent plans of tasks.
    plans: BTreeMap<String, i64>,
    /// By task and round.
    reservations: BTreeMap<String, BTreeMap<u64, Reservation>>,
    /// Number and hash of the newest entry.
    head: Option<(u64, [u8; 32])>,
}

/// Four decimals, the last one up, so that nothing is understated; six digits where there are fewer before them.
fn up(value: f64) -> String {
    if !value.is_finite() {
        return "unbounded".into();
    }
    let scale = if value >= 0.01 { 1e4 } else { 1e6 };
    ((value * scale).ceil() / scale).to_string()
}

/// A charge that does not fit.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "the privacy budget of population {population:?} does not hold this: limit ε = {limit_epsilon}, ε = {} \
     with what is spent and promised, ε = {} with this; {largest_affordable} more releases like it fit{}",
     up(*spent_epsilon), up(*requested_epsilon),
     z_needed.map(|z| format!(", or all of them with noise of {} times the sensitivity", up(z))).unwrap_or_default()
)]
pub struct Exhausted {
    /// Whose budget.
    pub population: String,
    /// The limit.
    pub limit_epsilon: f64,
    /// With everything spent, reserved and planned.
    pub spent_epsilon: f64,
    /// With what was asked for too.
    pub requested_epsilon: f64,
    /// How many single releases of this charge fit.
    pub largest_affordable: u64,
    /// σ/Δ with which all asked for would fit; `None` if no noise up to 10⁶ does.
    pub z_needed: Option<f64>,
}

/// Why a step of a reservation is not possible.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ReservationError {
    /// It does not fit.
    #[error(transparent)]
    Exhausted(#[from] Box<Exhausted>),
    /// A parameter of the charge.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// There is one already: one release per round.
    #[error("round {round} of task {task:?} has a reservation already, {state:?}")]
    Exists {
        /// The task.
        task: String,
        /// The round.
        round: u64,
        /// Where it stands.
        state: ReservationState,
    },
    /// There is none in the state that the step needs.
    #[error("round {round} of task {task:?} has no reservation for this step: {found:?}")]
    WrongState {
        /// The task.
        task: String,
        /// The round.
        round: u64,
        /// Where it stands, if there is one.
        found: Option<ReservationState>,
    },
    /// The task's plan does not cover it.
    #[error("task {task:?} has {left} units of its plan left, this round needs {requested}")]
    BeyondPlan {
        /// The task.
        task: String,
        /// What is left.
        left: i64,
        /// What was asked for.
        requested: i64,
    },
}

impl Account {
    /// An account that keeps (ε, δ).
    ///
    /// # Errors
    /// An ε outside 10⁻⁶..=10⁶, a δ outside 10⁻¹⁰⁰..=½, or an order outside 2..=1024.
    pub fn new(population: &str, gate: Gate, epsilon: f64, delta: f64) -> Result<Self, ParameterError> {
        within("budget_epsilon", epsilon, 1e-6, 1e6)?;
        within("delta", delta, 1e-100, 0.5)?;
        if let Gate::Renyi { order } = gate {
            within("budget_order", f64::from(order), 2.0, 1024.0)?;
        }
        Ok(Self {
            population: population.into(),
            gate,
            epsilon,
            delta,
            limit: gate.limit(epsilon, delta),
            spent: 0,
            reserved: 0,
            plans: BTreeMap::new(),
            reservations: BTreeMap::new(),
            head: None,
        })
    }

    /// Creating a task: its whole plan must fit beside everything spent and promised.
    ///
    /// # Errors
    /// If it does not fit, or the task has a plan.
    pub fn plan(&mut self, task: &str, charge: &Charge, releases: u32) -> Result<(), ReservationError> {
        let mut whole = *charge;
        whole.releases = charge.releases.saturating_mul(releases);
        whole.check()?;
        if self.plans.contains_key(task) {
            return Err(ReservationError::Exists { task: task.into(), round: 0, state: ReservationState::Reserved });
        }
        // Rounds are charged one by one, each rounded up: so is the plan.
        let amount = self.gate.amount(charge).and_then(|once| once.checked_mul(i64::from(releases)));
        let amount = self.fits(amount, &whole)?;
        self.plans.insert(task.into(), amount);
        Ok(())
    }

    /// Ends a task: what its plan did not use is free again. Its open reservations stay.
    pub fn end_plan(&mut self, task: &str) {
        self.plans.remove(task);
    }

    /// Opening a round: reserve before clients train. Taken from the task's plan if it has one.
    ///
    /// # Errors
    /// If it does not fit, or the round has a reservation.
    pub fn reserve(&mut self, task: &str, round: u64, charge: Charge) -> Result<(), ReservationError> {
        charge.check()?;
        if let Some(state) = self.state(task, round) {
            return Err(ReservationError::Exists { task: task.into(), round, state });
        }
        let amount = match self.plans.get(task).copied() {
            None => self.fits(self.gate.amount(&charge), &charge)?,
            Some(left) => {
                let requested = self.gate.amount(&charge).unwrap_or(i64::MAX);
                if requested > left {
                    return Err(ReservationError::BeyondPlan { task: task.into(), left, requested });
                }
                self.plans.insert(task.into(), left - requested);
                requested
            }
        };
        self.reserved += amount;
        let reservation = Reservation { charge, amount, state: ReservationState::Reserved };
        self.reservations.entry(task.into()).or_default().insert(round, reservation);
        Ok(())
    }

    /// The round's sum is about to be noised: from here the reservation cannot be returned.
    ///
    /// # Errors
    /// If it is not reserved. Repeating it is allowed: a restart finalises the same round again, with the same seed.
    pub fn finalising(&mut self, task: &str, round: u64) -> Result<(), ReservationError> {
        use ReservationState::{Finalising, Reserved};
        self.step(task, round, &[Reserved, Finalising], Finalising).map(drop)
    }

    /// The release: reserved becomes spent, exactly once, and the chain grows by the entry returned.
    ///
    /// # Errors
    /// If the round was not [`Self::finalising`].
    pub fn commit(&mut self, task: &str, round: u64, release: [u8; 32]) -> Result<Entry, ReservationError> {
        let reservation = self.step(task, round, &[ReservationState::Finalising], ReservationState::Spent)?;
        self.reserved -= reservation.amount;
        self.spent += reservation.amount;
        let (index, previous) = self.next();
        let entry = Entry::new(index, previous, &self.population, task, round, reservation.charge, Some(release));
        self.head = Some((index, entry.hash));
        Ok(entry)
    }

    /// A round without release. Returned if it never finalised and nothing about update values decided; else it is spent,
    /// and the chain grows by the entry returned.
    ///
    /// # Errors
    /// If there is no open reservation.
    pub fn abandon(&mut self, task: &str, round: u64, outcome: Outcome) -> Result<Option<Entry>, ReservationError> {
        use ReservationState::{Finalising, Reserved, Returned, Spent};
        let refundable = self.state(task, round) == Some(Reserved) && outcome == Outcome::IndependentOfUpdates;
        let to = if refundable { Returned } else { Spent };
        let reservation = self.step(task, round, &[Reserved, Finalising], to)?;
        self.reserved -= reservation.amount;
        if refundable {
            if let Some(left) = self.plans.get_mut(task) {
                *left += reservation.amount;
            }
            return Ok(None);
        }
        self.spent += reservation.amount;
        let (index, previous) = self.next();
        let entry = Entry::new(index, previous, &self.population, task, round, reservation.charge, None);
        self.head = Some((index, entry.hash));
        Ok(Some(entry))
    }

    /// Drops a reservation that is spent or returned, so that a stored account does not grow with every round. For a
    /// keeper who never numbers a round twice and keeps the entries: they tell of it from then on.
    pub fn forget(&mut self, task: &str, round: u64) {
        use ReservationState::{Returned, Spent};
        let Some(rounds) = self.reservations.get_mut(task) else { return };
        if rounds.get(&round).is_some_and(|reservation| matches!(reservation.state, Spent | Returned)) {
            rounds.remove(&round);
        }
        if rounds.is_empty() {
            self.reservations.remove(task);
        }
    }

    /// Units of a task's plan that are not reserved yet; `None` if it has no plan.
    #[must_use]
    pub fn planned(&self, task: &str) -> Option<i64> {
        self.plans.get(task).copied()
    }

    /// Where a round's reservation stands.
    #[must_use]
    pub fn state(&self, task: &str, round: u64) -> Option<ReservationState> {
        Some(self.reservations.get(task)?.get(&round)?.state)
    }

    /// What is added up.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Limit, spent, reserved and planned, in units of 2⁻⁴⁰.
    #[must_use]
    pub fn units(&self) -> (i64, i64, i64, i64) {
        (self.limit, self.spent, self.reserved, self.plans.values().sum())
    }

    /// ε of what is spent, rounded up, and its limit; δ.
    #[must_use]
    pub fn epsilon(&self) -> (f64, f64, f64) {
        (self.gate.epsilon(self.spent, self.delta), self.epsilon, self.delta)
    }

    /// How many single releases of a charge fit beside everything spent and promised.
    #[must_use]
    pub fn affordable(&self, charge: &Charge) -> u64 {
        match self.gate.amount(charge) {
            Some(amount) if amount > 0 => u64::try_from(self.free() / amount).unwrap_or(0),
            _ => 0,
        }
    }

    /// Number and hash of the newest entry: what a release embeds, so that an older database is recognised.
    #[must_use]
    pub fn head(&self) -> Option<(u64, [u8; 32])> {
        self.head
    }

    fn free(&self) -> i64 {
        let (limit, spent, reserved, planned) = self.units();
        (limit - spent - reserved - planned).max(0)
    }

    fn next(&self) -> (u64, [u8; 32]) {
        self.head.map_or((0, [0; 32]), |(index, hash)| (index + 1, hash))
    }

    fn fits(&self, amount: Option<i64>, charge: &Charge) -> Result<i64, ReservationError> {
        let free = self.free();
        if let Some(amount) = amount.filter(|amount| *amount <= free) {
            return Ok(amount);
        }
        let taken = self.limit - free;
        let requested = amount.map_or(f64::INFINITY, |more| self.gate.epsilon(taken.saturating_add(more), self.delta));
        // A run of correlated noise is one charge, however it is put together.
        let once = match charge.mechanism {
            ChargeMechanism::Correlated { .. } => *charge,
            _ => Charge { releases: 1, ..*charge },
        };
        Err(Box::new(Exhausted {
            population: self.population.clone(),
            limit_epsilon: self.epsilon,
            spent_epsilon: self.gate.epsilon(taken, self.delta),
            requested_epsilon: requested,
            largest_affordable: self.affordable(&once),
            z_needed: self.z_needed(charge, free),
        })
        .into())
    }

    /// The smallest σ/Δ with which the charge fits, to the integer σ of its grid.
    fn z_needed(&self, charge: &Charge, free: i64) -> Option<f64> {
        let fits = |sigma_grid: u64| {
            let louder = Charge { sigma_grid, ..*charge };
            louder.check().is_ok() && self.gate.amount(&louder).is_some_and(|amount| amount <= free)
        };
        let (mut low, mut high) = (charge.sigma_grid, 1 << 36);
        if !fits(high) {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(Charge { sigma_grid: high, ..*charge }.noise_multiplier().next_up())
    }

    fn step(
        &mut self,
        task: &str,
        round: u64,
        from: &[ReservationState],
        to: ReservationState,
    ) -> Result<Reservation, ReservationError> {
        let found = self.state(task, round);
        let wrong = || ReservationError::WrongState { task: task.into(), round, found };
        if !found.is_some_and(|state| from.contains(&state)) {
            return Err(wrong());
        }
        let reservation =
            self.reservations.get_mut(task).and_then(|rounds| rounds.get_mut(&round)).ok_or_else(wrong)?;
        reservation.state = to;
        Ok(reservation.clone())
    }
}
