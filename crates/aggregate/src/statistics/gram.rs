//! Inner products about a reference point.

use super::frame::{Frame, Spread};
use super::row::RowStatistics;

/// Inner products ⟨x − ρ, y − ρ⟩ of rows and extra rows about a reference ρ, kept as ⟨s(x − ρ), t(y − ρ)⟩ and the
/// scales s, t, so that rows of very different length keep their digits.
#[derive(Clone, Debug)]
pub(crate) struct Gram {
    count: usize,
    inner: Vec<f64>,
    scales: Vec<f64>,
    norms: Vec<f64>,
}

impl RowStatistics {
    /// The Gram matrix about point `reference`: G_ij = ½(E_iρ + E_jρ − E_ij).
    ///
    /// `Err`: the points must be measured in this frame first. `None`: distances were not observed.
    pub(crate) fn gram(&self, reference: usize, spread: Spread) -> Option<Result<Gram, Frame>> {
        let frame = self.refinement().and_then(|refinement| refinement.frame.as_ref());
        if let Some(frame) = frame.filter(|frame| frame.reference() == reference) {
            return Some(Ok(Gram::new(self, reference, frame.scales().to_vec())));
        }
        let distances = self.distances()?;
        let from: Vec<f64> = (0..self.origin()).map(|point| distances.distance2(point, reference)).collect();
        if let Some(frame) = Frame::needed(reference, &from, spread) {
            return Some(Err(frame));
        }
        let scales = from.iter().map(|distance| if distance.is_finite() { 1.0 } else { 0.0 }).collect();
        Some(Ok(Gram::new(self, reference, scales)))
    }
}

impl Gram {
    fn new(statistics: &RowStatistics, reference: usize, scales: Vec<f64>) -> Self {
        let count = statistics.origin();
        let measured = super::row::Distances::of(statistics);
        let mut inner = vec![0.0; count * count];
        for i in (0..count).filter(|&i| scales[i] != 0.0) {
            for j in (0..=i).filter(|&j| scales[j] != 0.0) {
                let (a, b) = (measured.distance2(i, reference), measured.distance2(j, reference));
                let value = if i == j { a } else { 0.5 * (a + b - measured.distance2(i, j)) };
                // Points at finite distances from the reference may still be infinitely far from one another.
                let value = if value.is_finite() { value } else { 0.0 };
                (inner[i * count + j], inner[j * count + i]) = (value, value);
            }
        }
        // ‖ρ + z/s‖² of a point whose scaled difference z from ρ, ‖ρ‖² and ‖ρ + z‖² are known.
        let square = measured.norm2(reference);
        let norm = |i: usize| {
            let (own, near) = (inner[i * count + i], measured.norm2(i));
            match scales[i] {
                0.0 => f64::INFINITY,
                1.0 => near.sqrt(),
                scale => (own / scale / scale + (near - own - square) / scale + square).max(0.0).sqrt(),
            }
        };
        let norms = (0..count).map(norm).collect();
        Self { count, inner, scales, norms }
    }

    /// ⟨s(x − ρ), t(y − ρ)⟩ for points x and y and their scales s and t.
    pub(crate) fn scaled(&self, x: usize, y: usize) -> f64 {
        self.inner[x * self.count + y]
    }

    /// Row `x` of [`Gram::scaled`].
    pub(crate) fn row(&self, x: usize) -> &[f64] {
        &self.inner[x * self.count..(x + 1) * self.count]
    }

    /// The scale of point x; 0 if it is beyond f64.
    pub(crate) fn scale(&self, x: usize) -> f64 {
        self.scales[x]
    }

    /// Whether the distance of x from the reference is beyond f64.
    pub(crate) fn is_infinite(&self, x: usize) -> bool {
        self.scales[x] == 0.0
    }

    /// ‖x − ρ‖, infinite where it is beyond f64.
    pub(crate) fn length(&self, x: usize) -> f64 {
        if self.is_infinite(x) { f64::INFINITY } else { self.scaled(x, x).sqrt() / self.scales[x] }
    }

    /// ‖x‖, infinite where the distance from ρ is beyond f64.
    pub(crate) fn norm(&self, x: usize) -> f64 {
        self.norms[x]
    }

    /// The cosine of the angle between x − ρ and y − ρ; 0 where one of them has no direction.
    pub(crate) fn cosine(&self, x: usize, y: usize) -> f64 {
        cosine(self.scaled(x, x), self.scaled(y, y), self.scaled(x, y))
    }
}

/// The cosine of two vectors of these squared lengths and this inner product; 0 where one of them has no direction.
pub(super) fn cosine(a: f64, b: f64, inner: f64) -> f64 {
    let product = a * b;
    // The root of the product is exact where both are the same, but the product may leave f64's range.
    let lengths = if product.is_normal() { product.sqrt() } else { a.sqrt() * b.sqrt() };
    if lengths > 0.0 { (inner / lengths).clamp(-1.0, 1.0) } else { 0.0 }
}
