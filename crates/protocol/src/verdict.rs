//! What became of one client in one round.

use crate::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One per client and round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Received; the rule decides when the round closes.
    Pending,
    /// Used as it is.
    Accepted,
    /// Used after scaling by a factor in (0, 1).
    Clipped {
        /// The factor.
        factor: f64,
    },
    /// Used, except where it fell in the cut of an order statistic.
    Trimmed {
        /// Share of its coordinates that were cut, in [0, 1].
        share: f64,
    },
    /// Not used.
    Rejected {
        /// Why.
        reason: Reason,
    },
    /// Selected, and sent no update.
    Dropout,
}

impl Verdict {
    /// The word on the wire and in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Clipped { .. } => "clipped",
            Self::Trimmed { .. } => "trimmed",
            Self::Rejected { .. } => "rejected",
            Self::Dropout => "dropout",
        }
    }

    /// The reason of a rejection.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Rejected { reason } => Some(*reason),
            _ => None,
        }
    }

    /// The clip factor or the trimmed share; 0 for the others.
    pub fn value(&self) -> f64 {
        match self {
            Self::Clipped { factor } => *factor,
            Self::Trimmed { share } => *share,
            _ => 0.0,
        }
    }

    /// Puts a verdict together from its parts on the wire; `None` if they do not fit.
    pub fn from_parts(kind: &str, reason: Option<Reason>, value: f64) -> Option<Self> {
        match (kind, reason) {
            ("pending", None) => Some(Self::Pending),
            ("accepted", None) => Some(Self::Accepted),
            ("clipped", None) => Some(Self::Clipped { factor: value }),
            ("trimmed", None) => Some(Self::Trimmed { share: value }),
            ("rejected", Some(reason)) => Some(Self::Rejected { reason }),
            ("dropout", None) => Some(Self::Dropout),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clipped { factor } => write!(f, "clipped to {factor:.3}"),
            Self::Trimmed { share } => write!(f, "trimmed in {:.0} % of its coordinates", share * 100.0),
            Self::Rejected { reason } => write!(f, "rejected: {reason}"),
            other => f.write_str(other.kind()),
        }
    }
}
