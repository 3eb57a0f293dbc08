//! Privacy budgets: accounts, plans, reservations and charges, in the transactions of tasks and rounds.
//!
//! The rules are [`Account`]'s; here it is loaded, told what happens and written back. An account's row holds its totals
//! and what is open; what has ended is in `charge`, which is never changed.

use super::{
    super::{AccountRow, Heads, NewRound, NewTask, PlanRow, Release, RoundState, StoreError, budget},
    backend,
    column::{damaged, get, integer, seed, task_name, task_state, unsigned, verdict},
    round::{self, Head},
    run,
};
use serde_json::{Value, json};
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use testudo_privacy::budget::{Account, Charge, Entry, Exhausted, Gate, Outcome, ReservationError, verify};
use testudo_protocol::{Abandon, TaskName, Verdict};

/// Longest name of a population, bytes.
const POPULATION_BYTES: usize = 128;

/// An account and its key.
struct Held {
    id: i64,
    population: String,
    account: Account,
}

/// Creating a task: makes the population's account if it is not there, and plans.
pub(super) async fn plan(
    connection: &mut SqliteConnection,
    id: i64,
    task: &NewTask,
    at: i64,
) -> Result<Option<Value>, StoreError> {
    let Some(plan) = &task.privacy else { return Ok(None) };
    let what = || format!("privacy budget of population {:?}", plan.population);
    if plan.population.is_empty()
        || plan.population.len() > POPULATION_BYTES
        || plan.population.chars().any(char::is_control)
    {
        let state = format!("impossible: give a name of 1 to {POPULATION_BYTES} bytes without control characters");
        return Err(StoreError::WrongState { what: what(), state });
    }
    let found = sqlx::query("SELECT * FROM account WHERE population = ?")
        .bind(&plan.population)
        .fetch_optional(&mut *connection)
        .await
        .map_err(backend)?;
    let mut held = match found {
        Some(row) => {
            let (epsilon, delta): (f64, f64) = (get(&row, "epsilon")?, get(&row, "delta")?);
            if (epsilon, delta) != (plan.epsilon, plan.delta) {
                let state = format!(
                    "kept at epsilon = {epsilon}, delta = {delta:e}, not {} and {:e}: give the same figures, or another population \
                     of other clients",
                    plan.epsilon, plan.delta
                );
                return Err(StoreError::WrongState { what: what(), state });
            }
            let held = held(&row)?;
            if plan.charge.gate() == Gate::Zcdp && held.account.gate() == Gate::Rho {
                let state = "counted by the exact epsilon of Gaussians, which shares of discrete ones do not have: name another \
                             population, whose first task has trust = \"distributed\""
                    .into();
                return Err(StoreError::WrongState { what: what(), state });
            }
            if matches!(plan.gate, Gate::Renyi { .. }) && !matches!(held.account.gate(), Gate::Renyi { .. }) {
                let state = "counted without amplification, where a secret sample saves nothing: name another population, whose \
                             first task has sampling = \"poisson\", or write sampling = \"none\""
                    .into();
                return Err(StoreError::WrongState { what: what(), state });
            }
            held
        }
        None => {
            let account = Account::new(&plan.population, plan.gate, plan.epsilon, plan.delta)
                .map_err(|error| StoreError::WrongState { what: what(), state: format!("impossible: {error}") })?;
            insert(connection, &plan.population, (plan.epsilon, plan.delta), account, at).await?
        }
    };
    held.account.plan(task.name.as_str(), &plan.charge, plan.releases).map_err(|error| refusal(error, None))?;
    save(connection, &held).await?;
    sqlx::query("INSERT INTO plan (task, account, charge, releases) VALUES (?, ?, ?, ?)")
        .bind(id)
        .bind(held.id)
        .bind(to_text(&plan.charge)?)
        .bind(i64::from(plan.releases))
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    Ok(Some(json!({ "population": held.population, "charge": plan.charge, "releases": plan.releases })))
}

/// Ending a task: what its plan did not use is free again.
pub(super) async fn end_plan(connection: &mut SqliteConnection, task: &TaskName) -> Result<(), StoreError> {
    let Some(mut held) = of_task(connection, task).await? else { return Ok(()) };
    held.account.end_plan(task.as_str());
    save(connection, &held).await?;
    run::end(connection, task).await
}

/// Opening a round: reserves before clients train, exactly what its task's plan says. Versions and figures of the noise are
/// part of it, so that an upgrade cannot change what a run has drawn already.
pub(super) async fn reserve(
    connection: &mut SqliteConnection,
    round_id: i64,
    round: &NewRound,
) -> Result<(), StoreError> {
    let what = || round::what(&round.task, round.number);
    let held = of_task(connection, &round.task).await?;
    let (mut held, charge) = match (held, round.reserve) {
        (None, None) => return Ok(()),
        (Some(held), Some(charge)) => (held, charge),
        (Some(_), None) => {
            let state = "private and reserves nothing: nothing of it could be released".into();
            return Err(StoreError::WrongState { what: what(), state });
        }
        (None, Some(_)) => {
            let state = "of a task without privacy budget: nothing can be reserved".into();
            return Err(StoreError::WrongState { what: what(), state });
        }
    };
    let planned = plan_of(connection, &round.task).await?;
    let due = match round.step {
        Some(step) if step > 1 => planned.0.step(step),
        _ => planned.0,
    };
    if charge != due {
        return Err(StoreError::OffPlan { what: what(), difference: budget::difference(&charge, &due) });
    }
    let reserved = held.account.reserve(round.task.as_str(), round.number, charge);
    reserved.map_err(|error| refusal(error, Some((&held, planned))))?;
    save(connection, &held).await?;
    mark(connection, round_id, "reserved").await
}

/// Closing a round: from here its sum may be noised, and the reservation cannot be given back.
pub(super) async fn finalise(connection: &mut SqliteConnection, head: &Head) -> Result<(), StoreError> {
    let Some(mut held) = reserved(connection, head).await? else { return Ok(()) };
    let (task, number) = (head.row.task.as_str(), head.row.number);
    held.account.finalising(task, number).map_err(|error| refusal(error, None))?;
    save(connection, &held).await?;
    mark(connection, head.id, "finalising").await
}

/// Releasing a round: spends its reservation.
pub(super) async fn spend(
    connection: &mut SqliteConnection,
    head: &Head,
    release: &Release,
) -> Result<Option<Value>, StoreError> {
    let what = || round::what(&release.task, release.number);
    let mut held = match (reserved(connection, head).await?, release.charged) {
        (Some(held), true) => held,
        (None, false) if of_task(connection, &release.task).await?.is_none() => return Ok(None),
        (None, _) => {
            let state = "without a reservation in its privacy budget: it cannot be released".into();
            return Err(StoreError::WrongState { what: what(), state });
        }
        (Some(_), false) => {
            let state = "reserved in a privacy budget: its release must be charged".into();
            return Err(StoreError::WrongState { what: what(), state });
        }
    };
    let (task, number) = (release.task.as_str(), release.number);
    held.account.finalising(task, number).map_err(|error| refusal(error, None))?;
    let entry = held.account.commit(task, number, release.model.0).map_err(|error| refusal(error, None))?;
    held.account.forget(task, number);
    record(connection, &held, head, &entry).await?;
    Ok(Some(json!({ "population": held.population, "entry": entry })))
}

/// Abandoning a round: gives its reservation back, or spends it.
pub(super) async fn give_up(
    connection: &mut SqliteConnection,
    head: &Head,
    why: &Abandon,
) -> Result<Option<Value>, StoreError> {
    let Some(mut held) = reserved(connection, head).await? else { return Ok(None) };
    let (task, number) = (head.row.task.as_str(), head.row.number);
    let (charge, _) = plan_of(connection, &head.row.task).await?;
    let outcome = match head.row.state {
        RoundState::Open => {
            budget::outcome_under(&charge.mechanism, why, refused_for_values(connection, head.id).await?)
        }
        _ => Outcome::MayDependOnUpdates,
    };
    let entry = held.account.abandon(task, number, outcome).map_err(|error| refusal(error, None))?;
    held.account.forget(task, number);
    match &entry {
        Some(entry) => record(connection, &held, head, entry).await?,
        None => {
            save(connection, &held).await?;
            mark(connection, head.id, "returned").await?;
        }
    }
    let outcome = if entry.is_some() { "spent" } else { "returned" };
    Ok(Some(json!({ "population": held.population, "outcome": outcome, "entry": entry })))
}

pub(super) async fn accounts(connection: &mut SqliteConnection) -> Result<Vec<AccountRow>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM account ORDER BY population").fetch_all(&mut *connection).await.map_err(backend)?;
    let mut accounts = Vec::with_capacity(rows.len());
    for row in &rows {
        let held = held(row)?;
        let (limit, spent, reserved, planned) = held.account.units();
        let (spent_epsilon, _, _) = held.account.epsilon();
        let (epsilon, delta): (f64, f64) = (get(row, "epsilon")?, get(row, "delta")?);
        let gate = held.account.gate();
        accounts.push(AccountRow {
            population: held.population,
            gate,
            epsilon,
            delta,
            limit,
            spent,
            reserved,
            planned,
            spent_epsilon,
            promised_epsilon: gate.epsilon(spent + reserved + planned, delta),
            head: held.account.head(),
            plans: plans(connection, held.id).await?,
            created_at: unsigned(row, "created_at")?,
        });
    }
    Ok(accounts)
}

pub(super) async fn entries(connection: &mut SqliteConnection, population: &str) -> Result<Vec<Entry>, StoreError> {
    let id: Option<i64> = sqlx::query_scalar("SELECT id FROM account WHERE population = ?")
        .bind(population)
        .fetch_optional(&mut *connection)
        .await
        .map_err(backend)?;
    let id = id.ok_or_else(|| StoreError::NotFound { what: format!("privacy budget of population {population:?}") })?;
    let rows = sqlx::query("SELECT body FROM charge WHERE account = ? ORDER BY position")
        .bind(id)
        .fetch_all(connection)
        .await
        .map_err(backend)?;
    rows.iter().map(|row| from_text(get(row, "body")?)).collect()
}

/// Number and hash of every population's newest charge.
pub(super) async fn heads(connection: &mut SqliteConnection) -> Result<Heads, StoreError> {
    let rows = sqlx::query("SELECT * FROM account").fetch_all(connection).await.map_err(backend)?;
    let mut heads = Heads::new();
    for row in &rows {
        let held = held(row)?;
        if let Some(head) = held.account.head() {
            heads.insert(held.population, head);
        }
    }
    Ok(heads)
}

/// The hash of a charge by its number.
pub(super) async fn hash_at(
    connection: &mut SqliteConnection,
    population: &str,
    index: u64,
) -> Result<Option<[u8; 32]>, StoreError> {
    let row = sqlx::query(
        "SELECT charge.hash FROM charge JOIN account ON account.id = charge.account
          WHERE account.population = ? AND charge.position = ?",
    )
    .bind(population)
    .bind(i64::try_from(index).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await
    .map_err(backend)?;
    row.as_ref().map(|row| seed(row, "hash")).transpose()
}

/// The first thing that does not add up: totals, chains, or rounds.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let rows = sqlx::query("SELECT * FROM account ORDER BY id").fetch_all(&mut *connection).await.map_err(backend)?;
    for row in &rows {
        let held = held(row)?;
        let columns: (i64, i64, i64, i64) =
            (get(row, "unit_limit")?, get(row, "spent")?, get(row, "reserved")?, get(row, "planned")?);
        let whose = format!("the privacy budget of population {:?}", held.population);
        if columns != held.account.units() {
            return Ok(Some(format!("{whose} does not match its totals")));
        }
        let chain = entries(connection, &held.population).await?;
        match verify(&chain, held.account.gate(), held.account.head()) {
            Err(error) => return Ok(Some(format!("{whose}: {error}"))),
            Ok(spent) if spent != columns.1 => {
                return Ok(Some(format!("{whose} says {} units are spent, its charges add up to {spent}", columns.1)));
            }
            Ok(_) => {}
        }
    }
    Ok(None)
}

async fn insert(
    connection: &mut SqliteConnection,
    population: &str,
    (epsilon, delta): (f64, f64),
    account: Account,
    at: i64,
) -> Result<Held, StoreError> {
    let id = sqlx::query_scalar(
        "INSERT INTO account (population, epsilon, delta, unit_limit, spent, reserved, planned, body, created_at)
         VALUES (?, ?, ?, ?, 0, 0, 0, ?, ?) RETURNING id",
    )
    .bind(population)
    .bind(epsilon)
    .bind(delta)
    .bind(account.units().0)
    .bind(to_text(&account)?)
    .bind(at)
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    Ok(Held { id, population: population.into(), account })
}

async fn save(connection: &mut SqliteConnection, held: &Held) -> Result<(), StoreError> {
    let (_, spent, reserved, planned) = held.account.units();
    sqlx::query("UPDATE account SET spent = ?, reserved = ?, planned = ?, body = ? WHERE id = ?")
        .bind(spent)
        .bind(reserved)
        .bind(planned)
        .bind(to_text(&held.account)?)
        .bind(held.id)
        .execute(connection)
        .await
        .map_err(backend)?;
    Ok(())
}

/// Writes a charge, the account that it changed, and both into the round's row.
async fn record(connection: &mut SqliteConnection, held: &Held, head: &Head, entry: &Entry) -> Result<(), StoreError> {
    save(connection, held).await?;
    let position = integer(entry.index, "number of a charge")?;
    sqlx::query("INSERT INTO charge (account, position, task, round, hash, body) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(held.id)
        .bind(position)
        .bind(&entry.task)
        .bind(integer(entry.round, "round number")?)
        .bind(&entry.hash[..])
        .bind(to_text(entry)?)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    sqlx::query("UPDATE round SET charge_account = ?, charge_position = ?, charge_head = ? WHERE id = ?")
        .bind(held.id)
        .bind(position)
        .bind(&entry.hash[..])
        .bind(head.id)
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    mark(connection, head.id, "spent").await
}

async fn mark(connection: &mut SqliteConnection, round: i64, reservation: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE round SET reservation = ? WHERE id = ?")
        .bind(reservation)
        .bind(round)
        .execute(connection)
        .await
        .map_err(backend)?;
    Ok(())
}

/// The account that pays for a task.
async fn of_task(connection: &mut SqliteConnection, task: &TaskName) -> Result<Option<Held>, StoreError> {
    let row = sqlx::query(
        "SELECT account.* FROM account JOIN plan ON plan.account = account.id JOIN task ON task.id = plan.task
          WHERE task.name = ?",
    )
    .bind(task.as_str())
    .fetch_optional(connection)
    .await
    .map_err(backend)?;
    row.as_ref().map(held).transpose()
}

/// The account in which a round has an open reservation.
async fn reserved(connection: &mut SqliteConnection, head: &Head) -> Result<Option<Held>, StoreError> {
    let open: bool = sqlx::query_scalar("SELECT reservation IS NOT NULL FROM round WHERE id = ?")
        .bind(head.id)
        .fetch_one(&mut *connection)
        .await
        .map_err(backend)?;
    if !open {
        return Ok(None);
    }
    let held = of_task(connection, &head.row.task).await?;
    held.ok_or_else(|| damaged("reservation", "no privacy budget pays for it")).map(Some)
}

/// What a task's whole plan held.
async fn plan_of(connection: &mut SqliteConnection, task: &TaskName) -> Result<(Charge, u32), StoreError> {
    let row = sqlx::query("SELECT plan.* FROM plan JOIN task ON task.id = plan.task WHERE task.name = ?")
        .bind(task.as_str())
        .fetch_one(connection)
        .await
        .map_err(backend)?;
    Ok((from_text(get(&row, "charge")?)?, releases(&row)?))
}

async fn plans(connection: &mut SqliteConnection, account: i64) -> Result<Vec<PlanRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT task.id, task.name, task.state, task.toml, plan.charge, plan.releases, coalesce(sum(reservation = 'spent'), 0) AS charged,
                coalesce(sum(round.state = 'released'), 0) AS released,
                coalesce(sum(reservation IN ('reserved', 'finalising')), 0) AS reserved
           FROM plan JOIN task ON task.id = plan.task LEFT JOIN round ON round.task = task.id
          WHERE plan.account = ? GROUP BY task.id ORDER BY task.id",
    )
    .bind(account)
    .fetch_all(&mut *connection)
    .await
    .map_err(backend)?;
    let mut plans = Vec::with_capacity(rows.len());
    for row in &rows {
        let text = budget::NoiseText::of(get(row, "toml")?);
        let charge: Charge = from_text(get(row, "charge")?)?;
        let most_updates = match charge.mechanism.is_spent_by_uploads() {
            true => Some(most_updates(connection, get(row, "id")?).await?),
            false => None,
        };
        plans.push(PlanRow {
            task: task_name(row, "name")?,
            state: task_state(row)?,
            clip: text.clip,
            grid_bits: text.grid_bits,
            adaptive_clip: text.adaptive_clip,
            mechanism: text.mechanism,
            charge,
            releases: releases(row)?,
            charged: unsigned(row, "charged")?,
            released: unsigned(row, "released")?,
            reserved: unsigned(row, "reserved")?,
            most_updates,
        });
    }
    Ok(plans)
}

/// The most updates of one client that a task's rounds recorded.
async fn most_updates(connection: &mut SqliteConnection, task: i64) -> Result<u64, StoreError> {
    let most: i64 = sqlx::query_scalar(
        "SELECT coalesce(max(updates), 0) FROM (
           SELECT count(*) AS updates FROM upload JOIN round ON round.id = upload.round
            WHERE round.task = ? GROUP BY upload.client)",
    )
    .bind(task)
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    u64::try_from(most).map_err(|_| damaged("upload", "a negative number of rows"))
}

async fn refused_for_values(connection: &mut SqliteConnection, round: i64) -> Result<bool, StoreError> {
    let rows =
        sqlx::query("SELECT DISTINCT verdict, reason, 0.0 AS value FROM seat WHERE round = ? AND reason IS NOT NULL")
            .bind(round)
            .fetch_all(connection)
            .await
            .map_err(backend)?;
    for row in &rows {
        if matches!(verdict(row)?, Verdict::Rejected { reason } if budget::tells_of_values(reason)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn held(row: &SqliteRow) -> Result<Held, StoreError> {
    Ok(Held { id: get(row, "id")?, population: get(row, "population")?, account: from_text(get(row, "body")?)? })
}

fn releases(row: &SqliteRow) -> Result<u32, StoreError> {
    u32::try_from(unsigned(row, "releases")?).map_err(|_| damaged("releases", "is out of range"))
}

/// What an account refused, as the ledger says it. A round that its task's plan does not hold is shown against that plan.
fn refusal(error: ReservationError, plan: Option<(&Held, (Charge, u32))>) -> StoreError {
    let (left, requested) = match &error {
        ReservationError::BeyondPlan { left, requested, .. } => (*left, *requested),
        ReservationError::Exhausted(exhausted) => return StoreError::Exhausted(exhausted.clone()),
        _ => (0, 0),
    };
    let (ReservationError::BeyondPlan { .. }, Some((held, (charge, releases)))) = (&error, plan) else {
        return StoreError::WrongState { what: "reservation of a privacy budget".into(), state: error.to_string() };
    };
    let gate = held.account.gate();
    let delta = held.account.epsilon().2;
    let whole = gate.amount(&charge).unwrap_or(i64::MAX).saturating_mul(i64::from(releases));
    let used = whole.saturating_sub(left);
    StoreError::Exhausted(Box::new(Exhausted {
        population: held.population.clone(),
        limit_epsilon: gate.epsilon(whole, delta),
        spent_epsilon: gate.epsilon(used, delta),
        requested_epsilon: gate.epsilon(used.saturating_add(requested), delta),
        largest_affordable: 0,
        z_needed: None,
    }))
}

fn to_text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Backend(format!("cannot write a privacy budget: {error}")))
}

fn from_text<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged("body", error))
}
