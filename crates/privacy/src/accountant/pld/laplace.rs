//! Losses of the Laplace mechanism with scale b and L1 sensitivity 1.

use super::Losses;
use crate::math::fast;

/// P is centred at 0, Q at 1. x ≤ 0 has loss 1/b, x ≥ 1 loss −1/b; between, (1−2x)/b.
pub(super) fn losses(scale: f64, step: f64) -> Losses {
    let most = 1.0 / scale;
    let mut losses = Losses::new(step, -most, most, 0.0);
    losses.add_atom(most, 0.5);
    losses.add_atom(-most, 0.5 * fast::exp(-most));
    let point = |loss: f64| ((1.0 - scale * loss) / 2.0).clamp(0.0, 1.0);
    let (first, last) = ((-most / step).floor() as i64 + 1, (most / step).ceil() as i64);
    for index in first..=last {
        let (left, right) = (point(index as f64 * step), point((index - 1) as f64 * step));
        // ½(e^{−l/b} − e^{−r/b}), and its mirror image under Q.
        let width = -fast::exp_m1(-(right - left) / scale);
        let upper = 0.5 * fast::exp(-left / scale) * width;
        let lower = 0.5 * fast::exp(-(1.0 - right) / scale) * width;
        losses.add(index, upper, lower);
    }
    losses.inflated()
}
