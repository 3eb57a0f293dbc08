//! Sends noise.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, AttackError, Info, Knowledge, Parameter, View, check_range};
use crate::random::Stream;

pub(super) const INFO: Info = Info {
    kind: "gaussian",
    formula: "N(mean, sd^2 I)",
    summary: "Sends random noise instead of an update.",
    citation: "Blanchard et al. 2017, section 5",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter { name: "sd", default: "1", meaning: "standard deviation of every coordinate, 0 to 1e30" },
        Parameter { name: "mean", default: "0", meaning: "mean of every coordinate, -1e30 to 1e30" },
    ],
};

/// Independent N(`mean`, `sd`²) in every coordinate, absolute, drawn by each colluder for itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gaussian {
    /// Standard deviation.
    pub sd: f64,
    /// Mean.
    pub mean: f64,
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { sd: 1.0, mean: 0.0 }
    }
}

impl Attack for Gaussian {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn forge(&self, _: &View<'_>, update: &mut [f32], stream: &mut Stream) {
        update.iter_mut().for_each(|value| *value = (self.mean + self.sd * stream.normal()) as f32);
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "sd", self.sd, (0.0, 1e30))?;
        check_range(INFO.kind, "mean", self.mean, (-1e30, 1e30))
    }
}
