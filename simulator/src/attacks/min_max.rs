//! Moves the mean as far as the two most distant honest updates lie apart.

use super::alie::Sign;
use super::prelude::*;
use super::stealth::{Perturbation, largest_within, moved};

pub(super) const INFO: Info = Info {
    kind: "min_max",
    formula: "mu - gamma p, the largest gamma with max_i |m - x_i|^2 <= max_ij |x_i - x_j|^2",
    summary: "Moves the honest mean as far as two honest updates may lie apart, so that no distance gives it away.",
    citation: "Shejwalkar and Houmansadr 2021, Manipulating the Byzantine (NDSS), equation 3",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter {
            name: "perturbation",
            default: "sd",
            meaning: "sd, unit or sign: the direction p, sigma, mu/|mu| or sign mu",
        },
        Parameter { name: "sign", default: "-", meaning: "- for mu - gamma p, + for mu + gamma p" },
    ],
};

/// The bound is quadratic in γ for every row, so the largest feasible γ is computed, not bisected; μ itself if γ = 0
/// already violates the bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinMax {
    /// Where the mean is moved.
    pub perturbation: Perturbation,
    /// Against it or along it: what is subtracted from gradients is added to updates.
    pub sign: Sign,
}

impl Default for MinMax {
    fn default() -> Self {
        Self { perturbation: Perturbation::Sd, sign: Sign::Minus }
    }
}

impl Attack for MinMax {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();
}

impl Formula for MinMax {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let (rows, mean) = (view.sample(), view.honest_mean(own));
        let p = self.perturbation.of(view, &mean, self.sign);
        let bound = estimate::distances2(rows).into_iter().flatten().fold(0.0, f64::max);
        let gamma = if rows.is_empty() { 0.0 } else { largest_within(rows, &mean, &p, bound) };
        moved(&mean, &p, gamma)
    }
}
