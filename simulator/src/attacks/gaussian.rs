//! Sends noise.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "gaussian",
    formula: "N(mean, sd^2 I), sd relative to |mu|/sqrt(d) if asked",
    summary: "Sends random noise instead of an update.",
    citation: "Blanchard et al. 2017, section 5",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter { name: "sd", default: "1", meaning: "standard deviation of every coordinate, 0 to 1e30" },
        Parameter { name: "mean", default: "0", meaning: "mean of every coordinate, -1e30 to 1e30" },
        Parameter {
            name: "relative",
            default: "false",
            meaning: "true: sd and mean are multiples of |mu|/sqrt(d), for which the honest updates are looked at",
        },
        Parameter { name: "shared", default: "false", meaning: "true: all colluders send the same noise" },
    ],
};

/// Independent N(`mean`, `sd`²) in every coordinate, drawn by each colluder for itself unless `shared`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gaussian {
    /// Standard deviation.
    pub sd: f64,
    /// Mean.
    pub mean: f64,
    /// Whether both are multiples of ‖μ‖/√d.
    pub relative: bool,
    /// Whether all colluders draw the same.
    pub shared: bool,
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { sd: 1.0, mean: 0.0, relative: false, shared: false }
    }
}

impl Attack for Gaussian {
    fn knowledge(&self) -> Knowledge {
        if self.relative { Knowledge::Honest } else { INFO.knowledge }
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: self.shared, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "sd", self.sd, (0.0, 1e30))?;
        check_range(INFO.kind, "mean", self.mean, (-1e30, 1e30))
    }
}

impl Formula for Gaussian {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let unit = match self.relative {
            true => estimate::norm(&view.honest_mean(own)) / (own.len().max(1) as f64).sqrt(),
            false => 1.0,
        };
        let mut common = view.common_stream();
        let random = if self.shared { &mut common } else { stream };
        own.iter().map(|_| unit * (self.mean + self.sd * random.normal())).collect()
    }
}
