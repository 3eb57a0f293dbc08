//! A quadratic with a chosen condition number, whose optimum is the mean of the examples.

use crate::data::Dataset;
use crate::scalar::{Scalar, ln};

use super::{Evaluation, Scratch, Tensor, Workload};

/// ½ Σ_c a_c (θ_c − x_c)², averaged over the examples x; a_c falls geometrically from 1 to 1/condition.
///
/// Accuracy is the share of the way from zero to the optimum that the excess loss says is done, at least 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Quadratic {
    curvature: Vec<f64>,
}

impl Quadratic {
    /// For points of positive `width`; a condition number of at least 1.
    pub fn new(width: usize, condition: u32) -> Self {
        let fall = -ln(f64::from(condition.max(1))) / (width.max(2) - 1) as f64;
        Self { curvature: (0..width).map(|c| Scalar::exp(fall * c as f64)).collect() }
    }

    fn check<S>(&self, parameters: &[S], data: &Dataset) {
        assert_eq!(parameters.len(), self.curvature.len(), "the parameter vector does not belong to this workload");
        assert_eq!(data.width(), self.curvature.len(), "the data set's width is not the workload's");
    }

    fn mean(data: &Dataset) -> Vec<f64> {
        let mut sum = vec![0.0; data.width()];
        for row in 0..data.len() {
            sum.iter_mut().zip(data.row(row)).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sum.iter_mut().for_each(|sum| *sum /= data.len().max(1) as f64);
        sum
    }
}

impl<S: Scalar> Workload<S> for Quadratic {
    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor { name: "point".to_owned(), shape: vec![self.curvature.len()], offset: 0 }]
    }

    fn dimension(&self) -> usize {
        self.curvature.len()
    }

    fn initial(&self, _seed: u64) -> Vec<S> {
        vec![S::ZERO; self.curvature.len()]
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
        let share = 1.0 / rows.len().max(1) as f64;
        let mut loss = 0.0;
        for &row in rows {
            for (c, value) in data.row(row).iter().enumerate() {
                let off = parameters[c] - S::from_f32(*value);
                loss += 0.5 * share * self.curvature[c] * off.to_f64() * off.to_f64();
                gradient[c] += S::from_f64(share * self.curvature[c]) * off;
            }
        }
        loss
    }

    fn evaluate(&self, parameters: &[S], data: &Dataset) -> Evaluation {
        self.check(parameters, data);
        let mean = Self::mean(data);
        // The loss is what the spread of the points costs anyway, and the excess of θ over their mean.
        let excess = |of: &dyn Fn(usize) -> f64| -> f64 {
            let term = |(c, (curvature, mean)): (usize, (&f64, &f64))| curvature * (of(c) - mean) * (of(c) - mean);
            0.5 * self.curvature.iter().zip(&mean).enumerate().map(term).sum::<f64>()
        };
        let spread: f64 = (0..data.len())
            .flat_map(|row| data.row(row).iter().zip(&self.curvature).zip(&mean))
            .map(|((value, curvature), mean)| 0.5 * curvature * (f64::from(*value) - mean).powi(2))
            .sum();
        let (here, at_zero) = (excess(&|c| parameters[c].to_f64()), excess(&|_| 0.0));
        let done = 1.0 - here / at_zero;
        let loss = spread / data.len().max(1) as f64 + here;
        Evaluation { accuracy: if done > 0.0 { done } else { 0.0 }, loss }
    }

    /// The mean of the examples.
    fn optimum(&self, data: &Dataset) -> Option<Vec<S>> {
        (!data.is_empty()).then(|| Self::mean(data).into_iter().map(S::from_f64).collect())
    }
}
