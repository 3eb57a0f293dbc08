//! The two number types an update may be made of.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::ops::{Add, Mul};

use thiserror::Error;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A coordinate's type: `f32` or `f64`. Arithmetic is done in f64 whatever the type.
pub trait Element:
    sealed::Sealed + Copy + Debug + Default + PartialOrd + Add<Output = Self> + Mul<Output = Self> + Send + Sync + 'static
{
    /// Positive zero.
    const ZERO: Self;
    /// Bytes of one encoded coordinate.
    const BYTES: usize;
    /// Whether f32 holds every value.
    const NARROW: bool;

    /// The exact value in f64.
    fn to_f64(self) -> f64;

    /// The nearest value of this type. Saturates at the largest finite magnitude instead of overflowing to infinity,
    /// and turns −0 into +0, so that the bits depend on the value alone.
    fn from_f64(value: f64) -> Self;

    /// The nearest value of this type, infinite beyond its range; exact if it holds every value of the other type.
    fn of<T: Element>(value: T) -> Self;

    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;

    /// IEEE 754 total order.
    fn order(&self, other: &Self) -> Ordering;

    /// Decodes little-endian coordinates into `out`; −0 becomes +0.
    ///
    /// # Errors
    ///
    /// When `bytes` is not exactly `out.len()` times [`Self::BYTES`] long; `out` is then unchanged.
    fn decode(bytes: &[u8], out: &mut [Self]) -> Result<(), DecodeError>;
}

/// The bytes are not the expected number of coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{got} bytes do not hold {coordinates} coordinates of {width} bytes; expected {}", coordinates * width)]
pub struct DecodeError {
    /// Bytes given.
    pub got: usize,
    /// Coordinates wanted.
    pub coordinates: usize,
    /// Bytes per coordinate.
    pub width: usize,
}

macro_rules! element {
    ($type:ident, $bytes:literal) => {
        impl Element for $type {
            const ZERO: Self = 0.0;
            const BYTES: usize = $bytes;
            const NARROW: bool = $bytes == 4;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "clamped to the range of the type; rounding is wanted")]
            fn from_f64(value: f64) -> Self {
                (value.clamp(f64::from($type::MIN), f64::from($type::MAX)) + 0.0) as $type
            }

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "rounding is wanted")]
            fn of<T: Element>(value: T) -> Self {
                value.to_f64() as $type
            }

            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }

            #[inline(always)]
            fn order(&self, other: &Self) -> Ordering {
                self.total_cmp(other)
            }

            fn decode(bytes: &[u8], out: &mut [Self]) -> Result<(), DecodeError> {
                let (encoded, rest) = bytes.as_chunks::<$bytes>();
                if encoded.len() != out.len() || !rest.is_empty() {
                    return Err(DecodeError { got: bytes.len(), coordinates: out.len(), width: $bytes });
                }
                for (value, bytes) in out.iter_mut().zip(encoded) {
                    *value = $type::from_le_bytes(*bytes) + 0.0;
                }
                Ok(())
            }
        }
    };
}

element!(f32, 4);
element!(f64, 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_reads_little_endian_and_turns_negative_zero_into_zero() {
        let mut bytes = Vec::new();
        for value in [1.5_f32, -0.0, f32::MIN] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let mut out = [9.0_f32; 3];
        f32::decode(&bytes, &mut out).unwrap();
        assert_eq!(out.map(f32::to_bits), [1.5_f32.to_bits(), 0, f32::MIN.to_bits()]);
    }

    #[test]
    fn decoding_a_wrong_length_changes_nothing() {
        let mut out = [7.0_f64; 2];
        for length in [0, 8, 15, 17, 24] {
            let error = f64::decode(&vec![0; length], &mut out).unwrap_err();
            assert_eq!(error, DecodeError { got: length, coordinates: 2, width: 8 });
        }
        assert_eq!(out, [7.0; 2]);
    }

    #[test]
    fn narrowing_saturates_and_never_yields_negative_zero() {
        assert_eq!(f32::from_f64(1e300), f32::MAX);
        assert_eq!(f32::from_f64(f64::NEG_INFINITY), f32::MIN);
        assert_eq!(f32::from_f64(-0.0).to_bits(), 0);
        assert_eq!(f64::from_f64(f64::INFINITY), f64::MAX);
        assert_eq!(f32::from_f64(0.1), 0.1_f32);
    }
}
