//! The report of a masked task, and what it promises and cannot keep.

use super::{
    Feasibility, Server, Weakness, clear,
    feasibility::{CURIOUS_BITS, ROBUST_BITS},
    spoiled::spoiled_rows,
};
use crate::{Group, Masking, TaskSpec};

/// Groups of fewer clients are weak whatever the numbers say.
pub(super) const SMALLEST_GROUP: usize = 8;
/// The smallest group that a client's policy allows unless told.
const DEVICES_DEFAULT: usize = 16;
/// A round or a group may be lost with at most this probability: beyond, more are lost than kept.
const LOST: f64 = 0.5;

/// What the rule asks of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    /// Bad rows it tolerates.
    pub(super) tolerated: usize,
    /// Fewest rows it takes.
    pub(super) least: usize,
}

impl Rows {
    pub(super) fn of(spec: &TaskSpec) -> Self {
        Self { tolerated: spec.rule.byzantine(), least: spec.rule.min_rows() }
    }
}

/// Every line of the report for groups of these sizes.
pub(super) fn report(spec: &TaskSpec, masking: &Masking, cohort: usize, sizes: &[usize]) -> Vec<String> {
    let weaknesses = weaknesses(masking, &Rows::of(spec), cohort, sizes);
    let mut lines = vec![visibility(sizes), server(masking)];
    if let Ok(kinds) = kinds(masking, sizes) {
        let feasibility = Feasibility::new(cohort, sizes.len(), kinds.clone());
        lines.push(privacy(masking, cohort, &feasibility));
        lines.push(robustness(spec, masking, cohort, sizes, &feasibility));
        lines.push(dropouts(masking, &kinds, &feasibility));
    }
    lines.extend(devices(sizes));
    lines.push(clear::rounds(spec));
    lines.push(rule(spec));
    match &spec.shares {
        None => lines.push(quantiser(masking)),
        Some(shares) => lines.extend(super::shares::report(spec, masking, shares, sizes)),
    }
    lines.push(match masking.max_weight {
        Some(most) => {
            format!("weights: claimed examples up to {most} weigh the updates of a group; a liar gains at most that")
        }
        None => "weights: every update weighs the same".to_string(),
    });
    lines.extend(clear::tensors(spec));
    let sums = if spec.shares.is_some() { "" } else { "what a row sum reveals; " };
    lines.push(format!("not covered: {sums}participation; a correct sum from a malicious server"));
    lines.push(match &masking.accept_weak_guarantee {
        None if weaknesses.is_empty() => "override: none".to_string(),
        reason => {
            let found: Vec<&str> = weaknesses.iter().map(|weakness| weakness.what.as_str()).collect();
            let found = if found.is_empty() { "nothing in these groups".to_string() } else { found.join("; ") };
            format!("override: {:?} accepts: {found}", reason.as_deref().unwrap_or("none was given, nothing"))
        }
    });
    lines
}

/// What groups of these sizes promise and cannot keep.
pub(super) fn weaknesses(masking: &Masking, rows: &Rows, cohort: usize, sizes: &[usize]) -> Vec<Weakness> {
    let mut list = Vec::new();
    let mut weak = |key, what: String| list.push(Weakness { key, what });
    let size = sizes.iter().copied().min().unwrap_or(0);
    if size < SMALLEST_GROUP {
        let what = format!("a row is the sum of only {size} clients; below {SMALLEST_GROUP} that hides little");
        weak("visibility.group_size", what);
    }
    let kinds = match kinds(masking, sizes) {
        Ok(kinds) => kinds,
        Err(what) => {
            weak("visibility.group_size", what);
            return list;
        }
    };
    let feasibility = Feasibility::new(cohort, sizes.len(), kinds);
    let assumed = &masking.assumed;
    let server = strongest(masking);
    let (bits, declared) = (feasibility.secrecy_bits(server), assumed.colluders_among(cohort));
    if !feasibility.withstands(server, bits, assumed.dropout, declared) {
        let most = match feasibility.colluders(server, bits, assumed.dropout) {
            Some(most) => format!("at most {most} colluders"),
            None => "no number of colluders".to_string(),
        };
        let what = format!(
            "secrecy against {} holds for {most} among {cohort} clients in {} (failure <= 2^-{bits}), but {declared} are \
             declared",
            adversary(server),
            shape(sizes),
        );
        weak("visibility.group_size", what);
    }
    let bad = assumed.byzantine_among(cohort, rows.tolerated);
    let most = feasibility.byzantine(rows.tolerated);
    if bad > most {
        let what = format!(
            "{bad} Byzantine clients are declared among {cohort} in {}, but the rule tolerates {} bad rows, so at most \
             {most} Byzantine clients (failure <= 2^-{ROBUST_BITS}){}",
            shape(sizes),
            rows.tolerated,
            chance(sizes, bad, rows.tolerated)
        );
        weak("visibility.byzantine", what);
    }
    let lost = feasibility.round_lost(assumed.dropout, rows.least);
    let group_lost = feasibility.group_lost(assumed.dropout);
    if lost > LOST || group_lost > LOST {
        let what = format!(
            "at {} % dropouts a group is lost with probability {} and the round with {}: the rule needs {} of {} rows",
            percent(assumed.dropout),
            short(group_lost),
            short(lost),
            rows.least,
            sizes.len()
        );
        weak("visibility.dropout", what);
    }
    list
}

/// The probability that a group of the worse of these sizes is lost at the declared dropouts; 1 without a graph.
pub(super) fn group_lost(masking: &Masking, sizes: &[usize]) -> f64 {
    let Ok(kinds) = kinds(masking, sizes) else { return 1.0 };
    Feasibility::new(sizes.iter().sum(), sizes.len(), kinds).group_lost(masking.assumed.dropout)
}

/// Colluders that a group of `size` holds at most among `clients` in groups, but for what the claim against the strongest
/// server allows.
pub(super) fn colluders_held(masking: &Masking, clients: usize, size: usize) -> usize {
    let colluders = masking.assumed.colluders_among(clients);
    let Ok(kinds) = kinds(masking, &masking.groups(clients)) else { return colluders.min(size) };
    let feasibility = Feasibility::new(clients, masking.rows(clients), kinds);
    feasibility.most_held(size, colluders, feasibility.secrecy_bits(strongest(masking)))
}

/// The strongest server that the task promises anything against.
fn strongest(masking: &Masking) -> Server {
    if masking.authority.is_some() { Server::Malicious } else { Server::Curious }
}

/// One group of each size there is.
fn kinds(masking: &Masking, sizes: &[usize]) -> Result<Vec<Group>, String> {
    let mut distinct: Vec<usize> = sizes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let group = |size| masking.group(size).map_err(|error| format!("a group of {size} clients: {error}"));
    distinct.into_iter().map(group).collect()
}

fn visibility(sizes: &[usize]) -> String {
    match sizes {
        [size] => format!("visibility: one sum of {size} clients; no single update"),
        _ => format!("visibility: {}; no single update", shape(sizes).replace("groups", "rows")),
    }
}

/// What the clients' own policy must allow.
fn devices(sizes: &[usize]) -> Option<String> {
    let size = sizes.iter().copied().min().filter(|&size| size < DEVICES_DEFAULT)?;
    Some(format!(
        "devices: must allow groups of {size}; unless told, a client leaves rounds with groups below {DEVICES_DEFAULT}"
    ))
}

fn server(masking: &Masking) -> String {
    match &masking.authority {
        None => "server: honest-but-curious server (the aggregator runs the enrolment authority)".to_string(),
        Some(key) => format!(
            "server: malicious server, designed for, not proved; needs the enrolment authority {}… to be independent of \
             the aggregator",
            hex::encode(&key[..4])
        ),
    }
}

fn privacy(masking: &Masking, cohort: usize, feasibility: &Feasibility) -> String {
    let declared = masking.assumed.colluders_among(cohort);
    let claim = |server, bits: f64| {
        let most = feasibility.colluders(server, bits, masking.assumed.dropout);
        let holds = most.is_some_and(|most| declared <= most);
        let most = most.map_or("no number of".to_string(), |most| format!("<= {most}"));
        let verdict = if holds { "" } else { "NOT for the " };
        format!("{most} colluders ({verdict}declared {declared}), failure <= 2^-{bits}")
    };
    let curious = claim(Server::Curious, CURIOUS_BITS);
    match strongest(masking) {
        Server::Curious => format!("privacy: >= 2 honest clients per row for {curious}"),
        Server::Malicious => format!(
            "privacy: >= 2 honest clients per row for {}; honest-but-curious server: {curious}",
            claim(Server::Malicious, feasibility.secrecy_bits(Server::Malicious))
        ),
    }
}

fn robustness(spec: &TaskSpec, masking: &Masking, cohort: usize, sizes: &[usize], feasibility: &Feasibility) -> String {
    let tolerated = spec.rule.byzantine();
    let name = spec.rule_config.kind().replace('_', " ");
    if tolerated == 0 {
        return format!("robustness: none; one bad client can steer the model ({name}, no bad rows tolerated)");
    }
    let (most, declared) = (feasibility.byzantine(tolerated), masking.assumed.byzantine_among(cohort, tolerated));
    let verdict = if declared <= most { "" } else { "NOT for the " };
    let mut line = format!(
        "robustness: {name} holds for <= {most} Byzantine clients ({verdict}declared {declared}), failure <= \
         2^-{ROBUST_BITS} per round"
    );
    if declared > most {
        line += &chance(sizes, declared, tolerated);
    }
    if let Some(sampled) = spec.sampled {
        line += &format!(
            "; {} % bad clients{} spoil more than {tolerated} rows with probability <= {}, if cohorts are drawn at random",
            percent(sampled.fraction),
            sampled.population.map(|population| format!(" among {population}")).unwrap_or_default(),
            sampled.risk
        );
    }
    line
}

fn dropouts(masking: &Masking, kinds: &[Group], feasibility: &Feasibility) -> String {
    let threshold = |group: &Group| match group.is_complete() {
        true => format!("{} of {}", group.threshold, group.size),
        false => format!("{} of {} neighbours in {}", group.threshold, group.degree, group.size),
    };
    let thresholds: Vec<String> = kinds.iter().map(threshold).collect();
    let dropout = masking.assumed.dropout;
    let lost = short(feasibility.group_lost(dropout));
    format!(
        "dropouts: threshold {}; at {} % a group is lost with probability {lost}",
        thresholds.join(", "),
        percent(dropout)
    )
}

fn rule(spec: &TaskSpec) -> String {
    let layer = match spec.granularity {
        crate::Granularity::Model => "",
        crate::Granularity::Layer => "; decided tensor by tensor, so the bound holds for each tensor",
    };
    let bound = spec.rule_config.kernel().info().bound;
    format!("rule: {} over rows, at least {} of them; bound: {bound}{layer}", spec.rule_config, spec.rule.min_rows())
}

fn quantiser(masking: &Masking) -> String {
    let Masking { clip_l2, kappa, bits, .. } = masking;
    format!(
        "quantiser: clients clip to L2 norm {clip_l2} over all tensors, clamp to {kappa} and round to {bits} bits; nobody can check that \
         they do, so a Byzantine client may add anything to its row"
    )
}

/// "31 groups of 32-33 clients".
fn shape(sizes: &[usize]) -> String {
    let (least, most) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
    let rows = if sizes.len() == 1 { "1 group".to_string() } else { format!("{} groups", sizes.len()) };
    if least == most { format!("{rows} of {least} clients") } else { format!("{rows} of {least}-{most} clients") }
}

/// How likely too many rows are spoiled, where that can be computed exactly.
fn chance(sizes: &[usize], bad: usize, tolerated: usize) -> String {
    let Some(spoiled) = spoiled_rows(sizes, bad) else { return String::new() };
    let more: f64 = spoiled.iter().skip(tolerated + 1).sum();
    format!("; {bad} spoil more than {tolerated} of {} rows with probability {}", sizes.len(), short(more))
}

fn adversary(server: Server) -> &'static str {
    match server {
        Server::Curious => "an honest-but-curious server",
        Server::Malicious => "a malicious server",
    }
}

/// Two digits.
fn short(probability: f64) -> String {
    if probability == 0.0 {
        return "0".into();
    }
    if probability >= 0.095 { format!("{probability:.2}") } else { format!("{probability:.1e}") }
}

/// A share in per cent without the noise of binary fractions.
fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}
