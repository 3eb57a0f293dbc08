//! What an accepted task promises, in words and numbers: `topic: sentence` lines.
//!
//! Computed when a task is created, for the smallest cohort that may release, and again when groups form, for these.
//! Under masking three adversaries share one group size (colluders, Byzantine clients, dropouts), so every combination
//! is checked against all three: [`infeasible`].

mod clear;
mod feasibility;
mod local;
mod masked;
mod private;
mod shares;
mod spoiled;
mod suggestion;

use crate::{Cohort, Masking, TaskSpec};

pub use feasibility::{Feasibility, Server};
pub use shares::min_shared_noise;
pub use spoiled::spoiled_rows;
pub(crate) use spoiled::spoiled_rows_at_risk;

/// What is wrong with a combination that cannot keep its promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// The key to change first.
    pub key: &'static str,
    /// What is infeasible, with the numbers.
    pub what: String,
}

/// Cohorts between the smallest and the largest that are checked besides these.
const COHORTS_BETWEEN: usize = 60;

/// One sentence per promise or assumption, for `testudo task check` and as long as no groups have formed.
pub fn report(spec: &TaskSpec) -> Vec<String> {
    match &spec.masking {
        None => clear::report(spec),
        Some(masking) => for_groups(spec, spec.cohort.minimum, &masking.groups(spec.cohort.minimum)),
    }
}

/// The same once groups have formed among `cohort` clients, for the round's record. `sizes` holds every group's number
/// of clients. In clear mode the report does not depend on them.
pub fn for_groups(spec: &TaskSpec, cohort: usize, sizes: &[usize]) -> Vec<String> {
    match &spec.masking {
        None => clear::report(spec),
        Some(masking) => masked::report(spec, masking, cohort, sizes),
    }
}

/// What the task promises and cannot keep in some cohort it accepts. Empty in clear mode, which promises no secrecy.
pub fn infeasible(spec: &TaskSpec) -> Vec<Weakness> {
    let Some(masking) = &spec.masking else { return Vec::new() };
    let cohort = &spec.cohort;
    let checked = cohorts_between(cohort.minimum, cohort.size, cohort.selected).into_iter();
    let found = checked.map(|clients| infeasible_for(spec, clients, &masking.groups(clients)));
    found.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

/// The same for groups that have formed among `cohort` clients.
pub fn infeasible_for(spec: &TaskSpec, cohort: usize, sizes: &[usize]) -> Vec<Weakness> {
    let Some(masking) = &spec.masking else { return Vec::new() };
    masked::weaknesses(masking, &masked::Rows::of(spec), cohort, sizes)
}

/// Every number of clients that a round may group, with each size of group among them.
pub(crate) fn kinds_of_groups(masking: &Masking, cohort: &Cohort) -> Vec<(usize, usize)> {
    let cohorts = cohort.minimum..=cohort.selected.max(cohort.size);
    let sizes = |clients: usize| {
        let mut sizes = masking.groups(clients);
        sizes.dedup();
        sizes.into_iter().map(move |size| (clients, size))
    };
    cohorts.flat_map(sizes).collect()
}

/// Colluders that a group of `size` holds at most if `clients` are grouped, but for what the claim of secrecy allows.
pub(crate) fn colluders_held(masking: &Masking, clients: usize, size: usize) -> usize {
    masked::colluders_held(masking, clients, size)
}

/// What could be written instead, as the text of a fix. `minimum` is the smallest cohort if the task names one.
pub(crate) fn suggestion(spec: &TaskSpec, masking: &Masking, minimum: Option<usize>, found: &[Weakness]) -> String {
    suggestion::suggestion(spec, masking, minimum, found)
}

/// Cohorts that stand for all between the smallest and the largest.
fn cohorts_between(least: usize, size: usize, most: usize) -> Vec<usize> {
    let most = most.max(size);
    let step = (most.saturating_sub(least) / COHORTS_BETWEEN).max(1);
    let mut cohorts: Vec<usize> = (least..most).step_by(step).collect();
    cohorts.extend([size, most]);
    cohorts.sort_unstable();
    cohorts.dedup();
    cohorts
}
