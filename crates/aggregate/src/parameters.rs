//! Strict reading of a `kind = "…"` table: every wrong key, type and value is refused by name with its fix.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

/// The keys of one table, taken out one by one; what is left at the end was unknown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    section: &'static str,
    kind: String,
    entries: Vec<(String, Value)>,
    asked: Vec<&'static str>,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    /// true or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, or too large for i64.
    Number(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(BTreeMap<String, Value>),
    /// Anything else: never valid.
    Other(IgnoredAny),
}

/// Why a rule or optimiser configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// No such rule or optimiser.
    #[error("unknown {section} kind `{kind}`; expected one of {}", known.join(", "))]
    Kind {
        /// "rule" or "optimizer".
        section: &'static str,
        /// The kind given.
        kind: String,
        /// The kinds there are.
        known: Vec<&'static str>,
    },
    /// A key this kind does not take.
    #[error("{section} {kind}: unknown key `{key}`; {}", takes(known))]
    Unknown {
        /// "rule" or "optimizer".
        section: &'static str,
        /// The kind.
        kind: String,
        /// The key.
        key: String,
        /// The keys it takes.
        known: Vec<&'static str>,
    },
    /// A key without a default was left out.
    #[error("{section} {kind}: `{key}` is missing; set it to {expected}")]
    Missing {
        /// "rule" or "optimizer".
        section: &'static str,
        /// The kind.
        kind: String,
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A value of the wrong type or out of range.
    #[error("{section} {kind}: `{key}` is {value}; it must be {expected}")]
    Invalid {
        /// "rule" or "optimizer".
        section: &'static str,
        /// The kind.
        kind: String,
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Parameters {
    /// Reads a map with a `kind`; `section` names the table in messages.
    pub(crate) fn read<'de, D: Deserializer<'de>>(section: &'static str, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor { section })
    }

    pub(crate) fn new(section: &'static str, kind: &str, entries: Vec<(String, Value)>) -> Self {
        Self { section, kind: kind.to_owned(), entries, asked: Vec::new() }
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// A whole number of at least 0, if the key is there.
    pub(crate) fn count(&mut self, key: &'static str, expected: &'static str) -> Result<Option<usize>, ParameterError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => match usize::try_from(number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.invalid(key, &Value::Integer(number), expected)),
            },
            Some(other) => Err(self.invalid(key, &other, expected)),
        }
    }

    /// A whole number of at least `least`, if the key is there.
    pub(crate) fn count_from(
        &mut self,
        key: &'static str,
        expected: &'static str,
        least: usize,
    ) -> Result<Option<usize>, ParameterError> {
        match self.count(key, expected)? {
            Some(number) if number < least => {
                Err(self.invalid(key, &Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)), expected))
            }
            other => Ok(other),
        }
    }

    /// A whole number within `bounds`, if the key is there.
    pub(crate) fn count_within(
        &mut self,
        key: &'static str,
        expected: &'static str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ParameterError> {
        match self.count(key, expected)? {
            Some(number) if !bounds.contains(&number) => {
                Err(self.invalid(key, &Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)), expected))
            }
            other => Ok(other),
        }
    }

    /// True or false, if the key is there.
    pub(crate) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, ParameterError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.invalid(key, &other, "true or false")),
        }
    }

    /// A list, if the key is there; a single value counts as a list of one.
    pub(crate) fn list(&mut self, key: &'static str) -> Vec<Value> {
        match self.take(key) {
            None => Vec::new(),
            Some(Value::List(list)) => list,
            Some(single) => vec![single],
        }
    }

    /// The table under `key`, if there is one; anything else stays.
    pub(crate) fn take_table(&mut self, key: &str) -> Option<BTreeMap<String, Value>> {
        let at = self.entries.iter().position(|(name, value)| name == key && matches!(value, Value::Table(_)))?;
        match self.entries.remove(at).1 {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Sets a key that is not there.
    pub(crate) fn put(&mut self, key: &str, value: Value) {
        self.entries.push((key.to_owned(), value));
    }

    /// Whether the key is there and was not taken.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }

    /// Reads one entry of a list: a kind alone, or a table with a `kind`.
    pub(crate) fn entry(section: &'static str, value: Value) -> Result<Self, ParameterError> {
        match value {
            Value::Text(kind) => Ok(Self::new(section, &kind, Vec::new())),
            Value::Table(mut table) => match table.remove("kind") {
                Some(Value::Text(kind)) => Ok(Self::new(section, &kind, table.into_iter().collect())),
                Some(other) => Err(Self::new(section, "", Vec::new()).invalid("kind", &other, "a string")),
                None => Err(Self::new(section, "", Vec::new()).missing("kind", "a string such as \"nnm\"")),
            },
            other => {
                Err(Self::new(section, "", Vec::new()).invalid("kind", &other, "a string or a table with a `kind`"))
            }
        }
    }

    /// A finite number that satisfies `valid`, if the key is there.
    #[allow(clippy::cast_precision_loss, reason = "whole numbers written for a fraction are small")]
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        expected: &'static str,
        valid: fn(f64) -> bool,
    ) -> Result<Option<f64>, ParameterError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = match &value {
            Value::Integer(number) => *number as f64,
            Value::Number(number) => *number,
            _ => return Err(self.invalid(key, &value, expected)),
        };
        if number.is_finite() && valid(number) { Ok(Some(number)) } else { Err(self.invalid(key, &value, expected)) }
    }

    /// One of the named choices, if the key is there.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ParameterError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let Value::Text(text) = &value else { return Err(self.invalid(key, &value, expected)) };
        match choices.iter().find(|(name, _)| name == text) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(self.invalid(key, &value, expected)),
        }
    }

    pub(crate) fn missing(&self, key: &'static str, expected: &'static str) -> ParameterError {
        ParameterError::Missing { section: self.section, kind: self.kind.clone(), key, expected }
    }

    pub(crate) fn unknown_kind(&self, known: Vec<&'static str>) -> ParameterError {
        ParameterError::Kind { section: self.section, kind: self.kind.clone(), known }
    }

    /// Refuses whatever was not taken.
    pub(crate) fn finish(self) -> Result<(), ParameterError> {
        self.refuse_unknown()
    }

    /// The same while there is something to do with the table.
    pub(crate) fn refuse_unknown(&self) -> Result<(), ParameterError> {
        let Some((key, _)) = self.entries.first() else { return Ok(()) };
        let (kind, key) = (self.kind.clone(), key.clone());
        Err(ParameterError::Unknown { section: self.section, kind, key, known: self.asked.clone() })
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        let at = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.remove(at).1)
    }

    pub(crate) fn invalid(&self, key: &'static str, value: &Value, expected: &'static str) -> ParameterError {
        ParameterError::Invalid {
            section: self.section,
            kind: self.kind.clone(),
            key,
            value: value.to_string(),
            expected,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(formatter),
            Self::Integer(value) => value.fmt(formatter),
            Self::Number(value) => value.fmt(formatter),
            Self::Text(value) => write!(formatter, "{value:?}"),
            Self::List(_) => formatter.write_str("a list"),
            Self::Table(_) => formatter.write_str("a table"),
            Self::Other(_) => formatter.write_str("neither a number, a string, a list nor a table"),
        }
    }
}

fn takes(known: &[&str]) -> String {
    if known.is_empty() { "it takes no keys but kind".to_owned() } else { format!("it takes {}", known.join(", ")) }
}

struct TableVisitor {
    section: &'static str,
}

impl<'de> Visitor<'de> for TableVisitor {
    type Value = Parameters;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {} table with a `kind`", self.section)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut kind = None;
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let repeated = if key == "kind" { kind.is_some() } else { entries.iter().any(|(name, _)| *name == key) };
            if repeated {
                return Err(A::Error::custom(format_args!("{}: `{key}` is given twice", self.section)));
            }
            let value = map.next_value::<Value>()?;
            match (key.as_str(), value) {
                ("kind", Value::Text(text)) => kind = Some(text),
                ("kind", other) => {
                    return Err(A::Error::custom(format_args!(
                        "{}: `kind` is {other}; it must be a string",
                        self.section
                    )));
                }
                (_, value) => entries.push((key, value)),
            }
        }
        let Some(kind) = kind else {
            return Err(A::Error::custom(format_args!("{}: `kind` is missing", self.section)));
        };
        Ok(Parameters::new(self.section, &kind, entries))
    }
}
