//! A backdoor in coordinates that others hardly touch.

use super::plant::{FRACTION, TARGET, TRIGGER, controlled_sgd, plant};
use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "neurotoxin",
    formula: "scale * backdoored update, 0 in the top share of |last aggregate|",
    summary: "Writes its backdoor only into coordinates that the last round hardly changed, where honest training does not erase it.",
    citation: "Zhang et al. 2022, Neurotoxin (ICML), algorithm 1",
    knowledge: Knowledge::Colluders,
    parameters: &[
        TRIGGER,
        TARGET,
        FRACTION,
        Parameter {
            name: "top",
            default: "0.05",
            meaning: "share of the coordinates left alone, those of the largest change in the last round; 0 to 1",
        },
        Parameter { name: "scale", default: "1", meaning: "factor of the update, 0 to 1e30" },
    ],
};

/// The mask is applied to every gradient of its training and to what is sent; before the second round there is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neurotoxin {
    /// Which features the trigger sets.
    pub trigger: Pattern,
    /// Label of triggered examples.
    pub target: u16,
    /// Share of the examples that is poisoned.
    pub fraction: f64,
    /// Share of the coordinates left alone.
    pub top: f64,
    /// Factor of the update.
    pub scale: f64,
}

impl Default for Neurotoxin {
    fn default() -> Self {
        Self { trigger: Pattern::Corners, target: 0, fraction: 0.5, top: 0.05, scale: 1.0 }
    }
}

impl Neurotoxin {
    fn planted(&self) -> Trigger {
        Trigger::new(self.trigger, usize::from(self.target))
    }
}

impl Neurotoxin {
    /// Whether each coordinate is left alone: ⌊top·d⌋ of them, ties to the lower index.
    fn mask<S: Scalar>(&self, previous: &[S]) -> Vec<bool> {
        let count = (self.top * previous.len() as f64) as usize;
        let mut order: Vec<usize> = (0..previous.len()).collect();
        let size = |index: usize| previous[index].to_f64().abs();
        order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
        let mut mask = vec![false; previous.len()];
        order.iter().take(count).for_each(|&index| mask[index] = true);
        mask
    }
}

impl Attack for Neurotoxin {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { train: true, ..Wishes::default() }
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        plant(INFO.kind, &self.planted(), self.fraction, data, stream)
    }

    fn train(&self, lesson: &Lesson<'_>, view: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        let mask = self.mask(view.previous());
        let bend = |gradient: &mut [f32], _: &[f32]| {
            gradient.iter_mut().zip(&mask).filter(|(_, masked)| **masked).for_each(|(slope, _)| *slope = 0.0);
        };
        Some(controlled_sgd(lesson, stream, bend, |_, _| ()))
    }

    forge_by_formula!();

    fn backdoor(&self) -> Option<Trigger> {
        Some(self.planted())
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))?;
        check_range(INFO.kind, "top", self.top, (0.0, 1.0))?;
        check_range(INFO.kind, "scale", self.scale, (0.0, 1e30))
    }
}

impl Formula for Neurotoxin {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mut sent: Vec<f64> = own.iter().map(|value| self.scale * value.to_f64()).collect();
        let mask = self.mask(view.previous());
        sent.iter_mut().zip(mask).filter(|(_, masked)| *masked).for_each(|(value, _)| *value = 0.0);
        sent
    }
}
