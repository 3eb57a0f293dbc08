//! The one matrix kernel of the built-in workloads.
//!
//! Every element is summed in the order of the inner index whatever the tile it falls into, so bits do not depend on
//! the batch that surrounds a row. The tiles keep their sums in vector registers without naming an instruction set.

use crate::scalar::Scalar;

/// The left factor (m x inner) of a product.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a, S> {
    /// Row-major m x inner.
    Rows(&'a [S]),
    /// Its transpose: row-major inner x m.
    Transposed(&'a [S]),
}

const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 8;

/// `out` (m x `n`, row-major) += `left` (m x `inner`) times `right` (`inner` x `n`, row-major).
pub(crate) fn multiply_add<S: Scalar>(out: &mut [S], left: Left<'_, S>, right: &[S], inner: usize, n: usize) {
    debug_assert_eq!(out.len() % n, 0);
    debug_assert_eq!(right.len(), inner * n);
    let m = out.len() / n;
    let mut row = 0;
    while row + TILE_ROWS <= m {
        row_of_tiles::<S, TILE_ROWS>(out, left, right, inner, n, row);
        row += TILE_ROWS;
    }
    while row < m {
        row_of_tiles::<S, 1>(out, left, right, inner, n, row);
        row += 1;
    }
}

fn row_of_tiles<S: Scalar, const R: usize>(
    out: &mut [S],
    left: Left<'_, S>,
    right: &[S],
    inner: usize,
    n: usize,
    row: usize,
) {
    let m = out.len() / n;
    let out = &mut out[row * n..(row + R) * n];
    match left {
        Left::Rows(values) => {
            // One slice of known length per row: the loop over `t` then needs no bounds check.
            let rows: [&[S]; R] = std::array::from_fn(|r| &values[(row + r) * inner..(row + r + 1) * inner]);
            tiles::<S, R>(out, |t| std::array::from_fn(|r| rows[r][t]), right, inner, n);
        }
        Left::Transposed(values) => {
            let column = |t: usize| std::array::from_fn(|r| values[t * m + row..t * m + row + R][r]);
            tiles::<S, R>(out, column, right, inner, n);
        }
    }
}

#[inline(always)]
fn tiles<S: Scalar, const R: usize>(
    out: &mut [S],
    left: impl Fn(usize) -> [S; R] + Copy,
    right: &[S],
    inner: usize,
    n: usize,
) {
    let mut column = 0;
    while column + TILE_COLUMNS <= n {
        tile::<S, R, TILE_COLUMNS>(out, left, right, inner, n, column);
        column += TILE_COLUMNS;
    }
    while column + 2 <= n {
        tile::<S, R, 2>(out, left, right, inner, n, column);
        column += 2;
    }
    if column < n {
        tile::<S, R, 1>(out, left, right, inner, n, column);
    }
}

#[inline(always)]
fn tile<S: Scalar, const R: usize, const C: usize>(
    out: &mut [S],
    left: impl Fn(usize) -> [S; R],
    right: &[S],
    inner: usize,
    n: usize,
    column: usize,
) {
    let mut sums = [[S::ZERO; C]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        sums.copy_from_slice(&out[r * n + column..r * n + column + C]);
    }
    for (t, right) in right.chunks_exact(n).take(inner).enumerate() {
        let Some((right, _)) = right[column..].split_first_chunk::<C>() else { return };
        let left = left(t);
        for (sums, left) in sums.iter_mut().zip(left) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * *right;
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        out[r * n + column..r * n + column + C].copy_from_slice(sums);
    }
}

/// `out` (columns x rows) becomes the transpose of `values` (rows x `columns`).
pub(crate) fn transpose<S: Scalar>(values: &[S], columns: usize, out: &mut Vec<S>) {
    let rows = values.len() / columns;
    out.clear();
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn numbers(count: usize, client: u64) -> Vec<f32> {
        let mut stream = stream(1, Purpose::Noise, 0, client);
        (0..count).map(|_| stream.normal() as f32).collect()
    }

    #[test]
    fn every_shape_equals_the_obvious_triple_loop_bit_for_bit() {
        for (m, inner, n) in [(1, 1, 1), (3, 5, 7), (4, 8, 8), (5, 64, 10), (9, 3, 17), (32, 64, 64), (2, 0, 3)] {
            let (a, b) = (numbers(m * inner, 1), numbers(inner * n, 2));
            let mut out = numbers(m * n, 3);
            let mut expected = out.clone();
            for row in 0..m {
                for column in 0..n {
                    for t in 0..inner {
                        expected[row * n + column] += a[row * inner + t] * b[t * n + column];
                    }
                }
            }
            let mut turned = Vec::new();
            if inner > 0 {
                transpose(&a, inner, &mut turned);
            }
            let mut from_transposed = out.clone();
            multiply_add(&mut from_transposed, Left::Transposed(&turned), &b, inner, n);
            multiply_add(&mut out, Left::Rows(&a), &b, inner, n);
            assert_eq!(out, expected, "{m} {inner} {n}");
            assert_eq!(from_transposed, expected, "transposed {m} {inner} {n}");
        }
    }
}
