//! Rounds, from opening to their end.

use super::{
    super::{Counts, Judged, NewRound, Release, RoundRow, RoundState, StoreError, TaskState},
    audit::{self, Event},
    backend, budget,
    column::{
        digest, finite, get, integer, limit, notes, optional_digest, optional_unsigned, round_state, seed, size,
        unsigned,
    },
    input, run,
    seat::{self, End},
    task,
};
use serde_json::json;
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeSet;
use testudo_protocol::{Abandon, ClientId, TaskName, Tick};

/// A round's key and its row without seats.
pub(super) struct Head {
    pub(super) id: i64,
    pub(super) row: RoundRow,
    /// Whether the survivors were ever fixed.
    closed: bool,
    /// Whether its release is charged to a privacy budget.
    pub(super) private: bool,
}

/// What a closing round keeps of its noise.
#[derive(PartialEq, Eq)]
pub(super) enum Noise {
    None,
    /// Its seed, sealed.
    Sealed(Vec<u8>),
    /// What a step of a correlated run sums.
    Step([u8; 32]),
}

impl Head {
    pub(super) fn wrong_state(&self) -> StoreError {
        StoreError::WrongState { what: what(&self.row.task, self.row.number), state: self.row.state.word().into() }
    }
}

pub(super) fn what(task: &TaskName, number: u64) -> String {
    format!("round {number} of task {task}")
}

/// A round by number. `NotFound` if the task or the round is not there.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    (task, number): (&TaskName, u64),
) -> Result<Head, StoreError> {
    let row = sqlx::query(
        "SELECT round.* FROM round JOIN task ON task.id = round.task WHERE task.name = ? AND round.number = ?",
    )
    .bind(task.as_str())
    .bind(i64::try_from(number).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await
    .map_err(backend)?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: what(task, number) })?;
    head(&row, task)
}

pub(super) async fn open(connection: &mut SqliteConnection, round: &NewRound) -> Result<(), StoreError> {
    let (id, task) = task::find(connection, &round.task).await?;
    let wrong = |what: String, state: String| Err(StoreError::WrongState { what, state });
    if task.state != TaskState::Running {
        return wrong(task::what(&round.task), task.state.word().into());
    }
    let busy: Option<i64> =
        sqlx::query_scalar("SELECT number FROM round WHERE task = ? AND state IN ('open', 'closing')")
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(backend)?;
    if let Some(busy) = busy {
        return wrong(task::what(&round.task), format!("busy with round {busy}"));
    }
    if round.number != task.last_round + 1 {
        return wrong(what(&round.task, round.number), format!("not the next one, {}", task.last_round + 1));
    }
    if round.base != task.model {
        let what = format!("base {} of {}", round.base, what(&round.task, round.number));
        return wrong(what, format!("not the task's newest model {}", task.model));
    }
    let mut clients = BTreeSet::new();
    if let Some((twice, _)) = round.cohort.iter().find(|(client, _)| !clients.insert(client)) {
        return Err(StoreError::Exists { what: seat::what(&round.task, round.number, twice) });
    }
    run::check_step(connection, id, round).await?;
    let at = integer(round.opened_at, "tick")?;
    let round_id: i64 = sqlx::query_scalar(
        "INSERT INTO round (task, number, state, base, seed, target, minimum, opened_at, closes_at, selected, step, secret)
         VALUES (?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(id)
    .bind(integer(round.number, "round number")?)
    .bind(&round.base.0[..])
    .bind(&round.seed[..])
    .bind(integer(round.target as u64, "target")?)
    .bind(integer(round.minimum as u64, "minimum")?)
    .bind(at)
    .bind(integer(round.closes_at, "tick")?)
    .bind(limit(round.cohort.len()))
    .bind(round.step.map(|step| integer(step, "step")).transpose()?)
    .bind(round.secret)
    .fetch_one(&mut *connection)
    .await
    .map_err(backend)?;
    seat::insert(connection, round_id, &round.cohort).await?;
    budget::reserve(connection, round_id, round).await?;
    sqlx::query("UPDATE task SET last_round = last_round + 1 WHERE id = ?")
        .bind(id)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    let body = json!({
        "round": round.number,
        "base": round.base.to_string(),
        "seed": hex::encode(round.seed),
        "selected": (!round.secret).then_some(round.cohort.len()),
        "target": round.target,
        "minimum": round.minimum,
        "closes_at": round.closes_at,
        "reserve": round.reserve,
        "step": round.step,
    });
    audit::append(connection, Event::of(&round.task, "open_round", at, body)).await
}

pub(super) async fn open_of(
    connection: &mut SqliteConnection,
    task: &TaskName,
) -> Result<Option<RoundRow>, StoreError> {
    let row = sqlx::query(
        "SELECT round.* FROM round JOIN task ON task.id = round.task
          WHERE task.name = ? AND round.state IN ('open', 'closing')",
    )
    .bind(task.as_str())
    .fetch_optional(&mut *connection)
    .await
    .map_err(backend)?;
    let Some(row) = row else { return Ok(None) };
    let mut head = head(&row, task)?;
    head.row.seats = seat::load(connection, head.id, true).await?;
    Ok(Some(head.row))
}

pub(super) async fn close(
    connection: &mut SqliteConnection,
    round: (&TaskName, u64),
    survivors: &[ClientId],
    noise: Noise,
    at: Tick,
) -> Result<(), StoreError> {
    let at = integer(at, "tick")?;
    let survivors: BTreeSet<ClientId> = survivors.iter().cloned().collect();
    let survivors = Vec::from_iter(survivors);
    let head = find(connection, round).await?;
    if head.closed {
        let fixed = seat::survivors(connection, head.id).await?;
        if fixed == survivors {
            return Ok(());
        }
        let state = format!("{} with other survivors, which are never changed", head.row.state.word());
        return Err(StoreError::WrongState { what: what(round.0, round.1), state });
    }
    if head.row.state != RoundState::Open {
        return Err(head.wrong_state());
    }
    seat::fix_survivors(connection, &head, &survivors).await?;
    budget::finalise(connection, &head).await?;
    let is_noised = noise != Noise::None;
    let (seed, manifest) = match noise {
        Noise::None => (None, None),
        Noise::Sealed(seed) => (Some(seed), None),
        Noise::Step(manifest) => (None, Some(manifest.to_vec())),
    };
    sqlx::query("UPDATE round SET state = 'closing', closed_at = ?, noise_seed = ?, manifest = ? WHERE id = ?")
        .bind(at)
        .bind(&seed)
        .bind(&manifest)
        .bind(head.id)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    let names: Vec<u8> = survivors.iter().flat_map(|client| [client.as_str().as_bytes(), b"\n"].concat()).collect();
    let told = |value: serde_json::Value| if head.row.secret { serde_json::Value::Null } else { value };
    let body = json!({
        "round": round.1,
        "survivors": told(json!(survivors.len())),
        "survivors_sha256": told(json!(testudo_protocol::Digest::of(&names).to_string())),
        "noise": is_noised,
    });
    audit::append(connection, Event::of(round.0, "close_round", at, body)).await
}

/// A closing round's seed as it is sealed.
pub(super) async fn noise_seed(
    connection: &mut SqliteConnection,
    round: (&TaskName, u64),
) -> Result<Option<Vec<u8>>, StoreError> {
    let head = find(connection, round).await?;
    sqlx::query_scalar("SELECT noise_seed FROM round WHERE id = ?")
        .bind(head.id)
        .fetch_one(connection)
        .await
        .map_err(backend)
}

pub(super) async fn release(connection: &mut SqliteConnection, release: &Release) -> Result<(), StoreError> {
    let at = integer(release.at, "tick")?;
    let norm = finite(release.aggregate_norm, "norm of the aggregate")?;
    let head = find(connection, (&release.task, release.number)).await?;
    match (head.row.state, &head.row.model) {
        (RoundState::Closing, _) => {}
        (RoundState::Released, Some(model)) if *model == release.model => return Ok(()),
        (RoundState::Released, Some(model)) => {
            let state = format!("released with another model, {model}");
            return Err(StoreError::WrongState { what: what(&release.task, release.number), state });
        }
        _ => return Err(head.wrong_state()),
    }
    seat::judge(connection, &head, &release.seats, at, End::Released).await?;
    input::forget(connection, &head).await?;
    let charge = budget::spend(connection, &head, release).await?;
    for (_, note) in &release.notes {
        finite(*note, "note")?;
    }
    let notes = json!(release.notes);
    sqlx::query(
        "UPDATE round SET state = 'released', model = ?, aggregate_norm = ?, notes = ?, ended_at = ?,
                noise_seed = NULL
          WHERE id = ?",
    )
    .bind(&release.model.0[..])
    .bind(norm)
    .bind(notes.to_string())
    .bind(at)
    .bind(head.id)
    .execute(&mut *connection)
    .await
    .map_err(backend)?;
    // A task stopped or failed meanwhile keeps that state: the release is its last one either way.
    sqlx::query(
        "UPDATE task SET model = ?, optimizer = ?, released = released + 1,
                state = CASE WHEN ? AND state IN ('running', 'paused') THEN 'finished' ELSE state END
          WHERE name = ?",
    )
    .bind(&release.model.0[..])
    .bind(release.optimizer.map(|digest| digest.0.to_vec()))
    .bind(release.finishes)
    .bind(release.task.as_str())
    .execute(&mut *connection)
    .await
    .map_err(backend)?;
    if release.finishes {
        budget::end_plan(connection, &release.task).await?;
    }
    let counts = find(connection, (&release.task, release.number)).await?.row.counts;
    let told = |count: u64| (!head.row.secret).then_some(count);
    let body = json!({
        "round": release.number,
        "model": release.model.to_string(),
        "optimizer": release.optimizer.map(|digest| digest.to_string()),
        "aggregate_norm": norm,
        "notes": notes,
        "received": told(counts.received),
        "accepted": told(counts.accepted),
        "rejected": told(counts.rejected),
        "dropouts": told(counts.dropouts),
        "finishes": release.finishes,
        "budget": charge,
    });
    audit::append(connection, Event::of(&release.task, "release", at, body)).await
}

pub(super) async fn abandon(
    connection: &mut SqliteConnection,
    round: (&TaskName, u64),
    why: &Abandon,
    seats: &[Judged],
    at: Tick,
) -> Result<(), StoreError> {
    let at = integer(at, "tick")?;
    let head = find(connection, round).await?;
    match head.row.state {
        RoundState::Open | RoundState::Closing => {}
        RoundState::Abandoned => return Ok(()),
        RoundState::Released => return Err(head.wrong_state()),
    }
    seat::judge(connection, &head, seats, at, End::Abandoned).await?;
    input::forget(connection, &head).await?;
    let charge = budget::give_up(connection, &head, why).await?;
    sqlx::query("UPDATE round SET state = 'abandoned', why = ?, ended_at = ?, noise_seed = NULL WHERE id = ?")
        .bind(why.to_string())
        .bind(at)
        .bind(head.id)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    sqlx::query("UPDATE task SET abandoned = abandoned + 1 WHERE name = ?")
        .bind(round.0.as_str())
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    let body = json!({ "round": round.1, "abandon": why, "budget": charge });
    audit::append(connection, Event::of(round.0, "abandon", at, body)).await
}

pub(super) async fn record_groups(
    connection: &mut SqliteConnection,
    round: (&TaskName, u64),
    groups: &str,
    at: Tick,
) -> Result<(), StoreError> {
    let at = integer(at, "tick")?;
    let head = find(connection, round).await?;
    if !matches!(head.row.state, RoundState::Open | RoundState::Closing) {
        return Err(head.wrong_state());
    }
    if head.row.groups == groups {
        return Ok(());
    }
    sqlx::query("UPDATE round SET groups = ? WHERE id = ?")
        .bind(groups)
        .bind(head.id)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    let groups_sha256 = testudo_protocol::Digest::of(groups.as_bytes()).to_string();
    let body = json!({ "round": round.1, "groups_sha256": groups_sha256 });
    audit::append(connection, Event::of(round.0, "record_groups", at, body)).await
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    task: &TaskName,
    before: u64,
    most: usize,
) -> Result<Vec<RoundRow>, StoreError> {
    let before = if before == 0 { i64::MAX } else { i64::try_from(before).unwrap_or(i64::MAX) };
    let rows = sqlx::query(
        "SELECT round.* FROM round JOIN task ON task.id = round.task
          WHERE task.name = ? AND round.number < ? ORDER BY round.number DESC LIMIT ?",
    )
    .bind(task.as_str())
    .bind(before)
    .bind(limit(most))
    .fetch_all(connection)
    .await
    .map_err(backend)?;
    rows.iter().map(|row| Ok(head(row, task)?.row)).collect()
}

pub(super) async fn one(
    connection: &mut SqliteConnection,
    task: &TaskName,
    number: u64,
) -> Result<RoundRow, StoreError> {
    let number = match number {
        0 => task::find(connection, task).await?.1.last_round,
        number => number,
    };
    let mut head = find(connection, (task, number)).await?;
    head.row.seats = seat::load(connection, head.id, false).await?;
    Ok(head.row)
}

fn head(row: &SqliteRow, task: &TaskName) -> Result<Head, StoreError> {
    let read = RoundRow {
        task: task.clone(),
        number: unsigned(row, "number")?,
        state: round_state(row)?,
        why: get(row, "why")?,
        base: digest(row, "base")?,
        model: optional_digest(row, "model")?,
        seed: seed(row, "seed")?,
        target: size(row, "target")?,
        minimum: size(row, "minimum")?,
        opened_at: unsigned(row, "opened_at")?,
        closes_at: unsigned(row, "closes_at")?,
        ended_at: optional_unsigned(row, "ended_at")?,
        aggregate_norm: get(row, "aggregate_norm")?,
        notes: notes(row, "notes")?,
        groups: get(row, "groups")?,
        step: optional_unsigned(row, "step")?,
        secret: get(row, "secret")?,
        selected: unsigned(row, "selected")?,
        counts: counts(row)?,
        seats: Vec::new(),
    };
    let private = get::<Option<&str>>(row, "reservation")?.is_some();
    Ok(Head { id: get(row, "id")?, row: read, closed: optional_unsigned(row, "closed_at")?.is_some(), private })
}

/// Columns `received`, `accepted`, `rejected` and `dropouts`.
pub(super) fn counts(row: &SqliteRow) -> Result<Counts, StoreError> {
    Ok(Counts {
        received: unsigned(row, "received")?,
        accepted: unsigned(row, "accepted")?,
        rejected: unsigned(row, "rejected")?,
        dropouts: unsigned(row, "dropouts")?,
    })
}
