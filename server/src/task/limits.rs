//! Participation limits of tasks with correlated noise: nobody is drawn more often than the noise was sized for.
//!
//! The ledger has the last word when a round opens; what is here spares clients the wait.

use super::{
    Driver,
    driver::{LEDGER_PAUSE_MS, ended},
};
use crate::{clock, store::StoreError};
use testudo_proto::{Answer, NotNowWhy, SeatLimit};
use testudo_protocol::ClientId;

impl Driver {
    /// What a client hears that may not take part in the next round; `None` if it may, as far as is known.
    pub(super) async fn over_limit(&mut self, client: &ClientId) -> Option<Answer> {
        if !self.ready_run().await {
            // Looking may have ended the task.
            return ended(self.row.state).map(|why| Answer::Ended { why });
        }
        let wait = self.steps_to_wait(client)?;
        let is_seated = self.current.as_ref().is_some_and(|current| current.engine.seat(client).is_some());
        if is_seated && wait == u64::MAX {
            // A client leaves the task once it hears that it is done; its round may still be given back.
            return None;
        }
        Some(self.limited(wait))
    }

    /// Tells those of an ended round's clients that wait, and may not take part again, so.
    pub(super) fn send_done_away<'a>(&mut self, clients: impl Iterator<Item = &'a ClientId>) {
        for client in clients {
            if self.steps_to_wait(client) == Some(u64::MAX) {
                let answer = self.limited(u64::MAX);
                self.room.dismiss(client, answer);
            }
        }
    }

    /// Answers the waiting clients that may not take part in the next round. False if that is not known now, or no
    /// further round is possible.
    pub(super) async fn send_limited_away(&mut self) -> bool {
        if self.spec.privacy.as_ref().is_none_or(|privacy| privacy.correlated.is_none()) {
            return true;
        }
        if !self.ready_run().await {
            return false;
        }
        let limited: Vec<ClientId> =
            self.room.clients().filter(|client| self.steps_to_wait(client).is_some()).cloned().collect();
        for client in limited {
            let answer = self.steps_to_wait(&client).map(|wait| self.limited(wait));
            if let Some(answer) = answer {
                self.room.dismiss(&client, answer);
            }
        }
        true
    }

    /// Counts the members of a cohort that was written.
    pub(super) fn joined<'a>(&mut self, cohort: impl Iterator<Item = &'a ClientId>) {
        let Some(run) = &mut self.run else { return };
        for client in cohort {
            if let Err(error) = run.clients.entry(client.clone()).or_default().join(run.limit, run.step) {
                // The ledger would not have opened the round.
                tracing::error!(task = %self.row.name, %client, %error, "over its participation limit; this is a bug");
            }
        }
        run.step += 1;
    }

    /// Reads who took part, where that matters and is not known. False if it cannot be known now.
    async fn ready_run(&mut self) -> bool {
        if self.run.is_some() {
            return true;
        }
        if self.spec.privacy.as_ref().is_none_or(|privacy| privacy.correlated.is_none()) {
            return false;
        }
        match self.services.store.participations(&self.row.name).await {
            Ok(Some(run)) => {
                let limit = run.limit;
                self.services.metrics.participation_limit(self.row.name.as_str(), limit.most(), limit.gap());
                self.run = Some(run);
                true
            }
            Ok(None) => {
                self.give_task_up("the ledger has no participation limits for it".into()).await;
                false
            }
            Err(error @ StoreError::KeyLost { .. }) => {
                self.give_task_up(format!("{error}: no further step of its run can get its noise")).await;
                false
            }
            Err(error) => {
                tracing::error!(task = %self.row.name, %error, "cannot read who took part; trying again");
                self.not_before = clock::now() + LEDGER_PAUSE_MS;
                false
            }
        }
    }

    /// Steps until a client may take part, if it may not in the next one; `u64::MAX` if it never may again.
    fn steps_to_wait(&self, client: &ClientId) -> Option<u64> {
        let run = self.run.as_ref()?;
        // Steps count from 1: the last one is that of the last round.
        let next = run.clients.get(client)?.next(run.limit).filter(|next| *next <= self.spec.rounds);
        let Some(next) = next else { return Some(u64::MAX) };
        (next > run.step).then(|| next - run.step)
    }

    fn limited(&self, steps: u64) -> Answer {
        let done = steps == u64::MAX;
        let left = self.run.as_ref().map_or(1, |run| (self.spec.rounds + 1).saturating_sub(run.step).max(1));
        // Who is done and waits for the task's end all the same need not wait much longer.
        let seconds = self.typical_ms as f64 / 1000.0 * steps.min(left) as f64;
        let limit = self.run.as_ref().map(|run| SeatLimit {
            participations: run.limit.most(),
            separation: run.limit.gap(),
            next_round: (!done).then(|| self.row.last_round.saturating_add(1).saturating_add(steps)),
        });
        let why = if done { NotNowWhy::LimitReached } else { NotNowWhy::TooSoon };
        Answer::NotNow { retry_after: self.jittered(seconds), why, limit }
    }
}
