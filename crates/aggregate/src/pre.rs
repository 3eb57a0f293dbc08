//! The table of pre-aggregations: what is done to the rows before a rule sees them. Two lines each: module and row.

mod arc;
mod bucketing;
mod clip;
mod nnm;

use std::fmt;

use serde::Serialize;

use crate::catalogue::RuleInfo;
use crate::mixing::Mixing;
use crate::needs::DistanceNeeds;
use crate::parameters::{ParameterError, Parameters, Value};
use crate::rule::RuleError;
use crate::statistics::RowStatistics;

pub use arc::Arc;
pub use bucketing::Bucketing;
pub use clip::Clip;
pub(crate) use clip::{RADIUS, clip_factor};
pub use nnm::Nnm;

/// A step before the rule: new rows from the rows.
trait PreAggregation: fmt::Debug {
    /// The entry in the catalogue.
    const INFO: RuleInfo;

    /// Takes the keys out of a configuration table.
    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError>
    where
        Self: Sized;

    /// The parameters as `key = value` words, empty if there are none.
    fn describe(&self) -> String;

    /// Whether it may be applied to `rows` rows of which `byzantine` are bad.
    fn check(&self, rows: usize, byzantine: usize) -> Result<(), RuleError>;

    /// What it must know.
    fn needs(&self) -> DistanceNeeds;

    /// How many rows come out.
    fn rows_after(&self, rows: usize) -> usize {
        rows
    }

    /// Whether what it does depends on f.
    fn uses_byzantine(&self) -> bool {
        true
    }

    /// Whether every row stays a multiple of itself.
    fn scales(&self) -> bool {
        false
    }

    /// The new rows.
    fn mix(&self, rows: &RowStatistics, byzantine: usize) -> Result<Mixed, RuleError>;
}

/// What a pre-aggregation makes of the rows.
pub(crate) struct Mixed {
    pub(crate) mixing: Mixing,
    /// What each row is multiplied by, where it is.
    pub(crate) factors: Option<Vec<f64>>,
}

impl Mixed {
    fn scaling(rows: &RowStatistics, factors: Vec<f64>) -> Self {
        Self { mixing: Mixing::scaling(rows.points(), &factors), factors: Some(factors) }
    }
}

macro_rules! pre_aggregations {
    ($($kind:literal => $step:ident,)+) => {
        /// A pre-aggregation with its parameters, as configured: `"nnm"`, or `{ kind = "bucketing", size = 2 }`.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum PreConfig {
            $(
                #[doc = concat!("`", $kind, "`: see [`", stringify!($step), "`].")]
                #[serde(rename = $kind)]
                $step($step),
            )+
        }

        static CATALOGUE: &[RuleInfo] = &[$($step::INFO),+];

        impl PreConfig {
            /// The kind, as in the configuration.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$step(_) => $step::INFO.kind,)+
                }
            }

            fn describe(&self) -> String {
                match self {
                    $(Self::$step(step) => step.describe(),)+
                }
            }

            pub(crate) fn check(&self, rows: usize, byzantine: usize) -> Result<(), RuleError> {
                match self {
                    $(Self::$step(step) => step.check(rows, byzantine),)+
                }
            }

            pub(crate) fn needs(&self) -> DistanceNeeds {
                match self {
                    $(Self::$step(step) => step.needs(),)+
                }
            }

            pub(crate) fn rows_after(&self, rows: usize) -> usize {
                match self {
                    $(Self::$step(step) => step.rows_after(rows),)+
                }
            }

            pub(crate) fn uses_byzantine(&self) -> bool {
                match self {
                    $(Self::$step(step) => step.uses_byzantine(),)+
                }
            }

            pub(crate) fn scales(&self) -> bool {
                match self {
                    $(Self::$step(step) => step.scales(),)+
                }
            }

            pub(crate) fn mix(&self, rows: &RowStatistics, byzantine: usize) -> Result<Mixed, RuleError> {
                match self {
                    $(Self::$step(step) => step.mix(rows, byzantine),)+
                }
            }

            fn parse(mut parameters: Parameters) -> Result<Self, ParameterError> {
                let config = match parameters.kind() {
                    $($kind => Self::$step($step::parse(&mut parameters)?),)+
                    _ => return Err(parameters.unknown_kind(pre_catalogue().iter().map(|info| info.kind).collect())),
                };
                parameters.finish()?;
                Ok(config)
            }
        }
    };
}

pre_aggregations! {
    "clip" => Clip,
    "arc" => Arc,
    "nnm" => Nnm,
    "bucketing" => Bucketing,
}

/// Every pre-aggregation there is, for help texts, documentation and test matrices.
#[must_use]
pub fn pre_catalogue() -> &'static [RuleInfo] {
    CATALOGUE
}

impl PreConfig {
    /// Reads one entry of `pre`: a kind, or a table with a kind.
    pub(crate) fn read(value: Value) -> Result<Self, ParameterError> {
        Self::parse(Parameters::entry("pre", value)?)
    }

    /// The pre-aggregation of this kind with defaults, and example values where there is no default; for matrices.
    ///
    /// # Errors
    ///
    /// When there is no such kind.
    pub fn example(kind: &str) -> Result<Self, ParameterError> {
        let info = pre_catalogue().iter().find(|info| info.kind == kind);
        let parameters = info.into_iter().flat_map(|info| info.parameters);
        let entries = parameters.filter_map(|parameter| {
            parameter.example.map(|example| (parameter.key.to_owned(), Value::Number(example)))
        });
        Self::parse(Parameters::new("pre", kind, entries.collect()))
    }
}

impl fmt::Display for PreConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = self.describe();
        if parameters.is_empty() {
            return formatter.write_str(self.kind());
        }
        write!(formatter, "{} ({parameters})", self.kind())
    }
}
