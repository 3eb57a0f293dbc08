//! The ledger: what must survive a crash, in verbs of the use case.
//!
//! Each verb is one transaction that also writes its audit event; a call that changes nothing (a repeated one) writes
//! none. A backend is one file in `store/` and one arm in [`open`]; it must pass [`conformance`]. Bytes of updates and
//! models live in the [spool](crate::spool) and in [blobs](crate::blobs); a ledger row that names them is written only
//! after they are durable.

use async_trait::async_trait;
use std::{fmt, path::PathBuf, sync::Arc};
use testudo_privacy::budget::{Entry, Exhausted};
use testudo_protocol::{Abandon, ClientId, Digest, Reason, TaskName, Tick, Verdict};
use zeroize::Zeroizing;

pub mod batch;
pub mod budget;
pub mod conformance;
mod row;
mod sqlite;

pub use batch::Batcher;
pub use budget::{AccountRow, Participations, PlanRow, PrivacyPlan, RunNoise};
pub use row::{
    Body, ClientRow, Counts, EventRow, Judged, NewRound, NewTask, Registration, Release, RoundRow, RoundState, SeatRow,
    TaskRow, TaskState, UploadRow,
};

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
        noise_seed: Option<Zeroizing<[u8; 32]>>,
        at: Tick,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError>;

    /// The seed fixed by [`Store::close_round`]; `None` before, after the round's end, and where there was none.
    ///
    /// `KeyLost` if it was sealed with a key that is lost: the round can then only be abandoned.
    async fn noise_seed(&self, task: &TaskName, round: u64) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError>;

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

    /// Registers clients with a task that samples, in their order, until it has `most`; one answer each. Unknown clients are
    /// created as by [`Store::seen`].
    async fn register(
        &self,
        task: &TaskName,
        clients: &[ClientId],
        most: u64,
        at: Tick,
    ) -> Result<Vec<Registration>, StoreError>;

    /// Everybody who is registered with a task, sorted by id.
    async fn registered(&self, task: &TaskName) -> Result<Vec<ClientId>, StoreError>;

    /// Notes check-ins (creates unknown clients). Only new clients write an event, at most 500 to each: a later
    /// check-in is no change worth keeping for ever.
    async fn seen(&self, clients: &[(ClientId, Tick)]) -> Result<(), StoreError>;

    /// Clients that checked in (and had a seat in one task, or all), sorted by id, at most `limit`. The counts cover
    /// that task, or all; rounds whose cohort is a secret count for nobody.
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
