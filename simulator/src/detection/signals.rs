//! What of an update tells attackers from honest clients. None does alone: each is blind to some attack, and unusually
//! small values are as telling as large ones.

use crate::attack::estimate::{distance2, dot, norm};

/// Number of signals.
pub const COUNT: usize = 6;
/// Their names, in order.
pub const NAMES: [&str; COUNT] =
    ["norm", "against_centre", "krum_score", "sign_disagreement", "nearest", "against_past"];
/// Fewest updates of a round in which ranks say anything.
pub const FEWEST: usize = 5;

/// The signals of one update: its L2 norm; minus its cosine with the coordinate-wise median; the sum of its n − f − 2
/// smallest squared distances (Blanchard et al. 2017); the share of the tenth of the coordinates in which the median is
/// largest where its sign is another; its largest cosine with another update; minus its cosine with the sum of the client's
/// earlier updates, 0 before the first.
pub type Signals = [f64; COUNT];

/// The signals of every row, n rows of d coordinates; `histories` are as long or empty. O(n²d).
pub fn of(rows: &[&[f32]], histories: &[&[f32]], byzantine: usize) -> Vec<Signals> {
    let dimension = rows.first().map_or(0, |row| row.len());
    let centre = median(rows, dimension);
    let largest = largest(&centre);
    let norms: Vec<f64> = rows.iter().map(|row| norm(row)).collect();
    let centre_norm = norm(&centre);
    let neighbours = rows.len().saturating_sub(byzantine + 2).max(1);
    let mut distances = vec![vec![0.0; rows.len()]; rows.len()];
    for i in 0..rows.len() {
        for j in 0..i {
            let distance = distance2(rows[i], rows[j]);
            (distances[i][j], distances[j][i]) = (distance, distance);
        }
    }
    (0..rows.len())
        .map(|i| {
            let mut others: Vec<f64> = (0..rows.len()).filter(|&j| j != i).map(|j| distances[i][j]).collect();
            let nearest = (0..rows.len()).filter(|&j| j != i).map(|j| {
                // ⟨a, b⟩ = (‖a‖² + ‖b‖² − ‖a − b‖²)/2.
                let product = 0.5 * (norms[i] * norms[i] + norms[j] * norms[j] - distances[i][j]);
                ratio(product, norms[i] * norms[j])
            });
            let nearest = nearest.fold(-1.0, f64::max);
            others.sort_by(f64::total_cmp);
            let score = others.iter().take(neighbours).sum::<f64>();
            let disagree = largest.iter().filter(|&&at| f64::from(rows[i][at]) * centre[at] <= 0.0).count();
            let past = histories.get(i).filter(|history| history.len() == dimension);
            [
                norms[i],
                -ratio(dot(rows[i], &centre), norms[i] * centre_norm),
                score,
                disagree as f64 / largest.len().max(1) as f64,
                nearest,
                past.map_or(0.0, |past| -ratio(dot(rows[i], past), norms[i] * norm(past))),
            ]
        })
        .collect()
}

/// Each signal as its distance from the round's median in units of the median absolute deviation: what is left of a value
/// when the model and the learning rate change from round to round.
pub fn in_spreads(values: &[Signals]) -> Vec<Signals> {
    let mut all = values.to_vec();
    for signal in 0..COUNT {
        let middle = crate::attack::estimate::median(values.iter().map(|row| row[signal]).collect());
        let spread = crate::attack::estimate::median(values.iter().map(|row| (row[signal] - middle).abs()).collect());
        for row in &mut all {
            row[signal] = if spread > 0.0 { (row[signal] - middle) / spread } else { 0.0 };
        }
    }
    all
}

fn ratio(above: f64, below: f64) -> f64 {
    if below > 0.0 { above / below } else { 0.0 }
}

fn median(rows: &[&[f32]], dimension: usize) -> Vec<f64> {
    let mut column = Vec::with_capacity(rows.len());
    (0..dimension)
        .map(|at| {
            column.clear();
            column.extend(rows.iter().map(|row| row[at]));
            column.sort_unstable_by(f32::total_cmp);
            let (low, high) = (column[(column.len() - 1) / 2], column[column.len() / 2]);
            0.5 * (f64::from(low) + f64::from(high))
        })
        .collect()
}

/// The tenth of the coordinates, at least one, in which the centre is largest.
fn largest(centre: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..centre.len()).collect();
    let count = centre.len().div_ceil(10);
    if count < order.len() {
        order.select_nth_unstable_by(count, |&a, &b| centre[b].abs().total_cmp(&centre[a].abs()).then(a.cmp(&b)));
        order.truncate(count);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_those_of_their_definitions() {
        let rows: Vec<Vec<f32>> =
            vec![vec![3.0, 4.0], vec![3.0, 4.0], vec![-3.0, -4.0], vec![3.0, 3.0], vec![4.0, 4.0]];
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let past = [vec![-3.0_f32, -4.0], Vec::new()];
        let histories = [&past[0][..], &past[1], &past[1], &past[1], &past[1]];
        let values = of(&rows, &histories, 1);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        // The median is (3, 4).
        assert!(close(values[0][0], 5.0) && close(values[0][1], -1.0) && close(values[2][1], 1.0));
        // n − f − 2 = 2 neighbours: the twin at 0 and one at 1; of the third row (3, 3) at 85 and a twin at 100.
        assert!(close(values[0][2], 1.0) && close(values[2][2], 185.0));
        assert_eq!((values[0][3], values[2][3]), (0.0, 1.0));
        assert!(close(values[0][4], 1.0) && close(values[3][4], 1.0));
        assert_eq!((values[0][5], values[1][5]), (1.0, 0.0));
    }

    #[test]
    fn spreads_do_not_depend_on_scale_or_offset() {
        let values: Vec<Signals> = (0..9).map(|i| [f64::from(i); COUNT]).collect();
        let moved: Vec<Signals> = (0..9).map(|i| [7.0 + 3.0 * f64::from(i); COUNT]).collect();
        assert_eq!(in_spreads(&values), in_spreads(&moved));
        assert_eq!(in_spreads(&values)[8], [2.0; COUNT]);
        assert_eq!(in_spreads(&[[5.0; COUNT]; 3]), [[0.0; COUNT]; 3]);
    }
}
