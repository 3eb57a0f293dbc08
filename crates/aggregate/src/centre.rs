//! What "the middle" of some values is.

use serde::{Deserialize, Serialize};

/// What the median of an even number of values is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Even {
    /// The average of the middle two.
    #[default]
    Average,
    /// The lower of the middle two.
    Lower,
    /// The upper of the middle two.
    Upper,
}

/// The value that a mean is taken around, per coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// The middle value; for an even number of values the average of the middle two.
    Median,
    /// The mean without the `cut` lowest and the `cut` highest values.
    TrimmedMean {
        /// Values dropped at each end; less than half of them.
        cut: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_and_even_medians_survive_serialisation_under_their_names() {
        for (centre, text) in
            [(Centre::Median, r#""median""#), (Centre::TrimmedMean { cut: 2 }, r#"{"trimmed_mean":{"cut":2}}"#)]
        {
            assert_eq!(serde_json::to_string(&centre).unwrap(), text);
            assert_eq!(serde_json::from_str::<Centre>(text).unwrap(), centre);
        }
        for (even, text) in
            [(Even::default(), r#""average""#), (Even::Lower, r#""lower""#), (Even::Upper, r#""upper""#)]
        {
            assert_eq!(serde_json::to_string(&even).unwrap(), text);
            assert_eq!(serde_json::from_str::<Even>(text).unwrap(), even);
        }
    }
}
