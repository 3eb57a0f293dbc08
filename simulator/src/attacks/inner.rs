//! An attack inside another.

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{AttackConfig, parse};

/// An attack as a parameter: a table, or the short form with `;` in place of `,`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Inner(pub Box<AttackConfig>);

impl Inner {
    /// Deepest nesting.
    pub const DEEPEST: usize = 3;

    /// The short form, with `;` in place of `,`.
    pub(super) fn short(&self) -> String {
        self.0.to_string().replace(',', ";")
    }

    /// How many attacks lie in each other.
    pub(super) fn depth(&self) -> usize {
        1 + self.0.inner().map_or(0, Self::depth)
    }
}

impl From<AttackConfig> for Inner {
    fn from(attack: AttackConfig) -> Self {
        Self(Box::new(attack))
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let attack = match value.as_str() {
            Some(text) => parse(&text.replace(';', ",")).map_err(D::Error::custom)?,
            Option::None => serde_json::from_value(value).map_err(D::Error::custom)?,
        };
        Ok(Self::from(attack))
    }
}
