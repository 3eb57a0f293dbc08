//! What one release, or one whole run, is charged.

use super::Gate;
use crate::{
    accountant::{
        distributed, poisson,
        zcdp::{self, RHO_UNIT},
    },
    error::ParameterError,
    math::Wide,
    mechanism::distributed::Shares,
    noise::SAMPLER_VERSION,
    sensitivity::Adjacency,
};
use serde::{Deserialize, Serialize};

/// Changes whenever the same charge would give another amount.
pub const ACCOUNTANT_VERSION: u32 = 1;

/// How noise was added.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChargeMechanism {
    /// Independent noise on sums of everyone who was asked.
    Gaussian,
    /// The same on a Poisson sample that the server drew and hid.
    PoissonGaussian {
        /// q.
        rate: f64,
    },
    /// Correlated noise (tree or matrix): the whole run at once, whose sensitivity counts all participations.
    Correlated {
        /// Rounds of the run.
        rounds: u64,
        /// The most rounds one client takes part in.
        participations: u32,
        /// Rounds between two of them, in the mechanism's own convention.
        separation: u64,
    },
    /// A later step of such a run: its first charge holds the whole, and this one adds nothing.
    CorrelatedStep {
        /// Which step, from 2.
        step: u64,
    },
    /// Noise on every client's own update, before it leaves the device. The amount is that of one update a round; a client
    /// that takes part in fewer is charged for as many as it may have taken part in.
    Local,
    /// Discrete Gaussian shares of clients under masks: σ and Δ of the charge are those of one share and of an update.
    Shares {
        /// Shares that the noise is counted from: those of honest clients that no unmasked sum goes without.
        honest: u32,
        /// Coordinates of an update, at most.
        coordinates: u64,
    },
}

impl ChargeMechanism {
    /// Who adds the noise, in the words of `task.toml`.
    #[must_use]
    pub fn trust(&self) -> &'static str {
        match self {
            Self::Gaussian | Self::PoissonGaussian { .. } | Self::Correlated { .. } | Self::CorrelatedStep { .. } => {
                "central"
            }
            Self::Local => "local",
            Self::Shares { .. } => "distributed",
        }
    }

    /// Whether what is charged for is told with every update, and not only with a release: an abandoned round is then
    /// spent, whatever ended it.
    #[must_use]
    pub fn is_spent_by_uploads(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// Whether ρ is shown and limited by the exact ε of a Gaussian; otherwise only by the conversion from zCDP.
    pub(super) fn is_gaussian(&self) -> bool {
        !matches!(self, Self::Shares { .. })
    }
}

/// Parameters of `releases` equal releases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// What may change.
    pub adjacency: Adjacency,
    /// How noise was added.
    pub mechanism: ChargeMechanism,
    /// σ in grid steps, an integer.
    pub sigma_grid: u64,
    /// Δ in grid steps, rounded up to an integer.
    pub sensitivity_grid: u64,
    /// How many of them.
    pub releases: u32,
    /// Of the noise.
    pub sampler_version: u32,
    /// Of the amounts.
    pub accountant_version: u32,
}

impl Charge {
    /// A charge under today's versions.
    ///
    /// # Errors
    /// A σ of 0 or above 2³⁶, a Δ of 0 or above 2³⁶, no release, or a rate outside (0, 1].
    pub fn new(
        adjacency: Adjacency,
        mechanism: ChargeMechanism,
        sigma_grid: u64,
        sensitivity_grid: u64,
        releases: u32,
    ) -> Result<Self, ParameterError> {
        let charge = Self {
            adjacency,
            mechanism,
            sigma_grid,
            sensitivity_grid,
            releases,
            sampler_version: SAMPLER_VERSION,
            accountant_version: ACCOUNTANT_VERSION,
        };
        charge.check()?;
        Ok(charge)
    }

    /// What [`Self::new`] checks, for charges that were stored.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<(), ParameterError> {
        const MOST: u64 = 1 << 36;
        if !(1..=MOST).contains(&self.sigma_grid) {
            return Err(ParameterError::new("sigma_grid", self.sigma_grid, format!("give 1 to {MOST}")));
        }
        if !(1..=MOST).contains(&self.sensitivity_grid) {
            return Err(ParameterError::new("sensitivity_grid", self.sensitivity_grid, format!("give 1 to {MOST}")));
        }
        if self.releases == 0 {
            return Err(ParameterError::new("releases", self.releases, "give at least one"));
        }
        match self.mechanism {
            ChargeMechanism::PoissonGaussian { rate } if !(rate > 0.0 && rate <= 1.0) => {
                Err(ParameterError::new("rate", rate, "give a probability above 0 and at most 1"))
            }
            ChargeMechanism::CorrelatedStep { step } if step < 2 => {
                Err(ParameterError::new("step", step, "give 2 or more: the first step is charged with the whole run"))
            }
            ChargeMechanism::Shares { honest, coordinates } => {
                Shares::of_steps(self.sigma_grid, u64::from(honest), 0, self.sensitivity_grid, coordinates).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The charge of a later step of the correlated run that this one holds the whole of.
    #[must_use]
    pub fn step(&self, step: u64) -> Self {
        Self { mechanism: ChargeMechanism::CorrelatedStep { step }, ..*self }
    }

    /// ρ without amplification in units of 2⁻⁴⁰, rounded up *exactly*: ⌈releases·Δ²·2³⁹/σ²⌉. That of shares is ½ε² of
    /// [`distributed::guarantee_of_integers`], each release rounded up.
    ///
    /// `None` beyond 2⁶² units: no budget holds it.
    #[must_use]
    pub fn rho_units(&self) -> Option<i64> {
        if matches!(self.mechanism, ChargeMechanism::CorrelatedStep { .. }) {
            return Some(0);
        }
        if let ChargeMechanism::Shares { honest, coordinates } = self.mechanism {
            let (honest, sigma) = (u64::from(honest), self.sigma_grid as f64);
            let rho = distributed::guarantee_of_integers(honest, sigma, coordinates, self.sensitivity_grid).rho;
            let units = zcdp::rho_units(rho)?.checked_mul(i64::from(self.releases))?;
            return Some(units).filter(|units| *units < 1 << 62);
        }
        let square = |value: u64| u128::from(value) * u128::from(value);
        // Δ² ≤ 2⁷²; with 2³⁹ that is 2¹¹¹. The releases multiply the quotient's parts.
        let scaled = square(self.sensitivity_grid) << 39;
        let divisor = square(self.sigma_grid);
        let releases = u128::from(self.releases);
        let whole = (scaled / divisor).checked_mul(releases)?;
        // The remainder is below σ² ≤ 2⁷², times 2³² is below 2¹⁰⁴.
        let part = ((scaled % divisor) * releases).div_ceil(divisor);
        i64::try_from(whole.checked_add(part)?).ok().filter(|units| *units < 1 << 62)
    }

    /// The Rényi divergence at an integer `order` in units of 2⁻⁴⁰, rounded up; amplified where the mechanism samples.
    ///
    /// `None` beyond 2⁶² units.
    #[must_use]
    pub fn renyi_units(&self, order: u32) -> Option<i64> {
        match self.mechanism {
            ChargeMechanism::Gaussian
            | ChargeMechanism::Correlated { .. }
            | ChargeMechanism::CorrelatedStep { .. }
            | ChargeMechanism::Local
            | ChargeMechanism::Shares { .. } => {
                self.rho_units()?.checked_mul(i64::from(order)).filter(|units| *units < 1 << 62)
            }
            ChargeMechanism::PoissonGaussian { rate } => {
                // z rounded down: more is charged.
                let z = (self.sigma_grid as f64 / self.sensitivity_grid as f64).next_down();
                let once = Wide::from(poisson::divergence(rate, z, f64::from(order)));
                let units = (once * Wide::from(u64::from(self.releases)) / Wide::from(RHO_UNIT)).upper().ceil();
                (units < 4e18).then_some(units as i64)
            }
        }
    }

    /// What an account must add up at least to hold it: where Gaussians alone are counted, nothing else fits in.
    #[must_use]
    pub fn gate(&self) -> Gate {
        if self.mechanism.is_gaussian() { Gate::Rho } else { Gate::Zcdp }
    }

    /// σ of what is published over Δ: for shares that of the sum of the honest ones.
    #[must_use]
    pub fn noise_multiplier(&self) -> f64 {
        let root = match self.mechanism {
            ChargeMechanism::Shares { honest, .. } => f64::from(honest).sqrt(),
            _ => 1.0,
        };
        self.sigma_grid as f64 * root / self.sensitivity_grid as f64
    }

    /// Bytes that determine it, for hashes: fixed widths, little-endian.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(match self.adjacency {
            Adjacency::ZeroOut => 0,
            Adjacency::AddOrRemove => 1,
            Adjacency::ReplaceOne => 2,
        });
        match self.mechanism {
            ChargeMechanism::Gaussian => bytes.push(0),
            ChargeMechanism::PoissonGaussian { rate } => {
                bytes.push(1);
                bytes.extend(rate.to_bits().to_le_bytes());
            }
            ChargeMechanism::Correlated { rounds, participations, separation } => {
                bytes.push(2);
                bytes.extend(rounds.to_le_bytes());
                bytes.extend(participations.to_le_bytes());
                bytes.extend(separation.to_le_bytes());
            }
            ChargeMechanism::CorrelatedStep { step } => {
                bytes.push(3);
                bytes.extend(step.to_le_bytes());
            }
            ChargeMechanism::Local => bytes.push(4),
            ChargeMechanism::Shares { honest, coordinates } => {
                bytes.push(5);
                bytes.extend(honest.to_le_bytes());
                bytes.extend(coordinates.to_le_bytes());
            }
        }
        bytes.extend(self.sigma_grid.to_le_bytes());
        bytes.extend(self.sensitivity_grid.to_le_bytes());
        bytes.extend(self.releases.to_le_bytes());
        bytes.extend(self.sampler_version.to_le_bytes());
        bytes.extend(self.accountant_version.to_le_bytes());
    }
}
