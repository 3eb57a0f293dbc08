//! The ledger: what must survive a crash, in verbs of the use case.
//!
//! Each verb is one transaction that also writes its audit event; a call that changes nothing (a repeated one) writes
//! none. A backend is one file in `store/` and one arm in [`open`]; it must pass [`conformance`]. Bytes of updates and
//! models live in the [spool](crate::spool) and in [blobs](crate::blobs); a ledger row that names them is written only
//! after they are durable.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, sync::Arc};
use testudo_privacy::budget::{Charge, Entry, Exhausted};
use testudo_protocol::{Abandon, ClientId, Digest, Nonce, Reason, TaskName, Tick, Verdict};

pub mod batch;
pub mod budget;
pub mod conformance;
mod sqlite;

pub use batch::Batcher;
pub use budget::{AccountRow, Participations, PlanRow, PrivacyPlan, RunNoise};

/// Opens the ledger that a location names.
///
/// # Errors
/// [`StoreError`] if it cannot be opened, is in use by another process, or has a newer schema.
pub async fn open(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Memory => Ok(Arc::new(sqlite::Sqlite::in_memory().await?)),
        Location::File(path) => Ok(Arc::new(sqlite::Sqlite::open(path).await?)),
    }
}

/// Every budget in a ledger's file with its charges, sorted by population, and number and hash of the newest charges
/// that the file `budget.head` beside it knows. Takes no lock and changes nothing: a server may have it open.
///
/// # Errors
/// [`StoreError::Backend`] if it cannot be read.
pub async fn read_budgets(
    path: &std::path::Path,
) -> Result<(Vec<(AccountRow, Vec<Entry>)>, Option<Heads>), StoreError> {
    sqlite::offline::read(path).await
}

/// Number and hash of the newest charge, by population.
pub type Heads = std::collections::BTreeMap<String, (u64, [u8; 32])>;

/// Where a ledger lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Gone with the process (demo, tests).
    Memory,
    /// A SQLite file.
    File(PathBuf),
}

/// Why a ledger call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The row is there already, with another content.
    #[error("{what} already exists")]
    Exists {
        /// Which row.
        what: String,
    },
    /// The row is not there.
    #[error("{what} not found")]
    NotFound {
        /// Which row.
        what: String,
    },
    /// The state does not allow the change; nothing was changed.
    #[error("{what} is {state}")]
    WrongState {
        /// Which row.
        what: String,
        /// The state it is in.
        state: String,
    },
    /// The privacy budget does not hold it; nothing was changed. For a round, the figures are those of its task's plan.
    #[error(transparent)]
    Exhausted(Box<Exhausted>),
    /// A private round would be charged otherwise than its task was planned: by this program, the task's noise is another
    /// than the one that is paid for. Nothing was changed, and trying again does not help.
    #[error(
        "{what} would be charged otherwise than its task was planned ({difference}): the task goes on only with the program \
         that created it; create it anew for what is left"
    )]
    OffPlan {
        /// Which round.
        what: String,
        /// What is asked for and what is planned.
        difference: String,
    },
    /// A noise seed was sealed with a key that is lost: what needs it can only be given up.
    #[error("{what} was sealed with another key than that in noise.key")]
    KeyLost {
        /// Which seed.
        what: String,
    },
    /// The backend failed; the result of a write is unknown.
    #[error("ledger: {0}")]
    Backend(String),
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Opens rounds by itself.
    Running,
    /// Opens no round; the open one goes on.
    Paused,
    /// All rounds are released.
    Finished,
    /// Ended by the operator.
    Stopped,
    /// Ended by us, with a reason.
    Failed,
}

impl TaskState {
    /// The word in the ledger and on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Where a round stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundState {
    /// Takes updates.
    Open,
    /// The survivors are fixed; the aggregate is being computed.
    Closing,
    /// Its model is released.
    Released,
    /// Given up; the model stayed as it was.
    Abandoned,
}

impl RoundState {
    /// The word in the ledger and on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Released => "released",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A task to be created.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its name, unique.
    pub name: TaskName,
    /// The text of task.toml, kept as it came.
    pub toml: String,
    /// SHA-256 of the initial model file, already in the blobs.
    pub model: Digest,
    /// What its releases will cost, and whom. `None`: a task without differential privacy.
    pub privacy: Option<PrivacyPlan>,
    /// When.
    pub at: Tick,
}

/// A task as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// Its name.
    pub name: TaskName,
    /// The text of task.toml.
    pub toml: String,
    /// Where it stands.
    pub state: TaskState,
    /// Why it stopped or failed.
    pub why: String,
    /// The initial model.
    pub initial: Digest,
    /// The newest released model; the initial one before the first release.
    pub model: Digest,
    /// The server optimiser's state belonging to `model`, if it has any.
    pub optimizer: Option<Digest>,
    /// Number of the newest round; 0 before the first.
    pub last_round: u64,
    /// Rounds released.
    pub released: u64,
    /// Rounds abandoned.
    pub abandoned: u64,
    /// When it was created.
    pub created_at: Tick,
}

/// A round to be opened, with a seat for every selected client.
#[derive(Debug, Clone)]
pub struct NewRound {
    /// Its task.
    pub task: TaskName,
    /// Its number: the task's `last_round + 1`.
    pub number: u64,
    /// The model it starts from.
    pub base: Digest,
    /// Seed of the cohort's selection.
    pub seed: [u8; 32],
    /// Updates that close it early.
    pub target: usize,
    /// Fewest updates for a release.
    pub minimum: usize,
    /// When.
    pub opened_at: Tick,
    /// When it stops taking updates.
    pub closes_at: Tick,
    /// The cohort: each client and the nonce of its seat.
    pub cohort: Vec<(ClientId, Nonce)>,
    /// What its release will cost, reserved before clients train.
    pub reserve: Option<Charge>,
    /// Which step of its task's correlated run it is, counted from 1; `None` for other tasks.
    pub step: Option<u64>,
}

/// Where the payload of an update lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In the ledger itself: small updates would otherwise cost a file and its fsync each.
    Inline(Bytes),
    /// In the spool, as consecutive parts.
    Parts {
        /// The spool's key prefix.
        key: String,
        /// Offset and length of each part, in order, without gaps.
        parts: Vec<(u64, u64)>,
    },
}

/// An update that passed every check at the door.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadRow {
    /// Whose.
    pub client: ClientId,
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// Where the payload lies.
    pub body: Body,
    /// L2 norm.
    pub norm: f64,
    /// Examples, capped by the task.
    pub examples: u64,
    /// When it was complete.
    pub at: Tick,
}

/// One client's part in a round, as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeatRow {
    /// Who.
    pub client: ClientId,
    /// Proof of its place.
    pub nonce: Nonce,
    /// What became of it so far: [`Verdict::Pending`] until the round ends or a refusal.
    pub verdict: Verdict,
    /// Details of a refusal or rejection, for people.
    pub detail: String,
    /// Its update, once recorded. The body is dropped when the round ends; where it was dropped or not asked for, it
    /// is an empty [`Body::Inline`].
    pub upload: Option<UploadRow>,
    /// The rule's score, where it has one.
    pub score: Option<f64>,
    /// The row's weight in the aggregate, where the rule has weights.
    pub weight: Option<f64>,
}

/// A round as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundRow {
    /// Its task.
    pub task: TaskName,
    /// Its number, from 1.
    pub number: u64,
    /// Where it stands.
    pub state: RoundState,
    /// Why it was abandoned.
    pub why: String,
    /// The model it started from.
    pub base: Digest,
    /// The model it released.
    pub model: Option<Digest>,
    /// Seed of the cohort's selection.
    pub seed: [u8; 32],
    /// Updates that close it early.
    pub target: usize,
    /// Fewest updates for a release.
    pub minimum: usize,
    /// When it opened.
    pub opened_at: Tick,
    /// When it stops taking updates.
    pub closes_at: Tick,
    /// When it was released or abandoned.
    pub ended_at: Option<Tick>,
    /// L2 norm of the aggregate.
    pub aggregate_norm: Option<f64>,
    /// Figures that explain the rule's decision.
    pub notes: Vec<(String, f64)>,
    /// The groups of a masked round and what it promised, as JSON; empty in clear mode.
    pub groups: String,
    /// Which step of its task's correlated run it is.
    pub step: Option<u64>,
    /// Clients selected; also the length of `seats` where they are loaded.
    pub selected: u64,
    /// Clients per kind of verdict.
    pub counts: Counts,
    /// Every seat, sorted by client; empty in listings.
    pub seats: Vec<SeatRow>,
}

/// How many clients of a round got which kind of verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Updates recorded.
    pub received: u64,
    /// Accepted, clipped or trimmed.
    pub accepted: u64,
    /// Rejected at the door or by the rule.
    pub rejected: u64,
    /// Selected without an update.
    pub dropouts: u64,
}

/// One client's end of a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Who.
    pub client: ClientId,
    /// Its final verdict.
    pub verdict: Verdict,
    /// Details for people.
    pub detail: String,
    /// Digest, norm and examples of its update, for seats whose upload was never recorded one by one.
    pub upload: Option<(Digest, f64, u64)>,
    /// The rule's score.
    pub score: Option<f64>,
    /// The row's weight.
    pub weight: Option<f64>,
}

/// The end of a round that released a model.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its task.
    pub task: TaskName,
    /// Its number.
    pub number: u64,
    /// The released model, already in the blobs.
    pub model: Digest,
    /// The server optimiser's state, already in the blobs.
    pub optimizer: Option<Digest>,
    /// L2 norm of the aggregate.
    pub aggregate_norm: f64,
    /// Figures that explain the rule's decision, all finite.
    pub notes: Vec<(String, f64)>,
    /// Every seat's end.
    pub seats: Vec<Judged>,
    /// Whether this was the task's last round: the task is then finished in the same transaction.
    pub finishes: bool,
    /// Whether it spends the round's reservation. Must be so exactly if the round has one.
    pub charged: bool,
    /// When.
    pub at: Tick,
}

/// A client as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow {
    /// Who.
    pub client: ClientId,
    /// First check-in.
    pub first_seen: Tick,
    /// Latest check-in.
    pub last_seen: Tick,
    /// What became of its seats.
    pub counts: Counts,
}

/// A recorded change.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Position, from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub at: Tick,
    /// Which verb.
    pub kind: String,
    /// The task, if any.
    pub task: String,
    /// What changed, as JSON.
    pub body: String,
}

/// The ledger.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// What it is, for `doctor`: for example `sqlite (WAL, synchronous FULL)`.
    fn describe(&self) -> String;

    /// Creates a task in state running, and plans its charges.
    ///
    /// `Exists` if the name is taken, whatever the content. The first task of a population makes its account; a later
    /// one with another ε or δ is `WrongState`, as is an impossible figure; a plan that does not fit beside everything
    /// spent and promised is `Exhausted`.
    async fn create_task(&self, task: NewTask) -> Result<(), StoreError>;

    /// Every task, oldest first.
    async fn tasks(&self) -> Result<Vec<TaskRow>, StoreError>;

    /// One task. `NotFound` if it is not there.
    async fn task(&self, name: &TaskName) -> Result<TaskRow, StoreError>;

    /// Moves a task between running, paused, stopped and failed.
    ///
    /// `WrongState` once it is finished, stopped or failed (asking for the state it is in is fine), and for
    /// [`TaskState::Finished`], which only a release brings about.
    async fn set_task_state(&self, name: &TaskName, state: TaskState, why: &str, at: Tick) -> Result<(), StoreError>;

    /// Opens the next round with its seats.
    ///
    /// `WrongState` unless the task is running, no round of it is open or closing, the number is the next one and the
    /// base is the task's newest model; `Exists` if the cohort names a client twice. A round of a task with a plan needs
    /// a reservation and no other round may have one (`WrongState`); one that does not fit is `Exhausted`.
    ///
    /// A round of a correlated run is its next step (`WrongState`), within the plan (`Exhausted`), and names nobody who has
    /// taken part too often or too recently (`WrongState`): see [`Store::participations`].
    async fn open_round(&self, round: NewRound) -> Result<(), StoreError>;

    /// The open or closing round of a task with its seats and bodies, if there is one.
    async fn open_round_of(&self, task: &TaskName) -> Result<Option<RoundRow>, StoreError>;

    /// Records updates of an open round in one transaction; one result each, so one bad row does not spoil the others.
    ///
    /// The same digest again is fine; another digest is `Exists`; a client without a seat is `NotFound`; a seat with a
    /// refusal or a round that is not open is `WrongState`. A norm that is not finite, or a number of 2^63 or more, is
    /// `Backend`. If the transaction as a whole fails, every row gets that error.
    async fn record_uploads(&self, uploads: Vec<(TaskName, u64, UploadRow)>) -> Vec<Result<(), StoreError>>;

    /// Records that a client's update was refused at the door, or that it left (`Verdict::Dropout`).
    ///
    /// `WrongState` if its update is recorded, the round is not open, or the verdict is any other; the same verdict
    /// again is fine.
    async fn record_refusal(
        &self,
        task: &TaskName,
        round: u64,
        client: &ClientId,
        verdict: Verdict,
        detail: &str,
        at: Tick,
    ) -> Result<(), StoreError>;

    /// Appends to what the machine of an open masked round was told, as JSON; `first` is the number of the first body,
    /// counted from 0 without gaps. Kept until the round ends. No audit event: this is a journal, not a change.
    ///
    /// `WrongState` unless the round is open and `first` is the next number; the last bodies again are fine.
    async fn append_inputs(&self, task: &TaskName, round: u64, first: u64, bodies: &[String])
    -> Result<(), StoreError>;

    /// Everything [`Store::append_inputs`] was given for a round, in order.
    async fn inputs(&self, task: &TaskName, round: u64) -> Result<Vec<String>, StoreError>;

    /// Records the groups of an open or closing masked round, as JSON, in place of what was recorded before.
    ///
    /// `WrongState` once the round has ended.
    async fn record_groups(&self, task: &TaskName, round: u64, groups: &str, at: Tick) -> Result<(), StoreError>;

    /// Fixes the survivors, once: their client ids, sorted. Closing again with the same survivors is fine, with others
    /// is `WrongState`. Every survivor must have a seat. Seats without update stay pending until the end.
    ///
    /// Keeps the seed of the round's noise, sealed, until the round ends, and returns the one that is kept: the first
    /// one, whatever later calls bring. From here a reservation cannot be given back.
    async fn close_round(
        &self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
        noise_seed: Option<[u8; 32]>,
        at: Tick,
    ) -> Result<Option<[u8; 32]>, StoreError>;

    /// The seed fixed by [`Store::close_round`]; `None` before, after the round's end, and where there was none.
    ///
    /// `KeyLost` if it was sealed with a key that is lost: the round can then only be abandoned.
    async fn noise_seed(&self, task: &TaskName, round: u64) -> Result<Option<[u8; 32]>, StoreError>;

    /// [`Store::close_round`] for a step of a correlated run: keeps what it sums until the task ends, the first time it is
    /// told, and returns what draws the step's noise.
    async fn close_step(
        &self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
        manifest: [u8; 32],
        at: Tick,
    ) -> Result<RunNoise, StoreError>;

    /// What draws the noise of a closing step; `None` before and after, and for other rounds.
    ///
    /// `KeyLost` if the run's seed cannot be opened any more: the round can then only be abandoned.
    async fn step_noise(&self, task: &TaskName, round: u64) -> Result<Option<RunNoise>, StoreError>;

    /// Who took part in a task's correlated run so far, and its next step; `None` for other tasks.
    ///
    /// Whoever had a seat took part, whatever came of it, unless the round was given back. `KeyLost` if the task goes on
    /// and its run's seed cannot be opened any more: no step can be noised.
    async fn participations(&self, task: &TaskName) -> Result<Option<Participations>, StoreError>;

    /// The survivors fixed by [`Store::close_round`]; empty before.
    async fn survivors(&self, task: &TaskName, round: u64) -> Result<Vec<ClientId>, StoreError>;

    /// Releases a closing round: verdicts, model and the task's new state in one transaction. Bodies are dropped.
    ///
    /// `WrongState` unless the round is closing; releasing again with the same model is fine. Every recorded update
    /// needs a verdict that is not pending (`WrongState`); a seat without update that is not listed is a dropout; a
    /// refusal recorded before stands, whatever the release says about that seat. A client listed twice or with another
    /// digest than recorded is `Exists`, one without a seat `NotFound`. A task that was stopped or failed meanwhile
    /// stays so.
    ///
    /// The round's reservation is spent in the same transaction, once, and the row keeps number and hash of the
    /// population's newest entry. `WrongState` if the release is charged and nothing is reserved, or the reverse.
    async fn release(&self, release: Release) -> Result<(), StoreError>;

    /// Abandons an open or closing round; the task's model stays. Bodies are dropped.
    ///
    /// Abandoning again is fine; `WrongState` if it was released. As [`Store::release`], except that recorded updates
    /// that are not listed stay pending. The round's reservation is given back if the round was still open and nothing
    /// about update values can have decided ([`budget::outcome`]), and spent otherwise.
    async fn abandon(
        &self,
        task: &TaskName,
        round: u64,
        why: &Abandon,
        seats: &[Judged],
        at: Tick,
    ) -> Result<(), StoreError>;

    /// Rounds below a number (0: from the newest), newest first, at most `limit`, without seats. Listings of a task
    /// that is not there are empty.
    async fn rounds(&self, task: &TaskName, before: u64, limit: usize) -> Result<Vec<RoundRow>, StoreError>;

    /// One round with its seats, without bodies. 0 means the newest.
    async fn round(&self, task: &TaskName, number: u64) -> Result<RoundRow, StoreError>;

    /// Notes check-ins (creates unknown clients). Only new clients write an event, at most 500 to each: a later
    /// check-in is no change worth keeping for ever.
    async fn seen(&self, clients: &[(ClientId, Tick)]) -> Result<(), StoreError>;

    /// Clients that checked in (and had a seat in one task, or all), sorted by id, at most `limit`. The counts cover
    /// that task, or all.
    async fn clients(&self, task: Option<&TaskName>, limit: usize) -> Result<Vec<ClientRow>, StoreError>;

    /// A client's verdicts in ended rounds after a number, oldest first, at most `limit`.
    async fn verdicts_after(
        &self,
        task: &TaskName,
        client: &ClientId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Verdict)>, StoreError>;

    /// Audit events after a sequence number, at most `limit`.
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRow>, StoreError>;

    /// Whether a task (its initial model, newest model or optimiser state) or one of a task's newest `keep` rounds
    /// (0: any round) refers to a blob.
    async fn refers(&self, blob: &Digest, keep: u64) -> Result<bool, StoreError>;

    /// Every population's budget, sorted by population.
    async fn accounts(&self) -> Result<Vec<AccountRow>, StoreError>;

    /// Every charge of a population, in order. `NotFound` if it has no account.
    async fn entries(&self, population: &str) -> Result<Vec<Entry>, StoreError>;

    /// A consistency check of the whole ledger, for `doctor`.
    async fn check(&self) -> Result<(), StoreError>;

    /// Waits for calls under way, then lets go of the ledger, so that another process may open it at once. Every later
    /// call is `Backend`.
    async fn close(&self);
}

/// The reason code of a verdict as stored.
pub(crate) fn verdict_reason(verdict: &Verdict) -> Option<&'static str> {
    verdict.reason().map(Reason::code)
}
