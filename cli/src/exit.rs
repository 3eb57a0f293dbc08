//! Exit codes, and the one place that derives them from refusals and gRPC statuses.

use crate::format::clean;
use serde_json::{Value, json};
use std::{error::Error, process::ExitCode};
use testudo_protocol::Reason;
use tonic::{Code, Status};

/// Stable exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// A bug, or something outside our knowledge.
    Internal,
    /// Arguments or input files that make no sense.
    Usage,
    /// A `server.toml`, `task.toml` or rule that is refused.
    Config,
    /// The server does not know who is calling.
    Authentication,
    /// The server knows, and does not allow it.
    Permission,
    /// No such task, round, release or file.
    NotFound,
    /// Bytes that are not the announced ones.
    Verification,
    /// An update or request against the task's policy.
    Policy,
    /// Taken, already there, or not possible in this state.
    Conflict,
    /// No connection, or no answer in time.
    Unavailable,
    /// Some of several things failed.
    Partial,
    /// The server is at a limit.
    RateLimited,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Authentication => 4,
            Self::Permission => 5,
            Self::NotFound => 6,
            Self::Verification => 7,
            Self::Policy => 8,
            Self::Conflict => 9,
            Self::Unavailable => 10,
            Self::Partial => 11,
            Self::RateLimited => 12,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The code of a refusal.
    pub(crate) fn of_reason(reason: Reason) -> Self {
        match reason {
            Reason::Malformed => Self::Usage,
            Reason::Spec => Self::Config,
            Reason::Identity => Self::Authentication,
            Reason::NotInCohort => Self::Permission,
            Reason::NotFound => Self::NotFound,
            Reason::DigestMismatch | Reason::Signature | Reason::Truncated => Self::Verification,
            Reason::WrongShape
            | Reason::WrongDtype
            | Reason::NonFinite
            | Reason::Magnitude
            | Reason::Examples
            | Reason::Oversize
            | Reason::NotSelected
            | Reason::PrivacyBudgetExhausted => Self::Policy,
            Reason::Exists
            | Reason::TaskEnded
            | Reason::WrongRound
            | Reason::WrongModel
            | Reason::WrongOffset
            | Reason::Duplicate
            | Reason::Late
            | Reason::TakenOver
            | Reason::GroupLost
            | Reason::Withdrawn
            | Reason::WrongState => Self::Conflict,
            Reason::TooSlow => Self::Unavailable,
            Reason::Overloaded => Self::RateLimited,
            // `Reason` may grow; a test holds that none of today's ends here.
            _ => Self::Internal,
        }
    }

    /// The code of a gRPC status that carries no refusal of ours.
    pub(crate) fn of_code(code: Code) -> Self {
        match code {
            Code::Ok => Self::Ok,
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::Unauthenticated => Self::Authentication,
            Code::PermissionDenied => Self::Permission,
            Code::NotFound => Self::NotFound,
            Code::DataLoss => Self::Verification,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Self::Conflict,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unavailable,
            Code::ResourceExhausted => Self::RateLimited,
            Code::Unknown | Code::Internal | Code::Unimplemented => Self::Internal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What a caller does who is no operator.
const OPERATOR: &str = "call from the server's own machine, or with --cert and --key of a certificate whose digest is in \
                        access.operators of server.toml";

/// What helps where a budget does not hold a plan.
const BUDGET: &str = "raise noise_multiplier, lower rounds, or stop a task of this population that will not use its plan; \
                      `testudo privacy show` has what is spent and promised";

/// Why a command did not do what was asked: what, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What could not be done; empty if that has been told already.
    pub(crate) what: String,
    /// Why not; may be several lines.
    pub(crate) why: String,
    /// What to do about it; empty if nothing sensible can be said.
    pub(crate) next: String,
    /// A stable code for programs: a refusal's reason or a word.
    pub(crate) code: &'static str,
}

impl Failure {
    /// A failure without advice.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Ok => "OK",
            Exit::Internal => "INTERNAL",
            Exit::Usage => "USAGE",
            Exit::Config => "CONFIG",
            Exit::Authentication => "AUTHENTICATION",
            Exit::Permission => "PERMISSION",
            Exit::NotFound => "NOT_FOUND",
            Exit::Verification => "VERIFICATION",
            Exit::Policy => "POLICY",
            Exit::Conflict => "CONFLICT",
            Exit::Unavailable => "UNAVAILABLE",
            Exit::Partial => "PARTIAL",
            Exit::RateLimited => "RATE_LIMITED",
            Exit::Interrupted => "INTERRUPTED",
            Exit::Terminated => "TERMINATED",
        };
        Self { exit, what: what.into(), why: why.into(), next: String::new(), code }
    }

    /// The same with advice.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// The reader of our standard output went away, as in `testudo … | head`: no reason to complain.
    pub(crate) fn reader_gone() -> Self {
        Self::new(Exit::Ok, "", "")
    }

    /// What a server answered instead of doing what was asked.
    pub(crate) fn from_status(what: &str, server: &str, status: &Status) -> Self {
        if let Some(reject) = testudo_proto::from_status(status) {
            let mut failure = Self::new(Exit::of_reason(reject.reason), what, one_line(&reject.to_string()));
            failure.code = reject.reason.code();
            failure.next = match (failure.exit, reject.retry_after) {
                (_, Some(after)) => format!("try again in {:.0} s", after.as_secs_f64().ceil()),
                (Exit::NotFound, _) => "`testudo task list` shows what is there".into(),
                (Exit::Authentication, _) => OPERATOR.into(),
                _ if reject.reason == Reason::PrivacyBudgetExhausted => BUDGET.into(),
                _ => String::new(),
            };
            return failure;
        }
        // A status with a source was made on this side: the connection broke.
        let broken = status.source().is_some();
        let exit = if broken { Exit::Unavailable } else { Exit::of_code(status.code()) };
        let why = match (broken, status.message().is_empty()) {
            (true, _) => one_line(&chain(status)),
            (false, true) => format!("the server answered {:?}", status.code()),
            (false, false) => one_line(status.message()),
        };
        let next = match (exit, status.code()) {
            (Exit::Unavailable, _) => {
                format!("check that `testudo serve` runs at {server}, or give another --server; `testudo doctor` helps")
            }
            (Exit::Authentication | Exit::Permission, _) => OPERATOR.into(),
            (_, Code::Unimplemented) => "the server is of another version, or no Testudo server".into(),
            _ => String::new(),
        };
        Self::new(exit, what, why).next(next)
    }

    /// For people: `error:`, then why, then what next. Control characters are gone.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}", clean(&self.what));
        for line in self.why.lines() {
            text += &format!("\n  {}", clean(line));
        }
        if !self.next.is_empty() {
            text += &format!("\n  next: {}", clean(&self.next));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({ "error": {
            "exit": self.exit.code(), "code": self.code, "what": self.what, "why": self.why, "next": self.next,
        }})
    }
}

/// What a server says, in one line: it must not be able to add lines of ours, such as `next:`.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(clean).collect::<Vec<_>>().join("; ")
}

/// An error and what caused it, in one line and without repetition.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_proto::{fault, to_status};
    use testudo_protocol::Reject;

    #[test]
    fn every_reason_has_an_exit_code_of_its_own_choice() {
        for &reason in Reason::ALL {
            assert!(!matches!(Exit::of_reason(reason), Exit::Internal | Exit::Ok), "{reason:?}");
        }
    }

    #[test]
    fn refusals_and_statuses_become_the_documented_codes() {
        let cases = [
            (to_status(&Reject::new(Reason::NotFound, "x")), 6),
            (to_status(&Reject::new(Reason::Spec, "x")), 3),
            (to_status(&Reject::new(Reason::Exists, "x")), 9),
            (to_status(&Reject::new(Reason::DigestMismatch, "x")), 7),
            (to_status(&Reject::new(Reason::NonFinite, "x")), 8),
            (to_status(&Reject::new(Reason::Overloaded, "x")), 12),
            (fault("ledger"), 10),
            (Status::unauthenticated(""), 4),
            (Status::permission_denied(""), 5),
            (Status::deadline_exceeded(""), 10),
            (Status::internal(""), 1),
        ];
        for (status, code) in cases {
            assert_eq!(Failure::from_status("do it", "http://x", &status).exit.code(), code, "{status:?}");
        }
    }

    #[test]
    fn a_plan_that_a_budget_does_not_hold_is_told_what_would_help() {
        let status = to_status(&Reject::new(Reason::PrivacyBudgetExhausted, "limit ε = 1"));
        let failure = Failure::from_status("cannot create the task", "http://x", &status);
        assert_eq!(failure.exit, Exit::Policy);
        for part in ["noise_multiplier", "rounds", "stop a task", "`testudo privacy show`"] {
            assert!(failure.next.contains(part), "{}", failure.next);
        }
    }

    #[test]
    fn an_error_says_what_why_and_what_next_without_control_characters() {
        let status = to_status(&Reject::new(Reason::NotFound, "no task \"\u{1b}[31mx\""));
        let text = Failure::from_status("cannot show the task", "http://x", &status).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: cannot show the task");
        assert!(lines[1].starts_with("  not found: no task"), "{text}");
        assert!(lines[2].starts_with("  next: `testudo task list`"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
