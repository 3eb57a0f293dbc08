//! `testudo demo --secure`: the same trainings under pairwise masking, and what the server saw.

use super::plan::Plan;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use testudo_client::{Reason, Step};
use testudo_engine::RoundRecord;
use testudo_proto::v1::RoundInfo;
use testudo_simulator::random::{Purpose, stream};

/// How the demo masks.
#[derive(Debug, Clone)]
pub(super) struct Secure {
    pub(super) group_size: usize,
    /// The round of the defended training in which the dropouts vanish.
    pub(super) round: u64,
    /// Who vanishes, and before which step.
    pub(super) dropouts: Vec<(usize, Step)>,
}

/// What left the devices in one round, beside what was in it.
#[derive(Debug, Default)]
pub(super) struct Witness {
    seen: Mutex<Vec<Seen>>,
}

/// One client's input.
#[derive(Debug)]
struct Seen {
    /// Correlation between the update and the words that left the device.
    correlation: f64,
    update: Vec<f32>,
}

/// What the demo says of the server's view.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) record: RoundRecord,
    inputs: usize,
    /// Largest correlation of one input with the update in it.
    largest: f64,
    /// What chance alone exceeds once in a thousand demos.
    chance: f64,
    /// Correlation of the released step with the mean of the honest updates.
    step: f64,
}

impl Secure {
    /// The round of the defended training in which the dropouts vanish, if there are as many.
    const ROUND: u64 = 2;
    /// Clients scale a longer update down to this L2 norm.
    pub(super) const CLIP_L2: f64 = 4.0;
    /// How long each step waits for who vanished.
    pub(super) const STEP_LIMIT_S: f64 = 2.0;

    /// The dropouts are honest clients, spread over the steps.
    pub(super) fn new(plan: &Plan, group_size: usize, dropouts: usize) -> Self {
        let steps = [Step::MaskedInput, Step::Unmask, Step::ShareKeys, Step::Consistency];
        let mut honest: Vec<usize> =
            (0..plan.clients).filter(|&client| plan.population.attack(client).is_none()).collect();
        let mut random = stream(plan.seed, Purpose::Network, Self::ROUND, 0);
        let mut chosen = Vec::new();
        while chosen.len() < dropouts && !honest.is_empty() {
            let at = random.below(honest.len());
            chosen.push((honest.swap_remove(at), steps[chosen.len() % steps.len()]));
        }
        Self { group_size, round: Self::ROUND.min(plan.rounds), dropouts: chosen }
    }

    /// Before which step a client vanishes.
    pub(super) fn leaves(&self, training: &str, round: u64, client: usize) -> Option<Step> {
        let here = training == "defended" && round == self.round;
        let step = || self.dropouts.iter().find(|(dropout, _)| *dropout == client).map(|(_, step)| *step);
        here.then(step).flatten()
    }

    /// Who vanishes, for people; `None` if nobody does.
    pub(super) fn vanishing(&self, plan: &Plan) -> Option<String> {
        let names = |wanted: Step| {
            let here = self.dropouts.iter().filter(|(_, step)| *step == wanted);
            here.map(|(client, _)| plan.name(*client)).collect::<Vec<_>>()
        };
        let steps = [
            (Step::ShareKeys, "sharing keys"),
            (Step::MaskedInput, "its masked input"),
            (Step::Consistency, "signing the survivors, so its input stays in the sum"),
            (Step::Unmask, "unmasking, so its input stays in the sum"),
        ];
        let steps = steps.into_iter().map(|(step, words)| (names(step), words)).filter(|(names, _)| !names.is_empty());
        let parts: Vec<String> = steps.map(|(names, words)| format!("{} before {words}", names.join(", "))).collect();
        (!parts.is_empty()).then(|| format!("vanishing in round {}: {}", self.round, parts.join("; ")))
    }

    /// The sections of `task.toml` that mask.
    pub(super) fn sections(&self) -> String {
        format!(
            "[visibility]\nmasking = \"pairwise\"\ngroup_size = {}\nstep_limit_s = {}\n\n[encoding]\nclip_l2 = {}\nbits = 20\n\n",
            self.group_size,
            Self::STEP_LIMIT_S,
            Self::CLIP_L2
        )
    }

    /// Whether a refusal is what the others' vanishing costs a client.
    pub(super) fn is_expected(reason: Option<Reason>) -> bool {
        matches!(reason, Some(Reason::GroupLost | Reason::Late))
    }
}

impl Witness {
    /// Notes an honest update and the bytes that left in its place.
    pub(super) fn note(&self, update: &[f32], sent: &[u8]) {
        let words: Vec<f64> = sent.as_chunks::<4>().0.iter().map(|word| f64::from(u32::from_le_bytes(*word))).collect();
        let plain: Vec<f64> = update.iter().map(|&value| f64::from(value)).collect();
        let seen = Seen { correlation: correlation(&plain, &words), update: update.to_vec() };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// What the server saw of that round, which moved the model by `step`.
    pub(super) fn view(&self, round: &RoundInfo, step: &[f32]) -> Option<View> {
        let record: RoundRecord = serde_json::from_str(&round.groups).ok()?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let dimension = step.len();
        let mut mean = vec![0.0; dimension];
        for seen in seen.iter() {
            mean.iter_mut().zip(&seen.update).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let moved: Vec<f64> = step.iter().map(|&value| f64::from(value)).collect();
        // Of n independent correlations over d coordinates, each nearly normal with variance 1/d, the largest exceeds
        // this with probability 0.001 (union bound on the normal tail).
        let tail = (2.0 * seen.len().max(1) as f64 / 0.001).ln();
        let chance = (2.0 * tail / dimension as f64).sqrt();
        let largest = seen.iter().map(|seen| seen.correlation.abs()).fold(0.0, f64::max);
        Some(View { record, inputs: seen.len(), largest, chance, step: correlation(&mean, &moved) })
    }
}

impl View {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        let sums: Vec<usize> =
            self.record.groups.iter().filter(|g| g.lost.is_none()).map(|g| g.survivors.len()).collect();
        let (least, most) = (sums.iter().min().copied().unwrap_or(0), sums.iter().max().copied().unwrap_or(0));
        format!(
            "what the server saw in the last round: {} sums of {}, never one client's update. Of {} masked inputs the one \
             most like the update in it correlates {:.3} with it (chance alone: up to {:.3}); the step released from the \
             sums correlates {:.2} with the honest mean.",
            sums.len(),
            if least == most { format!("{most} clients") } else { format!("{least} to {most} clients") },
            self.inputs,
            self.largest,
            self.chance,
            self.step
        )
    }

    /// For programs.
    pub(super) fn object(&self, secure: &Secure, guarantees: &[String], lost: usize) -> Value {
        json!({
            "group_size": secure.group_size,
            "dropouts": secure.dropouts.len(),
            "lost_groups": lost,
            "guarantees": guarantees,
            "sums": self.record.groups.iter().filter(|group| group.lost.is_none()).count(),
            "masked_inputs": self.inputs,
            "largest_correlation": self.largest,
            "chance_correlation": self.chance,
            "step_correlation": self.step,
        })
    }
}

/// Pearson's; 0 where one side does not vary.
fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let count = one.len().min(other.len());
    if count == 0 {
        return 0.0;
    }
    let mean = |values: &[f64]| values[..count].iter().sum::<f64>() / count as f64;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (a, b) in one[..count].iter().zip(&other[..count]) {
        let (a, b) = (a - mean_one, b - mean_other);
        both += a * b;
        first += a * a;
        second += b * b;
    }
    if first > 0.0 && second > 0.0 { both / (first * second).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_of_like_opposite_and_constant_values() {
        let values = [1.0, 2.0, 4.0];
        assert!((correlation(&values, &[10.0, 20.0, 40.0]) - 1.0).abs() < 1e-12);
        assert!((correlation(&values, &[-1.0, -2.0, -4.0]) + 1.0).abs() < 1e-12);
        assert_eq!((correlation(&values, &[3.0; 3]), correlation(&[], &[])), (0.0, 0.0));
    }

    #[test]
    fn an_input_that_is_not_masked_would_show() {
        let update: Vec<f32> = (0..500).map(|at| (at as f32 * 0.7).sin()).collect();
        let plain: Vec<u8> = update.iter().flat_map(|value| (((value + 4.0) * 1000.0) as u32).to_le_bytes()).collect();
        let witness = Witness::default();
        witness.note(&update, &plain);
        let record = RoundRecord {
            session: testudo_protocol::Digest([0; 32]),
            groups: Vec::new(),
            guarantees: Vec::new(),
            accepted_weakness: None,
        };
        let round = RoundInfo { groups: serde_json::to_string(&record).unwrap(), ..RoundInfo::default() };
        let view = witness.view(&round, &update).unwrap();
        assert!(view.largest > 0.99 && view.chance < 0.5 && view.step > 0.99, "{view:?}");
    }
}
