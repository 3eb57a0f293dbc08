//! Messages of the admin service that carry a `oneof`.

use crate::{convert::digest_from_wire, v1};
use bytes::Bytes;
use testudo_protocol::{Digest, Reason, Reject, limits};

/// What precedes the initial model when a task is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTaskHeader {
    /// The text of `task.toml`, at most [`limits::TASK_TOML_BYTES`].
    pub toml: String,
    /// Length of the model file, bytes, at most [`limits::MODEL_BYTES`].
    pub model_bytes: u64,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
}

/// One message of the stream that creates a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateTaskPart {
    /// The first message, and only the first.
    Header(CreateTaskHeader),
    /// A piece of the model file, 1 byte to [`limits::CHUNK_BYTES`].
    Chunk(Bytes),
}

impl CreateTaskPart {
    /// For the wire.
    pub fn to_wire(self) -> v1::CreateTaskRequest {
        use v1::create_task_request::Part;
        let part = match self {
            Self::Header(header) => Part::Header(v1::CreateTaskHeader {
                toml: header.toml,
                model_bytes: header.model_bytes,
                model_digest: Bytes::copy_from_slice(header.model_digest.as_bytes()),
            }),
            Self::Chunk(chunk) => Part::Chunk(chunk),
        };
        v1::CreateTaskRequest { part: Some(part) }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`Reject`]: [`Reason::Malformed`] for an empty message or chunk or a digest of the wrong length,
    /// [`Reason::Oversize`] over a limit.
    pub fn from_wire(request: v1::CreateTaskRequest) -> Result<Self, Reject> {
        use v1::create_task_request::Part;
        let header = match request.part {
            Some(Part::Header(header)) => header,
            Some(Part::Chunk(chunk)) => return checked_chunk(chunk).map(Self::Chunk),
            None => return Err(Reject::new(Reason::Malformed, "a message with neither header nor chunk")),
        };
        if header.toml.len() > limits::TASK_TOML_BYTES {
            let detail =
                format!("task.toml is {} bytes, more than the limit of {}", header.toml.len(), limits::TASK_TOML_BYTES);
            return Err(Reject::new(Reason::Oversize, detail));
        }
        if header.model_bytes > limits::MODEL_BYTES {
            let detail =
                format!("the model is {} bytes, more than the limit of {}", header.model_bytes, limits::MODEL_BYTES);
            return Err(Reject::new(Reason::Oversize, detail));
        }
        let model_digest = digest_from_wire(&header.model_digest, "model_digest")?;
        Ok(Self::Header(CreateTaskHeader { toml: header.toml, model_bytes: header.model_bytes, model_digest }))
    }
}

/// A chunk is never empty (a sender could hold a stream open with them) and never over the limit.
pub(crate) fn checked_chunk(chunk: Bytes) -> Result<Bytes, Reject> {
    if chunk.is_empty() {
        return Err(Reject::new(Reason::Malformed, "an empty chunk; end the stream instead"));
    }
    if chunk.len() > limits::CHUNK_BYTES {
        let detail = format!("a chunk of {} bytes, more than the limit of {}", chunk.len(), limits::CHUNK_BYTES);
        return Err(Reject::new(Reason::Oversize, detail));
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_and_a_chunk_come_back_as_they_went() {
        let header = CreateTaskHeader { toml: "name = 'a'".into(), model_bytes: 9, model_digest: Digest([3; 32]) };
        for part in [CreateTaskPart::Header(header), CreateTaskPart::Chunk(Bytes::from_static(b"abc"))] {
            assert_eq!(CreateTaskPart::from_wire(part.clone().to_wire()), Ok(part));
        }
    }

    #[test]
    fn empty_and_oversize_parts_are_refused() {
        let empty = CreateTaskPart::from_wire(v1::CreateTaskRequest { part: None }).unwrap_err();
        assert_eq!(empty.reason, Reason::Malformed);
        let header = |toml: String, model_bytes| {
            CreateTaskPart::Header(CreateTaskHeader { toml, model_bytes, model_digest: Digest([3; 32]) })
        };
        for part in [
            header("x".repeat(limits::TASK_TOML_BYTES + 1), 1),
            header(String::new(), limits::MODEL_BYTES + 1),
            CreateTaskPart::Chunk(vec![0; limits::CHUNK_BYTES + 1].into()),
        ] {
            assert_eq!(CreateTaskPart::from_wire(part.to_wire()).unwrap_err().reason, Reason::Oversize);
        }
        let chunk = CreateTaskPart::Chunk(Bytes::new()).to_wire();
        assert_eq!(CreateTaskPart::from_wire(chunk).unwrap_err().reason, Reason::Malformed);
    }
}
