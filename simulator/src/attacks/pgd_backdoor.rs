//! A backdoor trained within a ball around the model.

use super::plant::{FRACTION, TARGET, TRIGGER, controlled_sgd, plant, shorten};
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "pgd_backdoor",
    formula: "scale * update trained on poisoned examples with |w - w_t| <= epsilon",
    summary: "Trains a backdoor by projected gradient descent, so that the update is never longer than a norm bound allows.",
    citation: "Wang et al. 2020, Attack of the Tails (NeurIPS), section 3",
    knowledge: Knowledge::Colluders,
    parameters: &[
        TRIGGER,
        TARGET,
        FRACTION,
        Parameter {
            name: "examples",
            default: "trigger",
            meaning: "trigger: stamped examples; tail: those furthest from the mean of their class, without a stamp",
        },
        Parameter { name: "epsilon", default: "1", meaning: "longest update, 1e-12 to 1e12" },
        Parameter { name: "every", default: "10", meaning: "steps between projections, 1 to 1000000" },
        Parameter { name: "scale", default: "1", meaning: "factor of the update, 0 to 1e30" },
    ],
};

/// Projects every few steps and at the end. `examples = "tail"` relabels inputs that honest clients hardly hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PgdBackdoor {
    /// Which features the trigger sets.
    pub trigger: Pattern,
    /// Label of triggered examples.
    pub target: u16,
    /// Share of the examples that is poisoned.
    pub fraction: f64,
    /// Which examples are poisoned.
    pub examples: Planted,
    /// Longest update.
    pub epsilon: f64,
    /// Steps between projections.
    pub every: u64,
    /// Factor of the update.
    pub scale: f64,
}

impl Default for PgdBackdoor {
    fn default() -> Self {
        Self {
            trigger: Pattern::Corners,
            target: 0,
            fraction: 0.5,
            examples: Planted::Trigger,
            epsilon: 1.0,
            every: 10,
            scale: 1.0,
        }
    }
}

/// Which examples carry a backdoor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Planted {
    /// Random ones, stamped with the trigger.
    #[default]
    Trigger,
    /// Those furthest from the mean of their class, as they are.
    Tail,
}

impl PgdBackdoor {
    fn planted(&self) -> Trigger {
        Trigger::new(self.trigger, usize::from(self.target))
    }
}

impl Attack for PgdBackdoor {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { train: true, ..Wishes::default() }
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        if self.examples == Planted::Trigger {
            return plant(INFO.kind, &self.planted(), self.fraction, data, stream);
        }
        // The same check of the target, with nothing stamped.
        plant(INFO.kind, &self.planted(), 0.0, data, stream)?;
        let tail = tail(data, self.fraction);
        let target = usize::from(self.target);
        data.relabel(|row, label| if tail[row] { target } else { label }).map_err(|error| AttackError::Parameter {
            kind: INFO.kind,
            parameter: "target",
            value: target.to_string(),
            fix: error.to_string(),
        })
    }

    fn train(&self, lesson: &Lesson<'_>, _: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        let settle = |step: u64, moved: &mut [f32]| {
            if step.is_multiple_of(self.every) {
                let length = estimate::norm(moved);
                let factor = if length > self.epsilon { (self.epsilon / length) as f32 } else { 1.0 };
                moved.iter_mut().for_each(|value| *value *= factor);
            }
        };
        Some(controlled_sgd(lesson, stream, |_, _| (), settle))
    }

    forge_by_formula!();

    fn backdoor(&self) -> Option<Trigger> {
        (self.examples == Planted::Trigger).then(|| self.planted())
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        check_range(INFO.kind, "epsilon", self.epsilon, (1e-12, 1e12))?;
        check_range(INFO.kind, "every", self.every as f64, (1.0, 1e6))?;
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for PgdBackdoor {
    fn vector<S: Scalar>(&self, _: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mut sent: Vec<f64> = own.iter().map(|value| value.to_f64()).collect();
        shorten(&mut sent, self.epsilon);
        sent.iter_mut().for_each(|value| *value *= self.scale);
        sent
    }
}

/// Whether each example is among the `fraction` furthest from the mean of its class; ties to the lower number.
fn tail(data: &Dataset, fraction: f64) -> Vec<bool> {
    let mut sums = vec![vec![0.0_f64; data.width()]; data.classes()];
    let mut counts = vec![0.0_f64; data.classes()];
    for row in 0..data.len() {
        let class = data.label(row);
        counts[class] += 1.0;
        sums[class].iter_mut().zip(data.row(row)).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    for (sum, count) in sums.iter_mut().zip(&counts) {
        sum.iter_mut().for_each(|sum| *sum /= count.max(1.0));
    }
    let distances: Vec<f64> =
        (0..data.len()).map(|row| estimate::distance2(data.row(row), &sums[data.label(row)])).collect();
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]));
    let mut tail = vec![false; data.len()];
    order.iter().take((fraction * data.len() as f64).round() as usize).for_each(|&row| tail[row] = true);
    tail
}
