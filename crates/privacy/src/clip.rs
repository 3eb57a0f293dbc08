//! From an update to integers and back: the only place where a norm is bounded.
//!
//! A contribution becomes integers q on the grid γ = C/2^s with Σq² ≤ 2^{2s}, *checked exactly*; sums and noise are
//! integers too. The privacy proof uses that inequality alone: whatever f64 does before it costs utility at most.
//!
//! 1. [`Grid::factor`]: length and finiteness, then the f64 norm gives t = min(1, C/‖u‖)·(1−2⁻²⁰).
//! 2. q = trunc(u·t/γ): towards zero, so that rounding cannot raise the norm.
//! 3. Σq² ≤ 2^{2s}, else a smaller t, else nothing.
//! 4. [`ClippedSum::add`]: i64 sums, the same bits in any order.
//! 5. [`ClippedSum::noised`]: a checked integer addition.
//! 6. [`NoisedSum::release`]: times γ/D with a fixed public D.

mod quantize;
mod rotated;
mod trimmed;

use crate::{
    error::{ParameterError, within},
    noise::{NoiseStream, Overflow},
};
pub use quantize::{Coordinate, squares};
pub use rotated::{MOST_COORDINATES, rotated, rounded_bound};
pub use trimmed::TrimmedSum;
use zeroize::Zeroize as _;

/// The grid of one task: clip, resolution, and a proof that its sums fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    clip: f64,
    bits: u32,
    sigma: f64,
    contributions: u64,
}

/// What became of a contribution. It counts in the denominator whatever became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contribution {
    /// Within the clip.
    Whole,
    /// Scaled down to the clip.
    Clipped,
    /// Not finite: nothing was added.
    NotFinite,
    /// The exact norm check failed at every scale: nothing was added. Not known to happen.
    Unclippable,
}

/// How often a contribution that fails the exact check is scaled down by 1 − 2⁻¹².
pub const ATTEMPTS: u32 = 8;

impl Grid {
    /// A grid of 2^`bits` steps within `clip` C, for sums of at most `contributions` with noise of `noise_multiplier`
    /// z = σ/C.
    ///
    /// # Errors
    /// More than 31 bits, z·2^s above 2³⁵, or sums that could leave 2⁶².
    pub fn new(clip: f64, bits: u32, noise_multiplier: f64, contributions: u64) -> Result<Self, ParameterError> {
        within("noise_multiplier", noise_multiplier, 0.0, 1e9)?;
        let steps = (1_u64 << bits.min(31)) as f64;
        if noise_multiplier * steps > 2_f64.powi(35) {
            let fix =
                format!("give at most {}, or a lower noise_multiplier", 35 - noise_multiplier.log2().ceil() as i64);
            return Err(ParameterError::new("grid_bits", bits, fix));
        }
        // An integer σ, rounded up: what the ledger records is what is drawn.
        Self::with_sigma(clip, bits, (noise_multiplier * steps).ceil() as u64, contributions)
    }

    /// The same with σ given in grid steps.
    ///
    /// # Errors
    /// As [`Self::new`], or a σ above 2³⁶.
    pub fn with_sigma(clip: f64, bits: u32, sigma: u64, contributions: u64) -> Result<Self, ParameterError> {
        within("clip_l2", clip, 1e-30, 1e30)?;
        within("grid_bits", f64::from(bits), 1.0, 31.0)?;
        let sigma = within("sigma_grid", sigma as f64, 0.0, 2_f64.powi(36))?;
        let steps = (1_u64 << bits) as f64;
        if contributions as f64 * steps + 32.0 * sigma > 2_f64.powi(62) {
            let fix = "give fewer, or fewer grid_bits: sums must stay below 2^62 grid steps";
            return Err(ParameterError::new("cohort", contributions, fix));
        }
        Ok(Self { clip, bits, sigma, contributions })
    }

    /// The same steps and the same σ in steps within another clip: what a clip that moves leaves as it is.
    ///
    /// # Errors
    /// A clip outside 10⁻³⁰..=10³⁰.
    pub fn at(self, clip: f64) -> Result<Self, ParameterError> {
        Ok(Self { clip: within("clip_l2", clip, 1e-30, 1e30)?, ..self })
    }

    /// C.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.clip
    }

    /// γ = C/2^s.
    #[must_use]
    pub fn step(&self) -> f64 {
        self.clip / self.sensitivity() as f64
    }

    /// Δ of a clipped sum in grid steps under zero-out adjacency: 2^s.
    #[must_use]
    pub fn sensitivity(&self) -> u64 {
        1 << self.bits
    }

    /// σ in grid steps, an integer; 0 without noise.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// The factor from coordinates to grid steps that brings the update within the clip, and whether it had to be scaled
    /// down; `None` if it is not finite.
    ///
    /// The factor is a suggestion: [`Self::energy`] decides.
    #[must_use]
    pub fn factor<T: Coordinate>(&self, update: &[T]) -> Option<(f64, bool)> {
        let steps = self.steps();
        let (norm, exponent) = quantize::norm(update)?;
        let scale = quantize::power_of_two(-exponent);
        let clipped = norm > self.clip * scale;
        match clipped {
            true => Some((steps / norm * scale, true)),
            false => Some((steps / self.clip, false)),
        }
    }

    /// The same for an update whose norm is known: the root of the sum of [`squares`] over its slices. `None` if that is
    /// not finite.
    #[must_use]
    pub fn factor_of_norm(&self, norm: f64) -> Option<f64> {
        norm.is_finite().then(|| self.steps() / norm.max(self.clip))
    }

    /// Σq² of a slice at this factor, exactly. A vector is within the clip if the sum over all its slices is at most
    /// [`Self::most_energy`].
    #[must_use]
    pub fn energy<T: Coordinate>(&self, slice: &[T], factor: f64) -> u128 {
        quantize::energy(slice, factor)
    }

    /// 2^{2s}.
    #[must_use]
    pub fn most_energy(&self) -> u128 {
        1 << (2 * self.bits)
    }

    /// The factor to try when the exact check failed.
    #[must_use]
    pub fn smaller(factor: f64) -> f64 {
        factor * (1.0 - 1.0 / 4096.0)
    }

    /// Steps of an update as long as the clip; 1 − 2⁻²⁰ leaves room for the rounding errors of the norm.
    fn steps(&self) -> f64 {
        self.sensitivity() as f64 * (1.0 - 1.0 / 1_048_576.0)
    }
}

/// Integer sums of clipped contributions. Not private before [`Self::noised`]: its memory is erased when dropped.
pub struct ClippedSum {
    grid: Grid,
    sums: Vec<i64>,
    added: u64,
}

impl ClippedSum {
    /// Zeros of `dimension` coordinates.
    #[must_use]
    pub fn new(grid: Grid, dimension: usize) -> Self {
        Self { grid, sums: vec![0; dimension], added: 0 }
    }

    /// Adds one contribution of all coordinates: clip, truncation, exact check, integer addition.
    ///
    /// # Errors
    /// Another length, or more contributions than the grid was made for.
    pub fn add<T: Coordinate>(&mut self, update: &[T]) -> Result<Contribution, ParameterError> {
        if update.len() != self.sums.len() {
            let fix = format!("give {} coordinates", self.sums.len());
            return Err(ParameterError::new("update", update.len(), fix));
        }
        self.count()?;
        let Some((mut factor, clipped)) = self.grid.factor(update) else { return Ok(Contribution::NotFinite) };
        for _ in 0..ATTEMPTS {
            // Added and checked in one pass; undone by subtracting the same integers, which is exact.
            if quantize::add(update, factor, &mut self.sums) <= self.grid.most_energy() {
                return Ok(if clipped { Contribution::Clipped } else { Contribution::Whole });
            }
            quantize::subtract(update, factor, &mut self.sums);
            factor = Grid::smaller(factor);
        }
        Ok(Contribution::Unclippable)
    }

    /// Adds a slice of a contribution whose *whole* was found within the clip at `factor` by [`Grid::energy`]: for sums
    /// that are computed unit by unit.
    ///
    /// # Errors
    /// Another length, or more contributions than the grid was made for.
    pub fn add_checked<T: Coordinate>(&mut self, slice: &[T], factor: f64) -> Result<(), ParameterError> {
        if slice.len() != self.sums.len() {
            let fix = format!("give {} coordinates", self.sums.len());
            return Err(ParameterError::new("update", slice.len(), fix));
        }
        self.count()?;
        quantize::add(slice, factor, &mut self.sums);
        Ok(())
    }

    /// Adds a slice of a contribution at `factor` and answers its Σq²: for sums that are computed unit by unit in one
    /// pass. Nothing may be done with the sums before the caller has found the whole contribution within
    /// [`Grid::most_energy`].
    ///
    /// # Errors
    /// Another length, or more contributions than the grid was made for.
    pub fn add_slice<T: Coordinate>(&mut self, slice: &[T], factor: f64) -> Result<u128, ParameterError> {
        if slice.len() != self.sums.len() {
            let fix = format!("give {} coordinates", self.sums.len());
            return Err(ParameterError::new("update", slice.len(), fix));
        }
        self.count()?;
        Ok(quantize::add(slice, factor, &mut self.sums))
    }

    /// Adds another sum over the same grid: the same bits in any order.
    ///
    /// # Errors
    /// Another grid or length, or more contributions than the grid was made for.
    pub fn merge(&mut self, other: &Self) -> Result<(), ParameterError> {
        if other.grid != self.grid || other.sums.len() != self.sums.len() {
            return Err(ParameterError::new("sum", other.sums.len(), "give a sum of the same grid and length"));
        }
        let added = self.added + other.added;
        if added > self.grid.contributions {
            return Err(too_many(added, self.grid.contributions));
        }
        self.added = added;
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
        Ok(())
    }

    /// How many contributions were added, those that were zeroed too. Not private: for checks alone.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Adds noise. Takes the sum: there is no second noise for it.
    ///
    /// # Errors
    /// If a noised sum leaves the range of i64; nothing may be published then.
    pub fn noised(mut self, stream: &mut NoiseStream<'_>) -> Result<NoisedSum, Overflow> {
        stream.add_to(&mut self.sums)?;
        Ok(NoisedSum { step: self.grid.step(), values: std::mem::take(&mut self.sums) })
    }

    /// The same with noise that was drawn before: that of a correlated run.
    ///
    /// # Errors
    /// As there, or noise of another length.
    pub fn noised_by(mut self, noise: &[i64]) -> Result<NoisedSum, Overflow> {
        if noise.len() != self.sums.len() {
            return Err(Overflow);
        }
        for (sum, value) in self.sums.iter_mut().zip(noise) {
            *sum = sum.checked_add(*value).ok_or(Overflow)?;
        }
        Ok(NoisedSum { step: self.grid.step(), values: std::mem::take(&mut self.sums) })
    }

    /// Coordinates of the sum.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.sums.len()
    }

    #[cfg(test)]
    pub(crate) fn values_for_test(&self) -> &[i64] {
        &self.sums
    }

    fn count(&mut self) -> Result<(), ParameterError> {
        if self.added >= self.grid.contributions {
            return Err(too_many(self.added + 1, self.grid.contributions));
        }
        self.added += 1;
        Ok(())
    }
}

impl Drop for ClippedSum {
    fn drop(&mut self) {
        self.sums.zeroize();
    }
}

impl std::fmt::Debug for ClippedSum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClippedSum").field("grid", &self.grid).finish_non_exhaustive()
    }
}

/// A sum with its noise: private, as far as the noise was enough.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisedSum {
    step: f64,
    values: Vec<i64>,
}

impl NoisedSum {
    /// The noised integers.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// The mean over a fixed public denominator D > 0, which must not depend on who replied.
    pub fn release(&self, denominator: f64) -> impl Iterator<Item = f64> {
        let scale = self.step / denominator;
        self.values.iter().map(move |value| *value as f64 * scale)
    }
}

fn too_many(added: u64, limit: u64) -> ParameterError {
    ParameterError::new("cohort", added, format!("the grid was made for {limit} contributions"))
}

#[cfg(test)]
mod tests;
