//! The survivors of a round.

use super::super::{RoundState, Store};
use super::{fixture::*, not_found, ok, wrong_state};
use std::sync::Arc;
use testudo_protocol::{Abandon, Verdict};

pub(super) async fn survivors_are_fixed_once(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 4).await;
    record(&*store, &task, 1, &[1, 2]).await;
    ok(store.close_round(&task, 1, &clients(1..3), None, 16).await);
    let round = ok(store.round(&task, 1).await);
    assert_eq!(round.state, RoundState::Closing);
    assert!(round.seats.iter().all(|seat| seat.verdict == Verdict::Pending), "seats stay pending until the end");
    assert_eq!(ok(store.survivors(&task, 1).await), clients(1..3));
    ok(store.close_round(&task, 1, &clients(1..3), None, 17).await);
    for others in [clients(0..0), clients(1..2), clients(1..4), clients(0..2)] {
        wrong_state(store.close_round(&task, 1, &others, None, 17).await);
    }
    assert_eq!(ok(store.survivors(&task, 1).await), clients(1..3));
    let Some(open) = ok(store.open_round_of(&task).await) else { panic!("a closing round is found") };
    assert_eq!(open.seats[1].upload, Some(upload(1)), "bodies are still there for the aggregate");
    ok(store.abandon(&task, 1, &Abandon::Stopped, &[], 18).await);
    ok(store.close_round(&task, 1, &clients(1..3), None, 19).await);
    wrong_state(store.close_round(&task, 1, &clients(1..2), None, 19).await);
    assert_eq!(ok(store.round(&task, 1).await).state, RoundState::Abandoned);
}

pub(super) async fn every_survivor_must_have_a_seat(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    not_found(store.close_round(&task, 1, &clients(1..3), None, 16).await);
    assert_eq!(ok(store.round(&task, 1).await).state, RoundState::Open);
    assert_eq!(ok(store.survivors(&task, 1).await), []);
    ok(store.close_round(&task, 1, &clients(1..2), None, 16).await);

    let abandoned = opened(&*store, "b", 2).await;
    ok(store.abandon(&abandoned, 1, &Abandon::Stopped, &[], 18).await);
    wrong_state(store.close_round(&abandoned, 1, &[], None, 19).await);
}
