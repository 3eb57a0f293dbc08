//! The line search of the optimised attacks.

use serde::{Deserialize, Serialize};

use crate::attack::{AttackError, Parameter, check_range};

/// Which sides of a line are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// τ and −τ, each with all evaluations.
    #[default]
    Both,
    /// Only τ ≥ 0.
    Positive,
    /// Only τ ≤ 0: what is positive for gradients.
    Negative,
}

/// From x = 0: while value(x + δ) is better, accept and double δ; after the first failure shrink δ by `ratio` and only
/// contract: accept x + δ if better, then shrink again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Which sides.
    pub directions: Directions,
    /// Evaluations per direction, value(0) included.
    pub evaluations: usize,
    /// First step.
    pub delta: f64,
    /// Factor of the step after a failure.
    pub ratio: f64,
}

/// Its settings, for every attack that searches.
pub(super) const PARAMETERS: [Parameter; 4] = [
    Parameter {
        name: "directions",
        default: "both",
        meaning: "both: a(tau) and a(-tau) are searched; positive or negative: one of them alone",
    },
    Parameter {
        name: "evaluations",
        default: "20",
        meaning: "questions put to the rule per direction, value(0) included; 1 to 1000",
    },
    Parameter { name: "delta", default: "10", meaning: "first step, 1e-6 to 1e6" },
    Parameter { name: "ratio", default: "0.8", meaning: "factor of the step after a failure, 0.01 to 0.99" },
];

impl Default for Search {
    fn default() -> Self {
        Self { directions: Directions::Both, evaluations: 20, delta: 10.0, ratio: 0.8 }
    }
}

impl Search {
    /// The best τ found, and its value; ties go to the positive side.
    pub fn run(&self, value: impl Fn(f64) -> f64) -> (f64, f64) {
        let start = value(0.0);
        let up = || self.one_side(start, &value);
        let down = || {
            let (tau, best) = self.one_side(start, |tau| value(-tau));
            (-tau, best)
        };
        match self.directions {
            Directions::Positive => up(),
            Directions::Negative => down(),
            Directions::Both => {
                let (up, down) = (up(), down());
                if down.1 > up.1 { down } else { up }
            }
        }
    }

    fn one_side(&self, start: f64, value: impl Fn(f64) -> f64) -> (f64, f64) {
        let (mut x, mut best, mut delta) = (0.0, start, self.delta);
        let mut expanding = true;
        for _ in 1..self.evaluations {
            let here = value(x + delta);
            let better = here > best;
            if better {
                (x, best) = (x + delta, here);
            }
            expanding &= better;
            delta *= if expanding { 2.0 } else { self.ratio };
        }
        (x, best)
    }

    pub(super) fn check(&self, kind: &'static str) -> Result<(), AttackError> {
        check_range(kind, "evaluations", self.evaluations as f64, (1.0, 1000.0))?;
        check_range(kind, "delta", self.delta, (1e-6, 1e6))?;
        check_range(kind, "ratio", self.ratio, (0.01, 0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const SEARCH: Search = Search { directions: Directions::Positive, evaluations: 20, delta: 10.0, ratio: 0.8 };

    #[test]
    fn it_doubles_while_it_gains_and_then_only_contracts() {
        assert_eq!(SEARCH.run(|tau| tau).0, 10.0 * f64::from((1 << 19) - 1));
        assert!(SEARCH.run(|tau| if tau > 15.0 { 0.0 } else { tau }).0 > 14.0);
        assert_eq!(SEARCH.run(|_| 1.0), (0.0, 1.0));
    }

    #[test]
    fn it_asks_no_more_often_than_told() {
        let asked = Cell::new(0);
        let count = |tau: f64| {
            asked.set(asked.get() + 1);
            tau
        };
        SEARCH.run(count);
        assert_eq!(asked.take(), 20);
        Search { directions: Directions::Both, ..SEARCH }.run(count);
        assert_eq!(asked.take(), 39);
    }

    #[test]
    fn the_other_side_is_searched_too() {
        let both = Search { directions: Directions::Both, ..SEARCH };
        assert!(both.run(|tau| -tau).0 < -1e6);
        assert_eq!(SEARCH.run(|tau| -tau).0, 0.0);
        let negative = Search { directions: Directions::Negative, ..SEARCH };
        assert!(negative.run(|tau| -tau).0 < -1e6);
        assert_eq!(negative.run(|tau| tau).1, 0.0);
    }
}
