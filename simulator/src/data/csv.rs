//! CSV files: one example per line, numbers separated by commas, one column holding the label. Gzip is accepted.

use std::io::Read;
use std::path::Path;

use ::csv::{ByteRecord, ReaderBuilder, Trim};

use super::error::shown;
use super::input::{check_limit, open, read_bounded};
use super::{DataError, Dataset, Limits};

/// Which column is the label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LabelColumn {
    /// The last one.
    #[default]
    Last,
    /// The one whose header is exactly this.
    Named(String),
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// It does if any of its cells is not a number.
    #[default]
    Detect,
    /// It does.
    Present,
    /// It does not.
    Absent,
}

/// How to read a CSV file.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which column is the label.
    pub label: LabelColumn,
    /// Whether the first line names the columns.
    pub header: Header,
    /// Every feature is multiplied by this.
    pub scale: f32,
    /// Number of classes; `None`: the largest label plus one.
    pub classes: Option<usize>,
    /// How much may be read.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { label: LabelColumn::Last, header: Header::Detect, scale: 1.0, classes: None, limits: Limits::default() }
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// [`DataError`] naming the file, line, column, value and fix: unreadable or damaged files, rows of different length,
/// cells that are empty, not numbers or not finite, labels that are not whole numbers from 0, fewer than two classes,
/// more than the limits allow.
pub fn load(path: &Path, options: &Options) -> Result<Dataset, DataError> {
    read(open(path)?, &path.display().to_string(), options)
}

/// Reads from `input`; `file` is the name used in errors.
///
/// # Errors
/// As [`load`].
pub fn read(input: impl Read, file: &str, options: &Options) -> Result<Dataset, DataError> {
    let bytes = read_bounded(input, file, options.limits.bytes)?;
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(&bytes[..]);
    let mut record = ByteRecord::new();
    let mut table: Option<Table<'_>> = None;
    loop {
        let more = reader
            .read_byte_record(&mut record)
            .map_err(|error| DataError::Read { path: file.into(), source: std::io::Error::other(error) })?;
        if !more {
            break;
        }
        let line = record.position().map_or(0, ::csv::Position::line);
        match &mut table {
            Some(table) => table.push(line, &record)?,
            None => table = Some(Table::begin(file, options, line, &record)?),
        }
    }
    let Some(table) = table.filter(|table| !table.labels.is_empty()) else {
        return Err(DataError::Csv {
            file: file.to_owned(),
            line: 1,
            column: None,
            problem: "no examples".to_owned(),
            fix: "give at least one line of numbers".to_owned(),
        });
    };
    table.finish()
}

/// The examples read so far.
struct Table<'a> {
    file: &'a str,
    options: &'a Options,
    names: Option<Vec<String>>,
    columns: usize,
    label: usize,
    features: Vec<f32>,
    labels: Vec<u16>,
    highest: (u16, u64),
}

impl<'a> Table<'a> {
    fn begin(file: &'a str, options: &'a Options, line: u64, first: &ByteRecord) -> Result<Self, DataError> {
        check_limit(file, "columns", first.len(), options.limits.columns)?;
        let mut table = Self {
            file,
            options,
            names: None,
            columns: first.len(),
            label: first.len().saturating_sub(1),
            features: Vec::new(),
            labels: Vec::new(),
            highest: (0, line),
        };
        if first.len() < 2 {
            return Err(table.wrong(
                line,
                None,
                format!("{} column(s)", first.len()),
                "give at least one feature and the label, separated by commas",
            ));
        }
        let numeric = first.iter().all(|cell| text(cell).is_some_and(|cell| cell.parse::<f64>().is_ok()));
        let header = match options.header {
            Header::Detect => !numeric,
            Header::Present => true,
            Header::Absent => false,
        };
        if header {
            table.names = Some(first.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect());
        }
        if let LabelColumn::Named(wanted) = &options.label {
            table.label = table.find_label(line, wanted)?;
        }
        if !header {
            table.push(line, first)?;
        }
        Ok(table)
    }

    fn find_label(&self, line: u64, wanted: &str) -> Result<usize, DataError> {
        let Some(names) = &self.names else {
            return Err(self.wrong(
                line,
                None,
                format!("label column {} is wanted, but the first line holds only numbers", shown(wanted)),
                "add a line of column names, or use the last column",
            ));
        };
        let mut found = (0..names.len()).filter(|&column| names[column] == wanted);
        match (found.next(), found.next()) {
            (Some(column), None) => Ok(column),
            (None, _) => {
                let known: Vec<String> = names.iter().take(20).map(|name| shown(name)).collect();
                let problem = format!("no column named {}", shown(wanted));
                Err(self.wrong(line, None, problem, &format!("name one of {}", known.join(", "))))
            }
            (Some(_), Some(_)) => {
                let problem = format!("two columns are named {}", shown(wanted));
                Err(self.wrong(line, None, problem, "give the label column a name of its own"))
            }
        }
    }

    fn push(&mut self, line: u64, record: &ByteRecord) -> Result<(), DataError> {
        if record.len() != self.columns {
            let problem = format!("{} columns instead of {}", record.len(), self.columns);
            return Err(self.wrong(line, None, problem, "give every line the same number of columns"));
        }
        check_limit(self.file, "rows", self.labels.len() + 1, self.options.limits.rows)?;
        check_limit(self.file, "values", self.features.len() + self.columns - 1, self.options.limits.values)?;
        for (column, cell) in record.iter().enumerate() {
            if column == self.label {
                let label = self.parse_label(line, column, cell)?;
                if label > self.highest.0 {
                    self.highest = (label, line);
                }
                self.labels.push(label);
            } else {
                let value = self.parse_feature(line, column, cell)?;
                self.features.push(value);
            }
        }
        Ok(())
    }

    fn parse_feature(&self, line: u64, column: usize, cell: &[u8]) -> Result<f32, DataError> {
        if cell.is_empty() {
            return Err(self.wrong(line, Some(column), "empty cell".to_owned(), "fill it or remove the line"));
        }
        let parsed = text(cell).and_then(|cell| cell.parse::<f32>().ok());
        let Some(value) = parsed else {
            let problem = format!("{} is not a number", shown(&String::from_utf8_lossy(cell)));
            return Err(self.wrong(line, Some(column), problem, "write a decimal number such as 0.5"));
        };
        let scaled = value * self.options.scale;
        if !scaled.is_finite() {
            let problem = format!("{} is not finite in 32 bits", shown(&String::from_utf8_lossy(cell)));
            return Err(self.wrong(line, Some(column), problem, "replace it or remove the line"));
        }
        Ok(scaled)
    }

    fn parse_label(&self, line: u64, column: usize, cell: &[u8]) -> Result<u16, DataError> {
        let wanted = self.options.classes.unwrap_or(self.options.limits.classes).min(self.options.limits.classes);
        let number = text(cell).and_then(|cell| cell.parse::<f64>().ok());
        match number {
            // `as` is exact here: a whole number in 0..=65,535.
            Some(number)
                if number.fract() == 0.0 && (0.0..=65_535.0).contains(&number) && (number as usize) < wanted =>
            {
                Ok(number as u16)
            }
            _ => {
                let problem = format!("label {} is not a class", shown(&String::from_utf8_lossy(cell)));
                Err(self.wrong(
                    line,
                    Some(column),
                    problem,
                    &format!("labels are whole numbers from 0 to {}", wanted.saturating_sub(1)),
                ))
            }
        }
    }

    fn finish(self) -> Result<Dataset, DataError> {
        let classes = self.options.classes.unwrap_or(usize::from(self.highest.0) + 1);
        if classes < 2 {
            let problem = "every label is 0".to_owned();
            let fix = "give at least two classes, or check which column is the label";
            return Err(self.wrong(self.highest.1, Some(self.label), problem, fix));
        }
        Dataset::new(self.features, self.labels, self.columns - 1, classes)
    }

    fn wrong(&self, line: u64, column: Option<usize>, problem: String, fix: &str) -> DataError {
        let column = column.map(|column| match self.names.as_ref().and_then(|names| names.get(column)) {
            Some(name) => format!("column {} ({})", column + 1, shown(name).trim_matches('"')),
            None => format!("column {}", column + 1),
        });
        DataError::Csv { file: self.file.to_owned(), line, column, problem, fix: fix.to_owned() }
    }
}

fn text(cell: &[u8]) -> Option<&str> {
    std::str::from_utf8(cell).ok()
}

#[cfg(test)]
mod tests;
