//! Matrix mechanisms: Denisov et al. 2022. The prefix sums A x are released as B(C x + z·noise) with A = BC.
//!
//! C is lower triangular and Toeplitz here, which permits adaptive inputs: √-Toeplitz (Fichtenberger, Henzinger and
//! Upadhyay 2023), its banded form (Choquette-Choo et al. 2023), or coefficients from a file.

use crate::{
    error::{ParameterError, within},
    math::Wide,
};

/// The most rounds of a matrix mechanism.
pub const MOST_ROUNDS: usize = 1 << 16;
/// The most participations times bands whose sensitivity is computed: a fraction of a second.
pub const MOST_ADDITIONS: usize = 1 << 26;
/// The most rounds times bands of a matrix that noise is drawn through: its inverse takes a fraction of a second.
pub const MOST_PRODUCTS: usize = 1 << 29;

/// The first column of a lower triangular Toeplitz matrix C over the rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Toeplitz {
    rounds: usize,
    coefficients: Vec<f64>,
}

impl Toeplitz {
    /// C whose coefficients are given; those left out are 0.
    ///
    /// # Errors
    /// More coefficients than rounds, a first one that is not positive, or any that is not finite.
    pub fn new(rounds: usize, coefficients: Vec<f64>) -> Result<Self, ParameterError> {
        within("rounds", rounds as f64, 1.0, MOST_ROUNDS as f64)?;
        if coefficients.is_empty() || coefficients.len() > rounds {
            let fix = format!("give 1 to {rounds} coefficients");
            return Err(ParameterError::new("coefficients", coefficients.len(), fix));
        }
        if let Some(bad) = coefficients.iter().find(|value| !value.is_finite()) {
            return Err(ParameterError::new("coefficients", bad, "give finite numbers"));
        }
        if coefficients[0] <= 0.0 {
            return Err(ParameterError::new("coefficients", coefficients[0], "the first must be positive"));
        }
        Ok(Self { rounds, coefficients })
    }

    /// Independent noise in every round: C is the identity.
    ///
    /// # Errors
    /// Rounds outside the limits.
    pub fn independent(rounds: usize) -> Result<Self, ParameterError> {
        Self::new(rounds, vec![1.0])
    }

    /// The square root of the prefix-sum matrix, cut to `bands`: c₀ = 1, c_k = c_{k−1}(2k−1)/(2k).
    ///
    /// # Errors
    /// Rounds outside the limits, or bands outside 1..=rounds.
    pub fn square_root(rounds: usize, bands: usize) -> Result<Self, ParameterError> {
        within("rounds", rounds as f64, 1.0, MOST_ROUNDS as f64)?;
        within("bands", bands as f64, 1.0, rounds as f64)?;
        let mut coefficients = vec![1.0_f64];
        for k in 1..bands {
            let previous = coefficients[k - 1];
            coefficients.push(previous * (2 * k - 1) as f64 / (2 * k) as f64);
        }
        Self::new(rounds, coefficients)
    }

    /// How many rounds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// The first column without its trailing zeros.
    #[must_use]
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// The L2 sensitivity of C x for C = 1, rounded up, when a client takes part at most `participations` times, two of
    /// them at least `separation` rounds apart (second − first ≥ separation).
    ///
    /// With disjoint bands the columns are orthogonal, and those further right are shorter, so rounds 0, s, 2s, … are the
    /// worst. With overlapping bands that is proved for non-negative falling coefficients (Kalinin and Lampert 2024,
    /// Theorem 2).
    ///
    /// # Errors
    /// A separation of 0, no participation, more than [`MOST_ADDITIONS`] of participations times bands, or overlapping
    /// bands with other coefficients.
    pub fn sensitivity(&self, participations: usize, separation: usize) -> Result<f64, ParameterError> {
        if participations == 0 {
            return Err(ParameterError::new("max_participation", participations, "give at least 1"));
        }
        if separation == 0 {
            return Err(ParameterError::new("min_separation", separation, "give at least 1"));
        }
        let (bands, starts) = (self.coefficients.len(), self.rounds.div_ceil(separation).min(participations));
        if starts > MOST_ADDITIONS / bands {
            let fix = format!(
                "give at most {} with {bands} bands, or at most {} bands: participations times bands are computed up to \
                 {MOST_ADDITIONS}",
                MOST_ADDITIONS / bands,
                MOST_ADDITIONS / starts
            );
            return Err(ParameterError::new("max_participation", participations, fix));
        }
        let falls = self.coefficients.last().is_some_and(|last| *last >= 0.0)
            && self.coefficients.windows(2).all(|pair| pair[0] >= pair[1]);
        if participations > 1 && separation < bands && !falls {
            let fix = format!(
                "give at least {bands}, the number of bands: otherwise the bound needs non-negative falling coefficients"
            );
            return Err(ParameterError::new("min_separation", separation, fix));
        }
        let mut sums = vec![Wide::ZERO; self.rounds];
        for start in (0..self.rounds).step_by(separation).take(participations) {
            for (sum, coefficient) in sums[start..].iter_mut().zip(&self.coefficients) {
                *sum = *sum + Wide::from(*coefficient);
            }
        }
        Ok(sums.into_iter().fold(Wide::ZERO, |total, sum| total + sum * sum).sqrt().upper())
    }

    /// Maximum and root mean square over the rounds of a prefix sum's noise, for z = 1 and sensitivity 1. Multiply by the
    /// sensitivity.
    #[must_use]
    pub fn prefix_errors(&self) -> (f64, f64) {
        // B = A C⁻¹ is Toeplitz too; its coefficients are the prefix sums of those of C⁻¹.
        let inverse = self.inverse();
        let (mut entry, mut square, mut total) = (0.0, 0.0, 0.0);
        for coefficient in inverse {
            entry += coefficient;
            square += entry * entry;
            total += square;
        }
        (square.sqrt(), (total / self.rounds as f64).sqrt())
    }

    /// The first column of C⁻¹: noise in round t is Σ_k inverse_k z_{t−k}.
    #[must_use]
    pub fn inverse(&self) -> Vec<f64> {
        let first = self.coefficients[0];
        let mut inverse: Vec<f64> = vec![1.0 / first];
        while inverse.len() < self.rounds {
            let terms = self.coefficients.iter().skip(1).zip(inverse.iter().rev());
            let sum: f64 = terms.map(|(coefficient, earlier)| coefficient * earlier).sum();
            inverse.push(-sum / first);
        }
        inverse
    }
}

/// Sensitivity, maximum and root mean square prefix error of the online binary tree, single participation: the tree's
/// row of the same table as [`Toeplitz::prefix_errors`], already multiplied by the sensitivity.
#[must_use]
pub fn binary_tree(rounds: u64) -> (f64, f64, f64) {
    let sensitivity = f64::from(u64::BITS - rounds.leading_zeros()).sqrt();
    // The prefix of t rounds is the sum of as many nodes as t has binary ones.
    let counts = (1..=rounds).map(u64::count_ones);
    let most = counts.clone().max().unwrap_or(0);
    let total: u64 = counts.map(u64::from).sum();
    let mean = total as f64 / rounds.max(1) as f64;
    (sensitivity, sensitivity * f64::from(most).sqrt(), sensitivity * mean.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_times_the_matrix_is_the_identity() {
        let matrix = Toeplitz::square_root(40, 9).unwrap();
        let inverse = matrix.inverse();
        for t in 0..40 {
            let terms = matrix.coefficients().iter().take(t + 1).enumerate();
            let entry: f64 = terms.map(|(k, coefficient)| coefficient * inverse[t - k]).sum();
            assert!((entry - f64::from(u8::from(t == 0))).abs() < 1e-14, "{t}");
        }
    }

    #[test]
    fn no_pattern_of_participations_exceeds_the_sensitivity_and_one_attains_it() {
        for (rounds, bands, participations, separation) in [(10, 10, 3, 2), (11, 4, 2, 5), (12, 3, 4, 1), (9, 9, 2, 1)]
        {
            let matrix = Toeplitz::square_root(rounds, bands).unwrap();
            let bound = matrix.sensitivity(participations, separation).unwrap();
            let mut largest = 0.0_f64;
            for pattern in 1_u32..1 << rounds {
                let places: Vec<usize> = (0..rounds).filter(|round| pattern >> round & 1 == 1).collect();
                if places.len() > participations || places.windows(2).any(|pair| pair[1] - pair[0] < separation) {
                    continue;
                }
                let column = |t: usize| -> f64 {
                    places.iter().filter_map(|place| matrix.coefficients().get(t.checked_sub(*place)?)).sum()
                };
                largest = largest.max((0..rounds).map(|t| column(t).powi(2)).sum::<f64>().sqrt());
            }
            assert!(largest <= bound && bound < largest + 1e-9, "{largest} {bound}");
        }
    }

    #[test]
    fn what_would_take_minutes_is_refused_with_what_would_not() {
        let matrix = Toeplitz::square_root(1 << 16, 1 << 16).unwrap();
        let error = matrix.sensitivity(1 << 16, 1).unwrap_err();
        assert_eq!(error.key, "max_participation");
        assert!(error.fix.contains("at most 1024 with 65536 bands, or at most 1024 bands"), "{error}");
        assert!(matrix.sensitivity(1025, 1).is_err());
        // So far apart, a client takes part eight times at most.
        assert!(matrix.sensitivity(1 << 16, 1 << 13).is_ok());
    }

    #[test]
    fn overlapping_bands_that_rise_are_refused() {
        let rising = Toeplitz::new(10, vec![1.0, 0.2, 0.5]).unwrap();
        assert!(rising.sensitivity(2, 2).is_err());
        assert!(rising.sensitivity(2, 3).is_ok());
        assert!(rising.sensitivity(1, 1).is_ok());
        assert!(Toeplitz::new(2, vec![1.0, 0.0, 0.0]).is_err());
        assert!(Toeplitz::new(2, vec![0.0]).is_err());
        assert!(Toeplitz::new(2, vec![1.0, f64::NAN]).is_err());
    }
}
