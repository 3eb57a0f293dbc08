//! Clients that checked in and wait for a cohort, and when the others come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use testudo_engine::select;
use testudo_proto::{Answer, NotNowWhy};
use testudo_protocol::{ClientId, Tick};
use tokio::sync::oneshot;

/// Check-ins that are held open.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    waiting: BTreeMap<ClientId, Waiter>,
    /// When held calls end; of some that are held no longer too.
    expiries: BTreeSet<(Tick, ClientId)>,
    /// When the first of the present ones came.
    since: Option<Tick>,
}

/// A check-in to be held.
#[derive(Debug)]
pub(super) struct HeldCall {
    pub(super) answer: oneshot::Sender<Answer>,
    pub(super) now: Tick,
    pub(super) expires: Tick,
    pub(super) why: NotNowWhy,
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Answer>,
    expires: Tick,
    why: NotNowWhy,
}

impl WaitingRoom {
    /// Holds a check-in. An older one of the same client is told to stay away for `evicted`: two devices with one
    /// name must not chase each other.
    pub(super) fn enter(&mut self, client: ClientId, call: HeldCall, evicted: Duration) {
        let HeldCall { answer, now, expires, why } = call;
        self.expiries.insert((expires, client.clone()));
        self.since.get_or_insert(now);
        let older = self.waiting.insert(client, Waiter { answer, expires, why });
        if let Some(older) = older {
            // Mostly the client has lost that call, and nobody reads this.
            let _ = older.answer.send(Answer::not_now(evicted, NotNowWhy::Filling));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest of the present clients came.
    pub(super) fn since(&self) -> Option<Tick> {
        self.since
    }

    /// When to look for held calls that must be answered.
    pub(super) fn next_expiry(&self) -> Option<Tick> {
        self.expiries.first().map(|(expires, _)| *expires)
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
        while let Some((expires, client)) = self.expiries.pop_first() {
            if expires > now {
                self.expiries.insert((expires, client));
                break;
            }
            // A call that took this one's place has a time of its own.
            if self.waiting.get(&client).is_none_or(|waiter| waiter.expires > now) {
                continue;
            }
            let Some(waiter) = self.waiting.remove(&client) else { continue };
            let _ = waiter.answer.send(Answer::not_now(retry_after(waiter.why), waiter.why));
        }
        if self.waiting.is_empty() {
            self.since = None;
        }
    }

    /// Whether a client waits.
    pub(super) fn holds(&self, client: &ClientId) -> bool {
        self.waiting.contains_key(client)
    }

    /// Who waits.
    pub(super) fn clients(&self) -> impl Iterator<Item = &ClientId> {
        self.waiting.keys()
    }

    /// Answers one client's call.
    pub(super) fn dismiss(&mut self, client: &ClientId, answer: Answer) {
        if let Some(call) = self.take(client) {
            let _ = call.send(answer);
        }
    }

    /// Takes one client out, with its call to answer, if it waits.
    pub(super) fn take(&mut self, client: &ClientId) -> Option<oneshot::Sender<Answer>> {
        let waiter = self.waiting.remove(client);
        if self.waiting.is_empty() {
            self.since = None;
        }
        waiter.map(|waiter| waiter.answer)
    }

    /// Draws a cohort and takes its members out, with the calls to answer. `always`, who waits, is one of them.
    pub(super) fn draw(
        &mut self,
        seed: [u8; 32],
        always: Option<&ClientId>,
        count: usize,
        now: Tick,
    ) -> Vec<(ClientId, oneshot::Sender<Answer>)> {
        let others = self.waiting.keys().filter(|client| Some(*client) != always).cloned().collect();
        let mut cohort = select(seed, others, count - usize::from(always.is_some()));
        cohort.extend(always.cloned());
        let taken =
            cohort.into_iter().filter_map(|client| Some((client.clone(), self.waiting.remove(&client)?.answer)));
        let taken = taken.collect();
        self.since = (!self.waiting.is_empty()).then_some(now);
        for waiter in self.waiting.values_mut() {
            waiter.why = NotNowWhy::NotSelected;
        }
        taken
    }

    /// Answers every held call.
    pub(super) fn answer_all(&mut self, mut answer: impl FnMut() -> Answer) {
        self.expiries.clear();
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

    fn call(answer: oneshot::Sender<Answer>, why: NotNowWhy) -> HeldCall {
        HeldCall { answer, now: 0, expires: 100, why }
    }

    fn four_waiting() -> (WaitingRoom, Vec<oneshot::Receiver<Answer>>) {
        let mut room = WaitingRoom::default();
        let enter = |number| {
            let (answer, reply) = oneshot::channel();
            room.enter(client(number), call(answer, NotNowWhy::Filling), Duration::ZERO);
            reply
        };
        let replies = (0..4).map(enter).collect();
        (room, replies)
    }

    #[test]
    fn a_second_call_of_one_client_sends_the_first_away_for_a_while() {
        let mut room = WaitingRoom::default();
        let (first, mut reply) = oneshot::channel();
        let (second, _open) = oneshot::channel();
        room.enter(client(1), call(first, NotNowWhy::Filling), Duration::from_secs(1));
        room.enter(client(1), call(second, NotNowWhy::Filling), Duration::from_secs(1));
        let Ok(Answer::NotNow { retry_after, .. }) = reply.try_recv() else { panic!() };
        assert_eq!((retry_after, room.len()), (Duration::from_secs(1), 1));
    }

    #[test]
    fn a_held_call_is_answered_when_its_time_is_up() {
        let mut room = WaitingRoom::default();
        let (answer, mut reply) = oneshot::channel();
        room.enter(client(1), call(answer, NotNowWhy::Running), Duration::ZERO);
        room.expire(99, |_| Duration::ZERO);
        assert!(reply.try_recv().is_err());
        room.expire(100, |_| Duration::from_secs(3));
        let Ok(Answer::NotNow { retry_after, why: NotNowWhy::Running, .. }) = reply.try_recv() else { panic!() };
        assert_eq!((retry_after, room.len(), room.since()), (Duration::from_secs(3), 0, None));
    }

    #[test]
    fn who_was_not_drawn_goes_on_waiting_for_the_next_cohort() {
        let (mut room, _replies) = four_waiting();
        assert_eq!(room.draw([3; 32], None, 2, 7).len(), 2);
        assert_eq!((room.len(), room.since()), (2, Some(7)));
        assert_eq!(room.draw([3; 32], None, 2, 8).len(), 2);
        assert_eq!(room.since(), None);
    }

    #[test]
    fn clients_that_hung_up_are_not_drawn() {
        let (mut room, mut replies) = four_waiting();
        replies.remove(2);
        room.forget_gone();
        let drawn = room.draw([3; 32], None, 3, 7);
        assert_eq!(drawn.iter().map(|(client, _)| client.as_str()).collect::<Vec<_>>(), ["c0", "c1", "c3"]);
    }
}
