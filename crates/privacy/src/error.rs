//! A parameter outside its limits.

use thiserror::Error;

/// Names the parameter, its value and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} = {value}: {fix}")]
pub struct ParameterError {
    /// The parameter, in the words of `task.toml`.
    pub key: &'static str,
    /// What was given.
    pub value: String,
    /// What to do instead.
    pub fix: String,
}

impl ParameterError {
    /// An error about `key`, given as `value`.
    pub fn new(key: &'static str, value: impl ToString, fix: impl Into<String>) -> Self {
        Self { key, value: value.to_string(), fix: fix.into() }
    }
}

/// `value`, if it lies in the closed range.
///
/// # Errors
/// Names the range.
pub(crate) fn within(key: &'static str, value: f64, least: f64, most: f64) -> Result<f64, ParameterError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(ParameterError::new(key, value, format!("give a number from {least} to {most}")))
}
