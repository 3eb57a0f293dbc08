//! Sends values that no sum survives.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, AttackError, Info, Knowledge, Parameter, View, check_range};
use crate::random::Stream;

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

    fn forge(&self, _: &View<'_>, update: &mut [f32], _: &mut Stream) {
        let value = match self.value {
            Poison::Nan => f32::NAN,
            Poison::Infinity => f32::INFINITY,
            Poison::NegativeInfinity => f32::NEG_INFINITY,
        };
        let dimension = update.len();
        let count = ((self.fraction * dimension as f64).round() as usize).clamp(1.min(dimension), dimension);
        for index in 0..count {
            update[index * dimension / count] = value;
        }
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))
    }
}
