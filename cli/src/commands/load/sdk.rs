//! What the client library's errors are as exit codes.

use crate::exit::{Exit, Failure, chain};
use testudo_client::Error;

/// A failure of the client library in the words of the command line.
pub(crate) fn failure(what: impl Into<String>, error: &Error) -> Failure {
    let exit = match error {
        Error::Connect { .. } | Error::GaveUp { .. } => Exit::Unavailable,
        Error::Rejected(reject) => Exit::of_reason(reject.reason),
        Error::Policy(_) | Error::Update(_) => Exit::Policy,
        Error::Model(_) | Error::ServerMisbehaved(_) => Exit::Verification,
        Error::Identity(_) => Exit::Authentication,
        Error::Config(_) => Exit::Usage,
        _ => Exit::Internal,
    };
    Failure::new(exit, what, chain(error))
}
