//! How much an attack sees, and which of the colluders it is.

use std::fmt;

use serde::Serialize;

/// What an attack may see, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Its own data and nothing of the round.
    Data,
    /// The released models and the honestly trained updates of its own colluders.
    Colluders,
    /// Also the updates of the honest clients.
    Honest,
    /// Also the deployed rule, with a copy of its state.
    Omniscient,
}

impl fmt::Display for Knowledge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Data => "own data only",
            Self::Colluders => "own colluders",
            Self::Honest => "honest updates",
            Self::Omniscient => "honest updates and the rule",
        })
    }
}

/// One colluder among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colluder {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Default for Colluder {
    /// The only one.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}
