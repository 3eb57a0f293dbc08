//! What describes a run, and its checks: a flag that cannot take effect is an error.

use crate::exit::{Exit, Failure};
use clap::{Args, ValueEnum};
use testudo_privacy::accountant::{Mechanism, Sampling};

/// What is released, how often and on whose data.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How noise is added
    #[arg(long, value_enum, default_value_t = Kind::Gaussian)]
    mechanism: Kind,
    /// Releases of the whole run
    #[arg(long, value_name = "T")]
    pub(super) rounds: u64,
    /// δ: below one over the population
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub(super) delta: f64,
    /// How the server draws a round's clients; anything but none must be done by the server and kept hidden
    #[arg(long, value_enum, default_value_t = Draw::None)]
    sampling: Draw,
    /// Poisson: the probability of every registered client in every round
    #[arg(long, value_name = "Q", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Poisson: the largest cohort, with --population; larger ones are cut by a uniform choice
    #[arg(long, value_name = "M")]
    cap: Option<u64>,
    /// Fixed: clients of every round
    #[arg(long, value_name = "M")]
    cohort: Option<u64>,
    /// Registered clients
    #[arg(long, value_name = "N")]
    population: Option<u64>,
    /// Tree and matrix: the most rounds one client takes part in [default: 1]
    #[arg(long, value_name = "K")]
    max_participation: Option<u32>,
    /// Tree: rounds strictly between two of them; matrix: their smallest difference
    #[arg(long, value_name = "B")]
    min_separation: Option<u64>,
    /// Matrix: bands of the √-Toeplitz matrix [default: as many as rounds]
    #[arg(long, value_name = "K")]
    bands: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// (Rounded) Gaussian noise on a clipped sum in every round
    Gaussian,
    /// The same with the discrete Gaussian
    DiscreteGaussian,
    /// Laplace noise on a value
    Laplace,
    /// DP-FTRL, tree aggregation
    Tree,
    /// DP-FTRL, √-Toeplitz matrix, banded with --bands
    Matrix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Draw {
    /// Not counted on
    None,
    /// An independent coin for every registered client
    Poisson,
    /// A uniform subset of fixed size
    Fixed,
}

impl Options {
    /// The noise that a run was given.
    ///
    /// # Errors
    /// If the flag of this mechanism is missing, or another one's is there.
    pub(super) fn noise(&self, noise_multiplier: Option<f64>, scale: Option<f64>) -> Result<f64, Failure> {
        let (own, other, other_flag) = match self.mechanism {
            Kind::Laplace => (scale, noise_multiplier, "noise-multiplier"),
            _ => (noise_multiplier, scale, "scale"),
        };
        if other.is_some() {
            return Err(self.needless(other_flag, &format!("give --{}", self.noise_word())));
        }
        own.ok_or_else(|| {
            let word = self.noise_word();
            missing(word, format!("--mechanism {} needs it, for instance --{word} 1.1", self.mechanism_word()))
        })
    }

    /// The run with this noise multiplier or scale.
    ///
    /// # Errors
    /// A flag that is missing or cannot take effect.
    pub(super) fn mechanism(&self, noise: f64) -> Result<Mechanism, Failure> {
        self.check_flags()?;
        let (noise_multiplier, rounds) = (noise, self.rounds);
        let participations = self.max_participation.unwrap_or(1);
        Ok(match self.mechanism {
            Kind::Gaussian => Mechanism::Gaussian { noise_multiplier, rounds, sampling: self.sampling()? },
            Kind::DiscreteGaussian => {
                Mechanism::DiscreteGaussian { noise_multiplier, rounds, sampling: self.sampling()? }
            }
            Kind::Laplace => Mechanism::Laplace { scale: noise, rounds },
            Kind::Tree => Mechanism::Tree {
                noise_multiplier,
                rounds,
                participations,
                separation: self.min_separation.unwrap_or(0),
            },
            Kind::Matrix => Mechanism::Matrix {
                noise_multiplier,
                rounds,
                bands: self.bands.unwrap_or(rounds),
                participations,
                separation: self.min_separation.unwrap_or(1),
            },
        })
    }

    /// `noise-multiplier` or `scale`.
    pub(super) fn noise_word(&self) -> &'static str {
        if self.mechanism == Kind::Laplace { "scale" } else { "noise-multiplier" }
    }

    pub(super) fn mechanism_word(&self) -> &'static str {
        match self.mechanism {
            Kind::Gaussian => "gaussian",
            Kind::DiscreteGaussian => "discrete-gaussian",
            Kind::Laplace => "laplace",
            Kind::Tree => "tree",
            Kind::Matrix => "matrix",
        }
    }

    pub(super) fn sampling_word(&self) -> &'static str {
        match (self.sampling, self.cap) {
            (Draw::None, _) => "none",
            (Draw::Poisson, None) => "poisson",
            (Draw::Poisson, Some(_)) => "poisson, cut to a cap",
            (Draw::Fixed, _) => "fixed",
        }
    }

    pub(super) fn adjacency(&self) -> &'static str {
        if self.sampling == Draw::Fixed { "replace-one" } else { "zero-out" }
    }

    /// What ε rests on, a sentence each.
    pub(super) fn assumptions(&self) -> Vec<&'static str> {
        let mut lines = vec![match (self.mechanism, self.adjacency()) {
            (Kind::Laplace, _) => "the scale is b over the L1 sensitivity",
            (Kind::Tree, _) => "the noise multiplier is a node's σ over the clip C",
            (Kind::Matrix, _) => "the noise multiplier is σ over the sensitivity of the encoded sequence",
            (_, "replace-one") => "the noise multiplier is σ over 2C, the sensitivity of a sum clipped to C",
            _ if self.sampling == Draw::Poisson => {
                "the noise multiplier is σ over the clip C; the denominator is fixed"
            }
            _ => "the noise multiplier is σ over the clip C; the cohort's size is public and the denominator fixed",
        }];
        if matches!(self.mechanism, Kind::Tree | Kind::Matrix) {
            lines.push("the server enforces the participation limit and the separation");
        }
        match self.sampling {
            Draw::None => {}
            Draw::Poisson => {
                lines.push("the server itself flips an independent coin for every registered client in every round");
            }
            Draw::Fixed => lines.push("the server itself draws a uniform subset in every round"),
        }
        if self.sampling != Draw::None {
            lines.push("nobody else learns who was drawn, and nobody is replaced ad hoc");
            lines.push("pld: noise multiplier, rate and rounds stay as planned");
        }
        lines.push("nothing else that depends on the updates is shown: no losses, counts, norms or verdicts");
        lines
    }

    fn sampling(&self) -> Result<Sampling, Failure> {
        Ok(match self.sampling {
            Draw::None => Sampling::None,
            Draw::Poisson => {
                let rate = self.rate.ok_or_else(|| {
                    missing("rate", "--sampling poisson needs it: cohort over population, for instance --rate 0.01")
                })?;
                match (self.cap, self.population) {
                    (None, _) => Sampling::Poisson { rate },
                    (Some(cap), Some(population)) => Sampling::TruncatedPoisson { rate, population, cap },
                    (Some(_), None) => return Err(missing("population", "--cap needs it: --population 10000")),
                }
            }
            Draw::Fixed => {
                let cohort = self.cohort.ok_or_else(|| missing("cohort", "--sampling fixed needs it: --cohort 50"))?;
                let population = self
                    .population
                    .ok_or_else(|| missing("population", "--sampling fixed needs it: --population 10000"))?;
                Sampling::Fixed { cohort, population }
            }
        })
    }

    fn check_flags(&self) -> Result<(), Failure> {
        let samples = matches!(self.mechanism, Kind::Gaussian | Kind::DiscreteGaussian);
        if !samples && self.sampling != Draw::None {
            let fix = "leave --sampling out: this mechanism is accounted for without amplification";
            return Err(self.needless("sampling", fix));
        }
        let given = [
            ("rate", self.rate.is_some(), self.sampling == Draw::Poisson, "give --sampling poisson too"),
            ("cap", self.cap.is_some(), self.sampling == Draw::Poisson, "give --sampling poisson too"),
            ("cohort", self.cohort.is_some(), self.sampling == Draw::Fixed, "give --sampling fixed too"),
            (
                "population",
                self.population.is_some(),
                self.sampling == Draw::Fixed || self.cap.is_some(),
                "give --sampling fixed or --cap too",
            ),
            (
                "max-participation",
                self.max_participation.is_some(),
                matches!(self.mechanism, Kind::Tree | Kind::Matrix),
                "give --mechanism tree or matrix",
            ),
            (
                "min-separation",
                self.min_separation.is_some(),
                matches!(self.mechanism, Kind::Tree | Kind::Matrix),
                "give --mechanism tree or matrix",
            ),
            ("bands", self.bands.is_some(), self.mechanism == Kind::Matrix, "give --mechanism matrix"),
        ];
        match given.into_iter().find(|(_, there, allowed, _)| *there && !allowed) {
            Some((flag, _, _, fix)) => Err(self.needless(flag, fix)),
            None => Ok(()),
        }
    }

    fn needless(&self, flag: &str, fix: &str) -> Failure {
        let why = format!("mechanism {}, sampling {}", self.mechanism_word(), self.sampling_word());
        Failure::new(Exit::Usage, format!("--{flag} has no effect here"), why).next(format!("{fix}, or leave it out"))
    }
}

/// The noise multiplier or scale.
pub(super) fn noise_of(mechanism: &Mechanism) -> f64 {
    match mechanism {
        Mechanism::Gaussian { noise_multiplier, .. }
        | Mechanism::DiscreteGaussian { noise_multiplier, .. }
        | Mechanism::Tree { noise_multiplier, .. }
        | Mechanism::Matrix { noise_multiplier, .. } => *noise_multiplier,
        Mechanism::Laplace { scale, .. } => *scale,
    }
}

fn missing(flag: &str, fix: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, format!("--{flag} is missing"), "").next(fix)
}
