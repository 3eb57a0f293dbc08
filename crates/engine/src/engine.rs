//! A round from its first seat to its release.

mod aggregation;
mod ending;
mod private;
mod unmasking;

use crate::{
    Carry, TaskSpec,
    job::{Combined, Done, Job, Outcome, Unit},
    privacy::ClipStep,
    record::RoundRecord,
    row_set::RowSet,
};
use aggregation::Aggregation;
use bytes::Bytes;
use private::PrivateSum;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use testudo_aggregate::{Decision, Note, RuleError, UnitStatistics};
use testudo_privacy::noise::NoiseSeed;
use testudo_protocol::{
    Abandon, ClientId, Digest, Effect, Input, Model, PairwiseParams, Phase, Reason, Reject, Round, RoundParams, Seat,
    Tick, Verdict,
    secagg::{Announcement, Message, Misfit, Reply, Step},
};
use unmasking::Unmasking;

/// The detail of an update that was in time, but whose round was given up.
const GIVEN_UP: &str = "the round was abandoned";

/// What the engine keeps of an update; the bytes stay in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UploadMeta {
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// L2 norm.
    pub norm: f64,
    /// Examples, capped by the task.
    pub examples: u64,
}

/// What a driver tells the engine. A masked round is a function of its inputs: written down in order and told again they
/// lead to the same groups, survivors and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "an input is moved once, and most of a masked round's are messages")]
pub enum EngineInput {
    /// A complete update passed the [`Door`](crate::Door) and lies in the spool.
    Offer {
        /// Whose.
        client: ClientId,
        /// What it is.
        upload: UploadMeta,
    },
    /// The ledger holds the update.
    Recorded {
        /// Whose.
        client: ClientId,
    },
    /// The ledger could not take the update.
    Unrecorded {
        /// Whose.
        client: ClientId,
    },
    /// The update was refused at the door.
    Refuse {
        /// Whose.
        client: ClientId,
        /// Why.
        reject: Reject,
    },
    /// The client leaves the round.
    Withdraw {
        /// Who.
        client: ClientId,
    },
    /// A client's message in a masked round.
    Message {
        /// Whose.
        client: ClientId,
        /// What it says.
        #[serde(with = "testudo_protocol::secagg::hexadecimal")]
        message: Box<Message>,
    },
    /// The deadline moves: clients need time to come back after a restart.
    Reschedule {
        /// When the phase ends now.
        deadline: Tick,
    },
    /// The ledger holds the fixed set of survivors.
    Sealed,
    /// The operator stops the task.
    Stop,
    /// Give the round up for a reason outside the protocol.
    Abandon(Abandon),
    /// Time has passed.
    Tick,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Action {
    /// Write the update to the ledger, then answer `Recorded` or `Unrecorded`.
    Record {
        /// Whose.
        client: ClientId,
        /// What it is.
        upload: UploadMeta,
    },
    /// The update is safe: send its receipt.
    Acknowledge {
        /// To whom.
        client: ClientId,
    },
    /// A masked round has come to its next phase: answers that clients wait for are ready.
    Advance(Phase),
    /// Write the survivors to the ledger, then answer `Sealed`.
    Seal {
        /// Sorted by id.
        survivors: Vec<ClientId>,
    },
    /// Run the job with its rows' bytes and hand the result to [`Engine::done`].
    Run(Job),
    /// Release the model: the round is over.
    Release(Box<Release>),
    /// Close the round without a model: it is over.
    Abandon {
        /// Why.
        why: Abandon,
        /// Every seat's end.
        seats: Vec<Judgement>,
        /// The groups of a masked round and what it promised.
        record: Option<RoundRecord>,
    },
}

/// A round's result.
#[derive(Debug)]
pub struct Release {
    /// The new model.
    pub model: Model,
    /// Its file.
    pub file: Bytes,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// What the task carries to its next round besides the model.
    pub carry: Carry,
    /// L2 norm of the aggregate.
    pub aggregate_norm: f64,
    /// Figures that explain the rule's decision.
    pub notes: Vec<Note>,
    /// Every seat's end, sorted by client.
    pub seats: Vec<Judgement>,
    /// The groups of a masked round and what it promised.
    pub record: Option<RoundRecord>,
}

impl Release {
    /// Every seat's end if the release cannot be written: the round is then abandoned, and what the rule thought of an
    /// update whose round was given up is no verdict on it.
    pub fn abandoned(self) -> Vec<Judgement> {
        let mut seats = self.seats;
        for seat in seats.iter_mut().filter(|seat| seat.upload.is_some()) {
            *seat = Judgement {
                client: seat.client.clone(),
                verdict: Verdict::Pending,
                detail: GIVEN_UP.into(),
                upload: seat.upload,
                score: None,
                weight: None,
            };
        }
        seats
    }
}

/// One seat's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Who.
    pub client: ClientId,
    /// The verdict.
    pub verdict: Verdict,
    /// Details for people.
    pub detail: String,
    /// Its update, if one was recorded.
    pub upload: Option<UploadMeta>,
    /// The rule's score of the row.
    pub score: Option<f64>,
    /// The row's weight in the aggregate.
    pub weight: Option<f64>,
}

/// One running round.
#[derive(Debug)]
pub struct Engine {
    spec: Arc<TaskSpec>,
    base: Arc<Model>,
    carry: Arc<Carry>,
    seed: u64,
    round: Round,
    uploads: BTreeMap<ClientId, UploadMeta>,
    refusals: BTreeMap<ClientId, String>,
    /// Why nothing of a group's members counts although they did their part, by the group's number.
    locked: BTreeMap<u32, String>,
    /// Shares that do not fit, against whoever dealt and whoever gave them.
    misfits: Vec<Misfit>,
    /// Of a private round's noise, until its updates are added.
    noise: Option<NoiseSeed>,
    /// Manifests of a correlated run up to this round's step, until then.
    steps: Vec<[u8; 32]>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Taking updates.
    Input,
    /// Waiting for the ledger to hold the survivors.
    Sealing(Vec<ClientId>),
    /// Rebuilding the masks of each group.
    Unmasking(Unmasking),
    Aggregating(Box<Aggregation>),
    Finishing(Box<Aggregation>),
    /// Adding up a private round.
    Adding(Box<PrivateSum>),
    /// With where an adaptive clip goes.
    FinishingPrivately(Option<ClipStep>),
    Ended,
}

impl Engine {
    /// A round over `base` with what the task carried from its last release. The rule's samples and permutations come
    /// from `seed`, which nobody outside the server may know before the updates are in.
    pub fn open(spec: Arc<TaskSpec>, base: Arc<Model>, carry: Arc<Carry>, params: RoundParams, seed: [u8; 32]) -> Self {
        Self::over(Round::open(params), spec, base, carry, &seed)
    }

    /// A masked round; as [`Engine::open`] otherwise.
    pub fn open_masked(
        spec: Arc<TaskSpec>,
        base: Arc<Model>,
        carry: Arc<Carry>,
        params: RoundParams,
        seed: [u8; 32],
        pairwise: PairwiseParams,
    ) -> Self {
        Self::over(Round::open_masked(params, pairwise), spec, base, carry, &seed)
    }

    fn over(round: Round, spec: Arc<TaskSpec>, base: Arc<Model>, carry: Arc<Carry>, seed: &[u8; 32]) -> Self {
        Self {
            spec,
            base,
            carry,
            seed: rule_seed(seed),
            round,
            uploads: BTreeMap::new(),
            refusals: BTreeMap::new(),
            locked: BTreeMap::new(),
            misfits: Vec::new(),
            noise: None,
            steps: Vec::new(),
            stage: Stage::Input,
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`Reject`]: the input was wrong and nothing changed.
    pub fn handle(&mut self, now: Tick, input: EngineInput) -> Result<Vec<Action>, Reject> {
        let ends =
            matches!(input, EngineInput::Abandon(_) | EngineInput::Stop | EngineInput::Sealed | EngineInput::Tick);
        if self.ended() && !ends {
            return Err(Reject::new(Reason::Late, "the round has ended; check in for the next one"));
        }
        let input = match input {
            EngineInput::Offer { client, upload } => {
                let digest = upload.digest;
                let effects = self.round.handle(now, Input::Offer { client: client.clone(), digest })?;
                if effects.iter().any(|effect| matches!(effect, Effect::Record { .. })) {
                    self.uploads.insert(client, upload);
                }
                return Ok(self.actions(effects));
            }
            EngineInput::Refuse { client, reject } => {
                let refuse = Input::Refuse { client: client.clone(), reason: reject.reason };
                let effects = self.round.handle(now, refuse)?;
                self.refusals.insert(client, reject.detail);
                return Ok(self.actions(effects));
            }
            EngineInput::Unrecorded { client } => {
                let effects = self.round.handle(now, Input::Unrecorded { client: client.clone() })?;
                self.uploads.remove(&client);
                return Ok(self.actions(effects));
            }
            EngineInput::Sealed => return Ok(self.sealed()),
            EngineInput::Abandon(why) => return Ok(self.abandon(why)),
            EngineInput::Recorded { client } => Input::Recorded { client },
            EngineInput::Withdraw { client } => Input::Withdraw { client },
            EngineInput::Message { client, message } => Input::Message { client, message },
            EngineInput::Reschedule { deadline } => Input::Reschedule { deadline },
            EngineInput::Stop if matches!(self.stage, Stage::Input) => Input::Stop,
            EngineInput::Stop => return Ok(self.abandon(Abandon::Stopped)),
            EngineInput::Tick if self.ended() => return Ok(Vec::new()),
            EngineInput::Tick => Input::Tick,
        };
        let effects = self.round.handle(now, input)?;
        Ok(self.actions(effects))
    }

    /// Takes a job's result.
    pub fn done(&mut self, done: Done) -> Vec<Action> {
        match done.0 {
            Outcome::Opened { index, result, misfits } => self.opened(index, result, misfits),
            Outcome::Observed { unit, statistics } => self.observed(&unit, statistics),
            Outcome::Decided { part, decision } => self.decided(part, decision),
            Outcome::Combined(combined) => self.combined(&combined),
            Outcome::Private { unit, found } => self.found(&unit, found),
            Outcome::Finished(finished) => self.finished(*finished),
            Outcome::Failed { detail } => self.abandon(Abandon::Fault { detail }),
        }
    }

    /// Takes up a closing round after a restart: the survivors are those the ledger holds.
    ///
    /// # Errors
    /// [`Reject`] if one of them has no recorded update here.
    pub fn resume_closed(&mut self, survivors: &[ClientId]) -> Result<Vec<Action>, Reject> {
        if let Some(client) = survivors.iter().find(|client| !self.uploads.contains_key(*client)) {
            return Err(Reject::new(Reason::NotFound, format!("no update of survivor {client} in the ledger")));
        }
        // Ends the phases as they ended before the restart, so that the missing clients are dropouts.
        self.round.handle(Tick::MAX, Input::Tick)?;
        self.stage = Stage::Sealing(survivors.to_vec());
        Ok(self.sealed())
    }

    /// When `Tick` is next due.
    pub fn deadline(&self) -> Option<Tick> {
        if self.ended() { None } else { self.round.deadline() }
    }

    /// What was announced to the clients of a masked round.
    pub fn announcement(&self) -> Option<&Announcement> {
        self.round.announcement()
    }

    /// The server's answer to a client's message of a step; `None` while others are waited for.
    ///
    /// # Errors
    /// [`Reject`] if the client sent none, or its part in the round is over.
    pub fn reply(&self, client: &ClientId, step: Step) -> Result<Option<Reply>, Reject> {
        self.round.reply(client, step)
    }

    /// Whether a client's message was taken before.
    pub fn knows(&self, client: &ClientId, message: &Message) -> bool {
        self.round.knows(client, message)
    }

    /// Whether a client may upload in this round's step; in clear mode everybody selected may.
    ///
    /// # Errors
    /// [`Reject`] says why not.
    pub fn may_upload(&self, client: &ClientId) -> Result<(), Reject> {
        self.round.may_upload(client)
    }

    /// Whether a client of a masked round has advertised its keys.
    pub fn has_advertised(&self, client: &ClientId) -> bool {
        self.round.has_advertised(client)
    }

    /// The groups of a masked round and what it promises, once they are drawn.
    pub fn record(&self) -> Option<RoundRecord> {
        RoundRecord::of(&self.spec, &self.round, &self.locked)
    }

    /// Where the round stands.
    pub fn phase(&self) -> Phase {
        self.round.phase()
    }

    /// Where a client stands; `None` if it was not selected.
    pub fn seat(&self, client: &ClientId) -> Option<Seat> {
        self.round.seat(client)
    }

    /// An update as it was offered.
    pub fn upload(&self, client: &ClientId) -> Option<&UploadMeta> {
        self.uploads.get(client)
    }

    /// The round's parameters.
    pub fn params(&self) -> &RoundParams {
        self.round.params()
    }

    /// Whether a release or an abandonment was answered.
    pub fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn actions(&mut self, effects: Vec<Effect>) -> Vec<Action> {
        let mut actions = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Record { client, .. } => {
                    let upload = self.uploads[&client];
                    actions.push(Action::Record { client, upload });
                }
                Effect::Acknowledge { client } => actions.push(Action::Acknowledge { client }),
                Effect::Advanced(phase) => actions.push(Action::Advance(phase)),
                Effect::Close { survivors } => {
                    self.stage = Stage::Sealing(survivors.clone());
                    actions.push(Action::Seal { survivors });
                }
                Effect::Abandon(why) => actions.extend(self.abandon(why)),
            }
        }
        actions
    }

    fn sealed(&mut self) -> Vec<Action> {
        let Stage::Sealing(survivors) = &self.stage else { return Vec::new() };
        if self.spec.masking.is_some() {
            return self.unmask();
        }
        if self.spec.privacy.is_some() {
            let survivors = survivors.clone();
            return self.add_privately(survivors);
        }
        let reference = self.spec.reference.as_ref();
        if let Some(reference) = reference.filter(|reference| !survivors.contains(reference)) {
            return self.abandon(Abandon::Rule { detail: format!("the reference client {reference} sent no update") });
        }
        let rows = survivors.iter().filter(|client| Some(*client) != reference).cloned().collect();
        self.aggregate(RowSet::Clients(rows))
    }

    fn aggregate(&mut self, rows: RowSet) -> Vec<Action> {
        let dimension = self.base.layout().dimension();
        let examples = |client: &ClientId| self.uploads.get(client).map_or(0, |upload| upload.examples);
        let parts = self.spec.parts(self.base.layout());
        match Aggregation::start(&self.spec, &parts, dimension, self.seed, &self.carry, rows, examples) {
            Ok((aggregation, jobs)) if parts.is_empty() => {
                self.stage = Stage::Aggregating(Box::new(aggregation));
                debug_assert!(jobs.is_empty());
                self.finish()
            }
            Ok((aggregation, jobs)) => {
                self.stage = Stage::Aggregating(Box::new(aggregation));
                jobs.into_iter().map(Action::Run).collect()
            }
            Err(why) => self.abandon(why),
        }
    }

    fn observed(&mut self, unit: &Unit, statistics: UnitStatistics) -> Vec<Action> {
        let Stage::Aggregating(aggregation) = &mut self.stage else { return Vec::new() };
        match aggregation.observed(unit, statistics) {
            Ok(jobs) => jobs.into_iter().map(Action::Run).collect(),
            Err(why) => self.abandon(why),
        }
    }

    fn decided(&mut self, part: usize, decision: Result<Decision, RuleError>) -> Vec<Action> {
        if let Stage::Adding(sum) = &mut self.stage {
            let next = sum.decided(decision);
            return self.privately(next);
        }
        let Stage::Aggregating(aggregation) = &mut self.stage else { return Vec::new() };
        match aggregation.decided(part, decision) {
            Ok(jobs) => jobs.into_iter().map(Action::Run).collect(),
            Err(why) => self.abandon(why),
        }
    }

    fn combined(&mut self, combined: &Combined) -> Vec<Action> {
        let Stage::Aggregating(aggregation) = &mut self.stage else { return Vec::new() };
        if aggregation.combined(combined) { self.finish() } else { Vec::new() }
    }

    fn finish(&mut self) -> Vec<Action> {
        let Stage::Aggregating(mut aggregation) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return Vec::new();
        };
        let aggregate = aggregation.take_aggregate();
        self.stage = Stage::Finishing(aggregation);
        vec![Action::Run(Job::finish(&self.spec, self.base.clone(), self.carry.clone(), aggregate))]
    }
}

/// The part of a round's seed that its rule sees: the seed itself has drawn the cohort.
fn rule_seed(seed: &[u8; 32]) -> u64 {
    let mut labelled = b"testudo rule seed".to_vec();
    labelled.extend_from_slice(seed);
    let Digest(digest) = Digest::of(&labelled);
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests;
