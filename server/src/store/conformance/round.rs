//! Opening and listing rounds.

use super::super::{Counts, RoundRow, RoundState, SeatRow, Store, TaskState};
use super::{exists, fixture::*, ok, wrong_state};
use std::sync::Arc;
use testudo_protocol::Verdict;

pub(super) async fn a_thousand_seats_read_back_sorted_with_their_nonces(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 1000).await;
    let seat = |index| SeatRow {
        client: client(index),
        nonce: nonce(index),
        verdict: Verdict::Pending,
        detail: String::new(),
        upload: None,
        score: None,
        weight: None,
    };
    let expected = RoundRow {
        step: None,
        secret: false,
        task: task.clone(),
        number: 1,
        state: RoundState::Open,
        why: String::new(),
        base: digest("initial"),
        model: None,
        seed: [1; 32],
        target: 1000,
        minimum: 1,
        opened_at: 10,
        closes_at: 15,
        ended_at: None,
        aggregate_norm: None,
        notes: vec![],
        groups: String::new(),
        selected: 1000,
        counts: Counts::default(),
        seats: (0..1000).map(seat).collect(),
    };
    assert_eq!(ok(store.round(&task, 1).await), expected);
    assert_eq!(ok(store.round(&task, 0).await), expected);
    assert_eq!(ok(store.open_round_of(&task).await).as_ref(), Some(&expected));
    assert_eq!(ok(store.rounds(&task, 0, 9).await), [RoundRow { seats: vec![], ..expected }]);
    assert_eq!(ok(store.task(&task).await).last_round, 1);
    assert_eq!(ok(store.survivors(&task, 1).await), []);
}

pub(super) async fn a_round_opens_only_when_everything_fits(store: Arc<dyn Store>) {
    let task = created(&*store, "a").await;
    let first = new_round(&task, 1, digest("initial"), 2);
    for number in [0, 2] {
        wrong_state(store.open_round(new_round(&task, number, digest("initial"), 2)).await);
    }
    wrong_state(store.open_round(new_round(&task, 1, digest("another model"), 2)).await);
    let mut twice = first.clone();
    twice.cohort.push((client(0), nonce(9)));
    exists(store.open_round(twice).await);
    ok(store.set_task_state(&task, TaskState::Paused, "", 2).await);
    wrong_state(store.open_round(first.clone()).await);
    ok(store.set_task_state(&task, TaskState::Running, "", 3).await);
    assert_eq!((ok(store.task(&task).await).last_round, ok(store.open_round_of(&task).await)), (0, None));

    ok(store.open_round(first.clone()).await);
    let busy = new_round(&task, 2, digest("initial"), 2);
    wrong_state(store.open_round(first).await);
    wrong_state(store.open_round(busy.clone()).await);
    ok(store.close_round(&task, 1, &[], None, 16).await);
    wrong_state(store.open_round(busy).await);
    assert_eq!(ok(store.open_round_of(&task).await).map(|round| round.state), Some(RoundState::Closing));
    assert_eq!(ok(store.rounds(&task, 0, 9).await).len(), 1);

    let ended = created(&*store, "ended").await;
    ok(store.set_task_state(&ended, TaskState::Stopped, "", 2).await);
    wrong_state(store.open_round(new_round(&ended, 1, digest("initial"), 1)).await);
}

pub(super) async fn rounds_are_listed_newest_first_page_by_page(store: Arc<dyn Store>) {
    let task = created(&*store, "a").await;
    for number in 1..=5 {
        play(&*store, &task, number, 1).await;
    }
    play(&*store, &created(&*store, "another").await, 1, 1).await;
    let page = async |before, limit| -> Vec<u64> {
        ok(store.rounds(&task, before, limit).await).into_iter().map(|round| round.number).collect()
    };
    assert_eq!(page(0, 2).await, [5, 4]);
    assert_eq!(page(4, 2).await, [3, 2]);
    assert_eq!(page(2, 2).await, [1]);
    assert!(page(1, 2).await.is_empty());
    assert_eq!(page(u64::MAX, usize::MAX).await, [5, 4, 3, 2, 1]);
    assert_eq!(ok(store.round(&task, 0).await).number, 5);
    assert_eq!(ok(store.open_round_of(&task).await), None);
}
