//! Scaling by powers of two, which changes no digit.

/// The largest power of two not above `value`, which is positive and finite; for values below f64's normal range the
/// smallest normal number.
pub(crate) fn power_of_two_below(value: f64) -> f64 {
    f64::from_bits(value.max(f64::MIN_POSITIVE).to_bits() & 0x7FF0_0000_0000_0000)
}
