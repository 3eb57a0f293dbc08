//! Copies an honest client.

use super::prelude::*;

pub(super) const INFO: Info = Info {
    kind: "mimic",
    formula: "x_i of one honest client i",
    summary: "Sends exactly what one honest client sends, so that its data count f times more; bites where data differ.",
    citation: "Karimireddy et al. 2022, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing (ICLR), section 4",
    knowledge: Knowledge::Honest,
    parameters: &[
        Parameter {
            name: "row",
            default: "auto",
            meaning: "number of the copied client among the honest ones in their order; auto: the one furthest along the main direction of their differences",
        },
        Parameter {
            name: "warmup",
            default: "10",
            meaning: "rounds in which auto learns that direction before it settles for one client, 1 to 100000",
        },
    ],
};

/// With `row = "auto"` a direction z follows the honest rows by one power step a round, z ← Σ ⟨z, xᵢ − μ⟩(xᵢ − μ), and the
/// client with the largest ⟨z, xᵢ⟩ is copied; after `warmup` rounds that client is kept. Where nothing is remembered
/// between rounds, the direction is the dominant one of each round.
///
/// Clients are numbered among the honest rows of the round: with partial participation a number is a place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mimic {
    /// Which honest row.
    pub row: Choice<usize>,
    /// Rounds before a client is kept.
    pub warmup: u64,
}

impl Default for Mimic {
    fn default() -> Self {
        Self { row: Choice::AUTO, warmup: 10 }
    }
}

impl Attack for Mimic {
    fn knowledge(&self) -> Knowledge {
        INFO.knowledge
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: true, memory: self.row == Choice::AUTO, ..Wishes::default() }
    }

    forge_by_formula!();

    fn remember(&self, view: &View<'_>, update: &[f32]) -> Vec<f32> {
        if self.row != Choice::AUTO || view.sample().is_empty() {
            return view.memory().to_vec();
        }
        let (direction, chosen) = self.choose(view);
        let mut memory: Vec<f32> = direction.iter().map(|value| *value as f32).collect();
        memory.resize(update.len(), 0.0);
        memory.push(if view.round() >= self.warmup { chosen as f32 } else { -1.0 });
        memory
    }

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "warmup", self.warmup as f64, (1.0, 100_000.0))
    }
}

/// Power steps in a round without memory.
const STEPS: usize = 10;

impl Mimic {
    /// The direction after this round's step, and the row copied.
    fn choose<S: Scalar>(&self, view: &View<'_, S>) -> (Vec<f64>, usize) {
        let rows = view.sample();
        let mean = estimate::mean(rows);
        let kept = match view.memory() {
            [direction @ .., chosen] if direction.len() == mean.len() => Some((direction, *chosen)),
            _ => Option::None,
        };
        let mut direction: Vec<f64> = match kept {
            Some((direction, _)) => direction.iter().map(|value| f64::from(*value)).collect(),
            // Start at the row that differs most.
            Option::None => {
                let far = |row: &Vec<S>| estimate::distance2(row, &mean);
                let furthest = first_maximum(rows.iter().map(far));
                rows[furthest].iter().zip(&mean).map(|(value, mean)| value.to_f64() - mean).collect()
            }
        };
        for _ in 0..if kept.is_some() { 1 } else { STEPS } {
            direction = step(rows, &mean, &direction);
        }
        let chosen = match kept {
            Some((_, chosen)) if chosen >= 0.0 && (chosen as usize) < rows.len() => chosen as usize,
            _ => first_maximum(rows.iter().map(|row| estimate::dot(row, &direction))),
        };
        (direction, chosen)
    }
}

/// One power step, at unit length; the same direction where the rows are all alike.
fn step<S: Scalar>(rows: &[Vec<S>], mean: &[f64], direction: &[f64]) -> Vec<f64> {
    let of_mean = estimate::dot(mean, direction);
    let mut next = vec![0.0; mean.len()];
    for row in rows {
        let share = estimate::dot(row, direction) - of_mean;
        for ((next, value), mean) in next.iter_mut().zip(row).zip(mean) {
            *next += share * (value.to_f64() - mean);
        }
    }
    let length = estimate::norm(&next);
    if length > 0.0 && length.is_finite() {
        next.iter_mut().for_each(|value| *value /= length);
        return next;
    }
    direction.to_vec()
}

fn first_maximum(values: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), better).0
}

impl Formula for Mimic {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], _: &mut Stream) -> Vec<f64> {
        let rows = view.sample();
        let chosen = match (rows.is_empty(), self.row.value()) {
            (true, _) => return own.iter().map(|value| value.to_f64()).collect(),
            (false, Some(row)) => row % rows.len(),
            (false, Option::None) => self.choose(view).1,
        };
        rows[chosen].iter().map(|value| value.to_f64()).collect()
    }
}
