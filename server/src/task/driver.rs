//! The actor behind a task: it owns the open round's engine and is the only one that changes it.

use super::{
    Command, CurrentModel, Event, Glance, Services, Slot, exchange,
    journal::Journal,
    sampling::Register,
    supervisor::Salvage,
    waiting::{HeldCall, WaitingRoom},
};
use crate::{
    clock,
    registry::IMPOSTORS,
    store::{Body, Participations, TaskRow, TaskState, UploadRow},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use testudo_engine::{Action, Carry, Engine, EngineInput, Job, Judgement, Release, TaskSpec};
use testudo_proto::{Answer, Assignment, EndedWhy, Masking, NotNowWhy, Receipt};
use testudo_protocol::{
    Abandon, ClientId, Digest, Encoding, Layout, Model, Nonce, Phase, Reason, Reject, RoundParams, Seat, TaskName, Tick,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Pause before the next round after one was given up, so that a task that cannot work does not spin.
pub(super) const ABANDON_PAUSE_MS: Tick = 1000;
/// Pause before the ledger is tried again.
pub(super) const LEDGER_PAUSE_MS: Tick = 5000;
/// Check-ins held per client that a round needs; more are told to come back much later.
const HELD_PER_SEAT: usize = 4;

/// One task's state.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) spec: Arc<TaskSpec>,
    pub(super) services: Services,
    pub(super) row: TaskRow,
    pub(super) model: Arc<Model>,
    /// The model's layout, the same in every round.
    pub(super) layout: Arc<Layout>,
    pub(super) file: bytes::Bytes,
    /// What the task carries from round to round besides its model.
    pub(super) carry: Arc<Carry>,
    /// Who took part in a run of correlated noise; `None` before it was read, and for other tasks.
    pub(super) run: Option<Participations>,
    /// Who registered to be sampled; `None` before it was read, and for other tasks.
    pub(super) register: Option<Register>,
    /// After a failure it is not read again before this.
    pub(super) register_due: Tick,
    pub(super) room: WaitingRoom,
    pub(super) current: Option<Current>,
    /// An abandonment that the ledger could not take, and when to try again. The round and its bytes stay till then.
    pub(super) unwritten: Option<(Tick, Abandon, Vec<Judgement>)>,
    /// A release on its way, and when it leaves.
    pub(super) due: Option<(Tick, Box<Release>)>,
    /// Models of rounds up to this one were looked at for deletion.
    pub(super) forgotten: u64,
    pub(super) not_before: Tick,
    /// How long the latest round took, for pace steering.
    pub(super) typical_ms: Tick,
    /// Where work given away reports, and where the reports arrive.
    pub(super) events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// Updates on their way into the ledger.
    pub(super) recording: TaskTracker,
    /// What is left of a driver that panicked, until the open round is taken up.
    pub(super) salvage: Option<Salvage>,
}

/// The open or closing round.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) opened_at: Tick,
    /// When its survivors were fixed, or taken up as they were fixed before a restart.
    pub(super) closed_at: Tick,
    /// Its step of a run of correlated noise.
    pub(super) step: Option<u64>,
    pub(super) engine: Engine,
    pub(super) nonces: BTreeMap<ClientId, Nonce>,
    pub(super) slots: HashMap<ClientId, Arc<Slot>>,
    pub(super) uploads: HashMap<ClientId, UploadRow>,
    /// Bodies as the jobs see them, fixed when the round closes.
    pub(super) bodies: Arc<HashMap<ClientId, Body>>,
    pub(super) receipts: HashMap<ClientId, Vec<oneshot::Sender<Result<Receipt, Reject>>>>,
    /// What a masked round's machine was told.
    pub(super) journal: Journal,
    /// How far the journal was when the machine came to its phase.
    pub(super) advanced_at: u64,
    /// Clients that wait for the end of a step.
    pub(super) waiting: exchange::WaitingRoom,
    /// Messages of each client that were refused.
    pub(super) refused: HashMap<ClientId, u32>,
    /// Survivors that are fixed, but may not be written before the journal is.
    pub(super) sealing: Option<Vec<ClientId>>,
}

impl Driver {
    pub(crate) fn spec(&self) -> Arc<TaskSpec> {
        self.spec.clone()
    }

    fn glance(&self) -> Glance {
        let opens = self.current.is_none() && self.row.state == TaskState::Running;
        let absent = self.spec.reference.as_ref().filter(|client| opens && !self.room.holds(client));
        let dimension = self.model.layout().dimension() as u64;
        // Who was drawn waits no longer: their number would tell of the sample.
        let checked_in = if self.is_secret() { 0 } else { self.room.len() as u64 };
        Glance { checked_in, dimension, awaited: absent.cloned(), registered: self.registered() }
    }

    /// Runs until shut down or every handle is gone.
    pub(crate) async fn run(&mut self, inbox: &mut mpsc::Receiver<Command>) {
        self.take_up().await;
        if self.is_secret() {
            self.read_register().await;
        }
        if self.is_exposed() {
            tracing::warn!(task = %self.row.name, "opens no round: {IMPOSTORS}");
        }
        loop {
            self.write_register(!inbox.is_empty()).await;
            let looked = clock::now();
            self.maybe_open(looked).await;
            let due = self.next_due(looked);
            let command = tokio::select! {
                command = inbox.recv() => command,
                Some(event) = self.events.1.recv() => {
                    self.returned(event).await;
                    continue;
                }
                () = wait_until(due) => {
                    self.tick().await;
                    continue;
                }
            };
            match command {
                Some(Command::Shutdown { answer }) => {
                    self.room.answer_all(|| Answer::not_now(Duration::from_secs(1), NotNowWhy::Paused));
                    let _ = answer.send(());
                    return;
                }
                Some(command) => self.handle(command).await,
                None => return,
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::CheckIn { client, wait, answer } => self.check_in(client, wait, answer).await,
            Command::Admit { place, digest, answer } => {
                let admission = self.admit(&place, digest);
                let _ = answer.send(admission);
            }
            Command::Offer { place, upload, answer } => self.offer(place, upload, answer).await,
            Command::Exchange { place, message, answer } => self.exchange(place, message, answer).await,
            Command::Refuse { place, reject } => self.refuse(&place, reject).await,
            Command::Withdraw { place, answer } => {
                let result = self.withdraw(&place).await;
                let _ = answer.send(result);
            }
            Command::Model { answer } => {
                let _ = answer.send(CurrentModel { digest: self.row.model, file: self.file.clone() });
            }
            Command::Glance { answer } => {
                self.room.forget_gone();
                let _ = answer.send(self.glance());
            }
            Command::Control { control, answer } => {
                let result = self.control(control).await;
                let _ = answer.send(result);
            }
            Command::Shutdown { .. } => {}
            #[cfg(test)]
            Command::Panic => panic!("a test asked for it"),
        }
    }

    async fn returned(&mut self, event: Event) {
        match event {
            Event::Recorded { round, client, result } => self.recorded(round, client, result).await,
            Event::Journaled { round, upto, result } => self.journaled(round, upto, result).await,
            Event::Done { round, done } => {
                if let Some(current) = self.current.as_mut().filter(|current| current.number == round) {
                    let actions = current.engine.done(done);
                    self.act(actions).await;
                }
            }
        }
    }

    // ---- check-in ----

    async fn check_in(&mut self, client: ClientId, wait: Duration, answer: oneshot::Sender<Answer>) {
        let now = clock::now();
        if let Some(why) = ended(self.row.state) {
            let _ = answer.send(Answer::Ended { why });
            return;
        }
        let mut why = if self.row.state == TaskState::Paused { NotNowWhy::Paused } else { NotNowWhy::Filling };
        if let Some(current) = &self.current {
            match current.engine.seat(&client) {
                Some(Seat::Selected) if takes_part(current, &client) => {
                    let assignment = self.assignment(current, &client);
                    let _ = answer.send(assignment);
                    return;
                }
                Some(_) => why = NotNowWhy::Served,
                None => why = NotNowWhy::Running,
            }
        }
        if let Some(answered) = self.over_limit(&client).await {
            let _ = answer.send(answered);
            return;
        }
        if let Some(answered) = self.enrol(&client).await {
            let _ = answer.send(answered);
            return;
        }
        let expected = self.spec.reference.as_ref() == Some(&client);
        let crowded = !expected && self.room.len() >= HELD_PER_SEAT * self.spec.cohort.selected + 64;
        if wait.is_zero() || crowded {
            let _ = answer.send(Answer::not_now(self.retry_after(why), why));
            return;
        }
        let expires = now + wait.as_millis() as Tick;
        self.room.enter(client, HeldCall { answer, now, expires, why }, self.retry_after(NotNowWhy::Filling));
        self.count_waiting();
    }

    /// Tells the metrics how many wait, unless that tells who was drawn.
    pub(super) fn count_waiting(&self) {
        if !self.is_secret() {
            self.services.metrics.waiting(self.row.name.as_str(), self.room.len());
        }
    }

    pub(super) fn assignment(&self, current: &Current, client: &ClientId) -> Answer {
        let left = current.engine.deadline().unwrap_or(0).saturating_sub(clock::now());
        let announcement = current.engine.announcement().map(|announcement| announcement.to_bytes().into());
        let masking = match (&self.spec.masking, &self.spec.local) {
            (Some(_), _) => Masking::Pairwise,
            (None, Some(_)) => Masking::Noise,
            (None, None) => Masking::None,
        };
        Answer::Assignment(Box::new(Assignment {
            task: self.row.name.clone(),
            round: current.number,
            nonce: current.nonces[client],
            model_digest: self.row.model,
            model_bytes: self.file.len() as u64,
            layout: self.model.layout().clone(),
            time_left: Duration::from_millis(left),
            chunk_bytes: self.services.config.limits.chunk_bytes,
            max_examples: self.spec.examples.max,
            rule: self.spec.rule_config.to_string(),
            masking,
            group_size: self.spec.masking.as_ref().map_or(1, |masking| masking.group_size as u32),
            encodings: self.encodings(),
            announcement: announcement.unwrap_or_default(),
            own_noise: self.own_noise(),
        }))
    }

    /// Encodings that updates may have.
    pub(super) fn encodings(&self) -> Vec<Encoding> {
        match (&self.spec.masking, &self.spec.local) {
            (Some(_), _) => vec![Encoding::Masked],
            (None, Some(_)) => vec![Encoding::Noised],
            (None, None) => self.spec.encodings.clone(),
        }
    }

    // ---- opening ----

    /// When to look again, after having looked at `looked`.
    fn next_due(&self, looked: Tick) -> Option<Tick> {
        let deadline = self.current.as_ref().and_then(|current| current.engine.deadline());
        let opens = self.current.is_none() && self.row.state == TaskState::Running;
        let gathering = match self.is_secret() {
            // Whether somebody waits decides nothing.
            true => opens.then_some(self.not_before),
            false => (opens && self.room.len() > 0)
                .then(|| (self.room.since().unwrap_or(0) + self.spec.cohort.gather_ms).max(self.not_before)),
        };
        let gathering = gathering.filter(|&due| due > looked);
        let unwritten = self.unwritten.as_ref().map(|(due, ..)| *due);
        let leaving = self.due.as_ref().map(|(due, _)| *due);
        let registering = self.register.as_ref().and_then(Register::due);
        [deadline, self.room.next_expiry(), gathering, unwritten, leaving, registering].into_iter().flatten().min()
    }

    async fn tick(&mut self) {
        let now = clock::now();
        if self.room.next_expiry().is_some_and(|expiry| expiry <= now) {
            // Estimated while the room is still full: how many wait is what the estimate is about.
            let [filling, paused, later] =
                [NotNowWhy::Filling, NotNowWhy::Paused, NotNowWhy::Running].map(|why| self.expected_wait(why));
            let mut room = std::mem::take(&mut self.room);
            room.expire(now, |why| {
                self.jittered(match why {
                    NotNowWhy::Filling => filling,
                    NotNowWhy::Paused => paused,
                    _ => later,
                })
            });
            self.room = room;
            self.count_waiting();
        }
        if let Some((due, release)) = self.due.take_if(|(due, _)| *due <= now) {
            self.release(*release, due).await;
            return;
        }
        if let Some((_, why, seats)) = self.unwritten.take_if(|(due, ..)| *due <= now) {
            self.abandon(why, seats).await;
            return;
        }
        if let Some(current) = &self.current
            && current.engine.deadline().is_some_and(|deadline| deadline <= now)
        {
            match self.tell(EngineInput::Tick) {
                Ok(actions) => self.act(actions).await,
                Err(reject) => tracing::error!(%reject, "a tick was refused; this is a bug"),
            }
            self.write_journal();
        }
    }

    /// A round's engine over the task's newest model.
    pub(super) fn engine(&self, number: u64, params: RoundParams, seed: [u8; 32]) -> Engine {
        let (spec, model, carry) = (self.spec.clone(), self.model.clone(), self.carry.clone());
        match self.pairwise(number, &seed, params.cohort()) {
            None => Engine::open(spec, model, carry, params, seed),
            Some(pairwise) => Engine::open_masked(spec, model, carry, params, seed, pairwise),
        }
    }

    // ---- actions ----

    pub(super) async fn act(&mut self, actions: Vec<Action>) {
        let mut queue: std::collections::VecDeque<Action> = actions.into();
        while let Some(action) = queue.pop_front() {
            let more = match action {
                Action::Record { client, .. } => self.record(client),
                Action::Acknowledge { client } => self.acknowledge(&client),
                Action::Advance(phase) => self.advance(phase).await,
                Action::Seal { survivors } => self.seal(survivors).await,
                Action::Run(job) => self.start(job),
                Action::Release(release) => {
                    self.schedule(release).await;
                    return;
                }
                Action::Abandon { why, seats, record } => {
                    if let (Some(current), Some(record)) = (&self.current, &record)
                        && let Err(detail) = self.record_groups(current.number, Some(record)).await
                    {
                        tracing::warn!(task = %self.row.name, detail, "the groups are not in the ledger");
                    }
                    self.abandon(why, seats).await;
                    return;
                }
            };
            queue.extend(more);
        }
    }

    fn record(&mut self, client: ClientId) -> Vec<Action> {
        let Some(current) = &mut self.current else { return Vec::new() };
        let Some(upload) = current.uploads.get(&client).cloned() else { return Vec::new() };
        if !self.services.spool.is_durable() {
            // The bytes would not survive, so the row need not either: it is written when the round ends.
            return self.tell(EngineInput::Recorded { client }).unwrap_or_default();
        }
        let (batcher, task, round) = (self.services.batcher.clone(), self.row.name.clone(), current.number);
        let events = self.events.0.clone();
        let recording = self.recording.track_future(async move { batcher.record(task, round, upload).await });
        tokio::spawn(async move {
            let result = recording.await.map_err(|error| error.to_string());
            let _ = events.send(Event::Recorded { round, client, result }).await;
        });
        Vec::new()
    }

    fn acknowledge(&mut self, client: &ClientId) -> Vec<Action> {
        let Some(current) = &mut self.current else { return Vec::new() };
        let receipt = current.receipt(&self.row.name, client);
        for answer in current.receipts.remove(client).unwrap_or_default() {
            let _ = answer.send(receipt.clone());
        }
        Vec::new()
    }

    pub(super) async fn seal(&mut self, survivors: Vec<ClientId>) -> Vec<Action> {
        let Some(current) = &mut self.current else { return Vec::new() };
        if self.spec.masking.is_some()
            && self.services.spool.is_durable()
            && !current.journal.is_durable(current.journal.position())
        {
            current.sealing = Some(survivors);
            self.write_journal();
            return Vec::new();
        }
        let told = self.spec.cohort.sample.is_none().then_some(survivors.len());
        tracing::debug!(task = %self.row.name, round = current.number, survivors = told, "closing");
        current.closed_at = clock::now();
        let bodies = current.uploads.iter().map(|(client, upload)| (client.clone(), upload.body.clone()));
        current.bodies = Arc::new(bodies.collect());
        let number = current.number;
        let sealed = self.close(number, &survivors).await;
        let Some(current) = &mut self.current else { return Vec::new() };
        let input = match sealed {
            Ok(noise) => {
                noise.give(&mut current.engine);
                EngineInput::Sealed
            }
            Err(detail) => EngineInput::Abandon(Abandon::Fault { detail }),
        };
        current.engine.handle(clock::now(), input).unwrap_or_default()
    }

    pub(super) fn start(&mut self, job: Job) -> Vec<Action> {
        let Some(current) = &self.current else { return Vec::new() };
        let (pool, spool, bodies) = (self.services.pool.clone(), self.services.spool.clone(), current.bodies.clone());
        let (round, events) = (current.number, self.events.0.clone());
        let is_private = self.spec.privacy.is_some();
        tokio::spawn(async move {
            let done = pool.run(job, spool, bodies, is_private).await;
            let _ = events.send(Event::Done { round, done }).await;
        });
        Vec::new()
    }
}

impl Current {
    pub(super) fn new(
        number: u64,
        opened_at: Tick,
        engine: Engine,
        nonces: BTreeMap<ClientId, Nonce>,
        task: &TaskName,
    ) -> Self {
        let slot = |(client, nonce): (&ClientId, &Nonce)| {
            // Keys carry no client names: 16 bytes of a digest tell seats apart, and the nonce keeps them from being guessed.
            let seat = Digest::of(&[&nonce.0[..], client.as_str().as_bytes()].concat()).to_string();
            (client.clone(), Arc::new(Slot::new(format!("{}{}", round_prefix(task, number), &seat[..32]))))
        };
        let slots = nonces.iter().map(slot).collect();
        Self {
            number,
            opened_at,
            closed_at: opened_at,
            step: None,
            engine,
            nonces,
            slots,
            uploads: HashMap::new(),
            bodies: Arc::default(),
            receipts: HashMap::new(),
            journal: Journal::default(),
            advanced_at: 0,
            waiting: exchange::WaitingRoom::default(),
            refused: HashMap::new(),
            sealing: None,
        }
    }

    pub(super) fn receipt(&self, task: &TaskName, client: &ClientId) -> Result<Receipt, Reject> {
        let Some(upload) = self.uploads.get(client) else {
            return Err(Reject::new(Reason::NotFound, "no update of this client is recorded"));
        };
        let (digest, num_examples, received_at_ms) = (upload.digest, upload.examples, upload.at);
        Ok(Receipt { task: task.clone(), round: self.number, digest, num_examples, received_at_ms })
    }
}

/// Whether a selected client that checks in again may still begin its part: in a masked round the process that advertised
/// keys is the only one that knows its secrets.
fn takes_part(current: &Current, client: &ClientId) -> bool {
    match current.engine.phase() {
        Phase::Input => current.engine.announcement().is_none(),
        Phase::AdvertiseKeys => !current.engine.has_advertised(client),
        _ => false,
    }
}

/// Spool keys of a round begin with this.
pub(crate) fn round_prefix(task: &TaskName, number: u64) -> String {
    format!("{task}/{number}/")
}

pub(super) fn ended(state: TaskState) -> Option<EndedWhy> {
    match state {
        TaskState::Running | TaskState::Paused => None,
        TaskState::Finished => Some(EndedWhy::Finished),
        TaskState::Stopped => Some(EndedWhy::Stopped),
        TaskState::Failed => Some(EndedWhy::Failed),
    }
}

/// Until then, or for ever.
async fn wait_until(due: Option<Tick>) {
    match due {
        Some(due) => tokio::time::sleep_until(clock::instant(due)).await,
        None => std::future::pending().await,
    }
}

/// A fault of a dependency is retried with backoff before the round pays for it.
pub(super) async fn with_retries<T, E, F>(mut call: impl FnMut() -> F) -> Result<T, String>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = Duration::from_millis(50);
    for _ in 0..4 {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) => tracing::warn!(%error, "a fault; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 4;
    }
    call().await.map_err(|error| error.to_string())
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
