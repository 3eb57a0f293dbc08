//! Points brought near a reference, so that what they have in common survives their difference in length.

use serde::{Deserialize, Serialize};

use crate::mixing::Mixing;
use crate::scale::power_of_two_below;

/// A reference point ρ and a scale per point: point x is measured as ρ + s(x − ρ). Scales are powers of two, hence
/// exact; 0 marks a point so far away that its distance is beyond f64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    reference: usize,
    scales: Vec<f64>,
    /// Whether row i stands for the sum of row i and extra row i; the reference is then the origin.
    sums: bool,
}

/// Ratio of lengths from which inner products of the longer with the shorter lose too many digits.
const RATIO: f64 = 1e6;

/// Which points a frame must bring near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Every point: directions of short points matter as much as those of long ones.
    Every,
    /// Points much farther than the median: what lies nearer is measured well enough beside the rest.
    Far,
}

impl Frame {
    /// The frame that `distances2` (of every point from the reference, squared) need, if they need one.
    pub(crate) fn needed(reference: usize, distances2: &[f64], spread: Spread) -> Option<Self> {
        let mut lengths: Vec<f64> =
            distances2.iter().filter(|d| d.is_finite() && **d > 0.0).map(|d| d.sqrt()).collect();
        lengths.sort_unstable_by(f64::total_cmp);
        let (&shortest, &longest) = (lengths.first()?, lengths.last()?);
        // Points are brought to the median length: the shortest could be so short that its square leaves f64's range.
        let unit = lengths[(lengths.len() - 1) / 2];
        let least = match spread {
            Spread::Every => shortest,
            Spread::Far => unit,
        };
        if longest <= least * RATIO {
            return None;
        }
        let scale = |&d: &f64| match d {
            d if !d.is_finite() => 0.0,
            0.0 => 1.0,
            d if spread == Spread::Far && d.sqrt() <= unit * 2.0 => 1.0,
            d => power_of_two_below((unit / d.sqrt()).min(LARGEST_SCALE)),
        };
        Some(Self { reference, scales: distances2.iter().map(scale).collect(), sums: false })
    }

    /// The frame that measures the sums of row i and extra row i, of about these lengths, all brought to one length;
    /// `extras` extra rows are left out.
    pub(crate) fn of_sums(origin: usize, lengths: &[f64], extras: usize) -> Self {
        let mut sorted: Vec<f64> = lengths.iter().copied().filter(|l| l.is_finite() && *l > 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let unit = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(1.0);
        let scale = |&length: &f64| match length {
            length if !length.is_finite() => 0.0,
            0.0 => 1.0,
            length => power_of_two_below((unit / length).min(LARGEST_SCALE)),
        };
        let scales = lengths.iter().map(scale).chain(std::iter::repeat_n(0.0, extras)).collect();
        Self { reference: origin, scales, sums: true }
    }

    /// Whether row i stands for the sum of row i and extra row i.
    pub(crate) fn is_of_sums(&self) -> bool {
        self.sums
    }

    /// Index of the reference among the points.
    #[must_use]
    pub fn reference(&self) -> usize {
        self.reference
    }

    /// One scale per row and extra row.
    #[must_use]
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// The framed points written over the `points` points.
    pub(super) fn mixing(&self, points: usize) -> Mixing {
        let row = |(point, &scale): (usize, &f64)| {
            if self.sums && scale != 0.0 {
                let extra = point + self.scales.len() / 2;
                return vec![(point, scale), (extra, scale), (self.reference, 1.0 - 2.0 * scale)];
            }
            if point == self.reference || scale == 1.0 {
                return vec![(point, 1.0)];
            }
            if scale == 0.0 {
                return vec![(self.reference, 1.0)];
            }
            let mut row = vec![(point, scale), (self.reference, 1.0 - scale)];
            row.sort_unstable_by_key(|(point, _)| *point);
            row
        };
        let rows: Vec<_> = self.scales.iter().enumerate().map(row).collect();
        let count = rows.len();
        Mixing::new(points, rows, vec![1.0; count], (0..count).collect())
    }
}

/// Largest scale: a point shorter than this takes from the unit is as good as without direction.
const LARGEST_SCALE: f64 = 1e300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_like_length_need_no_frame() {
        assert_eq!(Frame::needed(3, &[1.0, 1e10, 0.0, f64::INFINITY], Spread::Every), None);
        assert_eq!(Frame::needed(3, &[0.0, 0.0], Spread::Far), None);
        assert_eq!(Frame::needed(9, &[1e-16, 1.0, 1.0, 4.0], Spread::Far), None);
        assert!(Frame::needed(9, &[1e-16, 1.0, 1.0, 4.0], Spread::Every).is_some());
    }

    #[test]
    fn sums_are_measured_at_one_length_and_without_extra_rows() {
        let frame = Frame::of_sums(6, &[1.0, 1e30, f64::INFINITY], 3);
        assert_eq!((frame.scales[0], &frame.scales[2..]), (1.0, [0.0; 4].as_slice()));
        let mixing = frame.mixing(7);
        assert_eq!(mixing.row(0), [(0, 1.0), (3, 1.0), (6, -1.0)]);
        let scale = frame.scales[1];
        assert_eq!(mixing.row(1), [(1, scale), (4, scale), (6, 1.0 - 2.0 * scale)]);
        assert_eq!((mixing.row(2), mixing.row(5)), ([(6, 1.0)].as_slice(), [(6, 1.0)].as_slice()));
    }

    #[test]
    fn directions_of_a_tiny_point_are_not_paid_for_by_the_others() {
        let frame = Frame::needed(4, &[1.0, 1.0, 1e-310, 4.0], Spread::Every).unwrap();
        assert_eq!((frame.scales[0], frame.scales[3]), (1.0, 0.5));
        assert!(frame.scales[2] > 1e150);
    }

    #[test]
    fn far_points_are_brought_near_by_powers_of_two() {
        let frame = Frame::needed(3, &[1.0, 1.0, 1e60, f64::INFINITY], Spread::Far).unwrap();
        assert_eq!((frame.scales[0], frame.scales[1], frame.scales[3]), (1.0, 1.0, 0.0));
        assert_eq!(frame.scales[2].log2().fract(), 0.0);
        assert!((0.4..=1.0).contains(&(frame.scales[2] * 1e30)));
        let mixing = frame.mixing(6);
        assert_eq!(mixing.row(2)[0], (2, frame.scales[2]));
        assert_eq!(mixing.row(3), [(3, 1.0)]);
    }
}
