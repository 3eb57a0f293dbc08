//! FLAME: the largest cluster of directions, clipped to the median length.

use serde::Serialize;

use super::Definition;
use super::centred::ROUNDING;
use super::clipped::{clipped_mean, median_length};
use crate::catalogue::{BYZANTINE_INFO, RuleInfo};
use crate::needs::Needs;
use crate::range::MINORITY_OF_PAIRS;
use crate::rows::Weights;
use crate::rule::{BEYOND_F64, Decision, Rule, RuleError};
use crate::statistics::{RowStatistics, Spread};

/// Nguyen et al. 2022, Algorithm 1 without its noise, which is `privacy`'s: HDBSCAN on cosine distances with clusters
/// of at least ⌊n/2⌋+1 rows, the kept rows shortened to the median length of all rows, then the mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flame {
    /// *f*.
    pub byzantine: usize,
}

/// Fewest rows that can be clustered.
const LEAST_ROWS: usize = 5;
const RANGE: &str = "2f < n and n ≥ 5";
impl Rule for Flame {
    set_to_byzantine!();

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        let (kind, byzantine) = (self.kind(), self.byzantine);
        if rows >= LEAST_ROWS {
            return MINORITY_OF_PAIRS.check(kind, rows, byzantine);
        }
        let min_rows = byzantine.checked_mul(2).map(|twice| LEAST_ROWS.max(twice.saturating_add(1)));
        Err(RuleError::Range { kind, rows, byzantine, range: RANGE, min_rows, largest: None })
    }

    fn needs(&self) -> Needs {
        Needs::PAIR_DISTANCES
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        weights.check_majority(self.kind(), self.byzantine)?;
        let kind = self.kind();
        let gram = match statistics.gram(statistics.origin(), Spread::Every) {
            None => return Err(RuleError::NotObserved { kind, what: "squared distances" }),
            Some(Err(frame)) => return Ok(Decision::refine(self.needs(), frame, rows)),
            Some(Ok(gram)) => gram,
        };
        let lengths: Vec<f64> = (0..rows).map(|row| gram.length(row)).collect();
        let present: Vec<usize> = (0..rows).filter(|&row| !gram.is_infinite(row)).collect();
        let kept = densest(&present, rows / 2 + 1, |a, b| 1.0 - gram.cosine(a, b));
        let (Some(radius), Some(kept)) = (median_length(&lengths), kept) else {
            return Err(RuleError::AllRejected { kind, rows, why: BEYOND_F64 });
        };
        Ok(clipped_mean(&kept, &lengths, radius, weights.as_slice()).note("radius", radius).into())
    }
}

/// HDBSCAN (Campello et al. 2013) for clusters of at least `size` of the `points`, where that is more than half of
/// them; `None` if there are fewer points.
///
/// With min_samples = 1 the core distance of a point is that of its nearest neighbour, so mutual reachability is the
/// distance itself and the hierarchy is single linkage. No merge can join two clusters of more than half of the
/// points, so the condensed tree holds its root alone, which excess of mass selects where a single cluster is allowed.
/// Its points are those that stay to its greatest density: the component that first reaches `size` when edges are
/// added by length, with all edges of that same length. Ties (1e-12) are all in, so nothing depends on the order.
fn densest(points: &[usize], size: usize, distance: impl Fn(usize, usize) -> f64) -> Option<Vec<usize>> {
    if points.len() < size {
        return None;
    }
    let mut edges = spanning_tree(points, distance);
    edges.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut forest = Forest::new(points.len());
    let mut reached = (size <= 1).then_some((0.0, 0));
    for (length, a, b) in edges {
        if reached.is_some_and(|(most, _)| length > most + ROUNDING) {
            break;
        }
        let joined = forest.join(a, b);
        if reached.is_none() && joined >= size {
            reached = Some((length, a));
        }
    }
    let (_, member) = reached?;
    let root = forest.root(member);
    Some((0..points.len()).filter(|&at| forest.root(at) == root).map(|at| points[at]).collect())
}

/// Prim's algorithm: the edges (length, a, b) of a minimum spanning tree, a and b positions in `points`.
fn spanning_tree(points: &[usize], distance: impl Fn(usize, usize) -> f64) -> Vec<(f64, usize, usize)> {
    let mut nearest: Vec<(f64, usize)> = vec![(f64::INFINITY, 0); points.len()];
    let mut left: Vec<usize> = (1..points.len()).collect();
    let mut edges = Vec::with_capacity(left.len());
    let mut last = 0;
    while !left.is_empty() {
        let mut next = 0;
        for (at, &point) in left.iter().enumerate() {
            let length = distance(points[last], points[point]);
            if length < nearest[point].0 {
                nearest[point] = (length, last);
            }
            if nearest[point].0 < nearest[left[next]].0 {
                next = at;
            }
        }
        last = left.remove(next);
        edges.push((nearest[last].0, nearest[last].1, last));
    }
    edges
}

/// Disjoint sets with their sizes.
struct Forest {
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl Forest {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect(), sizes: vec![1; count] }
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parents[at] != at {
            at = self.parents[at];
        }
        at
    }

    /// Joins two sets and returns the size of the whole. Hanging the smaller below the larger keeps paths short.
    fn join(&mut self, a: usize, b: usize) -> usize {
        let (a, b) = (self.root(a), self.root(b));
        let (low, high) = if self.sizes[a] < self.sizes[b] { (a, b) } else { (b, a) };
        if low != high {
            self.parents[low] = high;
            self.sizes[high] += self.sizes[low];
        }
        self.sizes[high]
    }
}

impl Definition for Flame {
    const INFO: RuleInfo = RuleInfo {
        kind: "flame",
        name: "FLAME",
        definition: "mean of the densest cluster of more than half of the rows by cosine distance, its rows shortened \
                     to the median length of all rows",
        formula: "Σ_{i ∈ K} xᵢ · min(1, S/‖xᵢ‖) / |K|, S = medianᵢ ‖xᵢ‖, K from HDBSCAN on 1 − cos(xᵢ, xⱼ)",
        parameters: &[BYZANTINE_INFO],
        range: RANGE,
        breakdown: "heuristic, f ≤ (n−1)/2",
        bound: "none",
        cost: "n²d/2 for the distances, n² for the clusters, then nd",
        source: "Nguyen et al. 2022, Algorithm 1",
        fails: &[
            "it keeps little more than half of the rows, honest or not: the densest, so identical colluders first",
            "colluders that keep close to an honest direction are kept",
            "its noise comes only through privacy; without it backdoors are not removed as the paper says",
        ],
    };

    byzantine_alone!();
}

#[cfg(test)]
mod tests;
