//! Tree aggregation (DP-FTRL): Kairouz et al. 2021. Every node of a binary tree over the rounds carries noise z·C; one
//! client's participations enter every node above them.

use crate::error::{ParameterError, within};
use std::collections::HashMap;

/// The most rounds a tree is accounted for.
pub const MOST_ROUNDS: u64 = 1 << 14;

/// The most participations of one client.
pub const MOST_PARTICIPATIONS: u32 = 64;

/// Δ² in units of C² of trees over `rounds` each, restarted between them, when a client takes part once in all:
/// ⌈log₂(max rounds + 1)⌉.
///
/// # Errors
/// Without rounds.
pub fn single_participation(rounds: &[u64]) -> Result<u32, ParameterError> {
    let Some(&most) = rounds.iter().max().filter(|most| **most > 0) else {
        return Err(ParameterError::new("rounds", format!("{rounds:?}"), "give at least one round"));
    };
    Ok(u64::BITS - most.leading_zeros())
}

/// Δ² in units of C² of one tree over `rounds`, complete dyadic nodes only: the largest Σ_nodes count² over all patterns
/// of at most `participations`, between two of which lie at least `separation` rounds.
///
/// # Errors
/// More than [`MOST_ROUNDS`] or [`MOST_PARTICIPATIONS`], or none.
pub fn sensitivity_squared(rounds: u64, participations: u32, separation: u64) -> Result<u64, ParameterError> {
    within("rounds", rounds as f64, 1.0, MOST_ROUNDS as f64)?;
    within("max_participation", f64::from(participations), 1.0, f64::from(MOST_PARTICIPATIONS))?;
    // Complete trees from left to right, the largest first: the binary digits of `rounds`.
    let levels: Vec<u32> = (0..64).rev().filter(|level| rounds >> level & 1 == 1).collect();
    let separation = separation.min(rounds) as u32;
    let mut search = Search { separation, memo: HashMap::new() };
    let best = (1..=participations).filter_map(|count| search.forest(&levels, count, 0)).max();
    Ok(best.unwrap_or(0))
}

/// What is known of blocks of 2^level rounds.
struct Search {
    separation: u32,
    /// (level, participations, rounds kept free at the start, at the end) → largest sum.
    memo: HashMap<(u32, u32, u32, u32), Option<u64>>,
}

impl Search {
    /// The largest sum of exactly `count` participations in trees of these levels, `start` rounds kept free.
    fn forest(&mut self, levels: &[u32], count: u32, start: u32) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        let (&level, rest) = levels.split_first()?;
        let size = 1_u32 << level;
        let mut best = self.forest(rest, count, start.saturating_sub(size));
        for left in 1..=count {
            if left == count {
                best = best.max(self.block(level, left, start, 0));
                continue;
            }
            let separation = self.separation;
            let mut keep = |search: &mut Self, free: u32| search.block(level, left, start, free);
            for free in steps(self, separation, &mut keep) {
                let right = self.forest(rest, count - left, separation - free);
                best = best.max(add(self.block(level, left, start, free), right));
            }
        }
        best
    }

    /// The same in one complete tree, `end` rounds kept free at its end.
    fn block(&mut self, level: u32, count: u32, start: u32, end: u32) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        let size = 1_u64 << level;
        let room = size.checked_sub(u64::from(start) + u64::from(end)).filter(|room| *room > 0)?;
        // `count` participations need (count−1)(separation+1) + 1 rounds.
        if u64::from(count - 1) * (u64::from(self.separation) + 1) + 1 > room {
            return None;
        }
        if count == 1 {
            return Some(u64::from(level) + 1);
        }
        let key = (level, count, start, end);
        if let Some(known) = self.memo.get(&key) {
            return *known;
        }
        let half = 1_u32 << (level - 1);
        let mut best = None;
        for left in 0..=count {
            let right = count - left;
            let sum = match (left, right) {
                (0, _) => self.block(level - 1, right, start.saturating_sub(half), end),
                (_, 0) => self.block(level - 1, left, start, end.saturating_sub(half)),
                _ => self.split(level - 1, (left, start), (right, end)),
            };
            best = best.max(sum);
        }
        let best = best.map(|sum| sum + u64::from(count) * u64::from(count));
        self.memo.insert(key, best);
        best
    }

    /// Participations on both sides of the middle, at least `separation` rounds free around it.
    fn split(&mut self, level: u32, (left, start): (u32, u32), (right, end): (u32, u32)) -> Option<u64> {
        let separation = self.separation;
        let mut keep = |search: &mut Self, free: u32| search.block(level, left, start, free);
        let mut best = None;
        for free in steps(self, separation, &mut keep) {
            let sum = add(self.block(level, left, start, free), self.block(level, right, separation - free, end));
            best = best.max(sum);
        }
        best
    }
}

/// The largest number of free rounds for every distinct value: `value` falls with the free rounds, and more of them on
/// this side leave the other more room.
fn steps(search: &mut Search, most: u32, value: &mut impl FnMut(&mut Search, u32) -> Option<u64>) -> Vec<u32> {
    let mut steps = Vec::new();
    let mut free = 0;
    loop {
        let here = value(search, free);
        if here.is_none() {
            return steps;
        }
        let (mut same, mut beyond) = (free, most + 1);
        while beyond - same > 1 {
            let middle = same.midpoint(beyond);
            if value(search, middle) == here {
                same = middle;
            } else {
                beyond = middle;
            }
        }
        steps.push(same);
        if same == most {
            return steps;
        }
        free = same + 1;
    }
}

fn add(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    Some(left? + right?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ count² of one pattern of participations.
    fn energy(rounds: u64, pattern: u64) -> u64 {
        let mut sum = 0;
        for level in 0..64 {
            let size = 1_u64 << level;
            if size > rounds {
                break;
            }
            for node in 0..rounds / size {
                let count = (0..size).filter(|offset| pattern >> (node * size + offset) & 1 == 1).count() as u64;
                sum += count * count;
            }
        }
        sum
    }

    #[test]
    fn the_search_agrees_with_trying_every_pattern() {
        for rounds in [1, 2, 5, 8, 11, 14] {
            for participations in 1..=4 {
                for separation in [0, 1, 2, 3, 5, 20] {
                    let mut best = 0;
                    for pattern in 1_u64..1 << rounds {
                        let places: Vec<u64> = (0..rounds).filter(|round| pattern >> round & 1 == 1).collect();
                        let apart = places.windows(2).all(|pair| pair[1] - pair[0] > separation);
                        if places.len() as u32 <= participations && apart {
                            best = best.max(energy(rounds, pattern));
                        }
                    }
                    let got = sensitivity_squared(rounds, participations, separation).unwrap();
                    assert_eq!(got, best, "T={rounds} k={participations} b={separation}");
                }
            }
        }
    }

    #[test]
    fn one_participation_costs_the_depth() {
        for (rounds, depth) in [(1, 1), (2, 2), (3, 2), (4, 3), (1000, 10), (1023, 10), (1024, 11)] {
            assert_eq!(single_participation(&[rounds]).unwrap(), depth);
            assert_eq!(sensitivity_squared(rounds, 1, 0).unwrap(), u64::from(depth));
        }
        assert!(single_participation(&[]).is_err());
    }

    #[test]
    fn nothing_is_computed_outside_the_limits() {
        assert!(sensitivity_squared(0, 1, 0).is_err());
        assert!(sensitivity_squared(10, 0, 0).is_err());
        assert!(sensitivity_squared(MOST_ROUNDS + 1, 1, 0).is_err());
        assert!(sensitivity_squared(10, 2, u64::MAX).is_ok());
    }
}
