//! What cannot be, as a key of the study with a fix.

use super::WorldError;
use crate::data::DataError;
use crate::scenario::ScenarioError;

impl WorldError {
    /// The key to blame, what is wrong and what to do; `None` of what no key is to blame for.
    pub(crate) fn problem(&self) -> Option<ScenarioError> {
        let (key, text) = match self {
            Self::Data { key, source } => (*key, source.to_string()),
            Self::Split(error) => ("data.test", error.to_string()),
            Self::Partition(error) => ("data.heterogeneity", error.to_string()),
            Self::Workload(error) => ("workload", error.to_string()),
            Self::Attack(error) => ("adversary.attack", error.to_string()),
            Self::Model(_) | Self::Round { .. } => return None,
        };
        // All of them end with what to do.
        let (what, fix) = match self {
            Self::Data { source: DataError::Read { .. }, .. } => {
                (text.as_str(), "name a file that can be read; relative names start at the study file's folder")
            }
            _ => text.rsplit_once("; ").unwrap_or((&text, "")),
        };
        Some(ScenarioError::new(key, what.to_owned(), fix))
    }
}
