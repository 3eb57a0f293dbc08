//! The one matrix kernel of the built-in workloads.
//!
//! Every element is summed in the order of the inner index whatever the tile it falls into, so bits do not depend on
//! the batch that surrounds a row. The tiles keep their sums in vector registers without naming an instruction set.

use crate::scalar::Scalar;

/// A matrix given by strides: element (i, t) is `values[i * row + t * step]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, S> {
    pub(crate) values: &'a [S],
    pub(crate) row: usize,
    pub(crate) step: usize,
}

impl<'a, S> Strided<'a, S> {
    /// `values` is row-major with `columns` columns.
    pub(crate) fn rows(values: &'a [S], columns: usize) -> Self {
        Self { values, row: columns, step: 1 }
    }

    /// The transpose of row-major `values` with `columns` columns.
    pub(crate) fn transposed(values: &'a [S], columns: usize) -> Self {
        Self { values, row: 1, step: columns }
    }
}

const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 8;

/// `out` (m x n, row-major) += `a` (m x `inner`) times `b` (`inner` x n, row-major).
pub(crate) fn multiply_add<S: Scalar>(out: &mut [S], a: Strided<'_, S>, b: &[S], inner: usize, n: usize) {
    debug_assert_eq!(out.len() % n, 0);
    debug_assert_eq!(b.len(), inner * n);
    let m = out.len() / n;
    let mut row = 0;
    while row + TILE_ROWS <= m {
        row_of_tiles::<S, TILE_ROWS>(out, a, b, inner, n, row);
        row += TILE_ROWS;
    }
    while row < m {
        row_of_tiles::<S, 1>(out, a, b, inner, n, row);
        row += 1;
    }
}

fn row_of_tiles<S: Scalar, const R: usize>(
    out: &mut [S],
    a: Strided<'_, S>,
    b: &[S],
    inner: usize,
    n: usize,
    row: usize,
) {
    let mut column = 0;
    while column + TILE_COLUMNS <= n {
        tile::<S, R, TILE_COLUMNS>(out, a, b, inner, n, (row, column));
        column += TILE_COLUMNS;
    }
    while column + 2 <= n {
        tile::<S, R, 2>(out, a, b, inner, n, (row, column));
        column += 2;
    }
    if column < n {
        tile::<S, R, 1>(out, a, b, inner, n, (row, column));
    }
}

#[inline(always)]
fn tile<S: Scalar, const R: usize, const C: usize>(
    out: &mut [S],
    a: Strided<'_, S>,
    b: &[S],
    inner: usize,
    n: usize,
    (row, column): (usize, usize),
) {
    let mut sums = [[S::ZERO; C]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let from = (row + r) * n + column;
        sums.copy_from_slice(&out[from..from + C]);
    }
    for t in 0..inner {
        let from = t * n + column;
        let Some((right, _)) = b[from..].split_first_chunk::<C>() else { return };
        for (r, sums) in sums.iter_mut().enumerate() {
            let left = a.values[(row + r) * a.row + t * a.step];
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * *right;
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let from = (row + r) * n + column;
        out[from..from + C].copy_from_slice(sums);
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
            multiply_add(&mut from_transposed, Strided::transposed(&turned, m), &b, inner, n);
            multiply_add(&mut out, Strided::rows(&a, inner), &b, inner, n);
            assert_eq!(out, expected, "{m} {inner} {n}");
            assert_eq!(from_transposed, expected, "transposed {m} {inner} {n}");
        }
    }
}
