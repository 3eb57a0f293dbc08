//! The Gaussian mechanism on a Poisson sample: Mironov, Talwar and Zhang 2019, Section 3.3.
//!
//! For a shift by an integer the discrete Gaussian has the same moments as the continuous one, so the integer orders
//! hold for both.

use super::rdp::{INTEGER_ORDERS, RenyiCurve};
use crate::math::Wide;

/// One round at the [`INTEGER_ORDERS`], under zero-out or add-or-remove adjacency.
///
/// `rate` q in [0, 1], `noise_multiplier` z > 0.
#[must_use]
pub fn curve(rate: f64, noise_multiplier: f64) -> RenyiCurve {
    let moments = Moments::new(rate, noise_multiplier, MOST);
    RenyiCurve::new(INTEGER_ORDERS.iter().map(|&order| (f64::from(order), moments.divergence(order).upper())).collect())
}

/// One round's divergence at any real `order` > 1, rounded up; integer orders by the sum, others by quadrature.
#[must_use]
pub fn divergence(rate: f64, noise_multiplier: f64, order: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    if rate >= 1.0 {
        return unsampled(noise_multiplier, Wide::from(order)).upper();
    }
    if order.fract() == 0.0 && order <= f64::from(MOST) {
        return Moments::new(rate, noise_multiplier, order as u32).divergence(order as u32).upper();
    }
    quadrature(rate, noise_multiplier, order).upper()
}

/// The largest order in the tables.
const MOST: u32 = 1024;

/// Logarithms that the sums of all orders share.
struct Moments {
    rate: f64,
    noise_multiplier: f64,
    /// ln k!.
    factorials: Vec<Wide>,
    /// ln(e^{k(k−1)/2z²} − 1).
    gains: Vec<Wide>,
}

impl Moments {
    /// Enough of them for orders up to `most`.
    fn new(rate: f64, noise_multiplier: f64, most: u32) -> Self {
        let mut factorials = vec![Wide::ZERO];
        let z = Wide::from(noise_multiplier);
        let unit = (Wide::ONE / (z * z)).scale(-1);
        let mut gains = Vec::new();
        for k in 0..=most {
            if k > 0 {
                factorials.push(factorials[k as usize - 1] + Wide::from(f64::from(k)).ln());
            }
            let exponent = unit * Wide::from(f64::from(k) * (f64::from(k) - 1.0));
            gains.push(match exponent.nearest() > 80.0 {
                // ln(1 − e^{−x}) is below 2⁻¹¹⁵ there.
                true => exponent,
                false => exponent.exp_m1().ln(),
            });
        }
        Self { rate, noise_multiplier, factorials, gains }
    }

    /// ln A/(α−1), A = 1 + Σ_{k=2}^α C(α,k) (1−q)^{α−k} q^k (e^{k(k−1)/2z²} − 1): every term is positive.
    fn divergence(&self, order: u32) -> Wide {
        if self.rate <= 0.0 {
            return Wide::ZERO;
        }
        let alpha = Wide::from(f64::from(order));
        if self.rate >= 1.0 {
            return unsampled(self.noise_multiplier, alpha);
        }
        let (log_in, log_out) = (Wide::from(self.rate).ln(), (-Wide::from(self.rate)).ln_1p());
        let terms: Vec<Wide> = (2..=order)
            .map(|k| {
                let (inside, outside) = (Wide::from(f64::from(k)), Wide::from(f64::from(order - k)));
                let ways = self.factorials[order as usize]
                    - self.factorials[k as usize]
                    - self.factorials[(order - k) as usize];
                ways + outside * log_out + inside * log_in + self.gains[k as usize]
            })
            .collect();
        log_one_plus_sum(&terms) / (alpha - Wide::ONE)
    }
}

/// ln(1 + Σ e^{term}).
pub(crate) fn log_one_plus_sum(terms: &[Wide]) -> Wide {
    let Some(largest) = terms.iter().copied().reduce(Wide::max) else { return Wide::ZERO };
    // 1024 terms below e^-85 of the largest change nothing within 2⁻¹¹⁰.
    let kept = terms.iter().filter(|term| (**term - largest).nearest() > -85.0);
    let sum = kept.fold(Wide::ZERO, |sum, term| sum + (*term - largest).exp());
    if largest.nearest() > 80.0 { largest + sum.ln() } else { (largest.exp() * sum).ln_1p() }
}

/// α/2z².
fn unsampled(noise_multiplier: f64, order: Wide) -> Wide {
    let z = Wide::from(noise_multiplier);
    (order / (z * z)).scale(-1)
}

/// ln E[(1+u)^α]/(α−1) with u = q(e^{(2x−1)/2z²} − 1) and x ~ N(0, z²), by the trapezoidal rule.
///
/// E[u] = 0, so (1+u)^α − 1 − αu has the same mean as (1+u)^α − 1, and it is never negative: nothing cancels between
/// nodes. The integrand is analytic up to |Im x| = πz², where 1+u vanishes, and decays like a Gaussian, so the error is
/// about e^{−2π·πz²/h} + e^{−2π²z²/h²}: below 2⁻⁷⁰ for the step chosen.
fn quadrature(rate: f64, noise_multiplier: f64, order: f64) -> Wide {
    let step = (noise_multiplier / 8.0).min(noise_multiplier * noise_multiplier / 4.0);
    // The integrand peaks between 0 and α; beyond 14 z it is below e^-98 of its peak.
    let first = -((14.0 * noise_multiplier + 1.0) / step).ceil() as i64;
    let last = ((order + 14.0 * noise_multiplier + 1.0) / step).ceil() as i64;
    let (rate, alpha, z) = (Wide::from(rate), Wide::from(order), Wide::from(noise_multiplier));
    let variance = z * z;
    let log_scale = (Wide::from(step) / (z * Wide::PI.scale(1).sqrt())).ln();
    let mut terms = Vec::new();
    for index in first..=last {
        let x = Wide::from(index as f64) * Wide::from(step);
        let exponent = (x.scale(1) - Wide::ONE) / variance.scale(1);
        let log_ratio = match exponent.nearest() > 300.0 {
            true => rate.ln() + exponent,
            false => (rate * exponent.exp_m1()).ln_1p(),
        };
        let power = alpha * log_ratio;
        let log_excess = match power.nearest() > 80.0 {
            true => power,
            false => {
                let linear = alpha * rate * exponent.exp_m1();
                let excess = power.exp_m1() - linear;
                if excess.nearest() <= 0.0 {
                    continue;
                }
                excess.ln()
            }
        };
        terms.push(log_excess + log_scale - (x * x / variance).scale(-1));
    }
    // One part in 2⁶⁰ for the error of the rule.
    let inflation = Wide::from(2_f64.powi(-60));
    log_one_plus_sum(&terms) * (Wide::ONE + inflation) / (alpha - Wide::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quadrature_and_the_sum_agree_at_integer_orders() {
        for (rate, z) in [(0.01, 1.0), (1e-6, 0.8), (0.3, 4.0), (0.5, 0.5), (0.9, 30.0)] {
            let moments = Moments::new(rate, z, 20);
            for order in [2, 3, 7, 20] {
                let (sum, integral) = (moments.divergence(order), quadrature(rate, z, f64::from(order)));
                let error = ((sum - integral) / sum).nearest().abs();
                assert!(error < 1e-13, "q={rate} z={z} α={order}: {error:e}");
            }
        }
    }

    #[test]
    fn sampling_everyone_is_the_plain_mechanism_and_no_one_is_nothing() {
        assert_eq!(curve(0.0, 1.0).epsilon(1e-6).0, 0.0);
        let all = curve(1.0, 2.0);
        assert!((all.at(16.0).unwrap() - 2.0).abs() < 1e-14);
        let nearly = curve(1.0 - 1e-12, 2.0);
        assert!((nearly.at(16.0).unwrap() - 2.0).abs() < 1e-9);
    }
}
