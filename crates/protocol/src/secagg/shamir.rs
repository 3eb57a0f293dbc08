//! Shamir's secret sharing of 32 bytes over the prime field of 2^61 − 1.
//!
//! A secret is a little-endian number cut into limbs of 52, 52, 52, 52 and 48 bits, each shared with a polynomial of
//! its own. The client at place i of the roster holds the five values at x = i + 1, eight little-endian bytes each.
//! Values at or above the prime and rebuilt limbs that are too wide are refused. Operations on secret values take
//! the same time whatever the values.

mod decode;
mod field;

pub use decode::{Decoded, decode};

use crate::limits;
use field::P;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Limbs of a secret.
const LIMBS: usize = 5;
/// Bits of each limb but the last.
const LIMB_BITS: u32 = 52;
/// Bits of the last limb.
const LAST_BITS: u32 = 48;
/// Bytes of a share.
pub const SHARE_BYTES: usize = 8 * LIMBS;

/// Why secrets cannot be shared or rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShamirError {
    /// The threshold does not fit the number of shares.
    #[error(
        "threshold {threshold} of {count} shares: it must be between 2 and their number, at most {}",
        limits::COHORT
    )]
    Threshold {
        /// The threshold.
        threshold: u32,
        /// Number of shares.
        count: usize,
    },
    /// Fewer shares than the threshold.
    #[error("{have} shares, {need} are needed")]
    TooFew {
        /// Shares given.
        have: usize,
        /// Shares needed.
        need: usize,
    },
    /// One place twice.
    #[error("two shares of place {index}")]
    Twice {
        /// The place.
        index: u32,
    },
    /// A share that is not five field elements of eight bytes.
    #[error("a share is {SHARE_BYTES} bytes: five numbers below 2^61 - 1")]
    NotCanonical,
    /// The shares agree on something that is no secret.
    #[error("the shares do not fit together: a rebuilt limb is too wide")]
    TooWide,
    /// More wrong shares than can be corrected.
    #[error("more wrong shares than the {correctable} that {count} shares can correct")]
    Undecodable {
        /// Shares given.
        count: usize,
        /// Most wrong ones.
        correctable: usize,
    },
}

/// One client's share of a secret. Zeroised on drop, printed without content, compared in constant time.
#[derive(Clone)]
pub struct Share(Zeroizing<[u64; LIMBS]>);

impl Share {
    /// Reads a share.
    ///
    /// # Errors
    /// [`ShamirError::NotCanonical`] unless the bytes are five numbers below the prime.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ShamirError> {
        let (numbers, []) = bytes.as_chunks::<8>() else {
            return Err(ShamirError::NotCanonical);
        };
        let mut values = Zeroizing::new([0; LIMBS]);
        if numbers.len() != LIMBS {
            return Err(ShamirError::NotCanonical);
        }
        for (value, bytes) in values.iter_mut().zip(numbers) {
            *value = u64::from_le_bytes(*bytes);
            if *value >= P {
                return Err(ShamirError::NotCanonical);
            }
        }
        Ok(Self(values))
    }

    /// The bytes that [`Share::from_bytes`] reads.
    pub fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        for (bytes, value) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0.iter()) {
            *bytes = value.to_le_bytes();
        }
        bytes
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Share {}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Share(…)")
    }
}

/// Shares a secret among places 0 to `count` − 1 of the roster, so that any `threshold` shares rebuild it and fewer
/// say nothing. `random` fills its argument with uniform bytes.
///
/// # Errors
/// [`ShamirError::Threshold`] unless 2 ≤ threshold ≤ count ≤ the largest cohort.
pub fn share(
    secret: &[u8; 32],
    threshold: u32,
    count: u32,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Vec<Share>, ShamirError> {
    check_threshold(threshold, count as usize)?;
    let places: Vec<u32> = (0..count).collect();
    share_at(secret, threshold, &places, random)
}

/// Shares a secret among certain places of the roster, for example a client's neighbours. The shares come in the
/// order of the places.
///
/// Coefficients are drawn in ascending order of degree, and within a degree limb by limb: eight little-endian bytes
/// each, of which the low 61 bits count; the one excluded value is drawn again after all others.
///
/// # Errors
/// [`ShamirError::Threshold`] unless 2 ≤ threshold ≤ number of places ≤ the largest cohort; [`ShamirError::Twice`]
/// when a place occurs twice.
pub fn share_at(
    secret: &[u8; 32],
    threshold: u32,
    places: &[u32],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Vec<Share>, ShamirError> {
    check_threshold(threshold, places.len())?;
    check_distinct(places)?;
    let coefficients = coefficients(secret, threshold, random);
    Ok(places.iter().map(|&place| evaluate(&coefficients, field::point(place))).collect())
}

/// Rebuilds a secret from the first `threshold` of the shares, each with its place in the roster.
///
/// # Errors
/// [`ShamirError`] with too few shares, one place twice, or shares that do not fit together.
pub fn reconstruct(shares: &[(u32, Share)], threshold: u32) -> Result<Zeroizing<[u8; 32]>, ShamirError> {
    let shares = first(shares, threshold)?;
    let places: Vec<u32> = shares.iter().map(|(place, _)| *place).collect();
    Weights::new(&places)?.reconstruct(shares.iter().map(|(_, share)| share))
}

/// Lagrange's weights at zero for one set of places: computed once, they rebuild every secret shared among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    places: Vec<u32>,
    weights: Vec<u64>,
}

impl Weights {
    /// Weights for as many places as the threshold.
    ///
    /// # Errors
    /// [`ShamirError::Threshold`] with fewer than 2 places or more than the largest cohort; [`ShamirError::Twice`]
    /// when a place occurs twice.
    pub fn new(places: &[u32]) -> Result<Self, ShamirError> {
        check_threshold(u32::try_from(places.len()).unwrap_or(u32::MAX), places.len())?;
        check_distinct(places)?;
        let points: Vec<u64> = places.iter().map(|&place| field::point(place)).collect();
        let product = points.iter().fold(1, |product, &x| field::mul(product, x));
        let denominators: Vec<u64> = points
            .iter()
            .map(|&x| {
                let others = points.iter().filter(|&&other| other != x);
                others.fold(x, |product, &other| field::mul(product, field::sub(other, x)))
            })
            .collect();
        let weights = field::invert_all(&denominators).iter().map(|&inverse| field::mul(product, inverse)).collect();
        Ok(Self { places: places.to_vec(), weights })
    }

    /// The places, in the order in which the shares are expected.
    pub fn places(&self) -> &[u32] {
        &self.places
    }

    /// Rebuilds a secret from its shares at these places, in the same order.
    ///
    /// # Errors
    /// [`ShamirError::TooFew`] unless there are as many shares as places; [`ShamirError::TooWide`] when they do not
    /// fit together.
    pub fn reconstruct<'a>(
        &self,
        shares: impl IntoIterator<Item = &'a Share>,
    ) -> Result<Zeroizing<[u8; 32]>, ShamirError> {
        let mut limbs = Zeroizing::new([0; LIMBS]);
        let mut shares = shares.into_iter();
        for (have, &weight) in self.weights.iter().enumerate() {
            let share = shares.next().ok_or(ShamirError::TooFew { have, need: self.weights.len() })?;
            for (limb, &value) in limbs.iter_mut().zip(share.0.iter()) {
                *limb = field::add(*limb, field::mul(weight, value));
            }
        }
        join(&limbs)
    }
}

fn check_threshold(threshold: u32, count: usize) -> Result<(), ShamirError> {
    if threshold < 2 || threshold as usize > count || count > limits::COHORT {
        return Err(ShamirError::Threshold { threshold, count });
    }
    Ok(())
}

fn check_distinct(places: &[u32]) -> Result<(), ShamirError> {
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ShamirError::Twice { index: pair[0] }),
        None => Ok(()),
    }
}

fn first(shares: &[(u32, Share)], threshold: u32) -> Result<&[(u32, Share)], ShamirError> {
    let need = threshold as usize;
    shares.get(..need).ok_or(ShamirError::TooFew { have: shares.len(), need })
}

/// The polynomials' coefficients in ascending order of degree: first the secret's limbs, then random ones.
fn coefficients(secret: &[u8; 32], threshold: u32, random: &mut dyn FnMut(&mut [u8])) -> Zeroizing<Vec<[u64; LIMBS]>> {
    let degree = threshold as usize - 1;
    let mut bytes = Zeroizing::new(vec![0; degree * SHARE_BYTES]);
    random(&mut bytes);
    let mut coefficients = Zeroizing::new(vec![[0; LIMBS]; degree + 1]);
    coefficients[0] = split(secret);
    let values = coefficients[1..].iter_mut().flatten();
    for (value, bytes) in values.zip(bytes.as_chunks::<8>().0) {
        *value = u64::from_le_bytes(*bytes) & P;
    }
    for value in coefficients[1..].iter_mut().flatten() {
        // Leaves the loop at once but for one value in 2^61, which says nothing about the final one.
        while *value == P {
            let mut again = Zeroizing::new([0; 8]);
            random(&mut *again);
            *value = u64::from_le_bytes(*again) & P;
        }
    }
    coefficients
}

/// Horner's scheme, on all limbs at once.
fn evaluate(coefficients: &[[u64; LIMBS]], x: u64) -> Share {
    let mut values = Zeroizing::new([0; LIMBS]);
    for coefficient in coefficients.iter().rev() {
        for (value, &coefficient) in values.iter_mut().zip(coefficient) {
            *value = field::add(field::mul(*value, x), coefficient);
        }
    }
    Share(values)
}

/// Cuts a secret into limbs.
fn split(secret: &[u8; 32]) -> [u64; LIMBS] {
    let words = secret.as_chunks::<8>().0;
    let word = |index: usize| u128::from(words.get(index).map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    std::array::from_fn(|limb| {
        let bit = limb as u32 * LIMB_BITS;
        let (index, offset) = ((bit / 64) as usize, bit % 64);
        let window = (word(index) | word(index + 1) << 64) >> offset;
        window as u64 & ((1 << LIMB_BITS) - 1)
    })
}

/// Puts limbs together again.
fn join(limbs: &[u64; LIMBS]) -> Result<Zeroizing<[u8; 32]>, ShamirError> {
    let wide = limbs[..LIMBS - 1].iter().fold(limbs[LIMBS - 1] >> LAST_BITS, |wide, limb| wide | (limb >> LIMB_BITS));
    if wide != 0 {
        return Err(ShamirError::TooWide);
    }
    let mut words = Zeroizing::new([0u64; 4]);
    for (limb, &value) in limbs.iter().enumerate() {
        let bit = limb as u32 * LIMB_BITS;
        let (index, offset) = ((bit / 64) as usize, bit % 64);
        let spread = u128::from(value) << offset;
        words[index] |= spread as u64;
        if let Some(next) = words.get_mut(index + 1) {
            *next |= (spread >> 64) as u64;
        }
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (bytes, word) in secret.as_chunks_mut::<8>().0.iter_mut().zip(words.iter()) {
        *bytes = word.to_le_bytes();
    }
    Ok(secret)
}

#[cfg(test)]
mod tests;
