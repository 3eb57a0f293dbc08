//! What `testudo join` says of a task's participation limit, and of one that has no place left.

use crate::{format::plural, output::Output};
use serde_json::{Value, json};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use testudo_client::{NotNowWhy, SeatLimit, Wait};

/// Says once for each round to come that the limit is why this client waits, and once that the task is full.
pub(super) fn listener(task: String, output: Output) -> impl Fn(&Wait) + Send + Sync + 'static {
    let (said, said_full) = (Mutex::new(None), AtomicBool::new(false));
    move |wait| {
        if wait.why == NotNowWhy::Full && !said_full.swap(true, Ordering::Relaxed) {
            let object = json!({ "event": "waiting", "task": task, "why": wait.why.word() });
            // As below.
            let _ = output.result(object, |_| FULL.into());
        }
        let Some(limit) = wait.limit.filter(|_| wait.why == NotNowWhy::TooSoon) else { return };
        if said.lock().unwrap_or_else(PoisonError::into_inner).replace(limit) == Some(limit) {
            return;
        }
        let object = json!({ "event": "waiting", "task": task, "why": wait.why.word(), "limit": object(limit) });
        // An output that is gone is found out with the next round's line.
        let _ = output.result(object, |_| waiting(limit));
    }
}

/// What a client hears that a task does not sample.
const FULL: &str = "waiting: this task samples among the clients that registered first, and has all of them; this one is not among them";

fn waiting(limit: SeatLimit) -> String {
    let next = limit.next_round.map_or_else(|| "a later one".into(), |round| format!("round {round}"));
    format!("waiting: {}; the next one for this client is {next} at the earliest", text(limit))
}

/// "this task takes a client in at most 4 rounds, at least 20 apart".
pub(super) fn text(limit: SeatLimit) -> String {
    let SeatLimit { participations, separation, .. } = limit;
    format!(
        "this task takes a client in at most {}, at least {separation} apart",
        plural(participations.into(), "round")
    )
}

/// For programs.
pub(super) fn object(limit: SeatLimit) -> Value {
    let SeatLimit { participations, separation, next_round } = limit;
    json!({ "participations": participations, "separation": separation, "next_round": next_round })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_the_limit_and_the_next_round() {
        let limit = SeatLimit { participations: 4, separation: 20, next_round: Some(25) };
        let expected = "waiting: this task takes a client in at most 4 rounds, at least 20 apart; the next one for this client \
                        is round 25 at the earliest";
        assert_eq!(waiting(limit), expected);
    }
}
