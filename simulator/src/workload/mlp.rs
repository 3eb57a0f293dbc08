//! Multilayer perceptron with ReLU.

use crate::data::Dataset;
use crate::random::{Purpose, stream};
use crate::scalar::Scalar;

use super::network::Network;
use super::{Evaluation, Scratch, Tensor, Workload};

/// Dense layers with ReLU between them; tensors `layer1.weight` (inputs x outputs), `layer1.bias`, `layer2.weight`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    network: Network,
}

impl Mlp {
    /// For data of positive `width` and `classes`, with hidden layers of the given positive widths.
    pub fn new(width: usize, hidden: &[usize], classes: usize) -> Self {
        let widths = [&[width], hidden, &[classes]].concat();
        Self { network: Network::new(widths) }
    }
}

impl<S: Scalar> Workload<S> for Mlp {
    fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = Vec::new();
        for (layer, (inputs, outputs, offset)) in self.network.layers().enumerate() {
            let name = |part: &str| format!("layer{}.{part}", layer + 1);
            tensors.push(Tensor { name: name("weight"), shape: vec![inputs, outputs], offset });
            tensors.push(Tensor { name: name("bias"), shape: vec![outputs], offset: offset + inputs * outputs });
        }
        tensors
    }

    fn dimension(&self) -> usize {
        self.network.dimension()
    }

    /// Weights and biases uniform in ±1/√inputs of their layer.
    fn initial(&self, seed: u64) -> Vec<S> {
        let mut random = stream(seed, Purpose::Init, 0, 0);
        let mut parameters = Vec::with_capacity(self.network.dimension());
        for (inputs, outputs, _) in self.network.layers() {
            let bound = 1.0 / (inputs as f64).sqrt();
            parameters.extend((0..(inputs + 1) * outputs).map(|_| S::from_f64(random.uniform_in(-bound, bound))));
        }
        parameters
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
