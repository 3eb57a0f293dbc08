//! The same round without jobs, bytes and model files: rows straight into the aggregation algebra. A test holds that
//! models, carried state and verdicts are those of the engine, bit for bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use testudo_aggregate::{Inputs, RowReason, Verdict as RowVerdict, Weights, aggregate_inputs, first_non_finite};
use testudo_engine::Carry;
use testudo_protocol::{Abandon, Model, Reason, Verdict};

use super::{Ending, Play, rule_seed};
use crate::world::World;
use crate::world::uplink::Stored;

impl World {
    pub(super) fn direct(&self, play: Play<'_>) -> Ending {
        let (target, minimum, deadline) = (play.params.target(), play.params.minimum(), play.params.deadline());
        let seats = play.params.cohort().iter().map(|name| (self.numbers[name], Verdict::Dropout));
        let mut ending = Ending {
            model: None,
            carry: Arc::clone(&self.state.carry),
            verdicts: seats.collect(),
            scores: BTreeMap::new(),
            abandoned: None,
        };
        let mut taken: BTreeMap<usize, Stored> = BTreeMap::new();
        for message in play.messages.into_iter().filter(|message| message.at < deadline) {
            if taken.len() >= target {
                break;
            }
            match message.stored {
                Ok(stored) => {
                    ending.verdicts.insert(message.client, Verdict::Pending);
                    taken.insert(message.client, stored);
                }
                Err(reject) => {
                    ending.verdicts.insert(message.client, Verdict::Rejected { reason: reason_of(&reject) });
                }
            }
        }
        if taken.len() < minimum {
            let why = Abandon::TooFewUpdates { received: taken.len(), minimum };
            ending.abandoned = Some(why.to_string());
            return ending;
        }
        let seed = rule_seed(&play.seed);
        if let Err(why) = self.aggregate(&play.base, &taken, seed, &mut ending) {
            ending.abandoned = Some(why);
        }
        ending
    }

    /// Rule and optimiser over the rows taken, in the order of their clients.
    fn aggregate(
        &self,
        base: &Model,
        taken: &BTreeMap<usize, Stored>,
        seed: u64,
        ending: &mut Ending,
    ) -> Result<(), String> {
        let task = &self.scenario.task;
        let carry = &self.state.carry;
        let (rule, _) = task.rule_for(taken.len());
        let rule = rule.as_ref();
        let rows: Vec<&[f32]> = taken.values().map(|stored| stored.values.as_slice()).collect();
        let claims: Option<Vec<f64>> =
            task.examples.weighted.then(|| taken.values().map(|stored| stored.examples as f64).collect());
        if let Some(claims) = &claims {
            Weights::for_rule(rule, claims).map_err(|error| error.to_string())?;
        }
        let zeros;
        let extras: Vec<&[f32]> = match (rule.needs().extras.last_aggregate, &carry.last_aggregate) {
            (false, _) => Vec::new(),
            (true, Some(last)) => vec![last.as_slice()],
            (true, None) => {
                zeros = vec![0.0; base.parameters().len()];
                vec![zeros.as_slice()]
            }
        };
        let inputs = Inputs {
            extras: &extras,
            weights: claims.as_deref(),
            seed,
            memory: carry.memory.first().copied().flatten(),
            ..Inputs::new(&rows)
        };
        let aggregate = aggregate_inputs(rule, &inputs).map_err(|error| error.to_string())?;
        if let Some(why) = aggregate.degenerate {
            return Err(why);
        }
        let mut parameters = base.parameters().to_vec();
        let mut state = carry.optimizer.clone();
        if state.is_empty() {
            let start = |index| vec![task.optimizer.initial_state(index) as f32; parameters.len()];
            state = (0..task.optimizer.state_vectors()).map(start).collect();
        }
        let mut vectors: Vec<&mut [f32]> = state.iter_mut().map(Vec::as_mut_slice).collect();
        task.optimizer
            .apply_unit(&mut parameters, &aggregate.output, &mut vectors)
            .map_err(|error| error.to_string())?;
        if state.iter().any(|vector| first_non_finite(vector).is_some()) {
            return Err("the server optimiser's state is no longer finite".to_owned());
        }
        let model = base.with_parameters(parameters).map_err(|error| error.to_string())?;
        for (row, (&client, verdict)) in taken.keys().zip(&aggregate.verdicts).enumerate() {
            ending.verdicts.insert(client, client_verdict(*verdict));
            if let Some(scores) = &aggregate.scores {
                ending.scores.insert(client, scores[row]);
            }
        }
        let last_aggregate = rule.needs().extras.last_aggregate.then(|| Arc::new(aggregate.output));
        let memory = vec![aggregate.memory];
        ending.carry = Arc::new(Carry { optimizer: state, last_aggregate, memory, ..Carry::default() });
        ending.model = Some(Arc::new(model));
        Ok(())
    }
}

fn reason_of(reject: &testudo_protocol::Reject) -> Reason {
    reject.reason
}

fn client_verdict(verdict: RowVerdict) -> Verdict {
    match verdict {
        RowVerdict::Accepted => Verdict::Accepted,
        RowVerdict::Clipped { factor } => Verdict::Clipped { factor },
        RowVerdict::Trimmed { share } => Verdict::Trimmed { share },
        RowVerdict::Rejected { reason } => Verdict::Rejected {
            reason: match reason {
                RowReason::Magnitude => Reason::Magnitude,
                RowReason::NonFinite => Reason::NonFinite,
                _ => Reason::NotSelected,
            },
        },
    }
}
