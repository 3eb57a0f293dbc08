//! Why an attack cannot be used, and what the catalogue says about one.

use serde::Serialize;

use super::Knowledge;

/// Why an attack cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// No attack of that name.
    #[error("attack {kind:?} is unknown; use one of {known}")]
    Unknown {
        /// What was asked for.
        kind: String,
        /// What there is.
        known: String,
    },
    /// Not written as `kind[:key=value,…]`, or a key or type that the attack does not have.
    #[error("attack {text:?}: {problem}")]
    Syntax {
        /// What was written.
        text: String,
        /// What is wrong, with the fix.
        problem: String,
    },
    /// A parameter outside its range, or one that does not fit the data.
    #[error("attack {kind}: {parameter} = {value}; {fix}")]
    Parameter {
        /// The attack.
        kind: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value found.
        value: String,
        /// The range.
        fix: String,
    },
}

/// Refuses a number outside `low..=high`.
pub(crate) fn check_range(
    kind: &'static str,
    parameter: &'static str,
    value: f64,
    (low, high): (f64, f64),
) -> Result<(), AttackError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let fix = format!("give a number from {low} to {high}");
    Err(AttackError::Parameter { kind, parameter, value: value.to_string(), fix })
}

/// What [`catalogue`](crate::attacks::catalogue) says about an attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Info {
    /// Name in configuration and on the command line.
    pub kind: &'static str,
    /// What a poisoned client sends, in symbols: x own honest update, μ mean and σ
    /// per-coordinate deviation (ddof 1) of the honest updates, f colluders.
    pub formula: &'static str,
    /// One sentence in plain language.
    pub summary: &'static str,
    /// Where it comes from.
    pub citation: &'static str,
    /// The most it looks at.
    pub knowledge: Knowledge,
    /// Its parameters; the first may be given without its name in the short form.
    pub parameters: &'static [Parameter],
}

/// One parameter of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Key.
    pub name: &'static str,
    /// Default value, as written in the short form.
    pub default: &'static str,
    /// Meaning and range.
    pub meaning: &'static str,
}
