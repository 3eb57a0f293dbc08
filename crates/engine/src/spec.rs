//! A task's specification: the one constructor that cross-checks its sections.

mod check;
mod masked;
mod private;
mod raw;

use crate::{
    Budget, Local, NoiseShares, PoissonSample,
    document::{Document, Problem, Problems},
    guarantees,
    masking::Masking,
    part::{self, Granularity, Part, Policy, TensorPolicy},
    privacy::Privacy,
};
use check::{Check, ROUNDS};
use private::Trust;
use raw::RawTask;
use std::sync::Arc;
use testudo_aggregate::{OptimizerConfig, Rule, RuleConfig, Sampled};
use testudo_protocol::{ClientId, Encoding, Layout, TaskName, limits};

/// A checked task. An impossible one cannot be constructed.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    /// Its name.
    pub name: TaskName,
    /// Releases after which it is finished.
    pub rounds: u64,
    /// Path of the initial model, as written; read by whoever creates the task.
    pub initial_model: String,
    /// Who takes part in a round.
    pub cohort: Cohort,
    /// Pairwise masking; `None` in clear mode, where the server sees every update.
    pub masking: Option<Masking>,
    /// Largest L2 norm of an update; a longer one is rejected. None under masking, where clients clip.
    pub max_l2: Option<f64>,
    /// Encodings an update may have, f32 always among them.
    pub encodings: Vec<Encoding>,
    /// What claimed numbers of examples do.
    pub examples: Examples,
    /// The aggregation rule's configuration.
    pub rule_config: RuleConfig,
    /// The aggregation rule.
    pub rule: Arc<dyn Rule>,
    /// The declared share of bad clients that the rule's `byzantine` comes from, if it does.
    pub sampled: Option<Sampled>,
    /// Whether the rule sees the whole model or one tensor at a time.
    pub granularity: Granularity,
    /// Tensors that are not under the rule; the first pattern that matches counts.
    pub tensors: Vec<TensorPolicy>,
    /// The trusted client whose update the rule compares the others with.
    pub reference: Option<ClientId>,
    /// The server optimiser.
    pub optimizer: OptimizerConfig,
    /// Differential privacy by noise that the server adds; `None`: it adds none.
    pub privacy: Option<Privacy>,
    /// Differential privacy by noise that every client adds to its own update; `None`: it adds none.
    pub local: Option<Local>,
    /// Differential privacy by shares of noise that clients add under masks; `None`: they add none.
    pub shares: Option<NoiseShares>,
    /// What this combination promises, one sentence each.
    pub guarantees: Vec<String>,
}

/// Histories of at most this many bytes are kept; the longest unseen clients are forgotten first.
pub(crate) const HISTORY_BYTES: u64 = 1 << 30;

/// Who takes part in a round, and for how long it stays open.
#[derive(Debug, Clone, PartialEq)]
pub struct Cohort {
    /// Updates that close a round early.
    pub size: usize,
    /// Clients selected: `size` times the over-selection, rounded up. At most, where they are sampled in secret.
    pub selected: usize,
    /// Fewest updates for a release; 0 where the cohort is secret, and any number is released.
    pub minimum: usize,
    /// Whom the server samples in secret; `None`: a cohort is drawn among the clients that wait.
    pub sample: Option<PoissonSample>,
    /// What a round does with fewer updates than the rule needs for its byzantine clients.
    pub fewer: Fewer,
    /// How long a round takes updates, milliseconds.
    pub phase_limit_ms: u64,
    /// How long clients gather before a cohort is drawn among them, milliseconds.
    pub gather_ms: u64,
}

/// What a round does with fewer updates than the rule needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fewer {
    /// It is abandoned.
    #[default]
    Abandon,
    /// It goes on with the largest number of byzantine clients that is valid for them; its notes say which.
    LowerByzantine,
}

/// What claimed numbers of examples do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examples {
    /// Claims above this are capped.
    pub max: u64,
    /// Whether the capped claims weigh the rows. Robust rules ignore them.
    pub weighted: bool,
}

/// A task the operator has to change before it can exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct SpecError(#[from] pub Problems);

impl TaskSpec {
    /// Checks the text of a `task.toml`; `file` is what errors call it.
    ///
    /// # Errors
    /// [`SpecError`] lists everything that is wrong, each with line, key, value and fix.
    pub fn new(file: &str, text: &str) -> Result<Self, SpecError> {
        if text.len() > limits::TASK_TOML_BYTES {
            let what = format!("{} bytes, more than the limit of {}", text.len(), limits::TASK_TOML_BYTES);
            let problem =
                Problem { line: None, key: String::new(), value: String::new(), what, fix: "shorten the file".into() };
            return Err(Problems { file: file.to_string(), list: vec![problem] }.into());
        }
        let document = Document::parse(file, text)?;
        let raw: RawTask = document.read()?;
        let mut check = Check { document: &document, list: Vec::new() };
        let name = check.name(&raw.name);
        check.range("rounds", raw.rounds as f64, 1.0, ROUNDS as f64);
        if raw.model.initial.is_empty() {
            check.fail("model.initial", "is empty", "give the path of a safetensors file");
        }
        let per_row = check.clients_per_row(&raw);
        let masks = masked::asked(&raw);
        if !masks {
            check.clear_mode(&raw);
        }
        let (rule_config, sampled, granularity) = check.rule(&raw, per_row);
        let optimizer = match raw.optimizer.is_empty() {
            true => Some(OptimizerConfig::default()),
            false => check.table("optimizer", &raw.optimizer),
        };
        let rule: Option<Arc<dyn Rule>> = rule_config.as_ref().map(|config| Arc::from(config.build()));
        if let (true, Some(config), Some(rule)) = (masks, &rule_config, &rule) {
            check.rule_over_groups(config.kind(), rule.as_ref());
        }
        let reference = check.reference(raw.reference.as_ref(), rule.as_deref());
        let fewer = check.fewer(&raw.cohort, masks || raw.privacy.is_some());
        let mut cohort = check.cohort(&raw.cohort, rule_config.as_ref(), reference.is_some(), per_row, fewer);
        let trust = raw.privacy.as_ref().and_then(|asked| check.trust(asked));
        let asked = |who| raw.privacy.as_ref().filter(|_| trust == Some(who));
        let sample_is_sound =
            asked(Trust::Central).is_none_or(|asked| check.sample(&raw, asked, rule_config.as_ref(), cohort.as_mut()));
        let tensors = check.tensors(&raw.tensors);
        let max_l2 = raw.encoding.max_l2;
        if max_l2.is_some_and(|cap| !(cap.is_finite() && cap > 0.0)) {
            check.fail("encoding.max_l2", "is not a positive number", "write the largest L2 norm of an honest update");
        }
        let encodings = check.encodings(&raw.encoding.accept);
        let rule_and_granularity = (rule_config.as_ref(), granularity);
        let privacy = asked(Trust::Central)
            .filter(|_| sample_is_sound)
            .and_then(|asked| check.privacy(&raw, asked, rule_and_granularity, cohort.as_ref(), &tensors));
        let local = asked(Trust::Local).and_then(|asked| check.local(&raw, asked, cohort.as_ref(), &tensors));
        let mut masking = None;
        let examples = match masks {
            false if raw.privacy.is_some() => Examples { weighted: false, ..check.examples(&raw.examples, None) },
            false => check.examples(&raw.examples, rule.as_deref()),
            true => {
                masking = check.masking(&raw, per_row, cohort.as_ref());
                check.tensors_under_masking(&tensors);
                let bits = masking.as_ref().map_or(16, |masking| masking.bits);
                check.examples_under_masking(&raw, rule.as_deref(), bits)
            }
        };
        let shares =
            asked(Trust::Distributed).and_then(|asked| check.shares(&raw, asked, masking.as_mut(), cohort.as_ref()));
        if let Some(masking) = masking.as_mut().filter(|_| examples.weighted) {
            masking.max_weight = Some(examples.max);
        }
        let (Some(name), Some(rule_config), Some(rule), Some(optimizer), Some(cohort), true) =
            (name, rule_config, rule, optimizer, cohort, check.list.is_empty())
        else {
            return Err(document.problems(std::mem::take(&mut check.list)).into());
        };
        let mut spec = Self {
            name,
            rounds: raw.rounds,
            initial_model: raw.model.initial,
            cohort,
            masking,
            max_l2,
            encodings,
            examples,
            rule_config,
            rule,
            sampled,
            granularity,
            tensors,
            reference,
            optimizer,
            privacy,
            local,
            shares,
            guarantees: Vec::new(),
        };
        let weak = check.weak_guarantee(&spec, raw.cohort.minimum.map(|minimum| minimum as usize));
        if !weak.is_empty() {
            return Err(document.problems(weak).into());
        }
        spec.guarantees = guarantees::report(&spec);
        Ok(spec)
    }

    /// Checks the task against the layout of its model: patterns that match nothing, a rule that would see nothing, and
    /// histories larger than are kept.
    ///
    /// # Errors
    /// [`SpecError`] lists everything that is wrong, with the fix.
    pub fn check_layout(&self, file: &str, layout: &Layout) -> Result<(), SpecError> {
        let mut list = Vec::new();
        let mut fail = |key: String, value: String, what: String, fix: String| {
            list.push(Problem { line: None, key, value, what, fix });
        };
        for policy in &self.tensors {
            if !layout.tensors().iter().any(|tensor| policy.matches(&tensor.name)) {
                let names: Vec<&str> = layout.tensors().iter().take(8).map(|tensor| tensor.name.as_str()).collect();
                let fix = format!("the model has {}", names.join(", "));
                let (key, value) = (format!("tensors.{}", policy.pattern), policy.policy.word().to_string());
                fail(key, value, "no tensor of the model has such a name".into(), fix);
            }
        }
        let robust: usize =
            self.parts(layout).iter().filter(|part| part.policy == Policy::Robust).map(|part| part.dimension()).sum();
        if robust == 0 {
            let what = "no tensor is left for the rule".to_string();
            fail("tensors".into(), String::new(), what, "leave at least one tensor robust".into());
        }
        if let (Some(sample), Some(privacy)) = (&self.cohort.sample, &self.privacy) {
            let least = sample.release_step_ms(layout.dimension());
            if privacy.release_step_ms < least {
                let what = format!(
                    "{} s are less than adding up a large sample may take ({} coordinates): when a release leaves would tell \
                     how many were drawn",
                    privacy.release_step_ms as f64 / 1000.0,
                    layout.dimension()
                );
                let seconds = least.div_ceil(1000);
                let fix = match seconds * 1000 > self.cohort.phase_limit_ms {
                    true => format!("write release_step_s = {seconds}, and a cohort.phase_limit_s of at least that"),
                    false => format!("write release_step_s = {seconds}"),
                };
                fail("privacy.release_step_s".into(), String::new(), what, fix);
            }
        }
        let history = (self.cohort.selected as u64).saturating_mul(layout.bytes());
        if self.rule.needs().extras.history && history > HISTORY_BYTES {
            let what = format!("the rule keeps the sum of every client's updates: {history} bytes for one cohort");
            let fix =
                format!("at most {HISTORY_BYTES} are kept; choose another rule, a smaller cohort or a smaller model");
            fail("rule.kind".into(), self.rule_config.kind().to_string(), what, fix);
        }
        if list.is_empty() { Ok(()) } else { Err(Problems { file: file.to_string(), list }.into()) }
    }

    /// What a release is charged, and to whom; `None` without differential privacy.
    #[must_use]
    pub fn budget(&self) -> Option<Budget> {
        let local = || self.local.as_ref().map(|local| local.budget.clone());
        let shares = || self.shares.as_ref().map(|shares| shares.budget.clone());
        self.privacy.as_ref().map(Privacy::budget).or_else(local).or_else(shares)
    }

    /// The rule for a round of `rows` rows, and what became of it where it had to be lowered.
    pub fn rule_for(&self, rows: usize) -> (Arc<dyn Rule>, Option<RuleConfig>) {
        match self.lowered(rows) {
            Some(lowered) => (Arc::from(lowered.build()), Some(lowered)),
            None => (self.rule.clone(), None),
        }
    }

    /// The rule with fewer byzantine clients, if the task lowers them and `rows` rows need it.
    pub(crate) fn lowered(&self, rows: usize) -> Option<RuleConfig> {
        let lowers = self.cohort.fewer == Fewer::LowerByzantine && self.rule.check(rows).is_err();
        lowers.then(|| self.rule_config.fit(rows).ok()).flatten()
    }

    /// The parts of a model of this layout.
    pub(crate) fn parts(&self, layout: &Layout) -> Vec<Arc<Part>> {
        part::parts(layout, &self.tensors, self.granularity, &self.rule)
    }

    /// What the task does with each tensor of a model, for people.
    pub fn policies(&self, layout: &Layout) -> Vec<(String, Policy)> {
        let policy = |tensor| part::policy_of(&self.tensors, tensor);
        layout.tensors().iter().map(|tensor| (tensor.name.clone(), policy(tensor))).collect()
    }
}

#[cfg(test)]
mod tests;
