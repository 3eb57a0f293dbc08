//! Eigenvalues of symmetric matrices, and the eigenvector of the largest.
//!
//! Householder tridiagonalisation, bisection on Sturm counts, one inverse iteration: no step depends on anything but
//! the matrix, so the same matrix gives the same bits everywhere. Only +, −, ·, / and the square root are used.

use crate::dot::dot;

/// The largest eigenvalues of a symmetric matrix.
#[derive(Clone, Debug)]
pub(crate) struct Leading {
    /// From the largest down, to about 1e-16 of the largest in magnitude.
    pub(crate) values: Vec<f64>,
    /// The eigenvector of the first, of length 1; its first largest component is positive.
    pub(crate) vector: Vec<f64>,
}

/// The `count` largest eigenvalues of the symmetric `matrix` of `n` rows (row-major, finite) and the eigenvector of
/// the largest. Where the largest is not alone, the vector is one of its eigenvectors, always the same one.
pub(crate) fn leading(matrix: Vec<f64>, n: usize, count: usize) -> Leading {
    let (tridiagonal, scale) = Tridiagonal::new(matrix, n);
    let values: Vec<f64> = (0..count.min(n)).map(|rank| tridiagonal.eigenvalue(rank)).collect();
    let vector = tridiagonal.eigenvector(tridiagonal.eigenvalue(0));
    Leading { values: values.into_iter().map(|value| value * scale).collect(), vector }
}

/// The largest eigenvalue.
pub(crate) fn largest(matrix: Vec<f64>, n: usize) -> f64 {
    let (tridiagonal, scale) = Tridiagonal::new(matrix, n);
    tridiagonal.eigenvalue(0) * scale
}

/// A symmetric tridiagonal matrix QᵀAQ, and Q as reflections I − βvvᵀ.
struct Tridiagonal {
    diagonal: Vec<f64>,
    off: Vec<f64>,
    reflections: Vec<(Vec<f64>, f64)>,
}

/// Squared length of a column that counts as zero.
const VANISHING: f64 = 1e-250;
/// Halvings after which an interval around all eigenvalues is below the last digit.
const HALVINGS: usize = 80;
/// Inverse iterations per start; each gains about sixteen digits over the gap.
const ITERATIONS: usize = 3;
/// Starts tried before the best is taken.
const STARTS: usize = 4;

impl Tridiagonal {
    /// Golub and Van Loan, Matrix Computations (4th edition), Algorithm 8.3.1, on the matrix divided by a power of
    /// two, which is returned with it: squares of its entries cannot overflow.
    fn new(mut a: Vec<f64>, n: usize) -> (Self, f64) {
        let largest = a.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let scale = power_of_two(largest);
        // A multiplication by 1/scale would overflow for the smallest scales.
        a.iter_mut().for_each(|value| *value /= scale);
        let mut off = vec![0.0; n.saturating_sub(1)];
        let mut reflections = Vec::new();
        for k in 0..n.saturating_sub(2) {
            let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
            let tail: f64 = v[1..].iter().map(|value| value * value).sum();
            // Against entries of size 1 these are nothing, and their squares leave f64's range.
            if tail < VANISHING {
                off[k] = v[0];
                reflections.push((v, 0.0));
                continue;
            }
            let norm = (v[0] * v[0] + tail).sqrt();
            off[k] = if v[0] > 0.0 { -norm } else { norm };
            let beta = 1.0 / (norm * (norm + v[0].abs()));
            v[0] -= off[k];
            reflect_both_sides(&mut a, n, k + 1, &v, beta);
            reflections.push((v, beta));
        }
        if n >= 2 {
            off[n - 2] = a[(n - 2) * n + n - 1];
        }
        let diagonal = (0..n).map(|i| a[i * n + i]).collect();
        (Self { diagonal, off, reflections }, scale)
    }

    /// The eigenvalue of this rank from the largest down: Golub and Van Loan, section 8.4.1.
    fn eigenvalue(&self, rank: usize) -> f64 {
        let radius = |i: usize| {
            let left = if i == 0 { 0.0 } else { self.off[i - 1].abs() };
            left + self.off.get(i).map_or(0.0, |value| value.abs())
        };
        let bounds = (0..self.diagonal.len()).map(|i| (self.diagonal[i] - radius(i), self.diagonal[i] + radius(i)));
        let (mut low, mut high) = bounds
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (least, most)| (low.min(least), high.max(most)));
        let below = self.diagonal.len() - 1 - rank;
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            if self.count_below(middle) <= below { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }

    /// How many eigenvalues are less than `x`: the negative pivots of T − xI.
    fn count_below(&self, x: f64) -> usize {
        let mut pivot = 1.0;
        let mut count = 0;
        for (i, &diagonal) in self.diagonal.iter().enumerate() {
            let square = if i == 0 { 0.0 } else { self.off[i - 1] * self.off[i - 1] };
            pivot = diagonal - x - square / pivot;
            if pivot.abs() < f64::MIN_POSITIVE {
                pivot = -f64::MIN_POSITIVE;
            }
            count += usize::from(pivot < 0.0);
        }
        count
    }

    /// The eigenvector of the eigenvalue `value` of the whole matrix.
    fn eigenvector(&self, value: f64) -> Vec<f64> {
        let mut best = (f64::INFINITY, Vec::new());
        for start in 0..STARTS {
            let mut vector = start_vector(self.diagonal.len(), start);
            for _ in 0..ITERATIONS {
                self.solve(value, &mut vector);
                normalise(&mut vector);
            }
            let residual = self.residual(value, &vector);
            if residual < best.0 {
                best = (residual, vector);
            }
            if residual <= 1e-14 {
                break;
            }
        }
        let mut vector = best.1;
        for (k, (v, beta)) in self.reflections.iter().enumerate().rev() {
            let part = &mut vector[k + 1..];
            let product = beta * dot(part, v);
            part.iter_mut().zip(v).for_each(|(value, v)| *value -= product * v);
        }
        normalise(&mut vector);
        let mut first = 0;
        for at in 1..vector.len() {
            // Rounding does not make a component larger.
            if vector[at].abs() > vector[first].abs() * (1.0 + 1e-12) {
                first = at;
            }
        }
        if vector[first] < 0.0 {
            vector.iter_mut().for_each(|value| *value = -*value);
        }
        vector
    }

    /// The largest component of (T − value·I) vector.
    fn residual(&self, value: f64, vector: &[f64]) -> f64 {
        let row = |i: usize| {
            let left = if i == 0 { 0.0 } else { self.off[i - 1] * vector[i - 1] };
            let right = self.off.get(i).map_or(0.0, |off| off * vector[i + 1]);
            (left + (self.diagonal[i] - value) * vector[i] + right).abs()
        };
        (0..vector.len()).map(row).fold(0.0, f64::max)
    }

    /// Solves (T − shift·I) x = `x` in place, by elimination with partial pivoting. Pivots that vanish become small.
    fn solve(&self, shift: f64, x: &mut [f64]) {
        let n = x.len();
        let small = |pivot: f64| if pivot.abs() < f64::EPSILON { f64::EPSILON.copysign(pivot) } else { pivot };
        let mut pivots: Vec<f64> = self.diagonal.iter().map(|value| value - shift).collect();
        let mut upper = self.off.clone();
        let mut second = vec![0.0; n];
        for i in 0..n - 1 {
            let lower = self.off[i];
            if pivots[i].abs() >= lower.abs() {
                pivots[i] = small(pivots[i]);
                let factor = lower / pivots[i];
                pivots[i + 1] -= factor * upper[i];
                x[i + 1] -= factor * x[i];
            } else {
                let factor = pivots[i] / lower;
                let next = pivots[i + 1];
                pivots[i] = small(lower);
                pivots[i + 1] = upper[i] - factor * next;
                upper[i] = next;
                if i + 1 < n - 1 {
                    second[i] = upper[i + 1];
                    upper[i + 1] *= -factor;
                }
                x.swap(i, i + 1);
                x[i + 1] -= factor * x[i];
            }
        }
        for i in (0..n).rev() {
            let one = if i + 1 < n { upper[i] * x[i + 1] } else { 0.0 };
            let two = if i + 2 < n { second[i] * x[i + 2] } else { 0.0 };
            x[i] = (x[i] - one - two) / small(pivots[i]);
        }
    }
}

/// A ← (I − βvvᵀ) A (I − βvvᵀ) on the trailing rows and columns from `first`; A stays symmetric bit for bit.
fn reflect_both_sides(a: &mut [f64], n: usize, first: usize, v: &[f64], beta: f64) {
    let mut w = vec![0.0; v.len()];
    for (row, &factor) in v.iter().enumerate() {
        let row = &a[(first + row) * n + first..(first + row + 1) * n];
        w.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
    }
    w.iter_mut().for_each(|value| *value *= beta);
    let half = 0.5 * beta * dot(&w, v);
    w.iter_mut().zip(v).for_each(|(value, v)| *value -= half * v);
    for row in 0..v.len() {
        let (vi, wi) = (v[row], w[row]);
        let out = &mut a[(first + row) * n + first..(first + row + 1) * n];
        for ((value, v), w) in out.iter_mut().zip(v).zip(&w) {
            *value -= vi * w + wi * v;
        }
    }
}

/// Positive, irregular entries: no eigenvector is orthogonal to all of these by symmetry.
#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn start_vector(n: usize, start: usize) -> Vec<f64> {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let mut vector: Vec<f64> = (0..n).map(|i| 0.5 + ((i + 1) as f64 * (start + 1) as f64 * GOLDEN).fract()).collect();
    normalise(&mut vector);
    vector
}

/// Divides by the length. The largest component first: squares must not overflow.
fn normalise(vector: &mut [f64]) {
    let largest = vector.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return;
    }
    vector.iter_mut().for_each(|value| *value /= largest);
    let length = dot(vector, vector).sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
}

/// The largest power of two not above `value`; 1 for zero.
fn power_of_two(value: f64) -> f64 {
    if value == 0.0 { 1.0 } else { crate::scale::power_of_two_below(value) }
}

#[cfg(test)]
mod tests;
