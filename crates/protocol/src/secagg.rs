//! Primitives of secure aggregation, suite `pairwise/1` (Bonawitz et al. 2017, active variant; Bell et al. 2020 for
//! large groups).
//!
//! Randomness is an argument everywhere. Secrets are zeroised on drop, printed without content and compared in
//! constant time; every decoder refuses what its encoder could not have written.

pub mod agreement;
pub mod assignment;
pub mod graph;
pub mod hexadecimal;
pub mod hypergeometric;
pub mod identity;
pub mod merkle;
pub mod seal;
pub mod shamir;
pub mod transcript;

mod bitmap;
mod group;
mod masks;
mod message;
mod opening;
mod party;
mod reply;
mod session;

pub use agreement::PublicKey;
pub use bitmap::Bitmap;
pub use group::{Draw, Impossible, Terms};
pub use identity::{Certificate, Signature, SigningKey, VerifyingKey};
pub use message::{Advertise, BOX_BYTES, Consistency, Input, MESSAGE_BYTES, Message, NEIGHBOURS, Shares, Step, Unmask};
pub use opening::{Lost, Misfit, Opened, Opening, OpeningMember};
pub use party::{
    Abort, Advertised, Answered, Answers, Confirming, Credentials, Demands, Masking, Randomness, Ready, Recorded, Sent,
    Sharing,
};
pub use reply::{Confirmed, Member, REPLY_BYTES, Reply, Roster, Shared, Survivors};
pub use session::{
    ANNOUNCEMENT_BYTES, ATTEMPTS, Announcement, DISCRETE_GAUSSIAN, ROTATION_BLOCK, SHARE_BITS, SUITE, Session,
};
