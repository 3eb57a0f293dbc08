//! Waiting for a server that is away: exponential backoff with full jitter.

use crate::Error;
use std::time::Duration;
use testudo_protocol::Reject;
use tokio::time::{Instant, sleep};

/// How lost connections, restarted and overloaded servers are waited for.
///
/// The n-th wait is drawn evenly from zero to `first × 2ⁿ`, at most `longest` (so that a thousand clients do not come
/// back at the same moment), on top of whatever time the server asked for. Without
/// [`give_up_after`](Retry::give_up_after) a session waits for ever, but an upload only until a
/// while [after its round](Retry::after_round).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    give_up_after: Option<Duration>,
    after_round: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            give_up_after: None,
            after_round: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// The most the first wait may take; 200 ms unless told.
    #[must_use]
    pub fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// The most any wait may take; 30 s unless told.
    #[must_use]
    pub fn longest(mut self, wait: Duration) -> Self {
        self.longest = wait;
        self
    }

    /// Return [`Error::GaveUp`] when the server has been away this long; for ever unless told.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = Some(time);
        self
    }

    /// How long an upload is still tried after its round was due to end; 60 s unless told. A server that restarted
    /// keeps its open round open for about that long, so that its clients can come back.
    #[must_use]
    pub fn after_round(mut self, time: Duration) -> Self {
        self.after_round = time;
        self
    }

    /// The last moment of an upload whose round is due to end then.
    pub(crate) fn extended(&self, deadline: Instant) -> Instant {
        deadline + self.after_round
    }

    /// The most the wait after `failures` earlier ones may take.
    fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// A failure that another try may mend.
#[derive(Debug)]
pub(crate) struct Hitch {
    /// What happened.
    pub(crate) detail: String,
    /// What the server asked to wait at least.
    pub(crate) wait: Duration,
    /// Set when the server refused for the time being.
    pub(crate) reject: Option<Reject>,
}

impl Hitch {
    /// A failure of which no more is known.
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), wait: Duration::ZERO, reject: None }
    }
}

/// One row of tries.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    failures: u32,
    failing_since: Option<Instant>,
    deadline: Option<Instant>,
    out_of_time: bool,
}

impl Backoff {
    /// Tries that end at the deadline, if there is one.
    pub(crate) fn new(retry: &Retry, deadline: Option<Instant>) -> Self {
        Self { retry: retry.clone(), failures: 0, failing_since: None, deadline, out_of_time: false }
    }

    /// The server answered: the next failure is a first one.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.failing_since = None;
    }

    /// Whether it was the deadline that ended the tries, not [`Retry::give_up_after`].
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.out_of_time
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// [`Error::GaveUp`] (or [`Error::Rejected`], if that is what the last try ended with) when the next try would
    /// come too late.
    pub(crate) async fn pause(&mut self, hitch: Hitch) -> Result<(), Error> {
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert(now);
        let delay = hitch.wait.saturating_add(self.retry.ceiling(self.failures).mul_f64(fraction()));
        self.failures = self.failures.saturating_add(1);
        let next = now.checked_add(delay);
        let after = |limit: Option<Instant>| limit.is_some_and(|limit| next.is_none_or(|next| next > limit));
        self.out_of_time = after(self.deadline);
        if self.out_of_time || after(self.retry.give_up_after.and_then(|time| since.checked_add(time))) {
            return Err(match hitch.reject {
                Some(reject) => Error::Rejected(reject),
                None => Error::GaveUp { after: now - since, last: hitch.detail },
            });
        }
        tracing::debug!(delay_ms = delay.as_millis() as u64, failures = self.failures, "waiting: {}", hitch.detail);
        sleep(delay).await;
        Ok(())
    }
}

/// Evenly from [0, 1). A device without randomness waits the full time.
fn fraction() -> f64 {
    getrandom::u64().map_or(1.0, |bits| (bits >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_protocol::Reason;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry::default().first(Duration::from_millis(10)).longest(Duration::from_millis(50));
        let waits: Vec<_> = [0, 1, 2, 3, 31, 32, u32::MAX].iter().map(|&n| retry.ceiling(n).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 50, 50, 50, 50]);
    }

    #[tokio::test]
    async fn tries_end_when_the_next_would_come_too_late() {
        let retry = Retry::default().give_up_after(Duration::from_secs(60));
        let mut backoff = Backoff::new(&retry, None);
        let hitch = Hitch { wait: Duration::from_secs(61), ..Hitch::new("away") };
        assert!(matches!(backoff.pause(hitch).await, Err(Error::GaveUp { last, .. }) if last == "away"));
        assert!(!backoff.is_out_of_time());

        let mut backoff = Backoff::new(&Retry::default(), Some(Instant::now()));
        let reject = Reject::new(Reason::Overloaded, "full");
        let hitch = Hitch { wait: Duration::from_secs(1), reject: Some(reject.clone()), ..Hitch::new("full") };
        assert!(matches!(backoff.pause(hitch).await, Err(Error::Rejected(last)) if last == reject));
        assert!(backoff.is_out_of_time());
    }

    #[test]
    fn fractions_stay_below_one() {
        assert!((0..1000).map(|_| fraction()).all(|value| (0.0..1.0).contains(&value)));
    }
}
