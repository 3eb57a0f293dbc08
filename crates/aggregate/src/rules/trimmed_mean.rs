//! The coordinate-wise trimmed mean.

use serde::Serialize;

use super::Definition;
use crate::catalogue::{BYZANTINE, ParameterInfo, RuleInfo, required_byzantine};
use crate::parameters::{ParameterError, Parameters};
use crate::plan::{Combine, Plan};
use crate::range::MINORITY;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::statistics::RowStatistics;

/// Per coordinate the mean without the f lowest and the f highest values. With f = 0 it is the mean. With weights the
/// weighted mean without f times the largest weight at each end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrimmedMean {
    /// How many values are cut at each end.
    #[serde(flatten)]
    pub cut: Cut,
}

/// How many values a trimmed mean cuts at each end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cut {
    /// *f*.
    Byzantine {
        /// *f*.
        byzantine: usize,
    },
    /// A share β of the rows, a compatibility mode.
    Fraction {
        /// β, below one half.
        fraction: f64,
        /// Whether βn is cut off, int(βn), which is f−1 for some β = f/n; else it is rounded up, ⌈βn⌉.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        floor: bool,
    },
}

impl Cut {
    /// Values cut of `rows`.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "row counts are far below 2^53, and a share of them is not negative"
    )]
    pub fn of(self, rows: usize) -> usize {
        match self {
            Self::Byzantine { byzantine } => byzantine,
            Self::Fraction { fraction, floor: true } => (fraction * rows as f64) as usize,
            // f/n times n may come out above f by a rounding error, which must not cut one more.
            Self::Fraction { fraction, floor: false } => (fraction * rows as f64 * (1.0 - 1e-15)).ceil() as usize,
        }
    }
}

const FRACTION: &str = "the share of rows to cut at each end, a number from 0 to below 0.5, instead of `byzantine`";

impl Rule for TrimmedMean {
    fn kind(&self) -> &'static str {
        Self::INFO.kind
    }

    /// f; 0 for a fraction, which says what is cut of however many rows, not how many bad rows there are.
    fn byzantine(&self) -> usize {
        match self.cut {
            Cut::Byzantine { byzantine } => byzantine,
            Cut::Fraction { .. } => 0,
        }
    }

    fn byzantine_among(&self, rows: usize) -> usize {
        self.cut.of(rows)
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        MINORITY.check(self.kind(), rows, self.cut.of(rows))
    }

    fn accepts_weights(&self) -> bool {
        true
    }

    #[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let rows = statistics.rows();
        self.check(rows)?;
        weights.check_count(rows)?;
        let cut = self.cut.of(rows);
        if weights.is_equal() {
            return Ok(Plan::accepting(rows, Combine::TrimmedMean { cut }).into());
        }
        weights.check_majority(self.kind(), cut)?;
        let mass = cut as f64 * weights.largest();
        let combine = Combine::WeightedTrimmedMean { weights: weights.as_slice().to_vec(), cut: mass };
        Ok(Plan::accepting(rows, combine).into())
    }
}

impl Definition for TrimmedMean {
    const INFO: RuleInfo = RuleInfo {
        kind: "trimmed_mean",
        name: "coordinate-wise trimmed mean",
        definition: "per coordinate the mean without the f lowest and the f highest values",
        formula: "1/(n−2f) · Σ_{k=f+1}^{n−f} x₍ₖ₎ⱼ for every coordinate j, x₍ₖ₎ⱼ its k-th smallest value",
        parameters: &[
            ParameterInfo {
                key: "byzantine",
                meaning: "f, bad rows to tolerate",
                range: BYZANTINE,
                default: None,
                example: None,
            },
            ParameterInfo {
                key: "fraction",
                meaning: "β, cut ⌈βn⌉ at each end, to compare with other libraries",
                range: FRACTION,
                default: Some("none: byzantine says what is cut"),
                example: None,
            },
            ParameterInfo {
                key: "floor",
                meaning: "with fraction: cut int(βn), as Flower and FedML do; f−1 for some β = f/n",
                range: "true or false",
                default: Some("false"),
                example: None,
            },
        ],
        range: "2f < n",
        breakdown: "f < n/2",
        bound: "κ = 6ρ(1+ρ)",
        cost: "nd, one read; a pruned sorting network per coordinate",
        source: "Yin et al. 2018, Definition 2",
        fails: &[
            "ALIE and Min-Max stay inside the values it keeps",
            "on heterogeneous clients alone it loses what the minority knows; arc and nnm before it have the best worst \
             case measured (digits, Dirichlet 0.5: 85.2 %)",
        ],
    };

    fn parse(parameters: &mut Parameters) -> Result<Self, ParameterError> {
        if !parameters.holds("fraction") {
            return Ok(Cut::Byzantine { byzantine: required_byzantine(parameters)? }.into());
        }
        if parameters.holds("byzantine") {
            let expected = "left out where `byzantine` is given: both say what is cut";
            parameters.number("fraction", expected, |_| false)?;
        }
        let fraction = parameters.number("fraction", FRACTION, |value| (0.0..0.5).contains(&value))?.unwrap_or(0.0);
        let floor = parameters.flag("floor")?.unwrap_or(false);
        Ok(Cut::Fraction { fraction, floor }.into())
    }

    fn lowered(&self, byzantine: usize, _rows: usize) -> Self {
        match self.cut {
            Cut::Byzantine { .. } => Cut::Byzantine { byzantine }.into(),
            fraction @ Cut::Fraction { .. } => fraction.into(),
        }
    }

    fn describe(&self) -> String {
        match self.cut {
            Cut::Byzantine { byzantine } => format!("byzantine = {byzantine}"),
            Cut::Fraction { fraction, floor: false } => format!("fraction = {fraction}"),
            Cut::Fraction { fraction, floor: true } => format!("fraction = {fraction}, floor = true"),
        }
    }
}

impl From<Cut> for TrimmedMean {
    fn from(cut: Cut) -> Self {
        Self { cut }
    }
}

#[cfg(test)]
mod tests {
    use crate::aggregate;
    use crate::composition::RuleConfig;

    fn config(text: &str) -> Result<RuleConfig, String> {
        toml::from_str(&format!("kind = \"trimmed_mean\"\n{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_fraction_rounds_up_unless_told_to_cut_off() {
        let rows: Vec<Vec<f64>> = (1..=44).map(|row| vec![f64::from(row).powi(2)]).collect();
        let views: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let cut = |text: &str| {
            let rule = config(text).unwrap();
            let result = aggregate(rule.rule(), &views, None, None).unwrap();
            let cut =
                (44 - result.verdicts.iter().filter(|verdict| matches!(verdict, crate::Verdict::Accepted)).count()) / 2;
            assert_eq!(rule.rule().byzantine_among(44), cut);
            (rule.to_string(), cut)
        };
        assert_eq!(cut("fraction = 0.1"), ("trimmed_mean (fraction = 0.1)".to_owned(), 5));
        assert_eq!(cut("fraction = 0.1\nfloor = true"), ("trimmed_mean (fraction = 0.1, floor = true)".to_owned(), 4));
        assert_eq!(cut("fraction = 0.3409090909090909").1, 15);
        assert_eq!(cut("fraction = 0.3409090909090909\nfloor = true").1, 14);
    }

    #[test]
    fn a_fraction_survives_serialisation_and_excludes_byzantine() {
        for text in ["fraction = 0.25", "fraction = 0.25\nfloor = true", "byzantine = 3"] {
            let rule = config(text).unwrap();
            assert_eq!(toml::from_str::<RuleConfig>(&toml::to_string(&rule).unwrap()).unwrap(), rule);
        }
        let refusals = [
            ("fraction = 0.1\nbyzantine = 1", "`fraction` is 0.1; it must be left out where `byzantine` is given"),
            ("fraction = 0.5", "`fraction` is 0.5; it must be the share"),
            ("fraction = -0.1", "it must be the share"),
            ("byzantine = 1\nfloor = true", "unknown key `floor`"),
            ("floor = true", "`byzantine` is missing"),
        ];
        for (text, message) in refusals {
            let error = config(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_fraction_is_refused_where_it_cuts_everything_and_says_how_many_rows_it_takes() {
        let rule = config("fraction = 0.4").unwrap();
        assert!([1, 2, 4, 6, 8].iter().all(|&rows| rule.rule().check(rows).is_err()));
        assert!([3, 5, 7, 9].iter().all(|&rows| rule.rule().check(rows).is_ok() == (rows != 3)));
        assert_eq!(rule.rule().min_rows(), 5);
        assert_eq!(config("fraction = 0").unwrap().rule().min_rows(), 1);
        // Pre-aggregations are given as many bad rows as are cut.
        let mixed = config("fraction = 0.4\npre = [\"nnm\"]").unwrap();
        assert!(mixed.rule().check(5).is_ok() && mixed.rule().check(4).is_err());
    }
}
