//! Whatever hurts the deployed rule most and is not seen.

use super::prelude::*;
use super::search::{Directions, Search};
use super::stealth::sign;

pub(super) const INFO: Info = Info {
    kind: "adaptive",
    formula: "argmax of the damage over mu + tau p, p in {x_far - mu, sigma, sign mu, mu/|mu|}, and tau mu, with outlier scores <= stealth",
    summary: "Tries several families of attacks against the deployed rule, with the detector in view, and sends the most harmful.",
    citation: "Tramer et al. 2020, On Adaptive Attacks (NeurIPS); Fang et al. 2020",
    knowledge: Knowledge::Omniscient,
    parameters: &[
        Parameter {
            name: "goal",
            default: "distance",
            meaning: "distance: |AGG - mu|; reversal: how far the aggregate is pushed against mu",
        },
        Parameter {
            name: "stealth",
            default: "auto",
            meaning: "largest robust z of length and of distance from the honest mean, 0.1 to 1e6; auto: unbounded",
        },
        Parameter { name: "after", default: "0", meaning: "honest rounds first" },
        Parameter {
            name: "evaluations",
            default: "20",
            meaning: "questions put to the rule per family and side, 1 to 1000",
        },
    ],
};

/// The robust z of a value is its distance from the median of the honest rows' values in units of 1.4826 times their
/// median absolute deviation. A family none of whose members is inconspicuous is left out; if all are, the own update is
/// sent. Only the rule is asked, with a copy of its state: nothing is tried on the server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adaptive {
    /// What damage is.
    pub goal: Goal,
    /// Largest robust z.
    pub stealth: Choice<f64>,
    /// Honest rounds first.
    pub after: u64,
    /// Questions put to the rule per family and side.
    pub evaluations: usize,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { goal: Goal::Distance, stealth: Choice::AUTO, after: 0, evaluations: 20 }
    }
}

/// What an adaptive attacker wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The aggregate far from the honest mean.
    #[default]
    Distance,
    /// The aggregate pushed against the honest mean.
    Reversal,
}

impl Attack for Adaptive {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "stealth", self.stealth.value().unwrap_or(1.0), (0.1, 1e6))?;
        check_range(INFO.kind, "evaluations", self.evaluations as f64, (1.0, 1000.0))
    }
}

impl Formula for Adaptive {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let rows = view.sample();
        if view.round() <= self.after || rows.is_empty() || view.crowd().colluding == 0 {
            return own.iter().map(|value| value.to_f64()).collect();
        }
        let mean = view.honest_mean(own);
        let spread = (rows.iter().map(|row| estimate::distance2(row, &mean)).sum::<f64>() / rows.len() as f64).sqrt();
        let detector = self.stealth.value().map(|most| Detector::new(rows, &mean, most));
        let search = Search { directions: Directions::Both, evaluations: self.evaluations, delta: 1.0, ratio: 0.8 };
        // Towards the furthest honest row: copying it counts it once more, beyond it lies an exaggeration.
        let far = |a: &&Vec<S>, b: &&Vec<S>| {
            estimate::distance2(a.as_slice(), &mean).total_cmp(&estimate::distance2(b.as_slice(), &mean))
        };
        let furthest = rows.iter().max_by(far).map_or(own, Vec::as_slice);
        let outward = furthest.iter().zip(&mean).map(|(value, mean)| value.to_f64() - mean).collect();
        let families = [
            (true, scaled(outward, spread)),
            (true, scaled(view.honest_deviation(&mean), spread)),
            (true, scaled(mean.iter().map(|mean| sign(*mean)).collect(), spread)),
            (true, scaled(mean.clone(), spread)),
            (false, mean.clone()),
        ];
        let mut best: Option<(f64, Vec<f64>)> = Option::None;
        for (from_mean, direction) in &families {
            let response = Response::new(view, &mean, *from_mean, direction);
            let value = |tau: f64| {
                let hidden = detector.as_ref().is_none_or(|detector| detector.passes(&response.at(tau)));
                let (distance, reversal) = response.damage_and_reversal(tau);
                match (hidden, self.goal) {
                    (false, _) => f64::NEG_INFINITY,
                    (true, Goal::Distance) => distance,
                    (true, Goal::Reversal) => reversal,
                }
            };
            let (tau, damage) = search.run(value);
            if damage > f64::NEG_INFINITY && best.as_ref().is_none_or(|(most, _)| damage > *most) {
                best = Some((damage, response.at(tau)));
            }
        }
        best.map_or_else(|| own.iter().map(|value| value.to_f64()).collect(), |(_, sent)| sent)
    }
}

/// `direction` at this length; zero stays.
fn scaled(mut direction: Vec<f64>, length: f64) -> Vec<f64> {
    let own = estimate::norm(&direction);
    if own > 0.0 {
        direction.iter_mut().for_each(|value| *value *= length / own);
    }
    direction
}

/// Outlier scores against the honest rows: of the length, and of the distance from their mean.
struct Detector<'a> {
    mean: &'a [f64],
    lengths: (f64, f64),
    distances: (f64, f64),
    most: f64,
}

impl<'a> Detector<'a> {
    fn new<S: Scalar>(rows: &[Vec<S>], mean: &'a [f64], most: f64) -> Self {
        let scale = |values: Vec<f64>| {
            let middle = estimate::median(values.clone());
            (middle, 1.4826 * estimate::median(values.iter().map(|value| (value - middle).abs()).collect()))
        };
        let lengths = scale(rows.iter().map(|row| estimate::norm(row)).collect());
        let distances = scale(rows.iter().map(|row| estimate::distance2(row, mean).sqrt()).collect());
        Self { mean, lengths, distances, most }
    }

    /// Too short or too near is as conspicuous as too long or too far.
    fn passes(&self, forged: &[f64]) -> bool {
        let within = |value: f64, (middle, unit): (f64, f64)| (value - middle).abs() <= self.most * unit;
        within(estimate::norm(forged), self.lengths)
            && within(estimate::distance2(forged, self.mean).sqrt(), self.distances)
    }
}
