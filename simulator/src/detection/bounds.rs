//! Exact bounds of a rate that was counted.

use crate::scalar::{Scalar, ln};

/// The Clopper–Pearson interval (1934) of a rate of which `hits` in `trials` were seen, at the given confidence: never too
/// narrow. 0 to 1 without trials.
pub fn clopper_pearson(hits: u64, trials: u64, confidence: f64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let hits = hits.min(trials);
    let tail = (1.0 - confidence) / 2.0;
    let low = if hits == 0 { 0.0 } else { solve(|p| 1.0 - at_most(hits - 1, trials, p) - tail) };
    let high = if hits == trials { 1.0 } else { solve(|p| tail - at_most(hits, trials, p)) };
    (low, high)
}

/// The zero of a function that grows from below to above it on 0..=1.
fn solve(function: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if function(middle) < 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// P(X ≤ k) of a binomial variable.
fn at_most(k: u64, trials: u64, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return f64::from(u8::from(k >= trials));
    }
    let (hit, miss) = (ln(p), ln(1.0 - p));
    let mut choose = 0.0;
    let mut sum = 0.0;
    for i in 0..=k {
        if i > 0 {
            choose += ln((trials - i + 1) as f64) - ln(i as f64);
        }
        sum += Scalar::exp(choose + i as f64 * hit + (trials - i) as f64 * miss);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        for (hits, trials, low, high) in [
            (0, 10, 0.0, 0.308_497),
            (1, 10, 0.002_529, 0.445_016),
            (5, 10, 0.187_086, 0.812_914),
            (10, 10, 0.691_503, 1.0),
            (3, 1000, 0.000_619, 0.008_742),
        ] {
            let bounds = clopper_pearson(hits, trials, 0.95);
            assert!((bounds.0 - low).abs() < 2e-6 && (bounds.1 - high).abs() < 2e-6, "{hits} of {trials}: {bounds:?}");
        }
        assert_eq!(clopper_pearson(0, 0, 0.95), (0.0, 1.0));
    }
}
