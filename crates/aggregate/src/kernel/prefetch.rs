//! Hints about memory that is read soon.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the prefetch instruction is an intrinsic on a raw pointer")
)]

/// Asks for the values to be brought into the cache while other work goes on. Cannot be seen in any result; does
/// nothing where the standard library has no such instruction.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "no instruction"))]
pub(super) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        for value in values.iter().step_by(LINE / size_of::<T>()) {
            // SAFETY: a prefetch may be given any address, and this one is that of a live value; SSE, which the
            // intrinsic requires, is part of every x86_64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
        }
    }
}
