//! Inner-product manipulation.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "ipm",
    formula: "-tau * mu",
    summary: "Sends the reverse of what the honest clients send on average.",
    citation: "Xie et al. 2019, Fall of Empires (UAI)",
    knowledge: Knowledge::Honest,
    parameters: &[Parameter {
        name: "tau",
        default: "2",
        meaning: "factor, 0 to 1e30; small values (0.1) aim at Krum and the median, large ones at the mean",
    }],
};

/// −`tau`·μ; reverses the mean when `tau` > (n − f)/f.
///
/// Where honest updates cannot be observed (a client on a real network), μ is the mean of the colluders' honestly
/// trained updates, or the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipm {
    /// Factor.
    pub tau: f64,
}

impl Default for Ipm {
    fn default() -> Self {
        Self { tau: 2.0 }
    }
}

impl Attack for Ipm {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "tau", self.tau, (0.0, 1e30))
    }
}

impl Formula for Ipm {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        view.honest_mean(own).iter().map(|mean| -self.tau * mean).collect()
    }
}
