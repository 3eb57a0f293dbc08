//! The checks on a `task.toml`, section by section.

use super::{
    Cohort, Examples, Fewer,
    raw::{RawCohort, RawExamples, RawReference, RawTask},
};
use crate::{
    document::{Document, Problem, nearest},
    part::{Granularity, Policy, TensorPolicy},
};
use testudo_aggregate::{Rule, RuleConfig, RuleSpec, Sampled};
use testudo_protocol::{ClientId, Encoding, TaskName, UnknownEncoding, limits};

/// Most rounds of one task.
pub(super) const ROUNDS: u64 = 1_000_000;
/// Longest phase limit and gathering time, seconds (7 days).
const PHASE_LIMIT_S: f64 = 604_800.0;
/// Default cap of claimed examples.
pub(super) const MAX_EXAMPLES: u64 = 10_000;

/// Fewest rows for a release: those of the rule as it is, or with a lower number of byzantine clients.
fn least_rows(rule: &RuleConfig, fewer: Fewer) -> usize {
    let needed = rule.min_rows();
    match fewer {
        Fewer::Abandon => needed,
        Fewer::LowerByzantine => (1..needed.min(limits::COHORT)).find(|&rows| rule.fit(rows).is_ok()).unwrap_or(needed),
    }
}

/// Gathers problems section by section.
pub(super) struct Check<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) list: Vec<Problem>,
}

impl Check<'_> {
    pub(super) fn fail(&mut self, key: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.list.push(self.document.problem(key, what, fix));
    }

    pub(super) fn range(&mut self, key: &str, value: f64, least: f64, most: f64) -> bool {
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

    pub(super) fn name(&mut self, text: &str) -> Option<TaskName> {
        TaskName::new(text)
            .map_err(|error| self.fail("name", error.to_string(), "for example name = \"keyboard\""))
            .ok()
    }

    /// Reads a `kind = "…"` table. Its own messages read "what; fix" and quote the key.
    pub(super) fn table<T: serde::de::DeserializeOwned>(&mut self, section: &str, table: &toml::Table) -> Option<T> {
        match T::deserialize(table.clone()) {
            Ok(value) => Some(value),
            Err(error) => self.refused(section, table, error.message()),
        }
    }

    /// Places a message about a `kind = "…"` table at its key.
    pub(super) fn refused<T>(&mut self, section: &str, table: &toml::Table, error: &str) -> Option<T> {
        let quoted = error.split('`').skip(1).step_by(2).next().unwrap_or_default();
        let inside = |key: &str| table.get(key).and_then(toml::Value::as_table).is_some_and(|t| t.contains_key(quoted));
        let key = match quoted {
            key if table.contains_key(key) => key.to_string(),
            _ if (error.starts_with("pre ") || error.contains("pre kind")) && table.contains_key("pre") => "pre".into(),
            key if inside("byzantine") => format!("byzantine.{key}"),
            "fraction" | "risk" | "population" if table.contains_key("byzantine") => "byzantine".into(),
            _ => "kind".into(),
        };
        let first = key.split('.').next().unwrap_or_default();
        let path = if table.contains_key(first) { format!("{section}.{key}") } else { section.to_string() };
        let similar = table.keys().find(|key| key.as_str() != quoted && strsim::jaro_winkler(key, quoted) > 0.8);
        if let (true, Some(written)) = (error.contains("` is missing"), similar) {
            let what = format!("unknown key `{written}`");
            return self.fail_none(&format!("{section}.{written}"), what, format!("did you mean `{quoted}`?"));
        }
        let (what, fix) = error.split_once("; ").unwrap_or((error, "see `testudo init` for a commented sample"));
        let mut fix = fix.to_string();
        let names = ["it takes ", "expected one of "].iter().find_map(|start| fix.strip_prefix(start));
        if error.contains("unknown ")
            && let Some(known) = names.and_then(|names| nearest(quoted, names.split(", ")))
        {
            fix = format!("did you mean `{known}`? {fix}");
        }
        if section == "rule" && quoted == "byzantine" && (error.contains("` is missing") || error.contains("` is ")) {
            fix = format!("{fix}; or a share of bad clients: byzantine = {{ fraction = 0.1, risk = 1e-6 }}");
        }
        self.fail_none(&path, what, fix)
    }

    pub(super) fn fail_none<T>(&mut self, key: &str, what: impl Into<String>, fix: impl Into<String>) -> Option<T> {
        self.fail(key, what, fix);
        None
    }

    /// The rule for the largest cohort there may be: an over-selected one may hold more bad clients. Under masking it
    /// sees one row per `per_row` clients.
    pub(super) fn rule(&mut self, raw: &RawTask, per_row: usize) -> (Option<RuleConfig>, Option<Sampled>, Granularity) {
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
        let selected = selected(raw.cohort.size, raw.cohort.over_selection).clamp(1, limits::COHORT);
        let sampled = spec.sampled();
        let resolved = match sampled {
            Some(sampled) if per_row > 1 => {
                let Some(rows) = self.spoiled_rows(raw, sampled, per_row) else { return (None, None, granularity) };
                table.insert("byzantine".into(), toml::Value::Integer(rows as i64));
                self.table::<RuleSpec>("rule", &table).map(|spec| spec.resolve(selected / per_row))
            }
            _ => Some(spec.resolve((selected / per_row).max(1))),
        };
        match resolved {
            Some(Ok(config)) => (Some(config), sampled, granularity),
            Some(Err(error)) => (self.refused("rule", &table, &error.to_string()), None, granularity),
            None => (None, None, granularity),
        }
    }

    pub(super) fn reference(&mut self, raw: Option<&RawReference>, rule: Option<&dyn Rule>) -> Option<ClientId> {
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

    pub(super) fn tensors(&mut self, table: &toml::Table) -> Vec<TensorPolicy> {
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

    pub(super) fn encodings(&mut self, words: &[String]) -> Vec<Encoding> {
        let mut all = std::collections::BTreeSet::from([Encoding::F32]);
        for word in words {
            match word.parse() {
                Ok(encoding) => {
                    all.insert(encoding);
                }
                Err(error) => {
                    let error: UnknownEncoding = error;
                    self.fail("encoding.accept", error.to_string(), "for example accept = [\"f16\", \"int8\"]");
                }
            }
        }
        all.into_iter().collect()
    }

    /// A `reference` client takes a seat of its own. Under masking the rule sees one row per `per_row` clients.
    pub(super) fn cohort(
        &mut self,
        raw: &RawCohort,
        rule: Option<&RuleConfig>,
        reference: bool,
        per_row: usize,
        fewer: Option<Fewer>,
    ) -> Option<Cohort> {
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
        if reference && selected > size {
            let what = "with a reference client every selected client is waited for: a round without it means nothing";
            self.fail("cohort.over_selection", what, "write over_selection = 1 or remove the key");
            return None;
        }
        let fewer = fewer?;
        let needed = rule.map_or(1, |rule| least_rows(rule, fewer)).saturating_add(extra);
        let least = needed.saturating_mul(per_row);
        if size < least {
            let groups = if per_row > 1 { format!(" make {} groups", size / per_row) } else { String::new() };
            let smaller = if per_row > 1 { ", lower group_size" } else { "" };
            let fix = format!("raise cohort.size to at least {least}{smaller}, or declare fewer byzantine rows");
            self.fail("cohort.size", format!("{size} clients{groups}, but the rule needs at least {needed} rows"), fix);
            return None;
        }
        if selected > limits::COHORT {
            let what = format!("selects {selected} clients, more than the limit of {}", limits::COHORT);
            self.fail("cohort.over_selection", what, "lower it or the cohort's size");
            return None;
        }
        // A round may close with any number from its size to all selected: a twin of the last one may be under way.
        for rows in [size, selected] {
            if let Some(Err(error)) = rule.map(|rule| rule.check((rows / per_row).saturating_sub(extra))) {
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
        Some(Cohort { size, selected, minimum, sample: None, fewer, phase_limit_ms, gather_ms })
    }

    /// What a round does with fewer updates than its rule needs; `sized` if groups or noise are made for the rule.
    pub(super) fn fewer(&mut self, raw: &RawCohort, sized: bool) -> Option<Fewer> {
        match raw.fewer.as_str() {
            "abandon" => Some(Fewer::Abandon),
            _ if sized => {
                let what = "groups and noise are sized for the rule as it is declared";
                self.fail_none("cohort.fewer", what, "write fewer = \"abandon\" or remove the key")
            }
            "lower_byzantine" => Some(Fewer::LowerByzantine),
            _ => self.fail_none("cohort.fewer", "is not known", "write \"abandon\" or \"lower_byzantine\""),
        }
    }

    pub(super) fn examples(&mut self, raw: &RawExamples, rule: Option<&dyn Rule>) -> Examples {
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
pub(super) fn selected(size: u64, over_selection: f64) -> usize {
    (size as f64 * over_selection).ceil() as usize
}
