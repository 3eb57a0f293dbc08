//! Tests of randomness and a learner, as a distinguisher on a transcript has them.
//!
//! Every score is in standard deviations of what true randomness gives, so that one bound serves all: a test that looks
//! at many scores allows for their number.

/// Bound for a distinguisher that must find nothing: a few thousand looks stay below it with all but 2^−20.
pub(crate) const CHANCE: f64 = 6.5;

/// The four bytes of each word against uniform ones.
pub(crate) fn chi_squared(words: &[u32]) -> f64 {
    (0..4)
        .map(|byte| {
            let mut counts = [0u32; 256];
            words.iter().for_each(|word| counts[(word >> (8 * byte)) as usize & 0xff] += 1);
            chi_squared_of(&counts)
        })
        .fold(0.0, f64::max)
}

/// How far counts are from equal ones, in standard deviations of χ² (Wilson and Hilferty 1931).
pub(crate) fn chi_squared_of(counts: &[u32]) -> f64 {
    let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let expected = total / counts.len() as f64;
    let statistic: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    let freedom = counts.len() as f64 - 1.0;
    let spread = 2.0 / (9.0 * freedom);
    (((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()).abs()
}

/// The largest difference between the words' distribution and the uniform one (Kolmogorov and Smirnov): √n·D, as
/// standard deviations with the same tail, e^(−2·n·D²)·2.
pub(crate) fn kolmogorov_smirnov(words: &[u32]) -> f64 {
    let mut sorted = words.to_vec();
    sorted.sort_unstable();
    let count = sorted.len() as f64;
    let distance = sorted.iter().enumerate().fold(0.0, |most: f64, (at, &word)| {
        let place = (f64::from(word) + 0.5) / 4_294_967_296.0;
        most.max((place - at as f64 / count).abs()).max(((at + 1) as f64 / count - place).abs())
    });
    // A normal variable beyond 2·√n·D has about that tail.
    2.0 * count.sqrt() * distance
}

/// Each bit of the words against a fair coin.
pub(crate) fn bit_planes(words: &[u32]) -> f64 {
    let mut ones = [0u64; 32];
    for &word in words {
        ones.iter_mut().enumerate().for_each(|(bit, ones)| *ones += u64::from(word >> bit & 1));
    }
    let count = words.len() as f64;
    ones.iter().map(|&ones| (ones as f64 - count / 2.0).abs() / (count / 4.0).sqrt()).fold(0.0, f64::max)
}

/// Correlation of each word with the one `lag` later.
pub(crate) fn serial_correlation(words: &[u32], lag: usize) -> f64 {
    let centred = |word: u32| f64::from(word) / 4_294_967_296.0 - 0.5 + 0.5 / 4_294_967_296.0;
    let pairs = words.len() - lag;
    let sum: f64 = words.iter().zip(&words[lag..]).map(|(&one, &other)| centred(one) * centred(other)).sum();
    // Each product has variance (1/12)².
    sum.abs() * 12.0 / (pairs as f64).sqrt()
}

/// The largest of all scores.
pub(crate) fn worst(words: &[u32]) -> f64 {
    let correlations = (1..=4).map(|lag| serial_correlation(words, lag)).fold(0.0, f64::max);
    chi_squared(words).max(kolmogorov_smirnov(words)).max(bit_planes(words)).max(correlations)
}

/// Logistic regression by stochastic gradient descent: trained on the first half of labelled features, asked about the
/// second. Answers how many standard deviations above guessing it is right.
pub(crate) fn learned(samples: &[(Vec<f64>, bool)]) -> f64 {
    let (train, test) = samples.split_at(samples.len() / 2);
    let width = samples[0].0.len();
    let (mut weights, mut bias) = (vec![0.0; width], 0.0);
    let score = |weights: &[f64], bias: f64, features: &[f64]| {
        bias + weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f64>()
    };
    for epoch in 0..30 {
        let rate = 0.5 / (1.0 + f64::from(epoch)) / (width as f64).sqrt();
        for (features, label) in train {
            let probability = 1.0 / (1.0 + (-score(&weights, bias, features)).exp());
            let error = f64::from(u8::from(*label)) - probability;
            bias += rate * error;
            weights.iter_mut().zip(features).for_each(|(weight, feature)| *weight += rate * error * feature);
        }
    }
    let right = test.iter().filter(|(features, label)| (score(&weights, bias, features) > 0.0) == *label).count();
    let count = test.len() as f64;
    (right as f64 - count / 2.0) / (count / 4.0).sqrt()
}
