//! Trains on the labels the current model finds least likely.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "label_flip_dynamic",
    formula: "update trained on y -> least likely class of the current model",
    summary: "Trains on the label that the current model finds least likely for each example, then behaves honestly.",
    citation: "Shejwalkar et al. 2022, Back to the Drawing Board (IEEE S&P), section 4",
    knowledge: Knowledge::Colluders,
    parameters: &[Parameter {
        name: "fraction",
        default: "1",
        meaning: "share of the examples that is relabelled, the same ones in every round; 0 to 1",
    }],
};

/// Relabels anew in every round, with the released model. Of classes equally unlikely the lowest; an example whose scores
/// are not finite keeps its label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelFlipDynamic {
    /// Share of the examples that is relabelled.
    pub fraction: f64,
}

impl Default for LabelFlipDynamic {
    fn default() -> Self {
        Self { fraction: 1.0 }
    }
}

impl Attack for LabelFlipDynamic {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { poison_each_round: true, ..Wishes::default() }
    }

    fn poison_round(
        &self,
        _: Colluder,
        lesson: &Lesson<'_>,
        data: &mut Dataset,
        stream: &mut Stream,
    ) -> Result<(), AttackError> {
        let scores = lesson.workload.scores(lesson.model, data);
        let classes = data.classes();
        if scores.len() != data.len() * classes {
            return Ok(());
        }
        let relabelled = data.relabel(|row, label| {
            let own = &scores[row * classes..(row + 1) * classes];
            let chosen = stream.uniform() < self.fraction;
            if chosen && own.iter().all(|score| score.is_finite()) { first_minimum(own) } else { label }
        });
        relabelled.map_err(|error| AttackError::Parameter {
            kind: INFO.kind,
            parameter: "fraction",
            value: self.fraction.to_string(),
            fix: error.to_string(),
        })
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "fraction", self.fraction, (0.0, 1.0))
    }
}

impl Formula for LabelFlipDynamic {}

fn first_minimum(values: &[f32]) -> usize {
    let better = |best: usize, next: usize| if values[next] < values[best] { next } else { best };
    (0..values.len()).reduce(better).unwrap_or(0)
}
