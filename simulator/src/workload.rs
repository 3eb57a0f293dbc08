//! What clients train: parameters as one flat vector, gradients, local training and evaluation.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::random::Stream;
use crate::scalar::Scalar;

pub use linear::Linear;
pub use mlp::Mlp;
pub use quadratic::Quadratic;
pub use softmax::Softmax;

mod dense;
mod linear;
mod mlp;
mod network;
mod quadratic;
mod softmax;

/// A model that clients train on their data. Reductions run in a fixed order, so the same inputs give the same bits on
/// any machine and any number of threads.
///
/// # Panics
/// All methods panic if a parameter vector is not `dimension` long, or the data do not have the width and at most the
/// classes the workload was built for: the workload is built from the data, so that is a mistake in the program.
pub trait Workload<S: Scalar = f32>: Debug + Send + Sync {
    /// The named tensors in the order in which they lie in the flat vector.
    fn tensors(&self) -> Vec<Tensor>;

    /// Number of coordinates.
    fn dimension(&self) -> usize;

    /// Initial parameters.
    fn initial(&self, seed: u64) -> Vec<S>;

    /// Mean cross-entropy over the examples `rows` of `data`; writes its gradient. No rows: zero and zeros.
    fn loss_and_gradient(
        &self,
        parameters: &[S],
        data: &Dataset,
        rows: &[usize],
        gradient: &mut [S],
        scratch: &mut Scratch<S>,
    ) -> f64;

    /// Accuracy and mean loss on all of `data`.
    fn evaluate(&self, parameters: &[S], data: &Dataset) -> Evaluation;

    /// A score per example and class, `data.len()` x classes, row-major, larger is likelier; empty for workloads without
    /// classes.
    fn scores(&self, parameters: &[S], data: &Dataset) -> Vec<S> {
        let _ = (parameters, data);
        Vec::new()
    }

    /// The parameters of least loss on `data`, for workloads that know them.
    fn optimum(&self, data: &Dataset) -> Option<Vec<S>> {
        let _ = data;
        None
    }

    /// Share of `data` predicted correctly, in 0..=1.
    fn accuracy(&self, parameters: &[S], data: &Dataset) -> f64 {
        self.evaluate(parameters, data).accuracy
    }

    /// The update of a client in federated averaging (McMahan et al. 2017, ClientUpdate): parameters after local
    /// stochastic gradient descent minus parameters before. Each epoch draws a new order from `stream`; the last, short
    /// batch is kept. A client without data returns zeros.
    fn local_sgd(&self, parameters: &[S], data: &Dataset, training: &LocalTraining, stream: &mut Stream) -> Vec<S> {
        let mut local = parameters.to_vec();
        let mut gradient = vec![S::ZERO; local.len()];
        let mut scratch = Scratch::default();
        let rate = S::from_f64(training.learning_rate);
        let mut rows: Vec<usize> = (0..data.len()).collect();
        for _ in 0..training.epochs {
            stream.shuffle(&mut rows);
            for batch in rows.chunks(training.batch.max(1)) {
                self.loss_and_gradient(&local, data, batch, &mut gradient, &mut scratch);
                for (value, slope) in local.iter_mut().zip(&gradient) {
                    *value = *value - rate * *slope;
                }
            }
        }
        local.iter().zip(parameters).map(|(after, before)| *after - *before).collect()
    }
}

/// A named part of the flat parameter vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Such as "layer1.weight".
    pub name: String,
    /// Row-major; weights are inputs x outputs.
    pub shape: Vec<usize>,
    /// Index of the first coordinate in the flat vector.
    pub offset: usize,
}

impl Tensor {
    /// Number of coordinates.
    pub fn coordinates(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How a client trains locally. As configuration: `epochs`, `batch`, `learning_rate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalTraining {
    /// Passes over the client's data.
    pub epochs: usize,
    /// Examples per step; 0 counts as 1.
    pub batch: usize,
    /// Step size.
    pub learning_rate: f64,
}

impl Default for LocalTraining {
    /// One epoch, batches of 16, learning rate 0.1.
    fn default() -> Self {
        Self { epochs: 1, batch: 16, learning_rate: 0.1 }
    }
}

/// How good a model is on a data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Share predicted correctly, in 0..=1. An example whose logits are not finite is guessed: right in one of as
    /// many as there are classes.
    pub accuracy: f64,
    /// Mean cross-entropy in nats; not finite for a destroyed model.
    pub loss: f64,
}

/// Buffers that repeated gradient computations reuse.
#[derive(Clone, Debug, Default)]
pub struct Scratch<S> {
    activations: Vec<Vec<S>>,
    delta: Vec<S>,
    previous: Vec<S>,
    transposed: Vec<S>,
}

/// Which workload. As configuration: `{ kind = "mlp", hidden = [64] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkloadConfig {
    /// Softmax regression.
    Softmax {},
    /// Multilayer perceptron with ReLU.
    Mlp {
        /// Widths of the hidden layers.
        #[serde(default = "default_hidden")]
        hidden: Vec<usize>,
    },
    /// Linear regression; the last feature is the target.
    Linear {},
    /// A quadratic whose optimum is the mean of the examples.
    Quadratic {
        /// Ratio of its largest to its least curvature, from 1.
        #[serde(default = "default_condition")]
        condition: u32,
    },
}

/// Why a workload cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// Not one of the built-in workloads.
    #[error(
        "workload {0:?} is unknown; use softmax, mlp, mlp:64,32 (hidden widths), linear, quadratic or quadratic:100 (condition)"
    )]
    Unknown(String),
    /// A width of zero, or more coordinates than can be handled.
    #[error(
        "layer widths {widths:?} are impossible; every width is at least 1 and all parameters together at most {most}"
    )]
    Widths {
        /// Inputs, hidden layers, classes.
        widths: Vec<usize>,
        /// Largest dimension.
        most: usize,
    },
}

/// Largest dimension of a built-in workload: 2^28 coordinates, 1 GiB in f32.
const MOST_COORDINATES: usize = 1 << 28;

fn default_condition() -> u32 {
    10
}

fn default_hidden() -> Vec<usize> {
    vec![64]
}

impl WorkloadConfig {
    /// Short form for the command line: `softmax`, `mlp` (one hidden layer of 64), `mlp:64,32`, `linear`, `quadratic` or
    /// `quadratic:100`.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn parse(text: &str) -> Result<Self, WorkloadError> {
        let unknown = || WorkloadError::Unknown(text.chars().take(60).collect());
        match text.split_once(':') {
            None if text == "softmax" => Ok(Self::Softmax {}),
            None if text == "mlp" => Ok(Self::Mlp { hidden: default_hidden() }),
            None if text == "linear" => Ok(Self::Linear {}),
            None if text == "quadratic" => Ok(Self::Quadratic { condition: default_condition() }),
            Some(("quadratic", condition)) => {
                condition.trim().parse().map(|condition| Self::Quadratic { condition }).map_err(|_| unknown())
            }
            Some(("mlp", widths)) => {
                let hidden: Result<Vec<usize>, _> = widths.split(',').map(|width| width.trim().parse()).collect();
                hidden.map(|hidden| Self::Mlp { hidden }).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }

    /// The workload for data of this width and number of classes.
    ///
    /// # Errors
    /// If a width is zero or the dimension exceeds 2^28.
    pub fn build<S: Scalar>(&self, width: usize, classes: usize) -> Result<Box<dyn Workload<S>>, WorkloadError> {
        let mut widths = vec![width];
        if let Self::Mlp { hidden } = self {
            widths.extend(hidden);
        }
        widths.push(classes);
        let dimension = widths
            .windows(2)
            .try_fold(0_usize, |sum, pair| pair[0].checked_add(1)?.checked_mul(pair[1])?.checked_add(sum));
        if widths.contains(&0) || dimension.is_none_or(|dimension| dimension > MOST_COORDINATES) {
            return Err(WorkloadError::Widths { widths, most: MOST_COORDINATES });
        }
        Ok(match self {
            Self::Softmax {} => Box::new(Softmax::new(width, classes)),
            Self::Mlp { hidden } => Box::new(Mlp::new(width, hidden, classes)),
            Self::Linear {} => Box::new(Linear::new(width)),
            Self::Quadratic { condition } => Box::new(Quadratic::new(width, *condition)),
        })
    }
}

#[cfg(test)]
mod tests;
