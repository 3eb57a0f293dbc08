//! Audit events and concurrent callers.

use super::super::{Release, RoundState, Store, TaskState, UploadRow};
use super::{fixture::*, ok, wrong_state};
use std::sync::Arc;
use testudo_protocol::{Abandon, Verdict};

pub(super) async fn every_change_writes_its_event_and_nothing_else_does(store: Arc<dyn Store>) {
    let task = name("a");
    for _ in 0..2 {
        // The second pass is what a caller does who never learnt the results: nothing changes, so nothing is written.
        let _ = store.create_task(new_task(&task)).await;
        let _ = store.open_round(new_round(&task, 1, digest("initial"), 3)).await;
        record(&*store, &task, 1, &[0, 1]).await;
        ok(store.record_refusal(&task, 1, &client(2), Verdict::Dropout, "left", 13).await);
        ok(store.close_round(&task, 1, &clients(0..2), None, 16).await);
        ok(store.release(Release { at: 17, ..release(&task, 1, 3, 2) }).await);
        ok(store.seen(&[(client(0), 18)]).await);
    }
    ok(store.open_round(new_round(&task, 2, digest("model 1"), 3)).await);
    for _ in 0..2 {
        ok(store.abandon(&task, 2, &Abandon::Stopped, &[], 27).await);
        ok(store.set_task_state(&task, TaskState::Stopped, "enough", 28).await);
    }
    wrong_state(store.set_task_state(&task, TaskState::Running, "", 29).await);
    let events: Vec<_> =
        ok(store.events(0, 99).await).into_iter().map(|event| (event.at, event.kind, event.task)).collect();
    let expected = [
        (1, "create_task", "a"),
        (10, "open_round", "a"),
        (12, "record_upload", "a"),
        (12, "record_upload", "a"),
        (13, "record_refusal", "a"),
        (16, "close_round", "a"),
        (17, "release", "a"),
        (18, "seen", ""),
        (20, "open_round", "a"),
        (27, "abandon", "a"),
        (28, "set_task_state", "a"),
    ];
    assert_eq!(events, expected.map(|(at, kind, task)| (at, kind.to_owned(), task.to_owned())));
}

pub(super) async fn events_are_read_page_by_page(store: Arc<dyn Store>) {
    assert_eq!(ok(store.events(0, 9).await), []);
    for index in 0..5 {
        created(&*store, &format!("task-{index}")).await;
    }
    let page = async |after, limit| -> Vec<u64> {
        ok(store.events(after, limit).await).into_iter().map(|event| event.sequence).collect()
    };
    assert_eq!(page(0, 2).await, [1, 2]);
    assert_eq!(page(2, 2).await, [3, 4]);
    assert_eq!(page(4, 2).await, [5]);
    assert!(page(5, 2).await.is_empty());
    assert!(page(u64::MAX, usize::MAX).await.is_empty());
}

pub(super) async fn concurrent_callers_leave_one_result_and_no_gap(store: Arc<dyn Store>) {
    const CLIENTS: usize = 40;
    let task = opened(&*store, "a", CLIENTS).await;
    let callers: Vec<_> = (0..4 * CLIENTS)
        .map(|caller| {
            let (store, task) = (Arc::clone(&store), task.clone());
            tokio::spawn(async move {
                // Four callers for each client: two send the same update, two others one of their own.
                let (index, kind) = (caller % CLIENTS, caller / CLIENTS);
                let text = if kind < 2 { format!("update {index}") } else { format!("other {caller}") };
                let row = UploadRow { digest: digest(&text), ..upload(index) };
                let recorded = record_one(&*store, &task, 1, row).await.is_ok();
                let counts = ok(store.round(&task, 1).await).counts;
                assert!(!recorded || counts.received > 0, "an acknowledged update is seen by the next reader");
                (index, recorded.then(|| digest(&text)))
            })
        })
        .collect();
    let mut winners = vec![None; CLIENTS];
    for caller in callers {
        let (index, won) = caller.await.unwrap_or_else(|error| panic!("{error}"));
        let Some(digest) = won else { continue };
        assert!(winners[index].is_none_or(|winner| winner == digest), "two updates of one client were acknowledged");
        winners[index] = Some(digest);
    }
    let round = ok(store.round(&task, 1).await);
    let recorded: Vec<_> = round.seats.iter().map(|seat| seat.upload.as_ref().map(|upload| upload.digest)).collect();
    assert_eq!(recorded, winners);
    assert!(recorded.iter().all(Option::is_some));
    assert_eq!(ok(store.events(0, usize::MAX).await).len(), 2 + CLIENTS);

    let closers: Vec<_> = (0..8)
        .map(|caller| {
            let (store, task) = (Arc::clone(&store), task.clone());
            tokio::spawn(async move {
                store.close_round(&task, 1, &clients(0..CLIENTS - caller % 2), None, 16).await.is_ok()
            })
        })
        .collect();
    let mut closed = 0;
    for closer in closers {
        closed += usize::from(closer.await.unwrap_or_else(|error| panic!("{error}")));
    }
    assert_eq!(closed, 4, "one set of survivors wins, for the four who asked for it");
    assert_eq!(ok(store.round(&task, 1).await).state, RoundState::Closing);
}
