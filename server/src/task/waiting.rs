//! Clients that checked in and wait for a cohort, and when the others come back.

use std::{collections::BTreeMap, time::Duration};
use testudo_engine::select;
use testudo_proto::{Answer, NotNowWhy};
use testudo_protocol::{ClientId, Tick};
use tokio::sync::oneshot;

/// Check-ins that are held open.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    waiting: BTreeMap<ClientId, Waiter>,
    /// When the first of the present ones came.
    since: Option<Tick>,
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Answer>,
    expires: Tick,
    why: NotNowWhy,
}

impl WaitingRoom {
    /// Holds a check-in; an older one of the same client is answered "not now".
    pub(super) fn enter(
        &mut self,
        client: ClientId,
        answer: oneshot::Sender<Answer>,
        expires: Tick,
        why: NotNowWhy,
        now: Tick,
    ) {
        self.since.get_or_insert(now);
        let older = self.waiting.insert(client, Waiter { answer, expires, why });
        if let Some(older) = older {
            // The client has most likely lost that call; nobody reads this.
            let _ = older.answer.send(Answer::NotNow { retry_after: Duration::ZERO, why: NotNowWhy::Filling });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest of the present clients came.
    pub(super) fn since(&self) -> Option<Tick> {
        self.since
    }

    /// When the next held call must be answered.
    pub(super) fn next_expiry(&self) -> Option<Tick> {
        self.waiting.values().map(|waiter| waiter.expires).min()
    }

    /// Drops the calls whose clients hung up.
    pub(super) fn forget_gone(&mut self) {
        self.waiting.retain(|_, waiter| !waiter.answer.is_closed());
        if self.waiting.is_empty() {
            self.since = None;
        }
    }

    /// Answers the calls that waited long enough.
    pub(super) fn expire(&mut self, now: Tick, mut retry_after: impl FnMut(NotNowWhy) -> Duration) {
        let expired: Vec<ClientId> =
            self.waiting.iter().filter(|(_, waiter)| waiter.expires <= now).map(|(client, _)| client.clone()).collect();
        for client in expired {
            let Some(waiter) = self.waiting.remove(&client) else { continue };
            let _ = waiter.answer.send(Answer::NotNow { retry_after: retry_after(waiter.why), why: waiter.why });
        }
        if self.waiting.is_empty() {
            self.since = None;
        }
    }

    /// Draws a cohort and takes its members out, with the calls to answer.
    pub(super) fn draw(&mut self, seed: [u8; 32], count: usize) -> Vec<(ClientId, oneshot::Sender<Answer>)> {
        let cohort = select(seed, self.waiting.keys().cloned().collect(), count);
        let taken =
            cohort.into_iter().filter_map(|client| Some((client.clone(), self.waiting.remove(&client)?.answer)));
        let taken = taken.collect();
        self.since = None;
        for waiter in self.waiting.values_mut() {
            waiter.why = NotNowWhy::NotSelected;
        }
        taken
    }

    /// Answers every held call.
    pub(super) fn answer_all(&mut self, mut answer: impl FnMut() -> Answer) {
        for (_, waiter) in std::mem::take(&mut self.waiting) {
            let _ = waiter.answer.send(answer());
        }
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: usize) -> ClientId {
        ClientId::new(format!("c{number}")).unwrap()
    }

    #[test]
    fn a_held_call_is_answered_when_its_time_is_up() {
        let mut room = WaitingRoom::default();
        let (answer, mut reply) = oneshot::channel();
        room.enter(client(1), answer, 100, NotNowWhy::Running, 0);
        room.expire(99, |_| Duration::ZERO);
        assert!(reply.try_recv().is_err());
        room.expire(100, |_| Duration::from_secs(3));
        let Ok(Answer::NotNow { retry_after, why: NotNowWhy::Running }) = reply.try_recv() else { panic!() };
        assert_eq!((retry_after, room.len(), room.since()), (Duration::from_secs(3), 0, None));
    }

    #[test]
    fn clients_that_hung_up_are_not_drawn() {
        let mut room = WaitingRoom::default();
        let mut replies = Vec::new();
        for number in 0..4 {
            let (answer, reply) = oneshot::channel();
            room.enter(client(number), answer, 100, NotNowWhy::Filling, 0);
            replies.push(reply);
        }
        replies.remove(2);
        room.forget_gone();
        let drawn = room.draw([3; 32], 3);
        assert_eq!(drawn.iter().map(|(client, _)| client.as_str()).collect::<Vec<_>>(), ["c0", "c1", "c3"]);
    }
}
