//! Masked rounds: their journal and their groups.

use super::super::Store;
use super::{fixture::*, not_found, ok, wrong_state};
use std::sync::Arc;
use testudo_protocol::{Abandon, Verdict};

fn bodies(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{{\"input\":{number}}}")).collect()
}

pub(super) async fn a_journal_is_appended_in_order_and_gone_with_its_round(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    assert_eq!(ok(store.inputs(&task, 1).await), Vec::<String>::new());
    ok(store.append_inputs(&task, 1, 0, &bodies(0..3)).await);
    ok(store.append_inputs(&task, 1, 3, &bodies(3..4)).await);
    ok(store.append_inputs(&task, 1, 4, &[]).await);
    ok(store.append_inputs(&task, 1, 3, &bodies(3..4)).await);
    for first in [0, 3, 5] {
        wrong_state(store.append_inputs(&task, 1, first, &bodies(9..10)).await);
    }
    assert_eq!(ok(store.inputs(&task, 1).await), bodies(0..4));
    not_found(store.append_inputs(&task, 2, 0, &bodies(0..1)).await);
    not_found(store.inputs(&name("b"), 1).await);
    // A closing round takes no more, and still tells what it was told.
    record(&*store, &task, 1, &[0]).await;
    ok(store.close_round(&task, 1, &clients(0..1), None, 16).await);
    wrong_state(store.append_inputs(&task, 1, 4, &bodies(4..5)).await);
    assert_eq!(ok(store.inputs(&task, 1).await), bodies(0..4));
    ok(store.release(release(&task, 1, 2, 1)).await);
    assert_eq!(ok(store.inputs(&task, 1).await), Vec::<String>::new());

    let task = opened(&*store, "c", 2).await;
    ok(store.append_inputs(&task, 1, 0, &bodies(0..2)).await);
    ok(store.abandon(&task, 1, &Abandon::Stopped, &[judged(0, Verdict::Dropout)], 17).await);
    assert_eq!(ok(store.inputs(&task, 1).await), Vec::<String>::new());
    wrong_state(store.append_inputs(&task, 1, 0, &bodies(0..1)).await);
}

pub(super) async fn groups_are_recorded_until_the_round_ends(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    assert_eq!(ok(store.round(&task, 1).await).groups, "");
    ok(store.record_groups(&task, 1, "{\"groups\":[]}", 11).await);
    let events = ok(store.events(0, 100).await).len();
    ok(store.record_groups(&task, 1, "{\"groups\":[]}", 12).await);
    assert_eq!(ok(store.events(0, 100).await).len(), events, "the same again changes nothing");
    ok(store.record_groups(&task, 1, "{\"groups\":[1]}", 13).await);
    record(&*store, &task, 1, &[0]).await;
    ok(store.close_round(&task, 1, &clients(0..1), None, 16).await);
    ok(store.record_groups(&task, 1, "{\"groups\":[2]}", 16).await);
    ok(store.release(release(&task, 1, 2, 1)).await);
    assert_eq!(ok(store.round(&task, 1).await).groups, "{\"groups\":[2]}");
    wrong_state(store.record_groups(&task, 1, "{}", 18).await);
    not_found(store.record_groups(&task, 2, "{}", 18).await);
}
