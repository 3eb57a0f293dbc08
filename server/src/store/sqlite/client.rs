//! Clients and what became of their seats.

use super::{
    super::{ClientRow, StoreError},
    audit::{self, Event},
    backend,
    column::{client, integer, limit, unsigned, verdict},
    round::counts,
    seat::BULK,
};
use serde_json::json;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use std::collections::BTreeMap;
use testudo_protocol::{ClientId, TaskName, Tick, Verdict};

pub(super) async fn seen(connection: &mut SqliteConnection, clients: &[(ClientId, Tick)]) -> Result<(), StoreError> {
    let mut ticks: BTreeMap<&ClientId, (i64, i64)> = BTreeMap::new();
    for (client, at) in clients {
        let at = integer(*at, "tick")?;
        let (first, last) = ticks.entry(client).or_insert((at, at));
        (*first, *last) = ((*first).min(at), (*last).max(at));
    }
    let ticks = Vec::from_iter(ticks);
    for clients in ticks.chunks(BULK) {
        let known = known(connection, clients.iter().map(|(client, _)| *client)).await?;
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO client (client, first_seen, last_seen) ");
        insert.push_values(clients, |mut row, (client, (first, last))| {
            row.push_bind(client.as_str().to_owned()).push_bind(*first).push_bind(*last);
        });
        insert.push(
            " ON CONFLICT (client) DO UPDATE SET first_seen = min(first_seen, excluded.first_seen),
                 last_seen = max(last_seen, excluded.last_seen)",
        );
        insert.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
        let new = unknown(clients, &known);
        let Some(at) = new.iter().map(|(_, first)| *first).min() else { continue };
        let names: Vec<&str> = new.iter().map(|(client, _)| client.as_str()).collect();
        let event = Event { at, kind: "seen", task: String::new(), body: json!({ "new": names }) };
        audit::append(connection, event).await?;
    }
    Ok(())
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    task: Option<&TaskName>,
    most: usize,
) -> Result<Vec<ClientRow>, StoreError> {
    let query = match task {
        None => sqlx::query(
            "SELECT client.client, first_seen, last_seen, count(upload.client) AS received,
                    coalesce(sum(verdict IN ('accepted', 'clipped', 'trimmed')), 0) AS accepted,
                    coalesce(sum(verdict = 'rejected'), 0) AS rejected,
                    coalesce(sum(verdict = 'dropout'), 0) AS dropouts
               FROM client LEFT JOIN seat ON seat.client = client.client
                         AND seat.round NOT IN (SELECT id FROM round WHERE secret)
                    LEFT JOIN upload ON upload.round = seat.round AND upload.client = seat.client
              GROUP BY client.client ORDER BY client.client LIMIT ?",
        ),
        Some(task) => sqlx::query(
            "SELECT client.client, first_seen, last_seen, count(upload.client) AS received,
                    coalesce(sum(verdict IN ('accepted', 'clipped', 'trimmed')), 0) AS accepted,
                    coalesce(sum(verdict = 'rejected'), 0) AS rejected,
                    coalesce(sum(verdict = 'dropout'), 0) AS dropouts
               FROM client JOIN seat ON seat.client = client.client
                    JOIN round ON round.id = seat.round
                    LEFT JOIN upload ON upload.round = seat.round AND upload.client = seat.client
              WHERE round.task = (SELECT id FROM task WHERE name = ?) AND NOT round.secret
              GROUP BY client.client ORDER BY client.client LIMIT ?",
        )
        .bind(task.as_str()),
    };
    let rows = query.bind(limit(most)).fetch_all(connection).await.map_err(backend)?;
    rows.iter()
        .map(|row| {
            Ok(ClientRow {
                client: client(row, "client")?,
                first_seen: unsigned(row, "first_seen")?,
                last_seen: unsigned(row, "last_seen")?,
                counts: counts(row)?,
            })
        })
        .collect()
}

pub(super) async fn verdicts_after(
    connection: &mut SqliteConnection,
    task: &TaskName,
    client: &ClientId,
    after: u64,
    most: usize,
) -> Result<Vec<(u64, Verdict)>, StoreError> {
    let rows = sqlx::query(
        "SELECT number, verdict, reason, value FROM seat JOIN round ON round.id = seat.round
          WHERE seat.client = ? AND round.task = (SELECT id FROM task WHERE name = ?) AND number > ?
            AND state IN ('released', 'abandoned')
          ORDER BY number LIMIT ?",
    )
    .bind(client.as_str())
    .bind(task.as_str())
    .bind(i64::try_from(after).unwrap_or(i64::MAX))
    .bind(limit(most))
    .fetch_all(connection)
    .await
    .map_err(backend)?;
    rows.iter().map(|row| Ok((unsigned(row, "number")?, verdict(row)?))).collect()
}

/// The clients that are not among the known ones, each with its first check-in.
fn unknown<'a>(clients: &[(&'a ClientId, (i64, i64))], known: &[ClientId]) -> Vec<(&'a ClientId, i64)> {
    let known = |client: &ClientId| known.binary_search(client).is_ok();
    clients.iter().filter(|(client, _)| !known(client)).map(|(client, (first, _))| (*client, *first)).collect()
}

/// Which of some clients the ledger knows, sorted.
async fn known(
    connection: &mut SqliteConnection,
    clients: impl Iterator<Item = &ClientId>,
) -> Result<Vec<ClientId>, StoreError> {
    let mut select = QueryBuilder::<Sqlite>::new("SELECT client FROM client WHERE client IN (");
    let mut names = select.separated(", ");
    for client in clients {
        names.push_bind(client.as_str().to_owned());
    }
    select.push(") ORDER BY client");
    let rows = select.build().persistent(false).fetch_all(connection).await.map_err(backend)?;
    rows.iter().map(|row| client(row, "client")).collect()
}
