//! Trains honestly on wrong labels.

use serde::{Deserialize, Serialize};

use crate::attack::{Attack, AttackError, Info, Knowledge, Parameter, check_range};
use crate::data::Dataset;
use crate::random::Stream;

pub(super) const INFO: Info = Info {
    kind: "label_flip",
    formula: "update trained on y -> classes - 1 - y, or on the given map",
    summary: "Trains on wrong labels, then behaves honestly.",
    citation: "Biggio et al. 2012; Tolpegin et al. 2020",
    knowledge: Knowledge::Data,
    parameters: &[
        Parameter {
            name: "fraction",
            default: "1",
            meaning: "share of the affected examples that is relabelled, 0 to 1",
        },
        Parameter { name: "map", default: "all reversed", meaning: "pairs [from, to]; short form 3>8+8>3" },
    ],
};

/// Relabels each affected example with probability `fraction`.
///
/// The map is applied to the original labels, all at once: 0 to 9 and 9 to 0 swap instead of both ending as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelFlip {
    /// Probability with which an affected example is relabelled.
    pub fraction: f64,
    /// Pairs (from, to); empty: every y becomes classes − 1 − y.
    pub map: Vec<(u16, u16)>,
}

impl Default for LabelFlip {
    fn default() -> Self {
        Self { fraction: 1.0, map: Vec::new() }
    }
}

impl Attack for LabelFlip {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        let classes = data.classes();
        let mut targets: Vec<Option<usize>> = vec![None; classes];
        if self.map.is_empty() {
            targets = (0..classes).rev().map(Some).collect();
        }
        for &(from, to) in &self.map {
            let (from, to) = (usize::from(from), usize::from(to));
            if from >= classes || to >= classes {
                return Err(AttackError::Parameter {
                    kind: INFO.kind,
                    parameter: "map",
                    value: format!("{from}>{to}"),
                    fix: format!("the data have the labels 0 to {}", classes - 1),
                });
            }
            targets[from] = Some(to);
        }
        data.relabel(|_, label| match targets[label] {
            Some(target) if stream.uniform() < self.fraction => target,
            _ => label,
        })
        .map_err(|error| AttackError::Parameter {
            kind: INFO.kind,
            parameter: "map",
            value: format!("{:?}", self.map),
            fix: error.to_string(),
        })
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        for (index, (from, _)) in self.map.iter().enumerate() {
            if self.map[..index].iter().any(|(earlier, _)| earlier == from) {
                let fix = format!("label {from} has two targets; give one");
                return Err(AttackError::Parameter {
                    kind: INFO.kind,
                    parameter: "map",
                    value: format!("{:?}", self.map),
                    fix,
                });
            }
        }
        Ok(())
    }
}

impl super::Formula for LabelFlip {}
