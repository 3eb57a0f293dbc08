//! The checks on `privacy.sampling = "poisson"`: the server samples among registered clients, in secret, and counts on it.
//!
//! What amplification rests on is fixed here: coins of one rate for everybody, no more and no fewer clients than they say,
//! a fixed divisor, and rounds that end alike whoever was drawn.

use super::super::{
    Cohort,
    check::Check,
    raw::{RawPrivacy, RawTask},
};
use crate::{PoissonSample, Privacy};
use testudo_aggregate::{RuleConfig, RuleKind};
use testudo_protocol::limits;

/// Why sampling is refused where clients add the noise.
pub(super) const ELSEWHERE: &str =
    "the secret of who was sampled is the server's, and here it is the server that is not to know";
/// Unless told: with everybody known, and with a secret sample, whose size shows in the time that adding it up takes.
const RELEASE_STEP_MS: (u64, u64) = (100, 1000);

impl Check<'_> {
    /// Makes the cohort a secret sample, if the task asks for one. False if it does and cannot have one.
    pub(in crate::spec) fn sample(
        &mut self,
        raw: &RawTask,
        asked: &RawPrivacy,
        rule: Option<&RuleConfig>,
        cohort: Option<&mut Cohort>,
    ) -> bool {
        let before = self.list.len();
        self.make_sample(raw, asked, rule, cohort);
        asked.sampling == "none" || self.list.len() == before
    }

    fn make_sample(
        &mut self,
        raw: &RawTask,
        asked: &RawPrivacy,
        rule: Option<&RuleConfig>,
        cohort: Option<&mut Cohort>,
    ) {
        match asked.sampling.as_str() {
            "none" => return self.only_sampled(asked),
            "poisson" => {}
            "fixed" => {
                let what = "needs a cohort of one size in every round, and clients that were drawn may stay away";
                return self.fail("privacy.sampling", what, "write sampling = \"poisson\" or \"none\"");
            }
            _ => {
                let fix = "write sampling = \"poisson\" (secret coins for registered clients) or \"none\"";
                return self.fail("privacy.sampling", "is not a sampling", fix);
            }
        }
        self.not_beside_sampling(raw, asked, rule);
        let Some(cohort) = cohort else { return };
        let size = cohort.size as u64;
        let Some(clients) = asked.clients else {
            let what = "is missing: the rate is cohort.size over it";
            return self.fail("privacy.clients", what, "add clients, the number of clients that may register");
        };
        let most = limits::REGISTERED;
        if clients < size || clients > most {
            let what = format!("{clients} is outside {size} (the expected cohort) to {most}");
            let fix = "write the number of clients that may register; the rate is cohort.size over it";
            return self.fail("privacy.clients", what, fix);
        }
        // Beyond that a sample might not fit; below, that is less likely than 2^-10000.
        if clients > limits::COHORT as u64 && cohort.size > limits::COHORT / 2 {
            let fix = format!("write a size of at most {}, or fewer clients", limits::COHORT / 2);
            return self.fail("cohort.size", "samples may be larger than a cohort can be", fix);
        }
        let registered = asked.registered.unwrap_or(clients);
        if registered == 0 || registered > clients {
            let what = format!("{registered} is outside 1 to {clients}, the clients that may register");
            return self.fail("privacy.registered", what, "write how many are registered before the first round opens");
        }
        cohort.sample = Some(PoissonSample { clients, expected: size, registered });
        cohort.selected = limits::COHORT.min(clients as usize);
        cohort.minimum = 0;
    }

    /// The keys that only a secret sample gives a meaning.
    pub(super) fn only_sampled(&mut self, asked: &RawPrivacy) {
        if asked.registered.is_some() {
            let what = "has no effect: clients register only where they are sampled";
            self.fail("privacy.registered", what, "remove the key, or write sampling = \"poisson\"");
        }
    }

    /// Refuses a sample that costs more than none: one order bounds large rates worse than the exact ε without sampling.
    pub(super) fn amplified(&mut self, raw: &RawTask, privacy: Privacy) -> Option<Privacy> {
        let with = privacy.epsilon(raw.rounds);
        match privacy.budget().unamplified_epsilon_of(raw.rounds) {
            Some(without) if without.is_finite() && with >= without => {
                let what = format!("costs epsilon = {with:.3} at this rate, and {without:.3} without it");
                self.fail_none(
                    "privacy.sampling",
                    what,
                    "lower cohort.size, raise clients, or write sampling = \"none\"",
                )
            }
            _ => Some(privacy),
        }
    }

    /// Milliseconds between the moments at which releases leave.
    pub(super) fn release_step(&mut self, raw: &RawTask, asked: &RawPrivacy) -> u64 {
        let (known, secret) = RELEASE_STEP_MS;
        let usual = if asked.sampling == "poisson" { secret } else { known };
        // No later than a round, where that was not asked for.
        let usual = usual.min((raw.cohort.phase_limit_s * 1000.0) as u64).max(1);
        let Some(seconds) = asked.release_step_s else { return usual };
        // Whoever stops a task waits for a release that is due.
        self.range("privacy.release_step_s", seconds, 0.001, raw.cohort.phase_limit_s.max(0.001));
        (seconds * 1000.0).round() as u64
    }

    fn not_beside_sampling(&mut self, raw: &RawTask, asked: &RawPrivacy, rule: Option<&RuleConfig>) {
        if asked.mechanism != "gaussian" {
            let what = "correlated noise is sized for who takes part how often, and coins are not counted on there";
            self.fail("privacy.sampling", what, "write sampling = \"none\", or mechanism = \"gaussian\"");
        }
        if asked.adjacency.as_deref().is_some_and(|word| word != "zero_out") {
            let what = "amplification by coins is proved here for a contribution that is there or 0";
            self.fail("privacy.adjacency", what, "write adjacency = \"zero_out\" or remove the key");
        }
        if rule.is_some_and(|rule| !matches!(rule.kernel(), RuleKind::Mean(_))) {
            let what = "needs a number of rows that is fixed beforehand, and that of a sample is not";
            self.fail("rule.kind", what, "write kind = \"mean\", or sampling = \"none\"");
        }
        if raw.cohort.over_selection != 1.0 {
            let what = "the rate covers everybody who is drawn";
            self.fail("cohort.over_selection", what, "remove the key; a larger size raises the rate");
        }
        if raw.cohort.minimum.is_some() {
            let what = "a round that ends for want of updates would tell how many were drawn";
            self.fail("cohort.minimum", what, "remove the key: any number of updates is noised and released");
        }
        if raw.cohort.gather_s != 0.0 {
            let what = "has no effect: coins are flipped for registered clients, whether they wait or not";
            self.fail("cohort.gather_s", what, "remove the key");
        }
    }
}
