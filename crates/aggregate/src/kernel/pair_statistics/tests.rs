use super::super::naive;
use super::*;

fn values<T: Element>(seed: usize, length: usize) -> Vec<T> {
    (0..length).map(|c| T::from_f64(((c * 7919 + seed * 104_729) % 2003) as f64 / 97.0 - 10.0)).collect()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn check<T: Element>(count: usize, length: usize, offset: usize) {
    let rows: Vec<Vec<T>> = (0..count).map(|seed| values(seed, length + offset)).collect();
    let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
    let shifted: Vec<&[T]> = rows.iter().map(|row| &row[offset..]).collect();
    let block = offset..offset + length;
    let expected = bits(&naive::distances(&shifted));
    assert_eq!(bits(&pair_statistics(&rows, block.clone()).unwrap()), expected, "{count} x {length}");
    let nearly = bits(&naive::near_distances(&shifted));
    assert_eq!(bits(&near_pair_statistics(&rows, block.clone()).unwrap()), nearly, "{count} x {length}");
    for path in Path::ALL {
        let kernel = PairStatistics::<T, f64>::new(&rows, block.clone());
        assert_eq!(bits(&dispatch_up_to(path, kernel)), expected, "{path:?}, {count} x {length}");
        assert_eq!(bits(&near(path, &rows, &block)), nearly, "{path:?}, {count} x {length}");
    }
}

#[test]
fn every_path_has_the_bits_of_the_naive_sums_at_every_length_and_alignment() {
    for length in 0..130 {
        check::<f32>(7, length, length % 5);
        check::<f64>(6, length, length % 3);
    }
    check::<f32>(3, 4096, 1);
}

#[test]
fn every_number_of_rows_is_tiled_without_changing_a_bit() {
    for count in [1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 70, 100] {
        check::<f32>(count, 300, 0);
    }
}

#[test]
fn squares_that_leave_the_range_of_f32_are_measured_in_f64() {
    let mut rows: Vec<Vec<f32>> = (0..6).map(|seed| values(seed, 700)).collect();
    for (row, scale) in [(1, 1e30), (2, 1e-30), (3, 1e-22)] {
        rows[row].iter_mut().for_each(|value| *value *= scale);
    }
    rows[4] = rows[5].clone();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let packed = near_pair_statistics(&rows, 0..700).unwrap();
    assert_eq!(bits(&packed), bits(&naive::near_distances(&rows)));
    assert_eq!(packed[packed_index(4, 5)], 0.0);
    for (narrow, exact) in packed.iter().zip(pair_statistics(&rows, 0..700).unwrap()) {
        assert!((narrow - exact).abs() <= 18.0 * 2.0_f64.powi(-24) * exact, "{narrow} for {exact}");
    }
    // In f64 whatever the scale.
    let beyond = packed_index(2, 3);
    assert!(packed[beyond] > 1e-43 && packed[beyond] < 1e-38, "{}", packed[beyond]);
}

#[test]
fn near_distances_far_from_the_origin_keep_their_digits() {
    let rows: Vec<Vec<f32>> = (0..5).map(|seed| values(seed, 4096)).collect();
    let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value + 1e8).collect()).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let (near, exact) = (near_pair_statistics(&rows, 0..4096).unwrap(), pair_statistics(&rows, 0..4096).unwrap());
    assert_ne!(near, exact);
    for (near, exact) in near.iter().zip(exact) {
        assert!((near - exact).abs() <= 18.0 * 2.0_f64.powi(-24) * exact, "{near} for {exact}");
    }
}

#[test]
fn distances_beyond_f64_saturate_and_non_finite_rows_are_named() {
    let rows: [&[f64]; 3] = [&[1e200, 1.0], &[-1e308, 2.0], &[0.5, 1.0]];
    let packed = pair_statistics(&rows, 0..2).unwrap();
    assert!(packed.iter().all(|value| !value.is_nan() && *value >= 0.0));
    assert_eq!(packed[packed_index(0, 1)], f64::INFINITY);
    assert_eq!(packed[packed_index(2, 3)], 1.25);
    let rows: [&[f64]; 2] = [&[1e200, 1.0], &[1.0, f64::NAN]];
    assert_eq!(pair_statistics(&rows, 0..2).unwrap_err(), RowsError::NonFinite { row: 1, coordinate: 1 });
}
