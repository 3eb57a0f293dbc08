//! The table of rules: two lines per rule, its module and its row.

/// The part of [`Rule`] that says what the rule is set to, where that is `byzantine` alone.
macro_rules! set_to_byzantine {
    () => {
        fn kind(&self) -> &'static str {
            Self::INFO.kind
        }

        fn byzantine(&self) -> usize {
            self.byzantine
        }
    };
}

/// The part of [`Definition`] that reads and writes the parameters, where `byzantine` is the only one and has no default.
macro_rules! byzantine_alone {
    () => {
        fn parse(parameters: &mut crate::parameters::Parameters) -> Result<Self, crate::parameters::ParameterError> {
            Ok(Self { byzantine: crate::catalogue::required_byzantine(parameters)? })
        }

        fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
            Self { byzantine }
        }

        fn describe(&self) -> String {
            format!("byzantine = {}", self.byzantine)
        }
    };
}

mod bulyan;
mod caf;
mod centered_clipping;
mod centred;
mod cge;
mod clipped;
mod dnc;
mod flame;
mod fltrust;
mod foolsgold;
mod geometric_median;
mod krum;
mod mda;
mod meamed;
mod mean;
mod median;
mod monna;
mod multi_krum;
mod norm_clip;
mod phocas;
mod rlr;
mod signguard;
mod smea;
mod trimmed_mean;

use serde::Serialize;

use crate::catalogue::RuleInfo;
use crate::parameters::{ParameterError, Parameters};
use crate::rule::{Rule, RuleError};
use crate::statistics::{Distances, RowStatistics};

pub use bulyan::{Bulyan, Selection};
pub use caf::Caf;
pub use centered_clipping::CenteredClipping;
pub use cge::Cge;
pub use dnc::DivideAndConquer;
pub use flame::Flame;
pub use fltrust::FlTrust;
pub use foolsgold::FoolsGold;
pub use geometric_median::{GeometricMedian, Start};
pub use krum::{Krum, Neighbours};
pub use mda::Mda;
pub use meamed::Meamed;
pub use mean::Mean;
pub use median::Median;
pub use monna::Monna;
pub use multi_krum::MultiKrum;
pub use norm_clip::{Bound, NormClip};
pub use phocas::Phocas;
pub use rlr::RobustLearningRate;
pub use signguard::SignGuard;
pub use smea::Smea;
pub use trimmed_mean::{Cut, TrimmedMean};

/// What every rule's parameters can do besides [`Rule`].
trait Definition: Rule + Clone + Sized {
    /// The rule's entry in the catalogue.
    const INFO: RuleInfo;

    /// Takes the rule's keys out of a configuration table.
    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError>;

    /// The same rule with *f* lowered to `byzantine`, and what depends on it lowered to what `rows` rows allow.
    fn lowered(&self, byzantine: usize, rows: usize) -> Self;

    /// The same rule, where its example values depend on *f*, with values that fit `byzantine`; for matrices.
    fn exemplary(self, _byzantine: usize) -> Self {
        self
    }

    /// The parameters as `key = value` words, empty if there are none.
    fn describe(&self) -> String;
}

macro_rules! rules {
    ($($kind:literal => $rule:ident,)+) => {
        /// A rule with its parameters, without pre-aggregation.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum RuleKind {
            $(
                #[doc = concat!("`", $kind, "`: see [`", stringify!($rule), "`].")]
                #[serde(rename = $kind)]
                $rule($rule),
            )+
        }

        static CATALOGUE: &[RuleInfo] = &[$($rule::INFO),+];

        impl RuleKind {
            /// The rule itself.
            #[must_use]
            pub fn rule(&self) -> &dyn Rule {
                match self {
                    $(Self::$rule(rule) => rule,)+
                }
            }

            /// Its entry in the catalogue.
            #[must_use]
            pub fn info(&self) -> &'static RuleInfo {
                match self {
                    $(Self::$rule(_) => &const { $rule::INFO },)+
                }
            }

            pub(crate) fn lowered(&self, byzantine: usize, rows: usize) -> Self {
                match self {
                    $(Self::$rule(rule) => Self::$rule(rule.lowered(byzantine, rows)),)+
                }
            }

            pub(crate) fn exemplary(self, byzantine: usize) -> Self {
                match self {
                    $(Self::$rule(rule) => Self::$rule(rule.exemplary(byzantine)),)+
                }
            }

            pub(crate) fn describe(&self) -> String {
                match self {
                    $(Self::$rule(rule) => rule.describe(),)+
                }
            }

            /// Takes the keys of the rule that `parameters` names; others stay.
            pub(crate) fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
                match parameters.kind() {
                    $($kind => $rule::parse(parameters).map(Self::$rule),)+
                    _ => Err(parameters.unknown_kind(catalogue().iter().map(|info| info.kind).collect())),
                }
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
    "bulyan" => Bulyan,
    "meamed" => Meamed,
    "phocas" => Phocas,
    "geometric_median" => GeometricMedian,
    "centered_clipping" => CenteredClipping,
    "mda" => Mda,
    "monna" => Monna,
    "cge" => Cge,
    "norm_clip" => NormClip,
    "fltrust" => FlTrust,
    "foolsgold" => FoolsGold,
    "flame" => Flame,
    "dnc" => DivideAndConquer,
    "signguard" => SignGuard,
    "rlr" => RobustLearningRate,
    "caf" => Caf,
    "smea" => Smea,
}

/// Every rule there is, for help texts, documentation and test matrices.
#[must_use]
pub fn catalogue() -> &'static [RuleInfo] {
    CATALOGUE
}

/// The squared distances a rule asked for.
fn distances<'a>(kind: &'static str, statistics: &'a RowStatistics) -> Result<Distances<'a>, RuleError> {
    statistics.distances().ok_or(RuleError::NotObserved { kind, what: "squared distances" })
}

/// The lengths of rows and extra rows a rule asked for.
fn norms(kind: &'static str, statistics: &RowStatistics) -> Result<Vec<f64>, RuleError> {
    Ok(norms2(kind, statistics)?.into_iter().map(f64::sqrt).collect())
}

/// The same squared.
fn norms2(kind: &'static str, statistics: &RowStatistics) -> Result<Vec<f64>, RuleError> {
    statistics.norms2().ok_or(RuleError::NotObserved { kind, what: "lengths" })
}

#[cfg(test)]
mod tests;
