//! Federated averaging in a loop, for attacks, rules and workloads of your own.
//!
//! [`Federation::run`] takes them as trait objects and does with an [`Attack`] all that a driver is to do; nothing of a
//! server is in between. Studies run on the server's own engine instead.

use testudo_aggregate::{AggregateError, Inputs, Rule, aggregate_inputs, first_non_finite};

use crate::attack::{
    Attack, AttackError, Colluder, Crowd, Deployed, Knowledge, Lesson, Observation, Realism, Tamper, View,
};
use crate::data::{DataError, Dataset, Partition, PartitionError, Split, SplitError};
use crate::random::{Purpose, stream};
use crate::workload::{LocalTraining, Workload, WorkloadConfig, WorkloadError};

/// Who trains what. The last `colluders` clients attack.
#[derive(Debug)]
pub struct Federation {
    /// What is trained.
    pub workload: Box<dyn Workload>,
    /// Each client's examples.
    pub clients: Vec<Dataset>,
    /// Held-out examples.
    pub test: Dataset,
    /// How clients train.
    pub training: LocalTraining,
    /// How many attack.
    pub colluders: usize,
    /// How alike their updates are.
    pub realism: Realism,
    /// Everything random follows from it.
    pub seed: u64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The model in the end.
    pub model: Vec<f32>,
    /// Test accuracy before the first round and after each.
    pub accuracy: Vec<f64>,
    /// How often the trigger works in the end, for backdoors.
    pub success: Option<f64>,
    /// Rounds without a release: too few updates for the rule, or none that it trusts.
    pub abandoned: u64,
}

/// Why a federation cannot be or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationError {
    /// Too few examples to split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Too few examples to divide.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// No such workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// An attack that does not fit the data.
    #[error(transparent)]
    Attack(#[from] AttackError),
    /// Data that are none.
    #[error(transparent)]
    Data(#[from] DataError),
    /// More attackers than clients.
    #[error("colluders = {colluders} of {clients} clients; give at most {clients}")]
    Colluders {
        /// Attackers asked for.
        colluders: usize,
        /// All clients.
        clients: usize,
    },
    /// A rule that needs what a plain loop does not have.
    #[error("{0} needs a trusted update or histories; run it in a study")]
    Rule(&'static str),
}

impl Federation {
    /// `clients` clients with equal shares of all but `test` of the examples; one local epoch in batches of 16 at rate
    /// 0.1, each colluder forging for itself.
    ///
    /// # Errors
    /// Data that cannot be divided so, or a workload that cannot be built.
    pub fn new(
        data: &Dataset,
        test: usize,
        workload: &WorkloadConfig,
        clients: usize,
        colluders: usize,
        seed: u64,
    ) -> Result<Self, FederationError> {
        if colluders > clients {
            return Err(FederationError::Colluders { colluders, clients });
        }
        let (train, test) = Split::stratified(data, test, seed)?.apply(data);
        let parts = Partition::Iid {}.divide(&train, clients, seed)?;
        Ok(Self {
            workload: workload.build(train.width(), train.classes())?,
            clients: parts.iter().map(|rows| train.subset(rows)).collect(),
            test,
            training: LocalTraining::default(),
            colluders,
            realism: Realism::Own,
            seed,
        })
    }

    /// The honest update of a client.
    fn honest(&self, model: &[f32], data: &Dataset, round: u64, client: usize) -> Vec<f32> {
        let mut batches = stream(self.seed, Purpose::Batch, round, client as u64);
        self.workload.local_sgd(model, data, &self.training, &mut batches)
    }

    fn place(&self, client: usize) -> Option<Colluder> {
        let index = client.checked_sub(self.clients.len() - self.colluders.min(self.clients.len()))?;
        Some(Colluder { index, count: self.colluders })
    }

    /// `rounds` rounds of `rule` under `attack`.
    ///
    /// # Errors
    /// An attack that does not fit the data, or a rule that needs histories or a trusted update.
    pub fn run(&self, rule: &dyn Rule, attack: &dyn Attack, rounds: u64) -> Result<Outcome, FederationError> {
        let extras = rule.needs().extras;
        if extras.history || extras.reference {
            return Err(FederationError::Rule(rule.kind()));
        }
        let mut state = State {
            poisoned: self.clients.clone(),
            memories: vec![Vec::new(); self.clients.len()],
            model: self.workload.initial(self.seed),
            previous: Vec::new(),
            last: vec![vec![0.0; self.workload.dimension()]; extras.count(0)],
            memory: None,
        };
        for (client, data) in state.poisoned.iter_mut().enumerate() {
            if let Some(place) = self.place(client) {
                attack.poison_as(place, data, &mut stream(self.seed, Purpose::Poison, 0, client as u64))?;
            }
        }
        let mut accuracy = vec![self.workload.accuracy(&state.model, &self.test)];
        let mut abandoned = 0;
        for round in 1..=rounds {
            let rows = self.updates(&mut state, rule, attack, round)?;
            abandoned += u64::from(self.release(&mut state, rule, &rows, round).is_err());
            accuracy.push(self.workload.accuracy(&state.model, &self.test));
        }
        let success = attack.backdoor().map(|trigger| trigger.success(&*self.workload, &state.model, &self.test));
        Ok(Outcome { model: state.model, accuracy, success, abandoned })
    }

    /// What everybody sends.
    fn updates(
        &self,
        state: &mut State,
        rule: &dyn Rule,
        attack: &dyn Attack,
        round: u64,
    ) -> Result<Vec<Vec<f32>>, FederationError> {
        let wishes = attack.wishes();
        let State { model, previous, last, .. } = &*state;
        let from = self.clients.len() - self.colluders;
        let honest: Vec<Vec<f32>> =
            (0..from).map(|client| self.honest(model, &self.clients[client], round, client)).collect();
        let flipped = if wishes.flipped { self.flipped(model, round, from)? } else { Vec::new() };
        let crowd = Crowd { rows: self.clients.len(), colluding: self.colluders, declared: rule.byzantine() };
        let deployed = Deployed { rule, extras: last, seed: self.rule_seed(round), memory: state.memory };
        let open = Observation {
            round,
            crowd,
            accord: self.seed,
            model,
            previous,
            honest: &honest,
            flipped: &flipped,
            deployed: Some(deployed),
            ..Observation::default()
        };
        let trained: Vec<Vec<f32>> = (from..self.clients.len())
            .map(|client| self.train(&state.poisoned[client], attack, open, client))
            .collect::<Result<_, _>>()?;
        let mut sent = Vec::with_capacity(trained.len());
        let mut memories = Vec::new();
        for (index, own) in trained.iter().enumerate() {
            let client = from + index;
            let colluder = Colluder { index, count: self.colluders };
            let all = Observation { colluder, memory: &state.memories[client], colluders: &trained, ..open };
            let view = View::new(attack.knowledge(), all);
            let copied = index > 0 && (wishes.shared || self.realism != Realism::Own);
            let mut update = if copied { common(&sent) } else { own.clone() };
            if !copied {
                attack.forge(&view, &mut update, &mut stream(self.seed, Purpose::Attack, round, client as u64));
            }
            sent.push(update);
            if wishes.memory {
                memories.push((client, attack.remember(&view, own)));
            }
        }
        for (index, update) in sent.iter_mut().enumerate() {
            // Draws come after those of the attack, from a stream of their own.
            let mut random = stream(self.seed, Purpose::Attack, round | 1 << 63, (from + index) as u64);
            self.realism.roughen(update, &honest, &mut random);
            attack.tamper_in(round).apply(update);
        }
        if matches!(attack.tamper_in(round), Tamper::Dropout { .. } | Tamper::Late { .. } | Tamper::Oversize { .. }) {
            sent.clear();
        }
        let rows = honest.iter().cloned().chain(sent).collect();
        for (client, memory) in memories {
            state.memories[client] = memory;
        }
        Ok(rows)
    }

    /// A colluder's update before it is forged.
    fn train(
        &self,
        poisoned: &Dataset,
        attack: &dyn Attack,
        open: Observation<'_>,
        client: usize,
    ) -> Result<Vec<f32>, FederationError> {
        let (round, model) = (open.round, open.model);
        let place = self.place(client).unwrap_or_default();
        let wishes = attack.wishes();
        let mut data = poisoned.clone();
        let lesson = Lesson { round, workload: &*self.workload, model, data: poisoned, training: self.training };
        if wishes.poison_each_round {
            data = if self.clients[client] == *poisoned { self.clients[client].clone() } else { data };
            let mut same = stream(self.seed, Purpose::Poison, 0, client as u64);
            attack.poison_round(place, &lesson, &mut data, &mut same)?;
        }
        if wishes.train {
            let lesson = Lesson { data: &data, ..lesson };
            let view = View::new(attack.knowledge().min(Knowledge::Colluders), open);
            let mut batches = stream(self.seed, Purpose::Batch, round, client as u64);
            if let Some(update) = attack.train(&lesson, &view, &mut batches) {
                return Ok(update);
            }
        }
        Ok(self.honest(model, &data, round, client))
    }

    /// What the honest clients would send on reversed labels.
    fn flipped(&self, model: &[f32], round: u64, honest: usize) -> Result<Vec<Vec<f32>>, FederationError> {
        let update = |client: usize| {
            let mut data = self.clients[client].clone();
            let last = data.classes() - 1;
            data.relabel(|_, label| last - label)?;
            Ok(self.honest(model, &data, round, client))
        };
        (0..honest).map(update).collect()
    }

    /// Aggregates what passes the door, and moves the model.
    fn release(&self, state: &mut State, rule: &dyn Rule, sent: &[Vec<f32>], round: u64) -> Result<(), AggregateError> {
        let sound = |row: &&Vec<f32>| row.len() == state.model.len() && first_non_finite(row).is_none();
        let rows: Vec<&[f32]> = sent.iter().filter(sound).map(Vec::as_slice).collect();
        let extras: Vec<&[f32]> = state.last.iter().map(Vec::as_slice).collect();
        let inputs =
            Inputs { extras: &extras, seed: self.rule_seed(round), memory: state.memory, ..Inputs::new(&rows) };
        let aggregate = aggregate_inputs(rule, &inputs)?;
        if let Some(why) = aggregate.degenerate {
            return Err(AggregateError::Io(why));
        }
        state.model.iter_mut().zip(&aggregate.output).for_each(|(value, change)| *value += change);
        state.memory = aggregate.memory;
        state.last.iter_mut().for_each(|last| last.clone_from(&aggregate.output));
        state.previous = aggregate.output;
        Ok(())
    }

    fn rule_seed(&self, round: u64) -> u64 {
        stream(self.seed, Purpose::Rule, round, 0).bits()
    }
}

/// What the first colluder sends.
fn common(sent: &[Vec<f32>]) -> Vec<f32> {
    sent.first().cloned().unwrap_or_default()
}

struct State {
    poisoned: Vec<Dataset>,
    memories: Vec<Vec<f32>>,
    model: Vec<f32>,
    previous: Vec<f32>,
    /// The last aggregate, for rules that need it.
    last: Vec<Vec<f32>>,
    memory: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::{catalogue, parse};
    use crate::data::digits;
    use testudo_aggregate::RuleConfig;

    fn federation(colluders: usize) -> Federation {
        Federation::new(&digits::load(), 360, &WorkloadConfig::Softmax {}, 12, colluders, 4).unwrap()
    }

    #[test]
    fn every_attack_runs_against_a_robust_rule_and_repeats_bit_for_bit() {
        let rule = RuleConfig::with_byzantine("trimmed_mean", 3).unwrap();
        for info in catalogue() {
            let attack = parse(info.kind).unwrap();
            let run = || federation(3).run(rule.rule(), &attack, 3).unwrap();
            let first = run();
            assert_eq!(first, run(), "{}", info.kind);
            assert_eq!(first.accuracy.len(), 4);
            assert_eq!(first.abandoned, 0, "{}", info.kind);
            assert!(first.accuracy[3] > 0.5, "{}: {:?}", info.kind, first.accuracy);
        }
    }

    #[test]
    fn strong_attacks_destroy_the_mean_and_nobody_attacking_does_not() {
        let mean = RuleConfig::mean();
        let end = |text: &str, colluders| {
            *federation(colluders).run(mean.rule(), &parse(text).unwrap(), 5).unwrap().accuracy.last().unwrap()
        };
        assert!(end("none", 3) > 0.85);
        assert_eq!(end("sign_flip", 0), end("none", 0));
        for attack in ["sign_flip:scale=20", "ipm:100", "ipm_opt", "adaptive:goal=reversal", "huge:1e6"] {
            assert!(end(attack, 3) < 0.4, "{attack}: {}", end(attack, 3));
        }
    }

    #[test]
    fn what_a_plain_loop_cannot_do_is_refused() {
        let rule = RuleConfig::with_byzantine("foolsgold", 1).unwrap();
        let error = federation(1).run(rule.rule(), &parse("none").unwrap(), 1).unwrap_err().to_string();
        assert!(error.contains("foolsgold"), "{error}");
        let data = digits::load();
        assert!(
            Federation::new(&data, 360, &WorkloadConfig::Softmax {}, 3, 4, 0).unwrap_err().to_string().contains('4')
        );
    }
}
