//! What a client computes before any attack.

use rayon::prelude::*;
use testudo_protocol::Model;

use super::World;
use crate::data::Dataset;
use crate::random::{Purpose, stream};
use crate::scenario::Algorithm;
use crate::workload::{LocalTraining, Scratch};

impl World {
    /// The honest update of each client in `present`, in that order; zeros from a client without data. Momenta move on.
    pub(super) fn train(&mut self, model: &Model, round: u64, present: &[usize]) -> Vec<Vec<f32>> {
        let mut momenta: Vec<Vec<f32>> =
            present.iter().map(|&client| std::mem::take(&mut self.state.momenta[client])).collect();
        let work: Vec<(usize, &mut Vec<f32>)> = present.iter().copied().zip(momenta.iter_mut()).collect();
        let this = &*self;
        let update = |scratch: &mut Scratch<f32>, (client, momentum): (usize, &mut Vec<f32>)| {
            this.update(model, round, client, momentum, scratch)
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

    fn update(
        &self,
        model: &Model,
        round: u64,
        client: usize,
        momentum: &mut Vec<f32>,
        scratch: &mut Scratch<f32>,
    ) -> Vec<f32> {
        let plan = &self.scenario.plan;
        let data = self.poisoned.get(&client).unwrap_or_else(|| self.data.of(client));
        let parameters = model.parameters();
        if data.is_empty() {
            return vec![0.0; parameters.len()];
        }
        if plan.training.algorithm == Algorithm::FedAvg {
            let training = plan.training;
            let local =
                LocalTraining { epochs: training.epochs, batch: training.batch, learning_rate: training.learning_rate };
            let mut random = stream(plan.seed, Purpose::Batch, round, client as u64);
            return self.workload.local_sgd(parameters, data, &local, &mut random);
        }
        let rows = batch(data, plan.training.batch, plan.seed, round, client);
        let mut gradient = vec![0.0; parameters.len()];
        self.workload.loss_and_gradient(parameters, data, &rows, &mut gradient, scratch);
        let beta = plan.training.momentum as f32;
        if beta == 0.0 {
            gradient.iter_mut().for_each(|value| *value = -*value);
            return gradient;
        }
        momentum.resize(gradient.len(), 0.0);
        for (momentum, value) in momentum.iter_mut().zip(&mut gradient) {
            *momentum = beta * *momentum + (1.0 - beta) * *value;
            *value = -*momentum;
        }
        gradient
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
