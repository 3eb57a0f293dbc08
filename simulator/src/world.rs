//! A federation in virtual time: clients that train and attack, and the same engine that runs the server's rounds.
//!
//! [`World::step`] is one round: cohort, training, attack, upload, the engine from its first seat to its release, and
//! measurement. No clock, no thread order and no system randomness enter: a world is a function of its [`Scenario`] and
//! its data.

use std::collections::BTreeMap;
use std::sync::Arc;

use testudo_engine::{Carry, select};
use testudo_protocol::{ClientId, Model, Tensor};

use crate::attack::AttackError;
use crate::data::Dataset;
use crate::network;
use crate::random::{Purpose, stream};
use crate::scenario::{Placement, Scenario};
use crate::workload::{Workload, WorkloadError};

pub use data::{Library, PartitionFile, Prepared, WorldData};
pub use measure::{Counts, Measured};
pub use round::{Ending, Route};
pub use state::{State, StateError};

mod adversary;
mod data;
mod groups;
mod measure;
mod round;
mod state;
mod training;
mod uplink;

/// A running federation.
#[derive(Debug)]
pub struct World {
    scenario: Arc<Scenario>,
    workload: Box<dyn Workload>,
    data: Arc<Prepared>,
    /// Training data of clients whose attack changes them.
    poisoned: BTreeMap<usize, Dataset>,
    names: Vec<ClientId>,
    numbers: BTreeMap<ClientId, usize>,
    /// Sorted numbers of the attackers; empty without an attack.
    colluders: Vec<usize>,
    route: Route,
    state: State,
}

/// Why a world cannot be or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The data.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// Too few examples to split.
    #[error("data.{0}")]
    Split(#[from] crate::data::SplitError),
    /// Too few examples to divide.
    #[error("data.heterogeneity: {0}")]
    Partition(#[from] crate::data::PartitionError),
    /// The workload.
    #[error("workload: {0}")]
    Workload(#[from] WorkloadError),
    /// The attack does not fit the data.
    #[error("adversary.attack: {0}")]
    Attack(#[from] AttackError),
    /// The model cannot be one.
    #[error("model: {0}")]
    Model(#[from] testudo_protocol::ModelError),
    /// A round that no engine takes.
    #[error("round {round}: {detail}")]
    Round {
        /// Which.
        round: u64,
        /// Why.
        detail: String,
    },
}

impl World {
    /// The world before its first round.
    ///
    /// # Errors
    /// Data that do not fit the scenario.
    pub fn new(scenario: Arc<Scenario>, data: Arc<Prepared>, route: Route) -> Result<Self, WorldError> {
        let plan = &scenario.plan;
        let workload = plan.workload.build::<f32>(data.train_width(), data.classes())?;
        let names: Vec<ClientId> = (0..plan.population.clients)
            .map(|client| {
                ClientId::new(format!("client-{client:06}")).expect("letters, a hyphen and digits are a name")
            })
            .collect();
        let numbers = names.iter().cloned().zip(0..).collect();
        let tensors = workload
            .tensors()
            .into_iter()
            .map(|tensor| Tensor { name: tensor.name, shape: tensor.shape.iter().map(|&side| side as u64).collect() });
        let model = Model::new(tensors.collect(), workload.initial(plan.seed))?;
        let colluders = adversary::colluders(plan);
        let mut poisoned = BTreeMap::new();
        for &client in &colluders {
            let mut own = data.of(client).clone();
            let before = own.clone();
            plan.adversary
                .attack
                .attack()
                .poison(&mut own, &mut stream(plan.seed, Purpose::Poison, 0, client as u64))?;
            if own != before {
                poisoned.insert(client, own);
            }
        }
        let state = State::new(model, plan.population.clients);
        let mut world = Self { scenario, workload, data, poisoned, names, numbers, colluders, route, state };
        world.measure_start();
        Ok(world)
    }

    /// Continues from a checkpoint of the same scenario.
    pub fn restore(&mut self, state: State) {
        self.state = state;
    }

    /// Everything that the rest of the run follows from.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Whether the last round is over.
    pub fn is_over(&self) -> bool {
        self.state.round >= self.scenario.plan.rounds
    }

    /// One round.
    ///
    /// # Errors
    /// What no engine takes; the state is as before.
    pub fn step(&mut self) -> Result<Ending, WorldError> {
        let round = self.state.round + 1;
        let cohort = self.cohort(round);
        let present: Vec<usize> = cohort.iter().copied().filter(|&client| !self.is_dropout(round, client)).collect();
        let model = Arc::clone(&self.state.model);
        let mut rows = self.train(&model, round, &present);
        let honest = self.forge(&model, round, &present, &mut rows);
        let uploads = self.uploads(round, &present, rows);
        let ending = self.play(round, &cohort, uploads.messages)?;
        self.judge(&cohort, &ending);
        self.finish(round, &model, &honest, &ending, uploads.bytes);
        Ok(ending)
    }

    /// Test accuracy of each class, in 0..=1, with the model as it is; classes without test examples are `None`.
    pub fn class_accuracy(&self) -> Vec<Option<f64>> {
        self.data.test_by_class().iter().map(|part| (!part.is_empty()).then(|| self.accuracy(part))).collect()
    }

    fn accuracy(&self, data: &Dataset) -> f64 {
        self.workload.accuracy(self.state.model.parameters(), data)
    }

    /// The clients selected for `round`, in increasing order.
    fn cohort(&self, round: u64) -> Vec<usize> {
        let plan = &self.scenario.plan;
        let clients = plan.population.clients;
        let selected = plan.cohort.selected(clients).min(clients);
        if selected == clients {
            return (0..clients).collect();
        }
        let mut seed = [0; 32];
        let mut random = stream(plan.seed, Purpose::Cohort, round, 0);
        seed.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&random.bits().to_le_bytes()));
        let fixed = plan.adversary.placement == Placement::PerRound;
        let candidates = (0..clients).filter(|&client| !(fixed && self.is_colluder(client)));
        let candidates = candidates.map(|client| self.names[client].clone()).collect();
        let guaranteed = if fixed { self.colluders.len() } else { 0 };
        let drawn = select(seed, candidates, selected.saturating_sub(guaranteed));
        let mut cohort: Vec<usize> = drawn.iter().map(|name| self.numbers[name]).collect();
        if fixed {
            cohort.extend(&self.colluders);
        }
        cohort.sort_unstable();
        cohort
    }

    fn is_colluder(&self, client: usize) -> bool {
        self.colluders.binary_search(&client).is_ok()
    }

    /// Attackers do not drop out: they want to be counted.
    fn is_dropout(&self, round: u64, client: usize) -> bool {
        let plan = &self.scenario.plan;
        !self.is_colluder(client) && network::drops_out(plan.population.dropout, plan.seed, round, client)
    }
}

/// Counts and measurements after a round.
impl World {
    fn finish(&mut self, round: u64, before: &Model, honest: &[Vec<f32>], ending: &Ending, bytes: u64) {
        self.state.bytes += bytes;
        self.state.abandoned += u64::from(ending.abandoned.is_some());
        if let Some(model) = &ending.model {
            self.state.model = Arc::clone(model);
            self.state.carry = Arc::clone(&ending.carry);
        }
        self.state.round = round;
        if self.scenario.plan.report.is_due(round, self.scenario.plan.rounds) {
            self.measure(round, before, honest, ending);
        }
    }
}

impl State {
    fn new(model: Model, clients: usize) -> Self {
        Self {
            round: 0,
            model: Arc::new(model),
            carry: Arc::new(Carry::default()),
            momenta: vec![Vec::new(); clients],
            bytes: 0,
            abandoned: 0,
            honest: Counts::default(),
            colluders: Counts::default(),
            measured: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
