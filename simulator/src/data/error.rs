//! What can be wrong with data, said with the place, the value and the fix.

use std::path::{Path, PathBuf};

/// Why a data set was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file could not be opened or read, or its compression is damaged.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a CSV file is wrong.
    #[error("{file}, line {line}{}: {problem}; {fix}", column.as_deref().map(|c| format!(", {c}")).unwrap_or_default())]
    Csv {
        /// The file, or whatever name the caller gave.
        file: String,
        /// Line, counted from 1.
        line: u64,
        /// Column as "column 3" or "column 3 (age)", if one is to blame.
        column: Option<String>,
        /// What is wrong, with the value found.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// An IDX file is wrong.
    #[error("{file}: {problem}; {fix}")]
    Idx {
        /// The file, or whatever name the caller gave.
        file: String,
        /// What is wrong, with the value found.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// An NPZ file is wrong.
    #[error("{file}{}: {problem}; {fix}", array.as_deref().map(|array| format!(", array {array}")).unwrap_or_default())]
    Npz {
        /// The file, or whatever name the caller gave.
        file: String,
        /// The array to blame, if it is one.
        array: Option<String>,
        /// What is wrong, with the value found.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// Larger than the caller's [`Limits`](crate::data::Limits).
    #[error("{file}: {found} {what} exceed the limit of {limit}; use a smaller file or raise the limit `{what}`")]
    Limit {
        /// The file, or whatever name the caller gave.
        file: String,
        /// Which limit: `bytes`, `rows`, `columns`, `values` or `classes`.
        what: &'static str,
        /// What the file holds or claims to hold ("more than N" for bytes).
        found: String,
        /// The limit.
        limit: u64,
    },
    /// Features and labels do not form a data set.
    #[error("{problem}; {fix}")]
    Invalid {
        /// What is wrong, with the value found.
        problem: String,
        /// What to do.
        fix: String,
    },
}

impl DataError {
    /// Whether it is this file's.
    pub(crate) fn is_about(&self, path: &Path) -> bool {
        match self {
            Self::Read { path: file, .. } => file == path,
            Self::Csv { file, .. } | Self::Idx { file, .. } | Self::Npz { file, .. } | Self::Limit { file, .. } => {
                *file == path.display().to_string()
            }
            Self::Invalid { .. } => false,
        }
    }
}

/// Shortens what a hostile file may have put into a message.
pub(crate) fn shown(value: &str) -> String {
    const LONGEST: usize = 40;
    let escaped: String = value.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if value.chars().nth(LONGEST).is_some() { format!("\"{escaped}…\"") } else { format!("\"{escaped}\"") }
}
