//! The sections of a run, apart from rule, optimiser and adversary.

use serde::{Deserialize, Serialize};

use super::ScenarioError;
use crate::data::Partition;
use crate::data::synthetic::Synthetic;

/// Refuses a number outside `low..=high`.
pub(super) fn range(key: &str, value: f64, low: f64, high: f64) -> Result<(), ScenarioError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ScenarioError::new(key, format!("{value} is out of range"), &format!("write a number from {low} to {high}")))
}

/// Where the examples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The embedded handwritten digits.
    Digits,
    /// A CSV file: `path`; the label in the column `labels`, by default the last.
    Csv,
    /// A pair of IDX files: `path` and `labels`.
    Idx,
    /// A NumPy archive: `path`; `features` and `labels` name its arrays.
    Npz,
    /// Generated: `task`, and `task_seed`.
    Synthetic,
}

/// `[data]`: which examples, and how they are divided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceData {
    /// Where the examples come from.
    pub source: Source,
    /// The file of features, relative to the study file. Not part of the run's id: the data's digest is.
    #[serde(default, skip_serializing)]
    pub path: Option<String>,
    /// The file of labels of IDX data, the label column of CSV data, the array of labels of NPZ data. Not part of the
    /// run's id.
    #[serde(default, skip_serializing)]
    pub labels: Option<String>,
    /// The array of features of NPZ data. Not part of the run's id.
    #[serde(default, skip_serializing)]
    pub features: Option<String>,
    /// What is generated: a task with a known optimum. Not part of the run's id: the data's digest is.
    #[serde(default, skip_serializing)]
    pub task: Option<Synthetic>,
    /// The seed of generated data, the same for all runs; 0 if left out.
    #[serde(default, skip_serializing)]
    pub task_seed: u64,
    /// A file that says who holds which examples, relative to the study file; `heterogeneity` and `partition_seed` have no
    /// say then. Not part of the run's id: what it says is.
    #[serde(default, skip_serializing)]
    pub partition: Option<String>,
    /// Examples held out for testing, each class in proportion.
    pub test: usize,
    /// The seed of the split into training and test part: the run's own if left out.
    #[serde(default)]
    pub split_seed: Option<u64>,
    /// The seed of the division among clients: the run's own if left out.
    #[serde(default)]
    pub partition_seed: Option<u64>,
    /// How unlike the clients' data are.
    #[serde(default = "iid")]
    pub heterogeneity: Partition,
}

impl SourceData {
    /// Every key belongs to the source, and the source has what it needs.
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let word = match self.source {
            Source::Digits => "digits",
            Source::Csv => "csv",
            Source::Idx => "idx",
            Source::Npz => "npz",
            Source::Synthetic => "synthetic",
        };
        let file = matches!(self.source, Source::Csv | Source::Idx | Source::Npz);
        let synthetic = self.source == Source::Synthetic;
        let keys = [
            ("data.path", self.path.is_some(), file, file),
            ("data.labels", self.labels.is_some(), file, self.source == Source::Idx),
            ("data.features", self.features.is_some(), self.source == Source::Npz, false),
            ("data.task", self.task.is_some(), synthetic, synthetic),
            ("data.task_seed", self.task_seed != 0, synthetic, false),
        ];
        for (key, given, allowed, needed) in keys {
            if given && !allowed {
                let fix = "remove it, or change data.source";
                return Err(ScenarioError::new(key, format!("does not go with source = \"{word}\""), fix));
            }
            if needed && !given {
                let fix = match key {
                    "data.task" => "write task = { kind = \"linear\", examples = 2000, width = 20 }",
                    _ => "write the file's name, relative to the study file",
                };
                return Err(ScenarioError::new(key, format!("is missing; source = \"{word}\" needs it"), fix));
            }
        }
        Ok(())
    }
}

fn iid() -> Partition {
    Partition::Iid {}
}

/// How an update comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// One batch's gradient per round, smoothed by the client's momentum: m ← βm + (1−β)g; −m is sent.
    #[default]
    FedSgd,
    /// Local training; the difference of the parameters is sent.
    FedAvg,
}

/// `[training]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// How an update comes about.
    pub algorithm: Algorithm,
    /// Examples of a batch; each epoch draws without replacement and keeps its short last batch.
    pub batch: usize,
    /// β of fedsgd, 0 up to 1.
    pub momentum: f64,
    /// λ of fedsgd: the model moves by the optimiser's step and by −ηλθ, η being the optimiser's rate.
    pub weight_decay: f64,
    /// Local passes of fedavg.
    pub epochs: usize,
    /// Local rate of fedavg.
    pub learning_rate: f64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::FedSgd,
            batch: 32,
            momentum: 0.0,
            weight_decay: 0.0,
            epochs: 1,
            learning_rate: 0.1,
        }
    }
}

impl Training {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        range("training.batch", self.batch as f64, 1.0, 1e6)?;
        range("training.momentum", self.momentum, 0.0, 0.999_999)?;
        range("training.weight_decay", self.weight_decay, 0.0, 1.0)?;
        range("training.epochs", self.epochs as f64, 1.0, 1e4)?;
        range("training.learning_rate", self.learning_rate, 1e-12, 1e6)?;
        if self.algorithm == Algorithm::FedAvg && self.weight_decay > 0.0 {
            let fix = "remove it: it belongs to fedsgd";
            return Err(ScenarioError::new("training.weight_decay", "does not go with fedavg".to_owned(), fix));
        }
        Ok(())
    }
}

/// `[population]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// All clients, attackers among them.
    pub clients: usize,
    /// Probability that an honest client of a cohort sends nothing, drawn for each client and round.
    #[serde(default)]
    pub dropout: f64,
}

impl Population {
    /// Most clients of a study.
    pub const MOST: usize = 100_000;

    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        range("population.clients", self.clients as f64, 1.0, Self::MOST as f64)?;
        range("population.dropout", self.dropout, 0.0, 1.0)
    }
}

/// `[cohort]`, as in a `task.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cohort {
    /// Updates that close a round; all clients if left out.
    pub size: Option<usize>,
    /// Clients selected per update awaited, 1 to 10.
    pub over_selection: f64,
    /// Fewest updates for a release.
    pub minimum: Option<usize>,
    /// What a round does with fewer updates than the rule needs; abandoned if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewer: Option<String>,
    /// Virtual seconds after which a round closes.
    pub phase_limit_s: f64,
}

impl Default for Cohort {
    fn default() -> Self {
        Self { size: None, over_selection: 1.0, minimum: None, fewer: None, phase_limit_s: 600.0 }
    }
}

impl Cohort {
    pub(super) fn check(&self, clients: usize) -> Result<(), ScenarioError> {
        let Some(size) = self.size else { return Ok(()) };
        range("cohort.size", size as f64, 1.0, clients as f64)?;
        range("cohort.over_selection", self.over_selection, 1.0, 10.0)?;
        if self.selected(clients) > clients {
            let what = format!("selects {} of {clients} clients", self.selected(clients));
            return Err(ScenarioError::new("cohort.over_selection", what, "lower it, cohort.size, or add clients"));
        }
        Ok(())
    }

    /// Clients selected for a round.
    pub(crate) fn selected(&self, clients: usize) -> usize {
        (self.size.unwrap_or(clients) as f64 * self.over_selection).ceil() as usize
    }
}

/// `[visibility]`: what the rule sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Visibility {
    /// Clients whose mean is one row. Above 1 the updates are clipped, quantised, summed and divided exactly as under
    /// masking, without the masks; groups are drawn anew each round.
    pub group_size: usize,
}

impl Default for Visibility {
    fn default() -> Self {
        Self { group_size: 1 }
    }
}

impl Visibility {
    pub(super) fn check(&self, size: usize) -> Result<(), ScenarioError> {
        range("visibility.group_size", self.group_size as f64, 1.0, size as f64)
    }
}

/// `[encoding]`: how uploads travel, and their limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uplink {
    /// `f32`, `f16`, `bf16`, `int8` or `sparse`.
    pub uplink: String,
    /// Share of the coordinates that a sparse upload keeps, the largest ones; what is left out is lost.
    pub keep: f64,
    /// Longest update the server takes, as in a `task.toml`.
    pub max_l2: Option<f64>,
    /// L2 norm to which members of groups shorten their updates; 10 if left out.
    pub clip_l2: Option<f64>,
    /// Largest magnitude of a coordinate in groups; `clip_l2` if left out.
    pub kappa: Option<f64>,
    /// Bits of a level in groups; 16 if left out.
    pub bits: Option<u32>,
}

impl Default for Uplink {
    fn default() -> Self {
        Self { uplink: "f32".to_owned(), keep: 0.1, max_l2: None, clip_l2: None, kappa: None, bits: None }
    }
}

impl Uplink {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        range("encoding.keep", self.keep, 1e-9, 1.0)?;
        range("encoding.bits", f64::from(self.bits.unwrap_or(16)), 1.0, 24.0)?;
        range("encoding.clip_l2", self.clip_l2.unwrap_or(1.0), 1e-30, 1e30)
    }
}

/// `[examples]`, as in a `task.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Examples {
    /// Claims above this are capped.
    pub max: Option<u64>,
    /// Whether claims weigh the rows.
    pub weighted: Option<bool>,
}

/// `[network]`: when updates arrive, in virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Median seconds from the start of a round to an update's arrival; 0: all arrive at once, in order of their numbers.
    pub median_s: f64,
    /// σ of the logarithm of that time.
    pub spread: f64,
    /// Share of stragglers, drawn for each client and round.
    pub stragglers: f64,
    /// How many times longer a straggler takes.
    pub slowness: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self { median_s: 0.0, spread: 0.5, stragglers: 0.0, slowness: 10.0 }
    }
}

impl Network {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        range("network.median_s", self.median_s, 0.0, 1e6)?;
        range("network.spread", self.spread, 0.0, 10.0)?;
        range("network.stragglers", self.stragglers, 0.0, 1.0)?;
        range("network.slowness", self.slowness, 1.0, 1e6)?;
        if self.stragglers > 0.0 && self.median_s == 0.0 {
            let fix = "write network.median_s, for example 10";
            return Err(ScenarioError::new(
                "network.stragglers",
                "nothing is late while all arrive at once".into(),
                fix,
            ));
        }
        Ok(())
    }
}

/// `[report]`: what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measure {
    /// Rounds between measurements; the start and the last round are always measured.
    pub evaluate_every: u64,
    /// The mean of the last measurements is taken over this many rounds.
    pub last: u64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { evaluate_every: 10, last: 10 }
    }
}

impl Measure {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        range("report.evaluate_every", self.evaluate_every as f64, 1.0, 1e6)?;
        range("report.last", self.last as f64, 1.0, 1e6)
    }

    /// Whether `round` of `rounds` is measured.
    pub(crate) fn is_due(&self, round: u64, rounds: u64) -> bool {
        round == rounds || round.is_multiple_of(self.evaluate_every)
    }
}
