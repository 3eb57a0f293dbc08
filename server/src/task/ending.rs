//! The end of a round: its release or its abandonment, in the ledger before anybody hears of it.

use super::{
    Driver, Services,
    driver::{ABANDON_PAUSE_MS, LEDGER_PAUSE_MS, ended, round_prefix, with_retries},
    exchange::send_away,
};
use crate::{
    clock,
    store::{Judged, Release as ReleaseRow, TaskState},
};
use std::sync::Arc;
use testudo_engine::{Judgement, Release};
use testudo_proto::Answer;
use testudo_protocol::{Abandon, Reason, Reject, Tick};

impl Driver {
    /// Releases, where the server adds noise at a time that does not tell how long it took to draw: at the next multiple of
    /// the task's step after the round was closed. What stops the server before that is made up for from the ledger.
    pub(super) async fn schedule(&mut self, release: Box<Release>) {
        let (Some(current), Some(privacy)) = (&self.current, &self.spec.privacy) else {
            self.release(*release, clock::now()).await;
            return;
        };
        // How long the last updates of a secret sample took to write would tell that there were some.
        let start = if self.is_secret() { current.engine.params().deadline() } else { current.closed_at };
        let steps = clock::now().saturating_sub(start).div_ceil(privacy.release_step_ms).max(1);
        if steps > 1 && self.is_secret() {
            tracing::warn!(task = %self.row.name, round = current.number, "a release leaves later than its step: raise privacy.release_step_s");
        }
        self.due = Some((start + steps * privacy.release_step_ms, release));
    }

    /// Releases; `at` is when, as everybody is told.
    pub(super) async fn release(&mut self, release: Release, at: Tick) {
        let Some(current) = &self.current else { return };
        let number = current.number;
        tracing::debug!(task = %self.row.name, round = number, "aggregated");
        let recorded = self.record_groups(number, release.record.as_ref()).await;
        let written = match recorded {
            Ok(()) => self.write_release(number, &release, at).await,
            Err(detail) => Err(detail),
        };
        if let Err(detail) = written {
            tracing::error!(task = %self.row.name, round = number, detail, "cannot release");
            self.abandon(Abandon::Fault { detail }, release.abandoned()).await;
            return;
        }
        // A task that was stopped meanwhile stays so.
        let finishes = self.row.released + 1 >= self.spec.rounds && ended(self.row.state).is_none();
        self.row.released += 1;
        self.row.model = release.digest;
        self.model = Arc::new(release.model);
        self.file = release.file;
        self.carry = Arc::new(release.carry);
        if finishes {
            self.row.state = TaskState::Finished;
        }
        if let Some(privacy) = self.spec.privacy.as_ref().filter(|_| self.is_secret()) {
            // How long the ledger took to write, and the disk to forget, would tell how many were drawn.
            self.not_before = at + privacy.release_step_ms;
        }
        self.end(number, "released", &release.seats, at).await;
        self.forget_old_models(number).await;
    }

    async fn write_release(&mut self, number: u64, release: &Release, at: Tick) -> Result<(), String> {
        let Services { blobs, store, blob_gate, .. } = &self.services;
        let gate = blob_gate.read().await;
        with_retries(|| blobs.put_as(release.digest, release.file.clone())).await?;
        let optimizer = match release.carry.is_empty() {
            true => None,
            false => {
                let carry = release.carry.to_bytes();
                Some(with_retries(|| blobs.put(carry.clone())).await?)
            }
        };
        let row = ReleaseRow {
            task: self.row.name.clone(),
            number,
            model: release.digest,
            optimizer,
            aggregate_norm: release.aggregate_norm,
            notes: release.notes.iter().map(|note| (note.name.clone(), note.value)).collect(),
            seats: release.seats.iter().map(judged).collect(),
            finishes: self.row.released + 1 >= self.spec.rounds,
            charged: self.spec.budget().is_some(),
            at,
        };
        with_retries(|| store.release(row.clone())).await?;
        drop(gate);
        if let Some(old) = std::mem::replace(&mut self.row.optimizer, optimizer) {
            self.forget(old).await;
        }
        Ok(())
    }

    pub(super) async fn abandon(&mut self, why: Abandon, seats: Vec<Judgement>) {
        let Some(current) = &self.current else { return };
        let number = current.number;
        let why = self.told(why);
        tracing::warn!(task = %self.row.name, round = number, %why, "round abandoned");
        let (store, name) = (self.services.store.clone(), self.row.name.clone());
        let rows: Vec<Judged> = seats.iter().map(judged).collect();
        let written = with_retries(|| store.abandon(&name, number, &why, &rows, clock::now())).await;
        if let Err(detail) = written {
            tracing::error!(task = %self.row.name, round = number, detail, "cannot write to the ledger; trying again");
            self.unwritten = Some((clock::now() + LEDGER_PAUSE_MS, why, seats));
            return;
        }
        self.row.abandoned += 1;
        // The round may have given its step back.
        self.run = None;
        self.not_before = clock::now() + ABANDON_PAUSE_MS;
        self.end(number, "abandoned", &seats, clock::now()).await;
    }

    /// Why a round was given up, as everybody may hear it: a fault may name whose update it was.
    pub(super) fn told(&self, why: Abandon) -> Abandon {
        match why {
            Abandon::Fault { detail } if self.is_secret() => {
                tracing::debug!(task = %self.row.name, detail, "a fault in a round of a secret sample");
                Abandon::Fault { detail: "a fault of the server, in its log at level debug".into() }
            }
            why => why,
        }
    }

    async fn end(&mut self, number: u64, outcome: &'static str, seats: &[Judgement], at: Tick) {
        let Some(mut current) = self.current.take() else { return };
        current.slots.values().for_each(|slot| slot.end());
        for answer in current.receipts.drain().flat_map(|(_, answers)| answers) {
            let _ = answer.send(Err(Reject::new(Reason::Late, "the round ended")));
        }
        send_away(std::mem::take(&mut current.waiting), outcome);
        for seat in seats.iter().filter(|_| !self.is_secret()) {
            self.services.metrics.verdict(&seat.verdict);
        }
        let took = at.saturating_sub(current.opened_at);
        self.typical_ms = took;
        self.services.metrics.round_ended(self.row.name.as_str(), outcome, took as f64 / 1000.0);
        tracing::info!(task = %self.row.name, round = number, outcome, milliseconds = took, "round ended");
        // Nobody may be watching.
        let _ = self.services.ended.send((self.row.name.clone(), number));
        let (spool, prefix) = (self.services.spool.clone(), round_prefix(&self.row.name, number));
        let forgetting = async move {
            if let Err(error) = spool.delete(&prefix).await {
                tracing::warn!(%error, "an ended round's uploads stay behind until the next start");
            }
        };
        if self.is_secret() {
            tokio::spawn(forgetting);
        } else {
            forgetting.await;
        }
        if ended(self.row.state).is_none() {
            self.send_done_away(seats.iter().map(|seat| &seat.client));
        }
        self.send_home();
    }

    /// Once the task has ended nobody needs to wait any more.
    pub(super) fn send_home(&mut self) {
        if let Some(why) = ended(self.row.state) {
            self.room.answer_all(|| Answer::Ended { why });
        }
        self.count_waiting();
    }
}

fn judged(seat: &Judgement) -> Judged {
    Judged {
        client: seat.client.clone(),
        verdict: seat.verdict,
        detail: seat.detail.clone(),
        upload: seat.upload.map(|upload| (upload.digest, upload.norm, upload.examples)),
        score: seat.score,
        weight: seat.weight,
    }
}
