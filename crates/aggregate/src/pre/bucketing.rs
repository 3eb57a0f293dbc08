//! Bucketing: means of a few rows each, in random order.

use serde::Serialize;

use super::{Mixed, PreAggregation};
use crate::catalogue::{ParameterInfo, RuleInfo};
use crate::mixing::Mixing;
use crate::needs::{DistanceNeeds, draw};
use crate::parameters::{ParameterError, Parameters};
use crate::rule::RuleError;
use crate::statistics::RowStatistics;

/// Karimireddy et al. 2022, Algorithm 1: the rows in an order drawn from the round's seed, then means of `size`
/// consecutive ones. The rule after it is checked with ⌈n/size⌉ rows and the same f.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bucketing {
    /// *s*, rows in a bucket.
    pub size: usize,
}

const SIZE: &str = "the number of rows in a bucket, a whole number of at least 1";

/// The stream of the seed that orders the rows; samples of coordinates have the low numbers.
const STREAM: u64 = 1 << 32;

impl PreAggregation for Bucketing {
    const INFO: RuleInfo = RuleInfo {
        kind: "bucketing",
        name: "bucketing",
        definition: "means of s rows each, in an order drawn from the round's seed; the last bucket may be short",
        formula: "y_b = 1/|B_b| · Σ_{i ∈ B_b} xᵢ, B_b the b-th s rows of a random permutation",
        parameters: &[ParameterInfo {
            key: "size",
            meaning: "s, rows in a bucket",
            range: SIZE,
            default: Some("2"),
            example: None,
        }],
        range: "2·min(f, ⌈n/s⌉) < ⌈n/s⌉",
        breakdown: "f < ⌈n/s⌉/2: up to f of the ⌈n/s⌉ buckets are bad",
        bound: "none of its own; the variance among the rows falls s times",
        cost: "nd where the rule reads coordinates",
        source: "Karimireddy et al. 2022, Algorithm 1",
        fails: &["it spends tolerance: f bad rows can spoil f of only ⌈n/s⌉ buckets"],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        Ok(Self { size: parameters.count_from("size", SIZE, 1)?.unwrap_or(2) })
    }

    fn describe(&self) -> String {
        format!("size = {}", self.size)
    }

    fn check(&self, rows: usize, byzantine: usize) -> Result<(), RuleError> {
        let buckets = rows.div_ceil(self.size);
        if 2 * byzantine.min(buckets) < buckets {
            return Ok(());
        }
        let min_rows = byzantine.checked_mul(2).and_then(|twice| twice.checked_mul(self.size)?.checked_add(1));
        let largest = buckets.checked_sub(1).map(|rest| rest / 2);
        let (kind, range) = (Self::INFO.kind, Self::INFO.range);
        Err(RuleError::Range { kind, rows, byzantine, range, min_rows, largest })
    }

    fn needs(&self) -> DistanceNeeds {
        DistanceNeeds::None
    }

    fn rows_after(&self, rows: usize) -> usize {
        rows.div_ceil(self.size)
    }

    fn mix(&self, rows: &RowStatistics, _byzantine: usize) -> Result<Mixed, RuleError> {
        let mut order: Vec<usize> = (0..rows.rows()).collect();
        // Equal keys are as good as impossible, and the sort is stable.
        order.sort_by_key(|&row| draw(rows.seed(), STREAM, row));
        Ok(Mixed { mixing: Mixing::buckets(&order, self.size).over(rows.points()), factors: None })
    }
}
