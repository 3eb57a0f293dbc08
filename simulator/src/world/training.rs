//! What a client computes, before it forges anything.

use rayon::prelude::*;
use testudo_protocol::Model;

use super::{World, WorldError};
use crate::attack::{Knowledge, Lesson, Observation, View};
use crate::data::Dataset;
use crate::random::{Purpose, stream};
use crate::scenario::Algorithm;
use crate::workload::{LocalTraining, Scratch};

/// One client's turn to train.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    pub(super) model: &'a Model,
    pub(super) round: u64,
    pub(super) client: usize,
}

impl World {
    /// The trained update of each client in `present`, in that order; zeros from a client without data. Momenta move on.
    ///
    /// # Errors
    /// An attack that does not fit the data.
    pub(super) fn train(&mut self, model: &Model, round: u64, present: &[usize]) -> Result<Vec<Vec<f32>>, WorldError> {
        let mut momenta: Vec<Vec<f32>> =
            present.iter().map(|&client| std::mem::take(&mut self.state.momenta[client])).collect();
        let work: Vec<(usize, &mut Vec<f32>)> = present.iter().copied().zip(momenta.iter_mut()).collect();
        let this = &*self;
        let update = |scratch: &mut Scratch<f32>, (client, momentum): (usize, &mut Vec<f32>)| {
            this.update(Turn { model, round, client }, momentum, scratch)
        };
        let rows = if rayon::current_num_threads() > 1 {
            work.into_par_iter().map_init(Scratch::default, update).collect()
        } else {
            let mut scratch = Scratch::default();
            work.into_iter().map(|one| update(&mut scratch, one)).collect()
        };
        for (&client, momentum) in present.iter().zip(momenta) {
            self.state.momenta[client] = momentum;
        }
        rows
    }

    /// An attacker in a round of attack trains on what its attack made of its data, or the way its attack trains.
    fn update(
        &self,
        turn: Turn<'_>,
        momentum: &mut Vec<f32>,
        scratch: &mut Scratch<f32>,
    ) -> Result<Vec<f32>, WorldError> {
        let plan = &self.scenario.plan;
        let Turn { model, round, client } = turn;
        let clean = self.data.of(client);
        if !self.is_attacking(round, client) {
            return Ok(self.honest(turn, clean, momentum, scratch));
        }
        let attack = plan.adversary.attack.attack();
        let wishes = attack.wishes();
        let mut data = self.poisoned.get(&client).unwrap_or(clean);
        let lesson =
            Lesson { round, workload: self.workload.as_ref(), model: model.parameters(), data, training: self.local() };
        let fresh;
        if wishes.poison_each_round {
            let mut own = clean.clone();
            let mut same = stream(plan.seed, Purpose::Poison, 0, client as u64);
            attack.poison_round(self.colluder(client), &lesson, &mut own, &mut same)?;
            fresh = own;
            data = &fresh;
        }
        if wishes.train {
            let open = Observation {
                round,
                colluder: self.colluder(client),
                crowd: self.crowd(),
                accord: plan.seed,
                memory: self.memory(client),
                model: model.parameters(),
                previous: &self.state.previous,
                ..Observation::default()
            };
            let view = View::new(attack.knowledge().min(Knowledge::Colluders), open);
            let mut batches = stream(plan.seed, Purpose::Batch, round, client as u64);
            if let Some(update) = attack.train(&Lesson { data, ..lesson }, &view, &mut batches) {
                return Ok(update);
            }
        }
        Ok(self.honest(turn, data, momentum, scratch))
    }

    fn honest(&self, turn: Turn<'_>, data: &Dataset, momentum: &mut Vec<f32>, scratch: &mut Scratch<f32>) -> Vec<f32> {
        let mut update = self.without_momentum(turn, data, scratch);
        let training = &self.scenario.plan.training;
        let beta = training.momentum as f32;
        if data.is_empty() || training.algorithm == Algorithm::FedAvg || beta == 0.0 {
            return update;
        }
        momentum.resize(update.len(), 0.0);
        for (momentum, value) in momentum.iter_mut().zip(&mut update) {
            *momentum = beta * *momentum + (1.0 - beta) * *value;
            *value = *momentum;
        }
        update
    }

    /// What the client would send of these data without momentum; zeros of none.
    pub(super) fn without_momentum(&self, turn: Turn<'_>, data: &Dataset, scratch: &mut Scratch<f32>) -> Vec<f32> {
        let plan = &self.scenario.plan;
        let Turn { model, round, client } = turn;
        let parameters = model.parameters();
        let mut step = vec![0.0; parameters.len()];
        if data.is_empty() {
            return step;
        }
        if plan.training.algorithm == Algorithm::FedAvg {
            let mut random = stream(plan.seed, Purpose::Batch, round, client as u64);
            return self.workload.local_sgd(parameters, data, &self.local(), &mut random);
        }
        let rows = batch(data, plan.training.batch, plan.seed, round, client);
        self.workload.loss_and_gradient(parameters, data, &rows, &mut step, scratch);
        step.iter_mut().for_each(|value| *value = -*value);
        step
    }

    /// Local training as configured; attacks that train for themselves use it under fedsgd, too.
    fn local(&self) -> LocalTraining {
        let training = self.scenario.plan.training;
        LocalTraining { epochs: training.epochs, batch: training.batch, learning_rate: training.learning_rate }
    }
}

/// The examples of a client's batch in `round` (from 1): each epoch is a new order of all its examples, cut into batches,
/// the last of which may be short. A function of the round alone, so nothing has to be remembered.
pub(super) fn batch(data: &Dataset, size: usize, seed: u64, round: u64, client: usize) -> Vec<usize> {
    let size = size.max(1);
    let per_epoch = data.len().div_ceil(size).max(1) as u64;
    let (epoch, place) = ((round - 1) / per_epoch, ((round - 1) % per_epoch) as usize);
    let mut rows: Vec<usize> = (0..data.len()).collect();
    stream(seed, Purpose::Batch, epoch, client as u64).shuffle(&mut rows);
    let end = ((place + 1) * size).min(rows.len());
    rows.drain(place * size..end).collect()
}
