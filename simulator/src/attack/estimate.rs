//! Mean, deviation, products and distances of rows, in f64 and in a fixed order.

use crate::scalar::{Scalar, ln};

/// The mean row; empty without rows.
pub(crate) fn mean<S: Scalar>(rows: &[Vec<S>]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.to_f64());
    }
    let count = rows.len().max(1) as f64;
    sum.iter_mut().for_each(|sum| *sum /= count);
    sum
}

/// Per coordinate the standard deviation (ddof 1) around the rows' `mean`; zeros from fewer than two rows.
pub(crate) fn deviation<S: Scalar>(rows: &[Vec<S>], mean: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; mean.len()];
    if rows.len() < 2 {
        return sum;
    }
    for row in rows {
        for ((sum, value), mean) in sum.iter_mut().zip(row).zip(mean) {
            let difference = value.to_f64() - mean;
            *sum += difference * difference;
        }
    }
    let divisor = (rows.len() - 1) as f64;
    sum.iter().map(|sum| (sum / divisor).sqrt()).collect()
}

/// Sums kept apart by coordinate index, so that the processor can add them side by side.
const LANES: usize = 8;

/// Σ f(a, b) over the coordinates.
#[inline(always)]
fn folded<A: Scalar, B: Scalar>(a: &[A], b: &[B], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += term(a.to_f64(), b.to_f64());
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| term(a.to_f64(), b.to_f64())).sum();
    lanes.iter().sum::<f64>() + rest
}

/// ⟨a, b⟩.
pub(crate) fn dot<A: Scalar, B: Scalar>(a: &[A], b: &[B]) -> f64 {
    folded(a, b, |a, b| a * b)
}

/// ‖a − b‖².
pub(crate) fn distance2<A: Scalar, B: Scalar>(a: &[A], b: &[B]) -> f64 {
    folded(a, b, |a, b| (a - b) * (a - b))
}

/// ‖a‖.
pub(crate) fn norm<A: Scalar>(a: &[A]) -> f64 {
    dot(a, a).sqrt()
}

/// ‖xᵢ − xⱼ‖² for all pairs, as rows of a symmetric matrix.
pub(crate) fn distances2<S: Scalar>(rows: &[Vec<S>]) -> Vec<Vec<f64>> {
    let mut all = vec![vec![0.0; rows.len()]; rows.len()];
    for i in 0..rows.len() {
        for j in 0..i {
            let distance = distance2(&rows[i], &rows[j]);
            (all[i][j], all[j][i]) = (distance, distance);
        }
    }
    all
}

/// The median; 0 without values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    low + (high - low) / 2.0
}

/// Φ⁻¹(p) for 0 < p < 1 (Wichura 1988, algorithm AS 241, PPND16), the same bits on every platform.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(&CENTRE, r);
    }
    let r = (-ln(if q < 0.0 { p } else { 1.0 - p })).sqrt();
    let value = if r <= 5.0 { ratio(&MIDDLE, r - 1.6) } else { ratio(&TAIL, r - 5.0) };
    if q < 0.0 { -value } else { value }
}

fn ratio((above, below): &(Coefficients, Coefficients), r: f64) -> f64 {
    let polynomial = |coefficients: &Coefficients| coefficients.iter().rev().fold(0.0, |sum, c| sum * r + c);
    polynomial(above) / polynomial(below)
}

/// In increasing powers.
type Coefficients = [f64; 8];

#[rustfmt::skip]
const CENTRE: (Coefficients, Coefficients) = (
    [3.387_132_872_796_366_6, 133.141_667_891_784_38, 1_971.590_950_306_551_3, 13_731.693_765_509_46,
     45_921.953_931_549_87, 67_265.770_927_008_7, 33_430.575_583_588_13, 2_509.080_928_730_122_7],
    [1.0, 42.313_330_701_600_91, 687.187_007_492_057_9, 5_394.196_021_424_751,
     21_213.794_301_586_597, 39_307.895_800_092_71, 28_729.085_735_721_943, 5_226.495_278_852_854],
);
#[rustfmt::skip]
const MIDDLE: (Coefficients, Coefficients) = (
    [1.423_437_110_749_683_5, 4.630_337_846_156_546, 5.769_497_221_460_691, 3.647_848_324_763_204_5,
     1.270_458_252_452_368_4, 0.241_780_725_177_450_6, 0.022_723_844_989_269_184, 7.745_450_142_783_414e-4],
    [1.0, 2.053_191_626_637_759, 1.676_384_830_183_803_8, 0.689_767_334_985_1,
     0.148_103_976_427_480_08, 0.015_198_666_563_616_457, 5.475_938_084_995_345e-4, 1.050_750_071_644_416_9e-9],
);
#[rustfmt::skip]
const TAIL: (Coefficients, Coefficients) = (
    [6.657_904_643_501_103, 5.463_784_911_164_114, 1.784_826_539_917_291_3, 0.296_560_571_828_504_87,
     0.026_532_189_526_576_124, 1.242_660_947_388_078_4e-3, 2.711_555_568_743_487_6e-5, 2.010_334_399_292_288_1e-7],
    [1.0, 0.599_832_206_555_888, 0.136_929_880_922_735_8, 0.014_875_361_290_850_615,
     7.868_691_311_456_133e-4, 1.846_318_317_510_054_8e-5, 1.421_511_758_316_446e-7, 2.044_263_103_389_939_8e-15],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_of_the_textbook() {
        let rows = vec![vec![1.0_f32, 2.0], vec![3.0, 2.0], vec![5.0, 2.0]];
        let mean = mean(&rows);
        assert_eq!(mean, [3.0, 2.0]);
        assert_eq!(deviation(&rows, &mean), [2.0, 0.0]);
        assert_eq!(deviation(&rows[..1], &mean), [0.0, 0.0]);
    }

    #[test]
    fn products_and_distances_count_every_coordinate_once() {
        for length in [0, 1, 7, 8, 9, 33] {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let b: Vec<f64> = (0..length).map(|i| f64::from(2 * i + 1)).collect();
            let pairs: Vec<(f64, f64)> = a.iter().map(|a| f64::from(*a)).zip(b.iter().copied()).collect();
            assert_eq!(dot(&a, &b), pairs.iter().map(|(a, b)| a * b).sum::<f64>());
            assert_eq!(distance2(&a, &b), pairs.iter().map(|(a, b)| (a - b) * (a - b)).sum::<f64>());
        }
        assert_eq!(distances2(&[vec![0.0_f32], vec![3.0]]), [[0.0, 9.0], [9.0, 0.0]]);
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 2.0]), median(vec![])), (2.0, 3.0, 0.0));
    }

    #[test]
    fn the_normal_quantile_agrees_with_tabulated_values() {
        let table = [
            (0.5, 0.0),
            (0.75, 0.674_489_750_196_081_7),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813),
            (1e-6, -4.753_424_308_822_899),
            (1e-20, -9.262_340_089_798_405),
            (1e-100, -21.273_453_560_965_32),
        ];
        for (p, expected) in table {
            assert!((normal_quantile(p) - expected).abs() <= 1e-12 * (1.0 + expected.abs()), "{p}");
        }
    }
}
