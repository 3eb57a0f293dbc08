//! Intervals for means over few seeds.

use serde::Serialize;

use crate::random::{Purpose, stream};

/// A mean with a 95 % percentile bootstrap interval (Efron 1979) over the seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
    /// The smallest value: the worst seed.
    pub worst: f64,
    /// Sample standard deviation (ddof 1); 0 of one value.
    pub deviation: f64,
    /// Number of values.
    pub count: usize,
}

const RESAMPLES: usize = 2_000;

/// The mean of the values with its interval. The draws follow from the number of values alone, so equal values give equal
/// intervals. Of no values everything is 0.
pub fn interval(values: &[f64]) -> Interval {
    let count = values.len();
    if count == 0 {
        return Interval::default();
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let deviation = if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 };
    let worst = values.iter().copied().fold(f64::INFINITY, f64::min);
    let mut random = stream(0, Purpose::Noise, u64::MAX, count as u64);
    let mut means: Vec<f64> =
        (0..RESAMPLES).map(|_| (0..count).map(|_| values[random.below(count)]).sum::<f64>() / count as f64).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Interval { mean, low: at(0.025), high: at(0.975), worst, deviation, count }
}

/// The interval of the paired differences `b - a`: with the same seeds on both sides the variation between seeds cancels.
pub fn paired(a: &[f64], b: &[f64]) -> Interval {
    interval(&a.iter().zip(b).map(|(a, b)| b - a).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_its_mean_and_is_reproducible() {
        let values = [0.90, 0.92, 0.91, 0.95, 0.93];
        let one = interval(&values);
        assert_eq!(one, interval(&values));
        assert!((one.mean - 0.922).abs() < 1e-12 && one.low < one.mean && one.mean < one.high);
        assert!(one.low >= 0.90 && one.high <= 0.95 && one.worst == 0.90 && one.count == 5);
        assert!((one.deviation - 0.019_235_384).abs() < 1e-6, "{one:?}");
    }

    #[test]
    fn one_value_has_no_width_and_none_is_zero() {
        let one = interval(&[0.5]);
        assert_eq!((one.low, one.mean, one.high, one.deviation), (0.5, 0.5, 0.5, 0.0));
        assert_eq!(interval(&[]), Interval::default());
    }

    #[test]
    fn the_interval_covers_the_true_mean_about_as_often_as_it_says() {
        let mut random = stream(4, Purpose::Noise, 0, 0);
        let covered = (0..400)
            .filter(|_| {
                let values: Vec<f64> = (0..30).map(|_| random.normal()).collect();
                let one = interval(&values);
                one.low <= 0.0 && 0.0 <= one.high
            })
            .count();
        // 95 % of 400 is 380; the percentile bootstrap of 30 values falls a little short.
        assert!((355..=395).contains(&covered), "{covered}");
    }

    #[test]
    fn pairing_cancels_what_the_seeds_share() {
        let a = [0.5, 0.7, 0.9];
        let b = [0.6, 0.8, 1.0];
        let difference = paired(&a, &b);
        assert!(difference.low > 0.099 && difference.high < 0.101, "{difference:?}");
        assert!(interval(&a).high > interval(&b).low);
    }
}
