//! Linear regression by least squares, with its exact solution.

use crate::data::Dataset;
use crate::scalar::Scalar;

use super::{Evaluation, Scratch, Tensor, Workload};

/// y ≈ ⟨w, x⟩ + b; the last feature of an example is its target y. Loss: half the mean square of the error.
///
/// Accuracy is the share of the target's variance that is explained, at least 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    inputs: usize,
}

impl Linear {
    /// For data of `width` features, the target among them; at least 1.
    pub fn new(width: usize) -> Self {
        Self { inputs: width.saturating_sub(1) }
    }

    fn error<S: Scalar>(&self, parameters: &[S], row: &[f32]) -> S {
        let product = row[..self.inputs]
            .iter()
            .zip(parameters)
            .fold(S::ZERO, |sum, (value, weight)| sum + S::from_f32(*value) * *weight);
        product + parameters[self.inputs] - S::from_f32(row[self.inputs])
    }

    fn check<S>(&self, parameters: &[S], data: &Dataset) {
        assert_eq!(parameters.len(), self.inputs + 1, "the parameter vector does not belong to this workload");
        assert_eq!(data.width(), self.inputs + 1, "the data set's width is not the workload's");
    }
}

impl<S: Scalar> Workload<S> for Linear {
    fn tensors(&self) -> Vec<Tensor> {
        vec![
            Tensor { name: "weight".to_owned(), shape: vec![self.inputs], offset: 0 },
            Tensor { name: "bias".to_owned(), shape: vec![1], offset: self.inputs },
        ]
    }

    fn dimension(&self) -> usize {
        self.inputs + 1
    }

    fn initial(&self, _seed: u64) -> Vec<S> {
        vec![S::ZERO; self.inputs + 1]
    }

    fn loss_and_gradient(
        &self,
        parameters: &[S],
        data: &Dataset,
        rows: &[usize],
        gradient: &mut [S],
        _: &mut Scratch<S>,
    ) -> f64 {
        self.check(parameters, data);
        gradient.fill(S::ZERO);
        let share = S::from_f64(1.0 / rows.len().max(1) as f64);
        let mut loss = 0.0;
        for &row in rows {
            let values = data.row(row);
            let error = self.error(parameters, values);
            loss += 0.5 * error.to_f64() * error.to_f64();
            for (slope, value) in gradient.iter_mut().zip(&values[..self.inputs]) {
                *slope += share * error * S::from_f32(*value);
            }
            gradient[self.inputs] += share * error;
        }
        loss / rows.len().max(1) as f64
    }

    fn evaluate(&self, parameters: &[S], data: &Dataset) -> Evaluation {
        self.check(parameters, data);
        let count = data.len().max(1) as f64;
        let target = |row: usize| f64::from(data.row(row)[self.inputs]);
        let mean = (0..data.len()).map(target).sum::<f64>() / count;
        let variance = (0..data.len()).map(|row| (target(row) - mean) * (target(row) - mean)).sum::<f64>() / count;
        let square = |row: usize| {
            let error = self.error(parameters, data.row(row)).to_f64();
            error * error
        };
        let loss = 0.5 * (0..data.len()).map(square).sum::<f64>() / count;
        let explained = 1.0 - 2.0 * loss / variance;
        Evaluation { accuracy: if explained > 0.0 { explained.min(1.0) } else { 0.0 }, loss }
    }

    /// The least-squares solution, from the normal equations; `None` if the examples do not determine it.
    fn optimum(&self, data: &Dataset) -> Option<Vec<S>> {
        let size = self.inputs + 1;
        let mut matrix = vec![vec![0.0; size + 1]; size];
        for row in 0..data.len() {
            let values = data.row(row);
            let at = |column: usize| if column < self.inputs { f64::from(values[column]) } else { 1.0 };
            for (i, equation) in matrix.iter_mut().enumerate() {
                for (j, sum) in equation.iter_mut().enumerate() {
                    *sum += at(i) * if j < size { at(j) } else { f64::from(values[self.inputs]) };
                }
            }
        }
        solve(matrix).map(|solution| solution.into_iter().map(S::from_f64).collect())
    }
}

/// Gaussian elimination with partial pivoting; the last column is the right-hand side.
fn solve(mut matrix: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = matrix.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        let (above, below) = matrix.split_at_mut(column + 1);
        let equation = &above[column];
        if equation[column].abs() < 1e-12 {
            return None;
        }
        for other in below {
            let factor = other[column] / equation[column];
            other[column..].iter_mut().zip(&equation[column..]).for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut solution = vec![0.0; size];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * solution[column]).sum();
        solution[row] = (matrix[row][size] - known) / matrix[row][row];
    }
    Some(solution)
}
