//! Our types in SQLite's columns and back.

use super::super::{RoundState, StoreError, TaskState};
use sqlx::{Decode, Row as _, Sqlite, Type, sqlite::SqliteRow};
use testudo_protocol::{ClientId, Digest, Nonce, Reason, TaskName, Verdict};

/// SQLite's integers are signed: refuses what would not read back as it was.
pub(super) fn integer(value: u64, what: &str) -> Result<i64, StoreError> {
    i64::try_from(value)
        .map_err(|_| StoreError::Backend(format!("{what} {value} is over {}; nothing was changed", i64::MAX)))
}

/// A limit of a listing, where everything above the signed range means the same.
pub(super) fn limit(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Refuses numbers that SQLite would store as NULL or that no update that passed the door can have.
pub(super) fn finite(value: f64, what: &str) -> Result<f64, StoreError> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(StoreError::Backend(format!("{what} {value} is not finite; nothing was changed")))
}

pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: &str) -> Result<T, StoreError> {
    row.try_get(column).map_err(super::backend)
}

pub(super) fn unsigned(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| damaged(column, "is negative"))
}

pub(super) fn optional_unsigned(row: &SqliteRow, column: &str) -> Result<Option<u64>, StoreError> {
    let value: Option<i64> = get(row, column)?;
    value.map(|value| u64::try_from(value).map_err(|_| damaged(column, "is negative"))).transpose()
}

pub(super) fn size(row: &SqliteRow, column: &str) -> Result<usize, StoreError> {
    usize::try_from(unsigned(row, column)?).map_err(|_| damaged(column, "does not fit this machine"))
}

pub(super) fn digest(row: &SqliteRow, column: &str) -> Result<Digest, StoreError> {
    Digest::try_from(get::<&[u8]>(row, column)?).map_err(|error| damaged(column, error))
}

pub(super) fn optional_digest(row: &SqliteRow, column: &str) -> Result<Option<Digest>, StoreError> {
    let bytes: Option<&[u8]> = get(row, column)?;
    bytes.map(|bytes| Digest::try_from(bytes).map_err(|error| damaged(column, error))).transpose()
}

pub(super) fn nonce(row: &SqliteRow, column: &str) -> Result<Nonce, StoreError> {
    Nonce::try_from(get::<&[u8]>(row, column)?).map_err(|error| damaged(column, error))
}

pub(super) fn seed(row: &SqliteRow, column: &str) -> Result<[u8; 32], StoreError> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| damaged(column, "is not 32 bytes"))
}

pub(super) fn notes(row: &SqliteRow, column: &str) -> Result<Vec<(String, f64)>, StoreError> {
    serde_json::from_str(get::<&str>(row, column)?).map_err(|_| damaged(column, "is not a list of names and numbers"))
}

pub(super) fn client(row: &SqliteRow, column: &str) -> Result<ClientId, StoreError> {
    ClientId::new(get::<&str>(row, column)?).map_err(|error| damaged(column, error))
}

pub(super) fn task_name(row: &SqliteRow, column: &str) -> Result<TaskName, StoreError> {
    TaskName::new(get::<&str>(row, column)?).map_err(|error| damaged(column, error))
}

/// The verdict in columns `verdict`, `reason` and `value`.
pub(super) fn verdict(row: &SqliteRow) -> Result<Verdict, StoreError> {
    let reason: Option<&str> = get(row, "reason")?;
    let reason = reason.map(str::parse::<Reason>).transpose().map_err(|error| damaged("reason", error))?;
    Verdict::from_parts(get(row, "verdict")?, reason, get(row, "value")?)
        .ok_or_else(|| damaged("verdict", "does not fit its reason"))
}

pub(super) fn task_state(row: &SqliteRow) -> Result<TaskState, StoreError> {
    use TaskState::{Failed, Finished, Paused, Running, Stopped};
    let word: &str = get(row, "state")?;
    [Running, Paused, Finished, Stopped, Failed]
        .into_iter()
        .find(|state| state.word() == word)
        .ok_or_else(|| damaged("state", word))
}

pub(super) fn round_state(row: &SqliteRow) -> Result<RoundState, StoreError> {
    use RoundState::{Abandoned, Closing, Open, Released};
    let word: &str = get(row, "state")?;
    [Open, Closing, Released, Abandoned]
        .into_iter()
        .find(|state| state.word() == word)
        .ok_or_else(|| damaged("state", word))
}

/// A column that holds what no version of this program writes.
pub(super) fn damaged(column: &str, what: impl std::fmt::Display) -> StoreError {
    StoreError::Backend(format!("column {column} is damaged: {what}; run the consistency check and restore a backup"))
}
