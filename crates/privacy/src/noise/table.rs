//! The envelope of one σ, in integers.
//!
//! With ρ(y) = exp(−y²/2σ²) and bins of width 2^e, bin j gets T_j of 2³² parts of the proposal. K·T_j ≥ ρ holds on all
//! of bin j, whatever T_j was rounded to, so that accepting with probability ρ/(K·T_j) is exact.

use super::BINS;
use crate::{
    error::{ParameterError, within},
    math::fixed::{Interval, parts},
};
use dashu::{base::BitTest as _, integer::UBig};

/// Which integer distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// round(G) for a Gaussian G: adding it to integers is post-processing of adding G.
    Rounded,
    /// The discrete Gaussian: probability of k proportional to exp(−k²/2σ²).
    Discrete,
}

/// Fractional bits of the exponentials that the tables are made from.
const BITS: usize = 320;

/// 2⁻³⁸: how far the tables stay from the true bounds, and f64 decisions from ties.
pub(super) const GUARD: f64 = 1.0 / (1_u64 << 38) as f64;

/// Everything that draws of one law and σ share. 8 KiB of it are hot.
#[derive(Clone)]
pub struct NoiseTable {
    pub(super) law: Law,
    pub(super) sigma: f64,
    /// log₂ of a bin's width in fine steps.
    pub(super) offset_bits: u32,
    /// s': a fine step is 2^−s'.
    pub(super) fine_bits: u32,
    /// Per column: threshold in 22 bits, then the alias in 10.
    pub(super) columns: Box<[u32; BINS]>,
    /// A_j: below this the upper 32 bits of the uniform are accepted wherever in the bin.
    pub(super) accepts: Box<[u32; BINS]>,
    /// T_j.
    pub(super) weights: Box<[u64; BINS]>,
    /// K.
    pub(super) scale: f64,
}

impl NoiseTable {
    /// The tables for σ = `sigma` in grid units, 2⁻¹⁰ ≤ σ < 2³⁶. Takes some ten milliseconds.
    ///
    /// # Errors
    /// σ outside its limits.
    pub fn new(law: Law, sigma: f64) -> Result<Self, ParameterError> {
        within("sigma_grid", sigma, 2_f64.powi(-10), 2_f64.powi(36).next_down())?;
        // The exponent e with 32 ≤ σ/2^e < 64, from the bits of σ, which is normal.
        let exponent = ((sigma.to_bits() >> 52) & 0x7ff) as i32 - 1023 - 5;
        let (exponent, fine_bits) = match law {
            Law::Rounded => (exponent, 1.max(-exponent)),
            Law::Discrete => (exponent.max(0), 0),
        };
        // In 0..=31: e ≤ 30.
        let offset_bits = (exponent + fine_bits) as u32;
        let fine_bits = fine_bits as u32;
        let density = Density::new(sigma, fine_bits);
        let width = 1_u64 << offset_bits;
        let edges: Vec<Interval> = (0..=BINS as u64).map(|bin| density.at(bin * width)).collect();
        let scale = scale(&edges);
        let weights = weights(&edges, scale);
        let accepts = std::array::from_fn(|bin| {
            let last = match law {
                Law::Rounded => edges[bin + 1].low.clone(),
                Law::Discrete => density.at((bin as u64 + 1) * width - 1).low,
            };
            accept(last, scale, weights[bin])
        });
        Ok(Self {
            law,
            sigma,
            offset_bits,
            fine_bits,
            columns: Box::new(columns(&weights)),
            accepts: Box::new(accepts),
            weights: Box::new(weights),
            scale,
        })
    }

    /// Which distribution.
    #[must_use]
    pub fn law(&self) -> Law {
        self.law
    }

    /// σ in grid units.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.sigma
    }
}

impl std::fmt::Debug for NoiseTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NoiseTable").field("law", &self.law).field("sigma", &self.sigma).finish_non_exhaustive()
    }
}

/// ρ at fine steps.
pub(super) struct Density {
    /// 2σ²·2^{2s'}, as numerator over denominator.
    numerator: UBig,
    denominator: UBig,
}

impl Density {
    pub(super) fn new(sigma: f64, fine_bits: u32) -> Self {
        let (significand, exponent) = parts(sigma);
        let square = UBig::from(significand) * UBig::from(significand);
        let shift = 2 * exponent + 1 + 2 * fine_bits as i32;
        match shift >= 0 {
            true => Self { numerator: square << shift as usize, denominator: UBig::ONE },
            false => Self { numerator: square, denominator: UBig::ONE << shift.unsigned_abs() as usize },
        }
    }

    /// ρ at the fine step `y`.
    fn at(&self, y: u64) -> Interval {
        self.over(&UBig::from(y), 0, BITS)
    }

    /// ρ at `y`/2^`fraction` fine steps, to `bits` fractional bits.
    pub(super) fn over(&self, y: &UBig, fraction: usize, bits: usize) -> Interval {
        let exponent = Interval::ratio(&(y * y * &self.denominator), &(&self.numerator << (2 * fraction)), bits);
        // e^{−x} < 2^{−x}: nothing is left of it.
        if exponent.low > (UBig::from(bits) << bits) {
            return Interval { low: UBig::ZERO, high: UBig::ONE, bits };
        }
        exponent.exp_neg()
    }
}

/// K = Σ ρ(left edges)/(2³² − 4096), as an f64 not below it.
fn scale(edges: &[Interval]) -> f64 {
    let sum: UBig = edges[..BINS].iter().fold(UBig::ZERO, |sum, edge| sum + &edge.high);
    // 53 bits of the quotient, rounded up.
    let quotient = (sum << 64) / UBig::from((1_u64 << 32) - 4096);
    let drop = quotient.bit_len().saturating_sub(53);
    let top = u64::try_from(&(quotient >> drop)).expect("53 bits remain") + 1;
    // At most 2⁵³ and a power of two: both products are exact.
    top as f64 * 2_f64.powi(drop as i32 - (BITS + 64) as i32)
}

/// T_j = max(1, ⌈ρ(left edge)/K·(1 + 2⁻³⁸)⌉), the first with what is left of 2³².
fn weights(edges: &[Interval], scale: f64) -> [u64; BINS] {
    let (significand, exponent) = parts(scale);
    // K = significand·2^exponent with a negative exponent: ρ/K = ρ·2^−exponent/significand.
    let shift = exponent.unsigned_abs() as usize;
    let mut weights: [u64; BINS] = std::array::from_fn(|bin| {
        let numerator = (&edges[bin].high * ((UBig::ONE << 38) + UBig::ONE)) << shift;
        let denominator = UBig::from(significand) << (BITS + 38);
        let quotient = numerator / denominator + UBig::ONE;
        u64::try_from(&quotient).expect("ρ ≤ 1, and K is at least 2⁻³²").max(1)
    });
    let sum: u64 = weights.iter().sum();
    // Each quotient exceeds ρ/K by at most 1 and 2⁻³⁸ of itself: the sum by less than the 4096 left for it.
    weights[0] += (1 << 32) - sum;
    weights
}

/// A = ⌊2³²(1 − 2⁻³⁸)·ρ(last point)/(K·T)⌋, at most 2³² − 1.
fn accept(last: UBig, scale: f64, weight: u64) -> u32 {
    let (significand, exponent) = parts(scale);
    let shift = exponent.unsigned_abs() as usize;
    let numerator = (last * ((UBig::ONE << 38) - UBig::ONE)) << (32 + shift);
    let denominator = (UBig::from(significand) * UBig::from(weight)) << (BITS + 38);
    u32::try_from(&(numerator / denominator)).unwrap_or(u32::MAX)
}

/// Vose's alias method in integers: column c gives bin c below its threshold and its alias from there to 2²².
fn columns(weights: &[u64; BINS]) -> [u32; BINS] {
    const CAPACITY: u64 = 1 << 22;
    let mut rest = *weights;
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..BINS).partition(|&bin| rest[bin] < CAPACITY);
    // A full column has threshold 0 and itself as alias.
    let mut columns: [u32; BINS] = std::array::from_fn(|bin| bin as u32);
    while let (Some(&donor), Some(bin)) = (large.last(), small.pop()) {
        columns[bin] = (rest[bin] as u32) << 10 | donor as u32;
        rest[donor] -= CAPACITY - rest[bin];
        if rest[donor] < CAPACITY {
            large.pop();
            small.push(donor);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGMAS: [f64; 9] = [1.0 / 1024.0, 0.3, 0.7, 1.0, 5.5, 70.0, 1000.0, 16_777_216.5, 6.8e10];

    fn tables() -> impl Iterator<Item = NoiseTable> {
        SIGMAS.iter().flat_map(|&sigma| [Law::Rounded, Law::Discrete].map(|law| NoiseTable::new(law, sigma).unwrap()))
    }

    #[test]
    fn weights_fill_32_bits_and_columns_reproduce_them() {
        for table in tables() {
            assert_eq!(table.weights.iter().sum::<u64>(), 1 << 32, "{table:?}");
            let mut sums = [0_u64; BINS];
            for (column, word) in table.columns.iter().enumerate() {
                let (threshold, alias) = (u64::from(word >> 10), (word & 1023) as usize);
                sums[column] += threshold;
                sums[alias] += (1 << 22) - threshold;
            }
            assert_eq!(sums, *table.weights, "{table:?}");
        }
    }

    #[test]
    fn the_envelope_is_above_the_density_and_the_fast_acceptance_below_its_least() {
        for table in tables() {
            let density = Density::new(table.sigma, table.fine_bits);
            let (significand, exponent) = parts(table.scale);
            let shift = exponent.unsigned_abs() as usize;
            let width = 1_u64 << table.offset_bits;
            for bin in 0..BINS as u64 {
                let weight = UBig::from(table.weights[bin as usize]);
                // K·T ≥ ρ(left edge), the largest of the bin; both times 2^{512+shift}.
                let envelope = (UBig::from(significand) * &weight) << 512;
                let first = density.over(&UBig::from(bin * width), 0, 512).high << shift;
                assert!(envelope >= first, "{table:?} {bin}");
                // A/2³² ≤ ρ(last point)/(K·T).
                let last = match table.law {
                    Law::Rounded => (bin + 1) * width,
                    Law::Discrete => (bin + 1) * width - 1,
                };
                let accept = UBig::from(table.accepts[bin as usize]);
                let least = density.over(&UBig::from(last), 0, 512).low << (shift + 32);
                assert!(accept * &envelope <= least || table.accepts[bin as usize] == 0, "{table:?} {bin}");
            }
        }
    }

    #[test]
    fn most_draws_are_accepted_at_once() {
        for table in tables().filter(|table| table.law == Law::Rounded || table.sigma > 200.0) {
            let terms = table.weights.iter().zip(table.accepts.iter());
            let share: f64 = terms.map(|(weight, accept)| *weight as f64 * f64::from(*accept) / 2_f64.powi(64)).sum();
            assert!(share > 0.97, "{table:?}: {share}");
        }
    }

    #[test]
    fn bins_reach_16_sigma() {
        for table in tables() {
            let reach = (BINS as f64) * f64::from(table.offset_bits).exp2() / f64::from(table.fine_bits).exp2();
            assert!(reach >= 16.0 * table.sigma, "{table:?}");
        }
    }

    #[test]
    fn sigma_outside_its_limits_is_refused() {
        for sigma in [0.0, 1e-4, 2_f64.powi(36), -1.0, f64::NAN, f64::INFINITY] {
            assert!(NoiseTable::new(Law::Rounded, sigma).is_err(), "{sigma}");
        }
    }
}
