//! Tasks.

use super::{
    super::{NewTask, StoreError, TaskRow, TaskState},
    audit::{self, Event},
    backend, budget,
    column::{digest, get, integer, optional_digest, task_name, task_state, unsigned},
    run,
    seal::Sealer,
};
use serde_json::json;
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use testudo_protocol::{Digest, TaskName, Tick};

pub(super) async fn create(
    connection: &mut SqliteConnection,
    task: &NewTask,
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let at = integer(task.at, "tick")?;
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO task (name, toml, state, initial, model, created_at) VALUES (?1, ?2, 'running', ?3, ?3, ?4)
         ON CONFLICT (name) DO NOTHING RETURNING id",
    )
    .bind(task.name.as_str())
    .bind(task.toml.as_str())
    .bind(&task.model.0[..])
    .bind(at)
    .fetch_optional(&mut *connection)
    .await
    .map_err(backend)?;
    let Some(id) = id else { return Err(StoreError::Exists { what: what(&task.name) }) };
    let plan = budget::plan(connection, id, task, at).await?;
    run::plan(connection, id, task, sealer).await?;
    let body = json!({
        "model": task.model.to_string(),
        "toml_sha256": Digest::of(task.toml.as_bytes()).to_string(),
        "budget": plan,
    });
    audit::append(connection, Event::of(&task.name, "create_task", at, body)).await
}

pub(super) async fn all(connection: &mut SqliteConnection) -> Result<Vec<TaskRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM task ORDER BY id").fetch_all(connection).await.map_err(backend)?;
    rows.iter().map(read).collect()
}

/// A task and its key.
pub(super) async fn find(connection: &mut SqliteConnection, name: &TaskName) -> Result<(i64, TaskRow), StoreError> {
    let row = sqlx::query("SELECT * FROM task WHERE name = ?")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(backend)?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: what(name) })?;
    Ok((get(&row, "id")?, read(&row)?))
}

pub(super) async fn refers(connection: &mut SqliteConnection, blob: &Digest, keep: u64) -> Result<bool, StoreError> {
    let keep = integer(keep, "number of rounds")?;
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM task WHERE ?1 IN (initial, model, optimizer))
             OR EXISTS (SELECT 1 FROM round JOIN task ON task.id = round.task
                        WHERE round.model = ?1 AND (?2 = 0 OR round.number > task.last_round - ?2)) AS found",
    )
    .bind(&blob.0[..])
    .bind(keep)
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    get(&row, "found")
}

pub(super) async fn set_state(
    connection: &mut SqliteConnection,
    name: &TaskName,
    state: TaskState,
    why: &str,
    at: Tick,
) -> Result<(), StoreError> {
    let at = integer(at, "tick")?;
    let (id, task) = find(connection, name).await?;
    if task.state == state {
        return Ok(());
    }
    if !matches!(task.state, TaskState::Running | TaskState::Paused) {
        return Err(StoreError::WrongState { what: what(name), state: task.state.word().into() });
    }
    if state == TaskState::Finished {
        let state = format!("{}: only the release of its last round finishes it", task.state.word());
        return Err(StoreError::WrongState { what: what(name), state });
    }
    sqlx::query("UPDATE task SET state = ?, why = ? WHERE id = ?")
        .bind(state.word())
        .bind(why)
        .bind(id)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    if matches!(state, TaskState::Stopped | TaskState::Failed) {
        budget::end_plan(connection, name).await?;
    }
    let body = json!({ "from": task.state.word(), "to": state.word(), "why": why });
    audit::append(connection, Event::of(name, "set_task_state", at, body)).await
}

pub(super) fn what(name: &TaskName) -> String {
    format!("task {name}")
}

fn read(row: &SqliteRow) -> Result<TaskRow, StoreError> {
    Ok(TaskRow {
        name: task_name(row, "name")?,
        toml: get(row, "toml")?,
        state: task_state(row)?,
        why: get(row, "why")?,
        initial: digest(row, "initial")?,
        model: digest(row, "model")?,
        optimizer: optional_digest(row, "optimizer")?,
        last_round: unsigned(row, "last_round")?,
        released: unsigned(row, "released")?,
        abandoned: unsigned(row, "abandoned")?,
        created_at: unsigned(row, "created_at")?,
    })
}
