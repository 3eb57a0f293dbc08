//! The wire format: messages generated from `testudo/v1/*.proto`, and everything that touches them.
//!
//! Generated types stop here. Server and client read a request with the `from_wire` functions of this crate and
//! work with checked types from then on, so that nothing further in matches on an `Option` of a `oneof` or meets a
//! digest of 31 bytes. Whatever cannot be read is a [`Reject`](testudo_protocol::Reject), never a panic, and every
//! limit is checked before anything is allocated.
//!
//! * [`v1`]: the generated messages, clients and service traits; [`FILE_DESCRIPTOR_SET`] describes them for
//!   reflection;
//! * [`layout_from_wire`], [`verdict_from_wire`], [`digest_from_wire`] and their opposites: single values;
//! * [`Place`], [`Assignment`], [`Answer`], [`UploadHeader`], [`UploadPart`], [`Receipt`], [`CreateTaskPart`]: whole
//!   messages;
//! * [`to_status`], [`from_status`], [`fault`]: refusals as gRPC statuses and back;
//! * [`client_id_of_certificate`]: the identity both sides derive from a certificate;
//! * [`framing`]: chunk sizes and the payload's number format;
//! * [`stream`]: chunks in bodies, past the codec.

pub mod framing;
pub mod stream;

mod convert;
mod identity;
mod message;
mod place;
mod status;
mod task;

pub use convert::{
    check_layout, digest_from_wire, layout_from_wire, layout_to_wire, round_verdict_from_wire, round_verdict_to_wire,
    verdict_from_wire, verdict_to_wire,
};
pub use identity::client_id_of_certificate;
pub use message::{
    Answer, Assignment, EndedWhy, Masking, NotNowWhy, OwnNoise, Receipt, SeatLimit, UploadHeader, UploadPart,
};
pub use place::Place;
pub use status::{ERROR_DOMAIN, code, fault, fault_after, from_status, retry_delay, to_status};
pub use task::{CreateTaskHeader, CreateTaskPart};

/// Messages, clients and service traits generated from `testudo/v1/*.proto`, which documents them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("testudo.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of `testudo/v1/*.proto`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("testudo_v1_descriptor");

#[cfg(test)]
mod tests {
    use prost::Message as _;

    #[test]
    fn the_descriptor_set_names_both_services() {
        let files = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let services: Vec<_> =
            files.file.iter().flat_map(|file| &file.service).map(|service| service.name().to_owned()).collect();
        assert!(services.contains(&"Federation".to_owned()), "{services:?}");
        assert!(services.contains(&"Admin".to_owned()), "{services:?}");
    }
}
