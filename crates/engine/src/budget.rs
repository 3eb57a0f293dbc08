//! What a private task charges, and to whom, whoever adds its noise.

use testudo_privacy::budget::{Account, Charge, ChargeMechanism, Exhausted, Gate, ReservationError};

/// A population's limit and the parameters of one release.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Whose budget pays.
    pub population: String,
    /// The population's limit of ε.
    pub epsilon: f64,
    /// At this δ.
    pub delta: f64,
    /// Parameters of one release, or of a whole correlated run.
    pub charge: Charge,
    /// What the population's account adds up if this task is its first.
    pub gate: Gate,
    /// Clients in the population, where the task says so.
    pub clients: Option<u64>,
}

impl Budget {
    /// How many of its charges a task of so many rounds plans: a correlated run is charged as a whole.
    #[must_use]
    pub fn charges(&self, rounds: u64) -> u64 {
        match self.charge.mechanism {
            ChargeMechanism::Correlated { .. } => 1,
            _ => rounds,
        }
    }

    /// ε of `releases` releases, rounded up; ∞ if no budget could hold them. A correlated run costs the whole, however few
    /// of its releases were made.
    #[must_use]
    pub fn epsilon_of(&self, releases: u64) -> f64 {
        self.epsilon_by(self.gate, releases)
    }

    /// The same without amplification by sampling, where the task counts on it.
    #[must_use]
    pub fn unamplified_epsilon_of(&self, releases: u64) -> Option<f64> {
        let amplified = matches!(self.charge.mechanism, ChargeMechanism::PoissonGaussian { .. });
        amplified.then(|| self.epsilon_by(Gate::Rho, releases))
    }

    fn epsilon_by(&self, gate: Gate, releases: u64) -> f64 {
        let units = gate.amount(&self.charge).zip(i64::try_from(self.charges(releases)).ok());
        let units = units.and_then(|(once, releases)| once.checked_mul(releases));
        units.map_or(f64::INFINITY, |units| gate.epsilon(units, self.delta))
    }

    /// Whether a plan of so many releases would fit the population's limit if nothing else were charged to it.
    ///
    /// # Errors
    /// What would fit instead.
    pub fn fits_alone(&self, task: &str, releases: u64) -> Result<(), Box<Exhausted>> {
        let Ok(mut account) = Account::new(&self.population, self.gate, self.epsilon, self.delta) else {
            return Ok(());
        };
        match account.plan(task, &self.charge, u32::try_from(self.charges(releases)).unwrap_or(u32::MAX)) {
            Err(ReservationError::Exhausted(exhausted)) => Err(exhausted),
            _ => Ok(()),
        }
    }

    /// σ over the sensitivity, as accountants count it.
    #[must_use]
    pub fn effective_multiplier(&self) -> f64 {
        self.charge.noise_multiplier()
    }
}
