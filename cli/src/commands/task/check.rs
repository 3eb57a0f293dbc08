//! `testudo task check`, and the local checks that precede `create`.

use crate::{
    exit::{Exit, Failure},
    file, format,
    output::Output,
};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use testudo_aggregate::Units;
use testudo_engine::{AdaptiveClipping, Masking, TaskSpec, guarantees::min_shared_noise};
use testudo_protocol::{Digest, Model, Reason, limits};
use testudo_server::Config;

/// Arguments of `testudo task check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    files: Files,
}

/// A task's two files.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// The task's description; `testudo init` writes a commented one
    #[arg(value_name = "FILE.toml")]
    task: PathBuf,
    /// The initial model instead of the one the description names
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// A task that passed every check this side can make.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) text: String,
    pub(super) spec: TaskSpec,
    pub(super) model: Option<CheckedModel>,
}

/// The model file with what was found in it.
#[derive(Debug)]
pub(super) struct CheckedModel {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    tensors: Vec<Value>,
    dimension: u64,
}

impl Check {
    /// Prints what the task promises.
    ///
    /// # Errors
    /// Everything that is wrong with the description, or with the model.
    pub(super) fn run(&self, output: &Output) -> Result<(), Failure> {
        let checked = self.files.check(false)?;
        checked.affordable()?;
        let object = checked.object();
        let missing = self.files.model_path(&checked.spec).display().to_string();
        output.result(object.clone(), |_| checked.describe(&object, &missing))
    }
}

impl Files {
    /// Checks the description and the model; a model that is not there is a failure only if it is needed, or was named
    /// with `--model`.
    ///
    /// # Errors
    /// As [`Check::run`].
    pub(super) fn check(&self, needs_model: bool) -> Result<Checked, Failure> {
        let text = file::read_text(&self.task, limits::TASK_TOML_BYTES as u64)
            .map_err(|failure| failure.next("`testudo init` writes a commented task.toml"))?;
        let spec = TaskSpec::new(&self.task.display().to_string(), &text).map_err(|error| {
            Failure::new(Exit::Config, format!("{} is refused", self.task.display()), error.to_string())
        })?;
        let path = self.model_path(&spec);
        let model = match file::read(&path, limits::MODEL_BYTES) {
            Ok(bytes) => Some(CheckedModel::new(path, bytes, &spec, &self.task)?),
            Err(failure) if failure.exit == Exit::NotFound && !needs_model && self.model.is_none() => None,
            Err(failure) => {
                return Err(failure.next("write the initial model there as safetensors, or name it with --model FILE"));
            }
        };
        Ok(Checked { text, spec, model })
    }

    /// Relative paths in a description are relative to it.
    fn model_path(&self, spec: &TaskSpec) -> PathBuf {
        match &self.model {
            Some(path) => path.clone(),
            None => self.task.parent().unwrap_or(Path::new("")).join(&spec.initial_model),
        }
    }
}

impl CheckedModel {
    fn new(path: PathBuf, bytes: Vec<u8>, spec: &TaskSpec, task: &Path) -> Result<Self, Failure> {
        let model = Model::from_safetensors(&bytes).map_err(|error| {
            Failure::new(Exit::Config, format!("{} is refused", path.display()), error.to_string())
                .next("save the initial parameters as finite F32 tensors with a safetensors library")
        })?;
        spec.check_layout(&task.display().to_string(), model.layout()).map_err(|error| {
            Failure::new(Exit::Config, format!("{} does not fit {}", task.display(), path.display()), error.to_string())
        })?;
        let tensors = model.layout().tensors().iter().zip(spec.policies(model.layout()));
        let tensors = tensors.map(
            |(tensor, (_, policy))| json!({ "name": tensor.name, "shape": tensor.shape, "policy": policy.word() }),
        );
        let tensors = tensors.collect();
        let dimension = model.layout().dimension() as u64;
        let digest = Digest::of(&bytes);
        Ok(Self { path, bytes, digest, tensors, dimension })
    }
}

impl Checked {
    /// Whether the task's own plan fits the limit it names; what other tasks of the population spent, only the server
    /// knows.
    fn affordable(&self) -> Result<(), Failure> {
        let Some(budget) = self.spec.budget() else { return Ok(()) };
        budget.fits_alone(self.spec.name.as_str(), self.spec.rounds).map_err(|exhausted| {
            let what = format!("{} cannot be created", self.spec.name);
            let mut failure =
                Failure::new(Exit::Policy, what, exhausted.to_string()).next(self.fit(exhausted.z_needed));
            failure.code = Reason::PrivacyBudgetExhausted.code();
            failure
        })
    }

    /// How a plan is made to fit a budget that wants noise of `needed` over the sensitivity: noise_multiplier is over the clip.
    pub(super) fn fit(&self, needed: Option<f64>) -> String {
        let noise = match (self.clips_in_sensitivity(), needed) {
            (None, _) => "raise noise_multiplier".to_string(),
            (Some(times), None) => format!("raise noise_multiplier ({})", over_clip(times)),
            // Six digits of the product, and more than these lose.
            (Some(times), Some(z)) => {
                format!("raise noise_multiplier to {} ({})", digits(z * times * (1.0 + 2e-5)), over_clip(times))
            }
        };
        format!("{noise}, lower rounds, or agree on another budget_epsilon")
    }

    /// How many clips the sensitivity is: z over the clip by z over the sensitivity.
    fn clips_in_sensitivity(&self) -> Option<f64> {
        Some(noise_over_clip(&self.spec)? / self.spec.budget()?.effective_multiplier())
    }

    /// For programs.
    fn object(&self) -> Value {
        let spec = &self.spec;
        let model = self.model.as_ref().map(|model| {
            json!({
                "file": model.path.display().to_string(), "file_bytes": model.bytes.len(),
                "digest": model.digest.to_string(), "parameters": model.dimension, "tensors": model.tensors,
                "update_bytes": model.dimension * 4,
                "server_memory_bytes": {
                    "spool_file": self.server_memory(model.dimension, false),
                    "spool_memory": self.server_memory(model.dimension, true),
                },
            })
        });
        json!({
            "name": spec.name.as_str(), "rounds": spec.rounds, "rule": spec.rule_config.to_string(),
            "optimizer": spec.optimizer.kind(),
            "cohort": {
                "size": spec.cohort.size, "selected": spec.cohort.selected, "minimum": spec.cohort.minimum,
                "phase_limit_s": spec.cohort.phase_limit_ms as f64 / 1000.0,
            },
            "suite": suite(spec.masking.as_ref()), "masking": spec.masking.as_ref().map(masking),
            "privacy": privacy(spec),
            "guarantees": spec.guarantees, "model": model,
        })
    }

    /// For people; `missing` is the model's path, where it is not there.
    fn describe(&self, object: &Value, missing: &str) -> String {
        let spec = &self.spec;
        let header = format!(
            "guarantee report  task {}  suite {}  {}",
            spec.name,
            suite(spec.masking.as_ref()),
            match &spec.cohort.sample {
                None => format!("smallest cohort {}", spec.cohort.minimum),
                Some(sample) => format!("expected cohort {}, in secret", sample.expected),
            }
        );
        let mut lines = vec![header];
        if self.model.is_none() {
            lines.push(format!(
                "the description is sound, but its model is missing: {} is not there. Write the initial model there as \
                 safetensors, or name it with --model FILE. With a model that fits, it promises:",
                format::clean(missing)
            ));
        }
        lines.extend(format::topics(&spec.guarantees));
        if let (Some(z), Some(budget)) = (noise_over_clip(spec), spec.budget()) {
            lines.push(format!(
                "noise: z = {} over the clip, which task.toml calls noise_multiplier, is {} over the sensitivity, of which \
                 `testudo privacy` and budgets speak",
                digits(z),
                digits(budget.effective_multiplier())
            ));
        }
        let Some(model) = &self.model else { return lines.join("\n") };
        lines.push(format!(
            "model: {}, {} in {}, SHA-256 {}…",
            format::clean(&model.path.display().to_string()),
            format::plural(model.dimension, "parameter"),
            format::plural(model.tensors.len() as u64, "tensor"),
            model.digest.short()
        ));
        let memory = &object["model"]["server_memory_bytes"];
        let size = |key: &str| format::bytes(memory[key].as_u64().unwrap_or_default());
        lines.push(format!("update: {} per client and round", format::bytes(model.dimension * 4)));
        lines.push(format!(
            "server memory at worst: about {} with the file spool, {} with the memory spool",
            size("spool_file"),
            size("spool_memory")
        ));
        lines.join("\n")
    }

    /// Bytes the server may need for one round of this task, at the default limits: the model before and after, the
    /// aggregate and the optimiser's state; one unit of every row and the distances between rows; uploads on their
    /// way; with the memory spool also every update.
    fn server_memory(&self, dimension: u64, memory_spool: bool) -> u64 {
        let rows = match &self.spec.cohort.sample {
            Some(sample) => sample.large(),
            None => self.spec.cohort.selected as u64,
        };
        let update = dimension * 4;
        let vectors = (3 + self.spec.optimizer.state_vectors() as u64) * update;
        let unit = Units::for_rows(dimension as usize, rows as usize).map_or(0, |units| units.unit_len() as u64);
        let unit_rows = unit.min(dimension) * 4 * rows;
        // The rule's rows are groups under masking.
        let points = self.spec.masking.as_ref().map_or(rows, |masking| masking.rows(self.spec.cohort.selected) as u64);
        let distances = if self.spec.rule.needs().distances.are_pairs() { 2 * points * points * 8 } else { 0 };
        let on_their_way = Config::default().limits.upload_memory_bytes.min(rows * update);
        let spool = if memory_spool { rows * update } else { 0 };
        vectors + unit_rows + distances + on_their_way + spool
    }
}

/// What hides the updates.
fn suite(masking: Option<&Masking>) -> &'static str {
    if masking.is_some() { "pairwise/1" } else { "none" }
}

/// Differential privacy, for programs: what every trust model has, and what this one adds.
fn privacy(spec: &TaskSpec) -> Option<Value> {
    let budget = spec.budget()?;
    let mut object = json!({
        "unit": "client", "trust_model": budget.charge.mechanism.trust(), "adjacency": budget.charge.adjacency,
        "sampling": if spec.cohort.sample.is_some() { "poisson" } else { "none" }, "population": budget.population,
        "budget_epsilon": budget.epsilon, "delta": budget.delta, "epsilon": budget.epsilon_of(spec.rounds),
        "epsilon_unamplified":
            budget.unamplified_epsilon_of(spec.rounds).unwrap_or_else(|| budget.epsilon_of(spec.rounds)),
        "epsilon_of_one_round": budget.epsilon_of(1), "sigma_over_sensitivity": budget.effective_multiplier(),
    });
    let own = match (&spec.privacy, &spec.local, &spec.shares) {
        (Some(privacy), ..) => {
            let run = privacy.correlated.as_ref();
            json!({
                "mechanism": run.map_or("gaussian", |run| run.kind.word()),
                "participation_limit": run.map(|run| run.limit),
                "rate": spec.cohort.sample.map(|sample| sample.rate()), "registered": spec.cohort.sample.map(|sample| sample.registered),
                "release_step_s": privacy.release_step_ms as f64 / 1000.0,
                "noise_multiplier": privacy.noise_multiplier, "clip_l2": privacy.grid.clip(),
                "adaptive_clip": privacy.adaptive.as_ref().map(adaptive_clip), "divisor": privacy.divisor,
                "deviation": privacy.deviation(), "sigma_over_sensitivity": privacy.effective_multiplier(),
            })
        }
        (None, Some(local), _) => json!({
            "mechanism": "gaussian", "noise_multiplier": local.noise.multiplier(), "clip_l2": local.noise.grid().clip(),
            "deviation": local.deviation(),
        }),
        (None, None, Some(shares)) => json!({
            "mechanism": "gaussian", "noise_multiplier": shares.noise_multiplier, "clip_l2": shares.grid.clip(),
            "honest": shares.honest(), "colluders_of_a_group": shares.shares.colluders(),
            "min_shared_noise": min_shared_noise(spec),
            "deviation_of_a_share": shares.deviation(1),
        }),
        (None, None, None) => json!({}),
    };
    if let (Some(object), Some(own)) = (object.as_object_mut(), own.as_object()) {
        object.extend(own.clone());
    }
    Some(object)
}

/// z as `task.toml` has it.
fn noise_over_clip(spec: &TaskSpec) -> Option<f64> {
    match (&spec.privacy, &spec.local, &spec.shares) {
        (Some(privacy), ..) => Some(privacy.noise_multiplier),
        (None, Some(local), _) => Some(local.noise.multiplier()),
        (None, None, Some(shares)) => Some(shares.noise_multiplier),
        (None, None, None) => None,
    }
}

fn over_clip(times: f64) -> String {
    format!("it is over clip_l2: {} times the noise over the sensitivity", digits(times))
}

/// Six digits at most.
fn digits(value: f64) -> String {
    format!("{value:.5e}").parse::<f64>().unwrap_or(value).to_string()
}

/// How a clip moves, for programs.
fn adaptive_clip(clipping: &AdaptiveClipping) -> Value {
    json!({
        "quantile": clipping.quantile, "learning_rate": clipping.learning_rate, "min": clipping.least,
        "max": clipping.most, "bits_noise": clipping.bits_noise,
    })
}

/// The configuration of masking, for programs.
fn masking(masking: &Masking) -> Value {
    json!({
        "group_size": masking.group_size, "threshold": masking.threshold,
        "clip_l2": masking.clip_l2, "kappa": masking.kappa, "bits": masking.bits, "max_weight": masking.max_weight,
        "step_limit_s": masking.step_limit_ms as f64 / 1000.0,
        "colluders": masking.assumed.colluders, "byzantine": masking.assumed.byzantine,
        "dropout": masking.assumed.dropout, "authority": masking.authority.map(hex::encode),
        "accept_weak_guarantee": masking.accept_weak_guarantee,
    })
}
