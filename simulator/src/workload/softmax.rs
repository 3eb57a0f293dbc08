//! Softmax regression: one dense layer, from zero.

use crate::data::Dataset;
use crate::scalar::Scalar;

use super::network::Network;
use super::{Evaluation, Scratch, Tensor, Workload};

/// Softmax regression with tensors `weight` (width x classes) and `bias` (classes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Softmax {
    network: Network,
    width: usize,
    classes: usize,
}

impl Softmax {
    /// For data of positive `width` and `classes`.
    pub fn new(width: usize, classes: usize) -> Self {
        Self { network: Network::new(vec![width, classes]), width, classes }
    }
}

impl<S: Scalar> Workload<S> for Softmax {
    fn tensors(&self) -> Vec<Tensor> {
        vec![
            Tensor { name: "weight".to_owned(), shape: vec![self.width, self.classes], offset: 0 },
            Tensor { name: "bias".to_owned(), shape: vec![self.classes], offset: self.width * self.classes },
        ]
    }

    fn dimension(&self) -> usize {
        self.network.dimension()
    }

    /// Zeros: the loss is convex, so every start reaches the same optimum.
    fn initial(&self, _seed: u64) -> Vec<S> {
        vec![S::ZERO; self.network.dimension()]
    }

    fn loss_and_gradient(
        &self,
        parameters: &[S],
        data: &Dataset,
        rows: &[usize],
        gradient: &mut [S],
        scratch: &mut Scratch<S>,
    ) -> f64 {
        self.network.loss_and_gradient(parameters, data, rows, gradient, scratch)
    }

    fn evaluate(&self, parameters: &[S], data: &Dataset) -> Evaluation {
        self.network.evaluate(parameters, data)
    }
    fn scores(&self, parameters: &[S], data: &Dataset) -> Vec<S> {
        self.network.scores(parameters, data)
    }
}
