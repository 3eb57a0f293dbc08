//! Refusals as gRPC statuses and back: the only map between the two.

use std::{collections::HashMap, time::Duration};
use testudo_protocol::{Reason, Reject};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every `google.rpc.ErrorInfo` of this project.
pub const ERROR_DOMAIN: &str = "testudo";

/// The `reason` of a fault: ours, not the caller's.
const FAULT: &str = "FAULT";

/// Longest message, bytes. It travels twice in HTTP/2 headers, percent-encoded once, and those hold 16 KiB.
const DETAIL_BYTES: usize = 1024;

/// How long a caller should wait after a fault that names no time.
const FAULT_RETRY: Duration = Duration::from_secs(1);

/// Longest wait a status is believed to ask for.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 60 * 60);

/// A refusal as a status: the code by reason, the reason in `ErrorInfo`, the wait in `RetryInfo`, the detail (cut to
/// 1,024 bytes) as the message.
pub fn to_status(reject: &Reject) -> Status {
    let mut details = ErrorDetails::with_error_info(reject.reason.code(), ERROR_DOMAIN, HashMap::new());
    if let Some(after) = reject.retry_after {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code(reject.reason), cut(&reject.detail), details)
}

/// The refusal in a status; `None` if it holds none: a fault, an abandon, a broken connection, another service.
pub fn from_status(status: &Status) -> Option<Reject> {
    let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
    let reason = info.reason.parse::<Reason>().ok()?;
    Some(Reject { reason, detail: cut(status.message()).to_owned(), retry_after: retry_delay(status) })
}

/// How long a status asks to wait before another try, at most a day.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay.map(|delay| delay.min(LONGEST_RETRY))
}

/// Us or our dependencies: `UNAVAILABLE`, worth another try after a second. The detail reaches the caller, so it says
/// what failed and no more.
pub fn fault(detail: impl AsRef<str>) -> Status {
    fault_after(detail, FAULT_RETRY)
}

/// As [`fault`], with a time to wait.
pub fn fault_after(detail: impl AsRef<str>, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(FAULT, ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::Unavailable, cut(detail.as_ref()), details)
}

/// The gRPC code of each reason.
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::Malformed
        | Reason::WrongShape
        | Reason::WrongDtype
        | Reason::NonFinite
        | Reason::Magnitude
        | Reason::Examples
        | Reason::Spec => Code::InvalidArgument,
        Reason::NotFound => Code::NotFound,
        Reason::Exists | Reason::Duplicate => Code::AlreadyExists,
        Reason::NotInCohort | Reason::Identity | Reason::Signature => Code::PermissionDenied,
        Reason::TaskEnded
        | Reason::WrongRound
        | Reason::WrongModel
        | Reason::Late
        | Reason::Withdrawn
        | Reason::NotSelected
        | Reason::PrivacyBudgetExhausted
        | Reason::WrongState => Code::FailedPrecondition,
        Reason::DigestMismatch | Reason::Truncated => Code::DataLoss,
        Reason::WrongOffset => Code::OutOfRange,
        Reason::Oversize | Reason::Overloaded => Code::ResourceExhausted,
        Reason::TooSlow => Code::DeadlineExceeded,
        Reason::TakenOver | Reason::GroupLost => Code::Aborted,
        // `Reason` may grow; a test holds that none of today's ends here.
        _ => Code::Unknown,
    }
}

/// At most `DETAIL_BYTES`, ending at a character.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(DETAIL_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As it arrives after a trip through HTTP/2 headers.
    fn travelled(status: Status) -> Status {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        Status::from_header_map(&headers).unwrap()
    }

    #[test]
    fn every_reason_has_a_code_and_comes_back() {
        for &reason in Reason::ALL {
            assert_ne!(code(reason), Code::Unknown, "{reason:?}");
            for reject in [
                Reject::new(reason, "what was wrong, and Ünicode\nlines"),
                Reject::retry(reason, "later", Duration::from_millis(1500)),
            ] {
                let status = travelled(to_status(&reject));
                assert_eq!(status.code(), code(reason));
                assert_eq!(from_status(&status), Some(reject));
            }
        }
    }

    #[test]
    fn codes_say_whose_fault_it_is() {
        for (reason, expected) in [
            (Reason::Late, Code::FailedPrecondition),
            (Reason::NotFound, Code::NotFound),
            (Reason::NotInCohort, Code::PermissionDenied),
            (Reason::Identity, Code::PermissionDenied),
            (Reason::Duplicate, Code::AlreadyExists),
            (Reason::NonFinite, Code::InvalidArgument),
            (Reason::DigestMismatch, Code::DataLoss),
            (Reason::Overloaded, Code::ResourceExhausted),
            (Reason::TooSlow, Code::DeadlineExceeded),
            (Reason::TakenOver, Code::Aborted),
        ] {
            assert_eq!(code(reason), expected);
        }
    }

    #[test]
    fn a_fault_is_unavailable_and_no_refusal() {
        let status = travelled(fault("the ledger cannot be written"));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(retry_delay(&status), Some(Duration::from_secs(1)));
        assert_eq!(from_status(&status), None);
    }

    #[test]
    fn another_services_error_is_no_refusal() {
        let details = ErrorDetails::with_error_info("LATE", "example.org", HashMap::new());
        assert_eq!(from_status(&Status::with_error_details(Code::Aborted, "", details)), None);
        assert_eq!(from_status(&Status::aborted("plain")), None);
    }

    #[test]
    fn a_long_detail_still_fits_the_headers() {
        let reject = Reject::new(Reason::Malformed, "ä".repeat(100_000));
        let mut headers = tonic::codegen::http::HeaderMap::new();
        to_status(&reject).add_header(&mut headers).unwrap();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 16 << 10, "{bytes}");
    }

    #[test]
    fn an_absurd_wait_is_shortened() {
        let status = fault_after("", Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!(retry_delay(&status), Some(LONGEST_RETRY));
    }

    proptest! {
        #[test]
        fn arbitrary_details_are_read_or_ignored_and_never_panic(
            number in any::<i32>(), message in ".{0,40}", details in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let status = Status::with_details(Code::from_i32(number), message, details.into());
            let _ = (from_status(&status), retry_delay(&status));
        }

        #[test]
        fn any_wait_on_the_wire_is_read_or_ignored(seconds in any::<i64>(), nanos in any::<i32>()) {
            use prost::Message as _;
            let delay = tonic_types::pb::RetryInfo {
                retry_delay: Some(prost_types::Duration { seconds, nanos }),
            };
            let any = prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: delay.encode_to_vec(),
            };
            let wire = tonic_types::Status { code: 14, message: String::new(), details: vec![any] };
            let status = Status::with_details(Code::Unavailable, "", wire.encode_to_vec().into());
            prop_assert!(retry_delay(&status).is_none_or(|delay| delay <= LONGEST_RETRY));
        }
    }
}
