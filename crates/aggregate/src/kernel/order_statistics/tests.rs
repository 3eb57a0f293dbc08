use super::super::naive;
use super::*;

fn values<T: Element>(seed: usize, length: usize, distinct: usize) -> Vec<T> {
    (0..length)
        .map(|c| T::from_f64(((c * 7919 + seed * 104_729 + seed * seed * 31) % distinct) as f64 / 97.0 - 10.0))
        .collect()
}

fn close(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * (1.0 + expected.abs())
}

fn check<T: Element>(count: usize, length: usize, offset: usize, distinct: usize, tolerance: f64) {
    let rows: Vec<Vec<T>> = (0..count).map(|seed| values(seed, length + offset, distinct)).collect();
    let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
    let shifted: Vec<&[T]> = rows.iter().map(|row| &row[offset..]).collect();
    let range = offset..offset + length;
    for cut in [0, count / 4, (count - 1) / 2] {
        let expected = naive::trimmed(&shifted, cut, count - 1 - cut);
        let network = OrderStatistics::trimmed_mean(count, cut);
        let selection = OrderStatistics { finder: Finder::scalar(&[cut, count - 1 - cut]), ..network.clone() };
        let mut results = Vec::new();
        for order in [&network, &selection] {
            let mut out = vec![T::ZERO; length];
            let outside = order.apply(&rows, range.clone(), &mut out).unwrap();
            assert_eq!(outside, expected.outside, "{count} x {length}, cut {cut}");
            let portable = Apply { order, rows: &rows, range: range.clone(), out: &mut vec![T::ZERO; length] }.run();
            assert_eq!(portable.unwrap(), expected.outside);
            for (got, expected) in out.iter().zip(&expected.mean) {
                assert!(close(got.to_f64(), *expected, tolerance), "{got:?} {expected}, {count} x {length}, cut {cut}");
            }
            results.push(out);
        }
        assert_eq!(results[0], results[1], "network and selection differ, {count} x {length}, cut {cut}");
    }
    let expected = naive::trimmed(&shifted, (count - 1) / 2, count / 2);
    let mut out = vec![T::ZERO; length];
    assert!(OrderStatistics::median(count, Even::Average).apply(&rows, range, &mut out).unwrap().is_empty());
    for (got, expected) in out.iter().zip(&expected.middle) {
        assert_eq!(*got, T::from_f64(*expected));
    }
}

#[test]
fn every_path_equals_the_naive_twin_at_every_length_and_alignment() {
    for length in 0..130 {
        check::<f32>(7, length, length % 5, 2003, 1e-6);
        check::<f64>(8, length, length % 3, 2003, 1e-14);
    }
}

#[test]
fn every_number_of_rows_agrees_with_and_without_ties() {
    for count in (1..40).chain([63, 64, 65, 128, 255, 256, 257, 300]) {
        check::<f32>(count, 45, 0, 2003, 1e-6);
        check::<f32>(count, 45, 1, 5, 1e-6);
        check::<f64>(count, 33, 0, 3, 1e-13);
    }
}

#[test]
fn portable_and_dispatched_paths_have_the_same_bits() {
    let rows: Vec<Vec<f64>> = (0..20).map(|seed| values(seed, 500, 1999)).collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    for order in [OrderStatistics::median(20, Even::Average), OrderStatistics::trimmed_mean(20, 3)] {
        let (mut fast, mut portable) = (vec![0.0; 500], vec![0.0; 500]);
        order.apply(&rows, 0..500, &mut fast).unwrap();
        Apply { order: &order, rows: &rows, range: 0..500, out: &mut portable }.run().unwrap();
        assert_eq!(
            fast.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            portable.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_first_row_that_is_not_finite_is_named() {
    let mut rows = vec![vec![1.0_f32; 100]; 5];
    rows[3][70] = f32::NAN;
    rows[2][71] = f32::INFINITY;
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let error = OrderStatistics::median(5, Even::Average).apply(&rows, 0..100, &mut [0.0; 100]).unwrap_err();
    assert_eq!(error, RowsError::NonFinite { row: 2, coordinate: 71 });
}

#[test]
fn sums_and_averages_beyond_f64_do_not_overflow() {
    let rows: [&[f64]; 4] = [&[1.6e308], &[1.5e308], &[1.4e308], &[1.3e308]];
    let mut out = [0.0];
    OrderStatistics::median(4, Even::Average).apply(&rows, 0..1, &mut out).unwrap();
    assert!(close(out[0], 1.45e308, 1e-15));
    OrderStatistics::trimmed_mean(4, 0).apply(&rows, 0..1, &mut out).unwrap();
    assert!(close(out[0], 1.45e308, 1e-15));
    let ties: [&[f64]; 5] = [&[1.6e308], &[1.6e308], &[-1e308], &[1.6e308], &[1.5e308]];
    OrderStatistics::trimmed_mean(5, 1).apply(&ties, 0..1, &mut out).unwrap();
    assert!(close(out[0] / 1e308, (1.6 + 1.6 + 1.5) / 3.0, 1e-15));
}

#[test]
fn negative_zero_leaves_as_zero() {
    let rows: [&[f32]; 3] = [&[-0.0], &[0.0], &[-0.0]];
    let mut out = [1.0];
    for order in [
        OrderStatistics::median(3, Even::Average),
        OrderStatistics::trimmed_mean(3, 0),
        OrderStatistics::trimmed_mean(3, 1),
    ] {
        order.apply(&rows, 0..1, &mut out).unwrap();
        assert_eq!(out[0].to_bits(), 0);
    }
}
