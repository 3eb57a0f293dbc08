use super::super::dispatch::{Path, dispatch_up_to};
use super::super::naive;
use super::*;

mod vectors;

fn values<T: Element>(seed: usize, length: usize, distinct: usize) -> Vec<T> {
    (0..length)
        .map(|c| T::from_f64(((c * 7919 + seed * 104_729 + seed * seed * 31) % distinct) as f64 / 97.0 - 10.0))
        .collect()
}

fn weights(count: usize, distinct: usize) -> Vec<f64> {
    let mut weights: Vec<f64> = (0..count).map(|row| ((row * 7919 + count) % distinct) as f64 * 0.25).collect();
    weights[count / 2] = 0.5;
    weights
}

fn close(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * (1.0 + expected.abs())
}

fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values.iter().map(|value| value.to_f64().to_bits()).collect()
}

/// Rows, and the part of them to work on.
struct Case<T> {
    rows: Vec<Vec<T>>,
    range: Range<usize>,
}

impl<T: Element> Case<T> {
    fn new(count: usize, length: usize, offset: usize, distinct: usize) -> Self {
        let rows = (0..count).map(|seed| values(seed, length + offset, distinct)).collect();
        Self { rows, range: offset..offset + length }
    }

    fn part(&self) -> Vec<&[T]> {
        self.rows.iter().map(|row| &row[self.range.clone()]).collect()
    }

    /// What `order` makes of it, the same bits on every path and for every finder.
    fn apply(&self, order: &OrderStatistics) -> naive::Ordered<T> {
        let rows: Vec<&[T]> = self.rows.iter().map(Vec::as_slice).collect();
        let mut out = vec![T::ZERO; self.range.len()];
        let outside = order.apply(&rows, self.range.clone(), &mut out).unwrap();
        let context = format!("{} x {}, {:?}", rows.len(), self.range.len(), order.step);
        let counted = order.step.masses().map_or(rows.len(), |masses| masses.rows.len());
        let scalar = OrderStatistics { finder: Finder::scalar(&order.step.ranks(counted)), ..order.clone() };
        let mut again = vec![T::ZERO; self.range.len()];
        assert_eq!(scalar.apply(&rows, self.range.clone(), &mut again).unwrap(), outside, "{context}");
        assert_eq!(bits(&again), bits(&out), "network and selection differ, {context}");
        if counted == rows.len() {
            for path in Path::ALL {
                let kernel = Apply { order, rows: &rows, range: self.range.clone(), out: &mut again };
                assert_eq!(dispatch_up_to(path, kernel).unwrap(), outside, "{path:?}, {context}");
                assert_eq!(bits(&again), bits(&out), "{path:?}, {context}");
            }
        }
        naive::Ordered { out, outside }
    }

    fn check(&self, order: &OrderStatistics, naive: impl Fn(&[f64], &[f64]) -> (f64, f64, f64)) {
        let expected = naive::ordered(&self.part(), naive);
        let got = self.apply(order);
        assert_eq!(bits(&got.out), bits(&expected.out), "{} x {}, {:?}", self.rows.len(), self.range.len(), order.step);
        let outside = if order.cuts() { expected.outside } else { Vec::new() };
        assert_eq!(got.outside, outside, "{} x {}, {:?}", self.rows.len(), self.range.len(), order.step);
    }

    fn check_unweighted(&self) {
        let count = self.rows.len();
        let middle = |sorted: &[f64]| (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        self.check(&OrderStatistics::median(count, Even::Average), |_, sorted| (middle(sorted), 0.0, 0.0));
        let (lower, upper) = ((count - 1) / 2, count / 2);
        self.check(&OrderStatistics::median(count, Even::Lower), |_, sorted| (sorted[lower], 0.0, 0.0));
        self.check(&OrderStatistics::median(count, Even::Upper), |_, sorted| (sorted[upper], 0.0, 0.0));
        for cut in [0, count / 4, (count - 1) / 2] {
            let kept = |column: &[f64], sorted: &[f64]| naive::kept_mean(column, &sorted[cut..count - cut]);
            self.check(&OrderStatistics::trimmed_mean(count, cut), kept);
            for keep in [1, count - cut, count.div_ceil(2)] {
                self.check(&OrderStatistics::mean_around(count, Centre::Median, keep), |column, sorted| {
                    naive::kept_mean(column, &naive::nearest(sorted, middle(sorted), keep))
                });
                let centre = Centre::TrimmedMean { cut };
                self.check(&OrderStatistics::mean_around(count, centre, keep), |column, sorted| {
                    naive::kept_mean(column, &naive::nearest(sorted, kept(column, sorted).0, keep))
                });
            }
        }
    }

    fn check_weighted(&self, weights: &[f64], tolerance: f64) {
        self.check(&OrderStatistics::weighted_median(weights), |column, _| {
            (naive::weighted_median(column, weights), 0.0, 0.0)
        });
        let total: f64 = weights.iter().sum();
        for share in [0.0, 0.125, 0.25, 0.45] {
            let cut = total * share;
            let expected = naive::ordered(&self.part(), |column, _| naive::weighted_trimmed_mean(column, weights, cut));
            let got = self.apply(&OrderStatistics::weighted_trimmed_mean(weights, cut));
            for (got, expected) in got.out.iter().zip(&expected.out) {
                let context = format!("{} x {}, cut {cut} of {weights:?}", self.rows.len(), self.range.len());
                assert!(close(got.to_f64(), expected.to_f64(), tolerance), "{got:?} {expected:?}, {context}");
            }
            for ((got, expected), weight) in got.outside.iter().zip(expected.outside).zip(weights) {
                assert_eq!(*got, if *weight == 0.0 { 0 } else { expected });
            }
        }
    }
}

#[test]
fn every_path_equals_the_naive_twin_at_every_length_and_alignment() {
    for length in 0..130 {
        Case::<f32>::new(7, length, length % 5, 2003).check_unweighted();
        Case::<f64>::new(8, length, length % 3, 2003).check_unweighted();
        Case::<f32>::new(7, length, length % 5, 2003).check_weighted(&weights(7, 5), 1e-6);
        Case::<f64>::new(8, length, length % 3, 2003).check_weighted(&weights(8, 5), 1e-12);
    }
}

#[test]
fn every_number_of_rows_agrees_with_and_without_ties() {
    for count in (1..40).chain([63, 64, 65, 100, 128, 129, 255, 256, 257, 300]) {
        for (distinct, offset) in [(2003, 0), (5, 1)] {
            Case::<f32>::new(count, 45, offset, distinct).check_unweighted();
            Case::<f32>::new(count, 45, offset, distinct).check_weighted(&weights(count, 11), 1e-6);
        }
        Case::<f64>::new(count, 33, 0, 3).check_unweighted();
        Case::<f64>::new(count, 33, 0, 3).check_weighted(&weights(count, 7), 1e-12);
    }
}

#[test]
fn equal_weights_give_the_median_and_the_trimmed_mean() {
    for count in [1, 4, 5, 12] {
        let case = Case::<f64>::new(count, 70, 0, 2003);
        let weights = vec![1.0; count];
        let median = case.apply(&OrderStatistics::median(count, Even::Average)).out;
        assert_eq!(case.apply(&OrderStatistics::weighted_median(&weights)).out, median);
        let cut = (count - 1) / 2;
        let trimmed = case.apply(&OrderStatistics::trimmed_mean(count, cut));
        let weighted = case.apply(&OrderStatistics::weighted_trimmed_mean(&weights, cut as f64));
        assert_eq!((weighted.out, weighted.outside), (trimmed.out, trimmed.outside));
    }
}

fn one<T: Element, const N: usize>(order: &OrderStatistics, column: [T; N]) -> T {
    let rows = column.map(|value| [value]);
    let rows: Vec<&[T]> = rows.iter().map(<[T; 1]>::as_slice).collect();
    let mut out = [T::ZERO];
    order.apply(&rows, 0..1, &mut out).unwrap();
    out[0]
}

#[test]
fn of_two_equally_near_values_the_lower_is_kept() {
    assert_eq!(one(&OrderStatistics::mean_around(5, Centre::Median, 2), [1.0, 7.0, 3.0, 5.0, -9.0]), 2.0);
    assert_eq!(one(&OrderStatistics::mean_around(4, Centre::Median, 1), [4.0, 2.0, 2.0, 4.0]), 2.0);
    assert_eq!(one(&OrderStatistics::mean_around(4, Centre::TrimmedMean { cut: 1 }, 3), [4.0, 0.0, 2.0, 6.0]), 2.0);
}

#[test]
fn half_of_the_weight_averages_with_the_next_value_that_counts() {
    assert_eq!(one(&OrderStatistics::weighted_median(&[1.0, 0.0, 2.0, 1.0]), [1.0, 4.0, 9.0, 3.0]), 6.0);
    assert_eq!(one(&OrderStatistics::weighted_median(&[1.0, 1.0, 1.0, 1.0]), [5.0, 5.0, 5.0, 7.0]), 5.0);
    assert_eq!(one(&OrderStatistics::weighted_median(&[3.0, 1.0, 1.0]), [5.0, 1.0, 9.0]), 5.0);
}

#[test]
fn a_value_at_the_bound_counts_with_what_is_left_of_its_weight() {
    let order = OrderStatistics::weighted_trimmed_mean(&[1.0, 2.0, 1.0], 1.5);
    assert_eq!(one(&order, [0.0, 1.0, 2.0]), 1.0);
    let order = OrderStatistics::weighted_trimmed_mean(&[2.0, 1.0, 1.0], 0.5);
    assert_eq!(one(&order, [0.0, 3.0, 6.0]), 2.0);
}

#[test]
fn the_first_row_that_is_not_finite_is_named_unless_it_does_not_count() {
    let mut rows = vec![vec![1.0_f32; 100]; 5];
    rows[0][3] = f32::NAN;
    rows[3][70] = f32::NAN;
    rows[2][71] = f32::INFINITY;
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let mut out = [0.0; 100];
    let weights = [0.0, 1.0, 0.0, 1.0, 1.0];
    for (order, first) in [
        (OrderStatistics::median(5, Even::Average), RowsError::NonFinite { row: 2, coordinate: 71 }),
        (OrderStatistics::mean_around(5, Centre::Median, 3), RowsError::NonFinite { row: 2, coordinate: 71 }),
        (OrderStatistics::weighted_median(&weights), RowsError::NonFinite { row: 3, coordinate: 70 }),
        (OrderStatistics::weighted_trimmed_mean(&weights, 0.5), RowsError::NonFinite { row: 3, coordinate: 70 }),
    ] {
        assert_eq!(order.apply(&rows, 60..100, &mut out[..40]).unwrap_err(), first);
        assert!(order.apply(&rows, 80..100, &mut out[..20]).is_ok());
    }
}

#[test]
fn sums_and_averages_beyond_f64_do_not_overflow() {
    let column = [1.6e308, 1.5e308, 1.4e308, 1.3e308];
    let whole = [
        OrderStatistics::median(4, Even::Average),
        OrderStatistics::trimmed_mean(4, 0),
        OrderStatistics::mean_around(4, Centre::Median, 4),
        OrderStatistics::weighted_median(&[1.0; 4]),
        OrderStatistics::weighted_trimmed_mean(&[1.0; 4], 0.0),
    ];
    for order in whole {
        assert!(close(one(&order, column) / 1e308, 1.45, 1e-15), "{order:?}");
    }
    let ties = [1.6e308, 1.6e308, -1e308, 1.6e308, 1.5e308];
    let expected = (1.6 + 1.6 + 1.5) / 3.0;
    assert!(close(one(&OrderStatistics::trimmed_mean(5, 1), ties) / 1e308, expected, 1e-15));
    assert!(close(one(&OrderStatistics::weighted_trimmed_mean(&[1.0; 5], 1.0), ties) / 1e308, expected, 1e-15));
    // Differences beyond f64: 0.6e308 is nearer to the centre than −1.7e308.
    let far = [-1.7e308, 1.7e308, 1.6e308, 0.6e308, 1.5e308];
    assert!(close(one(&OrderStatistics::mean_around(5, Centre::Median, 4), far) / 1e308, 1.35, 1e-15));
    assert_eq!(one(&OrderStatistics::mean_around(3, Centre::Median, 2), [f64::MAX, -f64::MAX, 0.0]), f64::MIN / 2.0);
}

#[test]
fn negative_zero_leaves_as_zero() {
    for order in [
        OrderStatistics::median(3, Even::Average),
        OrderStatistics::trimmed_mean(3, 0),
        OrderStatistics::trimmed_mean(3, 1),
        OrderStatistics::mean_around(3, Centre::Median, 2),
        OrderStatistics::weighted_median(&[1.0, 2.0, 3.0]),
        OrderStatistics::weighted_trimmed_mean(&[1.0, 2.0, 3.0], 0.5),
    ] {
        assert_eq!(one(&order, [-0.0_f32, 0.0, -0.0]).to_bits(), 0);
        assert_eq!(one(&order, [-0.0_f64; 3]).to_bits(), 0);
    }
}
