//! Who signs: Ed25519 keys (RFC 8032) and the certificates of an enrolment authority.
//!
//! Only labelled transcripts can be signed, by their SHA-256 digest, so a signature for one purpose never serves
//! another. Verification is the strict kind: canonical encodings only, no point of small order.

use crate::{
    ClientId, Digest, IdError,
    secagg::{agreement::below_prime, transcript::Writer},
};
use ed25519_dalek::Signer;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Label of a certificate.
pub const CERTIFICATE: &str = "testudo/certificate/v1";
/// Beginning of a signing key's text form.
const KEY_PREFIX: &str = "testudo-signing-key-v1";

/// A signature that does not verify, whatever the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Why a text is not a signing key. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyText {
    /// Not one line of prefix, key and checksum.
    #[error("a signing key is one line \"testudo-signing-key-v1:KEY:CHECKSUM\" with 64 and 8 hexadecimal digits")]
    Form,
    /// A digit is wrong.
    #[error("the signing key does not match its checksum: copy the line again")]
    Checksum,
}

/// An Ed25519 signing key. Zeroised on drop, printed without content.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A key from 32 random bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(bytes))
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs the digest of a statement.
    pub fn sign(&self, statement: &Writer) -> Signature {
        Signature(self.0.sign(statement.digest().as_bytes()).to_bytes())
    }

    /// One line for a file that only its owner may read.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut digits = Zeroizing::new([0; 64]);
        hex::encode_to_slice(self.0.as_bytes(), &mut *digits).expect("32 bytes have 64 digits");
        let digits = std::str::from_utf8(&*digits).expect("hexadecimal digits are ASCII");
        let mut text = Zeroizing::new(String::with_capacity(128));
        for part in [KEY_PREFIX, ":", digits, ":", &checksum(self.0.as_bytes())] {
            text.push_str(part);
        }
        text
    }

    /// Reads the line of [`SigningKey::to_text`]; white space around it is ignored.
    ///
    /// # Errors
    /// [`BadKeyText`] when it is not such a line or its checksum is wrong.
    pub fn from_text(text: &str) -> Result<Self, BadKeyText> {
        let mut parts = text.trim().split(':');
        let (Some(KEY_PREFIX), Some(digits), Some(sum), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadKeyText::Form);
        };
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *bytes).map_err(|_| BadKeyText::Form)?;
        if sum.len() != 8 {
            return Err(BadKeyText::Form);
        }
        if !bool::from(checksum(&bytes).as_bytes().ct_eq(sum.as_bytes())) {
            return Err(BadKeyText::Checksum);
        }
        Ok(Self::from_bytes(&bytes))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// An Ed25519 public key, as it was received: [`VerifyingKey::check`] says whether it is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks that the bytes are a canonical point, not of small order.
    ///
    /// # Errors
    /// [`BadSignature`]: no signature by this key would verify.
    pub fn check(&self) -> Result<(), BadSignature> {
        self.point().map(|_| ())
    }

    /// Checks a signature over a statement.
    ///
    /// # Errors
    /// [`BadSignature`] when it does not verify strictly.
    pub fn verify(&self, statement: &Writer, signature: &Signature) -> Result<(), BadSignature> {
        self.verify_bytes(statement.digest().as_bytes(), signature)
    }

    fn verify_bytes(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.point()?.verify_strict(message, &signature).map_err(|_| BadSignature)
    }

    fn point(&self) -> Result<ed25519_dalek::VerifyingKey, BadSignature> {
        let mut coordinate = self.0;
        coordinate[31] &= 0x7f;
        if !below_prime(&coordinate) {
            return Err(BadSignature);
        }
        let point = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        if point.is_weak() { Err(BadSignature) } else { Ok(point) }
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({}…)", hex::encode(&self.0[..6]))
    }
}

impl FromStr for VerifyingKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        decode(text, "a verifying key").map(Self)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        key.to_string()
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..6]))
    }
}

impl TryFrom<String> for Signature {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        decode(&text, "a signature").map(Self)
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        hex::encode(signature.0)
    }
}

/// An enrolment authority's statement that a key is a client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The client.
    pub client: ClientId,
    /// Its key.
    pub key: VerifyingKey,
    /// The authority's signature over both.
    pub signature: Signature,
}

impl Certificate {
    /// Certifies a client's key.
    ///
    /// # Errors
    /// [`BadSignature`] when no signature by the key would verify.
    pub fn issue(authority: &SigningKey, client: ClientId, key: VerifyingKey) -> Result<Self, BadSignature> {
        key.check()?;
        let signature = authority.sign(&Self::statement(&client, &key));
        Ok(Self { client, key, signature })
    }

    /// Checks the authority's signature and the certified key.
    ///
    /// # Errors
    /// [`BadSignature`] when either is bad.
    pub fn verify(&self, authority: &VerifyingKey) -> Result<(), BadSignature> {
        self.key.check()?;
        authority.verify(&Self::statement(&self.client, &self.key), &self.signature)
    }

    /// What the authority signs.
    fn statement(client: &ClientId, key: &VerifyingKey) -> Writer {
        Writer::new(CERTIFICATE).text(client.as_str()).fixed(&key.0)
    }
}

/// Eight hexadecimal digits that tell a mistyped key.
fn checksum(bytes: &[u8; 32]) -> String {
    let Digest(digest) = Writer::new(KEY_PREFIX).fixed(bytes).digest();
    hex::encode(&digest[..4])
}

fn decode<const LENGTH: usize>(text: &str, what: &'static str) -> Result<[u8; LENGTH], IdError> {
    let mut bytes = [0; LENGTH];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Bytes { what, bytes: LENGTH })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
