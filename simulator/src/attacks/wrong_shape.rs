//! Sends an update of another length than the model.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, AttackError, Info, Knowledge, Parameter, Tamper};

pub(super) const INFO: Info = Info {
    kind: "wrong_shape",
    formula: "x with coordinates added or removed",
    summary: "Sends an update of another length than the model.",
    citation: "",
    knowledge: Knowledge::Data,
    parameters: &[Parameter {
        name: "coordinates",
        default: "-1",
        meaning: "coordinates added, or removed if negative; -1048576 to 1048576, not 0",
    }],
};

/// An honest update with coordinates added (zeros) or removed (from the end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrongShape {
    /// Difference in coordinates.
    pub coordinates: i32,
}

impl Default for WrongShape {
    fn default() -> Self {
        Self { coordinates: -1 }
    }
}

impl Attack for WrongShape {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn tamper(&self) -> Tamper {
        Tamper::WrongShape { coordinates: self.coordinates }
    }

    fn check(&self) -> Result<(), AttackError> {
        if self.coordinates != 0 && self.coordinates.unsigned_abs() <= Tamper::MOST_COORDINATES.unsigned_abs() {
            return Ok(());
        }
        Err(AttackError::Parameter {
            kind: INFO.kind,
            parameter: "coordinates",
            value: self.coordinates.to_string(),
            fix: format!("give a number from -{0} to {0} other than 0", Tamper::MOST_COORDINATES),
        })
    }
}

impl super::Formula for WrongShape {}
