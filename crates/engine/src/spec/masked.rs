//! The checks on pairwise masking: `[visibility]`, the quantiser in `[encoding]`, and what masking does to other sections.

use super::{
    Cohort, Examples, TaskSpec,
    check::{Check, MAX_EXAMPLES},
    raw::{RawTask, RawVisibility},
};
use crate::{
    document::Problem,
    guarantees::{self, Weakness, spoiled_rows_at_risk},
    masking::{Assumed, COMPLETE_GROUP, Masking},
    part::{Policy, TensorPolicy},
};
use testudo_aggregate::{Rule, Sampled};
use testudo_protocol::{
    limits,
    secagg::{NEIGHBOURS, VerifyingKey},
};

/// Longest step, seconds (a day).
const STEP_LIMIT_S: f64 = 86_400.0;
/// Default of `step_limit_s`.
const DEFAULT_STEP_LIMIT_S: f64 = 60.0;
/// Default of `colluders` and of `dropout`.
const DEFAULT_SHARE: f64 = 0.05;
/// Largest declared share of colluders or of dropouts: beyond, nothing is feasible.
const MOST: f64 = 0.9;
/// Default of `bits`.
const DEFAULT_BITS: u64 = 16;
/// Most bits: f32 updates and the rounding's random numbers have 24.
const MOST_BITS: u64 = 24;
/// Largest `clip_l2`: sums of squares of f32 stay finite in f64.
const MOST_CLIP: f64 = 1e30;
/// Longest `accept_weak_guarantee`, characters.
const REASON: usize = 200;
/// One whole of a ring: sums are taken modulo 2^32.
const RING: u64 = 1 << 32;

/// Whether the task asks for masking.
pub(super) fn asked(raw: &RawTask) -> bool {
    raw.visibility.masking == "pairwise"
}

impl Check<'_> {
    /// Keys that only masking gives a meaning.
    pub(super) fn clear_mode(&mut self, raw: &RawTask) {
        let visibility = &raw.visibility;
        if visibility.masking != "none" {
            self.fail("visibility.masking", "is not a masking", "write masking = \"pairwise\" or \"none\"");
        }
        if visibility.group_size.is_some_and(|size| size != 1) {
            let fix = "write masking = \"pairwise\", or remove the key";
            self.fail("visibility.group_size", "has no effect without masking: clients are grouped only under it", fix);
        }
        let idle = [
            ("visibility.threshold", visibility.threshold.is_some()),
            ("visibility.step_limit_s", visibility.step_limit_s.is_some()),
            ("visibility.colluders", visibility.colluders.is_some()),
            ("visibility.byzantine", visibility.byzantine.is_some()),
            ("visibility.dropout", visibility.dropout.is_some()),
            ("visibility.authority", visibility.authority.is_some()),
            ("visibility.accept_weak_guarantee", visibility.accept_weak_guarantee.is_some()),
            ("encoding.kappa", raw.encoding.kappa.is_some()),
            ("encoding.bits", raw.encoding.bits.is_some()),
        ];
        for (key, _) in idle.into_iter().filter(|(_, given)| *given) {
            self.fail(key, "has no effect without masking", "remove the key, or write masking = \"pairwise\"");
        }
        if raw.encoding.clip_l2.is_some() && raw.privacy.is_none() {
            let fix = "remove the key, or use max_l2 to reject longer updates";
            self.fail("encoding.clip_l2", "has no effect without masking or privacy", fix);
        }
    }

    /// Clients per row: 1 in clear mode, and where the group size is refused.
    pub(super) fn clients_per_row(&mut self, raw: &RawTask) -> usize {
        if !asked(raw) {
            return 1;
        }
        let Some(size) = raw.visibility.group_size else {
            let fix = "add group_size, for example group_size = 16";
            self.fail("visibility.group_size", "is missing: pairwise masking sums the updates of a group", fix);
            return 1;
        };
        let most = raw.cohort.size.min(limits::COHORT as u64);
        if size < 2 || size > most {
            let what = format!("must be from 2 (one client alone hides nothing) to the cohort's size, {most}");
            let fix = match most {
                0 | 1 => "raise cohort.size".to_string(),
                _ => format!("write a value from {} to {most}", 8.min(most)),
            };
            self.fail("visibility.group_size", what, fix);
            return 1;
        }
        size as usize
    }

    /// Rules that tell clients apart, which masking prevents.
    pub(super) fn rule_over_groups(&mut self, kind: &str, rule: &dyn Rule) {
        let extras = rule.needs().extras;
        let why = match () {
            () if extras.reference => "compares every row with one trusted client's update, which masking hides",
            () if extras.history => "keeps the sum of every client's updates, which masking hides",
            () if kind == "monna" => "trusts one row by its number, but a row is a random group under masking",
            () => return,
        };
        let fix = "choose a rule over rows that are all alike, for example trimmed_mean, or write masking = \"none\"";
        self.fail("rule.kind", format!("{kind} {why}"), fix);
    }

    /// The bad rows that a declared share of bad clients makes, for the largest cohort.
    pub(super) fn spoiled_rows(&mut self, raw: &RawTask, sampled: Sampled, group_size: usize) -> Option<usize> {
        let selected = super::check::selected(raw.cohort.size, raw.cohort.over_selection).clamp(1, limits::COHORT);
        if sampled.population.is_some_and(|population| population < selected) {
            let what = format!("`population` is smaller than a cohort, {selected} clients");
            return self.fail_none("rule.byzantine", what, "write the number of clients in the population");
        }
        let at_least = |size: usize| {
            let least = raw.cohort.minimum.unwrap_or(raw.cohort.size.div_ceil(2)) as usize;
            Masking::largest_group(size, least.clamp(size, selected.max(size)), selected)
        };
        let spoiled = |size: usize| spoiled_rows_at_risk(&sampled, selected, selected / size, at_least(size));
        let (rows, byzantine) = (selected / group_size, spoiled(group_size));
        if 2 * byzantine < rows {
            return Some(byzantine);
        }
        let smaller = (2..group_size).rev().find(|&size| 2 * spoiled(size) < selected / size);
        let fix = match smaller {
            Some(size) if size < 8 => format!(
                "declare a smaller share, or write group_size = {size} or less and accept_weak_guarantee, as so few hide \
                 little"
            ),
            Some(size) => format!("write group_size = {size} or less, or declare a smaller share"),
            None => "declare a smaller share or a higher risk: no group size would do".to_string(),
        };
        let what = format!(
            "{} % bad clients spoil up to {byzantine} of {rows} groups of {group_size} at a risk of {}, half of them or \
             more",
            sampled.fraction * 100.0,
            sampled.risk
        );
        self.fail_none("rule.byzantine", what, fix)
    }

    /// Everything about masking that does not need the guarantees' numbers.
    pub(super) fn masking(&mut self, raw: &RawTask, group_size: usize, cohort: Option<&Cohort>) -> Option<Masking> {
        let before = self.list.len();
        self.no_effect_under_masking(raw);
        let visibility = &raw.visibility;
        let largest = cohort.map(|cohort| Masking::largest_group(group_size, cohort.minimum, cohort.selected));
        let threshold = self.threshold(visibility, group_size, largest.unwrap_or(group_size));
        let (clip_l2, kappa) = self.clip(raw);
        let bits = self.bits(raw, largest.unwrap_or(group_size));
        let step_limit_s = visibility.step_limit_s.unwrap_or(DEFAULT_STEP_LIMIT_S);
        self.range("visibility.step_limit_s", step_limit_s, 0.05, STEP_LIMIT_S);
        let (colluders, dropout) =
            (visibility.colluders.unwrap_or(DEFAULT_SHARE), visibility.dropout.unwrap_or(DEFAULT_SHARE));
        self.range("visibility.colluders", colluders, 0.0, MOST);
        self.range("visibility.dropout", dropout, 0.0, MOST);
        self.byzantine(raw);
        let authority = visibility.authority.as_deref().and_then(|text| self.authority(text));
        let accept_weak_guarantee = visibility.accept_weak_guarantee.as_deref().and_then(|text| self.reason(text));
        let masking = Masking {
            group_size,
            threshold,
            clip_l2,
            kappa,
            bits,
            max_weight: None,
            step_limit_ms: (step_limit_s * 1000.0).round() as u64,
            assumed: Assumed { colluders, byzantine: visibility.byzantine, dropout },
            authority,
            accept_weak_guarantee,
        };
        if self.list.len() == before {
            self.graphs(&masking, largest.unwrap_or(group_size));
        }
        (self.list.len() == before).then_some(masking)
    }

    /// Whether the smallest and the largest group have a graph at all. No override helps a round that cannot be drawn.
    fn graphs(&mut self, masking: &Masking, largest: usize) {
        for size in [masking.group_size, largest] {
            let what = match masking.group(size) {
                Ok(group) if group.is_complete() || group.degree <= NEIGHBOURS => continue,
                Ok(group) => format!(
                    "a group of {size} clients needs {} neighbours each at the declared colluders and dropouts, more than \
                     the {NEIGHBOURS} whose shares fit one message",
                    group.degree
                ),
                Err(error) => format!("a group of {size} clients: {error}"),
            };
            let fix =
                format!("declare fewer colluders or dropouts, or lower group_size; up to {COMPLETE_GROUP} always work");
            return self.fail("visibility.group_size", what, fix);
        }
    }

    /// Under masking all clients weigh the same unless weights are asked for: they take a masked coordinate.
    pub(super) fn examples_under_masking(&mut self, raw: &RawTask, rule: Option<&dyn Rule>, bits: u32) -> Examples {
        let examples = &raw.examples;
        let weighted = examples.weighted.unwrap_or(false);
        if weighted && rule.is_some_and(|rule| !rule.accepts_weights()) {
            let what = "this rule takes every row alike, so claimed examples cannot weigh them";
            self.fail("examples.weighted", what, "write weighted = false or remove the key");
        }
        let max = examples.max.unwrap_or(MAX_EXAMPLES);
        if examples.max.is_some() {
            self.range("examples.max", max as f64, 1.0, limits::CLAIMED_EXAMPLES as f64);
        }
        if !weighted && examples.max.is_some() {
            let fix = "remove the key, or write weighted = true";
            self.fail("examples.max", "has no effect under masking while every update weighs the same", fix);
        }
        let most = (1u64 << bits) - 1;
        if weighted && max > most {
            let key = if examples.max.is_some() { "examples.max" } else { "examples.weighted" };
            let what = format!("weights up to {max} in {bits} bits: the smallest would round to nothing");
            self.fail(key, what, format!("write max = {most} or less, or raise encoding.bits"));
        }
        Examples { max, weighted }
    }

    /// A count does not survive clipping together with the parameters, nor rounding.
    pub(super) fn tensors_under_masking(&mut self, tensors: &[TensorPolicy]) {
        for tensor in tensors.iter().filter(|tensor| tensor.policy == Policy::Counter) {
            let what = "a count would use up the update's clip and be rounded: counters do not work under masking";
            let fix = "write \"ignore\"; the count stays as it is";
            self.fail(&format!("tensors.{}", tensor.pattern), what, fix);
        }
    }

    /// What is infeasible and not accepted, and an acceptance of nothing.
    pub(super) fn weak_guarantee(&self, spec: &TaskSpec, minimum: Option<usize>) -> Vec<Problem> {
        let Some(masking) = &spec.masking else { return Vec::new() };
        let found = guarantees::infeasible(spec);
        match (&masking.accept_weak_guarantee, found.is_empty()) {
            (Some(_), false) | (None, true) => Vec::new(),
            (Some(_), true) => {
                let what = "has no effect: nothing about this combination is weak";
                vec![self.document.problem("visibility.accept_weak_guarantee", what, "remove the key")]
            }
            (None, false) => {
                let fix = guarantees::suggestion(spec, masking, minimum, &found);
                found.into_iter().map(|weakness| self.infeasible(weakness, &fix)).collect()
            }
        }
    }

    /// At the key it is about, or at the group size where that key is left at its default.
    fn infeasible(&self, weakness: Weakness, fix: &str) -> Problem {
        let problem = self.document.problem(weakness.key, weakness.what.clone(), fix);
        if problem.line.is_some() {
            problem
        } else {
            self.document.problem("visibility.group_size", weakness.what, fix)
        }
    }

    fn no_effect_under_masking(&mut self, raw: &RawTask) {
        if raw.encoding.max_l2.is_some() {
            let what = "has no effect under masking: nobody sees one update's norm";
            self.fail("encoding.max_l2", what, "remove the key; clip_l2 is what clients clip to");
        }
        if !raw.encoding.accept.is_empty() {
            let what = "has no effect under masking: masked updates have an encoding of their own";
            self.fail("encoding.accept", what, "remove the key");
        }
    }

    fn threshold(&mut self, visibility: &RawVisibility, group_size: usize, largest: usize) -> Option<usize> {
        let threshold = visibility.threshold?;
        let key = "visibility.threshold";
        if largest > COMPLETE_GROUP {
            let what = format!(
                "groups may have {largest} clients, and above {COMPLETE_GROUP} the threshold follows from the declared \
                 colluders and dropouts"
            );
            return self.fail_none(key, what, "remove the key, or lower group_size");
        }
        let least = 2 * group_size / 3 + 1;
        if !(least as u64..=group_size as u64).contains(&threshold) {
            let what = format!(
                "must be from {least} to group_size, {group_size}: with less, two sets of clients could be asked for \
                 both secrets of one client"
            );
            return self.fail_none(key, what, format!("write a value from {least} to {group_size}, or remove the key"));
        }
        Some(threshold as usize)
    }

    fn clip(&mut self, raw: &RawTask) -> (f64, f64) {
        let Some(clip) = raw.encoding.clip_l2 else {
            let what = "is missing: masked updates are clipped, because nobody can reject a long one";
            self.fail("encoding.clip_l2", what, "add clip_l2, the L2 norm of a typical honest update");
            return (1.0, 1.0);
        };
        if !(clip.is_finite() && clip > 0.0 && clip <= MOST_CLIP) {
            let what = format!("is not a positive number up to {MOST_CLIP:e}");
            self.fail("encoding.clip_l2", what, "write the L2 norm of a typical honest update");
            return (1.0, 1.0);
        }
        let kappa = raw.encoding.kappa.unwrap_or(clip);
        if !(kappa > 0.0 && kappa <= clip) {
            let what =
                format!("must be above 0 and at most clip_l2, {clip}: no coordinate of a clipped update is longer");
            self.fail("encoding.kappa", what, format!("write a value up to {clip}, or remove the key"));
        }
        (clip, kappa)
    }

    fn bits(&mut self, raw: &RawTask, largest: usize) -> u32 {
        let bits = raw.encoding.bits.unwrap_or(DEFAULT_BITS);
        let fits = |bits: u64| (largest as u64).saturating_mul((1 << bits) - 1) < RING;
        if !(1..=MOST_BITS).contains(&bits) {
            self.fail("encoding.bits", format!("{bits} is outside 1 to {MOST_BITS}"), "write bits = 16");
            return DEFAULT_BITS as u32;
        }
        if !fits(bits) {
            let most = (1..bits).rev().find(|&bits| fits(bits)).unwrap_or(1);
            let key = if raw.encoding.bits.is_some() { "encoding.bits" } else { "visibility.group_size" };
            let what = format!("the sum of {largest} clients with {bits} bits each would not fit 32 bits");
            self.fail(key, what, format!("write bits = {most} or less, or lower group_size"));
        }
        bits as u32
    }

    fn byzantine(&mut self, raw: &RawTask) {
        let Some(byzantine) = raw.visibility.byzantine else { return };
        let key = "visibility.byzantine";
        if raw.rule.get("byzantine").is_some_and(toml::Value::is_table) {
            self.fail(key, "the share of bad clients is declared twice", "remove this key; the rule has the share");
        } else if !(0.0..0.5).contains(&byzantine) {
            let what = format!("{byzantine} is not a share from 0 up to but not including 0.5");
            self.fail(key, what, "write the share of clients that may upload anything, for example 0.01");
        }
    }

    fn authority(&mut self, text: &str) -> Option<[u8; 32]> {
        let mut key = [0; 32];
        if hex::decode_to_slice(text, &mut key).is_ok() && VerifyingKey(key).check().is_ok() {
            return Some(key);
        }
        let what = "is not an Ed25519 public key in 64 hexadecimal digits";
        self.fail_none("visibility.authority", what, "write the public key of the authority that enrols the clients")
    }

    fn reason(&mut self, text: &str) -> Option<String> {
        let text = text.trim();
        if !text.is_empty() && text.chars().count() <= REASON && !text.chars().any(char::is_control) {
            return Some(text.to_string());
        }
        let what = format!("is not a reason of 1 to {REASON} characters on one line");
        self.fail_none("visibility.accept_weak_guarantee", what, "say why; every round record and client shows it")
    }
}
