//! The table of rules: two lines per rule, its module and its row.

mod krum;
mod mean;
mod median;
mod multi_krum;
mod trimmed_mean;

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::parameters::{ParameterError, Parameters, Value};
use crate::rule::{Rule, RuleError};

pub use krum::{Krum, Neighbours};
pub use mean::Mean;
pub use median::Median;
pub use multi_krum::MultiKrum;
pub use trimmed_mean::TrimmedMean;

/// Most rows a rule that compares every pair may take: n² distances in f64 are then 256 MiB.
pub const MAX_PAIR_ROWS: usize = 8192;

/// What every rule's parameters can do besides [`Rule`].
trait Definition: Rule + Clone + Sized {
    /// The rule's entry in the catalogue.
    const INFO: RuleInfo;

    /// Takes the rule's keys out of a configuration table.
    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError>;

    /// The same rule with *f* lowered to the largest that is valid for `rows` rows.
    fn fit(&self, rows: usize) -> Result<Self, RuleError>;

    /// The parameters as `key = value` words, empty if there are none.
    fn describe(&self) -> String;
}

macro_rules! rules {
    ($($kind:literal => $rule:ident,)+) => {
        /// A rule with its parameters, as configured: `kind = "krum"`, `byzantine = 2`. Unknown kinds, unknown keys
        /// and values out of range are refused.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum RuleConfig {
            $(
                #[doc = concat!("`", $kind, "`: see [`", stringify!($rule), "`].")]
                #[serde(rename = $kind)]
                $rule($rule),
            )+
        }

        static CATALOGUE: &[RuleInfo] = &[$($rule::INFO),+];

        impl RuleConfig {
            /// The rule itself.
            #[must_use]
            pub fn rule(&self) -> &dyn Rule {
                match self {
                    $(Self::$rule(rule) => rule,)+
                }
            }

            /// The rule as an owned object.
            #[must_use]
            pub fn build(&self) -> Box<dyn Rule> {
                match self {
                    $(Self::$rule(rule) => Box::new(rule.clone()),)+
                }
            }

            /// The rule for a round of which only `rows` rows remain: *f* becomes min(*f*, the largest *f* valid for
            /// `rows`), and a number of rows to select is lowered to what that allows. Never raises anything. The
            /// caller reports the new parameters.
            ///
            /// # Errors
            ///
            /// When no *f* is valid for so few rows.
            pub fn fit(&self, rows: usize) -> Result<Self, RuleError> {
                match self {
                    $(Self::$rule(rule) => rule.fit(rows).map(Self::$rule),)+
                }
            }

            fn describe(&self) -> String {
                match self {
                    $(Self::$rule(rule) => rule.describe(),)+
                }
            }

            fn parse(mut parameters: Parameters) -> Result<Self, ParameterError> {
                let config = match parameters.kind() {
                    $($kind => Self::$rule($rule::parse(&mut parameters)?),)+
                    _ => return Err(parameters.unknown_kind(catalogue().iter().map(|info| info.kind).collect())),
                };
                parameters.finish()?;
                Ok(config)
            }
        }
    };
}

rules! {
    "mean" => Mean,
    "median" => Median,
    "trimmed_mean" => TrimmedMean,
    "krum" => Krum,
    "multi_krum" => MultiKrum,
}

/// Every rule there is, for help texts, documentation and test matrices.
#[must_use]
pub fn catalogue() -> &'static [RuleInfo] {
    CATALOGUE
}

impl RuleConfig {
    /// The rule's kind, as in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.rule().kind()
    }

    /// The rule of this kind with the given *f* and defaults for the rest, for matrices over all rules: a rule
    /// without the parameter `byzantine` (the mean) is returned as it is.
    ///
    /// # Errors
    ///
    /// When there is no such kind.
    pub fn with_byzantine(kind: &str, byzantine: usize) -> Result<Self, ParameterError> {
        let takes_it = catalogue()
            .iter()
            .any(|info| info.kind == kind && info.parameters.iter().any(|parameter| parameter.key == "byzantine"));
        let value = Value::Integer(i64::try_from(byzantine).unwrap_or(i64::MAX));
        let entries = if takes_it { vec![("byzantine".to_owned(), value)] } else { Vec::new() };
        Self::parse(Parameters::new("rule", kind, entries))
    }
}

impl fmt::Display for RuleConfig {
    /// The kind, then the parameters: `krum (byzantine = 2)`. This is the rule's name in records: a compatibility
    /// mode shows.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = self.describe();
        if parameters.is_empty() {
            return formatter.write_str(self.kind());
        }
        write!(formatter, "{} ({parameters})", self.kind())
    }
}

impl<'de> Deserialize<'de> for RuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Parameters::read("rule", deserializer)?).map_err(D::Error::custom)
    }
}

/// One rule's entry in the catalogue. n is the number of rows, f is `byzantine`, ρ = f/(n−2f).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RuleInfo {
    /// The configuration's `kind`.
    pub kind: &'static str,
    /// What it computes.
    pub definition: &'static str,
    /// Its configuration keys.
    pub parameters: &'static [ParameterInfo],
    /// The strict range outside which it is refused.
    pub range: &'static str,
    /// How many bad rows it withstands at most.
    pub breakdown: &'static str,
    /// The proved bound: κ of (f, κ)-robustness, Allouah et al. 2023, or "none".
    pub bound: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// One configuration key of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterInfo {
    /// The key.
    pub key: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// The default, or `None` if it must be given.
    pub default: Option<&'static str>,
}

const BYZANTINE: &str = "the number of bad rows to tolerate, a whole number of at least 0";

/// `byzantine`, without a default: a robust rule that tolerates nothing must be asked for.
fn required_byzantine(parameters: &mut Parameters) -> Result<usize, ParameterError> {
    match parameters.count("byzantine", BYZANTINE)? {
        Some(byzantine) => Ok(byzantine),
        None => Err(parameters.missing("byzantine", BYZANTINE)),
    }
}

/// The ranges of n and f the rules require.
#[derive(Clone, Copy)]
struct Range {
    /// In words.
    text: &'static str,
    /// Rows needed beyond 2f.
    beyond_twice: usize,
}

/// 2f < n.
const MINORITY: Range = Range { text: "2f < n", beyond_twice: 1 };

impl Range {
    fn min_rows(self, byzantine: usize) -> usize {
        byzantine.saturating_mul(2).saturating_add(self.beyond_twice)
    }

    /// Largest valid f for `rows` rows.
    fn largest(self, rows: usize) -> Option<usize> {
        rows.checked_sub(self.beyond_twice).map(|rest| rest / 2)
    }

    fn check(self, rule: &dyn Rule, rows: usize) -> Result<(), RuleError> {
        let min_rows = self.min_rows(rule.byzantine());
        if rows >= min_rows {
            return Ok(());
        }
        Err(RuleError::Range {
            kind: rule.kind(),
            rows,
            byzantine: rule.byzantine(),
            range: self.text,
            min_rows,
            largest: self.largest(rows),
        })
    }

    /// min(f, the largest valid f), or the refusal if none is.
    fn fit(self, rule: &dyn Rule, rows: usize) -> Result<usize, RuleError> {
        match self.largest(rows) {
            Some(largest) => Ok(rule.byzantine().min(largest)),
            None => self.check(rule, rows).map(|()| rule.byzantine()),
        }
    }
}

#[cfg(test)]
mod tests;
