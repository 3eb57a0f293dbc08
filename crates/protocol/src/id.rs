//! Identifiers, checked on construction.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A name outside `[a-z0-9][a-z0-9._-]{0,62}`.
    #[error(
        "{what} {value:?} is not a name: use 1 to 63 characters of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
    )]
    Name {
        /// Which identifier.
        what: &'static str,
        /// The offending text, cut to 80 characters.
        value: String,
    },
    /// Bytes or hexadecimal digits of the wrong number or kind.
    #[error("{what} must be {bytes} bytes ({} hexadecimal digits)", bytes * 2)]
    Bytes {
        /// Which identifier.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Whether a text matches `[a-z0-9][a-z0-9._-]{0,62}`: safe in paths, labels and logs.
fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && letter(bytes[0])
        && bytes.iter().all(|&byte| letter(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a text.
            ///
            /// # Errors
            /// [`IdError::Name`] outside `[a-z0-9][a-z0-9._-]{0,62}`.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if is_name(&text) {
                    return Ok(Self(text));
                }
                Err(IdError::Name { what: $what, value: text.chars().take(80).collect() })
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name!(
    /// Name of a task.
    TaskName,
    "task name"
);
name!(
    /// Identity of a client, as the channel or the operator's configuration gave it.
    ClientId,
    "client id"
);

macro_rules! bytes {
    ($(#[$doc:meta])* $type:ident, $length:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub [u8; $length]);

        impl $type {
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $type {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Bytes { what: $what, bytes: $length })
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| IdError::Bytes { what: $what, bytes: $length })?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                hex::encode(value.0)
            }
        }
    };
}

bytes!(
    /// A SHA-256 digest.
    Digest,
    32,
    "a SHA-256 digest"
);
bytes!(
    /// A random value that ties a client's calls to its place in one round. Never printed.
    Nonce,
    16,
    "a nonce"
);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.short())
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_labels_and_logs() {
        for good in ["a", "0", "keyboard-next-word", "a.b_c-9", &"x".repeat(63)] {
            assert!(TaskName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".hidden", "A", "a b", "a/b", "../a", "a\n", "ä", "\u{1b}[31m", &"x".repeat(64)] {
            let error = ClientId::new(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 63 characters"), "{error}");
            assert!(!error.contains('\n') && !error.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn digests_read_what_they_write() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("ba78".parse::<Digest>().is_err());
        assert!(Digest::try_from(&[0u8; 31][..]).is_err());
    }

    #[test]
    fn a_nonce_cannot_be_printed() {
        assert_eq!(format!("{:?}", Nonce([7; 16])), "Nonce(…)");
    }
}
