//! Between f32 updates and the ring Z/2^32, in which masked inputs are summed.
//!
//! An update is weighted, clipped to an L2 norm, cut to ±kappa per coordinate and rounded stochastically to one of
//! 2^bits levels, evenly spaced over -kappa..=kappa. Levels add up exactly as long as their sum stays below 2^32.

use thiserror::Error;
use zeroize::Zeroizing;

use crate::kernel::levels::{Grid, Ratio, Row, round, to_row};
use crate::kernel::norms::norms;
use crate::pre::clip_factor;
use crate::rows::RowsError;

/// Bits of a level. One bit cannot tell zero from either end; 32 leave no room for a second client.
pub const BITS: std::ops::RangeInclusive<u32> = 2..=31;

/// Clip norms and kappas, far from where f32 and f64 end.
pub const BOUNDS: std::ops::RangeInclusive<f64> = 1e-30..=1e30;

/// Coordinates for which random bytes are drawn at a time.
const TILE: usize = 1024;

/// Maps updates to levels, and sums of levels to rows. Every client and the server of a round use an equal one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    clip_l2: f64,
    kappa: f64,
    bits: u32,
    noise_tail: u32,
}

/// What was done to an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantized {
    /// What the weighted update was multiplied with to bring its norm to the clip norm: at most 1.
    pub factor: f64,
    /// Coordinates that were beyond kappa after that, and were cut.
    pub saturated: u64,
}

/// Why there can be no such quantiser.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum QuantizerError {
    /// The clip norm is out of bounds.
    #[error("clip_l2 = {clip_l2}: give a number from {} to {}", BOUNDS.start(), BOUNDS.end())]
    Clip {
        /// The value.
        clip_l2: f64,
    },
    /// Kappa is out of bounds.
    #[error("kappa = {kappa}: give a number from {} to clip_l2 = {clip_l2}, beyond which no coordinate can be", BOUNDS.start())]
    Kappa {
        /// The value.
        kappa: f64,
        /// The clip norm.
        clip_l2: f64,
    },
    /// The number of bits is out of bounds.
    #[error("bits = {bits}: give a number from {} to {}", BITS.start(), BITS.end())]
    Bits {
        /// The value.
        bits: u32,
    },
    /// The noise leaves no room for a single client.
    #[error(
        "noise_tail = {noise_tail}: with {bits} bits there is no room for it below 2^32; use less noise or fewer bits"
    )]
    NoiseTail {
        /// The value.
        noise_tail: u32,
        /// Bits of a level.
        bits: u32,
    },
}

/// Why an update cannot be quantised.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum QuantizeError {
    /// A coordinate is NaN or infinite.
    #[error("coordinate {coordinate} of the update is not finite")]
    NonFinite {
        /// The first such coordinate.
        coordinate: usize,
    },
    /// The weight is not a share of the largest weight.
    #[error("weight = {weight}: give a number above 0 and at most 1, the share of the largest weight")]
    Weight {
        /// The value.
        weight: f64,
    },
    /// The output has another length than the update.
    #[error("the output has {output} coordinates, the update {update}")]
    Length {
        /// Coordinates of the output.
        output: usize,
        /// Coordinates of the update.
        update: usize,
    },
}

/// Why sums do not make a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MeanError {
    /// Nobody is in the sum.
    #[error("the sum of no client has no mean")]
    NoClients,
    /// The levels of so many clients may exceed the ring.
    #[error("{clients} clients, but sums of more than {most} may exceed 2^32; use fewer bits or smaller groups")]
    TooManyClients {
        /// Clients in the sum.
        clients: usize,
        /// See [`Quantizer::most_clients`].
        most: usize,
    },
    /// The summed weights are none that so many clients can have.
    #[error("summed weight {weight} of {clients} clients: each counts for 1 to {levels}")]
    Weight {
        /// The sum.
        weight: u32,
        /// Clients in it.
        clients: usize,
        /// The most each can add.
        levels: u32,
    },
    /// The output has another length than the sums.
    #[error("the output has {output} coordinates, the sums {sums}")]
    Length {
        /// Coordinates of the output.
        output: usize,
        /// Coordinates of the sums.
        sums: usize,
    },
}

impl Quantizer {
    /// A quantiser for updates clipped to the L2 norm `clip_l2`, cut to ±`kappa`, which is `clip_l2` if not given and
    /// never more, and rounded to 2^`bits` levels.
    ///
    /// # Errors
    ///
    /// When a number is out of bounds.
    pub fn new(clip_l2: f64, kappa: Option<f64>, bits: u32) -> Result<Self, QuantizerError> {
        if !BOUNDS.contains(&clip_l2) {
            return Err(QuantizerError::Clip { clip_l2 });
        }
        let kappa = kappa.unwrap_or(clip_l2);
        if !(*BOUNDS.start()..=clip_l2).contains(&kappa) {
            return Err(QuantizerError::Kappa { kappa, clip_l2 });
        }
        if !BITS.contains(&bits) {
            return Err(QuantizerError::Bits { bits });
        }
        Ok(Self { clip_l2, kappa, bits, noise_tail: 0 })
    }

    /// The same for sums to which integer noise was added that stays within ±`noise_tail`: sums from
    /// `2^32 - noise_tail` on count as negative, and fewer clients fit.
    ///
    /// # Errors
    ///
    /// When not even one client fits.
    pub fn with_noise_tail(self, noise_tail: u32) -> Result<Self, QuantizerError> {
        let quantizer = Self { noise_tail, ..self };
        if quantizer.most_clients() == 0 {
            return Err(QuantizerError::NoiseTail { noise_tail, bits: self.bits });
        }
        Ok(quantizer)
    }

    /// The L2 norm that no weighted update exceeds.
    #[must_use]
    pub fn clip_l2(&self) -> f64 {
        self.clip_l2
    }

    /// The magnitude that no coordinate exceeds.
    #[must_use]
    pub fn kappa(&self) -> f64 {
        self.kappa
    }

    /// Bits of a level.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The noise that sums have room for.
    #[must_use]
    pub fn noise_tail(&self) -> u32 {
        self.noise_tail
    }

    /// The distance of two levels, 2 kappa / (2^bits - 1).
    #[must_use]
    pub fn step(&self) -> f64 {
        2.0 * self.kappa / f64::from(self.levels())
    }

    /// The highest level, 2^bits - 1.
    #[must_use]
    pub fn levels(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// The most clients n whose sums cannot exceed the ring: n (2^bits - 1) + 2 noise_tail < 2^32.
    #[must_use]
    pub fn most_clients(&self) -> usize {
        let room = u64::from(u32::MAX).saturating_sub(2 * u64::from(self.noise_tail));
        // At most 2^32 / 3, since there are two bits.
        (room / u64::from(self.levels())) as usize
    }

    /// Checks that the levels of so many clients add up exactly.
    ///
    /// # Errors
    ///
    /// When there is no client or there are too many.
    pub fn check_sum(&self, clients: usize) -> Result<(), MeanError> {
        if clients == 0 {
            return Err(MeanError::NoClients);
        }
        let most = self.most_clients();
        if clients > most {
            return Err(MeanError::TooManyClients { clients, most });
        }
        Ok(())
    }

    /// Quantises an update that counts with `weight`, its share of the largest weight in 0..=1 without 0.
    ///
    /// `random` fills what it is given with uniformly random bytes, such as [`crate::KeyStream::fill`]: four per
    /// coordinate, in order, of which the last three become a number u from the middles of 2^24 equal parts of 0..1. The
    /// level is floor((x + kappa) / step + u). The same update, weight and bytes give the same levels on every machine.
    ///
    /// The clip is of the norm in f64, rounded up by the most that its rounding errors can hide: the norm of what is
    /// rounded to levels never exceeds `clip_l2`.
    ///
    /// # Errors
    ///
    /// When the update is not finite, the weight no such share or the lengths differ. No random byte was drawn then, and
    /// `out` is untouched.
    pub fn quantize(
        &self,
        update: &[f32],
        weight: f64,
        mut random: impl FnMut(&mut [u8]),
        out: &mut [u32],
    ) -> Result<Quantized, QuantizeError> {
        if out.len() != update.len() {
            return Err(QuantizeError::Length { output: out.len(), update: update.len() });
        }
        check_weight(weight)?;
        let factor = self.factor(update, weight)?;
        let levels = self.levels();
        let density = f64::from(levels) / (2.0 * self.kappa);
        let grid = Grid { scale: weight * factor, bound: self.kappa, density, levels };
        let mut bytes = Zeroizing::new([0; 4 * TILE]);
        let mut saturated = 0;
        for (values, out) in update.chunks(TILE).zip(out.chunks_mut(TILE)) {
            let bytes = &mut bytes[..4 * values.len()];
            random(bytes);
            saturated += round(values, bytes, grid, out);
        }
        Ok(Quantized { factor, saturated })
    }

    /// The level that stands for a weight in the coordinate of weights: weight times 2^bits - 1, rounded, at least 1.
    ///
    /// # Errors
    ///
    /// When the weight is not above 0 and at most 1.
    pub fn quantize_weight(&self, weight: f64) -> Result<u32, QuantizeError> {
        check_weight(weight)?;
        Ok(((weight * f64::from(self.levels())).round() as u32).max(1))
    }

    /// The coordinate that a level stands for.
    #[must_use]
    pub fn value(&self, level: u32) -> f64 {
        f64::from(level) * self.step() - self.kappa
    }

    /// Writes the mean of `clients` updates whose levels add up to `sums`: sum times step / clients - kappa.
    ///
    /// # Errors
    ///
    /// When there are no clients or too many, or the lengths differ.
    pub fn mean(&self, sums: &[u32], clients: usize, out: &mut [f32]) -> Result<(), MeanError> {
        self.check_shapes(sums, clients, out)?;
        let ratio = Ratio::Even { clients: clients as f64, bound: self.kappa };
        to_row(sums, Row { tail: self.noise_tail, step: self.step(), ratio }, out);
        Ok(())
    }

    /// Writes the weighted mean of `clients` updates whose levels add up to `sums` and whose weights' levels, of
    /// [`Quantizer::quantize_weight`], to `weight`: (sum times step - clients times kappa) (2^bits - 1) / weight.
    /// What is beyond f32 saturates.
    ///
    /// # Errors
    ///
    /// When there are no clients or too many, the weight is none they can have, or the lengths differ.
    pub fn weighted_mean(&self, sums: &[u32], clients: usize, weight: u32, out: &mut [f32]) -> Result<(), MeanError> {
        self.check_shapes(sums, clients, out)?;
        let levels = self.levels();
        // The product is below 2^32: the number of clients was checked.
        if u64::from(weight) < clients as u64 || u64::from(weight) > clients as u64 * u64::from(levels) {
            return Err(MeanError::Weight { weight, clients, levels });
        }
        let offset = clients as f64 * self.kappa;
        let ratio = Ratio::Weighted { offset, levels: f64::from(levels), weight: f64::from(weight) };
        to_row(sums, Row { tail: self.noise_tail, step: self.step(), ratio }, out);
        Ok(())
    }

    /// What the weighted update is to be multiplied with.
    fn factor(&self, update: &[f32], weight: f64) -> Result<f64, QuantizeError> {
        let squared = norms(&[update], 0..update.len()).map_err(|error| match error {
            RowsError::NonFinite { coordinate, .. } => QuantizeError::NonFinite { coordinate },
            // `norms` has no other error; a length is what such an error would be about.
            _ => QuantizeError::Length { output: update.len(), update: update.len() },
        })?;
        // Squares of f32 are exact in f64; adding up n of them loses less than n / 8 + 3 roundings of 2^-53 each, and
        // the root, the products and the quotient a few more.
        let margin = 1.0 + (update.len() + 64) as f64 * (f64::EPSILON / 2.0);
        Ok(clip_factor(squared[0].sqrt() * weight * margin, self.clip_l2))
    }

    fn check_shapes(&self, sums: &[u32], clients: usize, out: &[f32]) -> Result<(), MeanError> {
        if out.len() != sums.len() {
            return Err(MeanError::Length { output: out.len(), sums: sums.len() });
        }
        self.check_sum(clients)
    }
}

fn check_weight(weight: f64) -> Result<(), QuantizeError> {
    if weight > 0.0 && weight <= 1.0 { Ok(()) } else { Err(QuantizeError::Weight { weight }) }
}

#[cfg(test)]
mod tests;
