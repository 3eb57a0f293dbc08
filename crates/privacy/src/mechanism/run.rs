//! A run of correlated noise (DP-FTRL) as a server keeps it: one charge for all its steps, and the noise of each step from
//! the run's seed and the manifests of what the steps summed.

use super::{
    correlated::{CorrelatedNoise, CorrelatedPlan},
    participation::ParticipationLimit,
    tree,
};
use crate::{
    accountant::matrix::Toeplitz,
    budget::Charge,
    error::{ParameterError, within},
    noise::{NoiseSeed, NoiseStream, NoiseTable, Overflow},
};
use zeroize::Zeroizing;

/// Most fractional bits of a matrix's coefficients: beyond these nothing is gained.
const MOST_BITS: u32 = 16;
/// σ of a stream stays below this power of two.
const STREAM_BITS: u32 = 35;

/// How the noise of the steps hangs together.
#[derive(Debug, Clone, PartialEq)]
pub enum RunPlan {
    /// Tree aggregation over so many steps.
    Tree {
        /// Steps of the run.
        rounds: u64,
    },
    /// A lower triangular Toeplitz matrix over the steps.
    Matrix(CorrelatedPlan),
}

impl RunPlan {
    /// Tree aggregation.
    ///
    /// # Errors
    /// Rounds or participations outside the accountant's limits.
    pub fn tree(rounds: u64, limit: ParticipationLimit) -> Result<Self, ParameterError> {
        let most = crate::accountant::tree::MOST_ROUNDS;
        within("rounds", rounds as f64, 1.0, most as f64)?;
        let most = crate::accountant::tree::MOST_PARTICIPATIONS;
        within("max_participation", limit.most().into(), 1.0, most.into())?;
        Ok(Self::Tree { rounds })
    }

    /// A matrix mechanism whose noise has a standard deviation of `sigma_grid` steps: its coefficients are rounded as
    /// little as that permits.
    ///
    /// # Errors
    /// A σ that leaves less than four fractional bits, or those of [`CorrelatedPlan::new`].
    pub fn matrix(matrix: &Toeplitz, sigma_grid: u64, limit: ParticipationLimit) -> Result<Self, ParameterError> {
        let taken = u64::BITS - sigma_grid.leading_zeros();
        let bits = STREAM_BITS.saturating_sub(taken).min(MOST_BITS);
        if bits < 4 {
            let fix = format!(
                "give fewer grid_bits or a lower noise_multiplier: noise of at most 2^{} grid steps leaves room for the coefficients",
                STREAM_BITS - 4
            );
            return Err(ParameterError::new("grid_bits", sigma_grid, fix));
        }
        CorrelatedPlan::new(matrix, bits, limit.most(), limit.gap()).map(Self::Matrix)
    }

    /// The charge of the whole run, for noise of `sigma_grid` steps and one contribution's `sensitivity_grid`.
    ///
    /// # Errors
    /// Parameters outside their limits.
    pub fn charge(
        &self,
        sigma_grid: u64,
        sensitivity_grid: u64,
        limit: ParticipationLimit,
    ) -> Result<Charge, ParameterError> {
        match self {
            // The tree counts the rounds strictly between two participations.
            Self::Tree { rounds } => tree::charge(sigma_grid, sensitivity_grid, *rounds, limit.most(), limit.gap() - 1),
            Self::Matrix(plan) => plan.charge(sigma_grid, sensitivity_grid),
        }
    }

    /// Steps of the run.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        match self {
            Self::Tree { rounds } => *rounds,
            Self::Matrix(plan) => plan.matrix().rounds() as u64,
        }
    }

    /// σ of the noise streams for noise of `sigma_grid` steps.
    #[must_use]
    pub fn stream_sigma(&self, sigma_grid: u64) -> f64 {
        match self {
            Self::Tree { .. } => sigma_grid as f64,
            Self::Matrix(plan) => plan.stream_sigma(sigma_grid),
        }
    }

    /// Standard deviation of the noise in the sum of all steps so far, root mean square over the steps, in units of the
    /// mechanism's σ.
    #[must_use]
    pub fn prefix_deviation(&self) -> f64 {
        match self {
            Self::Tree { rounds } => tree::prefix_deviation(*rounds),
            Self::Matrix(plan) => plan.matrix().prefix_errors().1,
        }
    }

    /// The newest step's noise in a unit of `dimension` coordinates. `manifests` are those of the steps 1, 2, … up to it,
    /// `seed` is the run's, the table that of [`Self::stream_sigma`]. The noise of earlier steps is drawn again.
    ///
    /// # Errors
    /// Noise beyond i64.
    ///
    /// # Panics
    /// Past the last step: the plan is used up, and more would be uncharged.
    pub fn noise(
        &self,
        (table, seed): (&NoiseTable, &NoiseSeed),
        manifests: &[[u8; 32]],
        unit: u64,
        dimension: usize,
    ) -> Result<Zeroizing<Vec<i64>>, Overflow> {
        assert!(manifests.len() as u64 <= self.rounds(), "all steps of the plan were drawn");
        let mut newest = Zeroizing::new(vec![0; dimension]);
        match self {
            Self::Tree { .. } => tree::add_noise((table, seed), manifests, unit, &mut newest)?,
            Self::Matrix(plan) => {
                let mut noise = CorrelatedNoise::new(plan);
                for manifest in manifests {
                    let key = seed.key(manifest, table.sigma(), unit);
                    newest = Zeroizing::new(noise.next(dimension, &mut NoiseStream::new(table, &key))?);
                }
            }
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Law;

    fn limit(most: u32, gap: u64) -> ParticipationLimit {
        ParticipationLimit::new(most, gap).unwrap()
    }

    fn plans(rounds: usize, sigma: u64) -> [RunPlan; 3] {
        let matrix =
            |bands| RunPlan::matrix(&Toeplitz::square_root(rounds, bands).unwrap(), sigma, limit(2, 4)).unwrap();
        [RunPlan::tree(rounds as u64, limit(2, 4)).unwrap(), matrix(rounds), matrix(3)]
    }

    #[test]
    fn the_noise_in_the_sum_of_all_steps_is_what_the_plan_says() {
        const DIMENSION: usize = 3000;
        let (rounds, sigma) = (24, 1000_u64);
        for plan in plans(rounds, sigma) {
            let table = NoiseTable::new(Law::Rounded, plan.stream_sigma(sigma)).unwrap();
            let manifests: Vec<[u8; 32]> = (0..rounds).map(|step| [step as u8; 32]).collect();
            let (mut prefix, mut squares) = (vec![0_i64; DIMENSION], 0.0);
            for step in 1..=rounds {
                let seed = NoiseSeed::new([9; 32]);
                let noise = plan.noise((&table, &seed), &manifests[..step], 0, DIMENSION).unwrap();
                prefix.iter_mut().zip(noise.iter()).for_each(|(sum, value)| *sum += value);
                squares +=
                    prefix.iter().map(|sum| (*sum as f64 / sigma as f64).powi(2)).sum::<f64>() / DIMENSION as f64;
            }
            let found = (squares / rounds as f64).sqrt();
            assert!((found / plan.prefix_deviation() - 1.0).abs() < 0.03, "{found} {plan:?}");
        }
    }

    #[test]
    fn a_step_that_sums_something_else_changes_its_own_noise_and_no_earlier_one() {
        for plan in plans(12, 1 << 20) {
            let table = NoiseTable::new(Law::Rounded, plan.stream_sigma(1 << 20)).unwrap();
            let seed = NoiseSeed::new([9; 32]);
            let manifests: Vec<[u8; 32]> = (0..12).map(|step| [step; 32]).collect();
            let mut other = manifests.clone();
            other[7] = [77; 32];
            let noise =
                |manifests: &[[u8; 32]], step: usize| plan.noise((&table, &seed), &manifests[..step], 3, 4).unwrap();
            for step in 1..=7 {
                assert_eq!(noise(&manifests, step), noise(&other, step), "{step}");
            }
            assert_ne!(noise(&manifests, 8), noise(&other, 8));
        }
    }

    #[test]
    fn charges_are_those_of_the_accountants_in_one_convention_of_separation() {
        // Published: 2000 steps, 6 times, 313 strictly between.
        let tree = RunPlan::tree(2000, limit(6, 314)).unwrap();
        assert_eq!(tree.charge(7 << 24, 1 << 24, limit(6, 314)).unwrap().releases, 79);
        let matrix = Toeplitz::square_root(128, 32).unwrap();
        let plan = RunPlan::matrix(&matrix, 4 << 20, limit(4, 32)).unwrap();
        let charge = plan.charge(4 << 20, 1 << 20, limit(4, 32)).unwrap();
        let sensitivity = charge.sensitivity_grid as f64 / f64::from(1 << 20);
        assert!((sensitivity / matrix.sensitivity(4, 32).unwrap() - 1.0).abs() < 1e-3, "{sensitivity}");
    }

    #[test]
    fn noise_without_room_for_coefficients_and_runs_beyond_the_accountants_are_refused() {
        let matrix = Toeplitz::square_root(8, 8).unwrap();
        assert_eq!(RunPlan::matrix(&matrix, 1 << 32, limit(1, 1)).unwrap_err().key, "grid_bits");
        assert!(RunPlan::matrix(&matrix, 1 << 30, limit(1, 1)).is_ok());
        assert!(RunPlan::tree(1 << 20, limit(1, 1)).is_err());
        assert!(RunPlan::tree(8, limit(65, 1)).is_err());
    }

    #[test]
    #[should_panic(expected = "all steps of the plan")]
    fn no_step_beyond_the_plan_is_drawn() {
        let plan = RunPlan::tree(1, limit(1, 1)).unwrap();
        let table = NoiseTable::new(Law::Rounded, 500.0).unwrap();
        let _ = plan.noise((&table, &NoiseSeed::new([3; 32])), &[[0; 32]; 2], 0, 1);
    }
}
