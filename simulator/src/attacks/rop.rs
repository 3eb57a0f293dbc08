//! An orthogonal perturbation around the point that clipping trusts.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "rop",
    formula: "c + z |mu| (cos(angle) c/|c| + sin(angle) q), c = (1 - pull) mu + pull v, q orthogonal to c",
    summary: "Hides beside the last aggregate and pushes sideways, the same way in every round, where clipping looks least.",
    citation: "Ozfatura et al. 2023, Byzantines can also Learn from History (IEEE TIFS), arXiv 2208.09894",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter { name: "z", default: "1", meaning: "length of the perturbation as a multiple of |mu|, 0 to 1e6" },
        Parameter {
            name: "angle",
            default: "90",
            meaning: "degrees between perturbation and centre, 0 to 180; beyond 90 it also pushes back",
        },
        Parameter { name: "pull", default: "0.9", meaning: "share of the last aggregate in the centre, 0 to 1" },
    ],
};

/// v is the change of the model in the round before (μ in the first round), the point that centred clipping starts from.
/// q is the all-ones vector without its part along c, at unit length: nearly the same in all rounds, so its effect adds
/// up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rop {
    /// Length of the perturbation.
    pub z: f64,
    /// Degrees between perturbation and centre.
    pub angle: f64,
    /// Share of the last aggregate.
    pub pull: f64,
}

impl Default for Rop {
    fn default() -> Self {
        Self { z: 1.0, angle: 90.0, pull: 0.9 }
    }
}

impl Attack for Rop {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, ..Wishes::default() }
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "z", self.z, (0.0, 1e6))?;
        check_range(INFO.kind, "angle", self.angle, (0.0, 180.0))?;
        check_range(INFO.kind, "pull", self.pull, (0.0, 1.0))
    }
}

impl Formula for Rop {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let mean = view.honest_mean(own);
        let centre: Vec<f64> = match view.previous() {
            [] => mean.clone(),
            previous => {
                let mixed = |(mean, last): (&f64, &S)| (1.0 - self.pull) * mean + self.pull * last.to_f64();
                mean.iter().zip(previous).map(mixed).collect()
            }
        };
        let unit = |vector: Vec<f64>| {
            let length = estimate::norm(&vector);
            let divide = |value: f64| if length > 0.0 { value / length } else { 0.0 };
            vector.into_iter().map(divide).collect::<Vec<f64>>()
        };
        let along = unit(centre.clone());
        let share: f64 = along.iter().sum();
        let across = unit(along.iter().map(|along| 1.0 - share * along).collect());
        let (sine, cosine) = sine_and_cosine(self.angle);
        let reach = self.z * estimate::norm(&mean);
        let sent = |((centre, along), across): ((&f64, &f64), &f64)| centre + reach * (cosine * along + sine * across);
        centre.iter().zip(&along).zip(&across).map(sent).collect()
    }
}

/// Sine and cosine of an angle in 0..=180 degrees from its series: the system's library differs between platforms.
fn sine_and_cosine(degrees: f64) -> (f64, f64) {
    let x = (degrees - 90.0) * (std::f64::consts::PI / 180.0);
    // sin(90° + x) = cos x and cos(90° + x) = −sin x, |x| ≤ π/2.
    let (mut cosine, mut sine, mut term) = (0.0, 0.0, 1.0);
    for k in 0..30_u32 {
        match k % 4 {
            0 => cosine += term,
            1 => sine += term,
            2 => cosine -= term,
            _ => sine -= term,
        }
        term *= x / f64::from(k + 1);
    }
    (cosine, -sine)
}
