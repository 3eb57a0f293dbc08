//! The steps of a masked round: clients' messages in, answers out when a step has ended.

use super::{Driver, journal::Entry, recovery::RECONNECT_MS};
use crate::{clock, store::RoundRow};
use std::collections::HashMap;
use testudo_engine::{Action, EngineInput, SessionFacts};
use testudo_proto::Place;
use testudo_protocol::{
    Abandon, ClientId, Digest, PairwiseParams, Phase, Reason, Reject, Seat,
    secagg::{Message, Reply, Step, transcript::Writer},
};
use tokio::sync::oneshot;

/// Clients that wait for the end of a step.
pub(super) type WaitingRoom = HashMap<(ClientId, Step), Waiting>;

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting {
    /// How far the journal must be before anything is said.
    position: u64,
    answer: oneshot::Sender<Result<Reply, Reject>>,
}

impl Driver {
    /// Takes a client's message and answers when its step has ended.
    pub(super) async fn exchange(
        &mut self,
        place: Place,
        message: Box<Message>,
        answer: oneshot::Sender<Result<Reply, Reject>>,
    ) {
        let step = message.step();
        let known = match self.seat_of(&place) {
            Ok(current) => current.engine.knows(&place.client, &message),
            Err(reject) => {
                let _ = answer.send(Err(reject));
                return;
            }
        };
        let actions = match known {
            true => Vec::new(),
            false => match self.tell(EngineInput::Message { client: place.client.clone(), message }) {
                Ok(actions) => actions,
                Err(reject) => {
                    tracing::debug!(task = %self.row.name, round = place.round, client = %place.client, %reject, "a message was refused");
                    let _ = answer.send(Err(reject));
                    return;
                }
            },
        };
        let key = (place.client, step);
        if let Some(current) = &mut self.current {
            let position = current.journal.position();
            // The newest call of a client is the one it listens to.
            current.waiting.insert(key.clone(), Waiting { position, answer });
        }
        self.act(actions).await;
        self.write_journal();
        self.answer(&key);
    }

    /// A masked round has come to its next phase.
    pub(super) async fn advance(&mut self, phase: Phase) -> Vec<Action> {
        let Some(current) = &mut self.current else { return Vec::new() };
        current.advanced_at = current.journal.position();
        tracing::debug!(task = %self.row.name, round = current.number, ?phase, "next phase");
        if phase == Phase::ShareKeys {
            let (number, record) = (current.number, current.engine.record());
            if let Err(detail) = self.record_groups(number, record.as_ref()).await {
                return self.tell(EngineInput::Abandon(Abandon::Fault { detail })).unwrap_or_default();
            }
        }
        self.write_journal();
        self.answer_exchanges();
        Vec::new()
    }

    /// Fixes the survivors once the journal that led to them is durable.
    pub(super) async fn resume_seal(&mut self) {
        let Some(current) = &mut self.current else { return };
        if !current.journal.is_durable(current.journal.position()) {
            return;
        }
        if let Some(survivors) = current.sealing.take() {
            let actions = self.seal(survivors).await;
            self.act(actions).await;
        }
    }

    /// Answers whoever waits for something that is known and durable.
    pub(super) fn answer_exchanges(&mut self) {
        let Some(current) = &self.current else { return };
        let keys: Vec<_> = current.waiting.keys().cloned().collect();
        keys.iter().for_each(|key| self.answer(key));
    }

    /// Answers one client, if its answer is known and durable.
    fn answer(&mut self, key: &(ClientId, Step)) {
        let durable = self.services.spool.is_durable();
        let Some(current) = &mut self.current else { return };
        let Some(waiting) = current.waiting.get(key) else { return };
        if durable && !current.journal.is_durable(waiting.position.max(current.advanced_at)) {
            return;
        }
        let reply = match current.engine.reply(&key.0, key.1) {
            Ok(None) => return,
            Ok(Some(reply)) => Ok(reply),
            Err(reject) => Err(reject),
        };
        if let Some(waiting) = current.waiting.remove(key) {
            let _ = waiting.answer.send(reply);
        }
    }

    /// What a masked round is opened with: a function of the ledger's seed and the server's secret key, so that a restart
    /// finds the same and whoever reads the ledger alone learns nothing. `None` in clear mode.
    pub(super) fn pairwise(&self, number: u64, seed: &[u8; 32], cohort: &[ClientId]) -> Option<PairwiseParams> {
        // Ed25519 signatures are deterministic, and nobody else can make them.
        let derived = |label: &str| Digest::of(&self.services.identity.sign(&Writer::new(label).fixed(seed)).0).0;
        let facts = SessionFacts {
            id: derived("testudo/session-id/v1"),
            round: number,
            model: self.row.model,
            plan: Digest::of(self.row.toml.as_bytes()),
            dimension: self.layout.dimension(),
            cohort,
            randomness: derived("testudo/assignment-randomness/v1"),
        };
        self.spec.pairwise(&facts, &self.services.identity)
    }

    /// Tells a rebuilt machine what its predecessor was told. Answers what is left to do.
    pub(super) async fn replay(&mut self, round: &RoundRow) -> Result<Vec<Action>, String> {
        let bodies = self.services.store.inputs(&self.row.name, round.number).await;
        let bodies = bodies.map_err(|error| error.to_string())?;
        let Some(current) = &mut self.current else { return Ok(Vec::new()) };
        let mut last = Vec::new();
        for body in &bodies {
            let Entry { at, told } = serde_json::from_str(body).map_err(|error| format!("its journal: {error}"))?;
            let actions =
                current.engine.handle(at, told).map_err(|reject| format!("its journal does not replay: {reject}"))?;
            last.extend(
                actions.into_iter().filter(|action| matches!(action, Action::Seal { .. } | Action::Abandon { .. })),
            );
        }
        current.journal = super::journal::Journal::holding(bodies.len() as u64);
        current.advanced_at = current.journal.position();
        if !last.is_empty() {
            return Ok(last);
        }
        // A step goes on for as long as it had, but no longer than a whole one (the clock may have been set back), and
        // at least for as long as clients need to come back.
        let now = clock::now();
        let whole = match current.engine.phase() {
            Phase::AdvertiseKeys => self.spec.cohort.phase_limit_ms,
            _ => self.spec.masking.as_ref().map_or(0, |masking| masking.step_limit_ms),
        };
        let left = current.engine.deadline().unwrap_or(now).min(now + whole);
        let deadline = left.max(now + whole.min(RECONNECT_MS));
        self.tell(EngineInput::Reschedule { deadline }).map_err(|reject| reject.to_string())?;
        self.reconcile(round);
        self.write_journal();
        Ok(Vec::new())
    }

    /// What the ledger and the journal disagree about: updates on their way when the server died.
    fn reconcile(&mut self, round: &RoundRow) {
        for seat in &round.seats {
            let client = seat.client.clone();
            let Some(known) = self.current.as_ref().and_then(|current| current.engine.seat(&client)) else { continue };
            let told = match (known, &seat.upload) {
                (Seat::Recording(_), Some(_)) => EngineInput::Recorded { client },
                (Seat::Recording(_), None) => EngineInput::Unrecorded { client },
                (Seat::Selected, Some(upload)) => {
                    let upload = testudo_engine::UploadMeta {
                        digest: upload.digest,
                        norm: upload.norm,
                        examples: upload.examples,
                    };
                    if self.tell(EngineInput::Offer { client: client.clone(), upload }).is_err() {
                        continue;
                    }
                    EngineInput::Recorded { client }
                }
                _ => continue,
            };
            // What is too late by now stays as it is.
            let _ = self.tell(told);
        }
    }

    /// Records the groups and what they promise, once they are drawn and again when the round ends.
    pub(super) async fn record_groups(
        &self,
        number: u64,
        record: Option<&testudo_engine::RoundRecord>,
    ) -> Result<(), String> {
        let Some(record) = record else { return Ok(()) };
        let text = serde_json::to_string(record).map_err(|error| error.to_string())?;
        let store = &self.services.store;
        super::driver::with_retries(|| store.record_groups(&self.row.name, number, &text, clock::now())).await
    }
}

/// Everybody that still waits when a round ends.
pub(super) fn send_away(waiting: WaitingRoom, outcome: &str) {
    for ((_, step), Waiting { answer, .. }) in waiting {
        let _ = answer.send(match step {
            Step::Unmask => Ok(Reply::Done),
            _ => Err(Reject::new(Reason::Late, format!("the round was {outcome}"))),
        });
    }
}
