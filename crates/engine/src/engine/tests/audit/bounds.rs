//! What an audit may conclude: exact binomial bounds on a distinguisher's rates, and what they say of μ and ε.

use testudo_privacy::accountant::gaussian;

/// How often any conclusion of one audit may be wrong.
const MISS: f64 = 1e-3;

/// A statistic of many runs with the target zeroed out and with it.
pub(super) struct Audit {
    pub(super) absent: Vec<f64>,
    pub(super) present: Vec<f64>,
}

impl Audit {
    /// The interval of μ = Φ⁻¹(TPR) − Φ⁻¹(FPR) at a threshold set beforehand.
    pub(super) fn mu(&self, threshold: f64) -> (f64, f64) {
        let (caught, wrong) = self.rates(threshold, MISS);
        (quantile(caught.0) - quantile(wrong.1), quantile(caught.1) - quantile(wrong.0))
    }

    /// A lower bound of ε at `delta`: the best of thresholds set beforehand, each at its share of the misses.
    pub(super) fn epsilon(&self, thresholds: &[f64], delta: f64) -> f64 {
        let each = |threshold: &f64| {
            let (caught, wrong) = self.rates(*threshold, MISS / thresholds.len() as f64);
            ((caught.0 - delta) / wrong.1).ln()
        };
        // The logarithm of a negative number is none, and less than any.
        thresholds.iter().map(each).fold(0.0, f64::max)
    }

    /// Bounds of the true and the false positive rate, both right but for `miss`.
    fn rates(&self, threshold: f64, miss: f64) -> ((f64, f64), (f64, f64)) {
        let bounds = |values: &[f64]| {
            let above = values.iter().filter(|value| **value > threshold).count();
            clopper_pearson(above as u64, values.len() as u64, miss / 2.0)
        };
        (bounds(&self.present), bounds(&self.absent))
    }
}

/// The rates under which so many successes are not too many and not too few: Clopper and Pearson 1934.
fn clopper_pearson(successes: u64, trials: u64, miss: f64) -> (f64, f64) {
    let bisect = |is_below: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if is_below(middle) { low = middle } else { high = middle }
        }
        (low, high)
    };
    let low = match successes {
        0 => 0.0,
        // P(X ≥ k) grows with the rate.
        k => bisect(&|rate| tail(k, trials, rate) < miss / 2.0).0,
    };
    // P(X ≤ k) = P(n − X ≥ n − k) falls with it.
    let high = match trials - successes {
        0 => 1.0,
        failures => bisect(&|rate| tail(failures, trials, 1.0 - rate) >= miss / 2.0).1,
    };
    (low, high)
}

/// P(X ≥ k) of a binomial variable, for 1 ≤ k ≤ n.
fn tail(k: u64, n: u64, rate: f64) -> f64 {
    if rate <= 0.0 || rate >= 1.0 {
        return f64::from(u8::from(rate >= 1.0));
    }
    // Beyond the mean terms only fall; below it the other tail is the small one.
    if (k as f64) < n as f64 * rate {
        return 1.0 - sum(n - k + 1, n, 1.0 - rate);
    }
    sum(k, n, rate)
}

/// Σ_{i ≥ k} of the binomial probabilities, from terms that fall.
fn sum(k: u64, n: u64, rate: f64) -> f64 {
    let choose = log_factorial(n) - log_factorial(k) - log_factorial(n - k);
    let mut term = (choose + k as f64 * rate.ln() + (n - k) as f64 * (-rate).ln_1p()).exp();
    let mut total = term;
    for i in k..n {
        term *= (n - i) as f64 / (i + 1) as f64 * rate / (1.0 - rate);
        total += term;
        if term < total * 1e-17 {
            break;
        }
    }
    total.min(1.0)
}

fn log_factorial(n: u64) -> f64 {
    if n < 20 {
        return (1..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    x * x.ln() - x + (std::f64::consts::TAU * x).sqrt().ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3))
}

/// Φ⁻¹, from the advantage of the best distinguisher: δ(0) at μ is 2Φ(μ/2) − 1.
fn quantile(probability: f64) -> f64 {
    if probability < 0.5 {
        return -quantile(1.0 - probability);
    }
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if gaussian::delta(2.0 * middle, 0.0) < 2.0 * probability - 1.0 { low = middle } else { high = middle }
    }
    low
}

#[test]
fn bounds_have_their_known_values_and_cover_as_often_as_they_say() {
    // Tables of Clopper and Pearson at 95 %; the rule of three at its exact value.
    for (successes, trials, low, high) in
        [(0, 10, 0.0, 0.308_50), (1, 10, 0.002_53, 0.445_02), (5, 10, 0.187_09, 0.812_91), (10, 10, 0.691_50, 1.0)]
    {
        let found = clopper_pearson(successes, trials, 0.05);
        assert!((found.0 - low).abs() < 1e-5 && (found.1 - high).abs() < 1e-5, "{successes}: {found:?}");
    }
    // Large numbers: the normal approximation, 3.29 standard deviations at 99.9 %.
    let found = clopper_pearson(100_000, 200_000, 1e-3);
    let width = 3.2905 * (0.25 / 200_000.0_f64).sqrt();
    assert!((found.1 - 0.5 - width).abs() < 1e-5 && (0.5 - found.0 - width).abs() < 1e-5, "{found:?}");
    for (probability, value) in [(0.5, 0.0), (0.841_344_75, 1.0), (0.158_655_25, -1.0), (0.998_650_1, 3.0)] {
        assert!((quantile(probability) - value).abs() < 1e-6, "{probability}");
    }
}
