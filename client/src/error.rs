//! What can go wrong, whose fault it is, and what to do next.

use std::time::Duration;
use testudo_protocol::{ModelError, Reason, Reject};

/// What a [`Trainer`](crate::Trainer) may fail with.
pub type TrainError = Box<dyn std::error::Error + Send + Sync>;

/// Whatever ends a call of this crate without its result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server could not be reached, or what was reached is no Testudo server.
    #[error("cannot reach {url}: {detail}; check the address, that the server runs, and its certificate")]
    Connect {
        /// Where to.
        url: String,
        /// What happened.
        detail: String,
    },
    /// The server refused; [`Reject::reason`] is the stable reason.
    #[error("the server refused: {0}")]
    Rejected(Reject),
    /// The assignment is not what this device insists on. Nothing was sent.
    #[error("against this device's policy: {0}")]
    Policy(String),
    /// The update does not fit the round. Nothing was sent.
    #[error("the update cannot be sent: {0}")]
    Update(String),
    /// The downloaded file, though intact, is not a model this version can train.
    #[error("the model cannot be used: {0}; this version of the client may be too old for the task")]
    Model(#[from] ModelError),
    /// The server did what no honest server does. Do not send it anything; tell its operator.
    #[error("the server misbehaved: {0}")]
    ServerMisbehaved(String),
    /// Training failed in too many rounds in a row.
    #[error("training failed in {failures} rounds in a row, last with: {last}")]
    Trainer {
        /// Rounds in a row.
        failures: u32,
        /// The last failure.
        last: TrainError,
    },
    /// The identity cannot be read or is not accepted.
    #[error("identity: {0}")]
    Identity(String),
    /// An option that cannot be, or a call at the wrong time.
    #[error("{0}")]
    Config(String),
    /// No answer for as long as [`Retry`](crate::Retry) or the round allows.
    #[error("gave up after {:.1} s without success, last: {last}; check the connection and the server", after.as_secs_f64())]
    GaveUp {
        /// Time from the first failure to the last.
        after: Duration,
        /// The last failure.
        last: String,
    },
}

impl Error {
    /// The server's reason, if it refused.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Rejected(reject) => Some(reject.reason),
            _ => None,
        }
    }
}

/// The beginning of a text from outside, for messages.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
