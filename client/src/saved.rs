//! A session between two processes.

use crate::{Error, noised::Kept, shares};
use serde::{Deserialize, Serialize};
use testudo_proto::{Assignment, Masking};
use testudo_protocol::{ClientId, Digest, Nonce, TaskName, secagg};

/// A session as a file can hold it: [`Session::save`](crate::Session::save) makes it,
/// [`Client::resume`](crate::Client::resume) takes it up again. It holds the open round's nonce, so keep it as
/// private as the device's other files; keys and certificates are not in it. Between sealing and sending in a round with
/// noise of one's own it holds the noised update too, 8 characters per coordinate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSession {
    pub(crate) task: TaskName,
    pub(crate) client: ClientId,
    /// The newest round whose verdict is known.
    pub(crate) verdicts_after: u64,
    /// Rounds with a receipt.
    pub(crate) rounds: u64,
    /// Updates that may have left the device.
    #[serde(default)]
    pub(crate) told: u64,
    /// What the task's rounds have been like so far.
    #[serde(default)]
    pub(crate) promises: Promises,
    pub(crate) seat: Option<SavedSeat>,
}

impl SavedSession {
    /// Which task.
    pub fn task(&self) -> &TaskName {
        &self.task
    }

    /// Which client.
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// Rounds in which an update was recorded.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// The round that was open, and the digest of the update that was on its way, if one was.
    pub fn open_round(&self) -> Option<(u64, Option<Digest>)> {
        let seat = self.seat.as_ref().filter(|seat| seat.state == SeatState::Open)?;
        Some((seat.round, seat.digest))
    }
}

/// What a session has seen its task give, and takes no round with less of. Multiples of the clip are kept as their bits,
/// which are ordered as the numbers are: not every reader of JSON gives the last bit of a number back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promises {
    /// Whether a round was masked.
    pub(crate) masked: bool,
    /// The most noise on this client's own update.
    pub(crate) own_noise: Option<u64>,
    /// The most noise of a masked sum's shares.
    pub(crate) shared_noise: Option<u64>,
}

impl Promises {
    /// Notes how an assignment treats the update.
    ///
    /// # Errors
    /// [`Error::Policy`] if an earlier one treated it better.
    pub(crate) fn assigned(&mut self, assignment: &Assignment) -> Result<(), Error> {
        self.masked |= assignment.masking == Masking::Pairwise;
        if self.masked && assignment.masking != Masking::Pairwise {
            let what = "the task was masked before, and now would show this client's update";
            return Err(Error::Policy(what.into()));
        }
        let now = assignment.own_noise.map(|noise| noise.multiplier());
        self.own_noise = no_less("noise", self.own_noise, now, assignment.round)?;
        Ok(())
    }

    /// Notes what a masked round's clients add, counted from every honest survivor that it announces.
    ///
    /// # Errors
    /// [`Error::Policy`] if an earlier round's added more.
    pub(crate) fn announced(&mut self, session: &secagg::Session) -> Result<(), Error> {
        let now = session.has_shares().then(|| shares::noise_multiplier(session, 0));
        self.shared_noise = no_less("noise of all together", self.shared_noise, now, session.round)?;
        Ok(())
    }
}

/// The bits of `now` unless they are below those of an earlier round.
fn no_less(what: &str, known: Option<u64>, now: Option<f64>, round: u64) -> Result<Option<u64>, Error> {
    let bits = now.map(f64::to_bits);
    match known {
        Some(known) if bits.is_none_or(|bits| bits < known) => Err(Error::Policy(format!(
            "the task asked for {what} of {} times the clip before, and round {round} for {}",
            f64::from_bits(known),
            now.map_or("none".to_string(), |now| format!("{now} times")),
        ))),
        _ => Ok(bits),
    }
}

/// The newest place this client was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedSeat {
    pub(crate) round: u64,
    pub(crate) nonce: Nonce,
    /// Of the update on its way.
    pub(crate) digest: Option<Digest>,
    pub(crate) state: SeatState,
    /// That update, if it was noised and is not yet decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) noised: Option<Kept>,
}

/// What has become of a place, as far as this client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SeatState {
    /// An update is still owed.
    Open,
    /// Left without an update; the server may not know yet.
    Left,
    /// Recorded or refused.
    Decided,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{announced, assignment, noisy};

    #[test]
    fn a_task_that_was_masked_or_noised_is_never_less_so() {
        let session = |noise: f64| {
            let bytes = announced(|session| noisy(session, noise, 9)).0.announcement;
            secagg::Announcement::from_bytes(&bytes).unwrap().session
        };
        let mut promises = Promises::default();
        promises.assigned(&assignment(Masking::None, 1)).unwrap();
        promises.assigned(&assignment(Masking::Pairwise, 16)).unwrap();
        promises.announced(&session(4e5)).unwrap();
        promises.announced(&session(4e5)).unwrap();
        // What a file holds is what was known.
        let mut promises: Promises = serde_json::from_str(&serde_json::to_string(&promises).unwrap()).unwrap();
        promises.announced(&session(4e5)).unwrap();
        let without = secagg::Session { mechanism: String::new(), noise: 0.0, honest: 0, ..session(4e5) };
        for worse in [session(399_999.0), without] {
            let error = promises.announced(&worse).unwrap_err();
            assert!(matches!(error, Error::Policy(_)) && error.to_string().contains("before"), "{error}");
        }
        promises.announced(&session(5e5)).unwrap();
        assert!(promises.announced(&session(4e5)).is_err(), "the most counts");
        let error = promises.assigned(&assignment(Masking::None, 1)).unwrap_err();
        assert!(error.to_string().contains("masked before"), "{error}");
    }

    #[test]
    fn a_file_without_promises_is_read() {
        let text = r#"{"task": "task", "client": "c", "verdicts_after": 0, "rounds": 2, "seat": null}"#;
        let saved: SavedSession = serde_json::from_str(text).unwrap();
        assert_eq!((saved.told, saved.promises), (0, Promises::default()));
    }
}
