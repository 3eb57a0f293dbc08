//! Updates on their way into the open round: who may send, what is recorded, who is refused.

use super::{Admission, Driver, Grant, driver::Current};
use crate::{clock, store::UploadRow};
use std::time::Duration;
use testudo_engine::{EngineInput, UploadMeta};
use testudo_proto::{Place, Receipt};
use testudo_protocol::{ClientId, Digest, Phase, Reason, Reject, Seat, Verdict};
use tokio::sync::oneshot;

impl Driver {
    pub(super) fn seat_of(&self, place: &Place) -> Result<&Current, Reject> {
        let Some(current) = &self.current else {
            let reason =
                if place.round <= self.row.last_round && place.round > 0 { Reason::Late } else { Reason::WrongRound };
            return Err(Reject::new(reason, "no round is open; check in for the next one"));
        };
        if place.round != current.number {
            let reason =
                if place.round < current.number && place.round > 0 { Reason::Late } else { Reason::WrongRound };
            return Err(Reject::new(reason, format!("round {} is open, not {}", current.number, place.round)));
        }
        match current.nonces.get(&place.client) {
            Some(nonce) if *nonce == place.nonce => Ok(current),
            _ => {
                Err(Reject::new(Reason::NotInCohort, "no seat in this round for this client and nonce; check in first"))
            }
        }
    }

    pub(super) fn admit(&mut self, place: &Place, digest: Digest) -> Result<Admission, Reject> {
        let current = self.seat_of(place)?;
        match current.engine.seat(&place.client) {
            Some(Seat::Received(held)) if held == digest => {
                return current.receipt(&self.row.name, &place.client).map(Admission::Recorded);
            }
            Some(Seat::Received(_)) => {
                let detail = "another update of this client is already recorded in this round; one per round counts";
                return Err(Reject::new(Reason::Duplicate, detail));
            }
            // The same update again waits for the same receipt, even if the round closes meanwhile. It may not touch
            // the bytes.
            Some(Seat::Recording(held)) if held == digest => {
                let (answer, receipt) = oneshot::channel();
                if let Some(current) = &mut self.current {
                    current.receipts.entry(place.client.clone()).or_default().push(answer);
                }
                return Ok(Admission::Recording(receipt));
            }
            Some(Seat::Recording(_)) => {
                return Err(Reject::new(Reason::Duplicate, "another update of this client is being recorded"));
            }
            Some(Seat::Refused(reason)) => {
                let detail = format!("an update of this client was refused in this round ({})", reason.code());
                return Err(Reject::new(Reason::Duplicate, detail));
            }
            Some(Seat::Dropout) => return Err(Reject::new(Reason::Withdrawn, "this client left the round")),
            Some(Seat::Selected) | None => {}
        }
        if current.engine.phase() < Phase::Input {
            return Err(Reject::new(Reason::WrongState, "the round does not take updates yet"));
        }
        if current.engine.phase() != Phase::Input || current.engine.deadline().is_none_or(|end| clock::now() >= end) {
            return Err(Reject::new(Reason::Late, "the round no longer takes updates; check in for the next one"));
        }
        current.engine.may_upload(&place.client)?;
        let Some(slot) = current.slots.get(&place.client) else {
            return Err(Reject::new(Reason::NotInCohort, "no seat in this round"));
        };
        let masked_bytes = current.engine.announcement().map(|announced| announced.session.ring_dimension() * 4);
        Ok(Admission::Granted(Grant {
            masked_bytes,
            layout: self.layout.clone(),
            base: self.row.model,
            max_l2: self.spec.max_l2,
            max_examples: self.spec.examples.max,
            encodings: self.encodings(),
            private: self.spec.privacy.is_some(),
            secret: self.is_secret(),
            slot: slot.clone(),
        }))
    }

    pub(super) async fn offer(
        &mut self,
        place: Place,
        upload: UploadRow,
        answer: oneshot::Sender<Result<Receipt, Reject>>,
    ) {
        if let Err(reject) = self.seat_of(&place) {
            let _ = answer.send(Err(reject));
            return;
        }
        let Some(current) = &mut self.current else { return };
        // A twin stream of the same update may be waiting for the ledger already.
        if current.engine.seat(&place.client) == Some(Seat::Recording(upload.digest)) {
            current.receipts.entry(place.client).or_default().push(answer);
            return;
        }
        let meta = UploadMeta { digest: upload.digest, norm: upload.norm, examples: upload.examples };
        match self.tell(EngineInput::Offer { client: place.client.clone(), upload: meta }) {
            Err(reject) => {
                let _ = answer.send(Err(reject));
            }
            Ok(actions) => {
                if let Some(current) = &mut self.current {
                    current.receipts.entry(place.client.clone()).or_default().push(answer);
                    current.uploads.entry(place.client).or_insert(upload);
                }
                self.act(actions).await;
                self.write_journal();
            }
        }
    }

    pub(super) async fn refuse(&mut self, place: &Place, reject: Reject) {
        if self.seat_of(place).is_err() {
            return;
        }
        let (reason, detail) = (reject.reason, reject.detail.clone());
        let Ok(actions) = self.tell(EngineInput::Refuse { client: place.client.clone(), reject }) else { return };
        if !self.is_secret() {
            tracing::info!(task = %self.row.name, round = place.round, client = %place.client, reason = reason.code(), "update rejected");
        }
        let verdict = Verdict::Rejected { reason };
        self.note_refusal(place, verdict, &detail).await;
        self.act(actions).await;
        self.write_journal();
    }

    pub(super) async fn withdraw(&mut self, place: &Place) -> Result<(), Reject> {
        self.seat_of(place)?;
        let actions = self.tell(EngineInput::Withdraw { client: place.client.clone() })?;
        self.note_refusal(place, Verdict::Dropout, "withdrew").await;
        self.act(actions).await;
        self.write_journal();
        Ok(())
    }

    /// Recorded for the restart; the verdict itself is written again when the round ends.
    async fn note_refusal(&self, place: &Place, verdict: Verdict, detail: &str) {
        if !self.services.spool.is_durable() {
            return;
        }
        let store = &self.services.store;
        let noted = store.record_refusal(&place.task, place.round, &place.client, verdict, detail, clock::now()).await;
        if let Err(error) = noted {
            // The error names the seat.
            let error = (!self.is_secret()).then_some(error);
            tracing::warn!(error = error.map(tracing::field::display), "a refusal is not in the ledger yet");
        }
    }

    pub(super) async fn recorded(&mut self, round: u64, client: ClientId, result: Result<(), String>) {
        if self.current.as_ref().is_none_or(|current| current.number != round) {
            return;
        }
        let input = match &result {
            Ok(()) => EngineInput::Recorded { client: client.clone() },
            Err(_) => EngineInput::Unrecorded { client: client.clone() },
        };
        let actions = match self.tell(input) {
            Ok(actions) => actions,
            Err(reject) => {
                tracing::warn!(%reject, "a recorded update no longer counts");
                Vec::new()
            }
        };
        if let Err(detail) = result {
            tracing::error!(task = %self.row.name, round, detail, "an update could not be recorded");
            let Some(current) = &mut self.current else { return };
            current.uploads.remove(&client);
            let again = Reject::retry(Reason::Overloaded, "the ledger is not available", Duration::from_secs(1));
            for answer in current.receipts.remove(&client).unwrap_or_default() {
                let _ = answer.send(Err(again.clone()));
            }
        }
        self.write_journal();
        self.act(actions).await;
    }
}
