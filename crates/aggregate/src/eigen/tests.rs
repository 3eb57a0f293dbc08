use super::*;

fn random(seed: u64, n: usize) -> Vec<f64> {
    let mut matrix = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let value = (crate::needs::draw(seed, i as u64, j) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
            (matrix[i * n + j], matrix[j * n + i]) = (value, value);
        }
    }
    matrix
}

fn apply(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(vector.len()).map(|row| dot(row, vector)).collect()
}

#[track_caller]
fn assert_close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{got} is not {expected}");
}

#[test]
fn small_matrices_have_their_eigenvalues() {
    let one = leading(vec![-3.0], 1, 1);
    assert_eq!((one.values, one.vector), (vec![-3.0], vec![1.0]));
    let two = leading(vec![2.0, 1.0, 1.0, 2.0], 2, 2);
    assert_close(two.values[0], 3.0, 1e-15);
    assert_close(two.values[1], 1.0, 1e-15);
    two.vector.iter().for_each(|value| assert_close(*value, 0.5_f64.sqrt(), 1e-15));
    // The eigenvector of −1, 1 is orthogonal to the vector of ones; its first component is made positive.
    let odd = leading(vec![0.0, -1.0, -1.0, 0.0], 2, 1);
    assert_close(odd.vector[0], 0.5_f64.sqrt(), 1e-15);
    assert_close(odd.vector[1], -(0.5_f64.sqrt()), 1e-15);
    // The second difference matrix: 2 − 2 cos(kπ/(n+1)).
    let n = 9;
    let mut matrix = vec![0.0; n * n];
    for i in 0..n {
        matrix[i * n + i] = 2.0;
        if i + 1 < n {
            (matrix[i * n + i + 1], matrix[(i + 1) * n + i]) = (-1.0, -1.0);
        }
    }
    for (rank, value) in leading(matrix, n, n).values.into_iter().enumerate() {
        let angle = (n - rank) as f64 * std::f64::consts::PI / 10.0;
        assert_close(value, 2.0 - 2.0 * angle.cos(), 1e-14);
    }
}

#[test]
fn zero_and_diagonal_and_multiple_eigenvalues() {
    let zero = leading(vec![0.0; 9], 3, 3);
    assert_eq!(zero.values, [0.0; 3]);
    assert!(zero.vector.iter().all(|value| value.is_finite()));
    let mut diagonal = vec![0.0; 16];
    for (i, value) in [1.0, 5.0, 5.0, -7.0].into_iter().enumerate() {
        diagonal[i * 4 + i] = value;
    }
    let result = leading(diagonal.clone(), 4, 4);
    for (got, expected) in result.values.iter().zip([5.0, 5.0, 1.0, -7.0]) {
        assert_close(*got, expected, 1e-15);
    }
    assert!(result.vector[0].abs() + result.vector[3].abs() < 1e-14);
    assert_close(dot(&result.vector, &result.vector), 1.0, 1e-14);
    assert_close(largest(diagonal, 4), 5.0, 1e-15);
}

#[test]
fn random_matrices_satisfy_the_eigenvalue_equation_and_keep_trace_and_norm() {
    for n in (1..40).chain([97, 250]) {
        let matrix = random(n as u64, n);
        let result = leading(matrix.clone(), n, n);
        let size = n as f64;
        assert!(result.values.windows(2).all(|pair| pair[0] >= pair[1]));
        let trace: f64 = (0..n).map(|i| matrix[i * n + i]).sum();
        assert_close(result.values.iter().sum(), trace, 1e-14 * size * size);
        assert_close(dot(&result.values, &result.values), dot(&matrix, &matrix), 1e-13 * size * size);
        for (got, value) in apply(&matrix, &result.vector).iter().zip(&result.vector) {
            assert_close(*got, result.values[0] * value, 1e-14 * size);
        }
        let first = result.vector.iter().fold(0.0_f64, |first, value| first.max(value.abs()));
        assert!(result.vector.iter().any(|value| *value >= first * (1.0 - 1e-12)), "positive");
    }
}

#[test]
fn a_matrix_is_rebuilt_by_taking_one_eigenvector_out_after_the_other() {
    let n = 12;
    let matrix = random(77, n);
    let mut rest = matrix.clone();
    // All eigenvalues above the shift become positive, so that each is the largest once.
    (0..n).for_each(|i| rest[i * n + i] += 20.0);
    let mut rebuilt = vec![0.0; n * n];
    for _ in 0..n {
        let result = leading(rest.clone(), n, 1);
        for i in 0..n {
            for j in 0..n {
                let part = result.vector[i] * result.vector[j];
                rebuilt[i * n + j] += (result.values[0] - 20.0) * part;
                rest[i * n + j] -= result.values[0] * part;
            }
        }
    }
    rebuilt.iter().zip(&matrix).for_each(|(got, expected)| assert_close(*got, *expected, 1e-12));
}

#[test]
fn powers_of_two_and_extreme_sizes_change_nothing_but_the_scale() {
    let n = 10;
    let matrix = random(5, n);
    let result = leading(matrix.clone(), n, 2);
    for exponent in [-980, -60, 60, 1020] {
        let factor = 2_f64.powi(exponent);
        let scaled = leading(matrix.iter().map(|value| value * factor).collect(), n, 2);
        assert_eq!(scaled.vector, result.vector);
        assert_eq!(scaled.values, [result.values[0] * factor, result.values[1] * factor]);
    }
}

#[test]
fn entries_that_vanish_beside_others_do_no_harm() {
    for small in [1e-100, 1e-130, 1e-158, 1e-162, 1e-200, 5e-324] {
        let n = 4;
        let mut matrix = vec![small; n * n];
        (matrix[0], matrix[5]) = (2.0, 1.0);
        let result = leading(matrix, n, n);
        assert_close(result.values[0], 2.0, 1e-15);
        assert_close(result.vector[0], 1.0, 1e-15);
    }
}
