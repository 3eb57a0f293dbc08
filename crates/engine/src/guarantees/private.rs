//! The report of a private task: what is promised about one client, and what is not.

use crate::{Privacy, TaskSpec};
use testudo_privacy::{
    budget::check_delta,
    sensitivity::{Adjacency, Combination},
};

/// From this limit on ε says little.
const LARGE_EPSILON: f64 = 10.0;
/// Below this a single release is hardly noised.
const SMALL_NOISE: f64 = 0.3;
/// Below this many clients the noise outweighs what is learnt.
const SMALL_COHORT: usize = 50;

/// One sentence per promise, assumption and exception.
pub(super) fn report(spec: &TaskSpec, privacy: &Privacy) -> Vec<String> {
    let (sensitivity, adjacency) = match privacy.adjacency {
        Adjacency::ReplaceOne => ("2C", "replace-one adjacency: one contribution becomes another"),
        _ => ("C", "zero-out adjacency: one contribution becomes 0, and the cohort's size is public"),
    };
    let clip = privacy.grid.clip();
    let mut lines = vec![
        format!(
            "privacy: epsilon = {} at delta = {:e} after {} releases, without amplification by sampling: a worst-case bound \
             on what all of them together tell about one client (one device); central model; {adjacency}",
            rounded_up(privacy.epsilon(spec.rounds)),
            privacy.delta,
            spec.rounds
        ),
        format!(
            "mechanism: updates are clipped to an L2 norm of C = {clip}, checked in integers; {}; Gaussian noise of \
             standard deviation z*C = {} on the sum (z = {}), which is {} on every released coordinate",
            rule(privacy, sensitivity),
            privacy.noise_multiplier * clip,
            privacy.noise_multiplier,
            privacy.deviation()
        ),
        format!(
            "budget: population {:?}, limit epsilon = {} at delta = {:e} over all its tasks; a round is reserved \
             before clients train and charged with its release; what does not fit is refused",
            privacy.population, privacy.budget_epsilon, privacy.delta
        ),
        "not covered: who takes part and how many updates came in time; the server, which sees updates until a round ends; \
         a person with several devices (k devices count as k clients); what clients or operators publish besides releases"
            .to_string(),
    ];
    lines.extend(warnings(spec, privacy).into_iter().map(|warning| format!("warning: {warning}")));
    lines
}

/// What the rule adds up and divides by.
fn rule(privacy: &Privacy, sensitivity: &str) -> String {
    let (rows, divisor) = (privacy.rows, privacy.divisor);
    match privacy.combination {
        Combination::TrimmedMean { cut } => format!(
            "per coordinate the {cut} largest and the {cut} smallest of {rows} rows are left out and the others' sum is \
             divided by {divisor} (sensitivity {sensitivity}/{divisor}); an absent update is a row of zeros"
        ),
        Combination::CentredClipping { .. } => format!(
            "what is clipped is the distance from the last release; its sum is divided by {divisor} (sensitivity \
             {sensitivity}/{divisor}); an absent update adds nothing"
        ),
        Combination::MultiKrum { selected, .. } => format!(
            "the sum of {selected} selected rows of {rows} is divided by {divisor}; one client can change the selection, so \
             the sensitivity is {}C/{divisor} and the noise is only {} times it (accept_large_sensitivity)",
            2 * selected.min(rows as u64 - selected + 1),
            privacy.effective_multiplier()
        ),
        _ => format!(
            "their sum is divided by {divisor} whoever came (sensitivity {sensitivity}/{divisor}); an absent update adds \
             nothing"
        ),
    }
}

fn warnings(spec: &TaskSpec, privacy: &Privacy) -> Vec<String> {
    let mut list = Vec::new();
    let epsilon = privacy.epsilon(spec.rounds);
    if let Err(exhausted) = privacy.fits_alone(spec.name.as_str(), spec.rounds) {
        list.push(format!("the plan does not fit its own limit and will be refused: {exhausted}"));
    } else if epsilon > LARGE_EPSILON {
        list.push(format!("an epsilon of {} permits to learn much about a client", rounded_up(epsilon)));
    }
    let z = privacy.effective_multiplier();
    if z < SMALL_NOISE {
        list.push(format!("noise of {z} times the sensitivity hides little in a single release"));
    }
    if privacy.rows < SMALL_COHORT {
        list.push(format!(
            "with {} clients the noise on the mean is large; cohorts of {SMALL_COHORT} and more are usual",
            privacy.rows
        ));
    }
    if check_delta(privacy.delta, spec.cohort.selected as u64).is_ok_and(|close| close) {
        list.push(format!(
            "delta = {:e} is within ten times of one over a cohort; one over the population is the most",
            privacy.delta
        ));
    }
    list
}

/// Three decimals, the last one up: epsilon is never understated.
fn rounded_up(epsilon: f64) -> String {
    if epsilon.is_finite() { format!("{:.3}", (epsilon * 1000.0).ceil() / 1000.0) } else { "unbounded".into() }
}
