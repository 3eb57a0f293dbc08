//! The report of a task whose clients noise their own updates.

use super::private::{rounded_up, warnings};
use crate::{Local, TaskSpec};

/// One sentence per promise, assumption and exception.
pub(super) fn report(spec: &TaskSpec, local: &Local) -> Vec<String> {
    let budget = &local.budget;
    let (clip, deviation) = (local.noise.grid().clip(), local.deviation());
    let mut lines = vec![
        format!(
            "privacy: epsilon = {} at delta = {:e} for a client (one device) that sends an update in each of {} rounds, {} for \
             one update: a worst-case bound on what anybody learns about it from them, the server too; local model; \
             replace-one adjacency: one update becomes another",
            rounded_up(budget.epsilon_of(spec.rounds)),
            budget.delta,
            spec.rounds,
            rounded_up(budget.epsilon_of(1)),
        ),
        format!(
            "mechanism: every client clips its update to an L2 norm of C = {clip}, checked in integers, and adds Gaussian noise \
             of standard deviation z*C = {deviation} to every coordinate before the update leaves the device (z = {}, \
             sensitivity 2C); a retry sends the same bytes, so no round gets two noises; the noise on a mean of {} updates is \
             {} on every coordinate",
            local.noise.multiplier(),
            spec.cohort.size,
            deviation / (spec.cohort.size as f64).sqrt(),
        ),
        "post-processing: what a rule does with noised updates, and what is shown of each, tells no more than they do; the \
         rule's own bounds are about noised updates"
            .to_string(),
        format!(
            "budget: population {:?}, limit epsilon = {} at delta = {:e} over all its tasks; a round is reserved before \
             clients train and charged when it ends, released or not: its updates have left their devices; what does not fit \
             is refused",
            budget.population, budget.epsilon, budget.delta
        ),
        "not covered: who takes part and when; clients that do not noise what they send: they give up their own protection, \
         and nobody else's; a person with several devices (k devices count as k clients)"
            .to_string(),
    ];
    lines.extend(warnings(spec, budget));
    lines
}
