//! IDX files, the format of the MNIST family: a big-endian header, then the values. Gzip is accepted.
//!
//! Header: two zero bytes, the type (8 = unsigned byte, 13 = 32-bit float), the number of dimensions, then each
//! dimension as a 32-bit integer. The first dimension counts the examples.

use std::io::Read;
use std::path::Path;

use super::input::{check_limit, open, read_bounded};
use super::{DataError, Dataset, Limits};

/// Reads the pair of files `features` (dimensions n x …) and `labels` (n bytes).
///
/// Bytes become features in 0..=1 (divided by 255); floats are taken as they are. Classes: the largest label plus one,
/// at least 2.
///
/// # Errors
/// [`DataError`] naming the file, the value and the fix: unreadable or damaged files, wrong magic number, type or
/// dimensions, a length that differs from the header, different counts of features and labels, features that are not
/// finite, more than the limits allow.
pub fn load(features: &Path, labels: &Path, limits: &Limits) -> Result<Dataset, DataError> {
    let name = |path: &Path| path.display().to_string();
    read((open(features)?, &name(features)), (open(labels)?, &name(labels)), limits)
}

/// As [`load`], from any two inputs, each with the name used in errors.
///
/// # Errors
/// As [`load`].
pub fn read(features: (impl Read, &str), labels: (impl Read, &str), limits: &Limits) -> Result<Dataset, DataError> {
    // Labels first: they are small, and they tell how many features to expect.
    let label_bytes = read_bounded(labels.0, labels.1, limits.bytes)?;
    let label_header = Header::parse(&label_bytes, labels.1)?;
    if label_header.kind != Kind::Byte || label_header.dimensions.len() != 1 {
        return Err(wrong(
            labels.1,
            format!("type {}, {} dimension(s)", label_header.kind.code(), label_header.dimensions.len()),
            "labels must be unsigned bytes (type 8) in one dimension; are the two files swapped?",
        ));
    }
    let rows = label_header.dimensions[0];
    check_limit(labels.1, "rows", rows, limits.rows)?;
    let label_values = label_header.payload(&label_bytes, labels.1, rows)?;

    let bytes = read_bounded(features.0, features.1, limits.bytes)?;
    let header = Header::parse(&bytes, features.1)?;
    if header.dimensions[0] != rows {
        return Err(wrong(
            features.1,
            format!("{} examples, but {} holds {rows} labels", header.dimensions[0], labels.1),
            "give the two files of the same part of the data set",
        ));
    }
    let width = header.width(features.1, limits)?;
    let count = header.dimensions[0].saturating_mul(width);
    check_limit(features.1, "values", count, limits.values)?;
    let values = header.payload(&bytes, features.1, count)?;

    let classes = label_values.iter().max().map_or(0, |label| usize::from(*label) + 1).max(2);
    check_limit(labels.1, "classes", classes, limits.classes)?;
    let numbers: Vec<f32> = match header.kind {
        Kind::Byte => values.iter().map(|byte| f32::from(*byte) / 255.0).collect(),
        Kind::Float => values.as_chunks::<4>().0.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect(),
    };
    if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
        let problem = format!("example {}, value {} is {}", index / width, index % width, numbers[index]);
        return Err(wrong(features.1, problem, "replace it or remove the example"));
    }
    Dataset::new(numbers, label_values.iter().map(|byte| u16::from(*byte)).collect(), width, classes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Byte,
    Float,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Byte => 8,
            Self::Float => 13,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Float => 4,
        }
    }
}

struct Header {
    kind: Kind,
    dimensions: Vec<usize>,
}

impl Header {
    fn parse(bytes: &[u8], file: &str) -> Result<Self, DataError> {
        let Some((&[zero, second, kind, count], rest)) = bytes.split_first_chunk::<4>() else {
            return Err(wrong(file, format!("{} bytes are too few for a header", bytes.len()), "give an IDX file"));
        };
        if (zero, second) != (0, 0) {
            let problem = format!("starts with the bytes {zero:02x} {second:02x} instead of 00 00");
            return Err(wrong(file, problem, "give an IDX file (train-images-idx3-ubyte and the like)"));
        }
        let kind = match kind {
            8 => Kind::Byte,
            13 => Kind::Float,
            other => {
                let fix = "only unsigned bytes (8) and 32-bit floats (13) are read; convert the file";
                return Err(wrong(file, format!("value type {other}"), fix));
            }
        };
        if !(1..=4).contains(&count) {
            return Err(wrong(file, format!("{count} dimensions"), "1 to 4 are read"));
        }
        let count = usize::from(count);
        let (sizes, _) = rest.as_chunks::<4>();
        if sizes.len() < count {
            return Err(wrong(file, "ends inside the header".to_owned(), "the file is truncated; fetch it again"));
        }
        let dimensions = sizes[..count].iter().map(|size| u32::from_be_bytes(*size) as usize).collect();
        Ok(Self { kind, dimensions })
    }

    /// Values per example.
    fn width(&self, file: &str, limits: &Limits) -> Result<usize, DataError> {
        let width = self.dimensions[1..].iter().try_fold(1_usize, |width, size| width.checked_mul(*size));
        let width = width.unwrap_or(usize::MAX);
        check_limit(file, "columns", width, limits.columns)?;
        if width == 0 {
            return Err(wrong(file, format!("dimensions {:?}", self.dimensions), "every dimension must be at least 1"));
        }
        Ok(width)
    }

    /// The bytes after the header, which must be exactly `count` values.
    fn payload<'a>(&self, bytes: &'a [u8], file: &str, count: usize) -> Result<&'a [u8], DataError> {
        let values = &bytes[4 + 4 * self.dimensions.len()..];
        let expected = count.checked_mul(self.kind.size());
        if expected != Some(values.len()) {
            let problem = format!("{} bytes follow a header that announces {count} values", values.len());
            return Err(wrong(file, problem, "the file is truncated or has something appended; fetch it again"));
        }
        if count == 0 {
            return Err(wrong(file, "no examples".to_owned(), "give at least one"));
        }
        Ok(values)
    }
}

fn wrong(file: &str, problem: String, fix: &str) -> DataError {
    DataError::Idx { file: file.to_owned(), problem, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests;
