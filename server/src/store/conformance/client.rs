//! Clients and their verdicts.

use super::super::{ClientRow, Counts, Release, Store};
use super::{fixture::*, ok};
use std::sync::Arc;
use testudo_protocol::{Abandon, Reason, Verdict};

pub(super) async fn check_ins_create_clients_and_move_only_forward(store: Arc<dyn Store>) {
    ok(store.seen(&[]).await);
    ok(store.seen(&[(client(2), 5), (client(1), 7), (client(2), 9)]).await);
    ok(store.seen(&[(client(1), 6), (client(0), 8)]).await);
    let ticks = async |limit| -> Vec<_> {
        let rows = ok(store.clients(None, limit).await);
        rows.into_iter().map(|row| (row.client, row.first_seen, row.last_seen)).collect()
    };
    assert_eq!(ticks(9).await, [(client(0), 8, 8), (client(1), 6, 7), (client(2), 5, 9)]);
    assert_eq!(ticks(1).await, [(client(0), 8, 8)]);
    let many: Vec<_> = (0..1234).map(|index| (client(index), 10)).collect();
    ok(store.seen(&many).await);
    assert_eq!(ticks(usize::MAX).await.len(), 1234);
}

pub(super) async fn counts_say_what_became_of_a_clients_seats(store: Arc<dyn Store>) {
    ok(store.seen(&[(client(0), 1), (client(1), 1), (client(7), 1)]).await);
    let (first, second) = (created(&*store, "a").await, opened(&*store, "b", 2).await);
    play(&*store, &first, 1, 1).await;
    let refused = Verdict::Rejected { reason: Reason::WrongShape };
    ok(store.record_refusal(&second, 1, &client(0), refused, "", 11).await);
    record(&*store, &second, 1, &[1]).await;
    ok(store.close_round(&second, 1, &clients(1..2), None, 16).await);
    let seats = vec![judged(1, Verdict::Clipped { factor: 0.5 })];
    ok(store.release(Release { seats, ..release(&second, 1, 0, 0) }).await);

    let row = |index, counts| ClientRow { client: client(index), first_seen: 1, last_seen: 1, counts };
    let accepted = Counts { received: 1, accepted: 1, ..Counts::default() };
    let rejected = Counts { rejected: 1, ..Counts::default() };
    let both = Counts { received: 1, accepted: 1, rejected: 1, dropouts: 0 };
    assert_eq!(ok(store.clients(Some(&first), 9).await), [row(0, accepted)]);
    assert_eq!(ok(store.clients(Some(&second), 9).await), [row(0, rejected), row(1, accepted)]);
    let all = [row(0, both), row(1, accepted), row(7, Counts::default())];
    assert_eq!(ok(store.clients(None, 9).await), all);
}

pub(super) async fn verdicts_of_ended_rounds_come_oldest_first(store: Arc<dyn Store>) {
    let task = created(&*store, "a").await;
    play(&*store, &task, 1, 1).await;
    ok(store.open_round(new_round(&task, 2, digest("model 1"), 2)).await);
    ok(store.abandon(&task, 2, &Abandon::Stopped, &[], 27).await);
    play(&*store, &task, 3, 1).await;
    ok(store.open_round(new_round(&task, 4, digest("model 3"), 1)).await);
    ok(store.record_refusal(&task, 4, &client(0), Verdict::Dropout, "", 41).await);
    let after = async |after, limit| ok(store.verdicts_after(&task, &client(0), after, limit).await);
    let expected = [(1, Verdict::Accepted), (2, Verdict::Dropout), (3, Verdict::Accepted)];
    assert_eq!(after(0, 9).await, expected);
    assert_eq!(after(1, 1).await, expected[1..2]);
    assert_eq!(after(3, 9).await, []);
    assert_eq!(after(u64::MAX, 9).await, []);
    assert_eq!(ok(store.verdicts_after(&task, &client(1), 0, 9).await), [(2, Verdict::Dropout)]);
    assert_eq!(ok(store.verdicts_after(&task, &client(9), 0, 9).await), []);
}
