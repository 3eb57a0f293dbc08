//! The standard normal distribution to about 90 bits.

use super::Wide;

/// P[G > x] for a standard normal G.
pub(crate) fn upper_tail(x: Wide) -> Wide {
    if x.nearest() < 0.0 {
        return Wide::ONE - upper_tail(-x);
    }
    density(x) * mills(x)
}

/// The density at x.
pub(crate) fn density(x: Wide) -> Wide {
    (-(x * x).scale(-1)).exp() / Wide::PI.scale(1).sqrt()
}

/// Mills' ratio P[G > x] / density(x), for x ≥ 0.
pub(crate) fn mills(x: Wide) -> Wide {
    if x.nearest() < 4.0 {
        // (√(2π)/2) e^{x²/2} − Σ x^{2n+1}/(2n+1)!!: all terms of the sum are positive.
        let square = x * x;
        let mut term = x;
        let mut sum = x;
        let mut odd = 1.0;
        while term.nearest() > sum.nearest() * 2_f64.powi(-110) {
            odd += 2.0;
            term = term * square / Wide::from(odd);
            sum = sum + term;
        }
        return (Wide::PI.scale(1).sqrt() * square.scale(-1).exp()).scale(-1) - sum;
    }
    // Laplace's continued fraction 1/(x + 1/(x + 2/(x + 3/(x + …)))). After n levels from x ≥ 4 the relative error is
    // about exp(−4x√n/√2·…): 40 + 2600/x² levels leave less than 2⁻⁹⁰, which a test holds.
    let levels = 40 + (2600.0 / (x.nearest() * x.nearest())) as u32;
    let mut tail = x;
    for level in (1..=levels).rev() {
        tail = x + Wide::from(f64::from(level)) / tail;
    }
    Wide::ONE / tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tails_are_met() {
        // P[G > x], DLMF 7.1 and 60-digit arithmetic.
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457_05),
            (3.0, 1.349_898_031_630_094_5e-3),
            (-2.0, 0.977_249_868_051_820_8),
            (6.0, 9.865_876_450_376_98e-10),
            (30.0, 4.906_713_927_148_187e-198),
        ] {
            let got = upper_tail(Wide::from(x)).nearest();
            assert!((got - expected).abs() <= expected * 1e-15, "{x}: {got:e} {expected:e}");
        }
    }

    #[test]
    fn the_ratio_obeys_its_differential_equation_across_the_seam() {
        // m' = x m − 1, so m(x+h) = m + h m' + h² m''/2 + …, with m'' = m + x m', and so on by differentiation.
        for start in [3.9, 3.99, 3.999, 4.0, 4.5, 6.0, 12.0, 40.0] {
            let (x, step) = (Wide::from(start), Wide::from(2_f64.powi(-7)));
            let mut derivatives = vec![mills(x)];
            derivatives.push(x * derivatives[0] - Wide::ONE);
            for order in 1..24_usize {
                let next = x * derivatives[order] + Wide::from(order as f64) * derivatives[order - 1];
                derivatives.push(next);
            }
            let mut sum = Wide::ZERO;
            let mut factor = Wide::ONE;
            for (order, derivative) in derivatives.iter().enumerate().take(14) {
                sum = sum + *derivative * factor;
                factor = factor * step / Wide::from((order + 1) as f64);
            }
            let got = mills(x + step);
            let error = ((got - sum) / got).nearest().abs();
            assert!(error < 2_f64.powi(-76), "{start}: {error:e}");
        }
    }
}
