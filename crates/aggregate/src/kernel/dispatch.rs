//! Runs a kernel compiled for the widest instruction set the machine has.
//!
//! On `x86_64` that is AVX-512, AVX2 with FMA, or the portable path. NEON needs no path of its own: it is part of every
//! aarch64, so there the portable path is compiled for it.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calling a function compiled for instructions that were detected at run time")
)]

/// A computation whose body is compiled for several instruction sets. `run` must be `#[inline(always)]`, and so must
/// be whatever it calls, or that part stays portable: slower, with the same result.
pub(crate) trait Kernel {
    /// What the kernel computes.
    type Output;

    /// The body.
    fn run(self) -> Self::Output;

    /// The body for a machine with 32 vector registers of 64 bytes, where another blocking is quicker. The result has
    /// the same bits.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no such machine is dispatched to"))]
    fn run_wide(self) -> Self::Output
    where
        Self: Sized,
    {
        self.run()
    }
}

/// The instruction sets a kernel is compiled for, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests ask for less than the widest"))]
pub(super) enum Path {
    Portable,
    Avx2,
    Avx512,
}

#[cfg(test)]
impl Path {
    pub(super) const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];
}

/// Runs `kernel` with the widest instructions available.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_up_to(Path::Avx512, kernel)
}

/// Runs `kernel` with the widest instructions available up to `widest`, so that tests reach every path.
pub(super) fn dispatch_up_to<K: Kernel>(widest: Path, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if widest >= Path::Avx2 && std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    {
        if widest >= Path::Avx512
            && std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the function requires AVX2, FMA and AVX-512 F, DQ, BW and VL, and all were just detected.
            return unsafe { with_avx512(kernel) };
        }
        // SAFETY: the function requires AVX2 and FMA, and both were just detected.
        return unsafe { with_avx2(kernel) };
    }
    _ = widest;
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run_wide()
}
