//! Adaptive robust clipping.

use serde::Serialize;

use super::clip::clip_factor;
use super::{Mixed, PreAggregation};
use crate::catalogue::RuleInfo;
use crate::needs::DistanceNeeds;
use crate::parameters::{ParameterError, Parameters};
use crate::range::MINORITY;
use crate::rule::RuleError;
use crate::statistics::RowStatistics;

/// Allouah et al. 2024, Algorithm 2: the k = ⌊2f(n−f)/n⌋ longest rows are scaled to the length of the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Arc {}

impl PreAggregation for Arc {
    const INFO: RuleInfo = RuleInfo {
        kind: "arc",
        name: "adaptive robust clipping",
        definition: "the k = ⌊2f(n−f)/n⌋ longest rows are scaled to the length of the next longest",
        formula: "yᵢ = xᵢ · min(1, C/‖xᵢ‖), C the (k+1)-th largest length",
        parameters: &[],
        range: "2f < n",
        breakdown: "f < n/2, with a rule that withstands as many",
        bound: "F after arc: κ = κ_F + 2ρ",
        cost: "nd for the lengths, nd where the rule reads coordinates",
        source: "Allouah et al. 2024 (arXiv 2405.14432), Algorithm 2",
        fails: &["it bounds lengths, not directions: attacks of honest length pass unchanged"],
    };

    fn parse(_parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self {})
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn check(&self, rows: usize, byzantine: usize) -> Result<(), RuleError> {
        MINORITY.check(Self::INFO.kind, rows, byzantine)
    }

    fn needs(&self) -> DistanceNeeds {
        DistanceNeeds::Norms
    }

    fn scales(&self) -> bool {
        true
    }

    fn mix(&self, rows: &RowStatistics, byzantine: usize) -> Result<Mixed, RuleError> {
        let Some(norms2) = rows.norms2() else {
            return Err(RuleError::NotObserved { kind: Self::INFO.kind, what: "lengths" });
        };
        let n = rows.rows();
        let longest = 2 * byzantine * (n - byzantine) / n;
        let norms: Vec<f64> = norms2[..n].iter().map(|norm2| norm2.sqrt()).collect();
        let mut sorted = norms.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let radius = sorted[longest];
        // With more infinitely long rows than f the radius itself is infinite, and those rows go to the origin too.
        let factor = |norm: &f64| if norm.is_finite() { clip_factor(*norm, radius) } else { 0.0 };
        Ok(Mixed::scaling(rows, norms.iter().map(factor).collect()))
    }
}
