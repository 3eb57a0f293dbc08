//! Randomness as an argument: one independent, reproducible stream per (seed, purpose, round, client).
//!
//! A stream is a counter-based ChaCha keystream whose 256-bit key *is* the four numbers. Streams with different keys are
//! independent, so changing the rule changes no batch, and results do not depend on the order in which clients run.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::scalar::{Scalar, ln};

/// What a stream is for. The numbers are part of the result of every study: never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// Splitting a data set into training and test part.
    Split = 1,
    /// Dividing training data among clients.
    Partition = 2,
    /// Initial parameters of a workload.
    Init = 3,
    /// Order of the examples in local training.
    Batch = 4,
    /// Selection of a round's cohort.
    Cohort = 5,
    /// Random choices of an attack while forging an update.
    Attack = 6,
    /// Random choices of a rule.
    Rule = 7,
    /// Which clients drop out.
    Dropout = 8,
    /// Delays and order of delivery.
    Network = 9,
    /// Differential-privacy noise of a simulation.
    Noise = 10,
    /// Which clients are poisoned.
    Placement = 11,
    /// Random choices of an attack while poisoning data.
    Poison = 12,
    /// Ties between ranks in a detector.
    Detection = 21,
    /// Generated examples.
    Synthetic = 20,
}

/// The stream of `client` in `round` for `purpose`. Use 0 where a purpose knows no round or no client.
pub fn stream(seed: u64, purpose: Purpose, round: u64, client: u64) -> Stream {
    let mut key = [0_u8; 32];
    for (bytes, part) in key.chunks_exact_mut(8).zip([seed, purpose as u64, round, client]) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    Stream { generator: ChaCha12Rng::from_seed(key), spare: None }
}

/// A reproducible source of random numbers; see [`stream`].
#[derive(Clone, Debug)]
pub struct Stream {
    generator: ChaCha12Rng,
    spare: Option<f64>,
}

impl Stream {
    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [`low`, `high`).
    pub fn uniform_in(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform among 0, 1, …, `count` - 1 without bias; 0 if `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        if count <= 1 {
            return 0;
        }
        let count = count as u64;
        // Accept only draws below the largest multiple of `count`, so that every remainder is equally likely.
        let limit = u64::MAX - (u64::MAX % count + 1) % count;
        loop {
            let draw = self.bits();
            if draw <= limit {
                return (draw % count) as usize;
            }
        }
    }

    /// Standard normal (Marsaglia and Bray 1964, polar method).
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    /// Random order (Fisher and Yates, as in Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `chosen` distinct numbers out of 0, …, `count` - 1, in increasing order; all of them if `chosen` exceeds `count`.
    pub fn choose(&mut self, count: usize, chosen: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        self.shuffle(&mut all);
        all.truncate(chosen);
        all.sort_unstable();
        all
    }

    /// `count` proportions that sum to one, from the symmetric Dirichlet distribution with concentration `alpha` > 0.
    ///
    /// Gamma variates by Marsaglia and Tsang 2000, taken in logarithms: for small `alpha` they underflow otherwise, and
    /// all-zero proportions would follow.
    pub fn dirichlet(&mut self, alpha: f64, count: usize) -> Vec<f64> {
        let logarithms: Vec<f64> = (0..count).map(|_| self.ln_gamma_variate(alpha)).collect();
        let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logarithms.iter().map(|value| Scalar::exp(value - largest)).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }

    /// Logarithm of a Gamma(`alpha`, 1) variate: that of Gamma(`alpha` + 1) plus ln(U)/`alpha`.
    fn ln_gamma_variate(&mut self, alpha: f64) -> f64 {
        let d = alpha + 1.0 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        let boosted = loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            // 1 - U is in (0, 1], so its logarithm is finite.
            let u = 1.0 - self.uniform();
            if ln(u) < 0.5 * x * x + d - d * v + d * ln(v) {
                break ln(d * v);
            }
        };
        boosted + ln(1.0 - self.uniform()) / alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_chacha_keystream_of_its_four_numbers() {
        let mut seed = [0_u8; 32];
        seed[0] = 7;
        seed[8] = Purpose::Batch as u8;
        seed[16] = 3;
        seed[24] = 19;
        let mut reference = ChaCha12Rng::from_seed(seed);
        let mut stream = stream(7, Purpose::Batch, 3, 19);
        for _ in 0..40 {
            assert_eq!(stream.bits(), reference.next_u64());
        }
    }

    #[test]
    fn the_first_numbers_of_a_stream_never_change() {
        let mut stream = stream(1, Purpose::Init, 2, 3);
        let bits: Vec<u64> = (0..2).map(|_| stream.bits()).collect();
        let normal = stream.normal();
        assert_eq!(bits, EXPECTED_BITS);
        assert_eq!(normal.to_bits(), EXPECTED_NORMAL, "{normal}");
    }

    const EXPECTED_BITS: [u64; 2] = [8_837_916_881_834_919_889, 18_106_635_224_785_463_822];
    const EXPECTED_NORMAL: u64 = 13_826_927_387_388_666_176;

    #[test]
    fn every_part_of_the_key_matters() {
        let mut first: Vec<u64> = [
            stream(1, Purpose::Split, 0, 0),
            stream(2, Purpose::Split, 0, 0),
            stream(1, Purpose::Attack, 0, 0),
            stream(1, Purpose::Split, 1, 0),
            stream(1, Purpose::Split, 0, 1),
        ]
        .iter_mut()
        .map(Stream::bits)
        .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 5);
    }

    #[test]
    fn normal_numbers_have_mean_zero_variance_one_and_kurtosis_three() {
        let mut stream = stream(5, Purpose::Noise, 0, 0);
        let n = 200_000;
        let (mut first, mut second, mut fourth) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = stream.normal();
            first += x;
            second += x * x;
            fourth += x * x * x * x;
        }
        let n = f64::from(n);
        assert!((first / n).abs() < 0.01, "{}", first / n);
        assert!((second / n - 1.0).abs() < 0.02, "{}", second / n);
        assert!((fourth / n - 3.0).abs() < 0.1, "{}", fourth / n);
    }

    #[test]
    fn below_is_uniform_and_never_reaches_its_bound() {
        let mut stream = stream(5, Purpose::Cohort, 0, 0);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn shuffling_keeps_every_item_and_reaches_every_order() {
        let mut seen = std::collections::BTreeMap::new();
        for client in 0..6_000 {
            let mut items = [0, 1, 2];
            stream(9, Purpose::Batch, 0, client).shuffle(&mut items);
            *seen.entry(items).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        assert!(seen.values().all(|count| (850..1_150).contains(count)), "{seen:?}");
    }

    #[test]
    fn choosing_gives_distinct_numbers_in_order() {
        let chosen = stream(4, Purpose::Placement, 0, 0).choose(50, 8);
        assert_eq!(chosen.len(), 8);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(chosen.iter().all(|client| *client < 50));
        assert_eq!(stream(4, Purpose::Placement, 0, 0).choose(3, 9), [0, 1, 2]);
    }

    #[test]
    fn dirichlet_proportions_have_the_right_mean_and_variance() {
        for alpha in [0.3, 1.0, 5.0] {
            let (mut first, mut second) = (0.0, 0.0);
            let draws = 20_000;
            let mut stream = stream(2, Purpose::Partition, 0, 0);
            for _ in 0..draws {
                let share = stream.dirichlet(alpha, 4)[0];
                first += share;
                second += share * share;
            }
            let mean = first / f64::from(draws);
            let variance = second / f64::from(draws) - mean * mean;
            let expected = 0.25 * 0.75 / (4.0 * alpha + 1.0);
            assert!((mean - 0.25).abs() < 0.01, "{alpha}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "{alpha}: {variance} {expected}");
        }
    }

    #[test]
    fn dirichlet_proportions_survive_a_concentration_where_gamma_variates_underflow() {
        for client in 0..100 {
            let shares = stream(3, Purpose::Partition, 0, client).dirichlet(1e-4, 10);
            assert!(shares.iter().all(|share| share.is_finite()), "{shares:?}");
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}
