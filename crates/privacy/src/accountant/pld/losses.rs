//! One release's privacy losses on a grid.

use crate::math::fast;

/// Masses at the losses (first + i)·step under the distribution whose losses these are.
#[derive(Debug, Clone)]
pub(super) struct Losses {
    pub(super) step: f64,
    pub(super) first: i64,
    pub(super) masses: Vec<f64>,
    /// Mass whose loss is unbounded, or is treated so.
    pub(super) infinite: f64,
}

impl Losses {
    /// An empty grid for losses in `low..=high`.
    pub(super) fn new(step: f64, low: f64, high: f64, infinite: f64) -> Self {
        let (first, last) = ((low / step).floor() as i64 - 2, (high / step).ceil() as i64 + 2);
        // Callers bound (high − low)/step.
        Self { step, first, masses: vec![0.0; (last - first + 1) as usize], infinite }
    }

    /// Adds an event set of mass `upper` under this distribution and `lower` under the other, whose losses lie between
    /// (index − 1)·step and index·step: split between both ends such that both masses stay. That is the smallest
    /// distribution on the grid that dominates the true one.
    pub(super) fn add(&mut self, index: i64, upper: f64, lower: f64) {
        if upper <= 0.0 {
            return;
        }
        let below = (index - 1) as f64 * self.step;
        let share = (upper - lower * fast::exp(below)) / -fast::exp_m1(-self.step);
        // Quadrature and rounding are below 10⁻¹² of the mass, so below 10⁻¹² / 10⁻⁵ of the share: 10⁻⁷ more goes up.
        let share = (share.clamp(0.0, upper) + upper * 1e-7).min(upper);
        let at = (index - self.first) as usize;
        self.masses[at] += share;
        self.masses[at - 1] += upper - share;
    }

    /// Adds an atom of mass `upper` whose loss is `loss`.
    pub(super) fn add_atom(&mut self, loss: f64, upper: f64) {
        self.add((loss / self.step).ceil() as i64, upper, upper * fast::exp(-loss));
    }

    /// `weight` of this and the rest of `other`: which of the two happened is revealed, which only helps an adversary.
    pub(super) fn mixed(self, weight: f64, other: &Self) -> Self {
        let first = self.first.min(other.first);
        let end = |losses: &Self| losses.first + losses.masses.len() as i64;
        let mut masses = vec![0.0; (end(&self).max(end(other)) - first) as usize];
        for (losses, weight) in [(&self, weight), (other, 1.0 - weight)] {
            let offset = (losses.first - first) as usize;
            for (sum, mass) in masses[offset..].iter_mut().zip(&losses.masses) {
                *sum += weight * mass;
            }
        }
        let infinite = weight * self.infinite + (1.0 - weight) * other.infinite;
        Self { step: self.step, first, masses, infinite }
    }

    /// Every mass a little larger, against all rounding errors below.
    pub(super) fn inflated(mut self) -> Self {
        for mass in &mut self.masses {
            *mass *= 1.0 + 4e-14;
        }
        self
    }

    /// The loss at a place of `masses`.
    pub(super) fn loss(&self, index: usize) -> f64 {
        (self.first + index as i64) as f64 * self.step
    }
}
