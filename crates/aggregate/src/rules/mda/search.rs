//! The exact search for the rows of least diameter.
//!
//! Rows farther apart than a threshold t exclude each other. There are n−f rows of diameter at most t exactly when f
//! rows can be found of which every excluding pair has at least one: a vertex cover. The least t is found by bisection
//! over the distances, each cover by branch and bound.

/// How a search ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// The rows, ascending, and their diameter squared.
    Found {
        /// Lexicographically first.
        members: Vec<usize>,
        /// Largest squared distance among them.
        diameter2: f64,
    },
    /// Every such subset has rows beyond f64 of one another.
    Infinite,
    /// The budget is spent.
    Exhausted,
}

/// The `rows` − `byzantine` rows of least diameter; 2f < n. `budget` bounds the rows visited by the search.
pub(super) fn least_diameter(
    rows: usize,
    byzantine: usize,
    distance2: impl Fn(usize, usize) -> f64,
    budget: u64,
) -> Outcome {
    let others = rows - byzantine - 1;
    if others == 0 {
        return Outcome::Found { members: vec![0], diameter2: 0.0 };
    }
    // Every subset holds a row, and that row's distance to its n−f−1 nearest; twice that distance is enough.
    let mut from = Vec::with_capacity(rows);
    let reach = |row: usize| {
        from.clear();
        from.extend((0..rows).filter(|&other| other != row).map(|other| distance2(row, other)));
        *from.select_nth_unstable_by(others - 1, f64::total_cmp).1
    };
    let least = (0..rows).map(reach).fold(f64::INFINITY, f64::min);
    let mut thresholds: Vec<f64> =
        (1..rows).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| distance2(a, b)).collect();
    thresholds.retain(|distance| distance.is_finite() && *distance >= least);
    thresholds.sort_unstable_by(f64::total_cmp);
    thresholds.dedup();
    let mut search = Search { rows, words: rows.div_ceil(64), far: Vec::new(), left: budget };
    // Twice the distance, squared, with room for rounding and underflow.
    let enough = thresholds.partition_point(|threshold| *threshold <= least * 4.0001 + 1e-290);
    // Where distances saturate or underflow twice the distance may not be enough: then the rest is searched.
    for range in [0..enough, enough..thresholds.len()] {
        let (mut low, mut high) = (range.start, range.end);
        while low + 1 < high {
            let middle = usize::midpoint(low, high - 1);
            search.exclude_beyond(thresholds[middle], &distance2);
            match search.cover(search.all(), byzantine) {
                None => return Outcome::Exhausted,
                Some(true) => high = middle + 1,
                Some(false) => low = middle + 1,
            }
        }
        if low == high {
            continue;
        }
        search.exclude_beyond(thresholds[low], &distance2);
        match search.first(byzantine) {
            None => return Outcome::Exhausted,
            Some(Some(members)) => return Outcome::Found { members, diameter2: thresholds[low] },
            Some(None) => {}
        }
    }
    Outcome::Infinite
}

/// Most rows that [`least_diameter`] visits, whatever the distances; saturating.
///
/// A pass over the rows ends, or goes on with fewer rows to spare, or branches: dropping the row, which leaves one fewer
/// to spare, and keeping it, which leaves at least three fewer. So passes(f) ≤ 1 + passes(f−1) + passes(f−3), about
/// 1.47^f. There is a cover per step of two bisections over the distances, and in the end one per row dropped.
pub(super) fn most_visits(rows: usize, byzantine: usize) -> u64 {
    let mut passes = vec![1_u64; 3];
    for spare in 1..=byzantine {
        let [three, _, one] = *passes.last_chunk::<3>().expect("three to begin with");
        // Fewer than three to spare: keeping the row is no branch.
        let three = if spare < 3 { 0 } else { three };
        passes.push(one.saturating_add(three).saturating_add(1));
    }
    let own = &passes[2..];
    let steps = 2 * u64::from((rows * rows).max(1).ilog2() + 1) + 2;
    let covers = own.iter().fold(0_u64, |sum, passes| sum.saturating_add(*passes));
    let whole = own.last().map_or(1, |passes| passes.saturating_mul(steps)).saturating_add(covers);
    whole.saturating_mul(rows as u64)
}

/// The graph of rows that exclude each other, one bit per pair.
struct Search {
    rows: usize,
    words: usize,
    far: Vec<u64>,
    /// Row visits that are left.
    left: u64,
}

impl Search {
    fn exclude_beyond(&mut self, threshold: f64, distance2: impl Fn(usize, usize) -> f64) {
        self.far = vec![0; self.rows * self.words];
        for a in 0..self.rows {
            for b in 0..a {
                if distance2(a, b) > threshold {
                    insert(&mut self.far[a * self.words..], b);
                    insert(&mut self.far[b * self.words..], a);
                }
            }
        }
    }

    fn all(&self) -> Vec<u64> {
        let mut all = vec![0; self.words];
        (0..self.rows).for_each(|row| insert(&mut all, row));
        all
    }

    fn neighbours(&self, row: usize) -> &[u64] {
        &self.far[row * self.words..(row + 1) * self.words]
    }

    /// Removes the row and the rows it excludes; returns how many these were.
    fn keep(&self, row: usize, alive: &mut [u64]) -> usize {
        remove(alive, row);
        let mut dropped = 0;
        for (alive, far) in alive.iter_mut().zip(self.neighbours(row)) {
            dropped += (*alive & far).count_ones() as usize;
            *alive &= !far;
        }
        dropped
    }

    /// Whether the rows `alive` can be freed of excluding pairs by dropping at most `spare` of them; `None`: the budget
    /// is spent.
    fn cover(&mut self, mut alive: Vec<u64>, mut spare: usize) -> Option<bool> {
        loop {
            let (mut changed, mut most, mut widest, mut degrees, mut matched) = (false, 0, 0, 0, 0);
            let mut unmatched = alive.clone();
            for row in 0..self.rows {
                if !contains(&alive, row) {
                    continue;
                }
                self.left = self.left.checked_sub(1)?;
                let degree = common(self.neighbours(row), &alive).map(u64::count_ones).sum::<u32>() as usize;
                if degree == 0 {
                    remove(&mut alive, row);
                } else if degree > spare {
                    // Keeping the row would drop more than may be dropped.
                    let Some(fewer) = spare.checked_sub(1) else { return Some(false) };
                    (spare, changed) = (fewer, true);
                    remove(&mut alive, row);
                } else if degree == 1 {
                    // Dropping the one it excludes is never worse.
                    spare -= self.keep(row, &mut alive);
                    changed = true;
                } else {
                    degrees += degree;
                    if degree > most {
                        (most, widest) = (degree, row);
                    }
                    // Of disjoint pairs each costs one.
                    if contains(&unmatched, row)
                        && let Some(other) = first(common(self.neighbours(row), &unmatched))
                    {
                        remove(&mut unmatched, row);
                        remove(&mut unmatched, other);
                        matched += 1;
                    }
                }
            }
            if changed {
                continue;
            }
            if most == 0 {
                return Some(true);
            }
            if matched > spare || degrees > 2 * spare * most {
                return Some(false);
            }
            // Where all exclude two each they form rings, and some least cover holds any given row.
            let mut without = alive.clone();
            remove(&mut without, widest);
            if most > 2 {
                if self.cover(without, spare - 1)? {
                    return Some(true);
                }
                spare -= self.keep(widest, &mut alive);
            } else {
                (alive, spare) = (without, spare - 1);
            }
        }
    }

    /// The lexicographically first n−f rows without an excluding pair, if there are any.
    fn first(&mut self, byzantine: usize) -> Option<Option<Vec<usize>>> {
        let (mut alive, mut spare) = (self.all(), byzantine);
        if !self.cover(alive.clone(), spare)? {
            return Some(None);
        }
        let mut members = Vec::with_capacity(self.rows - byzantine);
        for row in 0..self.rows {
            if !contains(&alive, row) {
                continue;
            }
            if members.len() == self.rows - byzantine {
                break;
            }
            let mut rest = alive.clone();
            let dropped = self.keep(row, &mut rest);
            if dropped == 0 || (dropped <= spare && self.cover(rest.clone(), spare - dropped)?) {
                members.push(row);
                (alive, spare) = (rest, spare - dropped);
            } else {
                remove(&mut alive, row);
                spare -= 1;
            }
        }
        Some(Some(members))
    }
}

fn insert(set: &mut [u64], row: usize) {
    set[row / 64] |= 1 << (row % 64);
}

fn remove(set: &mut [u64], row: usize) {
    set[row / 64] &= !(1 << (row % 64));
}

fn contains(set: &[u64], row: usize) -> bool {
    set[row / 64] >> (row % 64) & 1 == 1
}

fn common<'a>(a: &'a [u64], b: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
    a.iter().zip(b).map(|(a, b)| a & b)
}

fn first(words: impl Iterator<Item = u64>) -> Option<usize> {
    words.enumerate().find(|(_, word)| *word != 0).map(|(at, word)| at * 64 + word.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every subset in lexicographic order.
    fn naive(rows: usize, byzantine: usize, distance2: &impl Fn(usize, usize) -> f64) -> (Vec<usize>, f64) {
        let diameter = |members: &[usize]| {
            let pairs = members.iter().flat_map(|&a| members.iter().map(move |&b| (a, b)));
            pairs.map(|(a, b)| distance2(a, b)).fold(0.0, f64::max)
        };
        let mut best: Option<(Vec<usize>, f64)> = None;
        for subset in 0_u32..1 << rows {
            let members: Vec<usize> = (0..rows).filter(|row| subset >> row & 1 == 1).collect();
            if members.len() != rows - byzantine {
                continue;
            }
            let diameter = diameter(&members);
            let better =
                |(first, least): &(Vec<usize>, f64)| diameter < *least || (diameter == *least && members < *first);
            if best.as_ref().is_none_or(better) {
                best = Some((members, diameter));
            }
        }
        best.unwrap()
    }

    fn points(seed: u64, rows: usize, values: u64) -> Vec<[f64; 3]> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % values) as f64
        };
        (0..rows).map(|_| [draw(), draw(), draw()]).collect()
    }

    #[test]
    fn it_finds_what_trying_every_subset_finds_ties_included() {
        for seed in 0..300 {
            let rows = 1 + seed as usize % 11;
            let points = points(seed, rows, if seed % 3 == 0 { 1000 } else { 4 });
            let distance2 =
                |a: usize, b: usize| points[a].iter().zip(&points[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            for byzantine in (0..rows).take_while(|f| 2 * f < rows) {
                let (members, diameter2) = naive(rows, byzantine, &distance2);
                let found = least_diameter(rows, byzantine, distance2, u64::MAX);
                assert_eq!(found, Outcome::Found { members, diameter2 }, "seed {seed}, n = {rows}, f = {byzantine}");
            }
        }
    }

    #[test]
    fn no_search_takes_longer_than_was_told_beforehand() {
        // Random graphs of excluding pairs are the hardest there are for a cover of about this size.
        for seed in 0..60 {
            let (rows, byzantine) = (12 + seed as usize % 30, 3 + seed as usize % 9);
            if 2 * byzantine >= rows {
                continue;
            }
            let points = points(seed, rows * rows, 1_000_000);
            let distance2 = |a: usize, b: usize| 1.0 + points[a.min(b) * rows + a.max(b)][(seed % 3) as usize];
            let found = least_diameter(rows, byzantine, distance2, most_visits(rows, byzantine));
            assert_ne!(found, Outcome::Exhausted, "seed {seed}, n = {rows}, f = {byzantine}");
        }
        assert!(most_visits(8192, 4000) == u64::MAX && most_visits(1, 0) < 100);
    }

    #[test]
    fn many_rows_with_a_far_minority_are_found_at_once() {
        let points = points(9, 600, 100);
        let distance2 = |a: usize, b: usize| {
            let shift = if (a < 250) == (b < 250) { 0.0 } else { 1e6 };
            points[a].iter().zip(&points[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>() + shift
        };
        let Outcome::Found { members, .. } = least_diameter(600, 250, distance2, 20_000_000) else {
            panic!("not found")
        };
        assert_eq!(members, (250..600).collect::<Vec<_>>());
    }

    #[test]
    fn a_spent_budget_and_infinite_distances_are_told_apart() {
        let points = points(3, 40, 1000);
        let distance2 =
            |a: usize, b: usize| points[a].iter().zip(&points[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        assert_eq!(least_diameter(40, 15, distance2, 100), Outcome::Exhausted);
        assert_eq!(least_diameter(3, 1, |_, _| f64::INFINITY, 1000), Outcome::Infinite);
        let saturating = |a: usize, b: usize| if a + b == 1 { 1e308 } else { f64::INFINITY };
        let found = Outcome::Found { members: vec![0, 1], diameter2: 1e308 };
        assert_eq!(least_diameter(3, 1, saturating, 1000), found);
    }
}
