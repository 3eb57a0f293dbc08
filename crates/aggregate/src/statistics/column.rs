//! Lengths, and the angles of all points with one of them: what one column of the Gram matrix tells.

use super::frame::{Frame, Spread};
use super::gram::cosine;
use super::row::RowStatistics;
use crate::needs::Anchor;

/// Rows and extra rows as seen from the origin and from one of them.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// ‖s·x‖² and ⟨s·x, t·y⟩ for the scales s and t of x and the anchor y.
    squares: Vec<f64>,
    inner: Vec<f64>,
    scales: Vec<f64>,
    anchor: usize,
}

impl RowStatistics {
    /// The column of the Gram matrix about the origin that belongs to `anchor`: G_ia = ½(E_i0 + E_a0 − E_ia).
    ///
    /// `Err`: the points must be measured in this frame first. `None`: distances from the anchor were not observed.
    pub(crate) fn column(&self, anchor: Anchor) -> Option<Result<Column, Frame>> {
        let (squares, from) = self.measured_from(anchor)?;
        let frame = self.refinement().and_then(|refinement| refinement.frame.as_ref());
        let scales = match frame {
            Some(frame) if frame.reference() == self.origin() => frame.scales().to_vec(),
            Some(_) => return None,
            None => match Frame::needed(self.origin(), &squares, Spread::Every) {
                Some(frame) => return Some(Err(frame)),
                None => squares.iter().map(|square| if square.is_finite() { 1.0 } else { 0.0 }).collect(),
            },
        };
        let anchor = anchor.point(self.rows());
        let inner = |point: usize| {
            if scales[point] == 0.0 || scales[anchor] == 0.0 {
                return 0.0;
            }
            let value = match point == anchor {
                true => squares[anchor],
                false => 0.5 * (squares[point] + squares[anchor] - from[point]),
            };
            // Points of finite length may still be infinitely far from one another.
            if value.is_finite() { value } else { 0.0 }
        };
        let inner = (0..squares.len()).map(inner).collect();
        Some(Ok(Column { squares, inner, scales, anchor }))
    }
}

impl Column {
    /// Whether the length of x is beyond f64.
    pub(crate) fn is_infinite(&self, x: usize) -> bool {
        self.scales[x] == 0.0
    }

    /// ‖x‖, infinite where it is beyond f64.
    pub(crate) fn length(&self, x: usize) -> f64 {
        if self.is_infinite(x) { f64::INFINITY } else { self.squares[x].sqrt() / self.scales[x] }
    }

    /// The cosine of the angle between x and the anchor; 0 where one of them has no direction.
    pub(crate) fn cosine(&self, x: usize) -> f64 {
        if self.is_infinite(x) || self.is_infinite(self.anchor) {
            return 0.0;
        }
        cosine(self.squares[x], self.squares[self.anchor], self.inner[x])
    }
}
