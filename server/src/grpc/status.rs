//! The only map from our errors to gRPC statuses.

use crate::{blobs::BlobError, spool::SpoolError, store::StoreError};
use testudo_proto::{fault, to_status};
use testudo_protocol::{Reason, Reject};
use tonic::Status;

/// A refusal: the caller's fault or its timing.
pub(super) fn rejected(reject: Reject) -> Status {
    to_status(&reject)
}

/// A ledger error.
pub(super) fn store(error: StoreError) -> Status {
    match error {
        StoreError::NotFound { what } => to_status(&Reject::new(Reason::NotFound, what)),
        StoreError::Exists { what } => to_status(&Reject::new(Reason::Exists, what)),
        StoreError::WrongState { what, state } => {
            to_status(&Reject::new(Reason::WrongState, format!("{what} is {state}")))
        }
        other => internal("ledger", &other),
    }
}

/// A spool error; a full disk is said so.
pub(super) fn spool(error: SpoolError) -> Status {
    internal("spool", &error)
}

/// A blob error.
pub(super) fn blob(error: BlobError) -> Status {
    match error {
        BlobError::NotFound(digest) => {
            to_status(&Reject::new(Reason::NotFound, format!("model {} is no longer kept", digest.short())))
        }
        other => internal("models", &other),
    }
}

/// Our fault or a dependency's: worth another try.
fn internal(what: &str, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(what, %error, "fault");
    fault(format!("{what}: {error}"))
}
