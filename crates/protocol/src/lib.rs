//! One round of federated learning as a pure state machine, and the words both sides share.
//!
//! No sockets, clocks or random numbers: time and randomness are arguments. The crate holds
//!
//! * [`TaskName`], [`ClientId`], [`Digest`], [`Nonce`]: checked identifiers;
//! * [`Model`] and [`Layout`]: named tensors and the flat vector behind them;
//! * [`Encoding`] and [`Decoder`]: shorter encodings of an update;
//! * [`Round`]: the server's phases of one round, fed with [`Input`]s and answering with [`Effect`]s;
//! * [`Reject`], [`Abandon`]: whose fault an error is (`Misbehaviour` joins with masking);
//! * [`Verdict`]: what became of one client in one round.
//!
//! [`secagg`] holds the primitives of pairwise masking.

pub mod limits;
pub mod secagg;

mod encoding;
mod error;
mod id;
mod model;
mod params;
mod round;
mod verdict;

pub use encoding::{Decoder, Encoding, LONGEST_GAP, Run, UnknownEncoding, keep_largest};
pub use error::{Abandon, Reason, Reject};
pub use id::{ClientId, Digest, IdError, Nonce, TaskName};
pub use model::{Layout, Model, ModelError, ModelReader, Tensor};
pub use params::{ParamsError, RoundParams};
pub use round::{Effect, Input, Phase, Round, Seat, Tick};
pub use verdict::Verdict;
