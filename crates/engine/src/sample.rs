//! A secret Poisson sample: an independent coin for every registered client in every round.

use crate::selection::below;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use testudo_protocol::ClientId;

/// Nanoseconds of one core to clip, add and check one coordinate of one update, twice what a slow one takes.
const NANOSECONDS: f64 = 10.0;

/// Who is sampled from, and how likely each of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoissonSample {
    /// Most clients that register; the rate is `expected` over it.
    pub clients: u64,
    /// Clients of a round if all are registered, at most `clients`.
    pub expected: u64,
    /// Clients that are registered before the first round opens.
    pub registered: u64,
}

impl PoissonSample {
    /// q, rounded up: what is charged is never less than what the coins have.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let rate = self.expected as f64 / self.clients as f64;
        if self.expected >= self.clients { 1.0 } else { rate.next_up().min(1.0) }
    }

    /// Flips a coin of probability `expected`/`clients`, exactly, for every one of `registered`, in their order.
    ///
    /// `seed` is fresh, and forgotten afterwards: who knows it knows the cohort.
    pub fn draw<'a>(&self, seed: [u8; 32], registered: impl Iterator<Item = &'a ClientId>) -> Vec<ClientId> {
        let mut random = ChaCha20Rng::from_seed(seed);
        registered.filter(|_| below(&mut random, self.clients) < self.expected).cloned().collect()
    }

    /// Clients of a sample that hardly any exceeds: six standard deviations over the expected number.
    #[must_use]
    pub fn large(&self) -> u64 {
        (self.expected + 6 * (self.expected as f64).sqrt().ceil() as u64).min(self.clients)
    }

    /// The shortest step between releases that hides how long adding up took, milliseconds, for a model of so many
    /// coordinates.
    #[must_use]
    pub fn release_step_ms(&self, dimension: usize) -> u64 {
        (self.large() as f64 * dimension as f64 * NANOSECONDS / 1e6).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: PoissonSample = PoissonSample { clients: 10, expected: 3, registered: 4 };

    fn seed(number: u32) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        seed
    }

    #[test]
    fn coins_have_the_rate_and_do_not_depend_on_one_another() {
        let clients: Vec<ClientId> = (0..4).map(|number| ClientId::new(format!("c{number}")).unwrap()).collect();
        let mut counts = [0_u32; 16];
        for number in 0..20_000 {
            let drawn = SAMPLE.draw(seed(number), clients.iter());
            let set = clients.iter().enumerate().filter(|(_, client)| drawn.contains(client));
            counts[set.map(|(place, _)| 1 << place).sum::<usize>()] += 1;
        }
        // χ² over all 16 subsets, nobody and everybody among them; 15 degrees of freedom, P(> 50) is 10⁻⁵.
        let expected =
            |set: usize| 20_000.0 * 0.3_f64.powi(set.count_ones() as i32) * 0.7_f64.powi(4 - set.count_ones() as i32);
        let statistic: f64 = counts
            .iter()
            .enumerate()
            .map(|(set, &count)| (f64::from(count) - expected(set)).powi(2) / expected(set))
            .sum();
        assert!(statistic < 50.0, "{statistic}: {counts:?}");
    }

    #[test]
    fn a_release_waits_longer_than_a_large_sample_takes() {
        let sample = PoissonSample { clients: 100_000, expected: 100, registered: 1 };
        assert_eq!((sample.large(), SAMPLE.large()), (160, 10));
        assert_eq!((sample.release_step_ms(10_000_000), sample.release_step_ms(20)), (16_000, 1));
    }

    #[test]
    fn the_rate_that_is_charged_is_not_below_that_of_the_coins() {
        assert!(SAMPLE.rate() >= 0.3 && SAMPLE.rate() < 0.3 + 1e-12);
        assert_eq!(PoissonSample { expected: 10, ..SAMPLE }.rate(), 1.0);
        let all: Vec<ClientId> = (0..9).map(|number| ClientId::new(format!("c{number}")).unwrap()).collect();
        assert_eq!(PoissonSample { expected: 10, ..SAMPLE }.draw(seed(1), all.iter()), all);
    }
}
