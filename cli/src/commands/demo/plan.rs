//! What a demo does: its options, checked, and what follows from them.

use super::{Demo, WHAT, mean, mode::Mode, private::Private, secure::Secure};
use crate::{
    commands::load::rule,
    exit::{Exit, Failure},
};
use std::sync::Arc;
use testudo_aggregate::RuleConfig;
use testudo_client::Policy;
use testudo_engine::{TaskSpec, guarantees::min_shared_noise};
use testudo_protocol::{Model, Tensor};
use testudo_simulator::{
    attack::{Colluder, Crowd},
    attacks::{self, AttackConfig},
    data::{Dataset, Partition, Split, digits},
    population::{Mix, Placement, Population},
    random::{Purpose, stream},
    workload::{LocalTraining, Workload, WorkloadConfig},
};

/// How long a round waits for its clients. All of them come, so a slow machine changes nothing.
const PHASE_LIMIT_S: u32 = 600;

/// A checked demo.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) poisoned: usize,
    pub(super) attack: AttackConfig,
    pub(super) rule: RuleConfig,
    /// The rule as it was asked for.
    pub(super) rule_text: String,
    /// How updates are masked, if they are.
    pub(super) secure: Option<Secure>,
    /// How the robust training is private, if it is.
    pub(super) private: Option<Private>,
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
        let mode = Mode::of(demo.secure, demo.dp);
        let clients = demo.clients.map_or(mode.clients(), |clients| clients as usize);
        let poisoned = demo.poisoned.map_or(mode.poisoned(clients), |poisoned| poisoned as usize);
        let group_size = demo.group_size.map_or(mode.group_size(), |size| size as usize);
        let dropouts = demo.dropouts.map_or(mode.dropouts(), |dropouts| dropouts as usize);
        if 2 * poisoned >= clients {
            let why =
                format!("--poisoned {poisoned} of --clients {clients} is not a minority; no rule withstands more");
            return Err(Failure::new(Exit::Usage, WHAT, why).next(format!("poison at most {}", (clients - 1) / 2)));
        }
        let attack = demo.attack.as_deref().unwrap_or(mode.attack());
        let attack = attacks::parse(attack).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("cannot use --attack {}", crate::format::clean(attack)),
                error.to_string(),
            )
            .next("write a kind with its parameters, as in sign_flip:scale=10")
        })?;
        let rows = if demo.secure { rows(clients, group_size)? } else { clients };
        let rule_text = demo.rule.clone().unwrap_or_else(|| mode.rule().into());
        let rule = rule::parse(&rule_text, poisoned, rows)?;
        let bug = |error: &dyn std::error::Error| Failure::new(Exit::Internal, WHAT, error.to_string());
        let digits = digits::load();
        let split = Split::stratified(&digits, digits::TEST_EXAMPLES, demo.seed).map_err(|error| bug(&error))?;
        let (train, test) = split.apply(&digits);
        let parts = Partition::Iid {}.divide(&train, clients, demo.seed).map_err(|error| bug(&error))?;
        // What is masked has no shape to be wrong, and no level that is not a number.
        let mix = if demo.secure { Mix::Same(attack.clone()) } else { Mix::Demo(attack.clone()) };
        let population = Population::new(clients, poisoned, Placement::Seeded, &mix, demo.seed)
            .map_err(|error| Failure::new(Exit::Usage, WHAT, error.to_string()))?;
        // Noise grows with the number of parameters.
        let kind = if demo.dp { "softmax" } else { "mlp" };
        let workload = WorkloadConfig::parse(kind).and_then(|mlp| mlp.build::<f32>(train.width(), train.classes()));
        let workload: Arc<dyn Workload<f32>> = Arc::from(workload.map_err(|error| bug(&error))?);
        let tensors = workload.tensors().into_iter().map(|tensor| Tensor {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&length| length as u64).collect(),
        });
        let model = Model::new(tensors.collect(), workload.initial(demo.seed)).map_err(|error| bug(&error))?;
        let parts = parts.iter().map(|rows| train.subset(rows)).collect();
        let (rounds, seed) = (demo.rounds.unwrap_or(mode.rounds()), demo.seed);
        let training = mode.training();
        let secure = None;
        let private =
            mode.is_private().then(|| Private::new(mode, clients, demo.noise_multiplier, demo.budget_epsilon));
        let mut plan = Self {
            clients,
            poisoned,
            attack,
            rule,
            rule_text,
            secure,
            private,
            rounds,
            seed,
            training,
            workload,
            population,
            test,
            parts,
            model,
        };
        if demo.secure {
            plan.secure = Some(Secure::new(&plan, group_size, dropouts));
        }
        plan.check()?;
        Ok(plan)
    }

    /// Whether the server will take every task: better known before the first training than after it.
    fn check(&self) -> Result<(), Failure> {
        for (name, _, rule) in self.trainings() {
            let (_, toml) = self.task(name, &rule)?;
            TaskSpec::new("task.toml", &toml).map_err(|error| {
                Failure::new(Exit::Config, WHAT, format!("of the task.toml that follows from the options\n{error}"))
                    .next(
                        "change --rule, --clients, --poisoned, --group-size, --dropouts, --rounds, --noise-multiplier or \
                         --budget-epsilon",
                    )
            })?;
        }
        Ok(())
    }

    /// Name, whether the poisoned clients attack, and the rule of each training.
    pub(super) fn trainings(&self) -> [(&'static str, bool, RuleConfig); 3] {
        [("clean", false, mean()), ("poisoned", true, mean()), ("defended", true, self.rule.clone())]
    }

    /// Whether a training is private: the robust one is, if any.
    pub(super) fn is_private(&self, training: &str) -> bool {
        self.private.is_some() && training == "defended"
    }

    /// Whether the updates of a training are masked.
    pub(super) fn masks(&self, training: &str) -> bool {
        self.secure.is_some() && (self.private.is_none() || self.is_private(training))
    }

    /// Whether verdicts on the clients of a training would tell of single updates. Those on noised rows do not.
    pub(super) fn hides_verdicts(&self, training: &str) -> bool {
        self.is_private(training) && !self.masks(training)
    }

    /// What every client of a training insists on.
    ///
    /// # Errors
    /// If the rule cannot be written, which is a bug.
    pub(super) fn policy(&self, training: &str, rule: &RuleConfig) -> Result<Policy, Failure> {
        let Some(secure) = self.secure.as_ref().filter(|_| self.masks(training)) else { return Ok(Policy::default()) };
        let policy = Policy::default().require_masking().min_group(secure.group_size as u32);
        let (_, toml) = self.task(training, rule)?;
        let noise = TaskSpec::new("task.toml", &toml).ok().as_ref().and_then(min_shared_noise);
        Ok(noise.map_or(policy.clone(), |noise| policy.min_shared_noise(noise)))
    }

    /// The model, in words.
    pub(super) fn workload_text(&self) -> &'static str {
        if self.private.is_some() { "softmax regression 64-10" } else { "MLP 64-64-10" }
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
            attack.poison_as(self.colluder(client), &mut data, &mut random).map_err(|error| {
                Failure::new(Exit::Usage, format!("cannot use --attack {attack}"), error.to_string())
            })?;
        }
        Ok(data)
    }

    /// Which of the poisoned clients it is.
    pub(super) fn colluder(&self, client: usize) -> Colluder {
        let index = self.population.poisoned().position(|poisoned| poisoned == client).unwrap_or(0);
        Colluder { index, count: self.poisoned.max(1) }
    }

    /// What any participant may know of the others.
    pub(super) fn crowd(&self, rule: &RuleConfig) -> Crowd {
        Crowd { rows: self.clients, colluding: self.poisoned, declared: rule.rule().byzantine() }
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
        let private = self.private.as_ref().filter(|_| self.is_private(name));
        let secure = self.secure.as_ref().filter(|_| self.masks(name));
        let sections = match (secure, private) {
            (Some(secure), Some(private)) => private.shared_sections(self, secure),
            (Some(secure), None) => secure.sections(),
            (None, Some(private)) => private.sections(),
            (None, None) => String::new(),
        };
        // Groups are drawn among all clients, so that their number is the one that was checked.
        let minimum = secure.map_or(String::new(), |_| format!("minimum = {}\n", self.clients));
        let toml = format!(
            "name = \"{task}\"\nrounds = {}\n\n[model]\ninitial = \"generated\"\n\n[cohort]\nsize = {}\n\
             {minimum}phase_limit_s = {PHASE_LIMIT_S}\n\n{sections}[examples]\nweighted = false\n\n{}",
            self.rounds,
            self.clients,
            rule::section(rule)?
        );
        Ok((task, toml))
    }
}

/// Groups of these clients.
fn rows(clients: usize, group_size: usize) -> Result<usize, Failure> {
    match clients / group_size {
        0 => {
            let why = format!("--clients {clients} do not fill one group of --group-size {group_size}");
            Err(Failure::new(Exit::Usage, WHAT, why).next(format!("take at least {group_size} clients")))
        }
        rows => Ok(rows),
    }
}
