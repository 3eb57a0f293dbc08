//! Moves the mean as far as the distances of the loneliest honest update allow.

use super::alie::Sign;
use super::prelude::*;
use super::stealth::{Perturbation, larger_root, moved};

pub(super) const INFO: Info = Info {
    kind: "min_sum",
    formula: "mu - gamma p, the largest gamma with sum_i |m - x_i|^2 <= max_i sum_j |x_i - x_j|^2",
    summary: "Moves the honest mean so far that its distances add up to no more than those of some honest update.",
    citation: "Shejwalkar and Houmansadr 2021, Manipulating the Byzantine (NDSS), equation 4",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter {
            name: "perturbation",
            default: "sd",
            meaning: "sd, unit or sign: the direction p, sigma, mu/|mu| or sign mu",
        },
        Parameter { name: "sign", default: "-", meaning: "- for mu - gamma p, + for mu + gamma p" },
        Parameter {
            name: "bound",
            default: "max",
            meaning: "max: the largest sum of an honest update, as in the paper; min: the smallest, as in the released code",
        },
    ],
};

/// Σᵢ‖m − xᵢ‖² is Σᵢ‖μ − xᵢ‖² + nγ²‖p‖², so γ follows directly; μ itself if γ = 0 already violates the bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinSum {
    /// Where the mean is moved.
    pub perturbation: Perturbation,
    /// Against it or along it: what is subtracted from gradients is added to updates.
    pub sign: Sign,
    /// Which honest sum bounds.
    pub bound: Bound,
}

impl Default for MinSum {
    fn default() -> Self {
        Self { perturbation: Perturbation::Sd, sign: Sign::Minus, bound: Bound::Max }
    }
}

/// Which honest update's sum of distances bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The largest.
    #[default]
    Max,
    /// The smallest.
    Min,
}

impl Attack for MinSum {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();
}

impl Formula for MinSum {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let (rows, mean) = (view.sample(), view.honest_mean(own));
        let p = self.perturbation.of(view, &mean, self.sign);
        let sums = estimate::distances2(rows).into_iter().map(|row| row.iter().sum::<f64>());
        let bound = match self.bound {
            Bound::Max => sums.fold(0.0, f64::max),
            Bound::Min => sums.fold(f64::INFINITY, f64::min),
        };
        let slack = bound - rows.iter().map(|row| estimate::distance2(row, &mean)).sum::<f64>();
        let gamma = match rows.is_empty() || slack <= 0.0 {
            true => 0.0,
            false => larger_root(rows.len() as f64 * estimate::dot(&p, &p), 0.0, slack),
        };
        moved(&mean, &p, gamma)
    }
}
