//! Perturbations as large as the spread of the honest updates hides: what Min-Max and Min-Sum share.

use serde::{Deserialize, Serialize};

use super::alie::Sign;
use crate::attack::{View, estimate};
use crate::scalar::Scalar;

/// Where the honest mean is moved; the attack goes against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perturbation {
    /// σ, the standard deviation of each coordinate (ddof 1).
    #[default]
    Sd,
    /// μ/‖μ‖.
    Unit,
    /// The sign of each coordinate of μ.
    Sign,
}

impl Perturbation {
    pub(super) fn of<S: Scalar>(self, view: &View<'_, S>, mean: &[f64], side: Sign) -> Vec<f64> {
        let length = estimate::norm(mean);
        let mut p = match self {
            Self::Sd => view.honest_deviation(mean),
            Self::Unit if length > 0.0 => mean.iter().map(|mean| mean / length).collect(),
            Self::Unit => vec![0.0; mean.len()],
            Self::Sign => mean.iter().map(|mean| sign(*mean)).collect(),
        };
        if side == Sign::Plus {
            p.iter_mut().for_each(|value| *value = -*value);
        }
        p
    }
}

/// −1, 0 or 1.
pub(super) fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// The largest γ ≥ 0 with ‖μ − γp − xᵢ‖² ≤ `bound` for every row, in closed form: the least of the larger roots of
/// ‖p‖²γ² − 2⟨p, μ − xᵢ⟩γ + ‖μ − xᵢ‖² − bound. 0 if γ = 0 already fails or p is zero.
pub(super) fn largest_within<S: Scalar>(rows: &[Vec<S>], mean: &[f64], p: &[f64], bound: f64) -> f64 {
    let square = estimate::dot(p, p);
    let of_mean = estimate::dot(mean, p);
    let root = |row: &Vec<S>| {
        let along = of_mean - estimate::dot(row, p);
        let slack = bound - estimate::distance2(row, mean);
        if slack < 0.0 { 0.0 } else { larger_root(square, along, slack) }
    };
    rows.iter().map(root).fold(f64::INFINITY, f64::min).min(f64::MAX) * f64::from(square > 0.0)
}

/// The larger root of square·γ² − 2·along·γ − slack, without cancellation.
pub(super) fn larger_root(square: f64, along: f64, slack: f64) -> f64 {
    let root = (along * along + square * slack).sqrt();
    if square <= 0.0 {
        0.0
    } else if along >= 0.0 {
        (along + root) / square
    } else {
        slack / (root - along)
    }
}

/// μ − γp.
pub(super) fn moved(mean: &[f64], p: &[f64], gamma: f64) -> Vec<f64> {
    mean.iter().zip(p).map(|(mean, p)| mean - gamma * p).collect()
}
