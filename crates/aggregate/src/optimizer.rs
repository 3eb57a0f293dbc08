//! Server optimisers: how an aggregated delta moves the model.
//!
//! With Δ the aggregate of the round, η `learning_rate`, τ `tau`:
//!
//! | kind | step |
//! |---|---|
//! | `fedavg` | x ← x + ηΔ |
//! | `fedavgm` | v ← momentum·v + Δ, x ← x + ηv |
//! | `fedadagrad` | m ← β₁m + (1−β₁)Δ, v ← v + Δ², x ← x + η m/(√v + τ) |
//! | `fedadam` | the same m, v ← β₂v + (1−β₂)Δ² |
//! | `fedyogi` | the same m, v ← v − (1−β₂)Δ² sign(v − Δ²) |
//!
//! The adaptive ones are Reddi et al. 2021, Algorithm 2: v starts at τ², and there is no bias correction, because the
//! paper has none. `fedavgm` is Hsu et al. 2019. Every coordinate is independent, so the units of a vector may be
//! stepped in any order, with the same bits.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::element::Element;
use crate::parameters::{ParameterError, Parameters};

/// A server optimiser with its parameters, as configured: `kind = "fedadam"`, `learning_rate = 0.01`. Unknown kinds,
/// unknown keys and values out of range are refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// The plain step; with `learning_rate` 1 (the default) the model moves by the aggregate.
    FedAvg {
        /// η > 0.
        learning_rate: f64,
    },
    /// Server momentum.
    FedAvgM {
        /// η > 0, default 1.
        learning_rate: f64,
        /// In 0..1, default 0.9.
        momentum: f64,
    },
    /// Adagrad on the server.
    FedAdagrad {
        /// η > 0.
        learning_rate: f64,
        /// β₁ in 0..1, default 0.
        beta1: f64,
        /// τ > 0, default 0.001.
        tau: f64,
    },
    /// Adam on the server.
    FedAdam {
        /// η > 0.
        learning_rate: f64,
        /// β₁ in 0..1, default 0.9.
        beta1: f64,
        /// β₂ in 0..1, default 0.99.
        beta2: f64,
        /// τ > 0, default 0.001.
        tau: f64,
    },
    /// Yogi on the server.
    FedYogi {
        /// η > 0.
        learning_rate: f64,
        /// β₁ in 0..1, default 0.9.
        beta1: f64,
        /// β₂ in 0..1, default 0.99.
        beta2: f64,
        /// τ > 0, default 0.001.
        tau: f64,
    },
}

/// The optimisers' kinds, for help texts and matrices.
pub const KINDS: &[&str] = &["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"];

impl Default for OptimizerConfig {
    /// FedAvg with learning rate 1.
    fn default() -> Self {
        Self::FedAvg { learning_rate: 1.0 }
    }
}

impl OptimizerConfig {
    /// The kind, as in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FedAvg { .. } => "fedavg",
            Self::FedAvgM { .. } => "fedavgm",
            Self::FedAdagrad { .. } => "fedadagrad",
            Self::FedAdam { .. } => "fedadam",
            Self::FedYogi { .. } => "fedyogi",
        }
    }

    /// Number of state vectors of the model's dimension to keep between rounds: 0, 1 (v), or 2 (m, v).
    #[must_use]
    pub fn state_vectors(&self) -> usize {
        match self {
            Self::FedAvg { .. } => 0,
            Self::FedAvgM { .. } => 1,
            Self::FedAdagrad { .. } | Self::FedAdam { .. } | Self::FedYogi { .. } => 2,
        }
    }

    /// The value every coordinate of state vector `index` starts from.
    #[must_use]
    pub fn initial_state(&self, index: usize) -> f64 {
        match self {
            Self::FedAdagrad { tau, .. } | Self::FedAdam { tau, .. } | Self::FedYogi { tau, .. } if index == 1 => {
                tau * tau
            }
            _ => 0.0,
        }
    }

    /// Takes one step on one unit: `params`, `delta` and every slice of `state` are the same coordinates. Computes in
    /// f64 and saturates instead of overflowing.
    ///
    /// # Errors
    ///
    /// When `state` is not [`Self::state_vectors`] slices or the lengths differ; nothing is changed then.
    pub fn apply_unit<T: Element>(
        &self,
        params: &mut [T],
        delta: &[T],
        state: &mut [&mut [T]],
    ) -> Result<(), OptimizerError> {
        if state.len() != self.state_vectors() {
            let (kind, got, expected) = (self.kind(), state.len(), self.state_vectors());
            return Err(OptimizerError::StateVectors { kind, got, expected });
        }
        let lengths = state.iter().map(|vector| vector.len()).chain([delta.len()]);
        if let Some(got) = lengths.into_iter().find(|&length| length != params.len()) {
            return Err(OptimizerError::Length { got, expected: params.len() });
        }
        match (self, state) {
            (Self::FedAvgM { learning_rate, momentum }, [velocity]) => {
                for ((param, delta), velocity) in params.iter_mut().zip(delta).zip(velocity.iter_mut()) {
                    let moved = momentum.mul_add(velocity.to_f64(), delta.to_f64());
                    *velocity = T::from_f64(moved);
                    *param = T::from_f64(learning_rate.mul_add(moved, param.to_f64()));
                }
            }
            (Self::FedAdagrad { learning_rate, beta1, tau }, [first, second]) => {
                let rates = Rates { learning_rate: *learning_rate, beta1: *beta1, tau: *tau };
                rates.step(params, delta, first, second, |v, square| v + square);
            }
            (Self::FedAdam { learning_rate, beta1, beta2, tau }, [first, second]) => {
                let rates = Rates { learning_rate: *learning_rate, beta1: *beta1, tau: *tau };
                rates.step(params, delta, first, second, |v, square| beta2.mul_add(v, (1.0 - beta2) * square));
            }
            (Self::FedYogi { learning_rate, beta1, beta2, tau }, [first, second]) => {
                let rates = Rates { learning_rate: *learning_rate, beta1: *beta1, tau: *tau };
                rates.step(params, delta, first, second, |v, square| v - (1.0 - beta2) * square * sign(v - square));
            }
            (
                Self::FedAvg { learning_rate }
                | Self::FedAvgM { learning_rate, .. }
                | Self::FedAdagrad { learning_rate, .. }
                | Self::FedAdam { learning_rate, .. }
                | Self::FedYogi { learning_rate, .. },
                _,
            ) => {
                // Only FedAvg is left: the number of state vectors was checked above.
                for (param, delta) in params.iter_mut().zip(delta) {
                    *param = T::from_f64(learning_rate.mul_add(delta.to_f64(), param.to_f64()));
                }
            }
        }
        Ok(())
    }

    fn parse(mut parameters: Parameters) -> Result<Self, ParameterError> {
        let table = &mut parameters;
        let config = match table.kind() {
            "fedavg" => Self::FedAvg { learning_rate: learning_rate(table)?.unwrap_or(1.0) },
            "fedavgm" => Self::FedAvgM {
                learning_rate: learning_rate(table)?.unwrap_or(1.0),
                momentum: decay(table, "momentum", 0.9)?,
            },
            "fedadagrad" => Self::FedAdagrad {
                learning_rate: required_rate(table)?,
                beta1: decay(table, "beta1", 0.0)?,
                tau: tau(table)?,
            },
            "fedadam" => Self::FedAdam {
                learning_rate: required_rate(table)?,
                beta1: decay(table, "beta1", 0.9)?,
                beta2: decay(table, "beta2", 0.99)?,
                tau: tau(table)?,
            },
            "fedyogi" => Self::FedYogi {
                learning_rate: required_rate(table)?,
                beta1: decay(table, "beta1", 0.9)?,
                beta2: decay(table, "beta2", 0.99)?,
                tau: tau(table)?,
            },
            _ => return Err(table.unknown_kind(KINDS.to_vec())),
        };
        parameters.finish()?;
        Ok(config)
    }
}

impl<'de> Deserialize<'de> for OptimizerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Parameters::read("optimizer", deserializer)?).map_err(D::Error::custom)
    }
}

/// Why a step was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptimizerError {
    /// The state belongs to another optimiser.
    #[error("{kind} keeps {expected} state vectors, but got {got}")]
    StateVectors {
        /// The optimiser.
        kind: &'static str,
        /// Vectors given.
        got: usize,
        /// Vectors it keeps.
        expected: usize,
    },
    /// A slice is longer or shorter than the parameters.
    #[error("a delta or state slice has {got} coordinates, but the parameters have {expected}")]
    Length {
        /// Its length.
        got: usize,
        /// The length of the parameters.
        expected: usize,
    },
}

/// What the three adaptive optimisers share.
struct Rates {
    learning_rate: f64,
    beta1: f64,
    tau: f64,
}

impl Rates {
    fn step<T: Element>(
        &self,
        params: &mut [T],
        delta: &[T],
        first: &mut [T],
        second: &mut [T],
        next_second: impl Fn(f64, f64) -> f64,
    ) {
        let state = first.iter_mut().zip(second.iter_mut());
        for ((param, delta), (first, second)) in params.iter_mut().zip(delta).zip(state) {
            let delta = delta.to_f64();
            let mean = self.beta1.mul_add(first.to_f64(), (1.0 - self.beta1) * delta);
            // Clamped, so that Yogi's difference of squares beyond f64 is not NaN.
            let square = (delta * delta).min(f64::MAX);
            let variance = next_second(second.to_f64(), square);
            *first = T::from_f64(mean);
            *second = T::from_f64(variance);
            *param = T::from_f64(self.learning_rate.mul_add(mean / (variance.sqrt() + self.tau), param.to_f64()));
        }
    }
}

/// −1, 0 or 1; `f64::signum` has no 0.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

const LEARNING_RATE: &str = "a finite number above 0";

fn learning_rate(table: &mut Parameters) -> Result<Option<f64>, ParameterError> {
    table.number("learning_rate", LEARNING_RATE, |rate| rate > 0.0)
}

/// Adaptive steps are of the size of the learning rate whatever the delta: no default fits.
fn required_rate(table: &mut Parameters) -> Result<f64, ParameterError> {
    match learning_rate(table)? {
        Some(rate) => Ok(rate),
        None => Err(table.missing("learning_rate", LEARNING_RATE)),
    }
}

fn decay(table: &mut Parameters, key: &'static str, default: f64) -> Result<f64, ParameterError> {
    let value = table.number(key, "at least 0 and below 1", |decay| (0.0..1.0).contains(&decay))?;
    Ok(value.unwrap_or(default))
}

fn tau(table: &mut Parameters) -> Result<f64, ParameterError> {
    Ok(table.number("tau", "a finite number above 0", |tau| tau > 0.0)?.unwrap_or(1e-3))
}

#[cfg(test)]
mod tests;
