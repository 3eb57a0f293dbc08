//! Privacy loss distributions, discretised pessimistically and composed by FFT: Koskela, Jälkö and Honkela 2020;
//! the discretisation is "connect the dots" (Doroshenko et al. 2022).
//!
//! Tighter than Rényi accounting, for reports alone: the parameters must have been fixed beforehand, and the FFT's last
//! bits depend on the processor. Every step errs upwards by more than that: masses, splits, tails and FFT noise.

mod compose;
mod gaussian;
mod laplace;
mod losses;

use compose::STEP;
use losses::Losses;

/// ε of `rounds` Gaussian releases, each on a Poisson sample of rate q in (0, 1]; zero-out or add-or-remove adjacency.
#[must_use]
pub fn poisson(rate: f64, noise_multiplier: f64, rounds: u64, delta: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    let rate = rate.min(1.0);
    let range = gaussian::range(rate, noise_multiplier, rounds, delta);
    compose::epsilon(
        STEP,
        range,
        |step| gaussian::directions(rate, noise_multiplier, rounds, delta, step),
        rounds,
        delta,
    )
}

/// ε of `rounds` Poisson samples cut to `cap` clients by a uniform choice; zero-out adjacency.
///
/// `population` registered clients, each sampled with `rate` in (0, 1].
#[must_use]
pub fn truncated_poisson(rate: f64, population: u64, cap: u64, noise_multiplier: f64, rounds: u64, delta: f64) -> f64 {
    let truncation = gaussian::Truncation::new(rate, population, cap);
    compose::epsilon(
        STEP,
        gaussian::truncated_range(rate, truncation, noise_multiplier, rounds, delta),
        |step| gaussian::truncated_directions(rate, truncation, noise_multiplier, rounds, delta, step),
        rounds,
        delta,
    )
}

/// ε of `rounds` Laplace releases with scale/L1-sensitivity `scale`.
#[must_use]
pub fn laplace(scale: f64, rounds: u64, delta: f64) -> f64 {
    // Both atoms lie on the grid if 1/b is a power of two of steps.
    let mut step = 1.0 / scale;
    while step > STEP {
        step /= 2.0;
    }
    compose::epsilon(step, 2.0 / scale, |step| vec![laplace::losses(scale, step)], rounds, delta)
}
