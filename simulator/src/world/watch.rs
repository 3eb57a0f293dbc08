//! Clients watched by a detector, beside the rule.

use std::collections::BTreeMap;

use testudo_protocol::Verdict;

use super::measure::Standing;
use super::uplink::Message;
use super::{Ending, World};
use crate::detection::ladder::Level;
use crate::detection::{Round, Seen};

impl World {
    /// The updates that reach the server in time, by client; nothing if nobody is watched.
    pub(super) fn recorded(&self, messages: &[Message]) -> BTreeMap<usize, Vec<f32>> {
        if self.state.detector.is_none() {
            return BTreeMap::new();
        }
        let deadline = self.deadline();
        (messages.iter().filter(|message| message.at < deadline))
            .filter_map(|message| Some((message.client, message.stored.as_ref().ok()?.values.clone())))
            .collect()
    }

    /// Shows the round to the detector, then adds the updates to the clients' histories.
    pub(super) fn watch(
        &mut self,
        round: u64,
        cohort: &[usize],
        ending: &Ending,
        recorded: &BTreeMap<usize, Vec<f32>>,
    ) {
        let (Some(settings), Some(mut detector)) = (self.scenario.plan.detection, self.state.detector.take()) else {
            return;
        };
        let verdict = |client: &usize| ending.verdicts.get(client).copied().unwrap_or(Verdict::Dropout);
        let seen: Vec<Seen<'_>> = (cohort.iter())
            .map(|client| Seen {
                client: *client,
                update: recorded.get(client).map(Vec::as_slice),
                history: &self.state.histories[*client],
                verdict: verdict(client),
            })
            .collect();
        let task = &self.scenario.task;
        let every = match settings.every {
            // What momentum carries over from round to round would count again and again.
            0 => (1.0 / (1.0 - self.scenario.plan.training.momentum)).round().max(1.0) as u64,
            every => every,
        };
        let told = Round {
            number: round,
            seed: self.scenario.plan.seed,
            every,
            declared: task.rule.byzantine(),
            least: task.cohort.minimum,
        };
        detector.observe(&settings, &told, &seen);
        self.state.detector = Some(detector);
        for (&client, update) in recorded {
            let history = &mut self.state.histories[client];
            history.resize(update.len(), 0.0);
            history.iter_mut().zip(update).for_each(|(sum, value)| *sum += value);
        }
    }

    /// How many clients the detector has found so far.
    pub(super) fn standing(&self) -> Option<Standing> {
        let detector = self.state.detector.as_ref()?;
        let mut standing = Standing::default();
        let mut delays = Vec::new();
        let start = self.scenario.plan.adversary.schedule.start;
        for (client, dossier) in detector.dossiers().iter().enumerate() {
            let colluder = self.is_colluder(client);
            let side = if colluder { &mut standing.colluders } else { &mut standing.honest };
            side.clients += 1;
            side.flagged += u64::from(dossier.flagged.is_some());
            side.quarantined += u64::from(dossier.level == Level::Quarantine);
            if let Some(flagged) = dossier.flagged.filter(|_| colluder) {
                delays.push(flagged.saturating_sub(start) as f64 + 1.0);
            }
        }
        standing.delay = (!delays.is_empty()).then(|| crate::attack::estimate::median(delays));
        Some(standing)
    }
}
