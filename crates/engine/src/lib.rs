//! One running round: the protocol's phases, the aggregation algebra and privacy, joined without I/O.
//!
//! * [`TaskSpec`]: the one constructor that cross-checks a `task.toml`, and its guarantee report;
//! * [`Door`]: checks on an update while it streams in;
//! * [`select`]: drawing a cohort among the clients that wait; [`PoissonSample`]: flipping coins for registered ones;
//! * [`Engine`]: a round from its first seat to its release. CPU work leaves as owned [`Job`]s and returns as
//!   [`Done`]; time, randomness and bytes are arguments. The server, the simulator and the tests are its drivers.
//! * [`Masking`]: a task's groups, thresholds and quantiser under pairwise masking;
//! * [`Privacy`]: what a private task adds up, how much noise it gets, and what that costs;
//! * [`Local`]: the noise that every client of a task adds to its own update;
//! * [`NoiseShares`]: the shares of noise that clients of a task add under masks;
//! * [`Budget`]: what a release is charged, and to whom;
//! * [`guarantees`]: what a task promises and to how many bad clients, and which combinations are infeasible;
//! * [`document`]: TOML whose errors name line, key, value and fix.

pub mod document;
pub mod guarantees;

mod announce;
mod budget;
mod carry;
mod door;
mod engine;
mod job;
mod local;
mod masking;
mod part;
mod privacy;
mod record;
mod row_set;
mod rows;
mod sample;
mod selection;
mod shares;
mod spec;

pub use announce::SessionFacts;
pub use budget::Budget;
pub use carry::{Carry, CarryError, History};
pub use door::{Door, Passed};
pub use engine::{Action, Engine, EngineInput, Judgement, Release, UploadMeta};
pub use job::{Done, Job, RowBytes};
pub use local::Local;
pub use masking::{Assumed, COMPLETE_GROUP, Group, Masking};
pub use part::{Granularity, Policy, TensorPolicy};
pub use privacy::{AdaptiveClipping, Correlated, CorrelatedKind, GRID_BITS, Privacy};
pub use record::{RecordedGroup, RoundRecord};
pub use sample::PoissonSample;
pub use selection::select;
pub use shares::{NoiseShares, SHARE_GRID_BITS};
pub use spec::{Cohort, Examples, Fewer, SpecError, TaskSpec};
