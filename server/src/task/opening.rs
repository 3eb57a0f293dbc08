//! Opening a round: the clients that wait are drawn from, their round is written, and they are told.

use super::{
    Driver,
    driver::{ABANDON_PAUSE_MS, Current, ended, random},
};
use crate::store::{NewRound, StoreError, TaskState};
use std::collections::BTreeMap;
use testudo_proto::{Answer, NotNowWhy};
use testudo_protocol::{ClientId, Nonce, Reason, RoundParams, Tick};
use tokio::sync::oneshot;

/// A cohort, with the calls of those that wait.
type Drawn = Vec<(ClientId, Option<oneshot::Sender<Answer>>)>;

/// Why a round did not open.
#[derive(Debug)]
enum Unopened {
    /// The privacy budget does not hold it, or it is not what the task planned, and that never changes.
    Never(String),
    /// Anything else: worth another try.
    Fault(String),
}

impl Driver {
    /// Opens the next round, if it is time to; `now` is when.
    pub(super) async fn maybe_open(&mut self, now: Tick) {
        let hindered = self.services.stop.is_cancelled() || self.is_exposed();
        if hindered || self.current.is_some() || self.row.state != TaskState::Running || now < self.not_before {
            return;
        }
        let drawn = match self.spec.cohort.sample {
            None => self.draw_among_waiting(now).await,
            Some(sample) => self.draw_in_secret(sample).await.map(|cohort| (random::<32>(), self.call(cohort))),
        };
        let Some((seed, drawn)) = drawn else { return };
        self.count_waiting();
        let nonces: BTreeMap<ClientId, Nonce> =
            drawn.iter().map(|(client, _)| (client.clone(), Nonce(random::<16>()))).collect();
        let drawn = drawn.into_iter().filter_map(|(client, call)| Some((client, call?)));
        let drawn: Vec<(ClientId, oneshot::Sender<Answer>)> = drawn.collect();
        let opened = self.open(seed, nonces, now).await;
        if let Err(Unopened::Never(why)) = opened {
            self.give_task_up(why).await;
            for (_, answer) in drawn {
                let again = Answer::not_now(self.retry_after(NotNowWhy::Filling), NotNowWhy::Filling);
                let _ = answer.send(ended(self.row.state).map_or(again, |why| Answer::Ended { why }));
            }
            return;
        }
        if let Err(Unopened::Fault(detail)) = opened {
            tracing::error!(task = %self.row.name, detail, "cannot open a round; trying again");
            self.not_before = now + ABANDON_PAUSE_MS;
            for (_, answer) in drawn {
                let retry_after = self.retry_after(NotNowWhy::Filling);
                let _ = answer.send(Answer::not_now(retry_after, NotNowWhy::Filling));
            }
            // The ledger knows better: the result of the call may be unknown, or a round be left open.
            if let Ok(row) = self.services.store.task(&self.row.name).await {
                self.row = row;
            }
            self.run = None;
            self.take_up().await;
            return;
        }
        let Some(current) = &self.current else { return };
        for (client, answer) in drawn {
            // Whoever hung up meanwhile gets the same seat at its next check-in.
            let _ = answer.send(self.assignment(current, &client));
        }
    }

    /// A cohort of the clients that wait, once enough of them do, and the seed that drew it.
    async fn draw_among_waiting(&mut self, now: Tick) -> Option<([u8; 32], Drawn)> {
        if self.room.len() < self.spec.cohort.selected {
            return None;
        }
        self.room.forget_gone();
        if !self.send_limited_away().await {
            return None;
        }
        let gathered = self.room.since().is_some_and(|since| now >= since + self.spec.cohort.gather_ms);
        let reference = self.spec.reference.as_ref();
        let complete = reference.is_none_or(|client| self.room.holds(client));
        if self.room.len() < self.spec.cohort.selected || !gathered || !complete {
            return None;
        }
        let seed = random::<32>();
        let drawn = self.room.draw(seed, reference, self.spec.cohort.selected, now);
        Some((seed, drawn.into_iter().map(|(client, call)| (client, Some(call))).collect()))
    }

    /// Takes those of a cohort out of the room that are there.
    fn call(&mut self, cohort: Vec<ClientId>) -> Drawn {
        cohort.into_iter().map(|client| (client.clone(), self.room.take(&client))).collect()
    }

    async fn open(&mut self, seed: [u8; 32], nonces: BTreeMap<ClientId, Nonce>, now: Tick) -> Result<(), Unopened> {
        let cohort = self.spec.cohort.clone();
        let number = self.row.last_round + 1;
        let step = self.run.as_ref().map(|run| run.step);
        let closes_at = now + cohort.phase_limit_ms;
        let members = nonces.keys().cloned().collect();
        let params = match self.is_secret() {
            true => RoundParams::secret(members, closes_at),
            false => RoundParams::new(members, cohort.size, cohort.minimum, closes_at),
        };
        let params = params.map_err(|error| Unopened::Fault(error.to_string()))?;
        let store = &self.services.store;
        if !self.is_secret() {
            let seen: Vec<_> = nonces.keys().map(|client| (client.clone(), now)).collect();
            store.seen(&seen).await.map_err(|error| Unopened::Fault(error.to_string()))?;
        }
        let round = NewRound {
            task: self.row.name.clone(),
            number,
            base: self.row.model,
            seed,
            target: cohort.size,
            minimum: cohort.minimum,
            opened_at: now,
            closes_at,
            cohort: nonces.iter().map(|(client, nonce)| (client.clone(), *nonce)).collect(),
            reserve: self.reserve(step),
            step,
            secret: self.is_secret(),
        };
        store.open_round(round).await.map_err(|error| match error {
            StoreError::Exhausted(exhausted) => {
                Unopened::Never(format!("{}: {exhausted}", Reason::PrivacyBudgetExhausted))
            }
            off_plan @ StoreError::OffPlan { .. } => Unopened::Never(off_plan.to_string()),
            other => Unopened::Fault(other.to_string()),
        })?;
        self.row.last_round = number;
        self.joined(nonces.keys());
        let engine = self.engine(number, params, seed);
        let current = Current::new(number, now, engine, nonces, &self.row.name);
        self.current = Some(Current { step, ..current });
        self.services.metrics.round_opened(self.row.name.as_str(), number);
        let clients = cohort.sample.is_none().then_some(cohort.selected);
        tracing::info!(task = %self.row.name, round = number, clients, "round opened");
        Ok(())
    }
}
