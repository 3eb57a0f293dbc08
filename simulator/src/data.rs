//! Labelled examples: the embedded digits, CSV, IDX and NPZ files, generated tasks, splits, partitions and triggers.
//!
//! Nothing is downloaded. Every importer checks dimensions, types and ranges before it allocates, and names the file,
//! the place, the value and the fix when it refuses.

use sha2::{Digest, Sha256};

pub use error::DataError;
pub use partition::{Partition, PartitionError};
pub use split::{Split, SplitError};
pub use trigger::{Pattern, Trigger};

pub mod csv;
pub mod digits;
mod error;
pub mod idx;
pub(crate) mod input;
pub mod npz;
mod partition;
mod split;
pub mod synthetic;
mod trigger;

/// How much an importer may read; all are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Decompressed bytes of one file.
    pub bytes: u64,
    /// Examples.
    pub rows: usize,
    /// Columns of a CSV file, or values of one IDX example.
    pub columns: usize,
    /// Examples times features.
    pub values: usize,
    /// Classes.
    pub classes: usize,
}

impl Default for Limits {
    /// 1 GiB, 10 million rows, 65,536 columns, 256 Mi values, 1,024 classes.
    fn default() -> Self {
        Self { bytes: 1 << 30, rows: 10_000_000, columns: 1 << 16, values: 1 << 28, classes: 1024 }
    }
}

/// `len` examples of `width` finite features, each with a label below `classes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    features: Vec<f32>,
    labels: Vec<u16>,
    width: usize,
    classes: usize,
}

impl Dataset {
    /// `features` is row-major, `labels.len()` rows of `width`. May be empty, but has at least one feature and class.
    ///
    /// # Errors
    /// Lengths that do not match, a width or class count of zero, a label not below `classes`, a feature that is not
    /// finite.
    pub fn new(features: Vec<f32>, labels: Vec<u16>, width: usize, classes: usize) -> Result<Self, DataError> {
        let invalid = |problem: String, fix: &str| Err(DataError::Invalid { problem, fix: fix.to_owned() });
        if width == 0 || classes == 0 {
            return invalid(format!("width {width}, classes {classes}"), "both must be at least 1");
        }
        if labels.len().checked_mul(width) != Some(features.len()) {
            return invalid(
                format!("{} features for {} labels of width {width}", features.len(), labels.len()),
                "give width features per label",
            );
        }
        if let Some(row) = labels.iter().position(|label| usize::from(*label) >= classes) {
            return invalid(
                format!("row {row} has label {} of {classes} classes", labels[row]),
                "labels count from 0 and stay below the number of classes",
            );
        }
        if let Some(index) = features.iter().position(|value| !value.is_finite()) {
            return invalid(
                format!("row {}, feature {} is {}", index / width, index % width, features[index]),
                "remove or replace it",
            );
        }
        Ok(Self { features, labels, width, classes })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Features per example.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of classes; labels are 0, …, classes - 1.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All features, row-major, `len` x `width`.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// All labels.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Features of example `index`.
    ///
    /// # Panics
    /// If `index` is not below `len`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.width..(index + 1) * self.width]
    }

    /// Label of example `index`.
    ///
    /// # Panics
    /// If `index` is not below `len`.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// The examples with the given numbers, in that order.
    ///
    /// # Panics
    /// If a number is not below `len`.
    pub fn subset(&self, rows: &[usize]) -> Self {
        let mut features = Vec::with_capacity(rows.len() * self.width);
        for &row in rows {
            features.extend_from_slice(self.row(row));
        }
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Self { features, labels, width: self.width, classes: self.classes }
    }

    /// Adds the examples of `other`, which has the same width and classes.
    pub(crate) fn append(&mut self, other: &Self) {
        debug_assert!(self.width == other.width && self.classes == other.classes);
        self.features.extend_from_slice(&other.features);
        self.labels.extend_from_slice(&other.labels);
    }

    /// Replaces every label by `relabel(example, label)`, which sees the *old* labels only.
    ///
    /// # Errors
    /// A new label that is not below `classes`; nothing is changed then.
    pub fn relabel(&mut self, mut relabel: impl FnMut(usize, usize) -> usize) -> Result<(), DataError> {
        let mut labels = Vec::with_capacity(self.len());
        for (row, &old) in self.labels.iter().enumerate() {
            let new = relabel(row, usize::from(old));
            match u16::try_from(new) {
                Ok(label) if new < self.classes => labels.push(label),
                _ => {
                    return Err(DataError::Invalid {
                        problem: format!(
                            "row {row} would change from label {old} to {new} of {} classes",
                            self.classes
                        ),
                        fix: "map to a label below the number of classes".to_owned(),
                    });
                }
            }
        }
        self.labels = labels;
        Ok(())
    }

    /// Changes one feature to a finite value.
    pub(crate) fn set_feature(&mut self, row: usize, feature: usize, value: f32) {
        debug_assert!(value.is_finite());
        self.features[row * self.width + feature] = value;
    }

    /// Changes one label.
    pub(crate) fn set_label(&mut self, row: usize, label: usize) {
        assert!(label < self.classes, "label {label} of {} classes", self.classes);
        self.labels[row] = label as u16;
    }

    /// SHA-256 over shape, labels and feature bits: identifies the data in a manifest.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for number in [self.len(), self.width, self.classes] {
            hash.update((number as u64).to_le_bytes());
        }
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
        for value in &self.features {
            hash.update(value.to_le_bytes());
        }
        hex::encode(hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Dataset {
        Dataset::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![0, 2, 1], 2, 3).unwrap()
    }

    #[test]
    fn rows_and_labels_are_found_where_they_were_put() {
        let data = small();
        assert_eq!((data.len(), data.width(), data.classes(), data.is_empty()), (3, 2, 3, false));
        assert_eq!(data.row(1), [3.0, 4.0]);
        assert_eq!(data.label(1), 2);
        let subset = data.subset(&[2, 0, 2]);
        assert_eq!(subset.features(), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
        assert_eq!(subset.labels(), [1, 0, 1]);
    }

    #[test]
    fn what_does_not_form_a_data_set_is_refused_with_the_value() {
        let message = |result: Result<Dataset, DataError>| result.unwrap_err().to_string();
        assert!(message(Dataset::new(vec![1.0; 5], vec![0, 1], 2, 2)).contains("5 features for 2 labels"));
        assert!(message(Dataset::new(vec![1.0; 4], vec![0, 2], 2, 2)).contains("row 1 has label 2 of 2 classes"));
        assert!(message(Dataset::new(vec![1.0, f32::NAN], vec![0], 2, 2)).contains("row 0, feature 1 is NaN"));
        assert!(message(Dataset::new(vec![], vec![], 0, 2)).contains("width 0"));
        assert!(message(Dataset::new(vec![], vec![], 2, 0)).contains("classes 0"));
    }

    #[test]
    fn relabelling_sees_only_old_labels_and_changes_nothing_on_error() {
        let mut data = small();
        data.relabel(|_, label| 2 - label).unwrap();
        assert_eq!(data.labels(), [2, 0, 1]);
        let error = data.relabel(|row, label| if row == 2 { 3 } else { label }).unwrap_err();
        assert!(error.to_string().contains("row 2 would change from label 1 to 3"), "{error}");
        assert_eq!(data.labels(), [2, 0, 1]);
    }

    #[test]
    fn the_digest_depends_on_every_part() {
        let data = small();
        let mut flipped = data.clone();
        flipped.relabel(|row, label| if row == 0 { 1 } else { label }).unwrap();
        let wider = Dataset::new(data.features().to_vec(), vec![0, 2], 3, 3).unwrap();
        let other = Dataset::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 7.0], vec![0, 2, 1], 2, 3).unwrap();
        let digests = [data.digest(), flipped.digest(), wider.digest(), other.digest()];
        assert_eq!(data.digest(), small().digest());
        for (i, one) in digests.iter().enumerate() {
            assert_eq!(one.len(), 64);
            assert!(digests[..i].iter().all(|other| other != one));
        }
    }
}
