//! The mean of rows shortened to a common length, which several rules end with.

use crate::plan::{Combine, Plan};
use crate::pre::clip_factor;
use crate::verdict::{RowReason, Verdict};

/// The median of lengths; the lower of the middle two where the upper is beyond f64. `None`: so is the lower.
pub(super) fn median_length(lengths: &[f64]) -> Option<f64> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (*sorted.get(sorted.len().checked_sub(1)? / 2)?, *sorted.get(sorted.len() / 2)?);
    let middle = if high.is_finite() { low + (high - low) / 2.0 } else { low };
    low.is_finite().then_some(middle)
}

/// The plan that averages the kept rows, each shortened to `radius` where it is longer. Of the others those whose
/// length is beyond f64 are rejected for their magnitude.
pub(super) fn clipped_mean(kept: &[usize], lengths: &[f64], radius: f64, weights: &[f64]) -> Plan {
    let rows = lengths.len();
    let rejected = |length: &f64| {
        let reason = if length.is_finite() { RowReason::NotSelected } else { RowReason::Magnitude };
        Verdict::Rejected { reason }
    };
    let mut verdicts: Vec<Verdict> = lengths.iter().map(rejected).collect();
    // If all kept rows weigh nothing they count alike.
    let weightless = kept.iter().all(|&row| weights[row] == 0.0);
    let (mut sums, mut divisor) = (vec![0.0; rows], 0.0);
    for &row in kept {
        let factor = clip_factor(lengths[row], radius);
        let weight = if weightless { 1.0 } else { weights[row] };
        verdicts[row] = if factor < 1.0 { Verdict::Clipped { factor } } else { Verdict::Accepted };
        sums[row] = weight * factor;
        divisor += weight;
    }
    Plan::new(verdicts, Combine::WeightedSum { weights: sums, divisor }).with_selected(kept.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_leaves_out_what_is_beyond_f64() {
        assert_eq!(median_length(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median_length(&[3.0, 1.0, 2.0, f64::INFINITY]), Some(2.5));
        assert_eq!(median_length(&[3.0, f64::INFINITY]), Some(3.0));
        assert_eq!(median_length(&[f64::INFINITY]), None);
        assert_eq!(median_length(&[]), None);
    }

    #[test]
    fn longer_rows_are_shortened_and_the_divisor_counts_whole_weights() {
        let plan = clipped_mean(&[0, 2], &[1.0, f64::INFINITY, 4.0, 1.0], 2.0, &[1.0; 4]);
        assert_eq!(plan.combine, Combine::WeightedSum { weights: vec![1.0, 0.0, 0.5, 0.0], divisor: 2.0 });
        let rejected = |reason| Verdict::Rejected { reason };
        let expected = [
            Verdict::Accepted,
            rejected(RowReason::Magnitude),
            Verdict::Clipped { factor: 0.5 },
            rejected(RowReason::NotSelected),
        ];
        assert_eq!(plan.verdicts, expected);
        let plan = clipped_mean(&[1], &[1.0, 1.0], 2.0, &[1.0, 0.0]);
        assert_eq!(plan.combine, Combine::WeightedSum { weights: vec![0.0, 1.0], divisor: 1.0 });
    }
}
