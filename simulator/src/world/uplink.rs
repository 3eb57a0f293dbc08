//! From an update to what the server stores: encoding, and the server's own checks at the door.

use std::sync::Arc;

use bytes::Bytes;
use testudo_aggregate::first_non_finite;
use testudo_engine::Door;
use testudo_protocol::limits::CLAIMED_EXAMPLES;
use testudo_protocol::{Digest, Encoding, Layout, Reason, Reject, Run, Tick, keep_largest};

use super::{Parcel, World};
use crate::attack::{Replayed, Step, Tamper};
use crate::scenario::Scenario;

/// What reaches the server in a round.
#[derive(Debug)]
pub(super) struct Uploads {
    pub(super) messages: Vec<Message>,
    /// Payload bytes sent by all clients.
    pub(super) bytes: u64,
}

/// One client's update at the server.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) client: usize,
    pub(super) at: Tick,
    pub(super) stored: Result<Stored, Reject>,
}

/// An update that passed the door.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) values: Vec<f32>,
    pub(super) examples: u64,
}

/// Bytes of a payload that the door sees at a time.
const CHUNK: usize = 1 << 16;

impl World {
    /// Sends the parcels; the messages are in the order of their arrival.
    pub(super) fn uploads(&self, parcels: Vec<Parcel>) -> Uploads {
        let mut bytes = 0;
        let grouped = self.scenario.plan.visibility.group_size > 1;
        let layout = Arc::new(self.state.model.layout().clone());
        let mut messages = Vec::with_capacity(parcels.len());
        for Parcel { client, at, values, examples, tamper } in parcels {
            if is_silent(tamper, grouped) {
                continue;
            }
            let (stored, sent) = match header(tamper, examples, grouped) {
                Err(reject) => (Err(reject), 0),
                // Under masking nobody sees a single update: its group takes it as it is.
                Ok(()) if grouped => (Ok(values), layout.bytes()),
                Ok(()) if values.len() != layout.dimension() => {
                    let detail = format!("{} coordinates, the model has {}", values.len(), layout.dimension());
                    (Err(Reject::new(Reason::WrongShape, detail)), 0)
                }
                Ok(()) => receive(&self.scenario, &layout, values),
            };
            bytes += sent;
            let examples = examples.min(self.scenario.task.examples.max);
            messages.push(Message { client, at, stored: stored.map(|values| Stored { values, examples }) });
        }
        messages.sort_by_key(|message| (message.at, message.client));
        Uploads { messages, bytes }
    }
}

/// Whether nothing of a client's update arrives. Under masking, whoever leaves before its input is not in the sum; whoever
/// leaves later is, because others hold the shares of its secrets.
fn is_silent(tamper: Tamper, grouped: bool) -> bool {
    match tamper {
        Tamper::Dropout { step } if grouped => step <= Step::Input,
        Tamper::Dropout { step } => step == Step::Input,
        _ => false,
    }
}

/// What the server refuses before it has seen a byte of the update. A second upload of a round is refused without harm to
/// the first, so it changes nothing here. Masked rounds have no claims.
fn header(tamper: Tamper, claimed: u64, grouped: bool) -> Result<(), Reject> {
    match tamper {
        Tamper::Replay { of: Replayed::Own } => Err(Reject::new(Reason::WrongRound, "an upload of the round before")),
        Tamper::Replay { of: Replayed::Other } => {
            Err(Reject::new(Reason::Identity, "an upload in another client's name"))
        }
        Tamper::Oversize { factor } => {
            Err(Reject::new(Reason::Oversize, format!("announces {factor} times the bytes of the model")))
        }
        Tamper::Examples { .. } if !grouped && !(1..=CLAIMED_EXAMPLES).contains(&claimed) => {
            Err(Reject::new(Reason::Examples, format!("claims {claimed} examples")))
        }
        _ => Ok(()),
    }
}

/// What the server stores of an update, and the bytes that were sent.
///
/// A plain update, all finite, passes without a cap on its norm: the door would find nothing. All
/// others go through the door itself.
fn receive(scenario: &Scenario, layout: &Arc<Layout>, mut values: Vec<f32>) -> (Result<Vec<f32>, Reject>, u64) {
    let plain = scenario.encoding == Encoding::F32;
    // A private task counts what is not finite as zeros, and tells nobody.
    let finite = scenario.task.privacy.is_some() || first_non_finite(&values).is_none();
    if plain && finite && scenario.task.max_l2.is_none() {
        return (Ok(values), layout.bytes());
    }
    // What cannot be encoded is sent as it is: the door has to find it.
    let encoding = if finite { scenario.encoding } else { Encoding::F32 };
    if encoding == Encoding::Sparse {
        let keep = (scenario.plan.encoding.keep * values.len() as f64).ceil() as usize;
        keep_largest(&mut values, keep);
    }
    let payload: Vec<u8> = match encoding {
        Encoding::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        other => other.encode(&values, layout),
    };
    let sent = payload.len() as u64;
    (through_the_door(scenario, layout, encoding, &payload, values), sent)
}

fn through_the_door(
    scenario: &Scenario,
    layout: &Arc<Layout>,
    encoding: Encoding,
    payload: &[u8],
    values: Vec<f32>,
) -> Result<Vec<f32>, Reject> {
    let mut door = Door::new(Arc::clone(layout), scenario.task.max_l2, encoding, payload.len() as u64);
    if door.is_plain() {
        for chunk in payload.chunks(CHUNK) {
            door.feed(chunk)?;
        }
        door.finish(Digest::of(payload))?;
        return Ok(values);
    }
    let mut stored = Vec::with_capacity(layout.dimension());
    let mut take = |runs: Vec<Run>| {
        for run in runs {
            match run {
                Run::Values(values) => stored.extend(values),
                Run::Zeros(count) => stored.resize(stored.len() + count, 0.0),
            }
        }
    };
    for chunk in payload.chunks(CHUNK) {
        take(door.decode(chunk)?);
    }
    take(door.decode_end()?);
    door.finish(Digest::of(payload))?;
    Ok(stored)
}

/// Numbers as the spool holds them.
pub(super) fn payload(values: &[f32]) -> Bytes {
    let mut bytes = vec![0; values.len() * 4];
    for (four, value) in bytes.chunks_exact_mut(4).zip(values) {
        four.copy_from_slice(&value.to_le_bytes());
    }
    Bytes::from(bytes)
}
