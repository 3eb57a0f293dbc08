//! Correlated noise from a lower triangular Toeplitz matrix: Denisov et al. 2022; Choquette-Choo et al. 2023.
//!
//! **Exact in integers.** C has coefficients c_k = a_k/2^f with a_0 = 2^f, and Z_t is a rounded Gaussian of standard
//! deviation 2^f σ. Round t releases y_t = x_t + N_t with N_t = ⌊(Z_t − Σ_{k≥1} a_k N_{t−k})/2^f⌉. For integer x this is
//! ⌊(S_t − Σ_{k≥1} a_k y_{t−k})/2^f⌉ with S_t = 2^f (Cx)_t + Z_t, and S_t is the rounding of 2^f times the Gaussian
//! mechanism (Cx)_t + σ·G: what is released is a function of that mechanism and of earlier releases, for adaptive inputs
//! too. Nothing is approximated; rounding the coefficients only means another C, whose sensitivity is computed.

use crate::{
    accountant::matrix::{MOST_PRODUCTS, Toeplitz},
    budget::{Charge, ChargeMechanism},
    error::{ParameterError, within},
    noise::{NoiseStream, Overflow},
    sensitivity::Adjacency,
};
use std::collections::VecDeque;
use zeroize::Zeroize as _;

/// A matrix whose coefficients are multiples of 2^−f, with its participation limit.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrelatedPlan {
    matrix: Toeplitz,
    /// a_k.
    numerators: Vec<i64>,
    bits: u32,
    sensitivity: f64,
    participations: u32,
    separation: u64,
}

impl CorrelatedPlan {
    /// Rounds the coefficients of `matrix`, divided by the first, to `bits` f ≤ 30 and finds their sensitivity.
    ///
    /// # Errors
    /// Bits outside 4..=30, coefficients whose magnitudes add up to more than 2⁵³⁻ᶠ times the first, more than
    /// [`MOST_PRODUCTS`] of rounds times bands, or a pattern for which no sensitivity is proved.
    pub fn new(matrix: &Toeplitz, bits: u32, participations: u32, separation: u64) -> Result<Self, ParameterError> {
        within("coefficient_bits", bits.into(), 4.0, 30.0)?;
        let (rounds, bands) = (matrix.rounds(), matrix.coefficients().len());
        if bands > MOST_PRODUCTS / rounds {
            let fix = format!(
                "give at most {} with {rounds} rounds: rounds times bands are computed up to {MOST_PRODUCTS}",
                MOST_PRODUCTS / rounds
            );
            return Err(ParameterError::new("bands", bands, fix));
        }
        let unit = (1_i64 << bits) as f64;
        let first = matrix.coefficients()[0];
        let mut numerators = Vec::new();
        for coefficient in matrix.coefficients() {
            let numerator = (coefficient / first * unit).round_ties_even();
            within("coefficients", numerator.abs(), 0.0, 2_f64.powi(60))?;
            numerators.push(numerator as i64);
        }
        // Each is exact in f64, and Σ|a_k N| stays below 2¹¹⁶.
        let sum: u128 = numerators.iter().map(|numerator| u128::from(numerator.unsigned_abs())).sum();
        if sum > 1 << 53 {
            let fix = format!(
                "give coefficients whose magnitudes add up to at most {} times the first: the sums of earlier noise overflow \
                 otherwise",
                1_u64 << (53 - bits)
            );
            return Err(ParameterError::new("coefficients", sum as f64 / unit, fix));
        }
        let rounded = Toeplitz::new(matrix.rounds(), numerators.iter().map(|n| *n as f64 / unit).collect())?;
        let separation_rounds = usize::try_from(separation).unwrap_or(usize::MAX);
        let sensitivity = rounded.sensitivity(participations as usize, separation_rounds)?;
        Ok(Self { matrix: rounded, numerators, bits, sensitivity, participations, separation })
    }

    /// The rounded matrix.
    #[must_use]
    pub fn matrix(&self) -> &Toeplitz {
        &self.matrix
    }

    /// Δ(C) for contributions of norm 1, rounded up.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        self.sensitivity
    }

    /// The σ, in grid steps of the noise streams, that `sigma_grid` of the mechanism needs: 2^f times as much.
    #[must_use]
    pub fn stream_sigma(&self, sigma_grid: u64) -> f64 {
        sigma_grid as f64 * (1_u64 << self.bits) as f64
    }

    /// The charge of the whole run, up front: Δ(C) times one contribution's `sensitivity_grid`.
    ///
    /// # Errors
    /// Parameters outside their limits.
    pub fn charge(&self, sigma_grid: u64, sensitivity_grid: u64) -> Result<Charge, ParameterError> {
        let mechanism = ChargeMechanism::Correlated {
            rounds: self.matrix.rounds() as u64,
            participations: self.participations,
            separation: self.separation,
        };
        let sensitivity = (self.sensitivity * sensitivity_grid as f64).next_up().ceil();
        within("sensitivity_grid", sensitivity, 1.0, 2_f64.powi(36))?;
        Charge::new(Adjacency::ZeroOut, mechanism, sigma_grid, sensitivity as u64, 1)
    }
}

/// One unit's noise, round by round. It remembers the last bands−1 rounds' noise, which is as secret as a seed.
pub struct CorrelatedNoise<'plan> {
    plan: &'plan CorrelatedPlan,
    round: usize,
    past: VecDeque<Vec<i64>>,
}

impl<'plan> CorrelatedNoise<'plan> {
    /// Before the first round. After a restart the rounds so far are drawn again from the run's seed.
    #[must_use]
    pub fn new(plan: &'plan CorrelatedPlan) -> Self {
        Self { plan, round: 0, past: VecDeque::new() }
    }

    /// The next round's noise N_t of `dimension` coordinates, from that round's stream.
    ///
    /// # Errors
    /// Noise beyond i64.
    ///
    /// # Panics
    /// If `dimension` changes, or past the last round: the plan is used up, and more would be uncharged.
    pub fn next(&mut self, dimension: usize, stream: &mut NoiseStream<'_>) -> Result<Vec<i64>, Overflow> {
        assert!(self.round < self.plan.matrix.rounds(), "all rounds of the plan were drawn");
        assert!(self.past.iter().all(|past| past.len() == dimension), "a unit has one dimension");
        let mut noise = vec![0; dimension];
        stream.fill(&mut noise);
        let half = 1_i128 << (self.plan.bits - 1);
        let terms = || self.plan.numerators.iter().skip(1).zip(&self.past);
        // |Z| + Σ|a_k||N| + ½: most runs stay far inside i64, where the sums are ten times as fast.
        let largest = |values: &[i64]| values.iter().map(|value| u128::from(value.unsigned_abs())).max().unwrap_or(0);
        let most = terms().fold(largest(&noise) + half.unsigned_abs(), |sum, (numerator, past)| {
            sum + u128::from(numerator.unsigned_abs()) * largest(past)
        });
        if most < 1 << 63 {
            for (numerator, past) in terms() {
                noise.iter_mut().zip(past).for_each(|(sum, past)| *sum -= numerator * past);
            }
            noise.iter_mut().for_each(|sum| *sum = (*sum + half as i64) >> self.plan.bits);
        } else {
            for (index, value) in noise.iter_mut().enumerate() {
                // |a_k| add up to at most 2⁵³ and |N| ≤ 2⁶³: below 2¹¹⁶, and |Z| + ½ below 2⁶⁴.
                let sum = terms().fold(i128::from(*value) + half, |sum, (numerator, past)| {
                    sum - i128::from(*numerator) * i128::from(past[index])
                });
                *value = i64::try_from(sum >> self.plan.bits).map_err(|_| Overflow)?;
            }
        }
        self.round += 1;
        self.past.push_front(noise.clone());
        if self.past.len() >= self.plan.numerators.len()
            && let Some(mut oldest) = self.past.pop_back()
        {
            oldest.zeroize();
        }
        Ok(noise)
    }
}

impl Drop for CorrelatedNoise<'_> {
    fn drop(&mut self) {
        self.past.iter_mut().for_each(|past| past.zeroize());
    }
}

impl std::fmt::Debug for CorrelatedNoise<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CorrelatedNoise").field("round", &self.round).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Law, NoiseSeed, NoiseTable};

    fn plan(rounds: usize, bands: usize) -> CorrelatedPlan {
        CorrelatedPlan::new(&Toeplitz::square_root(rounds, bands).unwrap(), 11, 1, 1).unwrap()
    }

    /// N_t of every round for `dimension` coordinates.
    fn run(plan: &CorrelatedPlan, sigma: u64, dimension: usize) -> Vec<Vec<i64>> {
        let table = NoiseTable::new(Law::Rounded, plan.stream_sigma(sigma)).unwrap();
        let seed = NoiseSeed::new([3; 32]);
        let mut noise = CorrelatedNoise::new(plan);
        (0..plan.matrix().rounds())
            .map(|round| {
                let key = seed.key(&[round as u8; 32], table.sigma(), 0);
                noise.next(dimension, &mut NoiseStream::new(&table, &key)).unwrap()
            })
            .collect()
    }

    #[test]
    fn what_is_released_is_a_function_of_the_gaussian_mechanism_and_of_earlier_releases() {
        // Inputs x, adaptively anything; y_t must be ⌊(S_t − Σ a_k y_{t−k})/2^f⌉ with S = 2^f C x + Z.
        let plan = plan(30, 7);
        let table = NoiseTable::new(Law::Rounded, plan.stream_sigma(500)).unwrap();
        let seed = NoiseSeed::new([3; 32]);
        let noises = run(&plan, 500, 3);
        let inputs: Vec<i64> = (0..30).map(|t| (t * t * 37) % 1000 - 500).collect();
        let released: Vec<i64> = (0..30).map(|t| inputs[t] + noises[t][1]).collect();
        for t in 0..30 {
            let mut draw = [0; 3];
            let key = seed.key(&[t as u8; 32], table.sigma(), 0);
            NoiseStream::new(&table, &key).fill(&mut draw);
            let bands = |values: &[i64], from: usize| -> i128 {
                let terms = plan.numerators.iter().enumerate().skip(from).filter(|(k, _)| *k <= t);
                terms.map(|(k, a)| i128::from(*a) * i128::from(values[t - k])).sum()
            };
            let mechanism = bands(&inputs, 0) + i128::from(draw[1]);
            let function = (mechanism - bands(&released, 1) + (1 << (plan.bits - 1))) >> plan.bits;
            assert_eq!(i128::from(released[t]), function, "{t}");
        }
    }

    #[test]
    fn noise_that_outgrows_its_words_is_exact_until_it_is_refused() {
        // The inverse of this matrix grows eightfold a round.
        let plan = CorrelatedPlan::new(&Toeplitz::new(40, vec![1.0, 8.0]).unwrap(), 11, 1, 1).unwrap();
        let table = NoiseTable::new(Law::Rounded, plan.stream_sigma(500)).unwrap();
        let seed = NoiseSeed::new([3; 32]);
        let (mut noise, mut before) = (CorrelatedNoise::new(&plan), 0_i128);
        for round in 0..40 {
            let key = seed.key(&[round; 32], table.sigma(), 0);
            let mut draw = [0];
            NoiseStream::new(&table, &key).fill(&mut draw);
            let expected = (i128::from(draw[0]) - 8 * 2048 * before + 1024) >> 11;
            let Ok(found) = noise.next(1, &mut NoiseStream::new(&table, &key)) else {
                assert!(i64::try_from(expected).is_err() && round > 12, "{round}: {expected}");
                return;
            };
            assert_eq!(i128::from(found[0]), expected, "{round}");
            before = expected;
        }
        panic!("the noise never left the range");
    }

    #[test]
    fn prefix_sums_have_the_error_of_the_matrix() {
        let plan = plan(64, 64);
        let dimension = 4000;
        let noises = run(&plan, 1000, dimension);
        let mut prefix = vec![0_i64; dimension];
        let mut total = 0.0;
        for noise in &noises {
            for (sum, value) in prefix.iter_mut().zip(noise) {
                *sum += value;
            }
            total += prefix.iter().map(|value| (*value as f64 / 1000.0).powi(2)).sum::<f64>() / dimension as f64;
        }
        let (_, expected) = plan.matrix().prefix_errors();
        let got = (total / 64.0).sqrt();
        assert!((got / expected - 1.0).abs() < 0.03, "{got} {expected}");
    }

    #[test]
    fn the_charge_is_the_sensitivity_of_the_rounded_matrix() {
        let matrix = Toeplitz::square_root(128, 32).unwrap();
        let plan = CorrelatedPlan::new(&matrix, 11, 4, 32).unwrap();
        assert!((plan.sensitivity() - 2.944_130_010_559_613).abs() < 1e-3);
        let charge = plan.charge(1 << 26, 1 << 24).unwrap();
        assert!(charge.sensitivity_grid as f64 >= plan.sensitivity() * 16_777_216.0);
        assert!(CorrelatedPlan::new(&matrix, 3, 1, 1).is_err());
        assert!(CorrelatedPlan::new(&matrix, 11, 1, 0).is_err());
    }

    #[test]
    fn bands_whose_inverse_would_take_seconds_are_refused() {
        let plan = |bands| CorrelatedPlan::new(&Toeplitz::square_root(1 << 16, bands).unwrap(), 11, 1, 1);
        assert!(plan(1 << 13).is_ok());
        let error = plan((1 << 13) + 1).unwrap_err();
        assert_eq!((error.key, error.value.as_str()), ("bands", "8193"));
        assert!(error.fix.contains("at most 8192 with 65536 rounds"), "{error}");
    }

    #[test]
    fn coefficients_that_could_overflow_the_sums_are_refused() {
        // With 11 bits: 2¹¹ + 2⁵² and 2¹¹ + 2⁵² + 2⁵².
        let (first, large) = (1.0, 2_f64.powi(41));
        let plan =
            |coefficients: &[f64]| CorrelatedPlan::new(&Toeplitz::new(3, coefficients.to_vec()).unwrap(), 11, 1, 1);
        assert!(plan(&[first, -large]).is_ok());
        let error = plan(&[first, large, -large]).unwrap_err();
        assert_eq!(error.key, "coefficients");
        assert!(error.fix.contains("at most 4398046511104 times the first"), "{error}");
    }

    #[test]
    #[should_panic(expected = "all rounds of the plan")]
    fn no_round_beyond_the_plan_is_drawn() {
        let plan = plan(1, 1);
        let table = NoiseTable::new(Law::Rounded, plan.stream_sigma(500)).unwrap();
        let key = NoiseSeed::new([3; 32]).key(&[0; 32], 1.0, 0);
        let mut noise = CorrelatedNoise::new(&plan);
        for _ in 0..2 {
            let _ = noise.next(1, &mut NoiseStream::new(&table, &key));
        }
    }
}
