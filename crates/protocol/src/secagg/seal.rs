//! Boxes: ChaCha20-Poly1305 (RFC 8439) from one client to another, relayed by the server.
//!
//! Each key belongs to one (τ, sender, receiver) and seals one box, hence the zero nonce: [`seal`] consumes the key.

use crate::{Digest, secagg::agreement::Key};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

/// Bytes a box is longer than its content.
pub const OVERHEAD_BYTES: usize = 16;

/// A box that does not open: other key, other session, other ends, or altered bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the box does not open")]
pub struct NotOpened;

/// What a box is bound to besides its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The group's session digest τ.
    pub session: Digest,
    /// The sender's place in the roster.
    pub sender: u32,
    /// The receiver's place in the roster.
    pub receiver: u32,
}

impl Route {
    /// τ ‖ sender ‖ receiver, the associated data.
    pub fn to_bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(self.session.as_bytes());
        bytes[32..36].copy_from_slice(&self.sender.to_le_bytes());
        bytes[36..].copy_from_slice(&self.receiver.to_le_bytes());
        bytes
    }
}

/// Seals a content. The result is [`OVERHEAD_BYTES`] longer.
///
/// # Panics
/// With 256 GiB of content or more, which every caller's limits exclude.
pub fn seal(key: Key, route: &Route, content: &[u8]) -> Vec<u8> {
    ChaCha20Poly1305::new(key.as_bytes().into())
        .encrypt(&Nonce::default(), Payload { msg: content, aad: &route.to_bytes() })
        .expect("a content far below the cipher's limit of 2^32 blocks")
}

/// Opens a box.
///
/// # Errors
/// [`NotOpened`] unless the key, the route and every byte are the sealed ones.
pub fn open(key: &Key, route: &Route, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    ChaCha20Poly1305::new(key.as_bytes().into())
        .decrypt(&Nonce::default(), Payload { msg: sealed, aad: &route.to_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| NotOpened)
}

#[cfg(test)]
mod tests;
