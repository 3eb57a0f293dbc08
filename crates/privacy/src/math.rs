//! Elementary functions built from `+ − × ÷ √` alone.
//!
//! The standard library's `exp` and `ln` come from the platform's libm and may differ in their last bits between
//! machines. A budget check must not: two replicas have to reach the same verdict. IEEE 754 fixes the five operations
//! used here, so every machine gets the same bits.

pub(crate) mod fast;
pub(crate) mod fixed;
pub(crate) mod normal;
pub(crate) mod wide;

pub(crate) use wide::Wide;
