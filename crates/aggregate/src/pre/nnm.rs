//! Nearest-neighbour mixing.

use serde::Serialize;

use super::{Mixed, PreAggregation};
use crate::catalogue::RuleInfo;
use crate::mixing::Mixing;
use crate::needs::DistanceNeeds;
use crate::parameters::{ParameterError, Parameters};
use crate::range::MINORITY_OF_PAIRS;
use crate::rule::RuleError;
use crate::statistics::RowStatistics;

/// Allouah et al. 2023, Algorithm 2: every row becomes the mean of the n−f rows nearest to it, itself included. Ties
/// go to the lowest row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Nnm {}

impl PreAggregation for Nnm {
    const INFO: RuleInfo = RuleInfo {
        kind: "nnm",
        name: "nearest-neighbour mixing",
        definition: "every row becomes the mean of the n−f rows nearest to it, itself included",
        formula: "yᵢ = 1/(n−f) · Σ_{j ∈ Nᵢ} xⱼ, Nᵢ the n−f rows of least ‖xⱼ − xᵢ‖",
        parameters: &[],
        range: "2f < n",
        breakdown: "f < n/2, with a rule that withstands as many",
        bound: "F after nnm: κ = 8f/(n−f) · (κ_F + 1)",
        cost: "n²d/2 for the distances, and n(n−f)d where the rule reads coordinates",
        source: "Allouah et al. 2023, Algorithm 2",
        fails: &[
            "with too large an f it averages away what honest clients differ in",
            "it cannot help where the attackers hide inside the honest spread (ALIE, mimic)",
        ],
    };

    fn parse(_parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self {})
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn check(&self, rows: usize, byzantine: usize) -> Result<(), RuleError> {
        MINORITY_OF_PAIRS.check(Self::INFO.kind, rows, byzantine)
    }

    fn needs(&self) -> DistanceNeeds {
        DistanceNeeds::NearPairs
    }

    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    fn mix(&self, rows: &RowStatistics, byzantine: usize) -> Result<Mixed, RuleError> {
        let Some(distances) = rows.distances() else {
            return Err(RuleError::NotObserved { kind: Self::INFO.kind, what: "squared distances" });
        };
        let n = rows.rows();
        let keep = n - byzantine;
        let mut order = Vec::with_capacity(n);
        let nearest = |row: usize| {
            order.clear();
            order.extend(0..n);
            // A stable sort: of equally near rows the lowest come first.
            order.sort_by(|&a, &b| distances.distance2(row, a).total_cmp(&distances.distance2(row, b)));
            let mut kept: Vec<_> = order[..keep].iter().map(|&other| (other, 1.0)).collect();
            kept.sort_unstable_by_key(|(point, _)| *point);
            kept
        };
        let mixed: Vec<_> = (0..n).map(nearest).collect();
        let mixing = Mixing::new(rows.points(), mixed, vec![keep as f64; n], (0..n).collect());
        Ok(Mixed { mixing, factors: None })
    }
}
