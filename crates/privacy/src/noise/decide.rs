//! Whether a draw is accepted: u < ρ/(K·T) for a uniform u of as many bits as that takes.
//!
//! The decision is that of infinitely many bits, so a shorter way to it changes no output.
//!
//! **Error of the f64 value of p = ρ/(K·T).** The position is an integer of at most 41 bits plus φ, one rounding of 2⁻⁵³;
//! its square doubles that and adds one rounding; the inverse of 2σ² carries two, the product one: below 7·2⁻⁵³ of the
//! exponent, which is at most 512 (32σ: half of 32²): an absolute error below 2⁻⁴¹. The exponential adds 2⁻⁵⁰, product and
//! quotient 3·2⁻⁵³. Below 2⁻⁷⁰⁸·ρ exponents are clamped; p is then below 2⁻⁹⁵ anyway. Together less than 2⁻⁴⁰ of p,
//! a quarter of the guard 2⁻³⁸. The bits of φ past the 64th move the exponent by less than 2⁻⁶³.

use super::{
    Law,
    stream::Side,
    table::{Density, NoiseTable},
};
use crate::math::{fast, fixed::parts};
use dashu::integer::UBig;

/// 2⁻³², 2⁻⁶⁴, 2⁻⁹⁵.
const UNIT_32: f64 = 1.0 / (1_u64 << 32) as f64;
const UNIT_64: f64 = UNIT_32 * UNIT_32;
const UNIT_95: f64 = UNIT_32 * UNIT_32 * UNIT_32 * 2.0;

/// Numbers that f64 decisions share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decider {
    /// −2^{−2s'}/2σ².
    rate: f64,
    guard: f64,
}

impl Decider {
    pub(super) fn new(table: &NoiseTable, guard: f64) -> Self {
        let fine = 2_f64.powi(-(table.fine_bits as i32));
        let ratio = fine / table.sigma;
        Self { rate: -0.5 * (ratio * ratio), guard }
    }

    /// Whether the draw with fine step `y` in `bin` is accepted; `u` are the first 32 bits of the uniform, the others come
    /// from `side`.
    pub(super) fn accepts(&self, table: &NoiseTable, side: &mut Side, draw: u64, bin: usize, y: u64, u: u32) -> bool {
        let inverse = 1.0 / (table.scale * table.weights[bin] as f64);
        let probability = |y: f64| fast::exp(y * y * self.rate) * inverse;
        // Without more bits: u lies between two multiples of 2⁻³², p between its values at the cell's ends.
        let position = y as f64;
        let most = probability(position);
        let least = match table.law {
            Law::Rounded => probability(position + 1.0),
            Law::Discrete => most,
        };
        let uniform = f64::from(u) * UNIT_32;
        if uniform > most + self.guard * most + UNIT_95 {
            return false;
        }
        if uniform + UNIT_32 < least - self.guard * least - UNIT_95 {
            return true;
        }
        let (low, phi) = side.words(draw, 0);
        let uniform = uniform + low as f64 * (UNIT_32 * UNIT_64);
        let probability = match table.law {
            Law::Rounded => probability(position + phi as f64 * UNIT_64),
            Law::Discrete => most,
        };
        let margin = self.guard * probability + UNIT_95;
        if (uniform - probability).abs() > margin {
            return uniform < probability;
        }
        exact(table, side, draw, bin, y, u)
    }
}

/// The decision by interval arithmetic, with 64 more bits of everything until it falls.
///
/// Ends with probability 1: each round leaves a share of about 2⁻⁶⁴ of the draws open.
pub(super) fn exact(table: &NoiseTable, side: &mut Side, draw: u64, bin: usize, y: u64, u: u32) -> bool {
    let density = Density::new(table.sigma, table.fine_bits);
    // K·T exactly: `envelope`/2^shift.
    let (significand, exponent) = parts(table.scale);
    let shift = exponent.unsigned_abs() as usize;
    let envelope = UBig::from(significand) * UBig::from(table.weights[bin]);
    let mut uniform = UBig::from(u);
    let mut position = UBig::from(y);
    let (mut words, mut bits) = (0_u64, 192);
    loop {
        let (low, phi) = side.words(draw, words);
        words += 1;
        bits += 64;
        uniform = (uniform << 64) + UBig::from(low);
        let width = 32 + 64 * words as usize;
        // ρ at both ends of what is known of φ.
        let (least, most) = match table.law {
            Law::Rounded => {
                position = (position << 64) + UBig::from(phi);
                let fraction = 64 * words as usize;
                let next = &position + UBig::ONE;
                (density.over(&next, fraction, bits).low, density.over(&position, fraction, bits).high)
            }
            Law::Discrete => {
                let value = density.over(&position, 0, bits);
                (value.low, value.high)
            }
        };
        // u/2^width against (ρ/2^bits)/(envelope/2^shift).
        let scaled = |uniform: &UBig| (uniform * &envelope) << bits;
        if scaled(&(&uniform + UBig::ONE)) <= least << (width + shift) {
            return true;
        }
        if scaled(&uniform) >= most << (width + shift) {
            return false;
        }
    }
}
