//! What the tables of rules and pre-aggregations say about each entry, for help texts, documentation and matrices.

use serde::Serialize;

use crate::parameters::{ParameterError, Parameters};

/// One rule's or pre-aggregation's entry. n is the number of rows, f is `byzantine`, d the number of coordinates,
/// ρ = f/(n−2f).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RuleInfo {
    /// The configuration's `kind`.
    pub kind: &'static str,
    /// Its name in prose.
    pub name: &'static str,
    /// What it computes, in one sentence.
    pub definition: &'static str,
    /// The formula.
    pub formula: &'static str,
    /// Its configuration keys.
    pub parameters: &'static [ParameterInfo],
    /// The strict range outside which it is refused.
    pub range: &'static str,
    /// How many bad rows it withstands at most.
    pub breakdown: &'static str,
    /// The bound: κ of (f, κ)-robustness, Allouah et al. 2023, or "none".
    pub bound: &'static str,
    /// Time and memory.
    pub cost: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// When it fails, with measured cases.
    pub fails: &'static [&'static str],
}

/// One configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ParameterInfo {
    /// The key.
    pub key: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What it must be.
    pub range: &'static str,
    /// The default, or `None` if it must be given.
    pub default: Option<&'static str>,
    /// A value to try, for keys without a default.
    pub example: Option<f64>,
}

/// f, without a default: a robust rule that tolerates nothing must be asked for.
pub(crate) const BYZANTINE_INFO: ParameterInfo = ParameterInfo {
    key: "byzantine",
    meaning: "f, bad rows to tolerate",
    range: BYZANTINE,
    default: None,
    example: None,
};

/// f where the result does not depend on it.
pub(crate) const DECLARED_INFO: ParameterInfo = ParameterInfo {
    key: "byzantine",
    meaning: "f, bad rows to tolerate; only checked, the result does not depend on it",
    range: BYZANTINE,
    default: Some("0: none declared"),
    example: None,
};

pub(crate) const BYZANTINE: &str = "the number of bad rows to tolerate, a whole number of at least 0";

/// `byzantine`, without a default.
pub(crate) fn required_byzantine(parameters: &mut Parameters) -> Result<usize, ParameterError> {
    match parameters.count("byzantine", BYZANTINE)? {
        Some(byzantine) => Ok(byzantine),
        None => Err(parameters.missing("byzantine", BYZANTINE)),
    }
}

/// `byzantine`, 0 if it is not there.
pub(crate) fn declared_byzantine(parameters: &mut Parameters) -> Result<usize, ParameterError> {
    Ok(parameters.count("byzantine", BYZANTINE)?.unwrap_or(0))
}

/// A positive number without a default.
pub(crate) fn required_positive(
    parameters: &mut Parameters,
    key: &'static str,
    expected: &'static str,
) -> Result<f64, ParameterError> {
    match parameters.number(key, expected, |value| value > 0.0)? {
        Some(value) => Ok(value),
        None => Err(parameters.missing(key, expected)),
    }
}
