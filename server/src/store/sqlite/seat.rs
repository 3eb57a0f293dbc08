//! Seats: one client's part in a round.

use super::{
    super::{Body, Judged, SeatRow, StoreError, UploadRow, verdict_reason},
    backend,
    column::{client, damaged, digest, finite, get, integer, nonce, unsigned, verdict},
    round::Head,
    upload::{self, Recorded},
};
use bytes::Bytes;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeMap;
use testudo_protocol::{ClientId, Nonce, TaskName, Verdict};

/// Rows per statement: with at most ten values each far below SQLite's limit of 32,766 values, and enough that the
/// cost of a statement no longer counts.
pub(super) const BULK: usize = 500;

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Released,
    Abandoned,
}

pub(super) fn what(task: &TaskName, round: u64, client: &ClientId) -> String {
    format!("seat of client {client} in round {round} of task {task}")
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    round: i64,
    cohort: &[(ClientId, Nonce)],
) -> Result<(), StoreError> {
    // In the order of the key, so that SQLite appends instead of splitting pages.
    let mut cohort: Vec<&(ClientId, Nonce)> = cohort.iter().collect();
    cohort.sort();
    for seats in cohort.chunks(BULK) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO seat (round, client, nonce) ");
        insert.push_values(seats, |mut row, (client, nonce)| {
            row.push_bind(round).push_bind(client.as_str().to_owned()).push_bind(nonce.0.to_vec());
        });
        insert.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
    }
    Ok(())
}

/// Every seat sorted by client, with or without the bodies of its updates.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    round: i64,
    bodies: bool,
) -> Result<Vec<SeatRow>, StoreError> {
    let statement = match bodies {
        true => {
            "SELECT seat.*, digest, norm, examples, at, spool_key, parts, inline
               FROM seat LEFT JOIN upload ON upload.round = seat.round AND upload.client = seat.client
              WHERE seat.round = ? ORDER BY seat.client"
        }
        false => {
            "SELECT seat.*, digest, norm, examples, at, NULL AS spool_key, NULL AS parts, NULL AS inline
               FROM seat LEFT JOIN upload ON upload.round = seat.round AND upload.client = seat.client
              WHERE seat.round = ? ORDER BY seat.client"
        }
    };
    let rows = sqlx::query(statement).bind(round).fetch_all(connection).await.map_err(backend)?;
    rows.iter().map(read).collect()
}

pub(super) async fn survivors(connection: &mut SqliteConnection, round: i64) -> Result<Vec<ClientId>, StoreError> {
    let rows = sqlx::query("SELECT client FROM seat WHERE round = ? AND survivor = 1 ORDER BY client")
        .bind(round)
        .fetch_all(connection)
        .await
        .map_err(backend)?;
    rows.iter().map(|row| client(row, "client")).collect()
}

pub(super) async fn fix_survivors(
    connection: &mut SqliteConnection,
    head: &Head,
    survivors: &[ClientId],
) -> Result<(), StoreError> {
    let seats = load(connection, head.id, false).await?;
    let missing = survivors.iter().find(|client| seats.binary_search_by(|seat| seat.client.cmp(client)).is_err());
    if let Some(missing) = missing {
        return Err(StoreError::NotFound { what: what(&head.row.task, head.row.number, missing) });
    }
    for clients in survivors.chunks(BULK) {
        let mut update = QueryBuilder::<Sqlite>::new("UPDATE seat SET survivor = 1 WHERE round = ");
        update.push_bind(head.id).push(" AND client IN (");
        let mut names = update.separated(", ");
        for client in clients {
            names.push_bind(client.as_str().to_owned());
        }
        update.push(")");
        update.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
    }
    Ok(())
}

/// Gives every seat of an ending round its last verdict, drops the bodies and counts.
pub(super) async fn judge(
    connection: &mut SqliteConnection,
    head: &Head,
    judged: &[Judged],
    at: i64,
    end: End,
) -> Result<(), StoreError> {
    let seats = load(connection, head.id, false).await?;
    let mut judged = by_client(head, judged, &seats)?;
    let mut uploads = Vec::new();
    let mut changes = Vec::new();
    for seat in &seats {
        let judged = judged.remove(&seat.client);
        uploads.extend(missing_upload(head, seat, judged, at)?);
        changes.extend(change(head, seat, judged, end)?);
    }
    upload::insert(connection, &uploads).await?;
    apply(connection, head.id, &changes).await?;
    upload::drop_bodies(connection, head.id).await?;
    recount(connection, head.id).await
}

fn by_client<'a>(
    head: &Head,
    judged: &'a [Judged],
    seats: &[SeatRow],
) -> Result<BTreeMap<&'a ClientId, &'a Judged>, StoreError> {
    let mut by_client = BTreeMap::new();
    for judged in judged {
        let what = || what(&head.row.task, head.row.number, &judged.client);
        if seats.binary_search_by(|seat| seat.client.cmp(&judged.client)).is_err() {
            return Err(StoreError::NotFound { what: what() });
        }
        if by_client.insert(&judged.client, judged).is_some() {
            return Err(StoreError::Exists { what: format!("a verdict for the {}", what()) });
        }
    }
    Ok(by_client)
}

/// The upload that the end of the round brings along, if the seat has none yet.
fn missing_upload(
    head: &Head,
    seat: &SeatRow,
    judged: Option<&Judged>,
    at: i64,
) -> Result<Option<Recorded>, StoreError> {
    let Some((digest, norm, examples)) = judged.and_then(|judged| judged.upload) else { return Ok(None) };
    match &seat.upload {
        Some(held) if held.digest == digest => Ok(None),
        Some(_) => {
            let what = what(&head.row.task, head.row.number, &seat.client);
            Err(StoreError::Exists { what: format!("another update in the {what}") })
        }
        None => Ok(Some(Recorded {
            round: head.id,
            client: seat.client.clone(),
            digest,
            norm: finite(norm, "norm")?,
            examples: integer(examples, "number of examples")?,
            at,
            body: None,
        })),
    }
}

/// A seat's new verdict, detail, score and weight.
struct Change {
    client: ClientId,
    verdict: Verdict,
    value: f64,
    detail: String,
    score: Option<f64>,
    weight: Option<f64>,
}

fn change(head: &Head, seat: &SeatRow, judged: Option<&Judged>, end: End) -> Result<Option<Change>, StoreError> {
    let received = seat.upload.is_some() || judged.is_some_and(|judged| judged.upload.is_some());
    // The ledger's first word about a refusal stands: the client was told so.
    let decided = seat.verdict != Verdict::Pending;
    let (mut verdict, detail) = match judged {
        Some(judged) if !decided => (judged.verdict, judged.detail.clone()),
        _ => (seat.verdict, seat.detail.clone()),
    };
    if verdict == Verdict::Pending && !received {
        verdict = Verdict::Dropout;
    }
    if verdict == Verdict::Pending && end == End::Released {
        let what = what(&head.row.task, head.row.number, &seat.client);
        return Err(StoreError::WrongState {
            what,
            state: "pending: a release needs a verdict for every update".into(),
        });
    }
    let score = judged.and_then(|judged| judged.score);
    let weight = judged.and_then(|judged| judged.weight);
    if verdict == seat.verdict && score.is_none() && weight.is_none() {
        return Ok(None);
    }
    let value = finite(verdict.value(), "value of a verdict")?;
    Ok(Some(Change { client: seat.client.clone(), verdict, value, detail, score, weight }))
}

async fn apply(connection: &mut SqliteConnection, round: i64, changes: &[Change]) -> Result<(), StoreError> {
    for changes in changes.chunks(BULK) {
        let mut update = QueryBuilder::<Sqlite>::new(
            "UPDATE seat SET verdict = new.column2, reason = new.column3, value = new.column4, detail = new.column5,
                    score = new.column6, weight = new.column7 FROM (",
        );
        update.push_values(changes, |mut row, change| {
            row.push_bind(change.client.as_str().to_owned())
                .push_bind(change.verdict.kind())
                .push_bind(verdict_reason(&change.verdict))
                .push_bind(change.value)
                .push_bind(change.detail.clone())
                .push_bind(change.score)
                .push_bind(change.weight);
        });
        update.push(") AS new WHERE seat.client = new.column1 AND seat.round = ").push_bind(round);
        update.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
    }
    Ok(())
}

async fn recount(connection: &mut SqliteConnection, round: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE round SET
            received = (SELECT count(*) FROM upload WHERE upload.round = ?1),
            (accepted, rejected, dropouts) = (
                SELECT coalesce(sum(verdict IN ('accepted', 'clipped', 'trimmed')), 0),
                       coalesce(sum(verdict = 'rejected'), 0), coalesce(sum(verdict = 'dropout'), 0)
                  FROM seat WHERE seat.round = ?1)
          WHERE id = ?1",
    )
    .bind(round)
    .execute(connection)
    .await
    .map_err(backend)?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<SeatRow, StoreError> {
    let client = client(row, "client")?;
    let upload = match get::<Option<&[u8]>>(row, "digest")? {
        None => None,
        Some(_) => Some(UploadRow {
            client: client.clone(),
            digest: digest(row, "digest")?,
            body: body(row)?,
            norm: get(row, "norm")?,
            examples: unsigned(row, "examples")?,
            at: unsigned(row, "at")?,
        }),
    };
    Ok(SeatRow {
        client,
        nonce: nonce(row, "nonce")?,
        verdict: verdict(row)?,
        detail: get(row, "detail")?,
        upload,
        score: get(row, "score")?,
        weight: get(row, "weight")?,
    })
}

/// An empty inline body where it was dropped or not asked for.
fn body(row: &SqliteRow) -> Result<Body, StoreError> {
    if let Some(parts) = get::<Option<&str>>(row, "parts")? {
        let parts = serde_json::from_str(parts).map_err(|error| damaged("parts", error))?;
        return Ok(Body::Parts { key: get(row, "spool_key")?, parts });
    }
    let inline: Option<Vec<u8>> = get(row, "inline")?;
    Ok(Body::Inline(inline.map_or_else(Bytes::new, Bytes::from)))
}
