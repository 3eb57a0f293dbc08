//! The statistics of mixed rows, from those of the rows they are made of.

use rayon::prelude::*;

use crate::mixing::Mixing;
use crate::needs::DistanceNeeds;

use super::{RowStatistics, packed_index, packed_len};

/// Digits that rounding may take: relative errors of the distances are about 1e-16 times this.
const LOSS: f64 = 1e6;

impl RowStatistics {
    /// What is known about the rows of `mixing`, computed from these statistics: for coefficients a and b of equal
    /// sums, ‖aX − bX‖² = aᵀEb − ½(aᵀEa + bᵀEb).
    ///
    /// `None`: too many digits would be lost, or not enough is known; the mixed rows must be observed themselves.
    pub(crate) fn mixed(&self, mixing: &Mixing) -> Option<Self> {
        let mut next = Self::unobserved(mixing.rows())
            .with_seed(self.seed, self.dimension)
            .with_extras(self.extras)
            .with_memory(self.memory);
        next.level = self.level;
        next.distances = match self.level {
            DistanceNeeds::None => Vec::new(),
            DistanceNeeds::Norms => self.mixed_norms(mixing)?,
            // A rule behind a pre-aggregation has all pairs.
            DistanceNeeds::From(_) => return None,
            DistanceNeeds::NearPairs | DistanceNeeds::Pairs => self.mixed_pairs(mixing)?,
        };
        Some(next)
    }

    /// Lengths follow from lengths only where every row is a multiple of one row.
    fn mixed_norms(&self, mixing: &Mixing) -> Option<Vec<f64>> {
        let origin = self.origin();
        let norm = |row: usize| {
            let mut parts = mixing.row(row).iter().filter(|(point, _)| *point != origin);
            let Some(&(point, coefficient)) = parts.next() else { return Some(0.0) };
            let factor = coefficient / mixing.divisor(row);
            parts.next().is_none().then(|| factor * factor * self.distances[point])
        };
        let mut norms: Vec<f64> = (0..mixing.rows()).map(norm).collect::<Option<_>>()?;
        norms.extend_from_slice(&self.distances[self.rows..]);
        Some(norms)
    }

    fn mixed_pairs(&self, mixing: &Mixing) -> Option<Vec<f64>> {
        let distances = self.distances()?;
        let (points, origin) = (self.points(), self.origin());
        let infinite: Vec<bool> = (0..points).map(|point| distances.norm2(point) == f64::INFINITY).collect();
        // The mixed rows, then extra rows and the origin as they are.
        let kept = (self.rows..points).map(|point| vec![(point, 1.0)]);
        let rows: Vec<Vec<(usize, f64)>> = (0..mixing.rows())
            .map(|row| mixing.row(row).iter().map(|&(point, value)| (point, value / mixing.divisor(row))).collect())
            .chain(kept)
            .collect();
        let (far, near): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| row.iter().partition::<Vec<(usize, f64)>, _>(|(point, _)| infinite[*point])).unzip();
        // Eb for every row b, then aᵀEb.
        let products: Vec<Vec<f64>> = near
            .par_iter()
            .map(|b| {
                let entry = |p: usize| {
                    if infinite[p] {
                        return 0.0;
                    }
                    b.iter().map(|&(q, value)| value * distances.distance2(p, q)).sum()
                };
                (0..=origin).map(entry).collect()
            })
            .collect();
        let dot = |a: &[(usize, f64)], product: &[f64]| -> f64 { a.iter().map(|&(p, value)| value * product[p]).sum() };
        let own: Vec<f64> = near.iter().zip(&products).map(|(row, product)| dot(row, product)).collect();
        let mut packed = vec![0.0; packed_len(rows.len() - 1)];
        for high in 1..rows.len() {
            for low in 0..high {
                let at = packed_index(low, high);
                if far[low] != far[high] {
                    packed[at] = f64::INFINITY;
                    continue;
                }
                if near[low] == near[high] {
                    continue;
                }
                let cross = dot(&near[low], &products[high]);
                let mean = 0.5 * (own[low] + own[high]);
                let value = cross - mean;
                // NaN where points of finite length are infinitely far apart.
                if !value.is_finite() || value * LOSS < cross + mean {
                    return None;
                }
                packed[at] = value;
            }
        }
        Some(packed)
    }
}
