//! The masks of an input, derived alike by their owners and, when rebuilt, by the server.

use super::agreement::{self, Ends, Key, PublicKey, Refused, SecretKey};
use crate::Digest;
use testudo_aggregate::{Cipher, Mask, MaskKey, Sign};

/// The mask of a member's own seed. The cipher is its owner's choice.
pub(super) fn self_mask(seed: &[u8; 32], tau: &Digest, member: u32, aes: bool, sign: Sign) -> Mask {
    let (cipher, label) = match aes {
        true => (Cipher::Aes256Ctr, agreement::SELF_AES),
        false => (Cipher::ChaCha20, agreement::SELF_CHACHA),
    };
    mask(&Key::of_seed(seed, tau, label, member), cipher, sign)
}

/// The mask of a pair. Both must have signed that AES-256 is fast for it to be used.
pub(super) fn pair_mask(
    ours: &SecretKey,
    theirs: &PublicKey,
    tau: &Digest,
    ends: Ends,
    aes: bool,
    sign: Sign,
) -> Result<Mask, Refused> {
    let (cipher, label) = match aes {
        true => (Cipher::Aes256Ctr, agreement::MASK_AES),
        false => (Cipher::ChaCha20, agreement::MASK_CHACHA),
    };
    Ok(mask(&ours.agree(theirs, tau, label, ends)?, cipher, sign))
}

fn mask(key: &Key, cipher: Cipher, sign: Sign) -> Mask {
    Mask { key: MaskKey::new(*key.as_bytes()), cipher, sign }
}
