//! What the machine of a masked round was told, until the round ends.

use super::{
    super::{RoundState, StoreError},
    backend,
    column::{get, integer, unsigned},
    round::{self, Head},
};
use sqlx::SqliteConnection;
use testudo_protocol::TaskName;

pub(super) async fn append(
    connection: &mut SqliteConnection,
    at: (&TaskName, u64),
    first: u64,
    bodies: &[String],
) -> Result<(), StoreError> {
    let head = round::find(connection, at).await?;
    if head.row.state != RoundState::Open {
        return Err(head.wrong_state());
    }
    let next: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(sequence) + 1, 0) FROM round_input WHERE round = ?")
        .bind(head.id)
        .fetch_one(&mut *connection)
        .await
        .map_err(backend)?;
    let first = integer(first, "sequence")?;
    if first < next {
        // A caller that never learnt the result of its write calls again.
        let known = all(connection, at).await?;
        let from = usize::try_from(first).unwrap_or(usize::MAX);
        if !bodies.is_empty() && known.get(from..).is_some_and(|known| known == bodies) {
            return Ok(());
        }
    }
    if first != next {
        let what = format!("input {first} of {}", round::what(at.0, at.1));
        return Err(StoreError::WrongState { what, state: format!("not the next one, {next}") });
    }
    for (sequence, body) in (first..).zip(bodies) {
        sqlx::query("INSERT INTO round_input (round, sequence, body) VALUES (?, ?, ?)")
            .bind(head.id)
            .bind(sequence)
            .bind(body)
            .execute(&mut *connection)
            .await
            .map_err(backend)?;
    }
    Ok(())
}

pub(super) async fn all(connection: &mut SqliteConnection, at: (&TaskName, u64)) -> Result<Vec<String>, StoreError> {
    let head = round::find(connection, at).await?;
    let rows = sqlx::query("SELECT sequence, body FROM round_input WHERE round = ? ORDER BY sequence")
        .bind(head.id)
        .fetch_all(&mut *connection)
        .await
        .map_err(backend)?;
    let mut bodies = Vec::with_capacity(rows.len());
    for (expected, row) in (0..).zip(&rows) {
        if unsigned(row, "sequence")? != expected {
            return Err(StoreError::Backend(format!("the ledger is damaged: input {expected} of a round is missing")));
        }
        bodies.push(get(row, "body")?);
    }
    Ok(bodies)
}

/// Once a round has ended nothing of what its clients said is kept.
pub(super) async fn forget(connection: &mut SqliteConnection, head: &Head) -> Result<(), StoreError> {
    let deleted = sqlx::query("DELETE FROM round_input WHERE round = ?").bind(head.id).execute(connection).await;
    deleted.map(|_| ()).map_err(backend)
}
