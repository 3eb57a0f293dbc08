//! The iteration, on coefficients.

use super::{GeometricMedian, Start};
use crate::statistics::{Affine, Gram};

/// One run of the iteration.
pub(super) struct Weiszfeld<'a> {
    pub(super) rule: &'a GeometricMedian,
    pub(super) gram: &'a Gram,
    /// 0 for rows beyond f64.
    pub(super) weights: Vec<f64>,
}

/// Where it ended.
pub(super) struct Found {
    /// Not divided by their sum.
    pub(super) weights: Vec<f64>,
    /// Of the rows from the last iterate.
    pub(super) distances: Vec<f64>,
    pub(super) steps: f64,
    pub(super) residual: f64,
}

impl Found {
    /// Whether no squared distance d² from the iterate is the difference of numbers more than `MOST_LOSS` times as large.
    ///
    /// With normalised weights d²ₓ = Σ wᵢ‖x − xᵢ‖² − V, where V = ½ Σ wᵢwⱼ‖xᵢ − xⱼ‖² = Σ wᵢd²ᵢ: what is added up and
    /// taken away is d²ₓ + 2V in all.
    pub(super) fn is_even(&self) -> bool {
        let counted = || self.weights.iter().zip(&self.distances).filter(|(weight, _)| **weight > 0.0);
        let sum: f64 = counted().map(|(weight, _)| weight).sum();
        let spread = counted().map(|(weight, distance)| weight * distance * distance).sum::<f64>() / sum;
        counted().all(|(_, distance)| distance * distance * (MOST_LOSS - 1.0) >= 2.0 * spread)
    }
}

/// How many times less exact than distances of rows a squared distance from the iterate may be.
const MOST_LOSS: f64 = 16.0;

/// An iterate: weights of the rows, and how far these are from it.
struct Iterate<'a> {
    weights: Vec<f64>,
    point: Affine<'a>,
    distances: Vec<f64>,
}

impl<'a> Weiszfeld<'a> {
    pub(super) fn run(&self) -> Found {
        let mean = self.iterate(self.weights.clone());
        let settles = self.rule.tolerance > 0.0;
        // Rows were so far away that they had to be brought near: their distances hide all others in a sum.
        let spread = (0..self.weights.len()).any(|row| !matches!(self.gram.scale(row), 0.0 | 1.0));
        let mut steps = 0;
        let mut at = match self.rule.start {
            Start::Mean if settles && spread => {
                let core = self.iterate(self.core());
                if self.objective(&core) < self.objective(&mean) { core } else { self.iterate(mean.weights.clone()) }
            }
            Start::Mean => self.iterate(mean.weights.clone()),
            Start::Zero => {
                // The first step needs only the distances from the origin, which are the lengths.
                let norms: Vec<f64> = (0..self.weights.len()).map(|row| self.gram.norm(row)).collect();
                steps = 1;
                self.iterate(self.step(&norms).0)
            }
        };
        let mut residual = f64::INFINITY;
        while steps < self.rule.steps && (!settles || residual > self.rule.tolerance) {
            let (weights, pull) = self.step(&at.distances);
            let next = self.iterate(weights);
            residual = if spread {
                // The objective is convex and the step its gradient over `pull`: it falls by at most this much.
                let fall = pull * next.point.distance2(&at.point);
                ratio(fall, self.near_objective(&next))
            } else {
                let objective = self.objective(&next);
                ratio((self.objective(&at) - objective).abs(), objective)
            };
            at = next;
            steps += 1;
        }
        if settles && self.rule.start == Start::Mean && self.objective(&at) > self.objective(&mean) {
            at = mean;
        }
        // With one step from the origin there is no change to speak of.
        let residual = if residual.is_finite() { residual } else { 1.0 };
        #[allow(clippy::cast_precision_loss, reason = "steps are few")]
        Found { weights: at.weights, distances: at.distances, steps: steps as f64, residual }
    }

    fn iterate(&self, weights: Vec<f64>) -> Iterate<'a> {
        let sum: f64 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
        let point = Affine::new(self.gram, &shares);
        let distances = (0..weights.len()).map(|row| point.distance(row)).collect();
        Iterate { weights, point, distances }
    }

    /// The next weights wᵢ / max(ν, distanceᵢ), times the least of these distances, so that the nearest row keeps its
    /// weight; and the sum of the weights proper.
    fn step(&self, distances: &[f64]) -> (Vec<f64>, f64) {
        let floored = |row: usize| distances[row].max(self.rule.nu);
        let counted = (0..distances.len()).filter(|&row| self.weights[row] > 0.0);
        let least = counted.map(floored).fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return (self.weights.clone(), 0.0);
        }
        let weigh = |(row, weight): (usize, &f64)| if *weight > 0.0 { weight * (least / floored(row)) } else { 0.0 };
        let weights: Vec<f64> = self.weights.iter().enumerate().map(weigh).collect();
        let pull = weights.iter().sum::<f64>() / least;
        (weights, pull)
    }

    fn objective(&self, at: &Iterate<'_>) -> f64 {
        let counted = self.weights.iter().zip(&at.distances).filter(|(weight, _)| **weight > 0.0);
        counted.map(|(weight, distance)| weight * distance).sum()
    }

    /// The objective of the half of the weight that is nearest: a few rows however far away do not hide a change.
    fn near_objective(&self, at: &Iterate<'_>) -> f64 {
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        order.sort_by(|&a, &b| at.distances[a].total_cmp(&at.distances[b]));
        self.nearest_half(order).iter().map(|&row| self.weights[row] * at.distances[row]).sum()
    }

    /// The weights of the half nearest to the reference, the most central row.
    fn core(&self) -> Vec<f64> {
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        order.sort_by(|&a, &b| self.gram.length(a).total_cmp(&self.gram.length(b)));
        let mut weights = vec![0.0; self.weights.len()];
        for row in self.nearest_half(order) {
            weights[row] = self.weights[row];
        }
        weights
    }

    /// The first rows of `order` that hold at least half of the weight.
    fn nearest_half(&self, mut order: Vec<usize>) -> Vec<usize> {
        let half = 0.5 * self.weights.iter().sum::<f64>();
        let mut mass = 0.0;
        let enough = order.iter().position(|&row| {
            mass += self.weights[row];
            mass >= half
        });
        order.truncate(enough.map_or(order.len(), |last| last + 1));
        order
    }
}

/// 0 where nothing changes.
fn ratio(change: f64, objective: f64) -> f64 {
    if change > 0.0 { change / objective } else { 0.0 }
}
