//! What a demo does: its options, checked, and what follows from them.

use super::{Demo, WHAT, mean};
use crate::{
    commands::load::rule,
    exit::{Exit, Failure},
};
use std::sync::Arc;
use testudo_aggregate::RuleConfig;
use testudo_protocol::{Model, Tensor};
use testudo_simulator::{
    attacks::{self, AttackConfig},
    data::{Dataset, Partition, Split, digits},
    population::{Mix, Placement, Population},
    random::{Purpose, stream},
    workload::{LocalTraining, Workload, WorkloadConfig},
};

/// The robust rule: of those that withstand the default attack, the one that loses least against the mean without
/// attackers.
pub(super) const RULE: &str = "multi_krum";
/// Rounds of each training: the accuracy no longer grows then.
pub(super) const ROUNDS: u64 = 20;
/// How every client trains.
const TRAINING: LocalTraining = LocalTraining { epochs: 3, batch: 8, learning_rate: 0.1 };
/// How long a round waits for its clients. All of them come, so a slow machine changes nothing.
const PHASE_LIMIT_S: u32 = 600;

/// A checked demo.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) poisoned: usize,
    pub(super) attack: AttackConfig,
    pub(super) rule: RuleConfig,
    pub(super) rounds: u64,
    pub(super) seed: u64,
    pub(super) training: LocalTraining,
    pub(super) workload: Arc<dyn Workload<f32>>,
    pub(super) population: Population,
    pub(super) test: Dataset,
    /// Every client's examples.
    pub(super) parts: Vec<Dataset>,
    pub(super) model: Model,
}

impl Plan {
    /// Checks the options and divides the data.
    ///
    /// # Errors
    /// Options that cannot be, with what would be right.
    pub(super) fn new(demo: &Demo) -> Result<Self, Failure> {
        let clients = demo.clients as usize;
        let poisoned = demo.poisoned.map_or(clients / 5, |poisoned| poisoned as usize);
        if 2 * poisoned >= clients {
            let why =
                format!("--poisoned {poisoned} of --clients {clients} is not a minority; no rule withstands more");
            return Err(Failure::new(Exit::Usage, WHAT, why).next(format!("poison at most {}", (clients - 1) / 2)));
        }
        let attack = attacks::parse(&demo.attack).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("cannot use --attack {}", crate::format::clean(&demo.attack)),
                error.to_string(),
            )
            .next("write a kind with its parameters, as in sign_flip:scale=10")
        })?;
        let rule = rule::parse(&demo.rule, poisoned, clients)?;
        let bug = |error: &dyn std::error::Error| Failure::new(Exit::Internal, WHAT, error.to_string());
        let digits = digits::load();
        let split = Split::stratified(&digits, digits::TEST_EXAMPLES, demo.seed).map_err(|error| bug(&error))?;
        let (train, test) = split.apply(&digits);
        let parts = Partition::Iid {}.divide(&train, clients, demo.seed).map_err(|error| bug(&error))?;
        let mix = Mix::Demo(attack.clone());
        let population = Population::new(clients, poisoned, Placement::Seeded, &mix, demo.seed)
            .map_err(|error| Failure::new(Exit::Usage, WHAT, error.to_string()))?;
        let workload = WorkloadConfig::parse("mlp").and_then(|mlp| mlp.build::<f32>(train.width(), train.classes()));
        let workload: Arc<dyn Workload<f32>> = Arc::from(workload.map_err(|error| bug(&error))?);
        let tensors = workload.tensors().into_iter().map(|tensor| Tensor {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&length| length as u64).collect(),
        });
        let model = Model::new(tensors.collect(), workload.initial(demo.seed)).map_err(|error| bug(&error))?;
        let parts = parts.iter().map(|rows| train.subset(rows)).collect();
        let (rounds, seed) = (demo.rounds, demo.seed);
        let training = TRAINING;
        Ok(Self { clients, poisoned, attack, rule, rounds, seed, training, workload, population, test, parts, model })
    }

    /// Name, whether the poisoned clients attack, and the rule of each training.
    pub(super) fn trainings(&self) -> [(&'static str, bool, RuleConfig); 3] {
        [("clean", false, mean()), ("poisoned", true, mean()), ("defended", true, self.rule.clone())]
    }

    /// A client's name; they sort by number.
    pub(super) fn name(&self, client: usize) -> String {
        let digits = self.clients.to_string().len().max(2);
        format!("client-{:0digits$}", client + 1)
    }

    /// Coordinates of the model.
    pub(super) fn dimension(&self) -> usize {
        self.workload.dimension()
    }

    /// What a poisoned client does to its data, done.
    ///
    /// # Errors
    /// If the attack does not fit the data.
    pub(super) fn poisoned_part(&self, client: usize) -> Result<Dataset, Failure> {
        use testudo_simulator::attack::Attack as _;
        let mut data = self.parts[client].clone();
        if let Some(attack) = self.population.attack(client) {
            let mut random = stream(self.seed, Purpose::Poison, 0, client as u64);
            attack.poison(&mut data, &mut random).map_err(|error| {
                Failure::new(Exit::Usage, format!("cannot use --attack {attack}"), error.to_string())
            })?;
        }
        Ok(data)
    }

    /// How clients train, in words.
    pub(super) fn training_text(&self) -> String {
        let LocalTraining { epochs, batch, learning_rate } = self.training;
        format!("{epochs} epochs, batches of {batch}, learning rate {learning_rate}")
    }

    /// The task's name and its `task.toml`. A round waits for every client, so the numbers do not depend on timing.
    ///
    /// # Errors
    /// If the rule cannot be written, which is a bug.
    pub(super) fn task(&self, name: &str, rule: &RuleConfig) -> Result<(String, String), Failure> {
        let task = format!("demo-{name}");
        let toml = format!(
            "name = \"{task}\"\nrounds = {}\n\n[model]\ninitial = \"generated\"\n\n[cohort]\nsize = {}\n\
             phase_limit_s = {PHASE_LIMIT_S}\n\n[examples]\nweighted = false\n\n{}",
            self.rounds,
            self.clients,
            rule::section(rule)?
        );
        Ok((task, toml))
    }
}
