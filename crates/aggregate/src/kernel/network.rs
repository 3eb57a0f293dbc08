//! Sorting networks, pruned to the ranks that are needed.
//!
//! Bitonic merging of runs of [`RUN`] values, in the form in which every comparison puts the smaller value at the
//! lower index (the first layer of a merge compares mirrored indices). So a network for any number of values is the
//! one for the next power of two without the comparisons beyond the last value. It has some more comparisons than
//! odd-even merging, but two successive layers fall apart into groups of four values, whose four comparisons need one
//! load and one store per value.

/// Values sorted at once at the start.
pub(crate) const RUN: usize = 16;

/// One step of a network. All places are distinct, and less than the number of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sort the [`RUN`] values from here on, see [`sort_run`].
    Sort(usize),
    /// Sort the eight values from here on, which are bitonic, see [`merge_run`].
    Merge8(usize),
    /// Sort the sixteen values from here on, which are bitonic, see [`merge_run`].
    Merge16(usize),
    /// Compare two values.
    Pair {
        /// Where the smaller value goes; less than `high`.
        low: usize,
        /// Where the larger value goes.
        high: usize,
        /// Which of the two later steps read.
        keep: Keep,
    },
    /// For every i less than `count`, compare the values at `first` + i and, in steps of `quarter` from there, a, b, c
    /// and d: a with c and b with d, then a with b and c with d; or, `mirrored`, a with d and b with c before.
    /// The partners of mirrored values lie the other way round: c and d at i from the end of their quarter.
    Quads {
        /// The first place of the first quarter.
        first: usize,
        /// How many quads.
        count: usize,
        /// The distance from a to b.
        quarter: usize,
        /// Where d is for the first i, of mirrored quads.
        mirrored: Option<usize>,
        /// Which of the two smaller ones later steps read.
        lower: Keep,
        /// Which of the two larger ones.
        upper: Keep,
    },
}

/// Which results of a comparison later steps read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Neither,
    Low,
    High,
    Both,
}

impl Keep {
    fn new(low: bool, high: bool) -> Self {
        match (low, high) {
            (false, false) => Self::Neither,
            (true, false) => Self::Low,
            (false, true) => Self::High,
            (true, true) => Self::Both,
        }
    }
}

/// The places of quad `i`, in ascending order.
pub(crate) fn places(first: usize, quarter: usize, mirrored: Option<usize>, i: usize) -> [usize; 4] {
    let a = first + i;
    match mirrored {
        None => [a, a + quarter, a + 2 * quarter, a + 3 * quarter],
        Some(last) => [a, a + quarter, last - i - quarter, last - i],
    }
}

/// The steps that put the values of the given ranks in place.
pub(crate) fn selection_network(values: usize, ranks: &[usize]) -> Vec<Step> {
    let mut steps = Vec::new();
    sort(0, values.next_power_of_two(), values, &mut steps);
    let mut needed = vec![false; values];
    for &rank in ranks {
        needed[rank] = true;
    }
    let mut pruned = Vec::new();
    for step in steps.into_iter().rev() {
        prune(step, &mut needed, &mut pruned);
    }
    pruned.reverse();
    join(pruned)
}

/// Pushes the step without the results that are not needed, and marks what it needs.
fn prune(step: Step, needed: &mut [bool], pruned: &mut Vec<Step>) {
    match step {
        Step::Sort(start) => {
            if needed[start..start + RUN].contains(&true) {
                pruned.push(step);
            }
        }
        Step::Merge8(start) => prune_merge(step, start, 8, needed, pruned),
        Step::Merge16(start) => prune_merge(step, start, 16, needed, pruned),
        Step::Pair { low, high, .. } => {
            let keep = Keep::new(needed[low], needed[high]);
            if keep != Keep::Neither {
                (needed[low], needed[high]) = (true, true);
                pruned.push(Step::Pair { low, high, keep });
            }
        }
        Step::Quads { first, count, quarter, mirrored, .. } => {
            let [a, b, c, d] = places(first, quarter, mirrored, 0);
            let (lower, upper) = (Keep::new(needed[a], needed[b]), Keep::new(needed[c], needed[d]));
            if (lower, upper) != (Keep::Neither, Keep::Neither) {
                for place in [a, b, c, d] {
                    needed[place] = true;
                }
                pruned.push(Step::Quads { first, count, quarter, mirrored, lower, upper });
            }
        }
    }
}

/// For one or two values of a merge the single comparisons are fewer.
fn prune_merge(step: Step, start: usize, length: usize, needed: &mut [bool], pruned: &mut Vec<Step>) {
    let merged = &mut needed[start..start + length];
    match merged.iter().filter(|needed| **needed).count() {
        0 => {}
        1 | 2 => {
            let mut steps = Vec::new();
            merge_quads(start, length, start + length, &mut steps);
            for step in steps.into_iter().rev() {
                prune(step, needed, pruned);
            }
        }
        _ => {
            merged.fill(true);
            pruned.push(step);
        }
    }
}

/// Makes one step of neighbouring quads.
fn join(steps: Vec<Step>) -> Vec<Step> {
    let mut joined: Vec<Step> = Vec::new();
    for step in steps {
        if let (
            Some(Step::Quads { first, count, quarter, mirrored, lower, upper }),
            Step::Quads { first: next, count: 1, quarter: q, mirrored: m, lower: l, upper: u },
        ) = (joined.last_mut(), step)
            && (next, q, l, u) == (*first + *count, *quarter, *lower, *upper)
            && m == mirrored.map(|last| last - *count)
        {
            *count += 1;
            continue;
        }
        joined.push(step);
    }
    joined
}

/// Sorts `length` values, a power of two, of which those from `end` on do not exist. Depth first, so that long
/// networks work on parts that fit in the cache.
fn sort(start: usize, length: usize, end: usize, steps: &mut Vec<Step>) {
    if length < 2 || end - start < 2 {
        return;
    }
    if length == RUN && start + RUN <= end {
        steps.push(Step::Sort(start));
        return;
    }
    let half = length / 2;
    sort(start, half, end, steps);
    if start + half >= end {
        return;
    }
    sort(start + half, half, end, steps);
    if half == 1 {
        pair(start, start + 1, end, steps);
        return;
    }
    let quarter = half / 2;
    for i in start..start + quarter {
        quad(i, quarter, Some(2 * start + length - 1 - i), end, steps);
    }
    for start in (start..start + length).step_by(quarter) {
        merge(start, quarter, end, steps);
    }
}

/// Sorts a bitonic sequence of `length` values.
fn merge(start: usize, length: usize, end: usize, steps: &mut Vec<Step>) {
    match length {
        8 if start + length <= end => steps.push(Step::Merge8(start)),
        16 if start + length <= end => steps.push(Step::Merge16(start)),
        _ => merge_quads(start, length, end, steps),
    }
}

fn merge_quads(start: usize, length: usize, end: usize, steps: &mut Vec<Step>) {
    if length == 2 {
        pair(start, start + 1, end, steps);
    }
    if length < 4 || start >= end {
        return;
    }
    let quarter = length / 4;
    for i in start..start + quarter {
        quad(i, quarter, None, end, steps);
    }
    for start in (start..start + length).step_by(quarter) {
        merge(start, quarter, end, steps);
    }
}

fn pair(low: usize, high: usize, end: usize, steps: &mut Vec<Step>) {
    if high < end {
        steps.push(Step::Pair { low, high, keep: Keep::Both });
    }
}

fn quad(first: usize, quarter: usize, mirrored: Option<usize>, end: usize, steps: &mut Vec<Step>) {
    let [a, b, c, d] = places(first, quarter, mirrored, 0);
    if d < end {
        steps.push(Step::Quads { first, count: 1, quarter, mirrored, lower: Keep::Both, upper: Keep::Both });
        return;
    }
    let (of_a, of_b) = if mirrored.is_some() { (d, c) } else { (c, d) };
    for (low, high) in [(a, of_a), (b, of_b), (a, b), (c, d)] {
        pair(low, high, end, steps);
    }
}

/// Sorts [`RUN`] values with the fewest comparisons known, 60 (M. W. Green, 1969).
macro_rules! sort_run {
    ($values:ident, $exchange:path) => {
        sort_run!(@ $values, $exchange,
            (0, 13) (1, 12) (2, 15) (3, 14) (4, 8) (5, 6) (7, 11) (9, 10)
            (0, 5) (1, 7) (2, 9) (3, 4) (6, 13) (8, 14) (10, 15) (11, 12)
            (0, 1) (2, 3) (4, 5) (6, 8) (7, 9) (10, 11) (12, 13) (14, 15)
            (0, 2) (1, 3) (4, 10) (5, 11) (6, 7) (8, 9) (12, 14) (13, 15)
            (1, 2) (3, 12) (4, 6) (5, 7) (8, 10) (9, 11) (13, 14)
            (1, 4) (2, 6) (5, 8) (7, 10) (9, 13) (11, 14)
            (2, 4) (3, 6) (9, 12) (11, 13)
            (3, 5) (6, 8) (7, 9) (10, 12)
            (3, 4) (5, 6) (7, 8) (9, 10) (11, 12)
            (6, 7) (8, 9)
        )
    };
    (@ $values:ident, $exchange:path, $(($low:literal, $high:literal))*) => {
        $(($values[$low], $values[$high]) = $exchange($values[$low], $values[$high]);)*
    };
}
pub(crate) use sort_run;

/// Sorts a bitonic sequence of eight or sixteen values.
macro_rules! merge_run {
    (8, $values:ident, $exchange:path) => {
        merge_run!(@ $values, $exchange,
            (0, 4) (1, 5) (2, 6) (3, 7)
            (0, 2) (1, 3) (4, 6) (5, 7)
            (0, 1) (2, 3) (4, 5) (6, 7)
        )
    };
    (16, $values:ident, $exchange:path) => {
        merge_run!(@ $values, $exchange,
            (0, 8) (1, 9) (2, 10) (3, 11) (4, 12) (5, 13) (6, 14) (7, 15)
            (0, 4) (1, 5) (2, 6) (3, 7) (8, 12) (9, 13) (10, 14) (11, 15)
            (0, 2) (1, 3) (4, 6) (5, 7) (8, 10) (9, 11) (12, 14) (13, 15)
            (0, 1) (2, 3) (4, 5) (6, 7) (8, 9) (10, 11) (12, 13) (14, 15)
        )
    };
    (@ $values:ident, $exchange:path, $(($low:literal, $high:literal))*) => {
        $(($values[$low], $values[$high]) = $exchange($values[$low], $values[$high]);)*
    };
}
pub(crate) use merge_run;

#[cfg(test)]
mod tests;
