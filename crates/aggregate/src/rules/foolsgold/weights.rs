//! From cosines to weights.

use crate::series::ln;

/// 1 − cos below which two directions are the same.
const SAME: f64 = 1e-9;

/// Fung et al. 2020, Algorithm 1: weights of the `present` rows from the cosines of their sums. Pardoning rescales all
/// cosines by row maxima taken before it.
pub(super) fn weights(present: &[usize], cosine: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let count = present.len();
    let mut cosines = vec![f64::NEG_INFINITY; count * count];
    for i in 0..count {
        for j in (0..count).filter(|&j| j != i) {
            let value = cosine(present[i], present[j]);
            cosines[i * count + j] = if 1.0 - value < SAME { 1.0 } else { value };
        }
    }
    let largest = |row: &[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let most: Vec<f64> = cosines.chunks_exact(count).map(largest).collect();
    for i in 0..count {
        for j in (0..count).filter(|&j| j != i && most[i] < most[j] && most[j] > 0.0) {
            cosines[i * count + j] *= most[i] / most[j];
        }
    }
    let apart: Vec<f64> = cosines.chunks_exact(count).map(|row| (1.0 - largest(row)).clamp(0.0, 1.0)).collect();
    let farthest = largest(&apart);
    if farthest == 0.0 {
        return vec![0.0; count];
    }
    let weight = |apart: &f64| {
        let share = apart / farthest;
        let share = if share >= 1.0 { 0.99 } else { share.max(1e-5) };
        (ln(share / (1.0 - share)) + 0.5).clamp(0.0, 1.0)
    };
    apart.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pardoned_cosines_become_weights() {
        // Rows 0 and 1 are alike (0.9), row 2 is 0.3 like both. Maxima 0.9, 0.9, 0.3: row 2 is pardoned, 0.3·0.3/0.9.
        let cosine = |a: usize, b: usize| if a + b == 1 { 0.9 } else { 0.3 };
        let got = weights(&[0, 1, 2], cosine);
        // a = 0.1, 0.1, 0.9, over the largest 1/9, 1/9, 1.
        let expected = ((1.0_f64 / 9.0) / (8.0 / 9.0)).ln() + 0.5;
        assert!(expected < 0.0);
        assert_eq!(got, [0.0, 0.0, 1.0]);
        let cosine = |a: usize, b: usize| if a + b == 1 { 0.5 } else { 0.3 };
        // Maxima 0.5, 0.5, 0.3: 1 − 0.18 = 0.82 for row 2, 0.5 for the others.
        let share = 0.5 / 0.82;
        let expected = (share / (1.0_f64 - share)).ln() + 0.5;
        let got = weights(&[0, 1, 2], cosine);
        assert!((got[0] - expected).abs() < 1e-15 && got[0] == got[1] && got[2] == 1.0, "{got:?}");
    }

    #[test]
    fn the_same_directions_weigh_nothing_and_a_single_row_counts() {
        assert_eq!(weights(&[0, 1, 2], |_, _| 1.0 - 0.9e-9), [0.0; 3]);
        assert_eq!(weights(&[0, 1], |_, _| -1.0), [1.0; 2]);
        assert_eq!(weights(&[4], |_, _| 1.0), [1.0]);
        assert_eq!(weights(&[0, 1], |_, _| 0.0), [1.0; 2]);
    }
}
