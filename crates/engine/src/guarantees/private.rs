//! The report of a private task: what is promised about one client, and what is not.

use crate::{Budget, Correlated, CorrelatedKind, PoissonSample, Privacy, TaskSpec};
use testudo_privacy::{
    budget::{Gate, check_delta, default_delta},
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
        _ if spec.cohort.sample.is_some() => {
            ("C", "zero-out adjacency: one contribution becomes 0, and the number of registered clients is public")
        }
        _ => ("C", "zero-out adjacency: one contribution becomes 0, and the cohort's size is public"),
    };
    let mut lines = vec![
        format!(
            "privacy: epsilon = {} at delta = {:e} after {} releases, {}: a worst-case bound on what all of them together tell \
             about one client (one device); central model; {adjacency}",
            rounded_up(privacy.epsilon(spec.rounds)),
            privacy.delta,
            spec.rounds,
            amplification(spec, privacy)
        ),
        match &privacy.correlated {
            None => mechanism(privacy, sensitivity),
            Some(run) => run_mechanism(spec, privacy, run, sensitivity),
        },
        format!(
            "budget: population {:?}, limit epsilon = {} at delta = {:e} over all its tasks; a round is reserved \
             before clients train and charged with its release; what does not fit is refused",
            privacy.population, privacy.budget_epsilon, privacy.delta
        ),
        format!(
            "not covered: {}; the server, which sees updates until a round ends; a person with several devices (k devices count \
             as k clients); what clients or operators publish besides releases",
            match &spec.cohort.sample {
                None => "who takes part and how many updates came in time",
                Some(_) => {
                    "who is registered; who sees the network's traffic or the server's load, and with it who or how many send \
                     updates; who may call under a client's name, and so hears whether it was drawn"
                }
            }
        ),
    ];
    if let Some(sample) = &spec.cohort.sample {
        lines.push(sampling(spec, privacy, sample));
    }
    if let Some(run) = &privacy.correlated {
        lines.push(participation(spec, run));
    }
    lines.extend(warnings(spec, &privacy.budget()));
    lines
}

/// What the figure owes to sampling.
fn amplification(spec: &TaskSpec, privacy: &Privacy) -> String {
    let (Some(sample), Some(whole), Gate::Renyi { order }) =
        (&spec.cohort.sample, privacy.budget().unamplified_epsilon_of(spec.rounds), privacy.gate)
    else {
        return "without amplification by sampling".into();
    };
    format!(
        "amplified by Poisson sampling at rate {} (Renyi divergence at order {order}); epsilon = {} without amplification",
        digits(sample.rate()),
        rounded_up(whole)
    )
}

/// What amplification rests on, and who sees to it.
fn sampling(spec: &TaskSpec, privacy: &Privacy, sample: &PoissonSample) -> String {
    format!(
        "sampling: the server flips a secret coin for every registered client in every round; the first round opens once {} clients are \
         registered (of whom about {} are drawn), and at most {} register; nobody but a drawn client itself is told, nobody is drawn in another's \
         place, and who stays away adds nothing; who and how many were drawn is neither shown nor logged; rounds take {} s, and \
         releases leave at multiples of {} s after that, so that a round comes about every {} s",
        sample.registered,
        digits(sample.registered as f64 * sample.rate()),
        sample.clients,
        spec.cohort.phase_limit_ms as f64 / 1000.0,
        privacy.release_step_ms as f64 / 1000.0,
        (spec.cohort.phase_limit_ms + 2 * privacy.release_step_ms) as f64 / 1000.0
    )
}

/// Clip, rule and noise.
fn mechanism(privacy: &Privacy, sensitivity: &str) -> String {
    let (rule, clip, z) = (rule(privacy, sensitivity), privacy.grid.clip(), privacy.noise_multiplier);
    let Some(clipping) = &privacy.adaptive else {
        return format!(
            "mechanism: updates are clipped to an L2 norm of C = {clip}, checked in integers; {rule}; Gaussian noise of \
             standard deviation z*C = {} on the sum (z = {z}), which is {} on every released coordinate",
            digits(z * clip),
            digits(privacy.deviation())
        );
    };
    format!(
        "mechanism: updates are clipped to an L2 norm of C, checked in integers; C starts at {clip} and goes to the {} quantile \
         of the updates' norms by exp(-{} * (share within C - {})) a round, from {} to {}; {rule}; Gaussian noise of standard \
         deviation {}*C on the sum and of {} on the number of norms within C, which together are a release with z = {z}; C and \
         the noised share are released with every round",
        clipping.quantile,
        clipping.learning_rate,
        clipping.quantile,
        digits(clipping.least),
        digits(clipping.most),
        digits(privacy.grid.sigma() / privacy.grid.sensitivity() as f64),
        digits(clipping.bits_noise),
    )
}

/// The same where the noise is correlated.
fn run_mechanism(spec: &TaskSpec, privacy: &Privacy, run: &Correlated, sensitivity: &str) -> String {
    let noise = match run.kind {
        CorrelatedKind::Tree => "Gaussian noise on the nodes of a binary tree over the rounds".to_string(),
        CorrelatedKind::Matrix { bands: 1 } => "independent Gaussian noise in every round".to_string(),
        CorrelatedKind::Matrix { bands } => {
            format!("Gaussian noise correlated over {bands} rounds through a lower triangular Toeplitz matrix")
        }
    };
    let clip = privacy.grid.clip();
    format!(
        "mechanism: updates are clipped to an L2 norm of C = {clip}, checked in integers; {}; {noise}, of standard deviation \
         z*C = {} (z = {}), which leaves {} on every coordinate of the sum of all releases so far (root mean square over {} \
         rounds); the whole run is charged with its first release; it is drawn again from a sealed seed that is kept until the \
         task ends",
        rule(privacy, sensitivity),
        digits(privacy.noise_multiplier * clip),
        privacy.noise_multiplier,
        digits(privacy.deviation()),
        spec.rounds,
    )
}

/// What the noise of a correlated run was sized for, and who sees to it.
fn participation(spec: &TaskSpec, run: &Correlated) -> String {
    let (most, gap) = (run.limit.most(), run.limit.gap());
    let needed = run.limit.clients_needed(spec.cohort.selected as u64, spec.rounds);
    format!(
        "participation: no client takes part in more than {most} of the {} rounds, two of them at least {gap} apart; the server \
         draws nobody who would, counts whoever was drawn, whatever came of it, and keeps the count across restarts; at least \
         {needed} clients are needed; a client that comes back under another name is counted anew",
        spec.rounds
    )
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
            digits(privacy.effective_multiplier())
        ),
        _ => format!(
            "their sum is divided by {divisor} whoever came (sensitivity {sensitivity}/{divisor}); an absent update adds \
             nothing"
        ),
    }
}

/// What deserves a second look, whoever adds the noise.
pub(super) fn warnings(spec: &TaskSpec, budget: &Budget) -> Vec<String> {
    let mut list = Vec::new();
    let epsilon = budget.epsilon_of(spec.rounds);
    if let Err(exhausted) = budget.fits_alone(spec.name.as_str(), spec.rounds) {
        list.push(format!("the plan does not fit its own limit and will be refused: {exhausted}"));
    } else if epsilon > LARGE_EPSILON {
        list.push(format!("an epsilon of {} permits to learn much about a client", rounded_up(epsilon)));
    }
    let z = budget.effective_multiplier();
    if z < SMALL_NOISE {
        list.push(format!("noise of {} times the sensitivity hides little in a single release", digits(z)));
    }
    if spec.cohort.size < SMALL_COHORT {
        list.push(format!(
            "with {} clients the noise on the mean is large; cohorts of {SMALL_COHORT} and more are usual",
            spec.cohort.size
        ));
    }
    let clients = budget.clients.unwrap_or(spec.cohort.selected as u64);
    // What follows from the number of clients is always that close, and nobody chose it.
    if budget.delta != default_delta(clients) && check_delta(budget.delta, clients).is_ok_and(|close| close) {
        list.push(format!("delta = {:e} is within ten times of one over the population", budget.delta));
    }
    list.into_iter().map(|warning| format!("warning: {warning}")).collect()
}

/// Three decimals, the last one up: epsilon is never understated.
pub(super) fn rounded_up(epsilon: f64) -> String {
    if epsilon.is_finite() { format!("{:.3}", (epsilon * 1000.0).ceil() / 1000.0) } else { "unbounded".into() }
}

/// At most six digits.
fn digits(value: f64) -> String {
    format!("{value:.5e}").parse::<f64>().unwrap_or(value).to_string()
}
