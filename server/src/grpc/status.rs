//! The only map from our errors to gRPC statuses.

use crate::{blobs::BlobError, spool::SpoolError, store::StoreError};
use std::time::Duration;
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
        StoreError::Exhausted(exhausted) => {
            to_status(&Reject::new(Reason::PrivacyBudgetExhausted, exhausted.to_string()))
        }
        other => internal("ledger", &other),
    }
}

/// A spool error.
pub(super) fn spool(error: SpoolError) -> Status {
    match error {
        SpoolError::Full { .. } => full("spool", &error),
        other => internal("spool", &other),
    }
}

/// A blob error.
pub(super) fn blob(error: BlobError) -> Status {
    match error {
        BlobError::NotFound(digest) => {
            to_status(&Reject::new(Reason::NotFound, format!("model {} is no longer kept", digest.short())))
        }
        BlobError::Full { .. } => full("model store", &error),
        other => internal("model store", &other),
    }
}

fn full(what: &str, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(what, %error, "no room left");
    to_status(&Reject::retry(Reason::Overloaded, "the server's disk is full", Duration::from_secs(30)))
}

/// Our fault or a dependency's: worth another try. Paths and statements stay in the log.
fn internal(what: &str, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(what, %error, "fault");
    fault(format!("the {what} is not available"))
}
