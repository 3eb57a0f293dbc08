//! Noise that every client adds to its own update.

use crate::Budget;
use testudo_privacy::{
    ParameterError,
    budget::{Charge, ChargeMechanism},
    mechanism::local::LocalNoise,
    sensitivity::Adjacency,
};

/// Local differential privacy of a task: one client as the unit, another update in its place, the exact Gaussian bound.
///
/// Rows are noised before the server has them: whatever a rule does with them costs nothing more.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    /// Whose budget pays for how much.
    pub budget: Budget,
    /// Clip, grid and σ that clients are told.
    pub noise: LocalNoise,
}

impl Local {
    /// Noise of `multiplier` z = σ/C on a grid of 2^`bits` steps within `clip`, charged at `delta` to `population`, of so many clients.
    pub(crate) fn new(
        (population, epsilon, delta, clients): (&str, f64, f64, Option<u64>),
        clip: f64,
        bits: u32,
        multiplier: f64,
    ) -> Result<Self, ParameterError> {
        let noise = LocalNoise::with_multiplier(clip, bits, multiplier)?;
        // σ is an integer by construction of the grid. Another update in its place moves a clipped one by 2C.
        let (sigma, sensitivity) = (noise.sigma() as u64, 2 * noise.grid().sensitivity());
        let charge = Charge::new(Adjacency::ReplaceOne, ChargeMechanism::Local, sigma, sensitivity, 1)?;
        Ok(Self {
            budget: Budget { population: population.into(), epsilon, delta, charge, gate: charge.gate(), clients },
            noise,
        })
    }

    /// σ of the noise on every coordinate of an update.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        self.noise.sigma() * self.noise.grid().step()
    }

    /// log₂ of the grid steps within the clip.
    #[must_use]
    pub fn grid_bits(&self) -> u32 {
        self.noise.grid().sensitivity().ilog2()
    }
}
