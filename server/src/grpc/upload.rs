//! One update's way from the socket to the ledger.
//!
//! Authenticated seat, byte budget, every limit against the round's own parameters, then chunk by chunk through the
//! [`Door`] into the spool; at the end one ledger transaction and the receipt. A lost connection keeps what has
//! arrived; a broken rule refuses this update alone.

mod encoded;

use super::status;
use crate::{
    accept::{Arrived, UpdateBody, taken},
    access::check_client,
    clock,
    registry::Registry,
    spool::{Held, Spool, Writer},
    store::UploadRow,
    task::{Admission, Grant, Handle, SlotGuard, Transfer},
};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::time::{Duration, Instant};
use testudo_engine::Door;
use testudo_proto::{
    Place, Receipt, UploadHeader, UploadPart, digest_from_wire, fault,
    stream::Piece,
    v1::{UploadReceipt, UploadRequest, UploadStatusResponse, upload_request::Part},
};
use testudo_protocol::{Digest, Encoding, Reason, Reject, limits};
use tonic::{Code, Request, Status, Streaming};
use tracing::Instrument as _;

/// Payloads up to this lie in the ledger: a file and its fsync each would cost more.
const INLINE_BYTES: u64 = 64 << 10;
/// Streams a client may start for one update.
const RESTARTS: u32 = 64;
/// What an upload holds in memory at most: one part being written and one chunk.
const IN_FLIGHT_BYTES: u64 = 6 << 20;
/// How long a stream that lost its transfer to a newer one stays away.
const TAKEN_OVER_PAUSE: Duration = Duration::from_millis(500);
/// Pieces of a chunk below this are copied together.
const SHORT_PIECE_BYTES: usize = 4 << 10;
/// From when on the slowest rate counts.
const RATE_FROM: Duration = Duration::from_secs(10);
/// While others wait for memory, over how long the slowest rate counts.
const CROWDED: Duration = Duration::from_secs(2);

/// How an upload ends early.
enum Stop {
    /// The update broke a rule: its client is out of this round.
    Refuse(Reject),
    /// The transfer stopped; the client may go on with it.
    Pause(Status),
}

/// What the server holds of an upload.
pub(super) async fn progress(registry: &Registry, place: Place, digest: &[u8]) -> Result<UploadStatusResponse, Status> {
    let digest = digest_from_wire(digest, "digest").map_err(status::rejected)?;
    let handle = registry.get(&place.task).map_err(status::rejected)?;
    let recorded = |receipt: Receipt| UploadStatusResponse { offset: 0, receipt: Some(receipt.to_wire()) };
    let grant = match admit(&handle, &place, digest).await? {
        Admitted::Recorded(receipt) => return Ok(recorded(receipt)),
        Admitted::Granted(grant) => grant,
    };
    let mut guard = grant.slot.take().await;
    if let Admitted::Recorded(receipt) = admit(&handle, &place, digest).await? {
        return Ok(recorded(receipt));
    }
    let transfer = resume(&mut guard, &registry.services.spool, &grant, digest, None).await.map_err(stopped)?;
    Ok(UploadStatusResponse { offset: transfer.door.position(), receipt: None })
}

/// Receives one update.
///
/// The work outlives the call: when a connection breaks the transport drops its calls at once, and what has arrived
/// must still reach the spool, and a refusal the round.
pub(super) async fn receive(
    registry: &Registry,
    request: Request<Streaming<UploadRequest>>,
) -> Result<UploadReceipt, Status> {
    let registry = registry.clone();
    let work = tokio::spawn(async move { receive_whole(&registry, request).await }.in_current_span());
    work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an upload panicked");
        Err(fault("the upload ended badly"))
    })
}

async fn receive_whole(
    registry: &Registry,
    request: Request<Streaming<UploadRequest>>,
) -> Result<UploadReceipt, Status> {
    // The codec's own stream is empty.
    let (_, mut extensions, _) = request.into_parts();
    let Some(mut stream) = taken(&mut extensions) else { return Err(fault("an upload without a body")) };
    let mut caller = Request::new(());
    *caller.extensions_mut() = extensions;
    let header = first(registry, &mut stream, &caller).await?;
    let handle = registry.get(&header.place.task).map_err(status::rejected)?;
    let grant = match admit(&handle, &header.place, header.digest).await? {
        Admitted::Recorded(receipt) => return Ok(receipt.to_wire()),
        Admitted::Granted(grant) => grant,
    };
    let arrived = caller.extensions().get::<Arrived>().cloned().unwrap_or_default();
    match transfer(registry, &handle, &header, &grant, (&mut stream, arrived)).await {
        Ok(receipt) => Ok(receipt),
        Err(Stop::Pause(status)) => Err(status),
        Err(Stop::Refuse(reject)) => {
            handle.refuse(header.place, reject.clone()).await;
            Err(status::rejected(reject))
        }
    }
}

/// Leave to send, or the receipt of this very update.
enum Admitted {
    Granted(Grant),
    Recorded(Receipt),
}

async fn admit(handle: &Handle, place: &Place, digest: Digest) -> Result<Admitted, Status> {
    match handle.admit(place.clone(), digest).await.map_err(status::rejected)? {
        Admission::Granted(grant) => Ok(Admitted::Granted(grant)),
        Admission::Recorded(receipt) => Ok(Admitted::Recorded(receipt)),
        Admission::Recording(receipt) => match receipt.await {
            Ok(receipt) => receipt.map(Admitted::Recorded).map_err(status::rejected),
            Err(_) => Err(fault("the server is stopping")),
        },
    }
}

/// The header. One that breaks a rule, from the client whose seat it names, is an update refused.
async fn first(registry: &Registry, stream: &mut UpdateBody, caller: &Request<()>) -> Result<UploadHeader, Status> {
    // A first message is in memory before it can be read: only so many at a time, and not for long.
    let Ok(opening) = registry.services.openings.acquire().await else { return Err(fault("the server is stopping")) };
    let limit = registry.services.config.limits.handshake();
    let message = message(registry, stream, limit).await.map_err(stopped)?;
    let header = match message {
        Some(Piece::Message(message)) => decoded(message).map_err(status::rejected)?.part,
        Some(Piece::Chunk(_)) | None => None,
    };
    let Some(Part::Header(header)) = header else {
        return Err(status::rejected(Reject::new(Reason::Malformed, "an upload begins with its header")));
    };
    let place = Place::from_wire(header.place.clone()).map_err(status::rejected)?;
    check_client(caller, &place.client).map_err(status::rejected)?;
    let read = UploadHeader::from_wire(header);
    // What the message has become is bounded now.
    drop(opening);
    match read {
        Ok(header) => Ok(header),
        Err(reject) => {
            if let Ok(handle) = registry.get(&place.task) {
                handle.refuse(place, reject.clone()).await;
            }
            Err(status::rejected(reject))
        }
    }
}

async fn transfer(
    registry: &Registry,
    handle: &Handle,
    header: &UploadHeader,
    grant: &Grant,
    (stream, arrived): (&mut UpdateBody, Arrived),
) -> Result<UploadReceipt, Stop> {
    let examples = check_header(header, grant).map_err(Stop::Refuse)?;
    let services = &registry.services;
    let spool = &services.spool;
    let _budget = services.budget.take(in_flight(header, grant)).await;
    let mut guard = grant.slot.take().await;
    // While this call waited, the update may have been recorded: its bytes are then not ours to touch.
    if let Admitted::Recorded(receipt) = admit(handle, &header.place, header.digest).await.map_err(Stop::Pause)? {
        return Ok(receipt.to_wire());
    }
    let transfer = resume(&mut guard, spool, grant, header.digest, Some((header.encoding, header.total_bytes))).await?;
    if header.offset != transfer.door.position() {
        let held = transfer.door.position();
        let detail = format!("the stream starts at {}, the server holds {held} bytes", header.offset);
        return Err(Stop::Pause(status::rejected(Reject::new(Reason::WrongOffset, detail))));
    }
    if header.offset > 0 && transfer.counted {
        services.metrics.resumed_uploads.inc();
    }
    if grant.slot.count_stream() > RESTARTS {
        let detail = format!("more than {RESTARTS} streams for one update");
        return Err(Stop::Refuse(Reject::new(Reason::TooSlow, detail)));
    }
    let key = payload_key(&grant.slot.key, header.digest, header.encoding);
    let mut writer =
        spool.writer(key.clone(), transfer.held.clone()).map_err(|error| Stop::Pause(status::spool(error)))?;
    let (taken_over, round_ended) = (guard.taken_over.clone(), guard.round_ended.clone());
    let received = tokio::select! {
        received = fill(registry, transfer_of(&mut guard)?, &mut writer, (stream, arrived)) => received,
        () = taken_over.cancelled() => Err(elsewhere()),
        () = round_ended.cancelled() => Err(Stop::Refuse(Reject::new(Reason::Late, "the round ended"))),
    };
    if let Err(stop) = received {
        return Err(suspend(&mut guard, writer, spool, &key, stop).await);
    }
    let Some(Transfer { door, .. }) = guard.transfer.take() else { return Err(elsewhere()) };
    let passed = match door.finish(header.digest) {
        Ok(passed) => passed,
        Err(reject) => {
            discard(spool, &key).await;
            return Err(Stop::Refuse(reject));
        }
    };
    let body = writer.finish(INLINE_BYTES).await.map_err(|error| Stop::Pause(status::spool(error)))?;
    let (client, digest, norm) = (header.place.client.clone(), passed.digest, passed.norm);
    let upload = UploadRow { client, digest, body, norm, examples, at: clock::now() };
    // The guard stays until the ledger has the row: a newer stream must not write over these bytes.
    let receipt = handle.offer(header.place.clone(), upload).await;
    let missed = |reject: &Reject| matches!(reject.reason, Reason::Late | Reason::GroupLost | Reason::WrongState);
    if grant.masked_bytes.is_some() && receipt.as_ref().is_err_and(missed) {
        // Its step or its group is over: nothing refers to these bytes, and others may come.
        discard(spool, &key).await;
    }
    receipt.map(|receipt| receipt.to_wire()).map_err(|reject| Stop::Pause(status::rejected(reject)))
}

/// Everything the header alone can break. Returns the examples, capped; 1 in a private task, which does not want to know.
fn check_header(header: &UploadHeader, grant: &Grant) -> Result<u64, Reject> {
    if header.model_digest != grant.base {
        let detail =
            format!("trained from {}, the round starts from {}", header.model_digest.short(), grant.base.short());
        return Err(Reject::new(Reason::WrongModel, detail));
    }
    header.check_layout(&grant.layout)?;
    if !grant.encodings.contains(&header.encoding) {
        let words: Vec<&str> = grant.encodings.iter().map(|encoding| encoding.word()).collect();
        let detail = format!("the task takes no {}; it takes {}", header.encoding, words.join(", "));
        return Err(Reject::new(Reason::WrongDtype, detail));
    }
    let lengths = match grant.masked_bytes {
        None => header.encoding.lengths(&grant.layout),
        Some(bytes) => bytes..=bytes,
    };
    if !lengths.contains(&header.total_bytes) {
        let oversize = header.total_bytes > *lengths.end();
        let (reason, expected) =
            if oversize { (Reason::Oversize, lengths.end()) } else { (Reason::Truncated, lengths.start()) };
        return Err(Reject::new(reason, format!("announces {} bytes, the model has {expected}", header.total_bytes)));
    }
    match u64::try_from(header.num_examples) {
        _ if grant.private => Ok(1),
        Ok(examples @ 1..=limits::CLAIMED_EXAMPLES) => Ok(examples.min(grant.max_examples)),
        _ => {
            let detail =
                format!("claims {} examples; 1 to {} are possible", header.num_examples, limits::CLAIMED_EXAMPLES);
            Err(Reject::new(Reason::Examples, detail))
        }
    }
}

/// The transfer as it stands: of this process, of an earlier one (its parts are read again), or a new one. What an
/// earlier process held of an encoded payload is of no use: the digest is over bytes that were not kept.
async fn resume<'a>(
    guard: &'a mut SlotGuard,
    spool: &Spool,
    grant: &Grant,
    digest: Digest,
    announced: Option<(Encoding, u64)>,
) -> Result<&'a mut Transfer, Stop> {
    let fault = |error| Stop::Pause(status::spool(error));
    let known = guard.transfer.as_ref().map(|transfer| (transfer.digest, transfer.encoding));
    let same =
        |known: (Digest, Encoding)| known.0 == digest && announced.is_none_or(|(encoding, _)| encoding == known.1);
    if !known.is_some_and(same) {
        let (encoding, bytes) = announced.unwrap_or((plain_of(grant), plain_bytes(grant)));
        let door = match grant.private {
            true => Door::private(grant.layout.clone(), encoding, bytes),
            false => Door::new(grant.layout.clone(), grant.max_l2, encoding, bytes),
        };
        let mut fresh = Transfer { digest, encoding, counted: !grant.secret, held: Held::nothing(), door };
        if known.is_none() && encoding.is_plain() && spool.is_durable() {
            let key = payload_key(&grant.slot.key, digest, encoding);
            let held = spool.held(&key).await.map_err(fault)?;
            let body = held.body(&key);
            let mut position = 0;
            while position < held.position().min(bytes) {
                let end = (position + limits::CHUNK_BYTES as u64).min(held.position());
                for piece in spool.read(&body, position..end).await.map_err(fault)? {
                    fresh.door.feed(&piece).map_err(Stop::Refuse)?;
                }
                position = end;
            }
            fresh.held = held;
        } else {
            spool.delete(&grant.slot.key).await.map_err(fault)?;
        }
        *guard.transfer = Some(fresh);
    }
    transfer_of(guard)
}

/// What bytes without an announced encoding must be: the one encoding of a task that is stored as it comes.
fn plain_of(grant: &Grant) -> Encoding {
    grant.encodings.iter().copied().find(|encoding| encoding.is_plain()).unwrap_or_default()
}

/// How many there must be.
fn plain_bytes(grant: &Grant) -> u64 {
    grant.masked_bytes.unwrap_or_else(|| grant.layout.bytes())
}

fn transfer_of(guard: &mut SlotGuard) -> Result<&mut Transfer, Stop> {
    guard.transfer.as_mut().ok_or_else(elsewhere)
}

/// What an upload may hold in memory: a short payload may stand for a long update.
fn in_flight(header: &UploadHeader, grant: &Grant) -> u64 {
    match header.encoding {
        encoding if encoding.is_plain() => header.total_bytes.min(IN_FLIGHT_BYTES),
        _ => grant.layout.bytes().min(IN_FLIGHT_BYTES) + encoded::DECODED_BYTES,
    }
}

/// Parts of two payloads of one client never mix, nor plain bytes with what encoded ones stand for.
fn payload_key(seat: &str, digest: Digest, encoding: Encoding) -> String {
    match encoding {
        encoding if encoding.is_plain() => format!("{seat}/{digest}"),
        encoding => format!("{seat}/{digest}-{encoding}"),
    }
}

/// Another stream has the transfer now. The one that lost it may ask how far it is, but had better wait a little: two
/// streams that take it from each other at once get nowhere.
fn elsewhere() -> Stop {
    let detail = "a newer stream of this client took the transfer over";
    Stop::Pause(status::rejected(Reject::retry(Reason::TakenOver, detail, TAKEN_OVER_PAUSE)))
}

/// Takes chunks until the payload is complete.
async fn fill(
    registry: &Registry,
    transfer: &mut Transfer,
    writer: &mut Writer,
    (stream, arrived): (&mut UpdateBody, Arrived),
) -> Result<(), Stop> {
    let services = &registry.services;
    let mut sender = Sender { mark: arrived.bytes(), arrived, waited: Duration::ZERO };
    let (started, mut arrived) = (Instant::now(), 0u64);
    // Bytes are looked at as they come, but an upload is resumed at a chunk: the transfer and the spool take whole ones.
    let (mut door, mut chunk, mut short) = (transfer.door.clone(), Vec::new(), BytesMut::new());
    let plain = door.is_plain();
    loop {
        let part = next(registry, stream, &mut sender).await?;
        let piece = match part {
            Some(UploadPart::Chunk(piece)) => piece,
            Some(UploadPart::Header(_)) => {
                return Err(Stop::Refuse(Reject::new(Reason::Malformed, "a second header in one upload")));
            }
            None if plain => return Ok(()),
            None => return encoded::end(&mut transfer.door, writer).await,
        };
        arrived += piece.len() as u64;
        if transfer.counted {
            services.metrics.upload_bytes.inc_by(piece.len() as u64);
        }
        if plain {
            door.feed(&piece).map_err(Stop::Refuse)?;
        }
        gather(&mut chunk, &mut short, piece);
        if !stream.is_within_chunk() {
            if !short.is_empty() {
                chunk.push(short.split().freeze());
            }
            for piece in chunk.drain(..) {
                match plain {
                    true => writer.append(piece).await.map_err(|error| Stop::Pause(status::spool(error)))?,
                    false => encoded::append(&mut door, writer, &piece).await?,
                }
            }
            transfer.door = door.clone();
        }
        let elapsed = started.elapsed();
        if elapsed > RATE_FROM
            && (arrived as f64) < services.config.limits.upload_bytes_per_s as f64 * elapsed.as_secs_f64()
        {
            let detail = format!("{arrived} bytes in {:.0} s", elapsed.as_secs_f64());
            return Err(Stop::Pause(status::rejected(Reject::new(Reason::TooSlow, detail))));
        }
    }
}

/// Short pieces of a chunk are copied together: each one would keep the buffer it came in, however large.
fn gather(chunk: &mut Vec<Bytes>, short: &mut BytesMut, piece: Bytes) {
    if piece.len() < SHORT_PIECE_BYTES {
        short.extend_from_slice(&piece);
        return;
    }
    if !short.is_empty() {
        chunk.push(short.split().freeze());
    }
    chunk.push(piece);
}

/// What a sender did while it was waited for.
struct Sender {
    arrived: Arrived,
    /// Bytes that had arrived when the waiting began.
    mark: u64,
    waited: Duration,
}

/// The next part. One that breaks a rule refuses the update. A sender that holds memory must keep to the slowest rate
/// from the start while others wait for it; only the time this side waits counts.
async fn next(registry: &Registry, stream: &mut UpdateBody, sender: &mut Sender) -> Result<Option<UploadPart>, Stop> {
    let limits = &registry.services.config.limits;
    let least = (limits.upload_bytes_per_s as f64 * CROWDED.as_secs_f64()).max(1.0) as u64;
    let mut message = std::pin::pin!(message(registry, stream, limits.upload_idle()));
    loop {
        let began = Instant::now();
        tokio::select! {
            biased;
            message = &mut message => {
                sender.waited += began.elapsed();
                let part = match message? {
                    Some(Piece::Chunk(bytes)) => Ok(Some(UploadPart::Chunk(bytes))),
                    Some(Piece::Message(message)) => decoded(message).and_then(UploadPart::from_wire).map(Some),
                    None => Ok(None),
                };
                return part.map_err(Stop::Refuse);
            }
            () = tokio::time::sleep(CROWDED.saturating_sub(sender.waited)) => {}
        }
        let arrived = sender.arrived.bytes();
        let sent = arrived - sender.mark;
        if sent < least && registry.services.budget.is_wanted() {
            let detail = format!("{sent} bytes in {} s while other uploads wait for memory", CROWDED.as_secs());
            return Err(Stop::Pause(status::rejected(Reject::new(Reason::TooSlow, detail))));
        }
        (sender.mark, sender.waited) = (arrived, Duration::ZERO);
    }
}

fn decoded(message: Bytes) -> Result<UploadRequest, Reject> {
    UploadRequest::decode(message)
        .map_err(|_| Reject::new(Reason::Malformed, "a message is not protobuf of this version"))
}

/// The next piece, within a limit. A lost connection, a silent sender and a stopping server pause the transfer.
async fn message(registry: &Registry, stream: &mut UpdateBody, idle: Duration) -> Result<Option<Piece>, Stop> {
    let message = tokio::select! {
        message = tokio::time::timeout(idle, stream.next()) => message,
        () = registry.services.stop.cancelled() => return Err(Stop::Pause(fault("the server is stopping"))),
    };
    match message {
        Err(_) => {
            let detail = format!("nothing for {:.1} s", idle.as_secs_f64());
            Err(Stop::Pause(status::rejected(Reject::new(Reason::TooSlow, detail))))
        }
        Ok(Err(error)) => Err(unreadable(error)),
        Ok(Ok(message)) => Ok(message),
    }
}

/// Tells a message over the limits from a connection that was lost.
fn unreadable(error: Status) -> Stop {
    match error.code() {
        Code::OutOfRange | Code::Unimplemented => {
            let detail = format!("one message holds at most {} bytes, uncompressed", limits::CHUNK_BYTES);
            Stop::Refuse(Reject::new(Reason::Oversize, detail))
        }
        _ => Stop::Pause(error),
    }
}

/// Keeps what has arrived for the next stream, unless the update is refused.
async fn suspend(guard: &mut SlotGuard, mut writer: Writer, spool: &Spool, key: &str, stop: Stop) -> Stop {
    if let Stop::Refuse(reject) = stop {
        *guard.transfer = None;
        discard(spool, key).await;
        return Stop::Refuse(reject);
    }
    let flushed = writer.flush().await;
    match (flushed, guard.transfer.as_mut()) {
        (Ok(()), Some(transfer)) if transfer.door.stored() == writer.position() => {
            transfer.held = writer.held();
        }
        _ => {
            // A chunk was cut off half-way into the spool: the parts are read again next time.
            *guard.transfer = None;
        }
    }
    stop
}

async fn discard(spool: &Spool, key: &str) {
    if let Err(error) = spool.delete(key).await {
        tracing::warn!(%error, "a refused update's bytes stay until the round ends");
    }
}

fn stopped(stop: Stop) -> Status {
    match stop {
        Stop::Pause(status) => status,
        Stop::Refuse(reject) => status::rejected(reject),
    }
}
