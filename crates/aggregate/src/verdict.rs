//! What a rule made of each row.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One row's fate in one round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Counted as it came.
    Accepted,
    /// Counted after being shortened.
    Clipped {
        /// What the row was multiplied by, in 0..1.
        factor: f64,
    },
    /// Counted, except in the coordinates where its value was among those cut.
    Trimmed {
        /// Cut coordinates divided by all coordinates, in 0..=1.
        share: f64,
    },
    /// Not counted.
    Rejected {
        /// Why.
        reason: RowReason,
    },
}

impl Verdict {
    /// Whether nothing of the row reached the aggregate.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => formatter.write_str("accepted"),
            Self::Clipped { factor } => write!(formatter, "clipped to {factor:.2}"),
            Self::Trimmed { share } => write!(formatter, "trimmed {:.0} %", share * 100.0),
            Self::Rejected { reason } => write!(formatter, "rejected: {reason}"),
        }
    }
}

/// Why a row was rejected; the names are stable codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowReason {
    /// The rule selects rows and chose others.
    NotSelected,
    /// So far from the other rows that the distance is beyond f64.
    Magnitude,
    /// A coordinate is NaN or infinite.
    NonFinite,
}

impl RowReason {
    /// The stable code, as serialised.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSelected => "not_selected",
            Self::Magnitude => "magnitude",
            Self::NonFinite => "non_finite",
        }
    }
}

impl fmt::Display for RowReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_read_as_words() {
        let rejected = Verdict::Rejected { reason: RowReason::NotSelected };
        let texts =
            [Verdict::Accepted, Verdict::Clipped { factor: 0.312 }, Verdict::Trimmed { share: 0.617 }, rejected];
        assert_eq!(
            texts.map(|verdict| verdict.to_string()),
            ["accepted", "clipped to 0.31", "trimmed 62 %", "rejected: not_selected"]
        );
    }

    #[test]
    fn the_serialised_reason_is_its_code() {
        for reason in [RowReason::NotSelected, RowReason::Magnitude, RowReason::NonFinite] {
            let text = serde_json::to_string(&Verdict::Rejected { reason }).unwrap();
            assert_eq!(text, format!(r#"{{"verdict":"rejected","reason":"{}"}}"#, reason.code()));
            assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), Verdict::Rejected { reason });
        }
    }
}
