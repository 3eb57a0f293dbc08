//! The checks on `[privacy]`, and what it does to other sections. Here are those that every trust model shares, and those of
//! the central one.

mod adaptive;
mod correlated;
mod distributed;
mod local;
mod sampled;

use super::{
    Cohort,
    check::Check,
    raw::{RawPrivacy, RawTask},
};
use crate::{
    part::{Granularity, Policy, TensorPolicy},
    privacy::{Asked, GRID_BITS, Privacy},
};
use testudo_aggregate::{RuleConfig, RuleKind};
use testudo_privacy::{
    ParameterError,
    budget::{check_delta, default_delta},
    sensitivity::{ALTERNATIVES, Adjacency, Combination, Refusal},
};

/// Longest name of a population, bytes.
const POPULATION_BYTES: usize = 128;
/// A δ below this is below one over any population: there are not as many devices.
const BELOW_ANY_POPULATION: f64 = 1e-10;
/// Most releases that a plan holds.
const MOST_ROUNDS: u64 = u32::MAX as u64;

/// Who adds the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The server, which sees updates.
    Central,
    /// Every client, to its own update.
    Local,
    /// Every client a share, under masks.
    Distributed,
}

impl Check<'_> {
    /// Who is trusted with what.
    pub(super) fn trust(&mut self, asked: &RawPrivacy) -> Option<Trust> {
        match asked.trust.as_str() {
            "central" => Some(Trust::Central),
            "local" => Some(Trust::Local),
            "distributed" => Some(Trust::Distributed),
            _ => {
                let fix = "write trust = \"central\" (the server sees updates and adds the noise), \"distributed\" (clients add \
                           shares of it under masks) or \"local\" (every client noises its own update)";
                self.fail_none("privacy.trust", "is not a trust model", fix)
            }
        }
    }

    /// Everything about `[privacy]` where the server adds the noise; the rule and the cohort have passed their own checks.
    pub(super) fn privacy(
        &mut self,
        raw: &RawTask,
        asked: &RawPrivacy,
        (rule, granularity): (Option<&RuleConfig>, Granularity),
        cohort: Option<&Cohort>,
        tensors: &[TensorPolicy],
    ) -> Option<Privacy> {
        let before = self.list.len();
        self.not_beside_privacy(raw, granularity, tensors);
        self.only_shares(asked);
        let release_step_ms = self.release_step(raw, asked);
        let is_correlated = matches!(asked.mechanism.as_str(), "tree" | "matrix");
        if !is_correlated {
            self.independent(asked);
        }
        let grid_bits = self.noise(raw, asked);
        let adjacency = self.adjacency(asked.adjacency.as_deref().unwrap_or("zero_out"));
        let delta = cohort.and_then(|cohort| self.delta(asked, cohort));
        let clip = self.private_clip(raw);
        let (rule, cohort, adjacency, delta, clip) = (rule?, cohort?, adjacency?, delta?, clip?);
        let combination = self.combination(asked, rule, cohort, clip)?;
        let adaptive = self.adaptive_clip(asked, rule);
        let correlated = if is_correlated { self.run(raw.rounds, asked, rule, cohort) } else { None };
        if self.list.len() > before {
            return None;
        }
        let asked = Asked {
            population: asked.population.clone(),
            budget_epsilon: asked.budget_epsilon,
            delta,
            noise_multiplier: asked.noise_multiplier,
            adjacency,
            clip,
            adaptive,
            correlated,
            sampled: cohort.sample.map(|sample| (sample, raw.rounds)),
            release_step_ms,
            grid_bits,
            combination,
            clients: asked.clients,
            rows: cohort.size,
            most_rows: cohort.selected,
        };
        match Privacy::new(asked) {
            Ok(privacy) => self.amplified(raw, privacy),
            Err(refusal) => self.unproved(refusal),
        }
    }

    /// Keys that only shares of noise give a meaning.
    fn only_shares(&mut self, asked: &RawPrivacy) {
        if asked.honest.is_some() {
            let what = "has no effect: only shares of noise are counted from honest survivors";
            self.fail("privacy.honest", what, "remove the key, or write trust = \"distributed\"");
        }
    }

    /// Every round has noise of its own.
    fn independent(&mut self, asked: &RawPrivacy) {
        if asked.mechanism != "gaussian" {
            let fix = match asked.trust.as_str() {
                "local" | "distributed" => "write mechanism = \"gaussian\"",
                _ => "write mechanism = \"gaussian\", or \"tree\" or \"matrix\" for correlated noise",
            };
            self.fail("privacy.mechanism", mechanism_is_missing(&asked.mechanism), fix);
        }
        self.no_run(asked);
    }

    /// What clients that add the noise have in common. Answers `grid_bits`.
    fn gaussian(&mut self, raw: &RawTask, asked: &RawPrivacy) -> u32 {
        self.independent(asked);
        self.only_choice("sampling", &asked.sampling, "none", sampled::ELSEWHERE);
        self.only_sampled(asked);
        if asked.release_step_s.is_some() {
            let what = "has no effect: clients add the noise, and nobody sees how long the server's took";
            self.fail("privacy.release_step_s", what, "remove the key, or write trust = \"central\"");
        }
        if asked.adaptive_clip.is_some() {
            let what = "has no effect: nobody sees which updates are within the clip";
            self.fail("privacy.adaptive_clip", what, "remove the key, or write trust = \"central\"");
        }
        self.noise(raw, asked)
    }

    /// The keys of `[privacy]` that mean the same whoever adds the noise. Answers `grid_bits`.
    fn noise(&mut self, raw: &RawTask, asked: &RawPrivacy) -> u32 {
        self.only_choice("sampler", &asked.sampler, "grid", "the running task draws with the grid sampler alone");
        self.population(&asked.population);
        self.range("privacy.noise_multiplier", asked.noise_multiplier, 1e-6, 1e9);
        self.range("privacy.budget_epsilon", asked.budget_epsilon, 1e-6, 1e6);
        let grid_bits = asked.grid_bits.unwrap_or(u64::from(GRID_BITS));
        self.range("privacy.grid_bits", grid_bits as f64, 1.0, 31.0);
        if raw.rounds > MOST_ROUNDS {
            self.fail("rounds", "is more than a budget plans for", format!("write at most {MOST_ROUNDS}"));
        }
        grid_bits as u32
    }

    /// Keys and choices of other sections that have no proof, or no meaning, beside noise.
    fn not_beside_privacy(&mut self, raw: &RawTask, granularity: Granularity, tensors: &[TensorPolicy]) {
        if super::masked::asked(raw) {
            let what = "masked updates are summed before the server could clip and noise them";
            let fix = "write trust = \"distributed\": clients add shares of the noise; or masking = \"none\": the server sees the \
                       updates and adds it";
            self.fail("visibility.masking", what, fix);
        }
        if raw.encoding.max_l2.is_some() {
            let what = "would refuse an update for its norm, and who is refused is released without noise";
            self.fail("encoding.max_l2", what, "remove the key: clip_l2 scales longer updates down");
        }
        if !raw.encoding.accept.is_empty() {
            let what =
                "an encoded update can be refused for what is in it, and who is refused is released without noise";
            self.fail("encoding.accept", what, "remove the key: updates come as f32");
        }
        if raw.examples.weighted == Some(true) {
            let what = "weights that clients claim move a mean by up to 2C whatever the noise was sized for";
            self.fail(
                "examples.weighted",
                what,
                "write weighted = false or remove the key: every update weighs the same",
            );
        }
        if granularity == Granularity::Layer {
            let what = "the clip bounds the whole update, not one tensor";
            self.fail("rule.granularity", what, "write granularity = \"model\" or remove the key");
        }
        for tensor in tensors.iter().filter(|tensor| matches!(tensor.policy, Policy::Stats | Policy::Counter)) {
            let what = "a median of statistics or counts is released without noise: its sensitivity does not fall with the \
                        number of clients";
            self.fail(
                &format!("tensors.{}", tensor.pattern),
                what,
                "write \"ignore\", or \"robust\" to noise it as well",
            );
        }
    }

    fn only_choice(&mut self, key: &str, written: &str, only: &str, why_not: &str) {
        if written != only {
            self.fail(&format!("privacy.{key}"), why_not, format!("write {key} = \"{only}\""));
        }
    }

    fn adjacency(&mut self, word: &str) -> Option<Adjacency> {
        match word {
            "zero_out" => Some(Adjacency::ZeroOut),
            "replace_one" => Some(Adjacency::ReplaceOne),
            "add_or_remove" => {
                let what = "needs a cohort whose size is secret or noised, and rounds show how many updates they got";
                self.fail_none("privacy.adjacency", what, "write adjacency = \"zero_out\" or \"replace_one\"")
            }
            _ => {
                let fix = "write adjacency = \"zero_out\" (the default) or \"replace_one\"";
                self.fail_none("privacy.adjacency", "is not an adjacency", fix)
            }
        }
    }

    fn population(&mut self, name: &str) {
        if name.is_empty() || name.len() > POPULATION_BYTES || name.chars().any(char::is_control) {
            let what = format!("is not a name of 1 to {POPULATION_BYTES} bytes without control characters");
            self.fail("privacy.population", what, "name the clients whose budget pays, for example \"phones\"");
        }
    }

    /// δ as given, or N^−1.1 for the population's number of clients; below one over it in any case.
    fn delta(&mut self, asked: &RawPrivacy, cohort: &Cohort) -> Option<f64> {
        let selected = cohort.selected as u64;
        if let Some(clients) = asked.clients.filter(|clients| *clients < selected) {
            let what = format!("{clients} clients are fewer than one cohort, {selected}");
            return self.fail_none("privacy.clients", what, "write the number of clients in the population");
        }
        let delta = match (asked.delta, asked.clients) {
            (Some(delta), None) if delta >= BELOW_ANY_POPULATION => {
                let what =
                    format!("is missing: whether delta = {delta:e} is below one over the population cannot be told");
                let fix = "add clients, the number of clients in the population; delta then follows from it where it is left out";
                return self.fail_none("privacy.clients", what, fix);
            }
            (Some(delta), _) => delta,
            (None, Some(clients)) => default_delta(clients),
            (None, None) => {
                let fix =
                    "add clients, the number of clients in the population, and delta if it should not follow from it";
                return self.fail_none("privacy.delta", "is missing: ε means nothing without it", fix);
            }
        };
        let clients = asked.clients.unwrap_or(selected);
        match check_delta(delta, clients) {
            Ok(_) if delta >= 1e-100 => Some(delta),
            Ok(_) => self.fail_none("privacy.delta", "is below 1e-100", "write a larger one"),
            Err(error) => {
                let what = format!(
                    "{delta} is one over the population of {clients} clients or more: it would permit to \
                                    publish one client's data"
                );
                self.fail_none("privacy.delta", what, error.fix)
            }
        }
    }

    fn private_clip(&mut self, raw: &RawTask) -> Option<f64> {
        let fix = "write the L2 norm of a typical honest update, for example clip_l2 = 1.0";
        match raw.encoding.clip_l2 {
            None => {
                let what = "is missing: the noise is sized for updates that are clipped to it";
                self.fail_none("encoding.clip_l2", what, fix)
            }
            Some(clip) if (1e-30..=1e30).contains(&clip) => Some(clip),
            Some(clip) => self.fail_none("encoding.clip_l2", format!("{clip} is outside 1e-30 to 1e30"), fix),
        }
    }

    /// The rule as far as its sensitivity is proved.
    fn combination(
        &mut self,
        asked: &RawPrivacy,
        rule: &RuleConfig,
        cohort: &Cohort,
        clip: f64,
    ) -> Option<Combination> {
        let is_selecting = matches!(rule.kernel(), RuleKind::MultiKrum(_));
        if asked.accept_large_sensitivity && !is_selecting {
            let what = "has no effect: only multi_krum has a sensitivity to accept";
            self.fail("privacy.accept_large_sensitivity", what, "remove the key");
        }
        if let Some(pre) = rule.pre().first() {
            return self.unproved(unbounded(pre.kind()));
        }
        let is_mean = matches!(rule.kernel(), RuleKind::Mean(_));
        if cohort.selected > cohort.size && cohort.sample.is_none() && !is_mean {
            let what = format!("the number of rows is part of {}'s proof and must be fixed beforehand", rule.kind());
            self.fail("cohort.over_selection", what, "write over_selection = 1 or remove the key");
        }
        match rule.kernel() {
            RuleKind::Mean(_) => Some(Combination::ClippedSum),
            RuleKind::TrimmedMean(trimmed) => {
                Some(Combination::TrimmedMean { cut: trimmed.cut.of(cohort.size) as u64 })
            }
            RuleKind::CenteredClipping(centred) => {
                if centred.steps != 1 {
                    let what = "after the first step the centre depends on the updates and is not public";
                    self.fail("rule.steps", what, "write steps = 1");
                }
                if centred.radius != clip {
                    let what = format!(
                        "{} is not encoding.clip_l2, {clip}: the radius is what bounds a client",
                        centred.radius
                    );
                    self.fail("rule.radius", what, format!("write radius = {clip}"));
                }
                Some(Combination::CentredClipping { radius: centred.radius })
            }
            RuleKind::MultiKrum(krum) => {
                let selected = krum.select.unwrap_or(cohort.size.saturating_sub(krum.byzantine)) as u64;
                let accept_large_sensitivity = asked.accept_large_sensitivity;
                Some(Combination::MultiKrum { selected, accept_large_sensitivity })
            }
            _ => self.unproved(unbounded(rule.kind())),
        }
    }

    /// A refusal at the key it is about.
    fn unproved<T>(&mut self, refusal: Refusal) -> Option<T> {
        match refusal {
            Refusal::Unbounded { kind, why } => {
                let is_pre = matches!(kind, "nnm" | "arc" | "bucketing" | "clip");
                let key = if is_pre { "rule.pre" } else { "rule.kind" };
                let fix = match kind {
                    "multi_krum" => {
                        "write accept_large_sensitivity = true in [privacy], or choose mean or trimmed_mean".into()
                    }
                    _ if is_pre => format!("remove {kind} from pre. {ALTERNATIVES}"),
                    _ => ALTERNATIVES.to_string(),
                };
                self.fail_none(key, format!("{kind} cannot be used with [privacy]: {why}"), fix)
            }
            Refusal::Parameter(error) => self.unfit(error),
        }
    }

    /// A parameter that does not fit the others, at its key.
    fn unfit<T>(&mut self, ParameterError { key, value, fix }: ParameterError) -> Option<T> {
        let path = match key {
            "clip_l2" => "encoding.clip_l2",
            "grid_bits" => "privacy.grid_bits",
            "byzantine" => "rule.byzantine",
            "selected" => "rule.select",
            "cohort" | "rows" => "cohort.size",
            "rounds" => "rounds",
            "max_participation" => "privacy.participations",
            "min_separation" => "privacy.separation",
            "bands" => "privacy.bands",
            "coefficients" => "privacy.coefficients",
            "clip_min" => "privacy.adaptive_clip.min",
            "clip_max" => "privacy.adaptive_clip.max",
            "clip_count_stddev" => "privacy.adaptive_clip.bits_noise",
            _ => "privacy.noise_multiplier",
        };
        self.fail_none(path, format!("{value} does not fit the other figures"), fix)
    }
}

/// What the sensitivity of a rule without one says.
fn unbounded(kind: &'static str) -> Refusal {
    match (Combination::Other { kind }).on_grid(1, 1, Adjacency::ZeroOut) {
        Err(refusal) => refusal,
        Ok(_) => Refusal::Unbounded { kind, why: "no sensitivity is proved for it" },
    }
}

/// Why another mechanism is refused.
fn mechanism_is_missing(word: &str) -> &'static str {
    match word {
        "dp_ftrl" | "banded" | "toeplitz" => {
            "is not a mechanism's name: correlated noise is \"tree\", or \"matrix\" with bands or coefficients"
        }
        "local" => "is a trust model: write trust = \"local\" beside it",
        "distributed" => "is a trust model: write trust = \"distributed\" beside it",
        "discrete_gaussian" => "is what the clients draw under trust = \"distributed\"",
        "skellam" => "Skellam shares are not in this version",
        "tree" | "matrix" => "is noise of the server's: it needs trust = \"central\"",
        "laplace" => "Laplace noise is for single numbers, not for updates",
        _ => "is not a mechanism",
    }
}
