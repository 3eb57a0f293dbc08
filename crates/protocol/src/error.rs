//! Errors that say whose fault they are, each with a stable code.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// Stable codes of what was wrong. On the wire in `google.rpc.ErrorInfo`, in verdicts and in metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable code, for example `NON_FINITE`.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// A few words for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// The request cannot be read.
    Malformed = "MALFORMED", "malformed request";
    /// A task, round or release that is not there.
    NotFound = "NOT_FOUND", "not found";
    /// The name is taken by another task.
    Exists = "EXISTS", "already exists";
    /// The task takes no more updates.
    TaskEnded = "TASK_ENDED", "the task has ended";
    /// The client was not selected for this round, or shows another nonce.
    NotInCohort = "NOT_IN_COHORT", "not in the cohort";
    /// The claimed identity is not the channel's.
    Identity = "IDENTITY", "identity does not match the channel";
    /// The round is not the open one.
    WrongRound = "WRONG_ROUND", "wrong round";
    /// The update was trained from another model.
    WrongModel = "WRONG_MODEL", "wrong base model";
    /// Tensor names, shapes or number differ from the model's.
    WrongShape = "WRONG_SHAPE", "wrong shape";
    /// A tensor's number format differs from the model's.
    WrongDtype = "WRONG_DTYPE", "wrong dtype";
    /// NaN or infinity in the update.
    NonFinite = "NON_FINITE", "non-finite value";
    /// The update's norm is over the task's cap, or overflowed.
    Magnitude = "MAGNITUDE", "norm over the cap";
    /// A number of examples that is not positive or absurdly large.
    Examples = "EXAMPLES", "impossible number of examples";
    /// The bytes do not have the announced digest.
    DigestMismatch = "DIGEST_MISMATCH", "digest mismatch";
    /// More bytes than announced or allowed.
    Oversize = "OVERSIZE", "too many bytes";
    /// The stream ended before the announced length.
    Truncated = "TRUNCATED", "stream ended early";
    /// The stream does not start where the server asked it to.
    WrongOffset = "WRONG_OFFSET", "wrong offset";
    /// Another update of the same client is already recorded, or one was refused.
    Duplicate = "DUPLICATE", "second update in one round";
    /// The round no longer takes updates.
    Late = "LATE", "too late";
    /// Bytes come in more slowly than the limit.
    TooSlow = "TOO_SLOW", "sender too slow";
    /// A newer stream of the same client goes on with the transfer.
    TakenOver = "TAKEN_OVER", "a newer stream took over";
    /// The server is at a limit; try again later.
    Overloaded = "OVERLOADED", "server at a limit";
    /// A signature does not fit.
    Signature = "SIGNATURE", "signature does not fit";
    /// Too few members of the client's group are left, so nothing of it counts.
    GroupLost = "GROUP_LOST", "group lost";
    /// The client left the round.
    Withdrawn = "WITHDRAWN", "withdrawn";
    /// The rule did not select this row.
    NotSelected = "NOT_SELECTED", "not selected by the rule";
    /// The task's description is refused.
    Spec = "SPEC", "task refused";
    /// The privacy budget does not hold it.
    PrivacyBudgetExhausted = "PRIVACY_BUDGET_EXHAUSTED", "privacy budget exhausted";
    /// The action does not fit the task's state.
    WrongState = "WRONG_STATE", "not possible in this state";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;
    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code).ok_or(UnknownReason)
    }
}

/// A code this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason code")]
pub struct UnknownReason;

/// This client or its timing: refused, **state unchanged**, the round goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Reject {
    /// The stable reason.
    pub reason: Reason,
    /// What was wrong and what would be right.
    pub detail: String,
    /// When trying again may help, and how long to wait.
    pub retry_after: Option<Duration>,
}

impl Reject {
    /// A final refusal.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }

    /// A refusal worth another try after some time.
    pub fn retry(reason: Reason, detail: impl Into<String>, after: Duration) -> Self {
        Self { reason, detail: detail.into(), retry_after: Some(after) }
    }
}

/// Nobody's fault: the round is closed, the model unchanged, the next round may open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Abandon {
    /// Fewer updates than the task's minimum when the round ended.
    #[error("too few updates: {received} of at least {minimum}")]
    TooFewUpdates {
        /// Updates recorded.
        received: usize,
        /// Fewest for a release.
        minimum: usize,
    },
    /// Fewer groups than the rule needs can be unmasked.
    #[error("too few groups: {groups} of at least {minimum}")]
    TooFewGroups {
        /// Groups left.
        groups: usize,
        /// Fewest for a release.
        minimum: usize,
    },
    /// The operator stopped the task.
    #[error("the task was stopped")]
    Stopped,
    /// The uploads were only in memory and the server restarted.
    #[error("the server restarted and the spool was in memory")]
    SpoolLost,
    /// The rule could not decide.
    #[error("rule unmet: {detail}")]
    Rule {
        /// What the rule said.
        detail: String,
    },
    /// Us or our dependencies, after retries.
    #[error("fault: {detail}")]
    Fault {
        /// What failed.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_is_unique() {
        for &reason in Reason::ALL {
            assert_eq!(reason.code().parse(), Ok(reason));
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("{:?}", reason.code()));
        }
        assert_eq!("NO_SUCH_CODE".parse::<Reason>(), Err(UnknownReason));
    }
}
