//! What a client holds once its update is recorded.

use serde::{Deserialize, Serialize};
use testudo_protocol::{Digest, TaskName, Verdict};

/// The server has recorded an update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which task.
    pub task: TaskName,
    /// Which round.
    pub round: u64,
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// Examples as capped by the task.
    pub num_examples: u64,
    /// Milliseconds since the Unix epoch, on the server's clock.
    pub received_at_ms: u64,
    /// [`Verdict::Pending`]: the rule decides when the round closes, and a later
    /// [`Session::next_round`](crate::Session::next_round) learns it.
    pub verdict: Verdict,
}

impl From<testudo_proto::Receipt> for Receipt {
    fn from(receipt: testudo_proto::Receipt) -> Self {
        Self {
            task: receipt.task,
            round: receipt.round,
            digest: receipt.digest,
            num_examples: receipt.num_examples,
            received_at_ms: receipt.received_at_ms,
            verdict: Verdict::Pending,
        }
    }
}
