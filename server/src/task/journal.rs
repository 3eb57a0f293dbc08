//! What a masked round's machine was told, on its way into the ledger.
//!
//! Nothing the machine says leaves before what it was told is durable: after a crash the same inputs lead to the same
//! groups, survivors and answers, and no client is ever told of a state the server has forgotten.

use super::{Driver, Event, driver::with_retries};
use crate::clock;
use serde::{Deserialize, Serialize};
use testudo_engine::{Action, EngineInput};
use testudo_protocol::{Reason, Reject, Tick};

/// Longest list of inputs in one transaction.
const BATCH: usize = 256;

/// The inputs of the open round.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Inputs the machine has taken.
    taken: u64,
    /// Inputs the ledger holds.
    durable: u64,
    /// Those that are neither in the ledger nor on their way.
    waiting: Vec<String>,
    /// Whether some are on their way.
    writing: bool,
    /// Some could not be written: nothing more is told, and nothing that was said leaves.
    failed: bool,
}

/// One input and when it came.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) at: Tick,
    pub(super) told: EngineInput,
}

impl Journal {
    /// A journal of which the ledger holds this many inputs.
    pub(super) fn holding(durable: u64) -> Self {
        Self { taken: durable, durable, ..Self::default() }
    }

    /// Where the machine stands.
    pub(super) fn position(&self) -> u64 {
        self.taken
    }

    /// Whether the ledger holds everything up to a position.
    pub(super) fn is_durable(&self, position: u64) -> bool {
        !self.failed && self.durable >= position
    }
}

impl Driver {
    /// Tells the open round's machine something; in a durable masked round also the journal.
    pub(super) fn tell(&mut self, input: EngineInput) -> Result<Vec<Action>, Reject> {
        let journaled = self.is_journaled();
        let Some(current) = &mut self.current else { return Ok(Vec::new()) };
        let now = clock::now();
        if !journaled {
            return current.engine.handle(now, input);
        }
        // What only ends the round is in the ledger as its end.
        if matches!(input, EngineInput::Sealed | EngineInput::Stop | EngineInput::Abandon(_)) {
            return current.engine.handle(now, input);
        }
        if current.journal.failed {
            return Err(Reject::new(Reason::Late, "the round is being given up: the ledger cannot be written"));
        }
        let is_tick = matches!(input, EngineInput::Tick);
        let unwritable = |error| Reject::new(Reason::Malformed, format!("cannot be written down: {error}"));
        let text = serde_json::to_string(&Entry { at: now, told: input.clone() }).map_err(unwritable)?;
        let actions = current.engine.handle(now, input)?;
        if !(is_tick && actions.is_empty()) {
            current.journal.waiting.push(text);
            current.journal.taken += 1;
        }
        Ok(actions)
    }

    /// Sends what waits on its way to the ledger, unless something is.
    pub(super) fn write_journal(&mut self) {
        let Some(current) = &mut self.current else { return };
        let journal = &mut current.journal;
        if journal.writing || journal.failed || journal.waiting.is_empty() {
            return;
        }
        let rest = journal.waiting.split_off(journal.waiting.len().min(BATCH));
        let bodies = std::mem::replace(&mut journal.waiting, rest);
        journal.writing = true;
        let (first, upto) = (journal.durable, journal.durable + bodies.len() as u64);
        let (store, task, round) = (self.services.store.clone(), self.row.name.clone(), current.number);
        let events = self.events.0.clone();
        let writing = self
            .recording
            .track_future(async move { with_retries(|| store.append_inputs(&task, round, first, &bodies)).await });
        tokio::spawn(async move {
            let result = writing.await;
            let _ = events.send(Event::Journaled { round, upto, result }).await;
        });
    }

    /// The ledger holds more of the journal, or cannot take it.
    pub(super) async fn journaled(&mut self, round: u64, upto: u64, result: Result<(), String>) {
        let Some(current) = self.current.as_mut().filter(|current| current.number == round) else { return };
        current.journal.writing = false;
        match result {
            Ok(()) => {
                current.journal.durable = upto;
                self.write_journal();
                self.resume_seal().await;
                self.answer_exchanges();
            }
            Err(detail) => {
                tracing::error!(task = %self.row.name, round, detail, "the journal cannot be written");
                current.journal.failed = true;
                current.journal.waiting.clear();
                let actions = self.tell(EngineInput::Abandon(testudo_protocol::Abandon::Fault { detail }));
                self.act(actions.unwrap_or_default()).await;
            }
        }
    }

    fn is_journaled(&self) -> bool {
        self.spec.masking.is_some() && self.services.spool.is_durable()
    }
}
