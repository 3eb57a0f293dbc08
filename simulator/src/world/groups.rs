//! Groups without masks: the rows that masked rounds would give.

use testudo_aggregate::Quantizer;
use testudo_protocol::{Reason, Reject};

use super::uplink::{Message, Stored};
use super::{World, WorldError};
use crate::random::{Purpose, stream};

/// The groups of a round and what came of them.
#[derive(Debug)]
pub(super) struct Grouped {
    /// Members of each group, as drawn.
    pub(super) members: Vec<Vec<usize>>,
    /// One message per group that has survivors; `client` is the group's number.
    pub(super) messages: Vec<Message>,
}

impl World {
    /// Divides the cohort at random into ⌊n/size⌋ groups, whose sizes differ by at most one, and sums their survivors'
    /// updates as under masking: clipped, rounded to levels, added in the ring, divided. An attacker's input is not
    /// clipped: under masking nobody can check it, and only the range of a level bounds it.
    pub(super) fn group(&self, round: u64, cohort: &[usize], messages: Vec<Message>) -> Result<Grouped, WorldError> {
        let plan = &self.scenario.plan;
        let dimension = self.state.model.parameters().len();
        let fail = |detail: String| WorldError::Round { round, detail };
        let (clip, kappa, bits) = plan.masking().ok_or_else(|| fail("the study has no groups".to_owned()))?;
        let quantizer = Quantizer::new(clip, kappa, bits).map_err(|error| fail(error.to_string()))?;
        let kappa = quantizer.kappa();
        // Every vector within ±kappa is shorter than this.
        let boundless = Quantizer::new(kappa * (dimension as f64).sqrt() * 2.0, Some(kappa), bits)
            .map_err(|error| fail(error.to_string()))?;
        let mut order = cohort.to_vec();
        stream(plan.seed, Purpose::Cohort, round, 1).shuffle(&mut order);
        let count = (cohort.len() / plan.visibility.group_size).max(1);
        let members: Vec<Vec<usize>> = (0..count)
            .map(|group| order[group * order.len() / count..(group + 1) * order.len() / count].to_vec())
            .collect();
        let deadline = self.deadline();
        let mut grouped = Vec::new();
        for (number, members) in members.iter().enumerate() {
            let mut sums = vec![0_u32; dimension];
            let mut levels = vec![0_u32; dimension];
            let (mut survivors, mut at) = (0, 0);
            for message in messages.iter().filter(|message| members.contains(&message.client)) {
                let Ok(stored) = &message.stored else { continue };
                if message.at >= deadline || stored.values.len() != dimension {
                    continue;
                }
                let colluder = self.is_colluder(message.client);
                let inside: Vec<f32> = stored.values.iter().map(|value| within(*value, kappa)).collect();
                let (quantizer, values) = if colluder { (boundless, &inside) } else { (quantizer, &stored.values) };
                let mut random = stream(plan.seed, Purpose::Noise, round, message.client as u64);
                let fill = |bytes: &mut [u8]| {
                    bytes
                        .chunks_mut(8)
                        .for_each(|part| part.copy_from_slice(&random.bits().to_le_bytes()[..part.len()]));
                };
                if quantizer.quantize(values, 1.0, fill, &mut levels).is_err() {
                    continue;
                }
                sums.iter_mut().zip(&levels).for_each(|(sum, level)| *sum = sum.wrapping_add(*level));
                survivors += 1;
                at = at.max(message.at);
            }
            let mut values = vec![0.0; dimension];
            let stored = match quantizer.mean(&sums, survivors, &mut values) {
                Ok(()) => Ok(Stored { values, examples: survivors as u64 }),
                Err(_) => Err(Reject::new(Reason::GroupLost, "no member's update arrived")),
            };
            grouped.push(Message { client: number, at, stored });
        }
        grouped.sort_by_key(|message| (message.at, message.client));
        Ok(Grouped { members, messages: grouped })
    }
}

/// The value an attacker gets into a level: NaN becomes the largest.
fn within(value: f32, kappa: f64) -> f32 {
    if value.is_nan() { kappa as f32 } else { value.clamp(-kappa as f32, kappa as f32) }
}
