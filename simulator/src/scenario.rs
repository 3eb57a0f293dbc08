//! One run of a study: everything that decides its bits, and nothing else.
//!
//! A [`Scenario`] is read from a strict TOML table. Keys it shares with a `task.toml` mean the same and are checked by
//! [`TaskSpec::new`]: what a server would refuse, a study refuses with the same words.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use testudo_aggregate::OptimizerConfig;
use testudo_engine::TaskSpec;
use testudo_protocol::Encoding;

use crate::detection::Detection;
use crate::workload::WorkloadConfig;

pub use crate::attack::Realism;
pub use adversary::{Adversary, ColluderData, Placement, Schedule};
pub use problem::ScenarioError;
pub use sections::{
    Algorithm, Cohort, Examples, Measure, Network, Population, Source, SourceData, Training, Uplink, Visibility,
};

mod adversary;
mod problem;
mod sections;

/// Version of the meaning of a scenario. Part of every run's id: raised when the same keys begin to mean other numbers.
pub const VERSION: u32 = 2;

/// A checked run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What was written, with defaults filled in.
    pub plan: Plan,
    /// The task the run is: the specification a server would accept.
    pub task: Arc<TaskSpec>,
    /// The same as the table of a `task.toml`; its name and the name of its first model are placeholders.
    pub table: toml::Table,
    /// How uploads travel.
    pub encoding: Encoding,
    /// The canonical form the id is computed from.
    canonical: String,
}

/// A run as written in a study file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Rounds, at least 1.
    pub rounds: u64,
    /// What all random choices follow from.
    #[serde(default)]
    pub seed: u64,
    /// Which examples, and how they are divided.
    pub data: SourceData,
    /// What is trained.
    pub workload: WorkloadConfig,
    /// How clients train.
    #[serde(default)]
    pub training: Training,
    /// The server optimiser; FedAvg with rate 1 if left out.
    #[serde(default)]
    pub optimizer: toml::Table,
    /// Who there is.
    pub population: Population,
    /// Who takes part in a round; everyone if left out.
    #[serde(default)]
    pub cohort: Cohort,
    /// Whether the rule sees updates or means of groups.
    #[serde(default)]
    pub visibility: Visibility,
    /// How uploads travel, and their limits.
    #[serde(default)]
    pub encoding: Uplink,
    /// What claimed numbers of examples do.
    #[serde(default)]
    pub examples: Examples,
    /// When updates arrive.
    #[serde(default)]
    pub network: Network,
    /// The rule, as in a `task.toml`.
    pub rule: toml::Table,
    /// Differential privacy, as in a `task.toml`; `population` and `budget_epsilon` may be left out. No noise if left
    /// out, or with `mechanism = "none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<toml::Table>,
    /// The attackers.
    #[serde(default)]
    pub adversary: Adversary,
    /// How clients are watched; not at all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Detection>,
    /// What is measured, and when.
    #[serde(default)]
    pub report: Measure,
}

impl Scenario {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// [`ScenarioError`]: the key, what is wrong, the fix.
    pub fn from_table(table: &toml::Table) -> Result<Self, ScenarioError> {
        let plan = Plan::deserialize(table.clone()).map_err(|error| ScenarioError::read(error.message()))?;
        let data = table.get("data").and_then(toml::Value::as_table);
        let written = |key: &&str| data.is_some_and(|data| data.contains_key(*key));
        if let (true, Some(idle)) =
            (written(&"partition"), ["heterogeneity", "partition_seed"].iter().find(|key| written(key)))
        {
            let what = format!("says who holds what, and so does data.{idle}");
            return Err(ScenarioError::new("data.partition", what, &format!("remove data.{idle} or data.partition")));
        }
        Self::new(plan)
    }

    /// Checks a plan.
    ///
    /// # Errors
    /// [`ScenarioError`]: the key, what is wrong, the fix.
    pub fn new(mut plan: Plan) -> Result<Self, ScenarioError> {
        plan.switch_off();
        plan.check()?;
        plan.cohort.size = Some(plan.cohort.size.unwrap_or(plan.population.clients));
        let encoding: Encoding = plan.encoding.uplink.parse().map_err(|error: testudo_protocol::UnknownEncoding| {
            ScenarioError::new("encoding.uplink", error.to_string(), "for example uplink = \"int8\"")
        })?;
        let table = plan.task();
        let text = toml::to_string(&table)
            .map_err(|error| ScenarioError::new("rule", error.to_string(), "write values that TOML can hold"))?;
        let task = Arc::new(TaskSpec::new("study", &text).map_err(|error| ScenarioError::of_task(&error))?);
        let canonical = canonical(&serde_json::json!({ "version": VERSION, "plan": plan }));
        Ok(Self { plan, task, table, encoding, canonical })
    }

    /// SHA-256 of the canonical configuration and the data set's digest, in hexadecimal: equal runs have equal ids,
    /// whatever study they are part of.
    pub fn id(&self, data_digest: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(b"testudo run\0");
        hash.update(self.canonical.as_bytes());
        hash.update(b"\0");
        hash.update(data_digest.as_bytes());
        hex::encode(hash.finalize())
    }

    /// The canonical configuration: JSON with sorted keys.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Rows the rule sees when everyone sends: clients of a cohort, or its groups.
    pub fn rows(&self) -> usize {
        self.plan.rows(self.plan.cohort.size.unwrap_or(self.plan.population.clients))
    }

    /// Clients selected for a round.
    pub fn selected(&self) -> usize {
        let clients = self.plan.population.clients;
        self.plan.cohort.selected(clients).min(clients)
    }

    /// ε of the whole run at its δ, amplified where the task samples in secret; `None` without noise.
    pub fn epsilon(&self) -> Option<f64> {
        self.task.privacy.as_ref().map(|privacy| privacy.epsilon(self.plan.rounds))
    }

    /// The same without amplification, where the task samples in secret.
    pub fn unamplified_epsilon(&self) -> Option<f64> {
        self.task.privacy.as_ref().and_then(|privacy| privacy.budget().unamplified_epsilon_of(self.plan.rounds))
    }

    /// The δ of [`Scenario::epsilon`].
    pub fn delta(&self) -> Option<f64> {
        self.task.privacy.as_ref().map(|privacy| privacy.delta)
    }

    /// The server optimiser.
    pub fn optimizer(&self) -> &OptimizerConfig {
        &self.task.optimizer
    }
}

impl Plan {
    /// Rows made of `clients` updates.
    fn rows(&self, clients: usize) -> usize {
        (clients / self.visibility.group_size.max(1)).max(1)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let clients = self.population.clients;
        self.data.check()?;
        self.population.check()?;
        self.training.check()?;
        self.network.check()?;
        self.adversary.check(clients, self.visibility.group_size > 1)?;
        self.report.check()?;
        self.cohort.check(clients)?;
        if let Some(detection) = &self.detection {
            if let Some((key, value, low, high)) = detection.wrong() {
                sections::range(key, value, low, high)?;
            }
            if self.visibility.group_size > 1 {
                let fix = "remove [detection], or write visibility.group_size = 1";
                return Err(ScenarioError::new("detection", "needs to see single updates".to_owned(), fix));
            }
        }
        self.encoding.check()?;
        self.check_privacy()?;
        let size = self.cohort.size.unwrap_or(clients);
        self.visibility.check(size)?;
        if self.visibility.group_size > 1 && self.encoding.uplink != Encoding::F32.word() {
            let fix = "remove encoding.uplink: grouped updates travel as levels of the quantiser";
            return Err(ScenarioError::new("encoding.uplink", "does not go with groups".to_owned(), fix));
        }
        if self.adversary.placement == Placement::PerRound && size < clients && self.adversary.colluders > size {
            let what = format!("{} in every cohort of {size}", self.adversary.colluders);
            return Err(ScenarioError::new("adversary.colluders", what, "give at most cohort.size"));
        }
        Ok(())
    }

    /// `[privacy]` that says "none" is no section at all: such a run is that of a study without it.
    fn switch_off(&mut self) {
        let off = |table: &toml::Table| table.get("mechanism").and_then(toml::Value::as_str) == Some("none");
        if self.privacy.as_ref().is_some_and(off) {
            self.privacy = None;
            if self.visibility.group_size <= 1 {
                self.encoding.clip_l2 = None;
            }
        }
    }

    fn check_privacy(&self) -> Result<(), ScenarioError> {
        let Some(privacy) = &self.privacy else { return Ok(()) };
        let samples = privacy.get("sampling").and_then(toml::Value::as_str) == Some("poisson");
        let other = |key: &str, word: &str| privacy.get(key).and_then(toml::Value::as_str).is_some_and(|is| is != word);
        let number = |value: &toml::Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        if privacy.get("noise_multiplier").and_then(number) == Some(0.0) {
            let fix = "write privacy.mechanism = \"none\" for runs without noise; in a sweep, privacy = [{ mechanism = \"none\" }, { mechanism = \"gaussian\", noise_multiplier = 0.5 }]";
            return Err(ScenarioError::new("privacy.noise_multiplier", "0 is no noise".to_owned(), fix));
        }
        let why_not = [
            (
                other("trust", "central"),
                "privacy.trust",
                "studies add the noise where a server would",
                "remove the key",
            ),
            (
                other("mechanism", "gaussian"),
                "privacy.mechanism",
                "studies draw independent noise for every round",
                "write mechanism = \"gaussian\", or \"none\" for runs without noise",
            ),
            (
                samples && self.adversary.placement == Placement::PerRound,
                "privacy.sampling",
                "attackers that are placed in every round are not drawn by coins",
                "write another adversary.placement",
            ),
            (
                samples
                    && privacy
                        .get("clients")
                        .is_some_and(|clients| *clients != integer(self.population.clients as u64)),
                "privacy.clients",
                "coins are flipped for the clients of the population",
                "remove the key",
            ),
            (
                privacy.contains_key("registered") || privacy.contains_key("release_step_s"),
                "privacy",
                "everybody is there from the start, and no time passes: registered and release_step_s have no effect",
                "remove these keys",
            ),
            (
                self.visibility.group_size > 1,
                "visibility.group_size",
                "the server clips and noises single updates",
                "write group_size = 1",
            ),
            (
                self.detection.is_some(),
                "detection",
                "single updates are looked at, which are not released",
                "remove [detection]",
            ),
            (
                self.encoding.uplink != Encoding::F32.word(),
                "encoding.uplink",
                "private updates come as f32",
                "remove the key",
            ),
        ];
        match why_not.into_iter().find(|(wrong, ..)| *wrong) {
            Some((_, key, what, fix)) => {
                Err(ScenarioError::new(key, format!("does not go with [privacy] of a study: {what}"), fix))
            }
            None => Ok(()),
        }
    }

    /// `[privacy]` of the task: a study has no population that could run out of its budget.
    fn privacy_table(&self) -> Option<toml::Table> {
        let mut table = self.privacy.clone()?;
        table.entry("population").or_insert_with(|| "study".into());
        table.entry("budget_epsilon").or_insert_with(|| MOST_EPSILON.into());
        table.entry("clients").or_insert_with(|| integer(self.population.clients as u64));
        Some(table)
    }

    /// The specification a server would run.
    fn task(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut put = |key: &str, value: toml::Value| table.insert(key.to_owned(), value);
        put("name", "study".into());
        put("rounds", integer(self.rounds));
        put("model", single("initial", "simulated".into()));
        let rows = self.rows(self.cohort.size.unwrap_or(self.population.clients));
        let mut cohort = toml::Table::new();
        cohort.insert("size".to_owned(), integer(rows as u64));
        if self.visibility.group_size <= 1 {
            cohort.insert("over_selection".to_owned(), self.cohort.over_selection.into());
        }
        if let Some(minimum) = self.cohort.minimum {
            let minimum =
                if self.visibility.group_size > 1 { minimum.div_ceil(self.visibility.group_size) } else { minimum };
            cohort.insert("minimum".to_owned(), integer(minimum as u64));
        }
        if let Some(fewer) = &self.cohort.fewer {
            cohort.insert("fewer".to_owned(), fewer.clone().into());
        }
        cohort.insert("phase_limit_s".to_owned(), self.cohort.phase_limit_s.into());
        put("cohort", cohort.into());
        put("rule", self.rule.clone().into());
        if !self.optimizer.is_empty() {
            put("optimizer", self.optimizer.clone().into());
        }
        let mut encoding = toml::Table::new();
        if let Some(most) = self.encoding.max_l2 {
            encoding.insert("max_l2".to_owned(), most.into());
        }
        if let Some(privacy) = self.privacy_table() {
            put("privacy", privacy.into());
            if let Some(clip) = self.encoding.clip_l2 {
                encoding.insert("clip_l2".to_owned(), clip.into());
            }
        }
        if self.encoding.uplink != Encoding::F32.word() {
            encoding.insert("accept".to_owned(), vec![self.encoding.uplink.clone()].into());
        }
        put("encoding", encoding.into());
        let mut examples = toml::Table::new();
        if let Some(most) = self.examples.max {
            examples.insert("max".to_owned(), integer(most));
        }
        if let Some(weighted) = self.examples.weighted {
            examples.insert("weighted".to_owned(), weighted.into());
        }
        put("examples", examples.into());
        table
    }

    /// The quantiser of grouped updates: what masked rounds of such groups use.
    pub(crate) fn masking(&self) -> Option<(f64, Option<f64>, u32)> {
        (self.visibility.group_size > 1).then(|| {
            (self.encoding.clip_l2.unwrap_or(DEFAULT_CLIP), self.encoding.kappa, self.encoding.bits.unwrap_or(16))
        })
    }
}

/// The largest limit that a task may name.
const MOST_EPSILON: f64 = 1e6;

/// L2 norm to which members of groups shorten their updates unless told: long for studies of small models.
const DEFAULT_CLIP: f64 = 10.0;

fn integer(value: u64) -> toml::Value {
    toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn single(key: &str, value: toml::Value) -> toml::Value {
    let mut table = toml::Table::new();
    table.insert(key.to_owned(), value);
    table.into()
}

/// JSON with sorted keys and whole numbers without a fraction: `1` and `1.0` are one configuration.
fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(entries) => {
                let entries: BTreeMap<&String, Value> = entries
                    .iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(key, value)| (key, sorted(value)))
                    .collect();
                Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), value)).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            Value::Number(number) => match number.as_f64() {
                Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
                _ => value.clone(),
            },
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

#[cfg(test)]
mod tests;
