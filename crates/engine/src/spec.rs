//! A task's specification: the one constructor that cross-checks its sections.

use crate::{
    document::{Document, Problem, Problems},
    guarantees,
    part::{self, Granularity, Part, Policy, TensorPolicy},
};
use serde::Deserialize;
use std::sync::Arc;
use testudo_aggregate::{OptimizerConfig, Rule, RuleConfig, RuleSpec, Sampled};
use testudo_protocol::{ClientId, Layout, TaskName, limits};

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
    /// Largest L2 norm of an update; a longer one is rejected.
    pub max_l2: Option<f64>,
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
    /// What this combination promises, one sentence each.
    pub guarantees: Vec<String>,
}

/// Who takes part in a round, and for how long it stays open.
#[derive(Debug, Clone, PartialEq)]
pub struct Cohort {
    /// Updates that close a round early.
    pub size: usize,
    /// Clients selected: `size` times the over-selection, rounded up.
    pub selected: usize,
    /// Fewest updates for a release.
    pub minimum: usize,
    /// How long a round takes updates, milliseconds.
    pub phase_limit_ms: u64,
    /// How long clients gather before a cohort is drawn among them, milliseconds.
    pub gather_ms: u64,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTask {
    name: String,
    rounds: u64,
    model: RawModel,
    cohort: RawCohort,
    #[serde(default)]
    visibility: RawVisibility,
    #[serde(default)]
    encoding: RawEncoding,
    #[serde(default)]
    examples: RawExamples,
    rule: toml::Table,
    #[serde(default)]
    tensors: toml::Table,
    reference: Option<RawReference>,
    #[serde(default)]
    optimizer: toml::Table,
    privacy: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    initial: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReference {
    client: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCohort {
    size: u64,
    #[serde(default = "one")]
    over_selection: f64,
    minimum: Option<u64>,
    #[serde(default = "ten_minutes")]
    phase_limit_s: f64,
    #[serde(default)]
    gather_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawVisibility {
    masking: String,
    group_size: u64,
    threshold: Option<u64>,
}

impl Default for RawVisibility {
    fn default() -> Self {
        Self { masking: "none".into(), group_size: 1, threshold: None }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEncoding {
    max_l2: Option<f64>,
    clip_l2: Option<f64>,
    bits: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawExamples {
    max: Option<u64>,
    weighted: Option<bool>,
}

fn one() -> f64 {
    1.0
}

fn ten_minutes() -> f64 {
    600.0
}

/// Most rounds of one task.
const ROUNDS: u64 = 1_000_000;
/// Longest phase limit and gathering time, seconds (7 days).
const PHASE_LIMIT_S: f64 = 604_800.0;
/// Default cap of claimed examples.
const MAX_EXAMPLES: u64 = 10_000;

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
        check.clear_mode(&raw);
        let (rule_config, sampled, granularity) = check.rule(&raw);
        let optimizer = match raw.optimizer.is_empty() {
            true => Some(OptimizerConfig::default()),
            false => check.table("optimizer", &raw.optimizer),
        };
        let rule: Option<Arc<dyn Rule>> = rule_config.as_ref().map(|config| Arc::from(config.build()));
        let reference = check.reference(raw.reference.as_ref(), rule.as_deref());
        let cohort = check.cohort(&raw.cohort, rule.as_deref(), reference.is_some());
        let tensors = check.tensors(&raw.tensors);
        let max_l2 = raw.encoding.max_l2;
        if max_l2.is_some_and(|cap| !(cap.is_finite() && cap > 0.0)) {
            check.fail("encoding.max_l2", "is not a positive number", "write the largest L2 norm of an honest update");
        }
        let examples = check.examples(&raw.examples, rule.as_deref());
        let (Some(name), Some(rule_config), Some(rule), Some(optimizer), Some(cohort), true) =
            (name, rule_config, rule, optimizer, cohort, check.list.is_empty())
        else {
            return Err(document.problems(check.list).into());
        };
        let mut spec = Self {
            name,
            rounds: raw.rounds,
            initial_model: raw.model.initial,
            cohort,
            max_l2,
            examples,
            rule_config,
            rule,
            sampled,
            granularity,
            tensors,
            reference,
            optimizer,
            guarantees: Vec::new(),
        };
        spec.guarantees = guarantees::report(&spec);
        Ok(spec)
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

/// Gathers problems section by section.
struct Check<'a> {
    document: &'a Document<'a>,
    list: Vec<Problem>,
}

impl Check<'_> {
    fn fail(&mut self, key: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.list.push(self.document.problem(key, what, fix));
    }

    fn range(&mut self, key: &str, value: f64, least: f64, most: f64) -> bool {
        let good = value.is_finite() && value >= least && value <= most;
        if !good {
            self.fail(
                key,
                format!("{value} is outside {least} to {most}"),
                format!("write a value from {least} to {most}"),
            );
        }
        good
    }

    fn name(&mut self, text: &str) -> Option<TaskName> {
        TaskName::new(text)
            .map_err(|error| self.fail("name", error.to_string(), "for example name = \"keyboard\""))
            .ok()
    }

    /// Reads a `kind = "…"` table. Its own messages read "what; fix" and quote the key.
    fn table<T: serde::de::DeserializeOwned>(&mut self, section: &str, table: &toml::Table) -> Option<T> {
        match T::deserialize(table.clone()) {
            Ok(value) => Some(value),
            Err(error) => self.refused(section, table, error.message()),
        }
    }

    /// Places a message about a `kind = "…"` table at its key.
    fn refused<T>(&mut self, section: &str, table: &toml::Table, error: &str) -> Option<T> {
        let quoted = error.split('`').skip(1).step_by(2);
        let key = quoted.map(|key| if table.contains_key(key) { key } else { "kind" }).next().unwrap_or("kind");
        let path = if table.contains_key(key) { format!("{section}.{key}") } else { section.to_string() };
        let named = error.split('`').nth(1).unwrap_or_default();
        let similar = table.keys().find(|key| key.as_str() != named && strsim::jaro_winkler(key, named) > 0.8);
        if let (true, Some(written)) = (error.contains("` is missing"), similar) {
            let what = format!("unknown key `{written}`");
            return self.fail_none(&format!("{section}.{written}"), what, format!("did you mean `{named}`?"));
        }
        let (what, fix) = error.split_once("; ").unwrap_or((error, "see `testudo init` for a commented sample"));
        self.fail_none(&path, what, fix)
    }

    fn fail_none<T>(&mut self, key: &str, what: impl Into<String>, fix: impl Into<String>) -> Option<T> {
        self.fail(key, what, fix);
        None
    }

    /// The rule for the largest cohort there may be: an over-selected one may hold more bad clients.
    fn rule(&mut self, raw: &RawTask) -> (Option<RuleConfig>, Option<Sampled>, Granularity) {
        let mut table = raw.rule.clone();
        let granularity = match table.remove("granularity") {
            None => Granularity::Model,
            Some(toml::Value::String(word)) if word == "model" => Granularity::Model,
            Some(toml::Value::String(word)) if word == "layer" => Granularity::Layer,
            Some(_) => {
                self.fail("rule.granularity", "is not a granularity", "write granularity = \"model\" or \"layer\"");
                Granularity::Model
            }
        };
        let Some(spec) = self.table::<RuleSpec>("rule", &table) else { return (None, None, granularity) };
        let selected = selected(raw.cohort.size, raw.cohort.over_selection);
        match spec.resolve(selected.clamp(1, limits::COHORT)) {
            Ok(config) => (Some(config), spec.sampled(), granularity),
            Err(error) => (self.refused("rule", &table, &error.to_string()), None, granularity),
        }
    }

    fn reference(&mut self, raw: Option<&RawReference>, rule: Option<&dyn Rule>) -> Option<ClientId> {
        let needed = rule.is_none_or(|rule| rule.needs().extras.reference);
        match raw {
            None if needed && rule.is_some() => {
                let fix = "add [reference] with client = \"…\", the id of a client that trains on data you trust";
                self.fail_none("rule.kind", "this rule compares every update with a trusted one", fix)
            }
            None => None,
            Some(_) if !needed => {
                self.fail_none("reference.client", "this rule compares with no reference", "remove the section")
            }
            Some(raw) => match ClientId::new(&raw.client) {
                Ok(client) => Some(client),
                Err(error) => self.fail_none("reference.client", error.to_string(), "write the id of a client"),
            },
        }
    }

    fn tensors(&mut self, table: &toml::Table) -> Vec<TensorPolicy> {
        let mut policies = Vec::with_capacity(table.len());
        for (pattern, value) in table {
            match value.as_str().and_then(Policy::from_word) {
                Some(policy) => policies.push(TensorPolicy { pattern: pattern.clone(), policy }),
                None => {
                    let fix = "write \"robust\", \"stats\", \"counter\" or \"ignore\"";
                    self.fail(&format!("tensors.{pattern}"), format!("{value} is not a policy"), fix);
                }
            }
        }
        policies
    }

    fn clear_mode(&mut self, raw: &RawTask) {
        match raw.visibility.masking.as_str() {
            "none" => {}
            "pairwise" => {
                self.fail("visibility.masking", "pairwise masking is not in this version", "write masking = \"none\"");
            }
            _ => self.fail("visibility.masking", "is not a masking", "write masking = \"none\""),
        }
        if raw.visibility.group_size != 1 {
            let what = "clients are grouped only under masking, which is not in this version";
            self.fail("visibility.group_size", what, "write group_size = 1 or remove the key");
        }
        if raw.visibility.threshold.is_some() {
            self.fail("visibility.threshold", "has no effect without masking", "remove the key");
        }
        if raw.encoding.bits.is_some() {
            self.fail("encoding.bits", "has no effect without masking", "remove the key");
        }
        if raw.encoding.clip_l2.is_some() {
            let fix = "remove the key, or use max_l2 to reject longer updates";
            self.fail("encoding.clip_l2", "has no effect without masking or privacy", fix);
        }
        if raw.privacy.is_some() {
            self.fail("privacy", "differential privacy is not in this version", "remove the section");
        }
    }

    /// A `reference` client takes a seat of its own.
    fn cohort(&mut self, raw: &RawCohort, rule: Option<&dyn Rule>, reference: bool) -> Option<Cohort> {
        let mut good = self.range("cohort.size", raw.size as f64, 1.0, limits::COHORT as f64);
        good &= self.range("cohort.over_selection", raw.over_selection, 1.0, 10.0);
        good &= self.range("cohort.phase_limit_s", raw.phase_limit_s, 0.05, PHASE_LIMIT_S);
        good &= self.range("cohort.gather_s", raw.gather_s, 0.0, PHASE_LIMIT_S);
        if !good {
            return None;
        }
        let size = raw.size as usize;
        let selected = selected(raw.size, raw.over_selection);
        let extra = usize::from(reference);
        let least = rule.map_or(1, |rule| rule.min_rows()).saturating_add(extra);
        if size < least {
            let fix = format!("raise cohort.size to at least {least}, or declare fewer byzantine rows");
            self.fail("cohort.size", format!("{size} clients, but the rule needs at least {least} rows"), fix);
            return None;
        }
        if selected > limits::COHORT {
            let what = format!("selects {selected} clients, more than the limit of {}", limits::COHORT);
            self.fail("cohort.over_selection", what, "lower it or the cohort's size");
            return None;
        }
        // A round may close with any number from its size to all selected: a twin of the last one may be under way.
        for rows in [size, selected] {
            if let Some(Err(error)) = rule.map(|rule| rule.check(rows.saturating_sub(extra))) {
                self.fail("cohort.size", error.to_string(), "choose fewer clients, or a rule without pair distances");
                return None;
            }
        }
        let minimum = raw.minimum.map_or(least.max(size.div_ceil(2)), |minimum| minimum as usize);
        if minimum < least || minimum > size || minimum == 0 {
            let what = format!("must be from {} (what the rule needs) to the cohort's size, {size}", least.max(1));
            self.fail("cohort.minimum", what, format!("write a value from {} to {size}", least.max(1)));
            return None;
        }
        let milliseconds = |seconds: f64| (seconds * 1000.0).round() as u64;
        let (phase_limit_ms, gather_ms) = (milliseconds(raw.phase_limit_s), milliseconds(raw.gather_s));
        Some(Cohort { size, selected, minimum, phase_limit_ms, gather_ms })
    }

    fn examples(&mut self, raw: &RawExamples, rule: Option<&dyn Rule>) -> Examples {
        let weights = rule.is_none_or(|rule| rule.uses_weights());
        if raw.weighted == Some(true) && rule.is_some_and(|rule| !rule.accepts_weights()) {
            let what = "this rule takes every row alike, so claimed examples cannot weigh them";
            self.fail("examples.weighted", what, "write weighted = false or remove the key");
        }
        let weighted = raw.weighted.unwrap_or(weights);
        if let Some(max) = raw.max {
            self.range("examples.max", max as f64, 1.0, limits::CLAIMED_EXAMPLES as f64);
        }
        Examples { max: raw.max.unwrap_or(MAX_EXAMPLES), weighted }
    }
}

/// Clients selected: size times over-selection, rounded up.
fn selected(size: u64, over_selection: f64) -> usize {
    (size as f64 * over_selection).ceil() as usize
}

#[cfg(test)]
mod tests;
