//! A federation in virtual time: clients that train and attack, and the same engine that runs the server's rounds.
//!
//! [`World::step`] is one round: cohort, training, attack, upload, the engine from its first seat to its release, and
//! measurement. No clock, no thread order and no system randomness enter: a world is a function of its [`Scenario`] and
//! its data.

use std::collections::BTreeMap;
use std::sync::Arc;

use testudo_engine::{Carry, select};
use testudo_protocol::{ClientId, Model, Tensor};

use crate::attack::{Attack as _, AttackError, Colluder};
use crate::data::Dataset;
use crate::detection::Detector;
use crate::network;
use crate::random::{Purpose, stream};
use crate::scenario::{Placement, Scenario};
use crate::workload::{Workload, WorkloadConfig, WorkloadError};

pub use data::{Library, Prepared, WorldData};
pub use measure::{Counts, Found, Measured, Standing};
pub use partition_file::PartitionFile;
pub use round::{Ending, Route};
pub use sending::{Parcel, Sending};
pub use state::{State, StateError};

mod adversary;
mod data;
mod groups;
mod measure;
mod partition_file;
mod problem;
mod round;
mod sending;
mod state;
mod training;
mod uplink;
mod watch;

/// A running federation.
#[derive(Debug)]
pub struct World {
    scenario: Arc<Scenario>,
    workload: Box<dyn Workload>,
    data: Arc<Prepared>,
    /// Training data of clients whose attack changes them.
    poisoned: BTreeMap<usize, Dataset>,
    /// Honest clients' data with reversed labels, if the attack wishes to see what they lead to.
    reversed: BTreeMap<usize, Dataset>,
    /// Triggered test examples, if the attack plants a backdoor.
    probe: Option<Dataset>,
    /// The parameters of least loss on the honest clients' data, for workloads that know them.
    optimum: Option<Vec<f32>>,
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
    #[error("{key}: {source}")]
    Data {
        /// The key that names them.
        key: &'static str,
        /// Why not.
        source: crate::data::DataError,
    },
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
        let attack = &plan.adversary.attack;
        let mut poisoned = BTreeMap::new();
        for (index, &client) in colluders.iter().enumerate() {
            let clean = data.of(client);
            let mut own = clean.clone();
            let place = Colluder { index, count: colluders.len() };
            attack.poison_as(place, &mut own, &mut stream(plan.seed, Purpose::Poison, 0, client as u64))?;
            if own != *clean {
                poisoned.insert(client, own);
            }
        }
        let honest: Vec<usize> =
            (0..plan.population.clients).filter(|client| colluders.binary_search(client).is_err()).collect();
        let mut reversed = BTreeMap::new();
        if attack.wishes().flipped && !colluders.is_empty() {
            for &client in &honest {
                reversed.insert(client, adversary::reversed(data.of(client))?);
            }
        }
        let probe = attack.backdoor().filter(|_| !colluders.is_empty()).and_then(|trigger| trigger.probe(data.test()));
        let optimum = match plan.workload {
            WorkloadConfig::Linear {} | WorkloadConfig::Quadratic { .. } => workload.optimum(&data.joint(&honest)),
            WorkloadConfig::Softmax {} | WorkloadConfig::Mlp { .. } => None,
        };
        let state = State::new(model, plan.population.clients, plan.detection.is_some());
        let mut world = Self {
            scenario,
            workload,
            data,
            poisoned,
            reversed,
            probe,
            optimum,
            names,
            numbers,
            colluders,
            route,
            state,
        };
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
    /// What no engine takes; the world is of no use then.
    pub fn step(&mut self) -> Result<Ending, WorldError> {
        let sending = self.prepare(None)?;
        self.close(sending, None)
    }

    /// The first half of a round: the cohort trains and forges. `cohort` are the clients selected, in increasing order;
    /// without it the study draws them. For drivers that send the parcels themselves: nothing is sent here.
    ///
    /// # Errors
    /// An attack that does not fit the data.
    pub fn prepare(&mut self, cohort: Option<Vec<usize>>) -> Result<Sending, WorldError> {
        let round = self.state.round + 1;
        let cohort = cohort.unwrap_or_else(|| self.cohort(round));
        let present: Vec<usize> = cohort.iter().copied().filter(|&client| !self.is_dropout(round, client)).collect();
        let before = Arc::clone(&self.state.model);
        let mut rows = self.train(&before, round, &present)?;
        let honest = self.forge(&before, round, &present, &mut rows);
        let parcels = self.parcels(round, &present, rows);
        Ok(Sending { round, cohort, parcels, honest, before })
    }

    /// The second half: the parcels meet the door, the rule and the optimiser. `seed` is the round's seed where a server
    /// has drawn it; without it the study's own.
    ///
    /// # Errors
    /// What no engine takes.
    pub fn close(&mut self, sending: Sending, seed: Option<[u8; 32]>) -> Result<Ending, WorldError> {
        let Sending { round, cohort, parcels, honest, before } = sending;
        let uploads = self.uploads(parcels);
        let seed = seed.unwrap_or_else(|| self.round_seed(round));
        let recorded = self.recorded(&uploads.messages);
        let ending = self.play(round, &cohort, uploads.messages, seed)?;
        self.judge(&cohort, &ending);
        self.watch(round, &cohort, &ending, &recorded);
        self.finish(round, &before, &honest, &ending, uploads.bytes);
        Ok(ending)
    }

    /// A client's name; they sort by number.
    pub fn name(&self, client: usize) -> Option<&ClientId> {
        self.names.get(client)
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
        let mut seed = [0; 32];
        let mut random = stream(plan.seed, Purpose::Cohort, round, 0);
        seed.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&random.bits().to_le_bytes()));
        if let Some(sample) = &self.scenario.task.cohort.sample {
            return sample.draw(seed, self.names.iter()).iter().map(|name| self.numbers[name]).collect();
        }
        let selected = plan.cohort.selected(clients).min(clients);
        if selected == clients {
            return (0..clients).collect();
        }
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
        if !self.colluders.is_empty() {
            let after = ending.model.as_deref().unwrap_or(before).parameters();
            self.state.previous = after.iter().zip(before.parameters()).map(|(after, before)| after - before).collect();
        }
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
    fn new(model: Model, clients: usize, watched: bool) -> Self {
        Self {
            round: 0,
            model: Arc::new(model),
            carry: Arc::new(Carry::default()),
            momenta: vec![Vec::new(); clients],
            previous: Vec::new(),
            memories: BTreeMap::new(),
            detector: watched.then(|| Detector::new(clients)),
            histories: vec![Vec::new(); if watched { clients } else { 0 }],
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
