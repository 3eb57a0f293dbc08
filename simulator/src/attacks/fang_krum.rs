//! The directed deviation attack on Krum.

use super::prelude::*;
use super::stealth::sign;

pub(super) const INFO: Info = Info {
    kind: "fang_krum",
    formula: "-lambda * sign(mu), lambda halved until Krum picks it",
    summary: "Moves every coordinate against the honest direction by the largest step with which Krum still chooses it.",
    citation: "Fang et al. 2020, Local Model Poisoning Attacks (USENIX Security), section 4.2",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter {
            name: "threshold",
            default: "1e-5",
            meaning: "smallest lambda tried, 1e-12 to 1; below it that one is sent",
        },
        Parameter {
            name: "spread",
            default: "0.01",
            meaning: "the other colluders lie within this distance of the first, 0 to 1e6",
        },
    ],
};

/// λ starts at min_i Σ_{N_i} ‖xᵢ − x_j‖ / ((n − 2f − 1)√d) + max_i ‖xᵢ‖/√d, N_i the n − f − 2 nearest honest rows, f the
/// declared number of bad clients, and is halved until Krum with the declared f, asked about the honest rows and the
/// real number of colluders, picks the forged row. Without honest updates in sight those of the colluders stand in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FangKrum {
    /// Smallest λ tried.
    pub threshold: f64,
    /// Distance of the other colluders from the first.
    pub spread: f64,
}

impl Default for FangKrum {
    fn default() -> Self {
        Self { threshold: 1e-5, spread: 0.01 }
    }
}

impl Attack for FangKrum {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "threshold", self.threshold, (1e-12, 1.0))?;
        check_range(INFO.kind, "spread", self.spread, (0.0, 1e6))
    }
}

impl Formula for FangKrum {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let rows = view.sample();
        let mean = view.honest_mean(own);
        let signs: Vec<f64> = mean.iter().map(|mean| sign(*mean)).collect();
        let crowd = view.crowd();
        let krum = Krum::new(rows, &signs, crowd.colluding, crowd.declared.max(1));
        let lambda = krum.largest_chosen(self.threshold);
        let mut sent: Vec<f64> = signs.iter().map(|sign| -lambda * sign).collect();
        if view.colluder().index > 0 {
            let reach = self.spread / (sent.len().max(1) as f64).sqrt();
            sent.iter_mut().for_each(|value| *value += stream.uniform_in(-reach, reach));
        }
        sent
    }
}

/// Krum on honest rows and `copies` rows −λs, from distances alone.
struct Krum {
    /// Squared distances among the honest rows.
    among: Vec<Vec<f64>>,
    /// ‖xᵢ‖² and ⟨xᵢ, s⟩.
    rows: Vec<(f64, f64)>,
    /// ‖s‖².
    square: f64,
    dimension: f64,
    copies: usize,
    declared: usize,
}

impl Krum {
    fn new<S: Scalar>(rows: &[Vec<S>], signs: &[f64], copies: usize, declared: usize) -> Self {
        Self {
            among: estimate::distances2(rows),
            rows: rows.iter().map(|row| (estimate::dot(row, row), estimate::dot(row, signs))).collect(),
            square: estimate::dot(signs, signs),
            dimension: signs.len().max(1) as f64,
            copies,
            declared,
        }
    }

    fn neighbours(&self) -> usize {
        (self.rows.len() + self.copies).saturating_sub(self.declared + 2).max(1)
    }

    fn largest_chosen(&self, threshold: f64) -> f64 {
        let mut lambda = self.start();
        while lambda >= threshold && !self.chooses(lambda) {
            lambda /= 2.0;
        }
        lambda.max(threshold)
    }

    fn start(&self) -> f64 {
        let clients = self.rows.len() + self.copies;
        let near = |i: usize| -> f64 {
            let others = self.among[i].iter().enumerate().filter(|(j, _)| *j != i).map(|(_, distance)| distance.sqrt());
            smallest(others.collect(), self.neighbours())
        };
        let least = (0..self.rows.len()).map(near).fold(f64::INFINITY, f64::min).min(f64::MAX);
        let longest = self.rows.iter().map(|(square, _)| square.sqrt()).fold(0.0, f64::max);
        let divisor = clients.saturating_sub(2 * self.declared + 1).max(1) as f64;
        let reach = if self.rows.len() < 2 { 0.0 } else { least / divisor };
        (reach + longest) / self.dimension.sqrt()
    }

    /// Ties go to the forged row: colluders choose their names.
    fn chooses(&self, lambda: f64) -> bool {
        let to = |&(square, along): &(f64, f64)| (square + lambda * (2.0 * along + lambda * self.square)).max(0.0);
        let forged: Vec<f64> = self.rows.iter().map(to).collect();
        let own = forged.iter().copied().chain(std::iter::repeat_n(0.0, self.copies.saturating_sub(1)));
        let score = smallest(own.collect(), self.neighbours());
        (0..self.rows.len()).all(|i| {
            let others = self.among[i].iter().enumerate().filter(|(j, _)| *j != i).map(|(_, distance)| *distance);
            score <= smallest(others.chain(std::iter::repeat_n(forged[i], self.copies)).collect(), self.neighbours())
        })
    }
}

/// The sum of the `count` smallest values.
fn smallest(mut values: Vec<f64>, count: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.iter().take(count).sum()
}
