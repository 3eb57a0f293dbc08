//! What changed between two studies.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::statistics::{Interval, paired};
use super::store::StoreError;

/// Cells of two studies that have the same labels, compared seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Cells in both, in order of their labels.
    pub cells: Vec<Difference>,
    /// Labels of cells only in the first.
    pub only_first: Vec<String>,
    /// Labels of cells only in the second.
    pub only_second: Vec<String>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its labels.
    pub cell: String,
    /// Mean final accuracy in the first study.
    pub first: f64,
    /// In the second.
    pub second: f64,
    /// Second minus first, over the seeds both have.
    pub change: Interval,
    /// Whether the interval of the change leaves out zero.
    pub separate: bool,
    /// Whether every seed both have gave the same accuracy.
    pub identical: bool,
}

/// Seed → final accuracy, per cell.
type Cells = BTreeMap<String, BTreeMap<u64, f64>>;

/// Compares the `runs.csv` of two folders. Cells are matched by the axes both have; an axis that only one has makes its
/// cells unmatched.
///
/// # Errors
/// [`StoreError`] if a folder has no readable results.
pub fn compare(first: &Path, second: &Path) -> Result<Comparison, StoreError> {
    let (one, other) = (read(first)?, read(second)?);
    let mut comparison = Comparison { cells: Vec::new(), only_first: Vec::new(), only_second: Vec::new() };
    for (cell, seeds) in &one {
        let Some(others) = other.get(cell) else {
            comparison.only_first.push(cell.clone());
            continue;
        };
        let both: Vec<(f64, f64)> = seeds.iter().filter_map(|(seed, a)| Some((*a, *others.get(seed)?))).collect();
        if both.is_empty() {
            comparison.only_first.push(format!("{cell} (no common seed)"));
            continue;
        }
        let (a, b): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
        let change = paired(&a, &b);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        comparison.cells.push(Difference {
            cell: cell.clone(),
            first: mean(&a),
            second: mean(&b),
            change,
            separate: change.low > 0.0 || change.high < 0.0,
            identical: a == b,
        });
    }
    comparison.only_second = other.keys().filter(|cell| !one.contains_key(*cell)).cloned().collect();
    Ok(comparison)
}

fn read(folder: &Path) -> Result<Cells, StoreError> {
    let path = folder.join("runs.csv");
    let wrong = |what: String| StoreError::Results { folder: folder.to_owned(), what };
    let file =
        std::fs::File::open(&path).map_err(|source| StoreError::NoResults { folder: folder.to_owned(), source })?;
    let mut reader = csv::Reader::from_reader(file);
    let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let column =
        |name: &str| header.iter().position(|column| column == name).ok_or_else(|| wrong(format!("no column {name}")));
    let (seed, accuracy) = (column("seed")?, column("accuracy_last")?);
    let mut cells = Cells::new();
    for record in reader.records() {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        // Between the id and the seed lie the axes.
        let labels: Vec<String> =
            (1..seed).map(|index| format!("{} = {}", &header[index], record.get(index).unwrap_or_default())).collect();
        let number = |index: usize| record.get(index).unwrap_or_default();
        let seed = number(seed).parse().map_err(|_| wrong(format!("{:?} is no seed", number(seed))))?;
        let value = number(accuracy).parse().map_err(|_| wrong(format!("{:?} is no accuracy", number(accuracy))))?;
        cells.entry(labels.join(", ")).or_default().insert(seed, value);
    }
    Ok(cells)
}
