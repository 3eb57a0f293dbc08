//! How many bad rows a random cohort may hold: f from a declared share of the population.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::composition::{RuleConfig, count};
use crate::parameters::{ParameterError, Parameters, Value};
use crate::scale::power_of_two_below;

/// A rule as written in a task: like [`RuleConfig`], but `byzantine` may be
/// `{ fraction = 0.1, risk = 1e-6, population = 1000 }`, which becomes a number once the cohort's size is known.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    parameters: Parameters,
    sampled: Option<Sampled>,
}

/// A declared share of bad clients, and the risk that a cohort holds more than *f* of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// Share of bad clients in the population, in 0..½.
    pub fraction: f64,
    /// Highest probability that a cohort holds more than *f* of them.
    pub risk: f64,
    /// Clients in the population; `None`: so many that drawing one does not change the rest (binomial, which is never
    /// below the hypergeometric *f*).
    pub population: Option<usize>,
}

const TABLE: &str = "a number of rows; a share with a risk needs the cohort's size, so it is for task.toml alone";
const FRACTION: &str = "the share of bad clients in the population, from 0 up to but not including 0.5";
const RISK: &str = "the probability that a cohort may hold more bad clients, above 0 and below 1, for example 1e-6";
const POPULATION: &str = "the number of clients in the population, a whole number of at least 1";

impl RuleSpec {
    /// The rule for cohorts of `rows` rows.
    ///
    /// # Errors
    ///
    /// Unknown kinds and keys, values out of range, and a population smaller than the cohort.
    pub fn resolve(&self, rows: usize) -> Result<RuleConfig, ParameterError> {
        let mut parameters = self.parameters.clone();
        if let Some(sampled) = self.sampled {
            if let Some(population) = sampled.population.filter(|&population| population < rows) {
                let (value, expected) = (count(population), "at least the cohort's size");
                return Err(parameters.invalid("population", &value, expected));
            }
            parameters.put("byzantine", count(sampled.byzantine(rows)));
        }
        RuleConfig::parse(parameters)
    }

    /// The declared share, if `byzantine` is one.
    #[must_use]
    pub fn sampled(&self) -> Option<Sampled> {
        self.sampled
    }

    fn new(mut parameters: Parameters) -> Result<Self, ParameterError> {
        let Some(table) = parameters.take_table("byzantine") else { return Ok(Self { parameters, sampled: None }) };
        let kind = parameters.kind().to_owned();
        let mut keys = Parameters::new("rule", &kind, table.into_iter().collect());
        let fraction = keys.number("fraction", FRACTION, |value| (0.0..0.5).contains(&value))?;
        let risk = keys.number("risk", RISK, |value| value > 0.0 && value < 1.0)?;
        let population = keys.count_from("population", POPULATION, 1)?;
        // A mistyped key is told as that, not as the one that is missing for it.
        keys.refuse_unknown()?;
        let fraction = fraction.ok_or_else(|| keys.missing("fraction", FRACTION))?;
        let risk = risk.ok_or_else(|| keys.missing("risk", RISK))?;
        Ok(Self { parameters, sampled: Some(Sampled { fraction, risk, population }) })
    }
}

impl<'de> Deserialize<'de> for RuleSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Parameters::read("rule", deserializer)?).map_err(D::Error::custom)
    }
}

/// What [`RuleConfig`] itself says to a share: only a [`RuleSpec`] knows the cohort.
pub(crate) fn refuse_share(parameters: &mut Parameters) -> Result<(), ParameterError> {
    match parameters.take_table("byzantine") {
        Some(table) => Err(parameters.invalid("byzantine", &Value::Table(table), TABLE)),
        None => Ok(()),
    }
}

impl Sampled {
    /// The least *f* such that a random cohort of `rows` clients holds more than *f* bad ones with at most the declared
    /// risk: the tail of the hypergeometric distribution, or of the binomial where no population is declared.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^53, and a share of a count is not negative"
    )]
    pub fn byzantine(&self, rows: usize) -> usize {
        let m = rows as f64;
        // p(k+1)/p(k), and the range of k.
        let (first, last, ratio): (usize, usize, Box<dyn Fn(f64) -> f64>) = match self.population {
            Some(population) => {
                // A share such as 0.07 of 100 may come out a little above the whole number it means.
                let bad = ((self.fraction * population as f64 * (1.0 - 1e-15)).ceil() as usize).min(population);
                let first = rows.saturating_sub(population - bad);
                let (good, bad_count) = ((population - bad) as f64, bad as f64);
                let ratio = move |k: f64| (bad_count - k) * (m - k) / ((k + 1.0) * (good - m + k + 1.0));
                (first, rows.min(bad), Box::new(ratio))
            }
            None => {
                let odds = self.fraction / (1.0 - self.fraction);
                (0, rows, Box::new(move |k: f64| (m - k) / (k + 1.0) * odds))
            }
        };
        // With exponents of their own: terms may be below f64 and above it. Scaled to the largest.
        let mut scaled = vec![(1.0_f64, 0_i64)];
        for k in first..last {
            let (value, exponent) = scaled[scaled.len() - 1];
            scaled.push(normalised(value * ratio(k as f64).max(0.0), exponent));
        }
        let largest = scaled.iter().filter(|(value, _)| *value > 0.0).map(|(_, exponent)| *exponent).max().unwrap_or(0);
        let terms: Vec<f64> = scaled
            .iter()
            .map(|&(value, exponent)| match largest - exponent {
                below @ 0..1000 => value / 2_f64.powi(below as i32),
                _ => 0.0,
            })
            .collect();
        // Small terms first, from the top: the tail keeps its digits.
        let total: f64 = terms.iter().rev().sum();
        let mut tail = 0.0;
        for (k, term) in terms.iter().enumerate().rev() {
            tail += term;
            if tail > self.risk * total {
                return first + k;
            }
        }
        first
    }
}

/// A number that is not negative, as one from 1 up to 2 and an exponent; 0 as it is.
#[allow(clippy::cast_possible_wrap, reason = "an exponent of eleven bits")]
fn normalised(value: f64, exponent: i64) -> (f64, i64) {
    if value == 0.0 {
        return (0.0, exponent);
    }
    let scale = power_of_two_below(value);
    (value / scale, exponent + (scale.to_bits() >> 52) as i64 - 1023)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Rule;

    fn sampled(fraction: f64, risk: f64, population: Option<usize>) -> Sampled {
        Sampled { fraction, risk, population }
    }

    #[test]
    fn the_hypergeometric_tail_gives_the_published_numbers() {
        for (population, bad, rows, thousandth, millionth) in
            [(100, 10.0, 20, 6, 8), (100, 20.0, 20, 9, 12), (1000, 50.0, 50, 8, 12), (1000, 200.0, 100, 32, 39)]
        {
            let fraction = bad / population as f64;
            for (risk, expected) in [(1e-3, thousandth), (1e-6, millionth)] {
                assert_eq!(sampled(fraction, risk, Some(population)).byzantine(rows), expected, "{population} {risk}");
            }
        }
    }

    #[test]
    fn a_share_that_means_a_whole_number_is_not_rounded_up() {
        assert_eq!(sampled(0.14, 1e-3, Some(100)).byzantine(20), 7);
        assert_eq!(sampled(0.14, 1e-6, Some(100)).byzantine(20), 10);
        assert_eq!(sampled(0.07, 1e-3, Some(100)).byzantine(50), 7);
    }

    #[test]
    fn an_endless_population_is_the_limit_and_never_lower() {
        for (fraction, rows) in [(0.1, 20), (0.2, 100), (0.05, 50), (0.3, 1000)] {
            let endless = sampled(fraction, 1e-6, None).byzantine(rows);
            assert_eq!(sampled(fraction, 1e-6, Some(1_000_000_000)).byzantine(rows), endless);
            assert!(sampled(fraction, 1e-6, Some(2 * rows)).byzantine(rows) <= endless);
        }
        assert_eq!(sampled(0.0, 1e-9, None).byzantine(50), 0);
        assert_eq!(sampled(0.4, 1e-9, Some(5)).byzantine(5), 2);
        assert!(sampled(0.499, 1e-300, None).byzantine(4096) <= 4096);
    }

    #[test]
    fn a_share_becomes_a_number_and_mistakes_are_named() {
        let spec = |text: &str| toml::from_str::<RuleSpec>(text).map_err(|error| error.message().to_owned());
        let text = "kind = \"krum\"\nbyzantine = { fraction = 0.1, risk = 1e-6, population = 100 }";
        let config = spec(text).unwrap().resolve(20).unwrap();
        assert_eq!(config.byzantine(), 8);
        assert!(spec(text).unwrap().resolve(101).unwrap_err().to_string().contains("`population` is 100"));
        assert_eq!(spec("kind = \"krum\"\nbyzantine = 2").unwrap().resolve(20).unwrap().byzantine(), 2);
        for (text, message) in [
            ("kind = \"krum\"\nbyzantine = { fraction = 0.5, risk = 0.1 }", "`fraction` is 0.5"),
            ("kind = \"krum\"\nbyzantine = { fraction = 0.1 }", "`risk` is missing"),
            ("kind = \"krum\"\nbyzantine = { fraction = 0.1, risk = 0 }", "`risk` is 0"),
            ("kind = \"krum\"\nbyzantine = { fraction = 0.1, risk = 0.1, populaton = 3 }", "unknown key `populaton`"),
        ] {
            let error = spec(text).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert!(spec("kind = \"krumm\"").unwrap().resolve(3).is_err());
        let direct = toml::from_str::<RuleConfig>(text).unwrap_err();
        assert!(direct.message().contains("`byzantine` is a table"), "{direct}");
    }
}
