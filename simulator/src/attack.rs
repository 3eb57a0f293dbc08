//! What an attack is: an honest client with one thing changed.
//!
//! It may change the client's data (`poison`), its update (`forge`) or its messages (`tamper`). What it may look at while
//! forging is declared as [`Knowledge`], and [`View`] hands over exactly that.

use std::fmt::{self, Debug};

use serde::Serialize;

use crate::data::Dataset;
use crate::random::Stream;

/// What an attack may see, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Its own data and nothing of the round.
    Data,
    /// The released model and the honestly trained updates of its own colluders.
    Colluders,
    /// Also the updates of the honest clients.
    Honest,
    /// Also the deployed rule.
    Omniscient,
}

impl fmt::Display for Knowledge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Data => "own data only",
            Self::Colluders => "own colluders",
            Self::Honest => "honest updates",
            Self::Omniscient => "honest updates and the rule",
        })
    }
}

/// Everything there is to see in a round; a driver leaves out what it cannot observe (a real client on a network sees no
/// honest updates).
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation<'a> {
    /// Round number, from 1.
    pub round: u64,
    /// The released model the round started from.
    pub model: &'a [f32],
    /// Honestly trained updates of the colluders.
    pub colluders: &'a [Vec<f32>],
    /// Updates of the honest clients.
    pub honest: &'a [Vec<f32>],
}

/// The part of an [`Observation`] that an attack's knowledge permits.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    seen: Observation<'a>,
}

impl<'a> View<'a> {
    /// Removes from `all` whatever `knowledge` does not permit.
    pub fn new(knowledge: Knowledge, all: Observation<'a>) -> Self {
        let mut seen = Observation { round: all.round, ..Observation::default() };
        if knowledge >= Knowledge::Colluders {
            seen.model = all.model;
            seen.colluders = all.colluders;
        }
        if knowledge >= Knowledge::Honest {
            seen.honest = all.honest;
        }
        Self { seen }
    }

    /// Round number, from 1.
    pub fn round(&self) -> u64 {
        self.seen.round
    }

    /// The released model the round started from; empty if not visible.
    pub fn model(&self) -> &'a [f32] {
        self.seen.model
    }

    /// Honestly trained updates of the colluders; empty if not visible.
    pub fn colluders(&self) -> &'a [Vec<f32>] {
        self.seen.colluders
    }

    /// Updates of the honest clients; empty if not visible.
    pub fn honest(&self) -> &'a [Vec<f32>] {
        self.seen.honest
    }

    /// Best available estimate of the honest mean μ: the mean of the honest updates; without them, that of the colluders'
    /// honestly trained updates; without those, the client's `own`. Summed in f64 in the given order.
    pub fn honest_mean(&self, own: &[f32]) -> Vec<f32> {
        let rows = if self.seen.honest.is_empty() { self.seen.colluders } else { self.seen.honest };
        if rows.is_empty() {
            return own.to_vec();
        }
        let mut sum = vec![0.0_f64; own.len()];
        for row in rows {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sum.iter().map(|sum| (sum / rows.len() as f64) as f32).collect()
    }
}

/// A change to the client's messages, applied after its update is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Tamper {
    /// Messages as an honest client sends them.
    #[default]
    None,
    /// The update has this many coordinates more (or, negative, fewer) than the model.
    WrongShape {
        /// Difference in coordinates.
        coordinates: i32,
    },
}

impl Tamper {
    /// Most coordinates a wrong shape may add.
    pub const MOST_COORDINATES: i32 = 1 << 20;

    /// Applies what concerns the update itself; drivers handle the rest.
    pub fn apply(self, update: &mut Vec<f32>) {
        let Self::WrongShape { coordinates } = self else { return };
        let difference = coordinates.unsigned_abs().min(Self::MOST_COORDINATES.unsigned_abs()) as usize;
        let length = if coordinates < 0 { update.len().saturating_sub(difference) } else { update.len() + difference };
        update.resize(length, 0.0);
    }
}

/// An attack, run by one poisoned client. The defaults change nothing.
///
/// A driver poisons the client's data once before training, trains honestly, forges, tampers, sends.
pub trait Attack: Debug + Send + Sync {
    /// The most this attack looks at.
    fn knowledge(&self) -> Knowledge;

    /// Changes the client's training data.
    ///
    /// # Errors
    /// If the attack's parameters do not fit the data.
    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        let _ = (data, stream);
        Ok(())
    }

    /// Changes the honestly trained `update` into what is sent. Its length stays.
    fn forge(&self, view: &View<'_>, update: &mut [f32], stream: &mut Stream) {
        let _ = (view, update, stream);
    }

    /// Changes the client's messages.
    fn tamper(&self) -> Tamper {
        Tamper::None
    }

    /// Whether every parameter is in its range.
    ///
    /// # Errors
    /// Naming the parameter, the value and the range.
    fn check(&self) -> Result<(), AttackError> {
        Ok(())
    }
}

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
    /// What a poisoned client sends, in symbols: x own honest update, μ mean of the honest updates, f colluders.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_hands_over_what_the_knowledge_permits_and_nothing_more() {
        let (model, colluders, honest) = (vec![1.0], vec![vec![2.0]], vec![vec![3.0], vec![5.0]]);
        let all = Observation { round: 4, model: &model, colluders: &colluders, honest: &honest };
        let seen = |knowledge| {
            let view = View::new(knowledge, all);
            (view.round(), view.model().len(), view.colluders().len(), view.honest().len())
        };
        assert_eq!(seen(Knowledge::Data), (4, 0, 0, 0));
        assert_eq!(seen(Knowledge::Colluders), (4, 1, 1, 0));
        assert_eq!(seen(Knowledge::Honest), (4, 1, 1, 2));
        assert_eq!(seen(Knowledge::Omniscient), (4, 1, 1, 2));
    }

    #[test]
    fn the_honest_mean_falls_back_on_what_can_be_seen() {
        let (colluders, honest) = (vec![vec![2.0]], vec![vec![3.0], vec![5.0]]);
        let all = Observation { round: 1, model: &[], colluders: &colluders, honest: &honest };
        assert_eq!(View::new(Knowledge::Honest, all).honest_mean(&[9.0]), [4.0]);
        assert_eq!(View::new(Knowledge::Colluders, all).honest_mean(&[9.0]), [2.0]);
        assert_eq!(View::new(Knowledge::Data, all).honest_mean(&[9.0]), [9.0]);
    }

    #[test]
    fn a_wrong_shape_adds_or_removes_coordinates_within_a_bound() {
        let shaped = |coordinates| {
            let mut update = vec![1.0; 5];
            Tamper::WrongShape { coordinates }.apply(&mut update);
            update.len()
        };
        assert_eq!((shaped(-1), shaped(3), shaped(-9), shaped(i32::MIN)), (4, 8, 0, 0));
        assert_eq!(shaped(i32::MAX), 5 + (1 << 20));
        let mut update = vec![1.0; 5];
        Tamper::None.apply(&mut update);
        assert_eq!(update, [1.0; 5]);
    }
}
