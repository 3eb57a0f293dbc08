//! How often clients may check in: per client of a task, and per connection.
//!
//! Each party is one instant, the moment at which it has used up nothing (the generic cell rate algorithm, ITU-T I.371).
//! A check-in that is given a new seat costs nothing, so fast rounds are no offence; neither does coming back when the
//! server said, because its pauses are longer than the limit's.

use crate::config::Config;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use testudo_protocol::{ClientId, Nonce, Reason, Reject, TaskName};

/// Seconds' worth of check-ins that may come at once.
const BURST_S: f64 = 4.0;
/// Clients that are kept in mind; the connections' limit alone bounds what goes beyond.
const CLIENTS: usize = 100_000;
/// How often clients that have used up nothing are looked for, once there are too many.
const SWEEP: Duration = Duration::from_millis(100);

/// The limits on check-ins.
#[derive(Debug)]
pub(crate) struct CheckIns {
    client: Rate,
    connection: Rate,
    clients: Mutex<Clients>,
}

/// One connection's check-ins.
#[derive(Debug)]
pub(crate) struct Meter(Mutex<Instant>);

/// A client of a task.
pub(crate) type Party = (TaskName, ClientId);

#[derive(Debug)]
struct Clients {
    known: HashMap<Party, Known>,
    most: usize,
    swept: Instant,
}

#[derive(Debug)]
struct Known {
    free_at: Instant,
    /// The seat that cost nothing.
    seat: Option<Nonce>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_s: f64,
    interval: Duration,
    burst: Duration,
}

impl CheckIns {
    pub(crate) fn new(config: &Config) -> Self {
        let clients = Clients { known: HashMap::new(), most: CLIENTS, swept: Instant::now() };
        Self {
            client: Rate::new(config.check_ins_per_s()),
            connection: Rate::new(config.limits.connection_check_ins_per_s),
            clients: Mutex::new(clients),
        }
    }

    /// One check-in over a connection.
    pub(crate) fn over(&self, connection: &Meter) -> Result<(), Reject> {
        let mut free_at = lock(&connection.0);
        *free_at = self
            .connection
            .spend(*free_at, Instant::now())
            .map_err(|wait| self.connection.refusal("connection_check_ins_per_s", "over one connection", wait))?;
        Ok(())
    }

    /// One check-in of a client.
    pub(crate) fn of(&self, party: &Party) -> Result<(), Reject> {
        let now = Instant::now();
        let mut clients = lock(&self.clients);
        if let Some(known) = clients.known.get_mut(party) {
            let spent = self.client.spend(known.free_at, now);
            known.free_at = spent.map_err(|wait| self.client.refusal("check_ins_per_s", "of one client", wait))?;
            return Ok(());
        }
        clients.make_room(now);
        if clients.known.len() < clients.most {
            clients.known.insert(party.clone(), Known { free_at: now + self.client.interval, seat: None });
        }
        Ok(())
    }

    /// The check-in was given a seat: the first time, it cost nothing.
    pub(crate) fn seated(&self, connection: &Meter, party: &Party, seat: Nonce) {
        let mut clients = lock(&self.clients);
        let Some(known) = clients.known.get_mut(party).filter(|known| known.seat != Some(seat)) else { return };
        known.seat = Some(seat);
        known.free_at = back(known.free_at, self.client.interval);
        drop(clients);
        let mut free_at = lock(&connection.0);
        *free_at = back(*free_at, self.connection.interval);
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Clients {
    /// Forgets who has used up nothing, which changes nothing for them.
    fn make_room(&mut self, now: Instant) {
        if self.known.len() >= self.most && now >= self.swept + SWEEP {
            self.swept = now;
            self.known.retain(|_, known| known.free_at > now);
        }
    }
}

impl Rate {
    fn new(per_s: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / per_s);
        Self { per_s, interval, burst: interval.max(Duration::from_secs_f64(BURST_S)) }
    }

    /// When the party will have used up nothing after one more, or how long it has to wait for that one.
    fn spend(&self, free_at: Instant, now: Instant) -> Result<Instant, Duration> {
        let next = free_at.max(now) + self.interval;
        match (next - now).checked_sub(self.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(next),
        }
    }

    fn refusal(&self, key: &str, what: &str, wait: Duration) -> Reject {
        let detail = format!("more than {} check-ins a second {what}; see {key} in [limits]", self.per_s);
        Reject::retry(Reason::Overloaded, detail, wait)
    }
}

/// An instant may lie at the beginning of time.
fn back(instant: Instant, by: Duration) -> Instant {
    instant.checked_sub(by).unwrap_or(instant)
}

/// A panic elsewhere leaves nothing half-written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(check_ins_per_s: f64, connection_check_ins_per_s: f64) -> CheckIns {
        let mut config = Config::default();
        config.limits.check_ins_per_s = Some(check_ins_per_s);
        config.limits.connection_check_ins_per_s = connection_check_ins_per_s;
        CheckIns::new(&config)
    }

    fn party(number: usize) -> Party {
        (TaskName::new("t").unwrap(), ClientId::new(format!("c{number}")).unwrap())
    }

    #[test]
    fn a_rate_lets_a_burst_through_and_then_one_at_a_time() {
        let (rate, now) = (Rate::new(5.0), Instant::now());
        let mut free_at = now;
        for _ in 0..20 {
            free_at = rate.spend(free_at, now).unwrap();
        }
        let wait = rate.spend(free_at, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(200));
        free_at = rate.spend(free_at, now + wait).unwrap();
        assert!(rate.spend(free_at, now + wait).is_err());
        // However long it was away, it has no more than a burst.
        let later = now + Duration::from_secs(3600);
        for _ in 0..20 {
            free_at = rate.spend(free_at, later).unwrap();
        }
        assert!(rate.spend(free_at, later).is_err());
    }

    #[test]
    fn one_client_does_not_use_up_anothers_check_ins_and_a_connection_counts_them_all() {
        let (limits, connection) = (limits(1.0, 2.0), Meter::default());
        let mut refused = 0;
        for number in 0..2 {
            for _ in 0..5 {
                refused += usize::from(limits.of(&party(number)).is_err());
            }
        }
        assert_eq!(refused, 2);
        let over = (0..9).filter(|_| limits.over(&connection).is_ok()).count();
        assert_eq!(over, 8);
        let reject = limits.over(&connection).unwrap_err();
        assert_eq!(reject.reason, Reason::Overloaded);
        assert!(reject.retry_after.unwrap() > Duration::ZERO && reject.detail.contains("connection_check_ins_per_s"));
    }

    #[test]
    fn a_new_seat_costs_nothing_and_the_same_one_again_does() {
        let (limits, connection) = (limits(0.1, 1000.0), Meter::default());
        for seat in 0..50 {
            limits.of(&party(0)).unwrap();
            limits.seated(&connection, &party(0), Nonce([seat; 16]));
        }
        limits.of(&party(0)).unwrap();
        limits.seated(&connection, &party(0), Nonce([49; 16]));
        assert!(limits.of(&party(0)).is_err());
    }

    #[test]
    fn no_more_clients_are_kept_in_mind_than_there_is_room_for() {
        let limits = limits(0.1, 1000.0);
        lock(&limits.clients).most = 10;
        (0..100).for_each(|number| limits.of(&party(number)).unwrap());
        assert_eq!(lock(&limits.clients).known.len(), 10);
        let later = Instant::now() + Duration::from_secs(60);
        lock(&limits.clients).make_room(later);
        assert_eq!(lock(&limits.clients).known.len(), 0);
    }
}
