//! Dense layers with ReLU between them and softmax cross-entropy at the end: what both built-in workloads compute.

use crate::data::Dataset;
use crate::scalar::{Scalar, ln};

use super::dense::{Left, multiply_add, transpose};
use super::{Evaluation, Scratch};

/// Examples evaluated at once: keeps activations in cache.
const EVALUATION_ROWS: usize = 128;

/// Layer sizes, inputs first and classes last. Layer l's weights (`widths[l]` x `widths[l + 1]`, row-major) and then its
/// bias lie in the flat parameter vector, layer after layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    widths: Vec<usize>,
}

impl Network {
    /// At least an input and an output width, all positive.
    pub(crate) fn new(widths: Vec<usize>) -> Self {
        debug_assert!(widths.len() >= 2 && widths.iter().all(|width| *width > 0));
        Self { widths }
    }

    /// (inputs, outputs, offset) of each layer.
    pub(crate) fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> + ExactSizeIterator {
        let mut next = 0;
        let layers: Vec<_> = self
            .widths
            .windows(2)
            .map(|pair| {
                let offset = next;
                next += (pair[0] + 1) * pair[1];
                (pair[0], pair[1], offset)
            })
            .collect();
        layers.into_iter()
    }

    pub(crate) fn dimension(&self) -> usize {
        self.layers().map(|(inputs, outputs, _)| (inputs + 1) * outputs).sum()
    }

    fn classes(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    fn check<S>(&self, parameters: &[S], data: &Dataset) {
        assert_eq!(parameters.len(), self.dimension(), "the parameter vector does not belong to this workload");
        assert_eq!(data.width(), self.widths[0], "the data set's width is not the workload's");
        assert!(data.classes() <= self.classes(), "the data set has more classes than the workload");
    }

    pub(crate) fn loss_and_gradient<S: Scalar>(
        &self,
        parameters: &[S],
        data: &Dataset,
        rows: &[usize],
        gradient: &mut [S],
        scratch: &mut Scratch<S>,
    ) -> f64 {
        self.check(parameters, data);
        assert_eq!(gradient.len(), parameters.len(), "the gradient needs one coordinate per parameter");
        gradient.fill(S::ZERO);
        if rows.is_empty() {
            return 0.0;
        }
        self.forward(parameters, data, rows.iter().copied(), scratch);
        let layers = self.widths.len() - 1;
        scratch.delta.clone_from(&scratch.activations[layers]);
        let loss = softmax_gradient(&mut scratch.delta, self.classes(), rows.iter().map(|&row| data.label(row)));
        for (layer, (inputs, outputs, offset)) in self.layers().enumerate().rev() {
            let (weights, bias) = gradient[offset..offset + (inputs + 1) * outputs].split_at_mut(inputs * outputs);
            let input = &scratch.activations[layer];
            multiply_add(weights, Left::Transposed(input), &scratch.delta, rows.len(), outputs);
            for row in scratch.delta.chunks_exact(outputs) {
                bias.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
            }
            if layer > 0 {
                transpose(&parameters[offset..offset + inputs * outputs], outputs, &mut scratch.transposed);
                scratch.previous.clear();
                scratch.previous.resize(rows.len() * inputs, S::ZERO);
                let delta = Left::Rows(&scratch.delta);
                multiply_add(&mut scratch.previous, delta, &scratch.transposed, outputs, inputs);
                for (value, active) in scratch.previous.iter_mut().zip(input) {
                    *value = if *active > S::ZERO { *value } else { S::ZERO };
                }
                std::mem::swap(&mut scratch.delta, &mut scratch.previous);
            }
        }
        loss
    }

    pub(crate) fn evaluate<S: Scalar>(&self, parameters: &[S], data: &Dataset) -> Evaluation {
        self.check(parameters, data);
        if data.is_empty() {
            return Evaluation { accuracy: 0.0, loss: 0.0 };
        }
        let mut scratch = Scratch::default();
        let (mut right, mut guessed, mut loss) = (0_usize, 0_usize, 0.0);
        for from in (0..data.len()).step_by(EVALUATION_ROWS) {
            let to = (from + EVALUATION_ROWS).min(data.len());
            self.forward(parameters, data, from..to, &mut scratch);
            let logits = &scratch.activations[self.widths.len() - 1];
            for (row, logits) in (from..to).zip(logits.chunks_exact(self.classes())) {
                let label = data.label(row);
                match first_of_maximum(logits) {
                    Some(class) => right += usize::from(class == label),
                    None => guessed += 1,
                }
                loss += cross_entropy(logits, label);
            }
        }
        let right = right as f64 + guessed as f64 / self.classes() as f64;
        Evaluation { accuracy: right / data.len() as f64, loss: loss / data.len() as f64 }
    }

    /// Logits of every example, row-major.
    pub(crate) fn scores<S: Scalar>(&self, parameters: &[S], data: &Dataset) -> Vec<S> {
        self.check(parameters, data);
        let mut scratch = Scratch::default();
        let mut scores = Vec::with_capacity(data.len() * self.classes());
        for from in (0..data.len()).step_by(EVALUATION_ROWS) {
            let to = (from + EVALUATION_ROWS).min(data.len());
            self.forward(parameters, data, from..to, &mut scratch);
            scores.extend_from_slice(&scratch.activations[self.widths.len() - 1]);
        }
        scores
    }

    /// Fills `scratch.activations`: inputs, each hidden layer after ReLU, logits.
    fn forward<S: Scalar>(
        &self,
        parameters: &[S],
        data: &Dataset,
        rows: impl ExactSizeIterator<Item = usize>,
        scratch: &mut Scratch<S>,
    ) {
        let count = rows.len();
        scratch.activations.resize_with(self.widths.len(), Vec::new);
        let inputs = &mut scratch.activations[0];
        inputs.clear();
        for row in rows {
            inputs.extend(data.row(row).iter().map(|value| S::from_f32(*value)));
        }
        for (layer, (inputs, outputs, offset)) in self.layers().enumerate() {
            let (weights, bias) = parameters[offset..offset + (inputs + 1) * outputs].split_at(inputs * outputs);
            let (before, after) = scratch.activations.split_at_mut(layer + 1);
            let (input, output) = (&before[layer], &mut after[0]);
            output.clear();
            for _ in 0..count {
                output.extend_from_slice(bias);
            }
            multiply_add(output, Left::Rows(input), weights, inputs, outputs);
            if layer + 2 < self.widths.len() {
                for value in output.iter_mut() {
                    // A comparison that NaN fails: a poisoned model must not be repaired by the activation.
                    *value = if *value < S::ZERO { S::ZERO } else { *value };
                }
            }
        }
    }
}

/// Turns logits into the gradient of the mean cross-entropy and returns that mean.
fn softmax_gradient<S: Scalar>(logits: &mut [S], classes: usize, labels: impl ExactSizeIterator<Item = usize>) -> f64 {
    let count = labels.len();
    let share = S::ONE / S::from_f64(count as f64);
    let mut loss = 0.0;
    for (row, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let largest = maximum(row);
        let of_label = row[label] - largest;
        let mut total = S::ZERO;
        for value in row.iter_mut() {
            *value = (*value - largest).exp();
            total += *value;
        }
        loss += ln(total.to_f64()) - of_label.to_f64();
        for value in row.iter_mut() {
            *value = *value / total * share;
        }
        row[label] = row[label] - share;
    }
    loss / count as f64
}

fn cross_entropy<S: Scalar>(logits: &[S], label: usize) -> f64 {
    let largest = maximum(logits).to_f64();
    let total: f64 = logits.iter().map(|value| Scalar::exp(value.to_f64() - largest)).sum();
    ln(total) - (logits[label].to_f64() - largest)
}

fn maximum<S: Scalar>(values: &[S]) -> S {
    values.iter().copied().fold(values[0], |largest, value| if value > largest { value } else { largest })
}

/// The predicted class: the first index of the maximum. `None` if a logit is not finite: such a model can only guess.
fn first_of_maximum<S: Scalar>(logits: &[S]) -> Option<usize> {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        if !value.to_f64().is_finite() {
            return None;
        }
        if *value > logits[best] {
            best = index;
        }
    }
    Some(best)
}
