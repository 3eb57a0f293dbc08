//! A rule with the pre-aggregations before it, as configured.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::catalogue::BYZANTINE;
use crate::mixing::Mixing;
use crate::needs::{DistanceNeeds, Needs};
use crate::parameters::{ParameterError, Parameters, Value};
use crate::plan::{Combine, Plan};
use crate::pre::{Mixed, PreConfig};
use crate::range::MAX_PAIR_ROWS;
use crate::rows::Weights;
use crate::rule::{Decision, Rule, RuleError};
use crate::rules::{RuleKind, catalogue};
use crate::sampling::refuse_share;
use crate::statistics::{Refinement, RowStatistics};
use crate::verdict::{RowReason, Verdict};

/// Most pre-aggregations of a rule: each may ask for a look of its own.
const MOST_PRE: usize = 8;

/// A rule and what is done to the rows before it, as configured: `kind = "trimmed_mean"`, `byzantine = 2`,
/// `pre = ["arc", "nnm"]`. Unknown kinds, unknown keys and values out of range are refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleConfig {
    /// The rule.
    #[serde(flatten)]
    rule: RuleKind,
    /// f for the pre-aggregations, where the rule has none itself.
    #[serde(rename = "byzantine", skip_serializing_if = "Option::is_none")]
    declared: Option<usize>,
    /// In this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pre: Vec<PreConfig>,
}

impl From<RuleKind> for RuleConfig {
    fn from(rule: RuleKind) -> Self {
        Self { rule, declared: None, pre: Vec::new() }
    }
}

impl RuleConfig {
    /// The plain mean.
    #[must_use]
    pub fn mean() -> Self {
        RuleKind::Mean(crate::rules::Mean {}).into()
    }

    /// The coordinate-wise median.
    #[must_use]
    pub fn median(byzantine: usize) -> Self {
        RuleKind::Median(crate::rules::Median { byzantine, ..Default::default() }).into()
    }

    /// The rule itself, with its pre-aggregations.
    #[must_use]
    pub fn rule(&self) -> &dyn Rule {
        self
    }

    /// The rule as an owned object.
    #[must_use]
    pub fn build(&self) -> Box<dyn Rule> {
        Box::new(self.clone())
    }

    /// The rule's kind, as in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.rule.rule().kind()
    }

    /// The rule without its pre-aggregations.
    #[must_use]
    pub fn kernel(&self) -> &RuleKind {
        &self.rule
    }

    /// What is done to the rows before the rule sees them, in this order.
    #[must_use]
    pub fn pre(&self) -> &[PreConfig] {
        &self.pre
    }

    /// The same rule after these pre-aggregations. `byzantine` is f for them where the rule has none itself.
    #[must_use]
    pub fn after(mut self, pre: Vec<PreConfig>, byzantine: usize) -> Self {
        self.declared = (!self.takes_byzantine() && !pre.is_empty()).then_some(byzantine);
        self.pre = pre;
        self
    }

    /// The rule of this kind with the given *f*, defaults for the rest and example values where there is no default,
    /// for matrices over all rules: a rule without the parameter `byzantine` (the mean) is returned without it.
    ///
    /// # Errors
    ///
    /// When there is no such kind.
    pub fn with_byzantine(kind: &str, byzantine: usize) -> Result<Self, ParameterError> {
        let info = catalogue().iter().find(|info| info.kind == kind);
        let mut entries = Vec::new();
        for parameter in info.into_iter().flat_map(|info| info.parameters) {
            if parameter.key == "byzantine" {
                entries.push(("byzantine".to_owned(), count(byzantine)));
            } else if let Some(example) = parameter.example {
                entries.push((parameter.key.to_owned(), number(example)));
            }
        }
        let config = Self::parse(Parameters::new("rule", kind, entries))?;
        Ok(Self { rule: config.rule.exemplary(byzantine), ..config })
    }

    /// The rule for a round of which only `rows` rows remain: *f* becomes min(*f*, the largest *f* valid for `rows`),
    /// and a number of rows to select is lowered to what that allows. Never raises anything. The caller reports the
    /// new parameters.
    ///
    /// # Errors
    ///
    /// When no *f* is valid for so few rows.
    pub fn fit(&self, rows: usize) -> Result<Self, RuleError> {
        let mut refusal = None;
        for byzantine in (0..=self.byzantine().min(rows)).rev() {
            let fitted = self.lowered(byzantine, rows);
            match fitted.check(rows) {
                Ok(()) => return Ok(fitted),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        self.check(rows).map(|()| self.clone()).map_err(|error| refusal.unwrap_or(error))
    }

    fn lowered(&self, byzantine: usize, rows: usize) -> Self {
        let remaining = self.pre.iter().fold(rows, |rows, step| step.rows_after(rows));
        Self {
            rule: self.rule.lowered(byzantine.min(self.rule.rule().byzantine()), remaining),
            declared: self.declared.map(|declared| declared.min(byzantine)),
            pre: self.pre.clone(),
        }
    }

    fn takes_byzantine(&self) -> bool {
        self.rule.info().parameters.iter().any(|parameter| parameter.key == "byzantine")
    }

    pub(crate) fn parse(mut parameters: Parameters) -> Result<Self, ParameterError> {
        refuse_share(&mut parameters)?;
        let pre = parameters.list("pre").into_iter().map(PreConfig::read).collect::<Result<Vec<_>, _>>()?;
        if pre.len() > MOST_PRE {
            return Err(parameters.invalid("pre", &count(pre.len()), "at most 8 pre-aggregations"));
        }
        // With f = 0 nearest-neighbour mixing is the mean: nobody means that.
        let declares = parameters.holds("byzantine") || parameters.holds("fraction");
        if !declares && pre.iter().any(PreConfig::uses_byzantine) {
            return Err(parameters.missing("byzantine", BYZANTINE));
        }
        let rule = RuleKind::parse(&mut parameters)?;
        let mut config = Self { rule, declared: None, pre };
        if !config.pre.is_empty() && !config.takes_byzantine() {
            config.declared = parameters.count("byzantine", BYZANTINE)?;
        }
        parameters.finish()?;
        Ok(config)
    }
}

pub(crate) fn count(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// As it would be written: whole numbers without a fraction.
#[allow(clippy::cast_possible_truncation, reason = "whole and small")]
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { Value::Integer(value as i64) } else { Value::Number(value) }
}

impl Rule for RuleConfig {
    fn kind(&self) -> &'static str {
        self.rule.rule().kind()
    }

    fn byzantine(&self) -> usize {
        self.rule.rule().byzantine().max(self.declared.unwrap_or(0))
    }

    fn byzantine_among(&self, rows: usize) -> usize {
        self.rule.rule().byzantine_among(rows).max(self.declared.unwrap_or(0))
    }

    fn check(&self, rows: usize) -> Result<(), RuleError> {
        if !self.pre.is_empty() && rows > MAX_PAIR_ROWS {
            return Err(RuleError::TooManyRows { kind: self.kind(), rows, limit: MAX_PAIR_ROWS });
        }
        let mut remaining = rows;
        for step in &self.pre {
            step.check(remaining, self.byzantine_among(rows))?;
            remaining = step.rows_after(remaining);
        }
        if remaining != rows && self.rule.rule().tells_rows_apart() {
            let (kind, byzantine) = (self.kind(), self.byzantine());
            let (value, expected) = ("bucketing".to_owned(), "a pre-aggregation that keeps every row".to_owned());
            return Err(RuleError::Parameter { kind, key: "pre", value, rows, byzantine, expected });
        }
        self.rule.rule().check(remaining)
    }

    fn needs(&self) -> Needs {
        let last = self.rule.rule().needs();
        if self.pre.is_empty() {
            return last;
        }
        let mut distances = self.pre.iter().map(PreConfig::needs).max().unwrap_or_default().max(last.distances);
        // Lengths of sums do not follow from lengths, nor distances of multiples from distances; distances of mixed rows
        // are differences of distances.
        let from_lengths = distances <= DistanceNeeds::Norms && self.pre.iter().all(PreConfig::scales);
        let compared = self.pre.len() == 1 && last.distances == DistanceNeeds::None;
        if distances != DistanceNeeds::None && !from_lengths && !compared {
            distances = DistanceNeeds::Pairs;
        }
        // Signs and samples of mixed rows take a second look.
        Needs { distances, signs: None, samples: None, extras: last.extras }
    }

    fn uses_weights(&self) -> bool {
        self.accepts_weights() && self.rule.rule().uses_weights()
    }

    fn accepts_weights(&self) -> bool {
        self.rule.rule().accepts_weights() && self.pre.iter().all(PreConfig::scales)
    }

    fn decide(&self, statistics: &RowStatistics, weights: &Weights) -> Result<Decision, RuleError> {
        let last = self.rule.rule();
        let rows = weights.as_slice().len();
        let mut state = State::new(statistics, rows);
        let mut current = statistics.clone();
        for (stage, step) in self.pre.iter().enumerate().skip(state.stage) {
            let Mixed { mixing, factors } = step.mix(&current, self.byzantine_among(rows))?;
            let next = current.mixed(&mixing);
            state.apply(stage + 1, &mixing, factors);
            let rest = self.pre[stage + 1..].iter().map(PreConfig::needs).max().unwrap_or_default();
            let needs = Needs { distances: rest.max(last.needs().distances), ..last.needs() };
            let is_last = stage + 1 == self.pre.len();
            current = match next {
                Some(next) if !is_last || (needs.signs.is_none() && needs.samples.is_none()) => next,
                _ if needs.is_nothing() => state.unobserved(&current),
                _ => return Ok(state.look_again(needs)),
            };
        }
        let mixed_weights = match (&state.whole, weights.is_equal()) {
            (Some(whole), true) => {
                Weights::equal(whole.rows()).map_err(|_| RuleError::WeightCount { weights: 0, rows })?
            }
            _ => weights.clone(),
        };
        match last.decide(&current, &mixed_weights)? {
            Decision::Plan(plan) => Ok(state.finish(*plan, rows).into()),
            Decision::Refine(wish) => {
                Ok(Decision::Refine(Box::new(Refinement { frame: wish.frame, ..state.refinement(wish.needs) })))
            }
        }
    }
}

/// How far the pre-aggregations have come.
struct State {
    stage: usize,
    /// The rows now, over the points of the round.
    whole: Option<Mixing>,
    factors: Vec<f64>,
}

impl State {
    /// Where the statistics left off.
    fn new(statistics: &RowStatistics, rows: usize) -> Self {
        match statistics.refinement() {
            None => Self { stage: 0, whole: None, factors: vec![1.0; rows] },
            Some(refinement) => {
                Self { stage: refinement.stage, whole: refinement.mixing.clone(), factors: refinement.factors.clone() }
            }
        }
    }

    fn apply(&mut self, stage: usize, step: &Mixing, factors: Option<Vec<f64>>) {
        if let Some(factors) = factors {
            match &self.whole {
                None => self.factors = factors,
                Some(whole) => {
                    for (factor, &owner) in self.factors.iter_mut().zip(whole.owners()) {
                        *factor *= factors[owner];
                    }
                }
            }
        }
        self.whole = Some(match &self.whole {
            None => step.clone(),
            Some(whole) => step.after(whole),
        });
        self.stage = stage;
    }

    fn unobserved(&self, current: &RowStatistics) -> RowStatistics {
        let rows = self.whole.as_ref().map_or(current.rows(), Mixing::rows);
        RowStatistics::unobserved(rows)
            .with_seed(current.seed(), current.dimension())
            .with_extras(current.extras())
            .with_memory(current.memory())
    }

    fn refinement(&self, needs: Needs) -> Refinement {
        let (stage, mixing, factors) = (self.stage, self.whole.clone(), self.factors.clone());
        Refinement { needs, stage, mixing, factors, frame: None }
    }

    fn look_again(&self, needs: Needs) -> Decision {
        Decision::Refine(Box::new(self.refinement(needs)))
    }

    /// The plan over the rows of the round.
    fn finish(self, mut plan: Plan, rows: usize) -> Plan {
        let Some(whole) = self.whole else { return plan };
        let inner = std::mem::take(&mut plan.verdicts);
        let mut selected = Vec::new();
        for &mixed in &plan.selected {
            selected.extend((0..rows).filter(|&row| whole.owners()[row] == mixed));
        }
        plan.selected = selected;
        plan.scores = plan.scores.map(|scores| whole.owners().iter().map(|&owner| scores[owner]).collect());
        plan.verdicts = whole.owners().iter().map(|&owner| inner[owner]).collect();
        if let Combine::WeightedSum { weights, divisor } = &plan.combine {
            let weights = whole.collapse(weights);
            // A mixed row that was chosen brings in the rows it is made of.
            for (row, verdict) in plan.verdicts.iter_mut().enumerate() {
                match verdict {
                    Verdict::Rejected { reason: RowReason::NotSelected } if weights[row] != 0.0 => {
                        *verdict = Verdict::Accepted
                    }
                    Verdict::Accepted if weights[row] == 0.0 && self.factors[row] != 0.0 => {
                        *verdict = Verdict::Rejected { reason: RowReason::NotSelected };
                    }
                    _ => {}
                }
            }
            plan.combine = Combine::WeightedSum { weights, divisor: *divisor };
        } else {
            plan.mixing = Some(whole);
        }
        for (verdict, &factor) in plan.verdicts.iter_mut().zip(&self.factors) {
            *verdict = match *verdict {
                Verdict::Accepted if factor == 0.0 => Verdict::Rejected { reason: RowReason::Magnitude },
                Verdict::Accepted if factor < 1.0 => Verdict::Clipped { factor },
                Verdict::Clipped { factor: inner } => Verdict::Clipped { factor: inner * factor },
                other => other,
            };
        }
        plan
    }
}

impl fmt::Display for RuleConfig {
    /// The kind, then the parameters: `arc, then krum (byzantine = 2)`. This is the rule's name in records: a
    /// compatibility mode shows.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.pre {
            write!(formatter, "{step}, then ")?;
        }
        let mut words = self.rule.describe();
        if let Some(declared) = self.declared {
            let separator = if words.is_empty() { "" } else { ", " };
            words = format!("byzantine = {declared}{separator}{words}");
        }
        if words.is_empty() {
            return formatter.write_str(self.kind());
        }
        write!(formatter, "{} ({words})", self.kind())
    }
}

impl<'de> Deserialize<'de> for RuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Parameters::read("rule", deserializer)?).map_err(D::Error::custom)
    }
}
