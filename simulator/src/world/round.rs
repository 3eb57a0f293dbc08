//! A round from its first seat to its release, by the server's own engine or by the shorter way that gives the same bits.

mod direct;
mod engine;

use std::collections::BTreeMap;
use std::sync::Arc;

use testudo_engine::{Carry, Granularity};
use testudo_privacy::noise::NoiseSeed;
use testudo_protocol::{ClientId, Digest, Model, RoundParams, Tick, Verdict};

use super::uplink::Message;
use super::{World, WorldError};
use crate::random::{Purpose, stream};
use crate::scenario::Algorithm;

/// How a round's arithmetic is driven; no bit of any result depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Through [`testudo_engine::Engine`], job by job, as the server does.
    Engine,
    /// Through the aggregation algebra alone where a round needs nothing else, else through the engine.
    #[default]
    Shortest,
}

/// How a round ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The new model; `None` if the round was abandoned.
    pub model: Option<Arc<Model>>,
    /// What the task carries on.
    pub carry: Arc<Carry>,
    /// Each client's verdict; with groups, that of its group.
    pub verdicts: BTreeMap<usize, Verdict>,
    /// The rule's score of each client's row, if it scores.
    pub scores: BTreeMap<usize, f64>,
    /// Why the round was abandoned.
    pub abandoned: Option<String>,
}

/// A round that is about to be driven: its seats and its messages in order of arrival.
#[derive(Debug)]
struct Play<'a> {
    base: Arc<Model>,
    params: RoundParams,
    /// Name of seat k.
    names: &'a [ClientId],
    messages: Vec<Message>,
    seed: [u8; 32],
}

impl World {
    /// When a round closes, in virtual milliseconds.
    pub(super) fn deadline(&self) -> Tick {
        self.scenario.task.cohort.phase_limit_ms
    }

    /// Drives one round with these messages.
    pub(super) fn play(
        &self,
        round: u64,
        cohort: &[usize],
        messages: Vec<Message>,
        seed: [u8; 32],
    ) -> Result<Ending, WorldError> {
        let task = &self.scenario.task;
        let grouped = self.scenario.plan.visibility.group_size > 1;
        let (seats, messages, members) = if grouped {
            let grouped = self.group(round, cohort, messages)?;
            ((0..grouped.members.len()).collect(), grouped.messages, Some(grouped.members))
        } else {
            (cohort.to_vec(), messages, None)
        };
        let fail = |detail: String| WorldError::Round { round, detail };
        let names = seats.iter().map(|&seat: &usize| self.names[seat].clone()).collect();
        let target = task.cohort.size.min(seats.len());
        let params = match task.cohort.sample {
            Some(_) => RoundParams::secret(names, self.deadline()),
            None => RoundParams::new(names, target, task.cohort.minimum.min(target), self.deadline()),
        };
        let params = params.map_err(|error| fail(error.to_string()))?;
        let play = Play { base: self.base()?, params, names: &self.names, messages, seed };
        let direct = self.route == Route::Shortest
            && task.masking.is_none()
            && task.privacy.is_none()
            && task.granularity == Granularity::Model
            && task.tensors.is_empty()
            && task.reference.is_none()
            && !task.rule.needs().extras.history;
        let mut ending = if direct { self.direct(play) } else { self.through_engine(round, play)? };
        if let Some(members) = members {
            let of_members = |group: &usize| members.get(*group).into_iter().flatten().copied();
            ending.verdicts = (ending.verdicts.iter())
                .flat_map(|(group, verdict)| of_members(group).map(|client| (client, *verdict)))
                .collect();
            ending.scores = (ending.scores.iter())
                .flat_map(|(group, score)| of_members(group).map(|client| (client, *score)))
                .collect();
        }
        Ok(ending)
    }

    /// The seed the server would draw for a round.
    pub(super) fn round_seed(&self, round: u64) -> [u8; 32] {
        let mut seed = [0; 32];
        let mut random = stream(self.scenario.plan.seed, Purpose::Rule, round, 0);
        seed.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&random.bits().to_le_bytes()));
        seed
    }

    /// The seed of a round's noise. Reproducible, so nobody is protected by it: a server draws its own from the system.
    fn noise_seed(&self, round: u64) -> NoiseSeed {
        let mut random = stream(self.scenario.plan.seed, Purpose::Noise, round, 0);
        let mut seed = [0; 32];
        seed.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&random.bits().to_le_bytes()));
        NoiseSeed::new(seed)
    }

    /// The part of it that the rule sees.
    pub(super) fn rule_seed_of(&self, round: u64) -> u64 {
        rule_seed(&self.round_seed(round))
    }

    /// What the round's aggregate is added to: the model, shrunk by the weight decay of fedsgd.
    fn base(&self) -> Result<Arc<Model>, WorldError> {
        let training = &self.scenario.plan.training;
        if training.algorithm != Algorithm::FedSgd || training.weight_decay == 0.0 {
            return Ok(Arc::clone(&self.state.model));
        }
        let factor = 1.0 - self.rate() * training.weight_decay;
        let shrunk = self.state.model.parameters().iter().map(|value| (f64::from(*value) * factor) as f32).collect();
        Ok(Arc::new(self.state.model.with_parameters(shrunk)?))
    }

    /// η of the server optimiser.
    pub(super) fn rate(&self) -> f64 {
        use testudo_aggregate::OptimizerConfig as Optimizer;
        match self.scenario.optimizer() {
            Optimizer::FedAvg { learning_rate }
            | Optimizer::FedAvgM { learning_rate, .. }
            | Optimizer::FedAdagrad { learning_rate, .. }
            | Optimizer::FedAdam { learning_rate, .. }
            | Optimizer::FedYogi { learning_rate, .. } => *learning_rate,
            // The optimisers may grow; a decay without a rate is a decay by its own number.
            _ => 1.0,
        }
    }
}

/// The part of a round's seed that its rule sees; the engine's own derivation.
fn rule_seed(seed: &[u8; 32]) -> u64 {
    let mut labelled = b"testudo rule seed".to_vec();
    labelled.extend_from_slice(seed);
    let Digest(digest) = Digest::of(&labelled);
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}
