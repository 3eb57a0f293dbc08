//! Mean shift with a flat kernel on sign counts.

use std::cmp::Ordering;

/// Most shifts of a centre; each moves to a denser place, and nearly all stop after a few.
const SHIFTS: usize = 300;
/// Shifts shorter than this share of the bandwidth end the search.
const STILL: f64 = 1e-3;
/// Distances within this share of the bandwidth differ from it by rounding alone.
const ROUNDING: f64 = 1e-9;

type Point = [f64; 3];

/// Per row whether it is in the largest cluster.
///
/// Comaniciu and Meer 2002, with a flat kernel, a start at every row, and the usual estimate of the bandwidth: the mean
/// over the rows of the distance to the ⌊n/2⌋-th nearest row, itself counted. Centres within the bandwidth of a denser
/// one are dropped, and rows go to the nearest centre left. Equally dense centres: the one of larger counts first;
/// equally large clusters: that of the first centre. The counts are whole and all rows have as many coordinates, so
/// counts do for shares, sums of them are exact, and the outcome does not depend on the order of the rows.
pub(super) fn largest_cluster(counts: &[[u64; 3]]) -> Vec<bool> {
    #[allow(clippy::cast_precision_loss, reason = "counts of coordinates are far below 2^53")]
    let points: Vec<Point> = counts.iter().map(|counts| counts.map(|count| count as f64)).collect();
    let bandwidth = bandwidth(&points);
    let reach = bandwidth * (1.0 + ROUNDING);
    let mut centres: Vec<(usize, Point)> = distinct(&points).into_iter().map(|s| climb(&points, s, reach)).collect();
    centres.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| by_value(&b.1, &a.1)));
    let mut left: Vec<Point> = Vec::new();
    for (_, centre) in centres {
        if left.iter().all(|denser| distance(denser, &centre) > reach) {
            left.push(centre);
        }
    }
    let nearest = |point: &Point| {
        let mut best = 0;
        for (at, centre) in left.iter().enumerate() {
            if distance(point, centre) < distance(point, &left[best]) {
                best = at;
            }
        }
        best
    };
    let labels: Vec<usize> = points.iter().map(nearest).collect();
    let mut sizes = vec![0; left.len()];
    labels.iter().for_each(|&label| sizes[label] += 1);
    let largest = (0..left.len()).rev().max_by_key(|&label| sizes[label]).unwrap_or(0);
    labels.into_iter().map(|label| label == largest).collect()
}

#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn bandwidth(points: &[Point]) -> f64 {
    let neighbour = (points.len() / 2).max(1) - 1;
    let reach = |point: &Point| {
        let mut distances: Vec<f64> = points.iter().map(|other| distance(point, other)).collect();
        *distances.select_nth_unstable_by(neighbour, f64::total_cmp).1
    };
    let mut reaches: Vec<f64> = points.iter().map(reach).collect();
    reaches.sort_unstable_by(f64::total_cmp);
    reaches.iter().sum::<f64>() / points.len() as f64
}

/// Shifts a centre to the mean of the rows within reach until it rests; also how many rows it has in reach then.
#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn climb(points: &[Point], start: Point, reach: f64) -> (usize, Point) {
    let mut centre = start;
    for _ in 0..SHIFTS {
        let (mut within, mut sum) = (0_usize, [0.0; 3]);
        for point in points.iter().filter(|point| distance(point, &centre) <= reach) {
            within += 1;
            sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += value);
        }
        if within == 0 {
            break;
        }
        let next = sum.map(|sum| sum / within as f64);
        let shift = distance(&next, &centre);
        centre = next;
        if shift <= STILL * reach {
            break;
        }
    }
    (points.iter().filter(|point| distance(point, &centre) <= reach).count(), centre)
}

/// Every point once.
fn distinct(points: &[Point]) -> Vec<Point> {
    let mut sorted = points.to_vec();
    sorted.sort_unstable_by(by_value);
    sorted.dedup();
    sorted
}

fn by_value(a: &Point, b: &Point) -> Ordering {
    a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn distance(a: &Point, b: &Point) -> f64 {
    let square = |at: usize| (a[at] - b[at]) * (a[at] - b[at]);
    (square(0) + square(1) + square(2)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(positives: &[u64]) -> Vec<usize> {
        let counts: Vec<[u64; 3]> = positives.iter().map(|&positive| [positive, 0, 1000 - positive]).collect();
        let cluster = largest_cluster(&counts);
        (0..positives.len()).filter(|&row| cluster[row]).collect()
    }

    #[test]
    fn the_larger_of_two_groups_is_found() {
        assert_eq!(cluster(&[500, 505, 900, 498, 910, 503, 495]), [0, 1, 3, 5, 6]);
        assert_eq!(cluster(&[900, 500, 505, 498]), [1, 2, 3]);
        assert_eq!(cluster(&[500; 6]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(cluster(&[7]), [0]);
    }

    #[test]
    fn without_spread_or_sample_all_rows_are_one_cluster() {
        assert_eq!(largest_cluster(&[[0, 0, 0]; 4]), [true; 4]);
        // More than half are the same: the bandwidth is the others' alone.
        assert_eq!(cluster(&[500, 500, 500, 800, 500]), [0, 1, 2, 4]);
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        for seed in 0..300 {
            let n = 3 + seed % 12;
            let rows: Vec<u64> = (0..n).map(|row| crate::needs::draw(seed, 3, row as usize) % 9).collect();
            let cluster = |rows: &[u64]| largest_cluster(&rows.iter().map(|&p| [p, 0, 8 - p]).collect::<Vec<_>>());
            let forward = cluster(&rows);
            let mut backward = cluster(&rows.iter().rev().copied().collect::<Vec<_>>());
            backward.reverse();
            assert_eq!(forward, backward, "{rows:?}");
            assert!(forward.contains(&true));
        }
    }
}
