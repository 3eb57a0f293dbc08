//! The inner product of two vectors.

/// Eight sums, so that long vectors are added in parallel, in an order that depends on the length alone.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let length = a.len().min(b.len());
    let (a, a_rest) = a[..length].as_chunks::<8>();
    let (b, b_rest) = b[..length].as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dot_product_takes_any_length() {
        for length in 0..40 {
            let values: Vec<f64> = (0..length).map(f64::from).collect();
            assert_eq!(dot(&values, &values), values.iter().map(|value| value * value).sum::<f64>());
        }
    }
}
