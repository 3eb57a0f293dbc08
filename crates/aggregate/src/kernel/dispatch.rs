//! Runs a kernel compiled for the widest instruction set the machine has.
#![expect(unsafe_code, reason = "calling a function compiled for instructions that were detected at run time")]

/// A computation whose body is compiled for several instruction sets. `run` must be `#[inline(always)]`, and so must
/// be whatever it calls, or that part stays portable: slower, with the same result.
pub(crate) trait Kernel {
    /// What the kernel computes.
    type Output;

    /// The body.
    fn run(self) -> Self::Output;
}

/// Runs `kernel` with the widest instructions available.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the function requires AVX2 and FMA, and both were just detected.
        return unsafe { with_avx2(kernel) };
    }
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
