//! A little is enough: hides within the spread of the honest updates.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "alie",
    formula: "mu - z * sigma, or mu + z * sigma",
    summary: "Sends the honest mean shifted by a few standard deviations in every coordinate, hidden in the spread.",
    citation: "Baruch et al. 2019, A Little Is Enough (NeurIPS), algorithm 3",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter {
            name: "z",
            default: "auto",
            meaning: "standard deviations, -1e30 to 1e30; auto: the largest that a majority supports, from the numbers of clients",
        },
        Parameter { name: "sign", default: "-", meaning: "- for mu - z * sigma, + for mu + z * sigma" },
    ],
};
/// μ − zσ, with z_max = Φ⁻¹((n − f − s)/(n − f)), s = ⌊n/2⌋ + 1 − f, for n rows of which f collude.
///
/// Without honest updates in sight μ and σ are those of the colluders' own honestly trained updates, as in the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alie {
    /// Standard deviations.
    pub z: Choice<f64>,
    /// Which side of the mean.
    pub sign: Sign,
}

impl Default for Alie {
    fn default() -> Self {
        Self { z: Choice::AUTO, sign: Sign::Minus }
    }
}

/// A side of the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// Below it where σ is positive.
    #[serde(rename = "-")]
    Minus,
    /// Above it.
    #[serde(rename = "+")]
    Plus,
}

/// z_max of Baruch et al.: the deviation behind which, with s more honest rows, the f colluders are a majority of `rows`.
/// Negative while f is too small for that to be above the mean. Where colluders are the majority themselves, bounded
/// as if one in a million honest rows lay beyond.
pub fn largest_deviation(rows: usize, colluding: usize) -> f64 {
    let honest = rows.saturating_sub(colluding).max(1) as f64;
    let supporters = (rows / 2 + 1) as f64 - colluding as f64;
    estimate::normal_quantile(((honest - supporters) / honest).clamp(1e-6, 1.0 - 1e-6))
}

impl Attack for Alie {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "z", self.z.value().unwrap_or(0.0), (-1e30, 1e30))
    }
}

impl Formula for Alie {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let crowd = view.crowd();
        let z = self.z.value().unwrap_or_else(|| largest_deviation(crowd.rows, crowd.colluding));
        let z = if self.sign == Sign::Plus { z } else { -z };
        let mean = view.honest_mean(own);
        let deviation = view.honest_deviation(&mean);
        mean.iter().zip(&deviation).map(|(mean, deviation)| mean + z * deviation).collect()
    }
}
