//! Messages in a recorded round: their own bytes, as hexadecimal text. For `#[serde(with = "…")]`.

use super::Message;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes a message as text.
///
/// # Errors
/// The serialiser's.
pub fn serialize<S: Serializer>(message: &Message, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(message.to_bytes()))
}

/// Reads a message from its text.
///
/// # Errors
/// The deserialiser's, and for a text that is no message.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Message>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = hex::decode(text).map_err(D::Error::custom)?;
    Message::from_bytes(&bytes).map(Box::new).map_err(D::Error::custom)
}
