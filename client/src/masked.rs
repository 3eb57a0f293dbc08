//! An update under masks: keys, shares, the masked input, and the one answer afterwards.

use crate::{
    Error, Receipt,
    client::Inner,
    retry::Backoff,
    shares,
    transport::{Failure, upload::Upload},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use testudo_aggregate::{Cipher, KeyStream, Mask, MaskKey, Quantizer, apply_masks};
use testudo_proto::{Place, UploadHeader, v1};
use testudo_protocol::{
    Digest, Encoding, Reason, Reject,
    secagg::{Abort, Advertised, Announcement, Demands, Message, REPLY_BYTES, Reply, Session, Step},
};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// Steps of a masked round.
const STEPS: u32 = 5;
/// An empty answer that comes sooner is not asked for again at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
/// Longest one call waits for the end of a step.
const WAIT: Duration = Duration::from_secs(25);

/// An update that has not left the device, and cannot without masks.
pub(crate) struct MaskedUpdate {
    pub(crate) announcement: Announcement,
    pub(crate) tensors: Vec<v1::Tensor>,
    pub(crate) delta: Zeroizing<Vec<f32>>,
    pub(crate) examples: i64,
    /// Sent past every bound, for testing servers.
    pub(crate) hostile: bool,
    pub(crate) chunk_bytes: usize,
    /// When keys are no longer taken.
    pub(crate) deadline: Instant,
    /// Vanishes before this step, for testing servers.
    pub(crate) leaves: Option<Step>,
    /// Shown what leaves the device.
    pub(crate) witness: Option<Witness>,
}

/// Looks at the bytes that leave the device.
pub(crate) type Witness = Box<dyn FnOnce(&[u8]) + Send>;

impl MaskedUpdate {
    /// Goes through the steps; answers when the server holds this client's shares.
    ///
    /// # Errors
    /// As [`crate::Round::submit`]. [`Error::Rejected`] with `GROUP_LOST` if too many of the group vanished.
    pub(crate) async fn send(self, place: &Place, inner: &Arc<Inner>) -> Result<Receipt, Error> {
        let line = Line { place, inner, deadline: self.deadline + span(&self.announcement.session) };
        self.stay(Step::AdvertiseKeys)?;
        let session = &self.announcement.session;
        let quantizer = match session.has_shares() {
            true => None,
            false => Some(quantizer(session)?),
        };
        let (announcement, answers) = (&self.announcement, &*inner.answers);
        let (state, message) =
            Advertised::new(announcement, &inner.credentials, answers, is_aes_fast(), &mut random).map_err(abort)?;
        let Reply::Roster(roster) = line.exchange(&message, 0).await? else { return Err(unexpected()) };
        let demands = Demands { group: inner.policy.least_group(), colluders: inner.policy.least_colluders() };
        let (state, message) = state.group(&roster, &demands, &mut random).map_err(abort)?;
        let members = state.members();
        if let Some(quantizer) = &quantizer {
            quantizer.check_sum(members).map_err(|error| Error::Policy(format!("the round's quantiser: {error}")))?;
        }
        self.stay(Step::ShareKeys)?;
        let Reply::Shared(shared) = line.exchange(&message, members).await? else { return Err(unexpected()) };
        let state = state.shared(&shared).map_err(abort)?;
        let masks = state.masks().map_err(abort)?;
        self.stay(Step::MaskedInput)?;
        let (upload, this) = self.masked(place, masks, quantizer).await?;
        let digest = upload.header.digest;
        let receipt = upload.send(&inner.transport, &inner.retry).await?;
        drop(upload);
        let (state, message) = state.input(digest);
        let Reply::Survivors(survivors) = line.exchange(&message, members).await? else { return Err(unexpected()) };
        let (state, message) = state.survivors(&survivors).map_err(abort)?;
        this.stays(Step::Consistency)?;
        let Reply::Confirmed(confirmed) = line.exchange(&message, members).await? else { return Err(unexpected()) };
        let ready = state.confirmed(&confirmed).map_err(abort)?;
        // The record is on storage before the answer exists outside.
        let answers = Arc::clone(&inner.answers);
        let message = match tokio::task::spawn_blocking(move || ready.give(&*answers)).await {
            Ok(message) => message.map_err(abort)?,
            Err(error) => return Err(Error::Config(format!("the answer could not be recorded: {error}"))),
        };
        this.stays(Step::Unmask)?;
        let Reply::Done = line.exchange(&message, members).await? else { return Err(unexpected()) };
        Ok(receipt.into())
    }

    /// SHA-256 of the plain update's bytes.
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for value in self.delta.iter() {
            hash.update(value.to_le_bytes());
        }
        Digest(hash.finalize().into())
    }

    /// The quantised update, and its weight where clients have one.
    fn levels(&self, quantizer: &Quantizer) -> Result<Zeroizing<Vec<u32>>, Error> {
        let mut levels = Zeroizing::new(Vec::with_capacity(self.delta.len() + 1));
        levels.resize(self.delta.len(), 0u32);
        let mut seed = Zeroizing::new([0; 32]);
        random(&mut *seed);
        let mut stream = KeyStream::new(&MaskKey::new(*seed), Cipher::preferred());
        let unfit = |error: &dyn std::fmt::Display| Error::Update(error.to_string());
        let max_weight = self.announcement.session.max_weight;
        let weight = weight(self.examples, max_weight);
        match self.hostile {
            false => {
                quantizer
                    .quantize(&self.delta, weight, |bytes| stream.fill(bytes), &mut levels)
                    .map_err(|error| unfit(&error))?;
            }
            true => wrap(&self.delta, quantizer, &mut levels),
        }
        if max_weight > 0 {
            levels.push(quantizer.quantize_weight(weight).map_err(|error| unfit(&error))?);
        }
        Ok(levels)
    }

    fn stay(&self, step: Step) -> Result<(), Error> {
        Leaving(self.leaves).stays(step)
    }

    /// Quantises and masks, once: the plain update is gone afterwards.
    async fn masked(
        self,
        place: &Place,
        masks: Vec<Mask>,
        quantizer: Option<Quantizer>,
    ) -> Result<(Upload, Leaving), Error> {
        let leaving = Leaving(self.leaves);
        let place = place.clone();
        let packed = tokio::task::spawn_blocking(move || {
            let session = &self.announcement.session;
            let unfit = |error: &dyn std::fmt::Display| Error::Update(error.to_string());
            let mut levels = match &quantizer {
                Some(quantizer) => self.levels(quantizer)?,
                None => shares::words(session, &self.delta, self.hostile)?,
            };
            apply_masks(&mut levels, 0, &masks).map_err(|error| unfit(&error))?;
            let payload = payload(&levels);
            if let Some(witness) = self.witness {
                witness(&payload);
            }
            let header = UploadHeader {
                place,
                model_digest: session.model,
                digest: Digest::of(&payload),
                total_bytes: payload.len() as u64,
                offset: 0,
                // The server is not told: the weight is in the sum.
                num_examples: 1,
                tensors: self.tensors,
                encoding: Encoding::Masked,
            };
            let deadline = Instant::now() + span(session) / STEPS;
            Ok::<Upload, Error>(Upload { header, payload, chunk_bytes: self.chunk_bytes, deadline })
        });
        let upload = packed.await.map_err(|error| Error::Update(format!("masking failed: {error}")))??;
        Ok((upload, leaving))
    }
}

/// The step before which a client vanishes, for testing servers.
struct Leaving(Option<Step>);

impl Leaving {
    fn stays(&self, step: Step) -> Result<(), Error> {
        match self.0 {
            Some(leaves) if leaves == step => Err(Error::Config(format!("left before {step:?}, as asked"))),
            _ => Ok(()),
        }
    }
}

/// The calls of one client in one round.
struct Line<'a> {
    place: &'a Place,
    inner: &'a Arc<Inner>,
    /// When even a slow server has ended every step.
    deadline: Instant,
}

impl Line<'_> {
    /// Says something and waits for the end of its step. The same bytes are said as often as it takes.
    async fn exchange(&self, message: &Message, members: usize) -> Result<Reply, Error> {
        let transport = &self.inner.transport;
        let request = v1::ExchangeRequest {
            place: Some(self.place.to_wire()),
            message: message.to_bytes().into(),
            wait_ms: WAIT.as_millis() as u32,
        };
        let mut backoff = Backoff::new(&self.inner.retry, Some(self.inner.retry.extended(self.deadline)));
        loop {
            let asked = Instant::now();
            match transport.exchange(request.clone(), WAIT).await {
                Ok(response) if response.reply.is_empty() => {
                    // Who answers at once that it takes time is asked again after some.
                    if asked.elapsed() < SHORTEST_WAIT {
                        sleep(SHORTEST_WAIT).await;
                    }
                    if Instant::now() > self.inner.retry.extended(self.deadline) {
                        let last = "the step did not end".to_string();
                        return Err(Error::GaveUp { after: WAIT, last });
                    }
                    backoff.succeeded();
                }
                Ok(response) if response.reply.len() > REPLY_BYTES => return Err(unexpected()),
                Ok(response) => {
                    return Reply::from_bytes(&response.reply, members)
                        .map_err(|error| Error::ServerMisbehaved(format!("its answer cannot be read: {error}")));
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
            }
        }
    }
}

/// The levels' bytes, in one pass over memory that is written once.
fn payload(levels: &[u32]) -> Bytes {
    let mut bytes = vec![0; levels.len() * 4];
    for (four, level) in bytes.chunks_exact_mut(4).zip(levels) {
        four.copy_from_slice(&level.to_le_bytes());
    }
    bytes.into()
}

/// The quantiser of a session.
fn quantizer(session: &Session) -> Result<Quantizer, Error> {
    Quantizer::new(session.clip_l2, Some(session.kappa), session.bits)
        .map_err(|error| Error::Policy(format!("the round's quantiser: {error}")))
}

/// A client's share of the largest weight.
fn weight(examples: i64, max: u64) -> f64 {
    match max {
        0 => 1.0,
        max => examples.clamp(1, i64::MAX).cast_unsigned().min(max) as f64 / max as f64,
    }
}

/// What an attacker adds to its group's sum: neither clipped nor clamped, wrapped round the ring.
fn wrap(delta: &[f32], quantizer: &Quantizer, levels: &mut [u32]) {
    for (value, level) in delta.iter().zip(levels) {
        let steps = (f64::from(*value) + quantizer.kappa()) / quantizer.step();
        *level = (steps.round() as i64) as u32;
    }
}

/// How long all steps after the keys may take together.
fn span(session: &Session) -> Duration {
    // At most 7 days each, which reading the session has checked.
    Duration::from_millis(session.step_ms) * STEPS
}

fn is_aes_fast() -> bool {
    Cipher::preferred() == Cipher::Aes256Ctr
}

pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness; without it no secret can be made");
}

fn abort(abort: Abort) -> Error {
    match abort {
        // Others may have done this as well as the server: the group is not to be had.
        Abort::Threshold { .. } => Error::Rejected(Reject::new(Reason::GroupLost, abort.to_string())),
        abort if abort.is_misbehaviour() => Error::ServerMisbehaved(abort.to_string()),
        Abort::Demand { detail } => Error::Policy(detail),
        abort => Error::Config(abort.to_string()),
    }
}

fn unexpected() -> Error {
    Error::ServerMisbehaved("it answered a step with another step's answer".into())
}

impl std::fmt::Debug for MaskedUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MaskedUpdate({} coordinates)", self.delta.len())
    }
}
