//! Sends values that no sum survives.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "non_finite",
    formula: "x with a fraction of its coordinates NaN, +Inf or -Inf",
    summary: "Sends values that are not numbers; one of them ruins an unguarded mean.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter { name: "value", default: "nan", meaning: "nan, inf or -inf" },
        Parameter { name: "fraction", default: "1", meaning: "share of the coordinates, at least one; 0 to 1" },
    ],
};

/// Replaces coordinates of the update, evenly spaced from the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NonFinite {
    /// What is sent.
    pub value: Poison,
    /// Share of the coordinates; at least one is replaced.
    pub fraction: f64,
}

/// A value that is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Poison {
    /// Not a number.
    #[default]
    #[serde(rename = "nan")]
    Nan,
    /// Positive infinity.
    #[serde(rename = "inf")]
    Infinity,
    /// Negative infinity.
    #[serde(rename = "-inf")]
    NegativeInfinity,
}

impl Default for NonFinite {
    fn default() -> Self {
        Self { value: Poison::Nan, fraction: 1.0 }
    }
}

impl Attack for NonFinite {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))
    }
}

impl Formula for NonFinite {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mut sent: Vec<f64> = own.iter().map(|value| value.to_f64()).collect();
        let value = match self.value {
            Poison::Nan => f64::NAN,
            Poison::Infinity => f64::INFINITY,
            Poison::NegativeInfinity => f64::NEG_INFINITY,
        };
        replace_evenly(&mut sent, self.fraction, value);
        sent
    }
}
