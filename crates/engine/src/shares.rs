//! Shares of noise that clients add under masks: how large they are, and what a row's sum then costs.

use crate::Budget;
use testudo_privacy::{
    ParameterError,
    budget::{Charge, ChargeMechanism},
    clip::{Grid, MOST_COORDINATES, rounded_bound},
    mechanism::distributed::Shares,
    rotation,
    sensitivity::Adjacency,
};
use testudo_protocol::secagg::{ROTATION_BLOCK, SHARE_BITS};

/// `privacy.grid_bits` under `trust = "distributed"` unless told: steps of 10⁻⁶ of the clip.
pub const SHARE_GRID_BITS: u32 = 20;

/// Both sides of the wire rotate the same blocks.
const _: () = assert!(rotation::BLOCK as u64 == ROTATION_BLOCK);

/// Distributed differential privacy of a task: every row, the sum of a group, is private by itself, so that whatever a rule
/// does with rows costs nothing more.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseShares {
    /// Whose budget pays for how much.
    pub budget: Budget,
    /// z = σ/C of a row's sum with no more than the guaranteed honest survivors.
    pub noise_multiplier: f64,
    /// Clip and resolution.
    pub grid: Grid,
    /// σ of a share, guaranteed honest survivors and assumed colluders of a group, and the sensitivity.
    pub shares: Shares,
}

/// What a task asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) population: &'a str,
    pub(crate) epsilon: f64,
    pub(crate) delta: f64,
    pub(crate) clients: Option<u64>,
    pub(crate) adjacency: Adjacency,
    pub(crate) clip: f64,
    pub(crate) grid_bits: u32,
    pub(crate) noise_multiplier: f64,
    /// Guaranteed honest survivors of a group.
    pub(crate) honest: u32,
    /// Assumed colluders of a group.
    pub(crate) colluders: u32,
    /// Clients of the largest group.
    pub(crate) largest: usize,
}

impl NoiseShares {
    /// Shares such that the guaranteed honest survivors of a group have σ = zC together.
    pub(crate) fn new(asked: Asked<'_>) -> Result<Self, ParameterError> {
        let this = Self::on_grid(asked)?;
        if this.fits(asked.largest) {
            return Ok(this);
        }
        let on = |grid_bits: u32| Self::on_grid(Asked { grid_bits, ..asked });
        let fits = |bits: &u32| on(*bits).is_ok_and(|shares| shares.fits(asked.largest));
        let fix = match (*SHARE_BITS.start()..asked.grid_bits).rev().find(fits) {
            Some(bits) => format!("give at most {bits}: sums of {} clients must fit 32 bits", asked.largest),
            None => "give less noise or smaller groups: their sums must fit 32 bits".to_string(),
        };
        Err(ParameterError::new("grid_bits", asked.grid_bits, fix))
    }

    /// Without a look at the ring.
    fn on_grid(asked: Asked<'_>) -> Result<Self, ParameterError> {
        let Asked { clip, grid_bits, noise_multiplier, honest, .. } = asked;
        let grid = Grid::new(clip, grid_bits, noise_multiplier, asked.largest as u64)?;
        let times = if asked.adjacency == Adjacency::ReplaceOne { 2 } else { 1 };
        let sensitivity = times * rounded_bound(&grid);
        // Whole steps, rounded up: what is charged is what is drawn.
        let sigma = (grid.sigma() / f64::from(honest).sqrt()).next_up().ceil() as u64;
        let colluders = u64::from(asked.colluders);
        let shares = Shares::of_steps(sigma, u64::from(honest), colluders, sensitivity, MOST_COORDINATES)?;
        let mechanism = ChargeMechanism::Shares { honest, coordinates: MOST_COORDINATES };
        let charge = Charge::new(asked.adjacency, mechanism, sigma, sensitivity, 1)?;
        let Asked { epsilon, delta, clients, .. } = asked;
        let budget =
            Budget { population: asked.population.to_string(), epsilon, delta, charge, gate: charge.gate(), clients };
        Ok(Self { budget, noise_multiplier, grid, shares })
    }

    /// σ of the noise on a row's sum to which `clients` added a share, in the units of updates.
    #[must_use]
    pub fn deviation(&self, clients: usize) -> f64 {
        self.shares.sigma() * (clients as f64).sqrt() * self.grid.step()
    }

    /// Guaranteed honest survivors of a group.
    #[must_use]
    pub fn honest(&self) -> u32 {
        // Made from a u32.
        self.shares.survivors() as u32
    }

    /// log₂ of the grid steps within the clip.
    #[must_use]
    pub fn grid_bits(&self) -> u32 {
        self.grid.sensitivity().ilog2()
    }

    /// Whether sums of `clients` stay within the ring, but for a probability of 2⁻³⁹ each: what is rotated adds up like
    /// random signs, rounding adds a step each, and noise is below its tail. A sum that wraps costs its row, and no privacy.
    fn fits(&self, clients: usize) -> bool {
        let clients = clients as f64;
        // √(2 ln(2·d·2⁴⁰)): both tails of all coordinates.
        let tail = (2.0 * (1.0 + 40.0 + (MOST_COORDINATES as f64).log2()) * std::f64::consts::LN_2).sqrt();
        let bound = clients * rounded_bound(&self.grid) as f64;
        let rotated = bound * (tail / (rotation::BLOCK as f64).sqrt()).min(1.0);
        rotated + clients + tail * self.shares.sigma() * clients.sqrt() < RING / 2.0
    }
}

/// One whole of the ring that sums are taken in.
const RING: f64 = 4_294_967_296.0;
