//! A round from its first seat to its release.

use crate::{
    TaskSpec,
    job::{Done, Finished, Job, Outcome},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use testudo_aggregate::{BLOCK, Plan, RowReason, RowStatistics, StatisticsTree, Units, Weights};
use testudo_protocol::{
    Abandon, ClientId, Digest, Effect, Input, Model, Phase, Reason, Reject, Round, RoundParams, Seat, Tick, Verdict,
};

/// What the engine keeps of an update; the bytes stay in the spool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UploadMeta {
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// L2 norm.
    pub norm: f64,
    /// Examples, capped by the task.
    pub examples: u64,
}

/// What a driver tells the engine.
#[derive(Debug)]
pub enum EngineInput {
    /// A complete update passed the [`Door`](crate::Door) and lies in the spool.
    Offer {
        /// Whose.
        client: ClientId,
        /// What it is.
        upload: UploadMeta,
    },
    /// The ledger holds the update.
    Recorded {
        /// Whose.
        client: ClientId,
    },
    /// The ledger could not take the update.
    Unrecorded {
        /// Whose.
        client: ClientId,
    },
    /// The update was refused at the door.
    Refuse {
        /// Whose.
        client: ClientId,
        /// Why.
        reject: Reject,
    },
    /// The client leaves the round.
    Withdraw {
        /// Who.
        client: ClientId,
    },
    /// The ledger holds the fixed set of survivors.
    Sealed,
    /// The operator stops the task.
    Stop,
    /// Give the round up for a reason outside the protocol.
    Abandon(Abandon),
    /// Time has passed.
    Tick,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Action {
    /// Write the update to the ledger, then answer `Recorded` or `Unrecorded`.
    Record {
        /// Whose.
        client: ClientId,
        /// What it is.
        upload: UploadMeta,
    },
    /// The update is safe: send its receipt.
    Acknowledge {
        /// To whom.
        client: ClientId,
    },
    /// Write the survivors to the ledger, then answer `Sealed`.
    Seal {
        /// Sorted by id.
        survivors: Vec<ClientId>,
    },
    /// Run the job with its rows' bytes and hand the result to [`Engine::done`].
    Run(Job),
    /// Release the model: the round is over.
    Release(Box<Release>),
    /// Close the round without a model: it is over.
    Abandon {
        /// Why.
        why: Abandon,
        /// Every seat's end.
        seats: Vec<Judgement>,
    },
}

/// A round's result.
#[derive(Debug)]
pub struct Release {
    /// The new model.
    pub model: Model,
    /// Its file.
    pub file: Bytes,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The server optimiser's state vectors.
    pub state: Vec<Vec<f32>>,
    /// L2 norm of the aggregate.
    pub aggregate_norm: f64,
    /// Every seat's end, sorted by client.
    pub seats: Vec<Judgement>,
}

/// One seat's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Who.
    pub client: ClientId,
    /// The verdict.
    pub verdict: Verdict,
    /// Details for people.
    pub detail: String,
    /// Its update, if one was recorded.
    pub upload: Option<UploadMeta>,
    /// The rule's score of the row.
    pub score: Option<f64>,
    /// The row's weight in the aggregate.
    pub weight: Option<f64>,
}

/// One running round.
#[derive(Debug)]
pub struct Engine {
    spec: Arc<TaskSpec>,
    base: Arc<Model>,
    state: Arc<Vec<Vec<f32>>>,
    round: Round,
    uploads: BTreeMap<ClientId, UploadMeta>,
    refusals: BTreeMap<ClientId, String>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Taking updates.
    Input,
    /// Waiting for the ledger to hold the survivors.
    Sealing(Arc<[ClientId]>),
    Observing {
        survivors: Arc<[ClientId]>,
        units: Units,
        tree: StatisticsTree,
        left: usize,
    },
    Combining(Combining),
    Finishing {
        survivors: Arc<[ClientId]>,
        plan: Arc<Plan>,
        trimmed: Vec<u64>,
    },
    Ended,
}

#[derive(Debug)]
struct Combining {
    survivors: Arc<[ClientId]>,
    units: Units,
    plan: Arc<Plan>,
    aggregate: Vec<f32>,
    trimmed: Vec<u64>,
    left: usize,
}

impl Engine {
    /// A round over `base` with the server optimiser's state vectors (empty before the first release).
    pub fn open(spec: Arc<TaskSpec>, base: Arc<Model>, state: Arc<Vec<Vec<f32>>>, params: RoundParams) -> Self {
        let round = Round::open(params);
        Self { spec, base, state, round, uploads: BTreeMap::new(), refusals: BTreeMap::new(), stage: Stage::Input }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`Reject`]: the input was wrong and nothing changed.
    pub fn handle(&mut self, now: Tick, input: EngineInput) -> Result<Vec<Action>, Reject> {
        let input = match input {
            EngineInput::Offer { client, upload } => {
                let digest = upload.digest;
                let effects = self.round.handle(now, Input::Offer { client: client.clone(), digest })?;
                if effects.iter().any(|effect| matches!(effect, Effect::Record { .. })) {
                    self.uploads.insert(client, upload);
                }
                return Ok(self.actions(effects));
            }
            EngineInput::Refuse { client, reject } => {
                let refuse = Input::Refuse { client: client.clone(), reason: reject.reason };
                let effects = self.round.handle(now, refuse)?;
                self.refusals.insert(client, reject.detail);
                return Ok(self.actions(effects));
            }
            EngineInput::Unrecorded { client } => {
                let effects = self.round.handle(now, Input::Unrecorded { client: client.clone() })?;
                self.uploads.remove(&client);
                return Ok(self.actions(effects));
            }
            EngineInput::Sealed => return Ok(self.sealed()),
            EngineInput::Abandon(why) => return Ok(self.abandon(why)),
            EngineInput::Recorded { client } => Input::Recorded { client },
            EngineInput::Withdraw { client } => Input::Withdraw { client },
            EngineInput::Stop if matches!(self.stage, Stage::Input) => Input::Stop,
            EngineInput::Stop => return Ok(self.abandon(Abandon::Stopped)),
            EngineInput::Tick if self.ended() => return Ok(Vec::new()),
            EngineInput::Tick => Input::Tick,
        };
        let effects = self.round.handle(now, input)?;
        Ok(self.actions(effects))
    }

    /// Takes a job's result.
    pub fn done(&mut self, done: Done) -> Vec<Action> {
        match done.0 {
            Outcome::Observed { unit, statistics } => self.observed(unit, statistics),
            Outcome::Combined { unit, aggregate, trimmed } => self.combined(unit, &aggregate, &trimmed),
            Outcome::Finished(finished) => self.finished(*finished),
            Outcome::Failed { detail } => self.abandon(Abandon::Fault { detail }),
        }
    }

    /// Takes up a closing round after a restart: the survivors are those the ledger holds.
    ///
    /// # Errors
    /// [`Reject`] if one of them has no recorded update here.
    pub fn resume_closed(&mut self, survivors: &[ClientId]) -> Result<Vec<Action>, Reject> {
        if let Some(client) = survivors.iter().find(|client| !self.uploads.contains_key(*client)) {
            return Err(Reject::new(Reason::NotFound, format!("no update of survivor {client} in the ledger")));
        }
        // Ends the phases as they ended before the restart, so that the missing clients are dropouts.
        self.round.handle(Tick::MAX, Input::Tick)?;
        self.stage = Stage::Sealing(survivors.into());
        Ok(self.sealed())
    }

    /// When `Tick` is next due.
    pub fn deadline(&self) -> Option<Tick> {
        if self.ended() { None } else { self.round.deadline() }
    }

    /// Where the round stands.
    pub fn phase(&self) -> Phase {
        self.round.phase()
    }

    /// Where a client stands; `None` if it was not selected.
    pub fn seat(&self, client: &ClientId) -> Option<Seat> {
        self.round.seat(client)
    }

    /// An update as it was offered.
    pub fn upload(&self, client: &ClientId) -> Option<&UploadMeta> {
        self.uploads.get(client)
    }

    /// The round's parameters.
    pub fn params(&self) -> &RoundParams {
        self.round.params()
    }

    /// Whether a release or an abandonment was answered.
    pub fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn actions(&mut self, effects: Vec<Effect>) -> Vec<Action> {
        let mut actions = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Record { client, .. } => {
                    let upload = self.uploads[&client];
                    actions.push(Action::Record { client, upload });
                }
                Effect::Acknowledge { client } => actions.push(Action::Acknowledge { client }),
                Effect::Close { survivors } => {
                    self.stage = Stage::Sealing(survivors.clone().into());
                    actions.push(Action::Seal { survivors });
                }
                Effect::Abandon(why) => actions.extend(self.abandon(why)),
            }
        }
        actions
    }

    fn sealed(&mut self) -> Vec<Action> {
        let Stage::Sealing(survivors) = &self.stage else { return Vec::new() };
        let survivors = survivors.clone();
        // Before any job: statistics of more rows than the rule takes could be larger than memory.
        if let Err(error) = self.spec.rule.check(survivors.len()) {
            return self.abandon(Abandon::Rule { detail: error.to_string() });
        }
        let units = match Units::new(self.base.layout().dimension(), unit_length(survivors.len())) {
            Ok(units) => units,
            Err(error) => return self.abandon(Abandon::Fault { detail: error.to_string() }),
        };
        let needs = self.spec.rule.needs();
        if needs.is_nothing() {
            let rows = survivors.len();
            return self.decide(survivors, units, &RowStatistics::unobserved(rows));
        }
        let jobs = units.iter().enumerate();
        let actions =
            jobs.map(|(unit, range)| Action::Run(Job::observe(unit, range, survivors.clone(), needs))).collect();
        let (tree, left) = (StatisticsTree::new(units.count()), units.count());
        self.stage = Stage::Observing { survivors, units, tree, left };
        actions
    }

    fn observed(&mut self, unit: usize, statistics: testudo_aggregate::UnitStatistics) -> Vec<Action> {
        let Stage::Observing { tree, left, .. } = &mut self.stage else { return Vec::new() };
        if let Err(error) = tree.insert(unit, statistics) {
            return self.abandon(Abandon::Fault { detail: error.to_string() });
        }
        *left -= 1;
        if *left > 0 {
            return Vec::new();
        }
        let Stage::Observing { survivors, units, tree, .. } = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return Vec::new();
        };
        match tree.finish() {
            Ok(statistics) => self.decide(survivors, units, &statistics),
            Err(error) => self.abandon(Abandon::Fault { detail: error.to_string() }),
        }
    }

    fn decide(&mut self, survivors: Arc<[ClientId]>, units: Units, statistics: &RowStatistics) -> Vec<Action> {
        // Restored so that an abandonment below is answered, whatever stage we came from.
        self.stage = Stage::Sealing(survivors.clone());
        let weights = match self.spec.examples.weighted {
            true => {
                let examples: Vec<f64> = survivors.iter().map(|client| self.uploads[client].examples as f64).collect();
                Weights::new(&examples)
            }
            false => Weights::equal(survivors.len()),
        };
        let plan = weights
            .map_err(|error| error.to_string())
            .and_then(|weights| self.spec.rule.decide(statistics, &weights).map_err(|error| error.to_string()));
        let plan = match plan {
            Ok(plan) => Arc::new(plan),
            Err(detail) => return self.abandon(Abandon::Rule { detail }),
        };
        let jobs = units.iter().enumerate();
        let actions = jobs.map(|(unit, range)| Action::Run(Job::combine(unit, range, &survivors, &plan))).collect();
        let (aggregate, trimmed) = (vec![0.0; units.dimension()], vec![0; survivors.len()]);
        let left = units.count();
        self.stage = Stage::Combining(Combining { survivors, units, plan, aggregate, trimmed, left });
        actions
    }

    fn combined(&mut self, unit: usize, part: &[f32], counts: &[(usize, u64)]) -> Vec<Action> {
        let Stage::Combining(state) = &mut self.stage else { return Vec::new() };
        let Some(range) = state.units.range(unit) else { return Vec::new() };
        state.aggregate[range].copy_from_slice(part);
        for &(row, count) in counts {
            state.trimmed[row] += count;
        }
        state.left -= 1;
        if state.left > 0 {
            return Vec::new();
        }
        let Stage::Combining(state) = std::mem::replace(&mut self.stage, Stage::Ended) else { return Vec::new() };
        let Combining { survivors, plan, aggregate, trimmed, .. } = state;
        self.stage = Stage::Finishing { survivors, plan, trimmed };
        vec![Action::Run(Job::finish(&self.spec, self.base.clone(), self.state.clone(), aggregate))]
    }

    fn finished(&mut self, finished: Finished) -> Vec<Action> {
        let Stage::Finishing { survivors, plan, trimmed } = &self.stage else { return Vec::new() };
        let verdicts = plan.final_verdicts(trimmed, self.base.layout().dimension());
        let weights = plan.weights();
        let mut seats = self.judge();
        for (row, client) in survivors.iter().enumerate() {
            let Ok(at) = seats.binary_search_by(|seat| seat.client.cmp(client)) else { continue };
            let seat = &mut seats[at];
            seat.verdict = client_verdict(verdicts[row]);
            seat.score = plan.scores.as_ref().map(|scores| scores[row]);
            seat.weight = weights.as_ref().map(|weights| weights[row]);
        }
        let Finished { model, file, digest, state, norm } = finished;
        self.stage = Stage::Ended;
        vec![Action::Release(Box::new(Release { model, file, digest, state, aggregate_norm: norm, seats }))]
    }

    fn abandon(&mut self, why: Abandon) -> Vec<Action> {
        if self.ended() {
            return Vec::new();
        }
        self.stage = Stage::Ended;
        let mut seats = self.judge();
        for seat in &mut seats {
            // An update that was in time but whose round was given up has no verdict to bear.
            if seat.verdict == Verdict::Pending {
                seat.detail = "the round was abandoned".into();
            }
        }
        vec![Action::Abandon { why, seats }]
    }

    /// Every seat as the phases left it; survivors are still pending.
    fn judge(&self) -> Vec<Judgement> {
        let judgement = |(client, seat): (&ClientId, Seat)| {
            let verdict = match seat {
                Seat::Received(_) => Verdict::Pending,
                Seat::Refused(reason) => Verdict::Rejected { reason },
                Seat::Selected | Seat::Recording(_) | Seat::Dropout => Verdict::Dropout,
            };
            let detail = self.refusals.get(client).cloned().unwrap_or_default();
            let upload = matches!(seat, Seat::Received(_)).then(|| self.uploads.get(client).copied()).flatten();
            Judgement { client: client.clone(), verdict, detail, upload, score: None, weight: None }
        };
        self.round.seats().map(judgement).collect()
    }
}

/// Coordinates of a unit: its rows take at most 2 MiB (they then stay in cache), but never less than one block (16 KiB) per row, so that memory
/// does not grow with clients times dimension. The result does not depend on it.
fn unit_length(rows: usize) -> usize {
    const UNIT_BYTES: usize = 2 << 20;
    const LONGEST: usize = 1 << 18;
    let fitting = (UNIT_BYTES / 4 / rows.max(1)).max(1);
    (1 << fitting.ilog2()).clamp(BLOCK, LONGEST)
}

fn client_verdict(verdict: testudo_aggregate::Verdict) -> Verdict {
    use testudo_aggregate::Verdict as Row;
    match verdict {
        Row::Accepted => Verdict::Accepted,
        Row::Clipped { factor } => Verdict::Clipped { factor },
        Row::Trimmed { share } => Verdict::Trimmed { share },
        Row::Rejected { reason } => Verdict::Rejected {
            reason: match reason {
                RowReason::Magnitude => Reason::Magnitude,
                RowReason::NonFinite => Reason::NonFinite,
                _ => Reason::NotSelected,
            },
        },
    }
}

#[cfg(test)]
mod tests;
