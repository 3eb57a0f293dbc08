//! Clients that register with a task to be sampled from.

use super::{
    super::{Registration, StoreError},
    audit::{self, Event},
    backend,
    client::seen,
    column::{client, integer, unsigned},
    seat::BULK,
    task,
};
use serde_json::json;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use std::collections::BTreeSet;
use testudo_protocol::{ClientId, TaskName, Tick};

/// Registers clients until there are `most`, in their order.
pub(super) async fn register(
    connection: &mut SqliteConnection,
    name: &TaskName,
    clients: &[ClientId],
    most: u64,
    at: Tick,
) -> Result<Vec<Registration>, StoreError> {
    let (id, _) = task::find(connection, name).await?;
    let row = sqlx::query("SELECT count(*) AS number FROM registered WHERE task = ?")
        .bind(id)
        .fetch_one(&mut *connection)
        .await
        .map_err(backend)?;
    let mut number = unsigned(&row, "number")?;
    let mut known = BTreeSet::new();
    for some in clients.chunks(BULK) {
        let mut select = QueryBuilder::<Sqlite>::new("SELECT client FROM registered WHERE task = ");
        select.push_bind(id).push(" AND client IN (");
        let mut names = select.separated(", ");
        for client in some {
            names.push_bind(client.as_str().to_owned());
        }
        select.push(")");
        let rows = select.build().persistent(false).fetch_all(&mut *connection).await.map_err(backend)?;
        for row in &rows {
            known.insert(client(row, "client")?);
        }
    }
    let (mut answers, mut new) = (Vec::with_capacity(clients.len()), Vec::new());
    for client in clients {
        if !known.contains(client) && number < most {
            number += 1;
            known.insert(client.clone());
            new.push((client.clone(), at));
        }
        answers.push(if known.contains(client) { Registration::Registered } else { Registration::Full });
    }
    if new.is_empty() {
        return Ok(answers);
    }
    let tick = integer(at, "tick")?;
    for some in new.chunks(BULK) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO registered (task, client, at) ");
        insert.push_values(some, |mut row, (client, _)| {
            row.push_bind(id).push_bind(client.as_str().to_owned()).push_bind(tick);
        });
        insert.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
    }
    seen(connection, &new).await?;
    let names: Vec<&str> = new.iter().map(|(client, _)| client.as_str()).collect();
    let event = Event::of(name, "register", tick, json!({ "new": names }));
    audit::append(connection, event).await?;
    Ok(answers)
}

/// Everybody who is registered, sorted.
pub(super) async fn registered(
    connection: &mut SqliteConnection,
    name: &TaskName,
) -> Result<Vec<ClientId>, StoreError> {
    let (id, _) = task::find(connection, name).await?;
    let rows = sqlx::query("SELECT client FROM registered WHERE task = ? ORDER BY client")
        .bind(id)
        .fetch_all(connection)
        .await
        .map_err(backend)?;
    rows.iter().map(|row| client(row, "client")).collect()
}
