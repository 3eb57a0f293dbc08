//! Taking a task up from the ledger after a start, in whatever phase the last process left it.

use super::{
    Driver, QUEUE, Services,
    driver::{Current, round_prefix},
    supervisor::Salvage,
    waiting::WaitingRoom,
};
use crate::{
    clock,
    store::{RoundRow, RoundState, TaskRow},
};
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};
use testudo_engine::{Carry, EngineInput, TaskSpec, UploadMeta};
use testudo_protocol::{Abandon, Model, Reject, RoundParams, Tick, Verdict};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Longest extension of an open round's deadline after a restart, so that clients can reconnect.
pub(super) const RECONNECT_MS: Tick = 60_000;

impl Driver {
    /// A driver for a task as the ledger has it.
    pub(crate) async fn load(services: Services, row: TaskRow) -> Result<Self, String> {
        let name = row.name.clone();
        let fail = |what: &str, error: &dyn std::fmt::Display| format!("task {name}: {what}: {error}");
        let spec = TaskSpec::new("task.toml", &row.toml).map_err(|error| fail("its specification", &error))?;
        let file = services.blobs.get(&row.model).await.map_err(|error| fail("its model", &error))?;
        let model = read_model(file.clone()).await.map_err(|error| fail("its model", &error))?;
        let carry = match &row.optimizer {
            None => Carry::default(),
            Some(digest) => {
                let bytes = services.blobs.get(digest).await.map_err(|error| fail("its carried state", &error))?;
                Carry::from_bytes(&bytes, model.layout().dimension())
                    .map_err(|error| fail("its carried state", &error))?
            }
        };
        // A little further back than the models that should be left, in case the last process did not get to it.
        let forgotten = row.last_round.saturating_sub(services.config.storage.keep_models + 64);
        Ok(Self {
            spec: Arc::new(spec),
            services,
            row,
            layout: Arc::new(model.layout().clone()),
            model: Arc::new(model),
            file,
            carry: Arc::new(carry),
            run: None,
            register: None,
            register_due: 0,
            room: WaitingRoom::default(),
            current: None,
            unwritten: None,
            due: None,
            forgotten,
            not_before: 0,
            typical_ms: 1000,
            events: mpsc::channel(QUEUE),
            recording: TaskTracker::new(),
            salvage: None,
        })
    }

    /// Goes on with the round the last process, or a driver that panicked, left open, if there is one.
    pub(super) async fn take_up(&mut self) {
        let salvage = self.salvage.take();
        let round = match self.services.store.open_round_of(&self.row.name).await {
            Ok(Some(round)) => round,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(task = %self.row.name, %error, "cannot read the open round");
                // The next attempt needs it as much.
                self.salvage = salvage;
                return;
            }
        };
        tracing::info!(task = %self.row.name, round = round.number, "taking up an open round");
        if let Some(detail) = salvage.as_ref().and_then(Salvage::blames_round) {
            self.give_up(&round, Abandon::Fault { detail }).await;
            return;
        }
        if let Err(detail) = self.rebuild(&round, salvage).await {
            self.give_up(&round, Abandon::Fault { detail }).await;
        }
    }

    async fn rebuild(&mut self, round: &RoundRow, salvage: Option<Salvage>) -> Result<(), String> {
        let now = clock::now();
        let cohort = round.seats.iter().map(|seat| seat.client.clone()).collect();
        let grace = now + self.spec.cohort.phase_limit_ms.min(RECONNECT_MS);
        // A clock that was set back must not make the round longer than a whole one.
        // A masked round's journal was written under its first deadline, which is moved once it is told again.
        let closes_at = match (&self.spec.masking, round.state) {
            (None, RoundState::Open) => round.closes_at.min(now + self.spec.cohort.phase_limit_ms).max(grace),
            _ => round.closes_at,
        };
        let params = match round.secret {
            true => RoundParams::secret(cohort, closes_at),
            false => RoundParams::new(cohort, round.target, round.minimum, closes_at),
        };
        let params = params.map_err(|error| error.to_string())?;
        let engine = self.engine(round.number, params, round.seed);
        let nonces = round.seats.iter().map(|seat| (seat.client.clone(), seat.nonce)).collect();
        let mut current = Current::new(round.number, round.opened_at, engine, nonces, &self.row.name);
        current.step = round.step;
        if let Some(slots) = salvage.as_ref().and_then(|salvage| salvage.slots_of(round.number)) {
            current.slots = slots;
        }
        if !self.services.spool.is_durable() {
            self.current = Some(current);
            let why = match salvage {
                None => Abandon::SpoolLost,
                Some(_) => Abandon::Fault { detail: "a bug of the server, with the spool in memory".into() },
            };
            let actions = self.engine_input(EngineInput::Abandon(why)).map_err(|error| error.to_string())?;
            self.act(actions).await;
            return Ok(());
        }
        if self.spec.masking.is_some() {
            return self.rebuild_masked(round, current).await;
        }
        let mut actions = Vec::new();
        // Every update is offered before the first one counts as recorded: the round must not close on its target
        // before all acknowledged updates are back.
        for (client, upload) in round.seats.iter().filter_map(|seat| Some((&seat.client, seat.upload.as_ref()?))) {
            let meta = UploadMeta { digest: upload.digest, norm: upload.norm, examples: upload.examples };
            current.uploads.insert(client.clone(), upload.clone());
            let offer = EngineInput::Offer { client: client.clone(), upload: meta };
            current.engine.handle(round.opened_at, offer).map_err(|error| error.to_string())?;
        }
        for seat in round.seats.iter().filter(|seat| seat.upload.is_none()) {
            let client = seat.client.clone();
            let input = match seat.verdict {
                Verdict::Rejected { reason } => {
                    EngineInput::Refuse { client, reject: Reject::new(reason, seat.detail.clone()) }
                }
                Verdict::Dropout => EngineInput::Withdraw { client },
                _ => continue,
            };
            actions.extend(current.engine.handle(round.opened_at, input).map_err(|error| error.to_string())?);
        }
        for client in current.uploads.keys().cloned().collect::<Vec<_>>() {
            let recorded = current.engine.handle(round.opened_at, EngineInput::Recorded { client });
            actions.extend(recorded.map_err(|error| error.to_string())?);
        }
        if round.state == RoundState::Closing {
            let survivors = self.services.store.survivors(&self.row.name, round.number).await;
            let survivors = survivors.map_err(|error| error.to_string())?;
            let bodies: HashMap<_, _> =
                current.uploads.iter().map(|(client, upload)| (client.clone(), upload.body.clone())).collect();
            current.bodies = Arc::new(bodies);
            current.closed_at = now;
            self.kept_noise(round.number).await?.give(&mut current.engine);
            actions = current.engine.resume_closed(&survivors).map_err(|error| error.to_string())?;
        }
        self.current = Some(current);
        self.act(actions).await;
        Ok(())
    }

    /// A masked round goes on from its journal.
    async fn rebuild_masked(&mut self, round: &RoundRow, mut current: Current) -> Result<(), String> {
        for seat in &round.seats {
            current.uploads.extend(seat.upload.clone().map(|upload| (seat.client.clone(), upload)));
        }
        self.current = Some(current);
        let actions = self.replay(round).await?;
        let ended = self.current.as_ref().is_none_or(|current| current.engine.ended());
        if ended && actions.is_empty() {
            return Err("its journal leads to its end, but the ledger has it open".into());
        }
        if round.state == RoundState::Closing && actions.is_empty() {
            return Err("its survivors are fixed, but its journal does not lead to them".into());
        }
        self.act(actions).await;
        Ok(())
    }

    async fn give_up(&mut self, round: &RoundRow, why: Abandon) {
        let why = self.told(why);
        tracing::error!(task = %self.row.name, round = round.number, %why, "cannot take the round up");
        self.current = None;
        let written = self.services.store.abandon(&self.row.name, round.number, &why, &[], clock::now()).await;
        if let Err(error) = written {
            // Nothing is deleted that the ledger still counts on; the next attempt to open a round comes back here.
            tracing::error!(task = %self.row.name, %error, "cannot write to the ledger");
            return;
        }
        self.row.abandoned += 1;
        // The round may have given its step back.
        self.run = None;
        let _ = self.services.spool.delete(&round_prefix(&self.row.name, round.number)).await;
    }

    fn engine_input(&mut self, input: EngineInput) -> Result<Vec<testudo_engine::Action>, Reject> {
        match &mut self.current {
            Some(current) => current.engine.handle(clock::now(), input),
            None => Ok(Vec::new()),
        }
    }
}

/// Off the runtime: a large model takes seconds.
async fn read_model(file: Bytes) -> Result<Model, String> {
    let read = tokio::task::spawn_blocking(move || Model::from_safetensors(&file)).await;
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
