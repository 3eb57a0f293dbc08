//! Updates recorded and refused while a round is open.

use super::{
    super::{Body, RoundState, StoreError, UploadRow, verdict_reason},
    audit::{self, Event},
    backend,
    column::{client, finite, integer, limit, nonce, optional_digest, verdict},
    round::{self, Head},
    seat::{self, BULK},
};
use serde_json::json;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use std::collections::HashMap;
use testudo_protocol::{ClientId, Digest, Nonce, TaskName, Tick, Verdict};

/// A row of table `upload`, checked.
pub(super) struct Recorded {
    pub(super) round: i64,
    pub(super) client: ClientId,
    pub(super) digest: Digest,
    pub(super) norm: f64,
    pub(super) examples: i64,
    pub(super) at: i64,
    pub(super) body: Option<Body>,
}

/// Decides row by row against what the ledger holds, then writes all that passed with a handful of statements.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    uploads: &[(TaskName, u64, UploadRow)],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let mut rounds = load(connection, uploads).await?;
    let mut results = Vec::with_capacity(uploads.len());
    let (mut recorded, mut events) = (Vec::new(), Vec::new());
    for (task, number, upload) in uploads {
        let round = rounds.get_mut(&(task, *number)).and_then(Option::as_mut);
        let secret = round.as_ref().is_some_and(|round| round.head.row.secret);
        results.push(match admit(round, task, *number, upload) {
            Ok(Some((row, commitment))) => {
                let body = match commitment {
                    Some(commitment) => {
                        json!({ "round": number, "client": upload.client, "commitment": commitment.to_string() })
                    }
                    None => json!({
                        "round": number,
                        "client": upload.client,
                        "digest": upload.digest.to_string(),
                        "norm": upload.norm,
                        "examples": upload.examples,
                    }),
                };
                // An event would tell who was drawn.
                if !secret {
                    events.push(Event::of(task, "record_upload", row.at, body));
                }
                recorded.push(row);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        });
    }
    insert(connection, &recorded).await?;
    for round in rounds.into_values().flatten().filter(|round| round.recorded > 0) {
        sqlx::query("UPDATE round SET received = received + ? WHERE id = ?")
            .bind(limit(round.recorded))
            .bind(round.head.id)
            .execute(&mut *connection)
            .await
            .map_err(backend)?;
    }
    audit::append_all(connection, &events).await?;
    Ok(results)
}

pub(super) async fn refuse(
    connection: &mut SqliteConnection,
    (task, number): (&TaskName, u64),
    client: &ClientId,
    verdict: Verdict,
    detail: &str,
    at: Tick,
) -> Result<(), StoreError> {
    let at = integer(at, "tick")?;
    let head = round::find(connection, (task, number)).await?;
    let seats = seats(connection, head.id, &[client]).await?;
    let what = seat::what(task, number, client);
    let Some(seat) = seats.get(client) else { return Err(StoreError::NotFound { what }) };
    let column = match verdict {
        Verdict::Rejected { .. } => "UPDATE round SET rejected = rejected + 1 WHERE id = ?",
        Verdict::Dropout => "UPDATE round SET dropouts = dropouts + 1 WHERE id = ?",
        other => {
            let state = format!("not given the verdict {:?} before the round ends", other.kind());
            return Err(StoreError::WrongState { what, state });
        }
    };
    if seat.verdict == verdict {
        return Ok(());
    }
    if seat.digest.is_some() {
        return Err(StoreError::WrongState { what, state: "holding a recorded update".into() });
    }
    if seat.verdict != Verdict::Pending {
        return Err(StoreError::WrongState { what, state: seat.verdict.to_string() });
    }
    if head.row.state != RoundState::Open {
        return Err(head.wrong_state());
    }
    sqlx::query("UPDATE seat SET verdict = ?, reason = ?, value = 0, detail = ? WHERE round = ? AND client = ?")
        .bind(verdict.kind())
        .bind(verdict_reason(&verdict))
        .bind(detail)
        .bind(head.id)
        .bind(client.as_str())
        .execute(&mut *connection)
        .await
        .map_err(backend)?;
    sqlx::query(column).bind(head.id).execute(&mut *connection).await.map_err(backend)?;
    if head.row.secret {
        return Ok(());
    }
    let body = json!({ "round": number, "client": client, "verdict": verdict, "detail": detail });
    audit::append(connection, Event::of(task, "record_refusal", at, body)).await
}

pub(super) async fn insert(connection: &mut SqliteConnection, uploads: &[Recorded]) -> Result<(), StoreError> {
    for uploads in uploads.chunks(BULK) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO upload (round, client, digest, norm, examples, at, spool_key, parts, inline) ",
        );
        insert.push_values(uploads, |mut row, upload| {
            let (key, parts, inline) = match &upload.body {
                Some(Body::Parts { key, parts }) => (Some(key.clone()), Some(json!(parts).to_string()), None),
                Some(Body::Inline(bytes)) => (None, None, Some(bytes.to_vec())),
                None => (None, None, None),
            };
            row.push_bind(upload.round)
                .push_bind(upload.client.as_str().to_owned())
                .push_bind(upload.digest.0.to_vec())
                .push_bind(upload.norm)
                .push_bind(upload.examples)
                .push_bind(upload.at)
                .push_bind(key)
                .push_bind(parts)
                .push_bind(inline);
        });
        insert.build().persistent(false).execute(&mut *connection).await.map_err(backend)?;
    }
    Ok(())
}

/// Raw updates do not outlive their round.
pub(super) async fn drop_bodies(connection: &mut SqliteConnection, round: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE upload SET spool_key = NULL, parts = NULL, inline = NULL WHERE round = ?")
        .bind(round)
        .execute(connection)
        .await
        .map_err(backend)?;
    Ok(())
}

/// What a batch needs to know about one of its rounds.
struct Round {
    head: Head,
    seats: HashMap<ClientId, Seat>,
    /// Updates of this batch that passed.
    recorded: usize,
}

struct Seat {
    nonce: Nonce,
    verdict: Verdict,
    digest: Option<Digest>,
}

type Rounds<'a> = HashMap<(&'a TaskName, u64), Option<Round>>;

/// Every round that a batch names, `None` where there is no such round.
async fn load<'a>(
    connection: &mut SqliteConnection,
    uploads: &'a [(TaskName, u64, UploadRow)],
) -> Result<Rounds<'a>, StoreError> {
    let mut clients: HashMap<(&TaskName, u64), Vec<&ClientId>> = HashMap::new();
    for (task, number, upload) in uploads {
        clients.entry((task, *number)).or_default().push(&upload.client);
    }
    let mut rounds = HashMap::new();
    for (name, clients) in clients {
        let round = match round::find(connection, name).await {
            Ok(head) => Some(Round { seats: seats(connection, head.id, &clients).await?, head, recorded: 0 }),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        rounds.insert(name, round);
    }
    Ok(rounds)
}

async fn seats(
    connection: &mut SqliteConnection,
    round: i64,
    clients: &[&ClientId],
) -> Result<HashMap<ClientId, Seat>, StoreError> {
    let mut seats = HashMap::with_capacity(clients.len());
    for clients in clients.chunks(BULK) {
        let mut select = QueryBuilder::<Sqlite>::new(
            "SELECT seat.client, nonce, verdict, reason, value, digest
               FROM seat LEFT JOIN upload ON upload.round = seat.round AND upload.client = seat.client
              WHERE seat.round = ",
        );
        select.push_bind(round).push(" AND seat.client IN (");
        let mut names = select.separated(", ");
        for client in clients {
            names.push_bind(client.as_str().to_owned());
        }
        select.push(")");
        let rows = select.build().persistent(false).fetch_all(&mut *connection).await.map_err(backend)?;
        for row in &rows {
            let (nonce, digest) = (nonce(row, "nonce")?, optional_digest(row, "digest")?);
            let seat = Seat { nonce, verdict: verdict(row)?, digest };
            seats.insert(client(row, "client")?, seat);
        }
    }
    Ok(seats)
}

/// What the audit log has of a private update: whoever knows the seat's nonce can show which update it was, and nobody
/// else can tell whether a guess is right.
fn commitment(nonce: &Nonce, digest: &Digest) -> Digest {
    Digest::of(&[b"testudo private upload ", &nonce.0[..], digest.as_bytes()].concat())
}

/// `Ok(None)`: recorded before, or earlier in this batch. With the commitment to a private update.
fn admit(
    round: Option<&mut Round>,
    task: &TaskName,
    number: u64,
    upload: &UploadRow,
) -> Result<Option<(Recorded, Option<Digest>)>, StoreError> {
    let Some(round) = round else { return Err(StoreError::NotFound { what: round::what(task, number) }) };
    let what = || seat::what(task, number, &upload.client);
    let Some(seat) = round.seats.get_mut(&upload.client) else { return Err(StoreError::NotFound { what: what() }) };
    match seat.digest {
        Some(held) if held == upload.digest => return Ok(None),
        Some(_) => return Err(StoreError::Exists { what: format!("another update in the {}", what()) }),
        None => {}
    }
    if seat.verdict != Verdict::Pending {
        return Err(StoreError::WrongState { what: what(), state: seat.verdict.to_string() });
    }
    if round.head.row.state != RoundState::Open {
        return Err(round.head.wrong_state());
    }
    let recorded = Recorded {
        round: round.head.id,
        client: upload.client.clone(),
        digest: upload.digest,
        norm: finite(upload.norm, "norm")?,
        examples: integer(upload.examples, "number of examples")?,
        at: integer(upload.at, "tick")?,
        body: Some(upload.body.clone()),
    };
    let commitment = round.head.private.then(|| commitment(&seat.nonce, &upload.digest));
    seat.digest = Some(upload.digest);
    round.recorded += 1;
    Ok(Some((recorded, commitment)))
}
