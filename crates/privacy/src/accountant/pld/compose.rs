//! Self-composition on a window of the grid.

use super::Losses;
use crate::math::fast;
use rustfft::{FftPlanner, num_complex::Complex};

/// The finest and usual loss grid.
pub(super) const STEP: f64 = 1e-4;

/// The longest window: 2¹⁹ complex numbers are 8 MiB.
const MOST: usize = 1 << 19;

/// The smallest ε at `delta` of `rounds` releases, the largest over the directions that `build` returns for a step;
/// `range` is the width of one release's losses, `finest` the step to begin with.
pub(super) fn epsilon(finest: f64, range: f64, build: impl Fn(f64) -> Vec<Losses>, rounds: u64, delta: f64) -> f64 {
    // A coarse grid finds tilts and windows; being a multiple of the fine one, it dominates it.
    let mut coarse = finest;
    while range / coarse > 1500.0 {
        coarse *= 2.0;
    }
    let (windows, step) = loop {
        let windows: Vec<Window> = build(coarse).iter().map(|losses| Window::of(losses, rounds, delta)).collect();
        let step = fine_step(&windows, finest, coarse, range, rounds);
        if step <= coarse {
            break (windows, step);
        }
        // Only a coarser grid dominates: the windows must be found again.
        coarse = step;
    };
    let length = windows.iter().map(Window::length).fold(0.0, f64::max);
    let size = smooth((length / step) as usize + 4);
    let fine = build(step);
    let composed = powers(&fine, &windows, rounds, size);
    let results = composed.iter().zip(&windows).zip(&fine).map(|((composed, window), losses)| {
        // 10⁻⁶ δ for what may lie above the window.
        let outside = rounds as f64 * losses.infinite + 1e-6 * delta;
        composed.epsilon(window, step, delta - outside)
    });
    results.fold(0.0, f64::max)
}

/// The coarsest step that is fine enough, or the finest that fits the longest window.
fn fine_step(windows: &[Window], finest: f64, coarse: f64, range: f64, rounds: u64) -> f64 {
    let length = windows.iter().map(Window::length).fold(range, f64::max);
    let mut step = finest;
    while length / step > (MOST - 4) as f64
        || (step < coarse && windows.iter().any(|window| window.is_dominant_at(windows, 2.0 * step, rounds)))
    {
        step *= 2.0;
    }
    step
}

/// Where the composition is looked at, and how it is tilted.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// What Rényi accounting would answer, and at which λ.
    answer: f64,
    strongest: f64,
    /// λ: masses are weighted by e^{λ·loss}, so that the FFT's noise is small *relative* to the tail that decides.
    lambda: f64,
    /// Less than 10⁻⁶ δ of all losses lies above, and less than 10⁻⁹ of the tilted ones.
    top: f64,
    /// Less than 10⁻⁹ of the tilted losses lies below. What lies outside re-enters at the other end, which only adds to
    /// δ.
    bottom: f64,
}

impl Window {
    fn of(losses: &Losses, rounds: u64, delta: f64) -> Self {
        let rounds = rounds as f64;
        let cumulants = Cumulants::new(losses);
        let log_inverse = -fast::ln(delta);
        let grid = (-28..=28).map(|index| fast::exp(f64::from(index) / 2.0));
        let tails: Vec<(f64, f64)> = grid.map(|lambda| (lambda, rounds * cumulants.at(lambda))).collect();
        let best = |log_tail: f64| {
            tails
                .iter()
                .map(|&(lambda, cumulant)| (lambda, (cumulant + log_tail) / lambda))
                .min_by(|left, right| left.1.total_cmp(&right.1))
                .unwrap_or((1.0, f64::INFINITY))
        };
        // Rényi accounting would answer (T K(λ) + ln 1/δ)/λ at its best λ. The true ε lies below, where masses weigh
        // e^{λ·gap} more than there: the smallest λ is safest that still brings the noise, 10⁻¹³ of the whole, under
        // 10⁻⁸ δ times e⁹ at that answer.
        let (strongest, answer) = best(log_inverse);
        let lambda = tails
            .iter()
            .find(|(lambda, cumulant)| cumulant - lambda * answer <= 9.0 - log_inverse)
            .map_or(strongest, |(lambda, _)| *lambda);
        let (_, top) = best(log_inverse + 13.9);
        // Chernoff's bounds of the tilted distribution, from its cumulants K(λ±s) − K(λ).
        let at = rounds * cumulants.at(lambda);
        let shifts = || (-28..=20).map(|index| fast::exp(f64::from(index) / 2.0));
        let reach = |sign: f64| {
            shifts()
                .map(|shift| (20.8 + rounds * cumulants.at(lambda + sign * shift) - at) / shift)
                .fold(f64::INFINITY, f64::min)
        };
        let (top, bottom) = (top.max(reach(1.0)), -reach(-1.0));
        Self { answer, strongest, lambda, top: top + 2.0 * losses.step, bottom: bottom - 2.0 * losses.step }
    }
}

impl Window {
    fn length(&self) -> f64 {
        self.top - self.bottom
    }

    /// Whether this direction decides, and a grid of this step moves its ε by less than 3·10⁻⁵ of itself.
    ///
    /// A split between the ends of a cell of width h raises K(λ) by at most λ(λ+1)h²/8, hence ε by T(λ+1)h²/8.
    fn is_dominant_at(&self, all: &[Self], step: f64, rounds: u64) -> bool {
        let largest = all.iter().map(|window| window.answer).fold(0.0, f64::max);
        let error = rounds as f64 * (self.strongest + 1.0) * step * step / 8.0;
        self.answer >= largest && error <= 3e-5 * self.answer
    }
}

/// K(λ) = ln Σ mass·e^{λ·loss} of one release.
struct Cumulants {
    /// (loss, ln mass).
    points: Vec<(f64, f64)>,
}

impl Cumulants {
    fn new(losses: &Losses) -> Self {
        let positive = losses.masses.iter().enumerate().filter(|(_, mass)| **mass >= f64::MIN_POSITIVE);
        Self { points: positive.map(|(index, mass)| (losses.loss(index), fast::ln(*mass))).collect() }
    }

    fn at(&self, lambda: f64) -> f64 {
        // Taken from the largest exponent, so that neither end overflows.
        let largest = self.points.iter().map(|(loss, log)| log + lambda * loss).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.points.iter().map(|(loss, log)| fast::exp(log + lambda * loss - largest)).sum();
        largest + fast::ln(sum)
    }

    /// Every (loss, e^{λ·loss}·mass/e^K), and K.
    fn tilted(&self, lambda: f64) -> (impl Iterator<Item = (f64, f64)>, f64) {
        let cumulant = self.at(lambda);
        (self.points.iter().map(move |(loss, log)| (*loss, fast::exp(log + lambda * loss - cumulant))), cumulant)
    }
}

/// A tilted composition on a cyclic grid.
struct Composed {
    /// Place i holds the losses congruent to i·step.
    masses: Vec<f64>,
    /// T·K(λ) on the fine grid.
    cumulant: f64,
    /// Bound of a mass's error.
    error: f64,
}

impl Composed {
    /// The ε at which the window's masses leave `delta`; ∞ if `delta` is not positive or floats do not carry it.
    fn epsilon(&self, window: &Window, step: f64, delta: f64) -> f64 {
        // Beyond 10⁷ an exponent has lost the digits that decide; then this accountant has no answer. Nor if the tilted
        // masses, whose sum is 1, were not found again.
        let exponents = self.cumulant.abs().max((window.lambda * window.top).abs());
        let total: f64 = self.masses.iter().sum();
        let sound = exponents < 1e7 && (total - 1.0).abs() < 1e-6;
        if delta <= 0.0 || !sound {
            return f64::INFINITY;
        }
        let size = self.masses.len() as i64;
        let top = (window.top / step).ceil() as i64;
        // With e = loss now: `above` = Σ w, `scaled` = Σ w e^{e − loss} over the losses above e; δ(e) = above − scaled.
        let (mut above, mut scaled) = (0.0, 0.0);
        let decay = fast::exp(-step);
        for index in (top - size + 1..=top).rev() {
            let loss = index as f64 * step;
            if loss < 0.0 {
                return 0.0;
            }
            scaled *= decay;
            let mass = self.masses[index.rem_euclid(size) as usize].max(0.0) + self.error;
            let weight = mass * fast::exp(self.cumulant - window.lambda * loss);
            above += weight;
            scaled += weight;
            // δ(loss − s) = above − scaled e^{−s} for 0 ≤ s ≤ step.
            if above - scaled * decay >= delta {
                let shift = -fast::ln(((above - delta) / scaled).max(f64::MIN_POSITIVE));
                return (loss - shift.clamp(0.0, step)).next_up().max(0.0);
            }
        }
        // The window ends before δ is reached: the true ε lies below it.
        ((top - size + 1) as f64 * step).next_up()
    }
}

/// The smallest number without prime factors above 5 that is not below `least`: transforms of such lengths are fast.
fn smooth(least: usize) -> usize {
    let mut best = least.next_power_of_two();
    let mut fives = 1;
    while fives < best {
        let mut threes = fives;
        while threes < best {
            let twos = least.div_ceil(threes).next_power_of_two();
            best = best.min(threes * twos);
            threes *= 3;
        }
        fives *= 5;
    }
    best
}

/// Every direction's tilted masses to the power `rounds`. Two real sequences share one complex transform.
fn powers(fine: &[Losses], windows: &[Window], rounds: u64, size: usize) -> Vec<Composed> {
    let mut data = vec![Complex::new(0.0, 0.0); size];
    let mut cumulants = Vec::new();
    for (part, (losses, window)) in fine.iter().zip(windows).enumerate() {
        let all = Cumulants::new(losses);
        let (tilted, cumulant) = all.tilted(window.lambda);
        cumulants.push(rounds as f64 * cumulant);
        for (loss, weight) in tilted {
            // Losses are whole multiples of the step.
            let index = (loss / losses.step).round_ties_even() as i64;
            let place = &mut data[index.rem_euclid(size as i64) as usize];
            if part == 0 {
                place.re += weight;
            } else {
                place.im += weight;
            }
        }
    }
    let mut planner = FftPlanner::new();
    planner.plan_fft_forward(size).process(&mut data);
    let mut sums = [0.0; 2];
    for index in 0..=size / 2 {
        let mirror = (size - index) % size;
        let (here, there) = (data[index], data[mirror].conj());
        let first = power((here + there) * 0.5, rounds);
        let second = power((here - there) * Complex::new(0.0, -0.5), rounds);
        let times = if index == mirror { 1.0 } else { 2.0 };
        sums[0] += times * first.norm();
        sums[1] += times * second.norm();
        let turn = Complex::new(0.0, 1.0);
        data[index] = first + turn * second;
        data[mirror] = first.conj() + turn * second.conj();
    }
    planner.plan_fft_inverse(size).process(&mut data);
    let scale = 1.0 / size as f64;
    let both = (sums[0] + sums[1]) * scale;
    // A transform's relative error is below 3u·log₂ size; the power multiplies it by the rounds.
    let error = both * 4e-16 * (rounds as f64 + 60.0);
    (0..fine.len())
        .map(|part| Composed {
            masses: data.iter().map(|value| scale * if part == 0 { value.re } else { value.im }).collect(),
            cumulant: cumulants[part],
            error,
        })
        .collect()
}

fn power(base: Complex<f64>, mut exponent: u64) -> Complex<f64> {
    // |base|^exponent below 10⁻³⁰: nothing. |b|² < 1 − x gives |b|^T < e^{−xT/2}.
    if (1.0 - base.norm_sqr()) * exponent as f64 > 140.0 {
        return Complex::new(0.0, 0.0);
    }
    let (mut result, mut square) = (Complex::new(1.0, 0.0), base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_smooth_and_not_too_short() {
        for least in [1, 7, 121, 4097, 270_001, 500_000] {
            let mut rest = smooth(least);
            assert!(rest >= least && rest <= least.next_power_of_two());
            for prime in [2, 3, 5] {
                while rest.is_multiple_of(prime) {
                    rest /= prime;
                }
            }
            assert_eq!(rest, 1, "{least}");
        }
    }
}
