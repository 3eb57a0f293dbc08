//! What an operator could write instead of an infeasible combination.

use super::{
    Weakness, cohorts_between,
    masked::{self, Rows, SMALLEST_GROUP},
    spoiled_rows_at_risk,
};
use crate::{Assumed, COMPLETE_GROUP, Masking, TaskSpec};

/// Groups that are lost more often than this are not suggested, even where enough others are left.
const GROUP_LOST: f64 = 0.1;
/// Thresholds tried for one group size.
const THRESHOLDS: usize = 12;

/// Parts of the declared colluders that are tried where all of them are too many.
const FEWER: [f64; 6] = [0.8, 0.6, 0.4, 0.2, 0.1, 0.05];

/// The group size and threshold nearest to the configured ones with which nothing is infeasible. `minimum` is the
/// smallest cohort where the task names one; else it follows from the group size.
pub(super) fn suggestion(spec: &TaskSpec, masking: &Masking, minimum: Option<usize>, found: &[Weakness]) -> String {
    let declared = masking.assumed.colluders;
    let fewer = FEWER.iter().map(|part| (declared * part * 1000.0).floor() / 1000.0);
    let candidates = std::iter::once(declared).chain(fewer.filter(|&fewer| fewer < declared));
    let found_at = candidates.into_iter().find_map(|colluders| {
        let assumed = Assumed { colluders, ..masking.assumed };
        Some((colluders, search(spec, &Masking { assumed, ..masking.clone() }, minimum)?))
    });
    let mut fix = match found_at {
        Some((colluders, values)) => {
            let only = if colluders < declared {
                format!(", and colluders = {colluders} if that is true")
            } else {
                String::new()
            };
            format!("write {}{only}", written(values, masking.threshold.is_some()))
        }
        None => {
            "no group size and threshold would do: declare a lower byzantine or dropout if they are lower, or take \
                 more clients"
                .to_string()
        }
    };
    if found.iter().any(|weakness| weakness.key == "visibility.byzantine") {
        fix += ", or let the rule tolerate more bad rows";
    }
    fix + "; accept_weak_guarantee = \"reason\" accepts it as it is"
}

/// The values as an operator writes them.
fn written((group_size, threshold): (usize, Option<usize>), had_threshold: bool) -> String {
    match threshold {
        Some(threshold) => format!("group_size = {group_size} and threshold = {threshold}"),
        None if had_threshold => format!("group_size = {group_size} without threshold"),
        None => format!("group_size = {group_size}"),
    }
}

fn search(spec: &TaskSpec, masking: &Masking, minimum: Option<usize>) -> Option<(usize, Option<usize>)> {
    let rows = Rows::of(spec);
    let most = spec.cohort.size / rows.least.max(1);
    let mut sizes: Vec<usize> = (SMALLEST_GROUP..=most.min(COMPLETE_GROUP)).collect();
    let beyond = std::iter::successors(Some(128), |size| Some(size + size / 2));
    sizes.extend(beyond.take_while(|&size| size < most));
    if most > COMPLETE_GROUP {
        sizes.push(most);
    }
    sizes.sort_by_key(|size| size.abs_diff(masking.group_size));
    sizes.into_iter().find_map(|size| {
        let minimum = match minimum {
            Some(minimum) => minimum,
            None => (rows.least * size).max(spec.cohort.size.div_ceil(2)),
        };
        let fits = minimum >= rows.least * size && minimum <= spec.cohort.size;
        (fits && keeps_tolerance(spec, &rows, size, minimum)).then(|| threshold(spec, masking, size, minimum)).flatten()
    })
}

/// A declared share of bad clients becomes another number of bad rows with another group size; only sizes with which
/// the present number is enough are suggested.
fn keeps_tolerance(spec: &TaskSpec, rows: &Rows, size: usize, minimum: usize) -> bool {
    let Some(sampled) = &spec.sampled else { return true };
    let selected = spec.cohort.selected;
    let largest = Masking::largest_group(size, minimum.min(spec.cohort.size.div_ceil(2)).max(size), selected);
    spoiled_rows_at_risk(sampled, selected, selected / size, largest) <= rows.tolerated
}

/// The lowest threshold that will do, as it would be written.
fn threshold(spec: &TaskSpec, masking: &Masking, size: usize, minimum: usize) -> Option<(usize, Option<usize>)> {
    let largest = Masking::largest_group(size, minimum, spec.cohort.selected);
    let least = 2 * size / 3 + 1;
    let step = ((size.saturating_sub(least)) / THRESHOLDS).max(1);
    let raised = (least + 1..=size).step_by(step).filter(|_| largest <= COMPLETE_GROUP).map(Some);
    let sum = (largest as u64).saturating_mul((1u64 << masking.bits) - 1);
    if sum > u64::from(u32::MAX) {
        return None;
    }
    let rows = Rows::of(spec);
    let cohorts = cohorts_between(minimum, spec.cohort.size, spec.cohort.selected);
    let holds = |threshold: Option<usize>| {
        let tried = Masking { group_size: size, threshold, ..masking.clone() };
        // The ends first: most combinations fail there.
        let fails = |&cohort: &usize| !masked::weaknesses(&tried, &rows, cohort, &tried.groups(cohort)).is_empty();
        masked::group_lost(&tried, &tried.groups(minimum)) <= GROUP_LOST
            && ![minimum, spec.cohort.selected].iter().any(fails)
            && !cohorts.iter().any(fails)
    };
    std::iter::once(None).chain(raised).find(|&threshold| holds(threshold)).map(|threshold| (size, threshold))
}
