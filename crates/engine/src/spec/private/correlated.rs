//! The checks on `privacy.mechanism = "tree"` and `"matrix"`: correlated noise and its participation limits.

use super::super::{Cohort, check::Check, raw::RawPrivacy};
use crate::privacy::AskedRun;
use testudo_aggregate::{RuleConfig, RuleKind};
use testudo_privacy::{
    accountant::{matrix, tree},
    mechanism::participation::ParticipationLimit,
    sensitivity::Refusal,
};

impl Check<'_> {
    /// Keys that mean nothing with independent noise.
    pub(super) fn no_run(&mut self, asked: &RawPrivacy) {
        for (key, is_written) in [
            ("participations", asked.participations.is_some()),
            ("separation", asked.separation.is_some()),
            ("bands", asked.bands.is_some()),
            ("coefficients", asked.coefficients.is_some()),
        ] {
            if is_written {
                let what = "has no effect: every round has noise of its own, however often a client takes part";
                self.fail(
                    &format!("privacy.{key}"),
                    what,
                    "remove the key; mechanism = \"tree\" or \"matrix\", which the central model has, takes it",
                );
            }
        }
    }

    /// The run that a task asks for, as far as it is proved.
    pub(super) fn run(
        &mut self,
        rounds: u64,
        asked: &RawPrivacy,
        rule: &RuleConfig,
        cohort: &Cohort,
    ) -> Option<AskedRun> {
        let is_tree = asked.mechanism == "tree";
        if !matches!(rule.kernel(), RuleKind::Mean(_)) {
            let what = format!(
                "correlated noise is proved for sums of clipped updates (kind = \"mean\"), not for {}",
                rule.kind()
            );
            self.fail("privacy.mechanism", what, "write kind = \"mean\" in [rule], or mechanism = \"gaussian\"");
        }
        if asked.adaptive_clip.is_some() {
            let what = "noise of earlier rounds is taken away in steps of their clip: with a clip that moves nothing is proved";
            self.fail("privacy.adaptive_clip", what, "remove the key, or write mechanism = \"gaussian\"");
        }
        if asked.adjacency.as_deref() == Some("replace_one") {
            let what = "a correlated run is accounted for under zero-out adjacency alone";
            self.fail("privacy.adjacency", what, "write adjacency = \"zero_out\" or remove the key");
        }
        for (key, is_written) in [("bands", asked.bands.is_some()), ("coefficients", asked.coefficients.is_some())] {
            if is_tree && is_written {
                self.fail(
                    &format!("privacy.{key}"),
                    "has no effect on a tree",
                    "remove the key, or write mechanism = \"matrix\"",
                );
            }
        }
        let most_rounds = if is_tree { tree::MOST_ROUNDS } else { matrix::MOST_ROUNDS as u64 };
        if rounds > most_rounds {
            let what = format!("is more than a {} is accounted for", asked.mechanism);
            self.fail("rounds", what, format!("write at most {most_rounds}"));
            return None;
        }
        let limit = self.limit(rounds, asked, cohort)?;
        if is_tree {
            return Some(AskedRun { matrix: None, rounds, limit });
        }
        let matrix = match (asked.bands, &asked.coefficients) {
            (Some(_), Some(_)) => {
                let what = "says what the coefficients already say";
                return self.fail_none("privacy.bands", what, "remove bands or coefficients");
            }
            (bands, None) => {
                let bands = bands.unwrap_or(rounds);
                if !self.range("privacy.bands", bands as f64, 1.0, rounds as f64) {
                    return None;
                }
                matrix::Toeplitz::square_root(rounds as usize, bands as usize)
            }
            (None, Some(coefficients)) => matrix::Toeplitz::new(rounds as usize, coefficients.clone()),
        };
        match matrix {
            Ok(matrix) => Some(AskedRun { matrix: Some(matrix), rounds, limit }),
            Err(error) => self.unproved(Refusal::Parameter(error)),
        }
    }

    /// How often and how far apart a client takes part, and whether the population can fill the rounds under it.
    fn limit(&mut self, rounds: u64, asked: &RawPrivacy, cohort: &Cohort) -> Option<ParticipationLimit> {
        let Some(participations) = asked.participations else {
            let what = "is missing: the noise is sized for how often one client takes part, which the server enforces";
            let fix = "write the most rounds that one client takes part in, for example participations = 1";
            return self.fail_none("privacy.participations", what, fix);
        };
        let separation = asked.separation.unwrap_or(1);
        let good = self.range("privacy.participations", participations as f64, 1.0, 1e6)
            & self.range("privacy.separation", separation as f64, 1.0, rounds as f64);
        if !good {
            return None;
        }
        let limit = match ParticipationLimit::new(participations.min(rounds) as u32, separation) {
            Ok(limit) => limit,
            Err(error) => return self.unproved(Refusal::Parameter(error)),
        };
        if let Some(clients) = asked.clients {
            let selected = cohort.selected as u64;
            let needed = limit.clients_needed(selected, rounds);
            if clients < needed {
                let what = format!(
                    "{clients} clients cannot fill {rounds} rounds of {selected} with at most {participations} each, {separation} \
                     apart: {needed} are needed"
                );
                let fix = "raise participations, or lower separation, rounds or the cohort's size";
                return self.fail_none("privacy.clients", what, fix);
            }
        }
        Some(limit)
    }
}
