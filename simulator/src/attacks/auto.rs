//! A parameter that is given, or left to the attack.

use serde::{Deserialize, Serialize};

/// A value, or the word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice<T> {
    /// This.
    Value(T),
    /// Left to the attack.
    Word(Auto),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// Left to the attack.
    #[default]
    Auto,
}

impl<T> Choice<T> {
    /// Left to the attack.
    pub const AUTO: Self = Self::Word(Auto::Auto);

    /// The value, if one was given.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Word(Auto::Auto) => None,
        }
    }
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self::AUTO
    }
}
