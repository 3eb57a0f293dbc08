//! Audit events, and the consistency check of the whole ledger.

use super::{
    super::{EventRow, StoreError},
    backend, budget,
    column::{get, limit, unsigned},
    seat::BULK,
};
use serde_json::Value;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use testudo_protocol::TaskName;

/// An event about to be written; its sequence is the next one.
pub(super) struct Event {
    pub(super) at: i64,
    pub(super) kind: &'static str,
    pub(super) task: String,
    pub(super) body: Value,
}

impl Event {
    pub(super) fn of(task: &TaskName, kind: &'static str, at: i64, body: Value) -> Self {
        Self { at, kind, task: task.to_string(), body }
    }
}

/// Writes one event in the transaction of the change it tells of.
pub(super) async fn append(connection: &mut SqliteConnection, event: Event) -> Result<(), StoreError> {
    append_all(connection, &[event]).await
}

/// Writes events in order.
pub(super) async fn append_all(connection: &mut SqliteConnection, events: &[Event]) -> Result<(), StoreError> {
    for events in events.chunks(BULK) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO audit_event (at, kind, task, body) ");
        insert.push_values(events, |mut row, event| {
            row.push_bind(event.at)
                .push_bind(event.kind)
                .push_bind(event.task.clone())
                .push_bind(event.body.to_string());
        });
        insert.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
    }
    Ok(())
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    after: u64,
    most: usize,
) -> Result<Vec<EventRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM audit_event WHERE sequence > ? ORDER BY sequence LIMIT ?")
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(limit(most))
        .fetch_all(connection)
        .await
        .map_err(backend)?;
    rows.iter()
        .map(|row| {
            Ok(EventRow {
                sequence: unsigned(row, "sequence")?,
                at: unsigned(row, "at")?,
                kind: get(row, "kind")?,
                task: get(row, "task")?,
                body: get(row, "body")?,
            })
        })
        .collect()
}

/// Each statement names what it found wrong; no rows means sound.
const INVARIANTS: [&str; 7] = [
    "SELECT 'audit events have gaps: ' || count(*) || ' events up to number ' || max(sequence)
       FROM audit_event HAVING count(*) <> coalesce(max(sequence), 0)",
    "SELECT 'table ' || \"table\" || ' refers to a missing row of ' || parent FROM pragma_foreign_key_check LIMIT 1",
    "SELECT 'task ' || name || ' does not match its rounds'
       FROM task LEFT JOIN (
            SELECT task, max(number) AS newest, count(*) AS number,
                   sum(state = 'released') AS released, sum(state = 'abandoned') AS abandoned
              FROM round GROUP BY task) AS rounds ON rounds.task = task.id
      WHERE task.last_round <> coalesce(newest, 0) OR task.last_round <> coalesce(number, 0)
         OR task.released <> coalesce(rounds.released, 0) OR task.abandoned <> coalesce(rounds.abandoned, 0)",
    "SELECT 'task ' || task.name || ' does not have the model of its newest release'
       FROM task LEFT JOIN round ON round.id = (
            SELECT id FROM round WHERE round.task = task.id AND state = 'released' ORDER BY number DESC LIMIT 1)
      WHERE task.model <> coalesce(round.model, task.initial)",
    "SELECT 'round ' || number || ' of task ' || name || ' does not match its seats'
       FROM round JOIN task ON task.id = round.task LEFT JOIN (
            SELECT round, count(*) AS selected, sum(verdict IN ('accepted', 'clipped', 'trimmed')) AS accepted,
                   sum(verdict = 'rejected') AS rejected, sum(verdict = 'dropout') AS dropouts
              FROM seat GROUP BY round) AS seats ON seats.round = round.id LEFT JOIN (
            SELECT round, count(*) AS received FROM upload GROUP BY round) AS uploads ON uploads.round = round.id
      WHERE round.selected <> coalesce(seats.selected, 0) OR round.received <> coalesce(uploads.received, 0)
         OR round.accepted <> coalesce(seats.accepted, 0) OR round.rejected <> coalesce(seats.rejected, 0)
         OR round.dropouts <> coalesce(seats.dropouts, 0)",
    "SELECT 'round ' || number || ' of task ' || name || ' has ended and still holds bodies'
       FROM upload JOIN round ON round.id = upload.round JOIN task ON task.id = round.task
      WHERE round.state IN ('released', 'abandoned') AND (inline IS NOT NULL OR spool_key IS NOT NULL) LIMIT 1",
    "SELECT 'round ' || number || ' of task ' || name || ' does not match its reservation or charge'
       FROM round JOIN task ON task.id = round.task LEFT JOIN plan ON plan.task = task.id
            LEFT JOIN charge ON charge.account = round.charge_account AND charge.position = round.charge_position
      WHERE (reservation = 'spent') <> (charge_head IS NOT NULL) OR (reservation IS NULL AND charge_head IS NOT NULL)
         OR (charge_head IS NOT NULL AND (charge.hash IS NOT charge_head OR charge.task <> task.name
             OR charge.round <> round.number OR charge.account <> plan.account))
         OR (plan.task IS NOT NULL) <> (reservation IS NOT NULL)
         OR (round.state = 'open' AND reservation <> 'reserved')
         OR (round.state = 'closing' AND reservation <> 'finalising')
         OR (round.state = 'released' AND reservation <> 'spent')
         OR (round.state = 'abandoned' AND reservation NOT IN ('spent', 'returned'))",
];

/// SQLite's own check of every page, then ours of every row.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let findings = sqlx::query("PRAGMA integrity_check(10)").fetch_all(&mut *connection).await.map_err(unsound)?;
    for finding in &findings {
        let text: String = finding.try_get(0).map_err(backend)?;
        if text != "ok" {
            return Err(unsound(text));
        }
    }
    for invariant in INVARIANTS {
        let finding: Option<String> =
            sqlx::query_scalar(invariant).fetch_optional(&mut *connection).await.map_err(unsound)?;
        if let Some(text) = finding {
            return Err(unsound(text));
        }
    }
    if let Some(text) = budget::check(connection).await? {
        return Err(unsound(text));
    }
    Ok(())
}

fn unsound(finding: impl std::fmt::Display) -> StoreError {
    StoreError::Backend(format!("the consistency check failed: {finding}. Stop the server and restore a backup"))
}
