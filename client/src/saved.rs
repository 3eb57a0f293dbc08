//! A session between two processes.

use crate::noised::Kept;
use serde::{Deserialize, Serialize};
use testudo_protocol::{ClientId, Digest, Nonce, TaskName};

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
