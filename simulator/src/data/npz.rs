//! NPZ files, NumPy's archives of arrays: one holds the features (n x …), one the labels (n integers).

use std::io::Read;
use std::path::Path;

use super::error::shown;
use super::input::{check_limit, open, read_bounded};
use super::{DataError, Dataset, Limits};

use archive::{Fault, find};

mod archive;
mod array;

/// Which arrays are read, and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Name of the array of features; by default the first there is of `x`, `X`, `features`, `data`, `images`,
    /// `x_train`.
    pub features: Option<String>,
    /// Name of the array of labels; by default the first there is of `y`, `Y`, `labels`, `target`, `y_train`.
    pub labels: Option<String>,
    /// Limits; `columns` bounds the values of one example.
    pub limits: Limits,
}

const FEATURES: [&str; 6] = ["x", "X", "features", "data", "images", "x_train"];
const LABELS: [&str; 5] = ["y", "Y", "labels", "target", "y_train"];

/// Reads the arrays from a file, compressed or not.
///
/// Unsigned bytes become features in 0..=1 (divided by 255); other numbers are taken as they are. Labels are integers
/// from 0. Classes: the largest label plus one, at least 2.
///
/// # Errors
/// [`DataError`] naming the file, the array, the value and the fix: unreadable or damaged archives, missing arrays,
/// other types or orders, counts that differ, features that are not finite, more than the limits allow.
pub fn load(path: &Path, options: &Options) -> Result<Dataset, DataError> {
    read(open(path)?, &path.display().to_string(), options)
}

/// As [`load`], from any input with the name used in errors.
///
/// # Errors
/// As [`load`].
pub fn read(input: impl Read, file: &str, options: &Options) -> Result<Dataset, DataError> {
    let limits = &options.limits;
    let bytes = read_bounded(input, file, limits.bytes)?;
    let (label_name, label_bytes) = member(&bytes, file, options.labels.as_deref(), &LABELS, "labels", limits)?;
    let wrong = |name: &str, problem: String, fix: &str| npz(file, Some(name), problem, fix);
    let labels = array::Header::parse(&label_bytes).map_err(|(problem, fix)| wrong(&label_name, problem, fix))?;
    if !labels.kind.is_integer() || labels.shape.len() != 1 {
        let problem = format!("type {}, shape {:?}", labels.kind.name(), labels.shape);
        return Err(wrong(&label_name, problem, "labels are integers in one dimension"));
    }
    let rows = labels.shape[0];
    check_limit(file, "rows", rows, limits.rows)?;
    let values = labels.values(&label_bytes).map_err(|(problem, fix)| wrong(&label_name, problem, fix))?;
    let mut classes = 2;
    let mut numbers = Vec::with_capacity(rows);
    for (row, value) in values.enumerate() {
        if !(0.0..=65_534.0).contains(&value) {
            let fix = "labels count from 0; leave out examples without a label";
            return Err(wrong(&label_name, format!("label {value} of example {row}"), fix));
        }
        numbers.push(value as u16);
        classes = classes.max(value as usize + 1);
    }
    check_limit(file, "classes", classes, limits.classes)?;

    let (name, bytes) = member(&bytes, file, options.features.as_deref(), &FEATURES, "features", limits)?;
    let header = array::Header::parse(&bytes).map_err(|(problem, fix)| wrong(&name, problem, fix))?;
    if header.shape.len() < 2 || header.shape[0] != rows {
        let problem = format!("shape {:?} for {rows} labels", header.shape);
        return Err(wrong(&name, problem, "give one row of features per label"));
    }
    let width = header.shape[1..].iter().try_fold(1_usize, |width, side| width.checked_mul(*side));
    let width = width.unwrap_or(usize::MAX);
    check_limit(file, "columns", width, limits.columns)?;
    check_limit(file, "values", rows.saturating_mul(width), limits.values)?;
    if rows == 0 || width == 0 {
        return Err(wrong(&name, format!("shape {:?}", header.shape), "give at least one example and one feature"));
    }
    let scale = header.kind.scale();
    let values = header.values(&bytes).map_err(|(problem, fix)| wrong(&name, problem, fix))?;
    let features: Vec<f32> = values.map(|value| (value * scale) as f32).collect();
    if let Some(index) = features.iter().position(|value| !value.is_finite()) {
        let problem = format!("example {}, value {} is not finite in single precision", index / width, index % width);
        return Err(wrong(&name, problem, "replace it or remove the example"));
    }
    Dataset::new(features, numbers, width, classes)
}

/// The decompressed bytes of the wanted array, and its name.
fn member(
    bytes: &[u8],
    file: &str,
    wanted: Option<&str>,
    usual: &[&str],
    what: &str,
    limits: &Limits,
) -> Result<(String, Vec<u8>), DataError> {
    let names: Vec<&str> = wanted.map_or_else(|| usual.to_vec(), |name| vec![name]);
    for name in &names {
        match find(bytes, &format!("{name}.npy"), limits.bytes) {
            Ok(Some(bytes)) => return Ok(((*name).to_owned(), bytes)),
            Ok(None) => {}
            Err(Fault::Damaged(problem)) => {
                return Err(npz(file, None, problem.to_owned(), "give an archive written by numpy.savez"));
            }
            Err(Fault::Large) => {
                let found = format!("more than {}", limits.bytes);
                return Err(DataError::Limit { file: file.to_owned(), what: "bytes", found, limit: limits.bytes });
            }
        }
    }
    let there: Vec<String> = archive::names(bytes).iter().take(8).map(|name| shown(name)).collect();
    let problem = format!("no array of {what}: looked for {}, found {}", names.join(", "), there.join(", "));
    Err(npz(file, None, problem, "name the arrays, or write numpy.savez(file, x=…, y=…)"))
}

fn npz(file: &str, array: Option<&str>, problem: String, fix: &str) -> DataError {
    DataError::Npz { file: file.to_owned(), array: array.map(str::to_owned), problem, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests;
