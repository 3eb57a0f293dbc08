//! X25519 key agreement (RFC 7748) and the keys derived from it with HKDF-SHA256 (RFC 5869).
//!
//! Salt is the group's session digest τ, so a key serves one group of one attempt of one round; the info is label ‖
//! ids ‖ both public keys, so it serves one purpose and one pair.

use crate::{Digest, secagg::transcript::Writer};
use hkdf::Hkdf;
use sha2::Sha256;
use std::{cmp::Ordering, fmt};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Key of a box from one client to another.
pub const BOX: &str = "box";
/// Key of a pairwise mask expanded with AES-256 in counter mode.
pub const MASK_AES: &str = "mask/aes256ctr";
/// Key of a pairwise mask expanded with ChaCha20.
pub const MASK_CHACHA: &str = "mask/chacha20";
/// Key of a self-mask expanded with AES-256 in counter mode.
pub const SELF_AES: &str = "self/aes256ctr";
/// Key of a self-mask expanded with ChaCha20.
pub const SELF_CHACHA: &str = "self/chacha20";

/// Why no key was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The other public key is a point of small order: the result would not depend on our secret.
    #[error("the public key is of small order")]
    NonContributory,
    /// The other public key is not the canonical encoding of its coordinate.
    #[error("the public key is not canonical")]
    NonCanonical,
    /// The other public key is our own.
    #[error("the public key is our own")]
    OwnKey,
    /// Both ends have the same place in the roster.
    #[error("both ends have the same place in the roster")]
    SamePlace,
}

/// The canonical coordinates of small order on the curve and on its twist: 0, 1, −1 and the two of order 8 (RFC 7748,
/// section 7, and Bernstein 2006).
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// Who takes part in an agreement, by place in the group's roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Both ends alike: the lower place comes first, whoever derives the key.
    Pair {
        /// Our place.
        ours: u32,
        /// The other's place.
        theirs: u32,
    },
    /// We send, the other receives: the sender comes first.
    Sending {
        /// Our place.
        ours: u32,
        /// The other's place.
        theirs: u32,
    },
    /// The other sends, we receive: the sender comes first.
    Receiving {
        /// Our place.
        ours: u32,
        /// The other's place.
        theirs: u32,
    },
}

/// An X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the bytes are a coordinate below 2^255 − 19, with the unused bit clear.
    pub fn is_canonical(&self) -> bool {
        below_prime(&self.0)
    }

    /// Whether somebody can agree on a key with its owner: canonical, and not of small order.
    pub fn is_usable(&self) -> bool {
        self.is_canonical() && !SMALL_ORDER.contains(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}…)", hex::encode(&self.0[..6]))
    }
}

/// An X25519 secret key with its public key. Zeroised on drop, printed without content.
pub struct SecretKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl SecretKey {
    /// A key from 32 random bytes, or from the bytes of [`SecretKey::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes());
        Self { secret, public }
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret bytes, for sharing them among the neighbours.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.secret.as_bytes())
    }

    /// Agrees on a key with the owner of a public key. `salt` is the group's session digest τ.
    ///
    /// # Errors
    /// [`Refused`] when the public key is of small order, not canonical or our own, or both places are one.
    pub fn agree(&self, theirs: &PublicKey, salt: &Digest, label: &str, ends: Ends) -> Result<Key, Refused> {
        self.meet(theirs)?.key(salt, label, ends)
    }

    /// Meets the owner of a public key, once for however many keys the two derive: the curve is what costs time.
    ///
    /// # Errors
    /// [`Refused`] when the public key is of small order, not canonical or our own.
    pub fn meet(&self, theirs: &PublicKey) -> Result<Meeting, Refused> {
        if !theirs.is_canonical() {
            return Err(Refused::NonCanonical);
        }
        if *theirs == self.public {
            return Err(Refused::OwnKey);
        }
        let shared = self.secret.diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
        if !shared.was_contributory() {
            return Err(Refused::NonContributory);
        }
        Ok(Meeting { shared: Zeroizing::new(*shared.as_bytes()), ours: self.public, theirs: *theirs })
    }
}

/// What two key owners have in common. Zeroised on drop, printed without content.
pub struct Meeting {
    shared: Zeroizing<[u8; 32]>,
    ours: PublicKey,
    theirs: PublicKey,
}

impl Meeting {
    /// A key for one purpose. `salt` is the group's session digest τ.
    ///
    /// # Errors
    /// [`Refused::SamePlace`] when both places are one.
    pub fn key(&self, salt: &Digest, label: &str, ends: Ends) -> Result<Key, Refused> {
        Ok(Key::derive(salt, &self.shared, info(label, ends, &self.ours, &self.theirs)?))
    }
}

impl fmt::Debug for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meeting(…)")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A symmetric key of 32 bytes. Zeroised on drop, printed without content, compared in constant time.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key of a self-mask, from the owner's seed b_i, its place in the roster and the label of its cipher.
    pub fn of_seed(seed: &[u8; 32], salt: &Digest, label: &str, place: u32) -> Self {
        Self::derive(salt, seed, Writer::new(label).u32(place))
    }

    /// The raw bytes, for a cipher.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn derive(salt: &Digest, input: &[u8; 32], info: Writer) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt.as_bytes()), input)
            .expand(&info.finish(), &mut *key)
            .expect("32 bytes are fewer than HKDF's 255 blocks");
        Self(key)
    }
}

impl From<Zeroizing<[u8; 32]>> for Key {
    fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The public commitment to a self-mask's seed, SHA-256("b" ‖ τ ‖ i ‖ b_i). The server checks a rebuilt seed with it.
pub fn seed_commitment(seed: &[u8; 32], salt: &Digest, place: u32) -> Digest {
    Writer::new("b").fixed(salt.as_bytes()).u32(place).fixed(seed).digest()
}

/// The info of HKDF: label ‖ first id ‖ second id ‖ first public key ‖ second public key.
fn info(label: &str, ends: Ends, own: &PublicKey, other: &PublicKey) -> Result<Writer, Refused> {
    let (Ends::Pair { ours, theirs } | Ends::Sending { ours, theirs } | Ends::Receiving { ours, theirs }) = ends;
    let order = ours.cmp(&theirs);
    let we_come_first = match (ends, order) {
        (_, Ordering::Equal) => return Err(Refused::SamePlace),
        (Ends::Pair { .. }, order) => order == Ordering::Less,
        (Ends::Sending { .. }, _) => true,
        (Ends::Receiving { .. }, _) => false,
    };
    let (first, second) = if we_come_first { ((ours, own), (theirs, other)) } else { ((theirs, other), (ours, own)) };
    Ok(Writer::new(label).u32(first.0).u32(second.0).fixed(&first.1.0).fixed(&second.1.0))
}

/// Whether 32 little-endian bytes are a number below 2^255 − 19.
pub(super) fn below_prime(bytes: &[u8; 32]) -> bool {
    bytes[31] < 0x7f || (bytes[31] == 0x7f && (bytes[1..31].iter().any(|&byte| byte != 0xff) || bytes[0] < 0xed))
}

#[cfg(test)]
mod tests;
