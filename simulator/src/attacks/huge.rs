//! Sends numbers at the edge of the number format.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "huge",
    formula: "x with a fraction of its coordinates replaced by value",
    summary: "Sends finite numbers so large (or so small) that careless arithmetic overflows.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter { name: "value", default: "1e38", meaning: "what is sent, -3.4e38 to 3.4e38; 1e-40 is a denormal" },
        Parameter { name: "fraction", default: "1", meaning: "share of the coordinates, at least one; 0 to 1" },
    ],
};

/// Replaces coordinates of the update, evenly spaced from the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Huge {
    /// What is sent.
    pub value: f64,
    /// Share of the coordinates; at least one is replaced.
    pub fraction: f64,
}

impl Default for Huge {
    fn default() -> Self {
        Self { value: 1e38, fraction: 1.0 }
    }
}

impl Attack for Huge {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "value", self.value, (-3.4e38, 3.4e38))?;
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))
    }
}

impl Formula for Huge {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mut sent: Vec<f64> = own.iter().map(|value| value.to_f64()).collect();
        replace_evenly(&mut sent, self.fraction, self.value);
        sent
    }
}
