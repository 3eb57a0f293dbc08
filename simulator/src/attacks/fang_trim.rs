//! The directed deviation attack on trimmed mean and median.

use super::prelude::*;
use super::stealth::sign;

pub(super) const INFO: Info = Info {
    kind: "fang_trim",
    formula: "per coordinate beyond the honest extreme against the sign of mu: [min/b, min] or [min*b, min] where mu > 0, likewise max",
    summary: "Sends, in every coordinate, a value just beyond the honest ones on the side the model should not move to.",
    citation: "Fang et al. 2020, Local Model Poisoning Attacks (USENIX Security), section 4.3: against trimmed mean and median",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter { name: "b", default: "2", meaning: "how far beyond, 1 to 1e6" },
        Parameter {
            name: "deterministic",
            default: "false",
            meaning: "true: always the far end instead of a random value up to it",
        },
    ],
};

/// Where μ_c > 0: a uniform value between the least honest value and its multiple by b (negative) or 1/b (positive);
/// where μ_c < 0 the same above the greatest; 0 where μ_c = 0. Each colluder draws its own.
///
/// Without honest updates in sight (the paper's partial knowledge) uniform between μ − 4σ and μ − 3σ, or μ + 3σ and
/// μ + 4σ, of the colluders' own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FangTrim {
    /// How far beyond the extreme.
    pub b: f64,
    /// Whether to send the far end.
    pub deterministic: bool,
}

impl Default for FangTrim {
    fn default() -> Self {
        Self { b: 2.0, deterministic: false }
    }
}

impl Attack for FangTrim {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "b", self.b, (1.0, 1e6))
    }
}

impl Formula for FangTrim {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let rows = view.sample();
        let mean = view.honest_mean(own);
        let mut between = |near: f64, far: f64| {
            if self.deterministic { far } else { near + (far - near) * stream.uniform() }
        };
        if view.honest().is_empty() {
            let deviation = view.honest_deviation(&mean);
            let beyond =
                |(mean, sd): (&f64, &f64)| between(mean - 3.0 * sd * sign(*mean), mean - 4.0 * sd * sign(*mean));
            return mean.iter().zip(&deviation).map(beyond).collect();
        }
        let (mut least, mut greatest) = (vec![f64::INFINITY; mean.len()], vec![f64::NEG_INFINITY; mean.len()]);
        for row in rows {
            for ((least, greatest), value) in least.iter_mut().zip(&mut greatest).zip(row) {
                let value = value.to_f64();
                *least = least.min(value);
                *greatest = greatest.max(value);
            }
        }
        let outward = |extreme: f64, grows: bool| if grows { extreme * self.b } else { extreme / self.b };
        (mean.iter().zip(least.iter().zip(&greatest)))
            .map(|(mean, (&least, &greatest))| match sign(*mean) {
                1.0 => between(least, outward(least, least < 0.0)),
                -1.0 => between(greatest, outward(greatest, greatest > 0.0)),
                _ => 0.0,
            })
            .collect()
    }
}
