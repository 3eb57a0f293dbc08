//! What the deployed rule makes of the honest rows and f equal rows a(τ) = base + τp: the question every optimising
//! attack asks some dozens of times a round.
//!
//! A rule that weighs rows by their distances does not change under rotation, so it is asked about a *sketch*: the same
//! rows in coordinates of the space they span, of which there are at most n instead of d. Where the rule ends in order
//! statistics, only its decision is taken from the sketch; plain trimmed means and medians are computed from values
//! sorted once. Rules that look at signs or samples see the rows themselves.

use std::borrow::Cow;
use std::sync::LazyLock;

use testudo_aggregate::{
    Combine, Decision, DistanceNeeds, Inputs, Needs, Observation, Plan, Rows, Rule, RuleConfig, StatisticsTree,
    Weights, combine_unit, observe_unit,
};

use super::estimate::{distance2, dot};
use super::{Deployed, View};
use crate::scalar::Scalar;

use ordered::Ordered;

mod ordered;

/// Without a rule in sight an attack reckons with the mean.
static MEAN: LazyLock<RuleConfig> = LazyLock::new(RuleConfig::mean);

/// Most rows that are sketched: beyond, the Gram matrix costs more than the questions.
const MOST_SKETCHED: usize = 128;

/// The rows of a round as far as a search needs them.
pub(crate) struct Response<'a, S: Scalar> {
    honest: &'a [Vec<S>],
    deployed: Option<Deployed<'a, S>>,
    copies: usize,
    mean: &'a [f64],
    from_mean: bool,
    direction: &'a [f64],
    sketch: Option<Sketch>,
    plan: Option<Plan>,
    ordered: Option<Ordered<S>>,
}

impl<'a, S: Scalar> Response<'a, S> {
    /// The rows in `view`, with their `mean`, and a line from that mean (or from zero) along `direction`.
    pub(crate) fn new(view: &View<'a, S>, mean: &'a [f64], from_mean: bool, direction: &'a [f64]) -> Self {
        let (honest, deployed) = (view.sample(), view.deployed());
        let copies = view.crowd().colluding;
        let mut response =
            Self { honest, deployed, copies, mean, from_mean, direction, sketch: None, plan: None, ordered: None };
        let needs = response.rule().needs();
        let rotates = needs.signs.is_none() && needs.samples.is_none() && !needs.extras.history;
        let complete = response.extras().len() == needs.extras.count(honest.len() + copies);
        if needs.is_nothing() {
            response.plan = response.decide(needs, &[]);
        }
        response.ordered = response.plan.as_ref().and_then(|plan| Ordered::new(plan, honest, copies));
        let constant_order = response.plan.as_ref().is_some_and(|plan| !is_weighted_sum(plan));
        if rotates && complete && !constant_order && honest.len() <= MOST_SKETCHED && !mean.is_empty() {
            response.sketch = Some(Sketch::new(honest, mean, direction, response.extras()));
        }
        response
    }

    /// ‖AGG(H ∪ f·a(τ)) − μ‖; 0 where the rule refuses the rows or releases nothing.
    pub(crate) fn damage(&self, tau: f64) -> f64 {
        self.ask(tau).map_or(0.0, |(damage, _)| damage)
    }

    /// The same, and ⟨AGG − μ, −μ⟩/‖μ‖: how far the aggregate was pushed against the honest mean.
    pub(crate) fn damage_and_reversal(&self, tau: f64) -> (f64, f64) {
        self.ask(tau).unwrap_or((0.0, 0.0))
    }

    /// a(τ).
    pub(crate) fn at(&self, tau: f64) -> Vec<f64> {
        let base = |mean: &f64| if self.from_mean { *mean } else { 0.0 };
        self.mean.iter().zip(self.direction).map(|(mean, slope)| base(mean) + tau * slope).collect()
    }

    fn ask(&self, tau: f64) -> Option<(f64, f64)> {
        if let Some(ordered) = &self.ordered {
            return Some(effect(&ordered.aggregate(&self.at(tau)), self.mean));
        }
        let Some(sketch) = &self.sketch else { return self.ask_in_full(tau, self.plan.as_ref()) };
        let forged = sketch.at(tau, self.from_mean);
        let mut rows: Vec<&[f64]> = sketch.honest.iter().map(Vec::as_slice).collect();
        rows.extend(std::iter::repeat_n(forged.as_slice(), self.copies));
        rows.extend(sketch.extras.iter().map(Vec::as_slice));
        let plan = match &self.plan {
            Some(plan) => Cow::Borrowed(plan),
            // A rule that wants a second look gets it on the rows themselves.
            None => match self.decide(self.rule().needs(), &rows) {
                Some(plan) => Cow::Owned(plan),
                None => return self.ask_in_full(tau, None),
            },
        };
        if plan.degenerate.is_some() {
            return None;
        }
        if !is_weighted_sum(&plan) {
            return self.ask_in_full(tau, Some(&plan));
        }
        let mut out = vec![0.0; forged.len()];
        combine_unit(&Rows::new(&rows, 0).ok()?, &plan, &mut out).ok()?;
        Some(effect(&out, &sketch.mean))
    }

    /// On all coordinates: by the plan if there is one, else from the beginning.
    fn ask_in_full(&self, tau: f64, plan: Option<&Plan>) -> Option<(f64, f64)> {
        let forged: Vec<S> = self.at(tau).into_iter().map(S::from_f64).collect();
        let mut rows: Vec<&[S]> = self.honest.iter().map(Vec::as_slice).collect();
        rows.extend(std::iter::repeat_n(forged.as_slice(), self.copies));
        let extras: Vec<&[S]> = self.extras().iter().map(Vec::as_slice).collect();
        if let Some(plan) = plan {
            let mut out = vec![S::ZERO; forged.len()];
            rows.extend(extras);
            S::combine(&rows, plan, &mut out).ok()?;
            return Some(effect(&out, self.mean));
        }
        let (seed, memory) = self.deployed.map_or((0, None), |deployed| (deployed.seed, deployed.memory));
        let inputs = Inputs { extras: &extras, seed, memory, ..Inputs::new(&rows) };
        let aggregate = S::aggregate(self.rule(), &inputs).ok()?;
        aggregate.degenerate.is_none().then(|| effect(&aggregate.output, self.mean))
    }

    /// The rule's plan for these points, unless it refuses or wants another look.
    fn decide(&self, needs: Needs, points: &[&[f64]]) -> Option<Plan> {
        let count = self.honest.len() + self.copies;
        let (seed, memory) = self.deployed.map_or((0, None), |deployed| (deployed.seed, deployed.memory));
        let dimension = points.first().map_or(self.mean.len(), |point| point.len());
        let rule = self.rule();
        rule.check(count).ok()?;
        let observation = Observation::first(needs, count, dimension, seed).with_memory(memory);
        let statistics = if needs.is_nothing() {
            observation.unobserved()
        } else {
            debug_assert!(needs.distances != DistanceNeeds::None);
            let mut tree = StatisticsTree::new(1);
            tree.insert(0, observe_unit(&Rows::new(points, 0).ok()?, &observation).ok()?).ok()?;
            tree.finish(&observation).ok()?
        };
        match rule.decide(&statistics, &Weights::equal(count).ok()?).ok()? {
            Decision::Plan(plan) => Some(*plan),
            Decision::Refine(_) => None,
        }
    }

    fn rule(&self) -> &'a dyn Rule {
        match self.deployed {
            Some(deployed) => deployed.rule,
            None => MEAN.rule(),
        }
    }

    fn extras(&self) -> &'a [Vec<S>] {
        self.deployed.map_or(&[], |deployed| deployed.extras)
    }
}

fn is_weighted_sum(plan: &Plan) -> bool {
    matches!(plan.combine, Combine::WeightedSum { .. })
}

/// ‖aggregate − μ‖ and ⟨aggregate − μ, −μ⟩/‖μ‖.
fn effect<A: Scalar>(aggregate: &[A], mean: &[f64]) -> (f64, f64) {
    let length2 = dot(mean, mean);
    let against = if length2 > 0.0 { (length2 - dot(aggregate, mean)) / length2.sqrt() } else { 0.0 };
    (distance2(aggregate, mean).sqrt(), against)
}

/// Points in coordinates of the space they span: lengths, distances and angles are those of the points.
struct Sketch {
    honest: Vec<Vec<f64>>,
    mean: Vec<f64>,
    direction: Vec<f64>,
    extras: Vec<Vec<f64>>,
}

impl Sketch {
    fn new<S: Scalar>(honest: &[Vec<S>], mean: &[f64], direction: &[f64], extras: &[Vec<S>]) -> Self {
        // The rows from their mean: what is far from the origin must not hide what lies between the rows.
        let mut points: Vec<Vec<f64>> = honest
            .iter()
            .map(|row| row.iter().zip(mean).map(|(value, mean)| value.to_f64() - mean).collect())
            .collect();
        points.push(mean.to_vec());
        points.push(direction.to_vec());
        points.extend(extras.iter().map(|row| row.iter().map(|value| value.to_f64()).collect()));
        let mut placed = place(&points).into_iter();
        let mut honest: Vec<Vec<f64>> = placed.by_ref().take(honest.len()).collect();
        let mean = placed.next().unwrap_or_default();
        let direction = placed.next().unwrap_or_default();
        honest.iter_mut().for_each(|row| row.iter_mut().zip(&mean).for_each(|(value, mean)| *value += mean));
        Self { honest, mean, direction, extras: placed.collect() }
    }

    fn at(&self, tau: f64, from_mean: bool) -> Vec<f64> {
        let base = |mean: &f64| if from_mean { *mean } else { 0.0 };
        self.mean.iter().zip(&self.direction).map(|(mean, slope)| base(mean) + tau * slope).collect()
    }
}

/// Share of a point's squared length that may lie outside the space of the others before it opens a new dimension.
const NEGLIGIBLE: f64 = 1e-14;

/// Coordinates with the points' own products: a pivoted Cholesky factor of the Gram matrix of unit vectors, each row
/// times its point's length.
fn place(points: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let count = points.len();
    let lengths: Vec<f64> = points.iter().map(|point| dot(point, point).sqrt()).collect();
    let unit = |i: usize, value: f64| if lengths[i] > 0.0 { value / lengths[i] } else { 0.0 };
    let mut gram = vec![vec![0.0; count]; count];
    for i in 0..count {
        for j in 0..=i {
            let product = unit(i, unit(j, dot(&points[i], &points[j])));
            (gram[i][j], gram[j][i]) = (product, product);
        }
    }
    let mut left: Vec<f64> = (0..count).map(|i| gram[i][i]).collect();
    let mut placed: Vec<Vec<f64>> = vec![Vec::with_capacity(count); count];
    loop {
        let (pivot, &most) =
            left.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).unwrap_or((0, &0.0));
        if most <= NEGLIGIBLE && !placed[0].is_empty() {
            break;
        }
        let root = most.max(0.0).sqrt();
        let own = placed[pivot].clone();
        for (i, row) in placed.iter_mut().enumerate() {
            let known: f64 = row.iter().zip(&own).map(|(a, b)| a * b).sum();
            let next = match i == pivot {
                true => root,
                false if root > 0.0 && left[i] > 0.0 => (gram[i][pivot] - known) / root,
                false => 0.0,
            };
            row.push(next);
        }
        for (i, left) in left.iter_mut().enumerate() {
            let last = placed[i].last().copied().unwrap_or(0.0);
            *left = if i == pivot || *left <= NEGLIGIBLE { 0.0 } else { *left - last * last };
        }
    }
    for (row, length) in placed.iter_mut().zip(&lengths) {
        row.iter_mut().for_each(|value| *value *= length);
    }
    placed
}

#[cfg(test)]
mod tests;
