//! What a private task adds up, how much noise it gets, and what that costs.

mod adaptive;
mod correlated;

pub use adaptive::AdaptiveClipping;
pub(crate) use adaptive::{AskedClipping, ClipStep};
pub(crate) use correlated::AskedRun;
pub use correlated::{Correlated, CorrelatedKind};

use crate::{Budget, PoissonSample};
use std::sync::{Arc, OnceLock};
use testudo_privacy::{
    ParameterError,
    accountant::poisson,
    budget::{Charge, ChargeMechanism, Exhausted, Gate},
    clip::Grid,
    noise::{Law, NoiseTable},
    sensitivity::{Adjacency, Combination, Refusal},
};

/// `privacy.grid_bits` unless told: steps of 6·10⁻⁸ of the clip.
pub const GRID_BITS: u32 = 24;

/// Differential privacy of a task: central model, one client as the unit, Gaussian noise (independent or correlated),
/// amplified where the server samples in secret.
#[derive(Debug, Clone)]
pub struct Privacy {
    /// Whose budget pays.
    pub population: String,
    /// The population's limit of ε.
    pub budget_epsilon: f64,
    /// At this δ.
    pub delta: f64,
    /// Clients in the population, where the task says so.
    pub clients: Option<u64>,
    /// z = σ/C; of updates and bits together where the clip adapts.
    pub noise_multiplier: f64,
    /// How the clip follows the updates' norms; `None`: it stays as it is.
    pub adaptive: Option<AdaptiveClipping>,
    /// How the noise of the releases hangs together; `None`: it is independent.
    pub correlated: Option<Correlated>,
    /// What the population's account adds up if this task is its first.
    pub gate: Gate,
    /// Releases leave at multiples of this after their round closed, milliseconds: how long the noise took shows in nothing.
    pub release_step_ms: u64,
    /// What "one client's data" may change.
    pub adjacency: Adjacency,
    /// How rows are combined, as far as the proof goes.
    pub combination: Combination,
    /// Rows that are planned for: an absent or useless update is a row of zeros.
    pub rows: usize,
    /// What the noised sum is divided by, fixed and public.
    pub divisor: f64,
    /// Clip (the first one, where it adapts), resolution and σ.
    pub grid: Grid,
    /// Parameters of one release; of the whole run where the noise is correlated.
    pub charge: Charge,
    /// The sampler's table, made when the first noise is drawn.
    table: Table,
}

/// Tables take milliseconds, and a task that is only looked at needs none.
#[derive(Debug, Clone, Default)]
struct Table(Arc<OnceLock<Result<NoiseTable, ParameterError>>>);

/// What a task asks for, one value for each key.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) population: String,
    pub(crate) budget_epsilon: f64,
    pub(crate) delta: f64,
    pub(crate) clients: Option<u64>,
    pub(crate) noise_multiplier: f64,
    pub(crate) adjacency: Adjacency,
    pub(crate) clip: f64,
    pub(crate) adaptive: Option<AskedClipping>,
    pub(crate) correlated: Option<AskedRun>,
    /// With the number of rounds that are planned.
    pub(crate) sampled: Option<(PoissonSample, u64)>,
    pub(crate) release_step_ms: u64,
    pub(crate) grid_bits: u32,
    pub(crate) combination: Combination,
    /// Rows that are planned for.
    pub(crate) rows: usize,
    /// Rows that there may be: more than planned where clients are over-selected.
    pub(crate) most_rows: usize,
}

impl Privacy {
    /// Checks that the sums fit, that the rule's sensitivity is proved, and what a release costs.
    pub(crate) fn new(asked: Asked) -> Result<Self, Refusal> {
        let (z, bits, most_rows) = (asked.noise_multiplier, asked.grid_bits, asked.most_rows as u64);
        let (mut sensitivity, divisor) = asked.combination.on_grid(asked.rows as u64, bits, asked.adjacency)?;
        let fixed = Grid::new(asked.clip, bits, z, most_rows)?;
        let clipping =
            |asked_clip| AdaptiveClipping::new(asked_clip, (asked.clip, z), (asked.rows, fixed.sensitivity()));
        let adaptive = asked.adaptive.map(clipping).transpose()?;
        let grid = match &adaptive {
            None => fixed,
            Some(clipping) => {
                // The bit beside the vector: both adjacencies move both by the same multiple.
                let bit = clipping.bit();
                sensitivity = (sensitivity / fixed.sensitivity()).saturating_mul(bit.sensitivity());
                // Whichever is larger, the sum of vectors or that of bits, has to fit.
                let bits_sum = most_rows.saturating_mul(bit.half().div_ceil(fixed.sensitivity()));
                Grid::with_sigma(asked.clip, bits, bit.sigma(), bits_sum)?;
                Grid::with_sigma(asked.clip, bits, bit.sigma(), most_rows)?
            }
        };
        // σ is an integer by construction of the grid.
        let sigma = grid.sigma() as u64;
        let correlated = asked.correlated.as_ref().map(|run| Correlated::new(run, sigma)).transpose()?;
        let charge = match (&correlated, &asked.sampled) {
            (Some(run), _) => run.charge(sigma, sensitivity)?,
            (None, Some((sample, _))) => {
                let mechanism = ChargeMechanism::PoissonGaussian { rate: sample.rate() };
                Charge::new(asked.adjacency, mechanism, sigma, sensitivity, 1)?
            }
            (None, None) => Charge::new(asked.adjacency, ChargeMechanism::Gaussian, sigma, sensitivity, 1)?,
        };
        let gate = match asked.sampled {
            Some((sample, rounds)) => order_of(&charge, sample.rate(), rounds, asked.delta),
            None => charge.gate(),
        };
        Ok(Self {
            population: asked.population,
            budget_epsilon: asked.budget_epsilon,
            delta: asked.delta,
            clients: asked.clients,
            noise_multiplier: z,
            adaptive,
            correlated,
            gate,
            release_step_ms: asked.release_step_ms,
            adjacency: asked.adjacency,
            combination: asked.combination,
            rows: asked.rows,
            divisor,
            grid,
            charge,
            table: Table::default(),
        })
    }

    /// σ of the noise on every coordinate of the released aggregate. Where the noise is correlated: on the sum of all
    /// aggregates so far, root mean square over the releases.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        let times = self.correlated.as_ref().map_or(1.0, |run| run.plan().prefix_deviation());
        times * self.grid.sigma() * self.grid.step() / self.divisor
    }

    /// How many of its charges a task of so many rounds plans: a correlated run is charged as a whole.
    #[must_use]
    pub fn charges(&self, rounds: u64) -> u64 {
        self.budget().charges(rounds)
    }

    /// What the release of a step costs, counted from 1: a correlated run's first one holds the whole of it.
    #[must_use]
    pub fn charge_of(&self, step: u64) -> Charge {
        match &self.correlated {
            Some(_) if step > 1 => self.charge.step(step),
            _ => self.charge,
        }
    }

    /// σ over the rule's sensitivity, as accountants count it.
    #[must_use]
    pub fn effective_multiplier(&self) -> f64 {
        self.budget().effective_multiplier()
    }

    /// ε of `releases` releases at the task's δ, rounded up; ∞ if no budget could hold them. A correlated run costs the
    /// whole, however few of its releases were made.
    #[must_use]
    pub fn epsilon(&self, releases: u64) -> f64 {
        self.budget().epsilon_of(releases)
    }

    /// Whether a plan of so many releases would fit the population's limit if nothing else were charged to it.
    ///
    /// # Errors
    /// What would fit instead.
    pub fn fits_alone(&self, task: &str, releases: u64) -> Result<(), Box<Exhausted>> {
        self.budget().fits_alone(task, releases)
    }

    /// Whose budget pays for how much.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let (population, charge, clients) = (self.population.clone(), self.charge, self.clients);
        Budget { population, epsilon: self.budget_epsilon, delta: self.delta, charge, gate: self.gate, clients }
    }

    /// The same with the clip of a later release; the steps within it and σ in steps stay.
    pub(crate) fn at(&self, clip: f64) -> Result<Self, ParameterError> {
        Ok(Self { grid: self.grid.at(clip)?, ..self.clone() })
    }

    /// Values cut at each end of a trimmed mean.
    pub(crate) fn cut(&self) -> Option<usize> {
        match self.combination {
            Combination::TrimmedMean { cut } => Some(cut as usize),
            _ => None,
        }
    }

    /// Whether rows are selected by their distances first.
    pub(crate) fn selects(&self) -> bool {
        matches!(self.combination, Combination::MultiKrum { .. })
    }

    /// Whether what is clipped are the updates' distances from the last release.
    pub(crate) fn is_centred(&self) -> bool {
        matches!(self.combination, Combination::CentredClipping { .. })
    }

    /// The sampler's table.
    pub(crate) fn noise_table(&self) -> Result<&NoiseTable, String> {
        let sigma = self.grid.sigma();
        let sigma = self.correlated.as_ref().map_or(sigma, |run| run.plan().stream_sigma(sigma as u64));
        let table = self.table.0.get_or_init(|| NoiseTable::new(Law::Rounded, sigma));
        table.as_ref().map_err(ToString::to_string)
    }
}

/// The Rényi order at which the planned rounds cost least: an account adds up at one, chosen before its first release.
fn order_of(charge: &Charge, rate: f64, rounds: u64, delta: f64) -> Gate {
    let whole = poisson::curve(rate, charge.noise_multiplier().next_down()).repeated(rounds);
    // With so little noise that every order is infinite, any says so.
    Gate::Renyi { order: (whole.epsilon(delta).1 as u32).max(2) }
}
