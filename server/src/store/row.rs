//! Tasks, rounds, seats, updates and events as the ledger has them, and as they are given to it.

use super::PrivacyPlan;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use testudo_privacy::budget::Charge;
use testudo_protocol::{ClientId, Digest, Nonce, TaskName, Tick, Verdict};

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
    /// Whether nobody may learn who and how many are in the cohort, which may then be empty: no event tells of it.
    pub secret: bool,
}

/// Where a client stands that asked to be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// It is registered, now or before.
    Registered,
    /// The task has as many as it samples from.
    Full,
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
    /// Whether who and how many were in the cohort is a secret.
    pub secret: bool,
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
