//! Losses of the Gaussian mechanism on a Poisson sample.

use super::Losses;
use crate::math::{Wide, fast, normal};

/// Losses when the client is taken out and when it is put in; one of them for rate 1, where they are equal.
///
/// With client: W = (1−q)N(0, z²) + qN(1, z²); without: V = N(0, z²). The loss ln(W/V)(x) = ln(1−q+q e^{(2x−1)/2z²})
/// grows with x.
pub(super) fn directions(rate: f64, noise_multiplier: f64, rounds: u64, delta: f64, step: f64) -> Vec<Losses> {
    grid(Pair { rate, noise_multiplier, mirrored: false }, rounds, delta, step)
}

/// The width of one release's losses.
pub(super) fn range(rate: f64, noise_multiplier: f64, rounds: u64, delta: f64) -> f64 {
    let pair = Pair { rate, noise_multiplier, mirrored: false };
    let (low, high) = pair.ends(tail_score(rounds, delta));
    pair.loss(high) - pair.loss(low)
}

fn grid(pair: Pair, rounds: u64, delta: f64, step: f64) -> Vec<Losses> {
    let score = tail_score(rounds, delta);
    let (low, high) = pair.ends(score);
    let (least, most) = (pair.loss(low), pair.loss(high));
    // Both tails count as unbounded losses: under W and V alike they hold no more than two one-sided tails.
    let infinite = 2.0 * normal::upper_tail(Wide::from(score)).upper();
    let mut out = Losses::new(step, least, most, infinite);
    let mut into = Losses::new(step, -most, -least, infinite);
    let (first, last) = ((least / step).floor() as i64 + 1, (most / step).ceil() as i64);
    let mut left = low;
    for index in first..=last {
        let right = if index == last { high } else { pair.point(index as f64 * step).clamp(left, high) };
        let (with, without) = pair.masses(left, right);
        out.add(index, with, without);
        if !pair.is_symmetric() {
            into.add(1 - index, without, with);
        }
        left = right;
    }
    match pair.is_symmetric() {
        true => vec![out.inflated()],
        false => vec![out.inflated(), into.inflated()],
    }
}

/// What cutting a Poisson cohort to a cap does to one client, given that enough others are there to fill it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truncation {
    /// Probability that the others alone fill the cohort.
    full: f64,
    /// Probability that the client is in the cohort then, displacing another.
    displaces: f64,
}

impl Truncation {
    /// With B ~ Bin(n−1, q) others: full = P[B ≥ cap]; the client is in with probability
    /// E[q·cap/(B+1); B ≥ cap]/full = (cap/n)·P[Bin(n, q) > cap]/full.
    pub(super) fn new(rate: f64, population: u64, cap: u64) -> Self {
        let others = population.saturating_sub(1);
        let full = binomial_tail(others, rate, cap);
        if full <= 0.0 {
            return Self { full: 0.0, displaces: 0.0 };
        }
        let more = binomial_tail(population, rate, cap + 1);
        let displaces = more * cap as f64 / (full * population as f64);
        Self { full, displaces: displaces.min(1.0) }
    }
}

/// The width of one release's losses when the cohort is cut.
pub(super) fn truncated_range(
    rate: f64,
    truncation: Truncation,
    noise_multiplier: f64,
    rounds: u64,
    delta: f64,
) -> f64 {
    let pair = Pair { rate: truncation.displaces, noise_multiplier: noise_multiplier / 2.0, mirrored: true };
    let (low, high) = pair.ends(tail_score(rounds, delta));
    range(rate, noise_multiplier, rounds, delta).max(pair.loss(high) - pair.loss(low))
}

/// The mixture of two cases, which is revealed: the cohort has room (plain Poisson, sensitivity 1), or the client
/// displaces another. Then both outcomes lie within 2 of the sum without it, and the pair N(±2) on a sample dominates.
pub(super) fn truncated_directions(
    rate: f64,
    truncation: Truncation,
    noise_multiplier: f64,
    rounds: u64,
    delta: f64,
    step: f64,
) -> Vec<Losses> {
    let room = directions(rate, noise_multiplier, rounds, delta, step);
    if truncation.full <= 0.0 {
        return room;
    }
    let pair = Pair { rate: truncation.displaces, noise_multiplier: noise_multiplier / 2.0, mirrored: true };
    let full = grid(pair, rounds, delta, step);
    // A rate of 1 gives one list, equal in both directions.
    let at = |losses: &[Losses], index: usize| losses[index.min(losses.len() - 1)].clone();
    (0..2).map(|index| at(&full, index).mixed(truncation.full, &at(&room, index))).collect()
}

/// Beyond this many standard deviations lies less than 10⁻⁸ of δ in all rounds together.
fn tail_score(rounds: u64, delta: f64) -> f64 {
    let log_tail = fast::ln(delta) - fast::ln(rounds.max(1) as f64) - 18.5;
    (-2.0 * log_tail).sqrt()
}

/// P[Bin(n, p) ≥ k] by summing the terms from k on.
fn binomial_tail(count: u64, probability: f64, least: u64) -> f64 {
    if least > count {
        return 0.0;
    }
    if probability >= 1.0 || least == 0 {
        return 1.0;
    }
    // ln C(n,k) p^k (1−p)^{n−k}, by a product of k factors in logarithms.
    let (p, n) = (Wide::from(probability), Wide::from(count));
    let mut term = (-p).ln_1p() * (n - Wide::from(least)) + p.ln() * Wide::from(least);
    for k in 1..=least.min(count - least) {
        term = term + (Wide::from(count - k + 1) / Wide::from(k)).ln();
    }
    let odds = p / (Wide::ONE - p);
    let mut term = term.exp();
    let mut sum = term;
    for k in least + 1..=count {
        term = term * odds * Wide::from(count - k + 1) / Wide::from(k);
        sum = sum + term;
        // Past the mode the terms fall at least geometrically.
        if k as f64 > count as f64 * probability && term.nearest() < sum.nearest() * 1e-30 {
            break;
        }
    }
    sum.upper().min(1.0)
}

/// With the client: (1−q)N(0, z²) + qN(1, z²); without: N(0, z²), or its mirror image (1−q)N(0, z²) + qN(−1, z²).
#[derive(Clone, Copy)]
struct Pair {
    rate: f64,
    noise_multiplier: f64,
    mirrored: bool,
}

impl Pair {
    /// Where both distributions' tails are cut.
    fn ends(&self, score: f64) -> (f64, f64) {
        let least = if self.mirrored { -1.0 } else { 0.0 };
        (least - score * self.noise_multiplier, 1.0 + score * self.noise_multiplier)
    }

    fn is_symmetric(&self) -> bool {
        self.rate >= 1.0 || self.mirrored
    }

    fn loss(&self, x: f64) -> f64 {
        match self.mirrored {
            true => self.log_ratio(x) - self.log_ratio(-x),
            false => self.log_ratio(x),
        }
    }

    /// ln(1 − q + q e^{(2x−1)/2z²}).
    fn log_ratio(&self, x: f64) -> f64 {
        let exponent = (x - 0.5) / (self.noise_multiplier * self.noise_multiplier);
        if exponent > 700.0 {
            return exponent + fast::ln(self.rate);
        }
        if self.rate >= 1.0 {
            return exponent;
        }
        let excess = self.rate * fast::exp_m1(exponent);
        // Wide where 1 + excess would lose the digits of excess.
        if excess.abs() < 0.1 { Wide::from(excess).ln_1p().nearest() } else { fast::ln(1.0 + excess) }
    }

    /// The x of a loss; −∞ for what lies below every loss.
    fn point(&self, loss: f64) -> f64 {
        let variance = self.noise_multiplier * self.noise_multiplier;
        if self.rate >= 1.0 {
            return if self.mirrored { variance * loss / 2.0 } else { variance * loss + 0.5 };
        }
        if self.mirrored {
            return self.mirrored_point(loss);
        }
        if loss > 600.0 {
            return variance * (loss - fast::ln(self.rate)) + 0.5;
        }
        let excess = fast::exp_m1(loss) + self.rate;
        if excess <= 0.0 {
            return f64::NEG_INFINITY;
        }
        variance * fast::ln((excess / self.rate).max(f64::MIN_POSITIVE)) + 0.5
    }

    /// With u = e^{x/z²} and c = q e^{−1/2z²} the loss is ln((1−q+cu)/(1−q+c/u)): a quadratic equation in u.
    fn mirrored_point(&self, loss: f64) -> f64 {
        if loss < 0.0 {
            return -self.mirrored_point(-loss);
        }
        let variance = self.noise_multiplier * self.noise_multiplier;
        // Divided by e^{ℓ/2}: c v² − (1−q)·2 sinh(ℓ/2) v − c = 0 for v = u e^{−ℓ/2}, whose positive root is
        // e^{artsinh(b)} with b = (1−q) sinh(ℓ/2)/c.
        let half = loss / 2.0;
        if half <= 0.0 {
            return 0.0;
        }
        let log_sinh = match half > 300.0 {
            true => half - std::f64::consts::LN_2,
            false => fast::ln(0.5 * (fast::exp_m1(half) - fast::exp_m1(-half))),
        };
        let log_slope = log_sinh + fast::ln((1.0 - self.rate) / self.rate) + 0.5 / variance;
        if log_slope > 40.0 {
            // artsinh(b) = ln 2b to within e^{−80}.
            return variance * (half + log_slope + std::f64::consts::LN_2);
        }
        let slope = fast::exp(log_slope);
        // ln(b + √(b²+1)) without cancellation for small b.
        let excess = slope + slope * slope / (1.0 + (slope * slope + 1.0).sqrt());
        variance * (half + Wide::from(excess).ln_1p().nearest())
    }

    /// Masses of left..right with and without the client, by Gauss–Legendre quadrature: nothing cancels.
    fn masses(&self, left: f64, right: f64) -> (f64, f64) {
        if right <= left {
            return (0.0, 0.0);
        }
        let z = self.noise_multiplier;
        // The length over which the density changes by its own size.
        let local = z / (1.0 + left.abs().max((right - 1.0).abs()) / z);
        if right - left < 0.0015 * local {
            return self.quadrature(left, right, &GAUSS_2);
        }
        let pieces = ((right - left) / (0.25 * local)).ceil();
        let width = (right - left) / pieces;
        let mut sums = (0.0, 0.0);
        for piece in 0..pieces as u64 {
            let start = left + piece as f64 * width;
            let (with, without) = self.quadrature(start, start + width, &GAUSS_5);
            sums = (sums.0 + with, sums.1 + without);
        }
        sums
    }

    #[inline]
    fn quadrature(&self, left: f64, right: f64, nodes: &[(f64, f64)]) -> (f64, f64) {
        const INVERSE_ROOT_OF_TWO_PI: f64 = 0.398_942_280_401_432_7;
        let z = self.noise_multiplier;
        let (centre, half) = (left.midpoint(right), (right - left) / 2.0);
        let (mut present, mut absent, mut opposite) = (0.0, 0.0, 0.0);
        for &(node, weight) in nodes {
            let x = centre + half * node;
            let (at_zero, at_one) = (x / z, (x - 1.0) / z);
            absent += weight * fast::exp(-0.5 * at_zero * at_zero);
            present += weight * fast::exp(-0.5 * at_one * at_one);
            if self.mirrored {
                let at_minus_one = (x + 1.0) / z;
                opposite += weight * fast::exp(-0.5 * at_minus_one * at_minus_one);
            }
        }
        let scale = half * INVERSE_ROOT_OF_TWO_PI / z;
        let outside = (1.0 - self.rate) * absent;
        let without = if self.mirrored { outside + self.rate * opposite } else { absent };
        (scale * (outside + self.rate * present), scale * without)
    }
}

/// Nodes and weights of the Gauss–Legendre rules on −1..1.
const GAUSS_2: [(f64, f64); 2] = [(-0.577_350_269_189_625_8, 1.0), (0.577_350_269_189_625_8, 1.0)];
const GAUSS_5: [(f64, f64); 5] = [
    (-0.906_179_845_938_664, 0.236_926_885_056_189_08),
    (-0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
    (0.0, 0.568_888_888_888_888_9),
    (0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
    (0.906_179_845_938_664, 0.236_926_885_056_189_08),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_tails_are_those_of_small_cases() {
        assert!((binomial_tail(3, 0.5, 2) - 0.5).abs() < 1e-15);
        assert!((binomial_tail(10, 0.1, 1) - (1.0 - 0.9_f64.powi(10))).abs() < 1e-15);
        assert_eq!(binomial_tail(3, 0.5, 4), 0.0);
    }

    #[test]
    fn masses_sum_to_one_in_both_directions() {
        for (rate, z) in [(1.0, 1.0), (0.01, 0.7), (1e-5, 3.0)] {
            for losses in directions(rate, z, 1, 1e-9, 1e-3) {
                let sum: f64 = losses.masses.iter().sum::<f64>() + losses.infinite;
                assert!((sum - 1.0).abs() < 1e-11, "{rate} {z}: {sum}");
            }
        }
    }
}
