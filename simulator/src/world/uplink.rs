//! From an update to what the server stores: encoding, and the server's own checks at the door.

use std::sync::Arc;

use bytes::Bytes;
use testudo_aggregate::first_non_finite;
use testudo_engine::Door;
use testudo_protocol::{Digest, Encoding, Layout, Reject, Run, Tick, keep_largest};

use super::World;
use crate::network;
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
    /// Sends every present client's row, in the order of arrival.
    pub(super) fn uploads(&self, round: u64, present: &[usize], rows: Vec<Vec<f32>>) -> Uploads {
        let plan = &self.scenario.plan;
        let layout = self.state.model.layout();
        let mut bytes = 0;
        let grouped = plan.visibility.group_size > 1;
        let shared = Arc::new(layout.clone());
        let mut messages: Vec<Message> = (present.iter().zip(rows))
            .map(|(&client, values)| {
                let at = network::arrival(&plan.network, plan.seed, round, client);
                let examples = (self.data.of(client).len() as u64).max(1).min(self.scenario.task.examples.max);
                let (stored, sent) = match grouped {
                    // Under masking nobody sees a single update: its group takes it as it is.
                    true => (Ok(values), shared.bytes()),
                    false => receive(&self.scenario, &shared, values),
                };
                bytes += sent;
                Message { client, at, stored: stored.map(|values| Stored { values, examples }) }
            })
            .collect();
        messages.sort_by_key(|message| (message.at, message.client));
        Uploads { messages, bytes }
    }
}

/// What the server stores of an update, and the bytes that were sent.
///
/// A plain update of the right length, all finite, passes without a cap on its norm: the door would find nothing. All
/// others go through the door itself.
fn receive(scenario: &Scenario, layout: &Arc<Layout>, mut values: Vec<f32>) -> (Result<Vec<f32>, Reject>, u64) {
    let plain = scenario.encoding == Encoding::F32;
    let fits = values.len() == layout.dimension();
    let finite = first_non_finite(&values).is_none();
    if plain && fits && finite && scenario.task.max_l2.is_none() {
        return (Ok(values), layout.bytes());
    }
    // What cannot be encoded is sent as it is: the door has to find it.
    let encoding = if fits && finite { scenario.encoding } else { Encoding::F32 };
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
