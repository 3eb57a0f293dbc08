//! The SDK that edge devices embed: take part in a federated task, train where the data is, send updates.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use testudo_client::{Client, Identity, Update};
//!
//! let client = Client::builder("http://127.0.0.1:8443").identity(Identity::named("device-7")?).connect().await?;
//! let mut session = client.join("keyboard-next-word").await?;
//! while let Some(round) = session.next_round().await? {
//!     let delta = vec![0.0; round.model().parameters().len()]; // train here
//!     let receipt = round.submit(Update::delta(delta).examples(512)).await?;
//!     println!("round {}: {}", receipt.round, receipt.verdict);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * [`Client`] is one identity on one connection; [`Client::run`] does everything with a [`Trainer`];
//! * [`Session`] is one client's part in one task; it can be [saved](Session::save) and resumed in another process;
//! * [`Round`] is a place in one round: [`submit`](Round::submit) consumes it, dropping it leaves the round;
//! * [`Policy`] is what the device insists on before anything leaves it;
//! * [`Retry`] says how lost connections and restarted servers are waited for;
//! * [`Error`] says whose fault it was and what to do next.
//!
//! # Masked rounds
//!
//! Where a task asks for pairwise masking, [`Round::submit`] masks the update, goes through the steps of the round and
//! answers once: the server sees sums of whole groups. What the device insists on is [`Policy`]'s; rounds against it are
//! left before anything is sent:
//!
//! ```no_run
//! # async fn example(key: testudo_client::SigningKey) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use testudo_client::{Client, FileAnswers, Identity, Policy};
//!
//! let policy = Policy::default()
//!     .require_masking() // never show an update on its own
//!     .min_group(32) // 16 unless told
//!     .server_key("3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29".parse()?);
//! let client = Client::builder("http://127.0.0.1:8443")
//!     .identity(Identity::named("device-7")?.signing_key(key))
//!     .policy(policy)
//!     .answers(Arc::new(FileAnswers::open("device-7.answers")?)) // no round is answered twice, whatever crashes
//!     .connect()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! A client whose process ends within a round is a dropout: its secrets were in memory only. If too many of a group
//! vanish, [`Error::Rejected`] says `GROUP_LOST`, and the update counts nowhere. [`Round::group_size`] tells clear and
//! masked rounds apart, [`Client::traffic`] what they cost.
//!
//! # Noise of one's own
//!
//! Where a task asks for local differential privacy (`trust = "local"`), [`Round::seal`] clips the update and adds noise to
//! it, in integers, before anything leaves the device: [`Round::own_noise`] says how much. [`Policy::min_local_noise`]
//! leaves rounds with less. One round never gets two noises: what was sealed is sent again as it is, in another process too
//! if the session was [saved](Session::save) in between.
//!
//! Under masks a task may ask for a *share* of the noise from everybody (`trust = "distributed"`): the update is clipped,
//! rotated, rounded and noised before it is masked. [`Policy::min_shared_noise`] leaves rounds whose sums would have less.
//!
//! Everything runs on the caller's tokio runtime. The verdict on round *k* comes with a later check-in, so it is
//! found in [`Session::verdicts`] after a later [`Session::next_round`].

mod answers;
mod builder;
mod client;
mod error;
#[cfg(test)]
mod fixture;
mod identity;
mod masked;
mod noised;
mod policy;
mod receipt;
mod retry;
mod round;
mod saved;
mod session;
mod shares;
mod trainer;
mod transport;
mod update;

pub use answers::{FileAnswers, MemoryAnswers};
pub use builder::ClientBuilder;
pub use client::{Client, Traffic};
pub use error::{Error, TrainError};
pub use identity::Identity;
pub use policy::Policy;
pub use receipt::Receipt;
pub use retry::Retry;
pub use round::{Round, Sealed};
pub use saved::SavedSession;
pub use session::{Ended, Session, Wait};
pub use trainer::{Summary, Trainer};
pub use update::Update;

pub use testudo_proto::{NotNowWhy, OwnNoise, SeatLimit};
pub use testudo_protocol::{
    ClientId, Digest, Encoding, Layout, Model, ModelError, Reason, Reject, TaskName, Tensor, Verdict,
    secagg::{Answered, Answers, Certificate, Recorded, SigningKey, Step, VerifyingKey},
};
pub use tonic::transport::Channel;
