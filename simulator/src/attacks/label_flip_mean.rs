//! Sends what honest clients would send on reversed labels.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "label_flip_mean",
    formula: "mean of the honest updates trained on y -> classes - 1 - y",
    summary: "Sends the average update of the honest clients as if their labels were reversed; no poisoning of own data can do that.",
    citation: "Allen-Zhu et al. 2021; as in common libraries",
    knowledge: Knowledge::Omniscient,
    parameters: &[],
};

/// The mean of [`View::flipped`](crate::attack::View::flipped); without it the own update, trained honestly.
///
/// For comparison with other libraries only: it reads the honest clients' data, which no attacker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelFlipMean {}

impl Attack for LabelFlipMean {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, flipped: true, ..Wishes::default() }
    }

    forge_by_formula!();
}

impl Formula for LabelFlipMean {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        match view.flipped() {
            [] => own.iter().map(|value| value.to_f64()).collect(),
            rows => estimate::mean(rows),
        }
    }
}
