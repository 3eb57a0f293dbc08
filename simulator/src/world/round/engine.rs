//! The server's engine, driven in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;
use testudo_engine::{Action, Engine, EngineInput, Job, Judgement, UploadMeta};
use testudo_protocol::{ClientId, Digest, Tick};

use super::{Ending, Play};
use crate::world::uplink::payload;
use crate::world::{World, WorldError};

impl World {
    /// Offers the messages in order, lets time pass, runs the jobs, takes the end.
    pub(super) fn through_engine(&self, round: u64, play: Play<'_>) -> Result<Ending, WorldError> {
        let Play { base, params, names, messages, seed } = play;
        let task = Arc::clone(&self.scenario.task);
        let deadline = params.deadline();
        let is_private = task.privacy.is_some();
        let mut engine = Engine::open(task, base, Arc::clone(&self.state.carry), params, seed);
        if is_private {
            engine.set_noise_seed(self.noise_seed(round));
        }
        let mut spool: BTreeMap<ClientId, Bytes> = BTreeMap::new();
        let mut pending = Vec::new();
        for message in messages.into_iter().filter(|message| message.at < deadline) {
            let (client, at) = (names[message.client].clone(), message.at);
            let input = match message.stored {
                Err(reject) => EngineInput::Refuse { client, reject },
                Ok(stored) => {
                    let bytes = payload(&stored.values);
                    // Nobody sends twice here, so the digest only has to be the client's own.
                    let digest = Digest::of(client.as_str().as_bytes());
                    spool.insert(client.clone(), bytes);
                    EngineInput::Offer { client, upload: UploadMeta { digest, norm: 0.0, examples: stored.examples } }
                }
            };
            // A refusal here is the round's own: it closed before the update arrived.
            if let Ok(actions) = engine.handle(at, input) {
                pending.extend(actions);
            }
            if let Some(end) = self.drive(&mut engine, at, &mut pending, &spool) {
                return Ok(end);
            }
        }
        let fail = |detail: String| WorldError::Round { round, detail };
        pending.extend(engine.handle(deadline, EngineInput::Tick).map_err(|reject| fail(reject.detail))?);
        self.drive(&mut engine, deadline, &mut pending, &spool)
            .ok_or_else(|| fail("the engine neither released nor abandoned".to_owned()))
    }

    /// Answers actions until there are none, or the round ends.
    fn drive(
        &self,
        engine: &mut Engine,
        now: Tick,
        pending: &mut Vec<Action>,
        spool: &BTreeMap<ClientId, Bytes>,
    ) -> Option<Ending> {
        while !pending.is_empty() {
            let mut jobs = Vec::new();
            for action in std::mem::take(pending) {
                match action {
                    Action::Record { client, .. } => {
                        pending.extend(engine.handle(now, EngineInput::Recorded { client }).unwrap_or_default());
                    }
                    Action::Seal { .. } => pending.extend(engine.handle(now, EngineInput::Sealed).unwrap_or_default()),
                    Action::Run(job) => jobs.push(job),
                    Action::Release(release) => {
                        let judged = release.seats.clone();
                        return Some(self.ended(judged, Some(*release), None));
                    }
                    Action::Abandon { why, seats, .. } => return Some(self.ended(seats, None, Some(why.to_string()))),
                    Action::Acknowledge { .. } | Action::Advance(_) => {}
                }
            }
            let run = |job: Job| {
                let ranges = job.bytes();
                let cut = |client: &ClientId| -> Vec<Bytes> {
                    let Some(whole) = spool.get(client) else { return Vec::new() };
                    ranges.iter().map(|range| whole.slice(range.start as usize..range.end as usize)).collect()
                };
                let rows: Vec<Vec<Bytes>> = job.rows().iter().map(cut).collect();
                job.run(&rows)
            };
            let done: Vec<_> = if jobs.len() > 1 && rayon::current_num_threads() > 1 {
                jobs.into_par_iter().map(run).collect()
            } else {
                jobs.into_iter().map(run).collect()
            };
            done.into_iter().for_each(|done| pending.extend(engine.done(done)));
        }
        None
    }

    fn ended(&self, seats: Vec<Judgement>, release: Option<testudo_engine::Release>, why: Option<String>) -> Ending {
        let number = |client: &ClientId| self.numbers.get(client).copied();
        let verdicts = seats.iter().filter_map(|seat| Some((number(&seat.client)?, seat.verdict))).collect();
        let scores = seats.iter().filter_map(|seat| Some((number(&seat.client)?, seat.score?))).collect();
        match release {
            Some(release) => Ending {
                model: Some(Arc::new(release.model)),
                carry: Arc::new(release.carry),
                verdicts,
                scores,
                abandoned: None,
            },
            None => Ending { model: None, carry: Arc::clone(&self.state.carry), verdicts, scores, abandoned: why },
        }
    }
}
