//! Runs of correlated noise: who takes part, the run's seed, and what its steps summed.
//!
//! A step is a round that has a seat in the run: open, closing, released, or abandoned after its survivors were fixed. One
//! that is given back leaves its step, and everybody's participation in it, to the next round.

use super::{
    super::{NewRound, NewTask, Participations, RunNoise, StoreError},
    backend,
    column::{client, damaged, get, integer, seed, unsigned},
    round,
    seal::{Place, Sealer},
    seat, task,
};
use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteRow};
use std::collections::BTreeMap;
use testudo_privacy::{
    budget::{Charge, ChargeMechanism, Exhausted, Gate},
    mechanism::participation::{Participation, ParticipationLimit},
};
use testudo_protocol::{ClientId, Digest, TaskName};

/// What the ledger has of a task's run.
struct Run {
    limit: ParticipationLimit,
    charge: Charge,
    sealed: Option<Vec<u8>>,
}

/// Creating a task: its participation limit, and a fresh seed for its run.
pub(super) async fn plan(
    connection: &mut SqliteConnection,
    id: i64,
    task: &NewTask,
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let Some(plan) = &task.privacy else { return Ok(()) };
    let is_correlated = matches!(plan.charge.mechanism, ChargeMechanism::Correlated { .. });
    let limit = match (plan.limit, is_correlated) {
        (Some(limit), true) => limit,
        (None, false) => return Ok(()),
        _ => {
            let state = "impossible: correlated noise needs participation limits, and nothing else has them".into();
            return Err(StoreError::WrongState { what: task::what(&task.name), state });
        }
    };
    sqlx::query("UPDATE plan SET participations = ?, gap = ?, run_seed = ? WHERE task = ?")
        .bind(i64::from(limit.most()))
        .bind(integer(limit.gap(), "separation")?)
        .bind(sealer.seal_fresh(Place::Run(&task.name))?)
        .bind(id)
        .execute(connection)
        .await
        .map_err(backend)?;
    Ok(())
}

/// Opening a round: it is the run's next step, and everybody in it may take part.
pub(super) async fn check_step(connection: &mut SqliteConnection, id: i64, round: &NewRound) -> Result<(), StoreError> {
    let what = || round::what(&round.task, round.number);
    let (run, step) = match (find(connection, id).await?, round.step) {
        (None, None) => return Ok(()),
        (Some(run), Some(step)) => (run, step),
        (run, _) => {
            let state = if run.is_some() { "no step of its task's run" } else { "a step, and its task has no run" };
            return Err(StoreError::WrongState { what: what(), state: state.into() });
        }
    };
    let next = taken(connection, id).await? + 1;
    if step != next {
        return Err(StoreError::WrongState { what: what(), state: format!("not the run's next step, {next}") });
    }
    if !matches!(run.charge.mechanism, ChargeMechanism::Correlated { rounds, .. } if step <= rounds) {
        return Err(exhausted(connection, id, &run.charge).await?);
    }
    for (client, _) in &round.cohort {
        let participation = participation(connection, id, client).await?;
        if !participation.may_join(run.limit, step) {
            let state = format!(
                "over its participation limit: {} of {} rounds, at least {} apart",
                participation.count(),
                run.limit.most(),
                run.limit.gap()
            );
            return Err(StoreError::WrongState { what: seat::what(&round.task, round.number, client), state });
        }
    }
    Ok(())
}

/// What draws a closing step's noise.
pub(super) async fn noise(
    connection: &mut SqliteConnection,
    (task, round): (&TaskName, u64),
    sealer: &Sealer,
) -> Result<Option<RunNoise>, StoreError> {
    let (id, _) = task::find(connection, task).await?;
    let step: Option<i64> =
        sqlx::query_scalar("SELECT step FROM round WHERE task = ? AND number = ? AND state = 'closing'")
            .bind(id)
            .bind(i64::try_from(round).unwrap_or(i64::MAX))
            .fetch_optional(&mut *connection)
            .await
            .map_err(backend)?
            .flatten();
    let (Some(step), Some(run)) = (step, find(connection, id).await?) else { return Ok(None) };
    let Some(sealed) = run.sealed else { return Ok(None) };
    let rows = sqlx::query(
        "SELECT step, manifest FROM round
          WHERE task = ? AND step <= ? AND reservation IS NOT 'returned' ORDER BY step",
    )
    .bind(id)
    .bind(step)
    .fetch_all(connection)
    .await
    .map_err(backend)?;
    let mut manifests = Vec::with_capacity(rows.len());
    for (number, row) in (1..).zip(&rows) {
        if get::<i64>(row, "step")? != number {
            return Err(damaged("step", format!("step {number} is not there")));
        }
        manifests.push(match get::<Option<&[u8]>>(row, "manifest")? {
            Some(_) => seed(row, "manifest")?,
            None => without_sum(task, number),
        });
    }
    if rows.last().map(|row| get::<Option<&[u8]>>(row, "manifest")).transpose()?.flatten().is_none() {
        return Err(damaged("manifest", "a closing step has none"));
    }
    Ok(Some(RunNoise { seed: *sealer.open_seed(Place::Run(task), &sealed)?, manifests }))
}

/// Stands for a step that was given up before its survivors were fixed, and not given back: its noise is drawn like any
/// other's, and nothing of it is released.
fn without_sum(task: &TaskName, step: i64) -> [u8; 32] {
    Digest::of(format!("testudo step without sum {task} {step}").as_bytes()).0
}

/// Everybody's participations, after a look whether the run can go on.
pub(super) async fn participations(
    connection: &mut SqliteConnection,
    task: &TaskName,
    sealer: &Sealer,
) -> Result<Option<Participations>, StoreError> {
    let (id, _) = task::find(connection, task).await?;
    let Some(run) = find(connection, id).await? else { return Ok(None) };
    if let Some(sealed) = &run.sealed {
        sealer.check(Place::Run(task), sealed)?;
    }
    let rows = sqlx::query(
        "SELECT seat.client, count(*) AS count, max(round.step) AS last FROM round JOIN seat ON seat.round = round.id
          WHERE round.task = ? AND round.step IS NOT NULL AND round.reservation IS NOT 'returned' GROUP BY seat.client",
    )
    .bind(id)
    .fetch_all(&mut *connection)
    .await
    .map_err(backend)?;
    let clients = rows.iter().map(|row| Ok((client(row, "client")?, stored(row)?)));
    let clients = clients.collect::<Result<BTreeMap<_, _>, StoreError>>()?;
    let step = taken(connection, id).await? + 1;
    Ok(Some(Participations { limit: run.limit, step, clients }))
}

/// Ending a task: nothing of its noise can be drawn again.
pub(super) async fn end(connection: &mut SqliteConnection, task: &TaskName) -> Result<(), StoreError> {
    let (id, _) = task::find(connection, task).await?;
    for statement in [
        "UPDATE plan SET run_seed = NULL WHERE task = ? AND run_seed IS NOT NULL",
        "UPDATE round SET manifest = NULL WHERE task = ? AND manifest IS NOT NULL",
    ] {
        sqlx::query(statement).bind(id).execute(&mut *connection).await.map_err(backend)?;
    }
    Ok(())
}

/// Whether any round or run has a sealed seed.
pub(super) async fn any_sealed(pool: &SqlitePool) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM round WHERE noise_seed IS NOT NULL)
             OR EXISTS (SELECT 1 FROM plan WHERE run_seed IS NOT NULL)",
    )
    .fetch_one(pool)
    .await
    .map_err(backend)
}

async fn find(connection: &mut SqliteConnection, task: i64) -> Result<Option<Run>, StoreError> {
    let row = sqlx::query("SELECT * FROM plan WHERE task = ? AND participations IS NOT NULL")
        .bind(task)
        .fetch_optional(connection)
        .await
        .map_err(backend)?;
    let Some(row) = row else { return Ok(None) };
    let most =
        u32::try_from(unsigned(&row, "participations")?).map_err(|_| damaged("participations", "out of range"))?;
    let limit = ParticipationLimit::new(most, unsigned(&row, "gap")?).map_err(|error| damaged("gap", error))?;
    let charge = serde_json::from_str(get(&row, "charge")?).map_err(|error| damaged("charge", error))?;
    Ok(Some(Run { limit, charge, sealed: get(&row, "run_seed")? }))
}

/// Steps that are taken.
async fn taken(connection: &mut SqliteConnection, task: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT coalesce(max(step), 0) AS taken FROM round
          WHERE task = ? AND step IS NOT NULL AND reservation IS NOT 'returned'",
    )
    .bind(task)
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    unsigned(&row, "taken")
}

async fn participation(
    connection: &mut SqliteConnection,
    task: i64,
    client: &ClientId,
) -> Result<Participation, StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS count, max(round.step) AS last FROM seat JOIN round ON round.id = seat.round
          WHERE seat.client = ? AND round.task = ? AND round.step IS NOT NULL AND round.reservation IS NOT 'returned'",
    )
    .bind(client.as_str())
    .bind(task)
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    stored(&row)
}

fn stored(row: &SqliteRow) -> Result<Participation, StoreError> {
    let count = u32::try_from(unsigned(row, "count")?).map_err(|_| damaged("count", "out of range"))?;
    let last: Option<i64> = get(row, "last")?;
    Ok(Participation::stored(count, last.and_then(|last| u64::try_from(last).ok())))
}

/// Every step of the plan is taken.
async fn exhausted(connection: &mut SqliteConnection, task: i64, charge: &Charge) -> Result<StoreError, StoreError> {
    let row = sqlx::query(
        "SELECT account.population, account.delta FROM account JOIN plan ON plan.account = account.id WHERE plan.task = ?",
    )
    .bind(task)
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    let whole = Gate::Rho.epsilon(charge.rho_units().unwrap_or(i64::MAX), get(&row, "delta")?);
    Ok(StoreError::Exhausted(Box::new(Exhausted {
        population: get(&row, "population")?,
        limit_epsilon: whole,
        spent_epsilon: whole,
        requested_epsilon: f64::INFINITY,
        largest_affordable: 0,
        z_needed: None,
    })))
}
