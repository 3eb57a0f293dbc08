//! Static clipping.

use serde::Serialize;

use super::{Mixed, PreAggregation};
use crate::catalogue::{ParameterInfo, RuleInfo, required_positive};
use crate::needs::DistanceNeeds;
use crate::parameters::{ParameterError, Parameters};
use crate::range::ANY;
use crate::rule::RuleError;
use crate::statistics::RowStatistics;

/// Every row longer than `radius` is scaled to that length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clip {
    /// *c*, the length rows are scaled down to.
    pub radius: f64,
}

pub(crate) const RADIUS: &str = "a length on the scale of the updates, a number above 0";

impl PreAggregation for Clip {
    const INFO: RuleInfo = RuleInfo {
        kind: "clip",
        name: "static clipping",
        definition: "rows longer than c are scaled to length c",
        formula: "yᵢ = xᵢ · min(1, c/‖xᵢ‖)",
        parameters: &[ParameterInfo {
            key: "radius",
            meaning: "c, on the scale of the updates",
            range: RADIUS,
            default: None,
            example: Some(1.0),
        }],
        range: "c > 0",
        breakdown: "none alone",
        bound: "none alone",
        cost: "nd for the lengths, nd where the rule reads coordinates",
        source: "Pascanu et al. 2013, Algorithm 1, applied to updates",
        fails: &["the radius lives on the scale of the updates: too large does nothing, too small stops learning"],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { radius: required_positive(parameters, "radius", RADIUS)? })
    }

    fn describe(&self) -> String {
        format!("radius = {}", self.radius)
    }

    fn check(&self, rows: usize, _byzantine: usize) -> Result<(), RuleError> {
        ANY.check(Self::INFO.kind, rows, 0)
    }

    fn needs(&self) -> DistanceNeeds {
        DistanceNeeds::Norms
    }

    fn uses_byzantine(&self) -> bool {
        false
    }

    fn scales(&self) -> bool {
        true
    }

    fn mix(&self, rows: &RowStatistics, _byzantine: usize) -> Result<Mixed, RuleError> {
        let Some(norms2) = rows.norms2() else {
            return Err(RuleError::NotObserved { kind: Self::INFO.kind, what: "lengths" });
        };
        let factors = norms2[..rows.rows()].iter().map(|norm2| clip_factor(norm2.sqrt(), self.radius)).collect();
        Ok(Mixed::scaling(rows, factors))
    }
}

/// min(1, radius/norm); a row whose length is beyond f64 goes to the origin.
pub(crate) fn clip_factor(norm: f64, radius: f64) -> f64 {
    if norm <= radius { 1.0 } else { radius / norm }
}
