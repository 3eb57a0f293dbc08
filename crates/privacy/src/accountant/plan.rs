//! A run's parameters, every ε that is proved for them, and the least noise that keeps a given one.

use super::{fixed_size, gaussian, laplace, matrix::Toeplitz, pld, poisson, rdp::RenyiCurve, tree, zcdp};
use crate::error::{ParameterError, within};

/// Who takes part in a round, as far as it may be counted on. Amplification needs all conditions of `docs/privacy.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Everyone may take part in every round.
    None,
    /// An independent coin of probability `rate` for every registered client in every round, hidden from all.
    Poisson {
        /// q in (0, 1].
        rate: f64,
    },
    /// The same, cut to `cap` clients by a uniform choice.
    TruncatedPoisson {
        /// q in (0, 1].
        rate: f64,
        /// Registered clients.
        population: u64,
        /// The largest cohort.
        cap: u64,
    },
    /// A uniform subset of fixed size, hidden from all. Replace-one adjacency.
    Fixed {
        /// Clients of a round.
        cohort: u64,
        /// Registered clients.
        population: u64,
    },
}

/// What is released, with everything an accountant needs besides δ.
#[derive(Debug, Clone, PartialEq)]
pub enum Mechanism {
    /// A sum with (rounded) Gaussian noise.
    Gaussian {
        /// σ/Δ.
        noise_multiplier: f64,
        /// Releases.
        rounds: u64,
        /// Who takes part.
        sampling: Sampling,
    },
    /// An integer sum with discrete Gaussian noise.
    DiscreteGaussian {
        /// σ/Δ.
        noise_multiplier: f64,
        /// Releases.
        rounds: u64,
        /// Who takes part; none or Poisson.
        sampling: Sampling,
    },
    /// A value with Laplace noise.
    Laplace {
        /// b/Δ₁.
        scale: f64,
        /// Releases.
        rounds: u64,
    },
    /// DP-FTRL by tree aggregation over all rounds.
    Tree {
        /// Node noise/C.
        noise_multiplier: f64,
        /// Rounds of one tree.
        rounds: u64,
        /// The most rounds one client takes part in.
        participations: u32,
        /// Rounds strictly between two of them.
        separation: u64,
    },
    /// DP-FTRL by a banded √-Toeplitz matrix.
    Matrix {
        /// σ/Δ(C).
        noise_multiplier: f64,
        /// Rounds.
        rounds: u64,
        /// Bands of C; as many as rounds for the full matrix.
        bands: u64,
        /// The most rounds one client takes part in.
        participations: u32,
        /// The smallest difference of two of them.
        separation: u64,
    },
}

/// One accountant's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// `gaussian_exact`, `zcdp`, `rdp`, `pld` or `pure`.
    pub name: &'static str,
    /// ε, rounded up; ∞ if this accountant proves nothing.
    pub epsilon: f64,
}

/// Every valid accountant's ε for one mechanism.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In a fixed order.
    pub accountants: Vec<Estimate>,
    /// The smallest of them.
    pub best: f64,
    /// ε without amplification by sampling, where the others count on it.
    pub unamplified: Option<f64>,
}

/// The largest z and b that is searched for or accepted.
const MOST_NOISE: f64 = 1e6;
const LEAST_NOISE: f64 = 1e-3;

impl Mechanism {
    /// Every valid accountant's ε at `delta`.
    ///
    /// # Errors
    /// The first parameter outside its limits.
    pub fn report(&self, delta: f64) -> Result<Report, ParameterError> {
        self.check()?;
        check_delta(delta)?;
        let accountants: Vec<Estimate> =
            self.names().iter().map(|name| Estimate { name, epsilon: self.epsilon(name, delta) }).collect();
        let best = accountants.iter().map(|estimate| estimate.epsilon).fold(f64::INFINITY, f64::min);
        Ok(Report { accountants, best, unamplified: self.unamplified(delta) })
    }

    /// The accountants that hold for this mechanism and its sampling, the cheap ones first.
    #[must_use]
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Gaussian { sampling: Sampling::None, .. } => &["gaussian_exact", "zcdp", "rdp", "pld"],
            Self::Gaussian { sampling: Sampling::Poisson { .. }, .. } => &["rdp", "pld"],
            Self::Gaussian { sampling: Sampling::TruncatedPoisson { .. }, .. } => &["pld"],
            Self::Gaussian { sampling: Sampling::Fixed { .. }, .. } => &["rdp"],
            Self::DiscreteGaussian { sampling: Sampling::None, .. } => &["zcdp", "rdp"],
            Self::DiscreteGaussian { .. } => &["rdp"],
            Self::Laplace { .. } => &["pure", "rdp", "pld"],
            Self::Tree { .. } | Self::Matrix { .. } => &["gaussian_exact", "zcdp", "rdp"],
        }
    }

    /// The smallest noise multiplier (Laplace: scale) with which `epsilon` is kept at `delta`, rounded up, everything
    /// else as it is here; by the best valid accountant, or by `accountant`.
    ///
    /// Exact to the last bit for `gaussian_exact`, else to 10⁻¹⁰ of itself (PLD: 10⁻⁶), never too small.
    ///
    /// # Errors
    /// A parameter outside its limits, an accountant that is not valid here, or an ε that no noise up to 10⁶ keeps.
    pub fn calibrate(&self, epsilon: f64, delta: f64, accountant: Option<&str>) -> Result<f64, ParameterError> {
        self.check()?;
        check_delta(delta)?;
        within("epsilon", epsilon, 1e-6, 1e6)?;
        let names: Vec<&'static str> = match accountant {
            None => self.names().to_vec(),
            Some(wanted) => self.names().iter().copied().filter(|name| *name == wanted).collect(),
        };
        if let (true, Some(wanted)) = (names.is_empty(), accountant) {
            let fix = format!("valid here: {}", self.names().join(", "));
            return Err(ParameterError::new("accountant", wanted, fix));
        }
        // For the exact one the rest is never better.
        let names = if names.contains(&"gaussian_exact") { vec!["gaussian_exact"] } else { names };
        let tolerance = match names.last() {
            Some(&"gaussian_exact") => 0.0,
            Some(&"pld") => 1e-6,
            _ => 1e-10,
        };
        let keeps = |noise: f64| {
            let mechanism = self.with_noise(noise);
            names.iter().any(|name| mechanism.epsilon(name, delta) <= epsilon)
        };
        smallest_noise(keeps, tolerance).ok_or_else(|| {
            let fix = format!("no noise from {LEAST_NOISE} to {MOST_NOISE} gives this: raise epsilon or delta");
            ParameterError::new("epsilon", epsilon, fix)
        })
    }

    /// ρ of the whole run without amplification, rounded up; `None` for Laplace.
    #[must_use]
    pub fn rho(&self) -> Option<f64> {
        match self {
            Self::Gaussian { noise_multiplier, rounds, .. }
            | Self::DiscreteGaussian { noise_multiplier, rounds, .. } => Some(zcdp::rho(*noise_multiplier, *rounds)),
            Self::Laplace { .. } => None,
            // Noise is given relative to one participation's share of a node, so Δ² counts like rounds.
            Self::Tree { noise_multiplier, rounds, participations, separation } => {
                let square = tree::sensitivity_squared(*rounds, *participations, *separation).ok()?;
                Some(zcdp::rho(*noise_multiplier, square))
            }
            // Noise is given relative to Δ(C): one release.
            Self::Matrix { noise_multiplier, .. } => Some(zcdp::rho(*noise_multiplier, 1)),
        }
    }

    /// Δ(C) of a matrix mechanism for C = 1, or the tree's √Δ²; 1 for the others.
    ///
    /// # Errors
    /// Parameters outside their limits.
    pub fn sensitivity(&self) -> Result<f64, ParameterError> {
        match self {
            Self::Tree { rounds, participations, separation, .. } => {
                Ok((tree::sensitivity_squared(*rounds, *participations, *separation)? as f64).sqrt().next_up())
            }
            Self::Matrix { rounds, bands, participations, separation, .. } => {
                within("rounds", *rounds as f64, 1.0, super::matrix::MOST_ROUNDS as f64)?;
                within("bands", *bands as f64, 1.0, *rounds as f64)?;
                let matrix = Toeplitz::square_root(*rounds as usize, *bands as usize)?;
                matrix.sensitivity(*participations as usize, usize::try_from(*separation).unwrap_or(usize::MAX))
            }
            _ => Ok(1.0),
        }
    }

    /// The same with another noise multiplier (Laplace: scale).
    #[must_use]
    pub fn with_noise(&self, noise: f64) -> Self {
        let mut copy = self.clone();
        match &mut copy {
            Self::Gaussian { noise_multiplier, .. }
            | Self::DiscreteGaussian { noise_multiplier, .. }
            | Self::Tree { noise_multiplier, .. }
            | Self::Matrix { noise_multiplier, .. } => *noise_multiplier = noise,
            Self::Laplace { scale, .. } => *scale = noise,
        }
        copy
    }

    fn check(&self) -> Result<(), ParameterError> {
        const MOST_ROUNDS: f64 = 1e9;
        let rounds = |rounds: u64| within("rounds", rounds as f64, 1.0, MOST_ROUNDS).map(drop);
        match *self {
            Self::Gaussian { noise_multiplier, rounds: count, sampling } => {
                within("noise_multiplier", noise_multiplier, LEAST_NOISE, MOST_NOISE)?;
                rounds(count)?;
                sampling.check()
            }
            Self::DiscreteGaussian { noise_multiplier, rounds: count, sampling } => {
                within("noise_multiplier", noise_multiplier, LEAST_NOISE, MOST_NOISE)?;
                rounds(count)?;
                if matches!(sampling, Sampling::Fixed { .. } | Sampling::TruncatedPoisson { .. }) {
                    let fix = "the discrete Gaussian is accounted for without sampling or with Poisson sampling; use gaussian";
                    return Err(ParameterError::new("sampling", sampling.name(), fix));
                }
                sampling.check()
            }
            Self::Laplace { scale, rounds: count } => {
                within("scale", scale, LEAST_NOISE, MOST_NOISE)?;
                rounds(count)
            }
            Self::Tree { noise_multiplier, rounds, participations, .. } => {
                within("noise_multiplier", noise_multiplier, LEAST_NOISE, MOST_NOISE)?;
                within("rounds", rounds as f64, 1.0, tree::MOST_ROUNDS as f64)?;
                within("max_participation", participations.into(), 1.0, tree::MOST_PARTICIPATIONS.into()).map(drop)
            }
            Self::Matrix { noise_multiplier, .. } => {
                within("noise_multiplier", noise_multiplier, LEAST_NOISE, MOST_NOISE)?;
                self.sensitivity().map(drop)
            }
        }
    }

    /// One accountant's ε; the parameters are checked.
    fn epsilon(&self, name: &str, delta: f64) -> f64 {
        let of_rho = |rho: Option<f64>| match (rho, name) {
            (Some(rho), "zcdp") => zcdp::epsilon(rho, delta),
            (Some(rho), "rdp") => integer_orders_of_rho(rho, delta),
            (Some(rho), "gaussian_exact") => gaussian::epsilon(gaussian::mu_of_rho(rho), delta),
            _ => f64::INFINITY,
        };
        match *self {
            Self::Gaussian { noise_multiplier, rounds, sampling } => match (sampling, name) {
                (Sampling::None, "gaussian_exact") => gaussian::epsilon(gaussian::mu(noise_multiplier, rounds), delta),
                (Sampling::None, "pld") => pld::poisson(1.0, noise_multiplier, rounds, delta),
                (Sampling::Poisson { rate }, "rdp") => {
                    poisson::curve(rate, noise_multiplier).repeated(rounds).epsilon(delta).0
                }
                (Sampling::Poisson { rate }, "pld") => pld::poisson(rate, noise_multiplier, rounds, delta),
                (Sampling::TruncatedPoisson { rate, population, cap }, "pld") => {
                    pld::truncated_poisson(rate, population, cap, noise_multiplier, rounds, delta)
                }
                (Sampling::Fixed { cohort, population }, "rdp") => {
                    fixed_size::curve(cohort, population, noise_multiplier).repeated(rounds).epsilon(delta).0
                }
                (Sampling::None, _) => of_rho(self.rho()),
                _ => f64::INFINITY,
            },
            Self::DiscreteGaussian { noise_multiplier, rounds, sampling } => match (sampling, name) {
                (Sampling::Poisson { rate }, "rdp") => {
                    poisson::curve(rate, noise_multiplier).repeated(rounds).epsilon(delta).0
                }
                (Sampling::None, "zcdp" | "rdp") => of_rho(self.rho()),
                _ => f64::INFINITY,
            },
            Self::Laplace { scale, rounds } => match name {
                "pure" => laplace::pure(scale, rounds),
                "rdp" => laplace::curve(scale, laplace_orders()).repeated(rounds).epsilon(delta).0,
                "pld" => pld::laplace(scale, rounds, delta),
                _ => f64::INFINITY,
            },
            Self::Tree { noise_multiplier, rounds, participations, separation } => {
                match (name, tree::sensitivity_squared(rounds, participations, separation)) {
                    ("gaussian_exact", Ok(square)) => gaussian::epsilon(gaussian::mu(noise_multiplier, square), delta),
                    _ => of_rho(self.rho()),
                }
            }
            Self::Matrix { noise_multiplier, .. } => match name {
                "gaussian_exact" => gaussian::epsilon(gaussian::mu(noise_multiplier, 1), delta),
                _ => of_rho(self.rho()),
            },
        }
    }

    fn unamplified(&self, delta: f64) -> Option<f64> {
        match *self {
            Self::Gaussian { sampling: Sampling::None, .. }
            | Self::DiscreteGaussian { sampling: Sampling::None, .. } => None,
            Self::Gaussian { noise_multiplier, rounds, .. } => {
                Some(gaussian::epsilon(gaussian::mu(noise_multiplier, rounds), delta))
            }
            Self::DiscreteGaussian { noise_multiplier, rounds, .. } => {
                Some(zcdp::epsilon(zcdp::rho(noise_multiplier, rounds), delta))
            }
            _ => None,
        }
    }
}

impl Sampling {
    /// The word for it in `task.toml`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Poisson { .. } | Self::TruncatedPoisson { .. } => "poisson",
            Self::Fixed { .. } => "fixed",
        }
    }

    fn check(&self) -> Result<(), ParameterError> {
        const MOST_CLIENTS: f64 = 1e12;
        let rate = |rate: f64| {
            if rate > 0.0 && rate <= 1.0 {
                return Ok(());
            }
            Err(ParameterError::new("rate", rate, "give a probability above 0 and at most 1"))
        };
        match *self {
            Self::None => Ok(()),
            Self::Poisson { rate: probability } => rate(probability),
            Self::TruncatedPoisson { rate: probability, population, cap } => {
                rate(probability)?;
                within("population", population as f64, 1.0, 1e9)?;
                within("cap", cap as f64, 1.0, population as f64).map(drop)
            }
            Self::Fixed { cohort, population } => {
                within("population", population as f64, 1.0, MOST_CLIENTS)?;
                within("cohort", cohort as f64, 1.0, population as f64).map(drop)
            }
        }
    }
}

fn check_delta(delta: f64) -> Result<(), ParameterError> {
    within("delta", delta, 1e-100, 0.5).map(drop)
}

fn integer_orders_of_rho(rho: f64, delta: f64) -> f64 {
    RenyiCurve::of_rho(rho, super::rdp::INTEGER_ORDERS.map(f64::from)).epsilon(delta).0
}

/// The closed form holds at real orders, and pure differential privacy wants them close together.
fn laplace_orders() -> impl Iterator<Item = f64> {
    let tenths = (11..=110).map(|tenth| f64::from(tenth) / 10.0);
    tenths.chain((12..=63).map(f64::from)).chain((6..=20).map(|power| f64::from(1_u32 << power)))
}

/// The smallest noise that keeps the promise, to `tolerance` of itself and never below it; `None` if none does.
fn smallest_noise(keeps: impl Fn(f64) -> bool, tolerance: f64) -> Option<f64> {
    let mut high = 1.0;
    while !keeps(high) {
        if high >= MOST_NOISE {
            return None;
        }
        high = (high * 2.0).min(MOST_NOISE);
    }
    let mut low = high / 2.0;
    while keeps(low) {
        high = low;
        if high <= LEAST_NOISE {
            return Some(LEAST_NOISE);
        }
        low = (low / 2.0).max(LEAST_NOISE);
        if low >= high {
            return Some(high);
        }
    }
    while high - low > tolerance * high && high.to_bits() - low.to_bits() > 1 {
        let middle = low.midpoint(high);
        if keeps(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(sampling: Sampling) -> Mechanism {
        Mechanism::Gaussian { noise_multiplier: 1.0, rounds: 10, sampling }
    }

    #[test]
    fn amplified_reports_show_the_unamplified_epsilon_beside() {
        let plain = gaussian(Sampling::None).report(1e-6).unwrap();
        assert_eq!(plain.unamplified, None);
        assert_eq!(plain.best, plain.accountants[0].epsilon);
        for sampling in [
            Sampling::Poisson { rate: 0.01 },
            Sampling::Fixed { cohort: 10, population: 1000 },
            Sampling::TruncatedPoisson { rate: 0.01, population: 1000, cap: 30 },
        ] {
            let report = gaussian(sampling).report(1e-6).unwrap();
            assert_eq!(report.unamplified, Some(plain.best), "{sampling:?}");
            assert!(report.best < plain.best, "{sampling:?}");
        }
    }

    #[test]
    fn the_noise_found_keeps_the_epsilon_and_a_little_less_does_not() {
        for (mechanism, accountant) in [
            (gaussian(Sampling::None), None),
            (gaussian(Sampling::None), Some("zcdp")),
            (gaussian(Sampling::Poisson { rate: 0.01 }), Some("rdp")),
            (gaussian(Sampling::Fixed { cohort: 10, population: 1000 }), None),
            (Mechanism::Laplace { scale: 1.0, rounds: 3 }, Some("pure")),
            (Mechanism::Tree { noise_multiplier: 1.0, rounds: 100, participations: 2, separation: 9 }, None),
            (Mechanism::Matrix { noise_multiplier: 1.0, rounds: 64, bands: 8, participations: 4, separation: 8 }, None),
        ] {
            let noise = mechanism.calibrate(2.0, 1e-6, accountant).unwrap();
            let epsilon = |noise: f64| {
                let report = mechanism.with_noise(noise).report(1e-6).unwrap();
                match accountant {
                    None => report.best,
                    Some(name) => report.accountants.iter().find(|estimate| estimate.name == name).unwrap().epsilon,
                }
            };
            assert!(epsilon(noise) <= 2.0 && epsilon(noise * (1.0 - 1e-9)) > 2.0, "{mechanism:?}");
        }
    }

    #[test]
    fn parameters_outside_their_limits_are_named() {
        let key = |mechanism: Mechanism, delta: f64| mechanism.report(delta).unwrap_err().key;
        assert_eq!(key(gaussian(Sampling::Poisson { rate: 0.0 }), 1e-6), "rate");
        assert_eq!(key(gaussian(Sampling::Poisson { rate: f64::NAN }), 1e-6), "rate");
        assert_eq!(key(gaussian(Sampling::Fixed { cohort: 5, population: 4 }), 1e-6), "cohort");
        assert_eq!(key(gaussian(Sampling::None), 0.0), "delta");
        assert_eq!(key(gaussian(Sampling::None), 1.0), "delta");
        assert_eq!(key(gaussian(Sampling::None).with_noise(0.0), 1e-6), "noise_multiplier");
        assert_eq!(key(gaussian(Sampling::None).with_noise(f64::NAN), 1e-6), "noise_multiplier");
        assert_eq!(key(Mechanism::Laplace { scale: 1.0, rounds: 0 }, 1e-6), "rounds");
        assert_eq!(gaussian(Sampling::None).calibrate(-1.0, 1e-6, None).unwrap_err().key, "epsilon");
        assert_eq!(gaussian(Sampling::None).calibrate(1.0, 1e-6, Some("pure")).unwrap_err().key, "accountant");
    }
}
