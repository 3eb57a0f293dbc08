//! What every ledger must do, as one suite that every backend runs.
//!
//! A backend's test gives [`run`] a way to open an empty ledger, and [`survives_reopening`] a way to close one and open
//! it again. Each case is a sentence of the [`Store`] contract; after each, the ledger must still be consistent and its
//! audit events without gaps.

use super::{Store, StoreError};
use std::{future::Future, sync::Arc};

mod audit;
mod client;
mod end;
mod fixture;
mod masked;
mod round;
mod survivor;
mod task;
mod upload;

/// Runs every case, each on a fresh, empty ledger.
///
/// # Panics
/// If the ledger breaks the contract; the message says where.
pub async fn run<Open, Opening>(open: Open)
where
    Open: Fn() -> Opening,
    Opening: Future<Output = Arc<dyn Store>>,
{
    macro_rules! cases {
        ($($case:path,)*) => {
            $(
                let store = open().await;
                $case(Arc::clone(&store)).await;
                sound(&*store, stringify!($case)).await;
            )*
        };
    }
    cases! {
        task::a_created_task_reads_back_and_its_name_stays_taken,
        task::tasks_are_listed_oldest_first,
        task::whatever_names_a_missing_task_or_round_is_not_found,
        task::a_task_moves_between_running_and_paused_until_it_ends,
        round::a_thousand_seats_read_back_sorted_with_their_nonces,
        round::a_round_opens_only_when_everything_fits,
        round::rounds_are_listed_newest_first_page_by_page,
        upload::each_upload_gets_its_own_result,
        upload::an_upload_reads_back_as_it_was_recorded,
        upload::the_same_digest_again_is_fine_at_any_time,
        upload::impossible_numbers_spoil_only_their_own_row,
        upload::a_round_that_is_not_open_takes_nothing_new,
        upload::one_batch_may_serve_several_rounds,
        upload::a_refusal_is_recorded_once_and_bars_the_seat,
        upload::only_refusals_and_dropouts_are_recorded_before_the_end,
        survivor::survivors_are_fixed_once,
        survivor::every_survivor_must_have_a_seat,
        end::a_release_changes_round_task_and_seats_together,
        end::a_release_needs_a_closing_round_and_may_be_repeated,
        end::a_release_that_does_not_fit_changes_nothing,
        end::a_release_brings_uploads_that_were_never_recorded,
        end::a_recorded_refusal_stands,
        end::the_last_release_finishes_the_task_unless_it_was_stopped,
        end::an_abandoned_round_leaves_the_model_and_lets_the_next_open,
        masked::a_journal_is_appended_in_order_and_gone_with_its_round,
        masked::groups_are_recorded_until_the_round_ends,
        client::check_ins_create_clients_and_move_only_forward,
        client::counts_say_what_became_of_a_clients_seats,
        client::verdicts_of_ended_rounds_come_oldest_first,
        audit::every_change_writes_its_event_and_nothing_else_does,
        audit::events_are_read_page_by_page,
        audit::concurrent_callers_leave_one_result_and_no_gap,
    }
}

/// Everything acknowledged is there after closing and opening again. `reopen` must close what it is given first.
///
/// # Panics
/// If something is missing or different afterwards.
pub async fn survives_reopening<Reopen, Reopening>(store: Arc<dyn Store>, reopen: Reopen)
where
    Reopen: Fn(Arc<dyn Store>) -> Reopening,
    Reopening: Future<Output = Arc<dyn Store>>,
{
    let task = fixture::opened(&*store, "durable", 3).await;
    fixture::record(&*store, &task, 1, &[0, 1]).await;
    let (before, events) = (ok(store.open_round_of(&task).await), ok(store.events(0, 100).await));
    let store = reopen(store).await;
    assert_eq!(ok(store.open_round_of(&task).await), before, "the open round and its bodies");
    assert_eq!(ok(store.events(0, 100).await), events, "the audit events");
    // A caller who never learnt the result of its write calls again.
    fixture::record(&*store, &task, 1, &[0, 1]).await;
    ok(store.close_round(&task, 1, &fixture::clients(0..2), None, 20).await);
    let store = reopen(store).await;
    ok(store.close_round(&task, 1, &fixture::clients(0..2), None, 20).await);
    assert_eq!(ok(store.survivors(&task, 1).await), fixture::clients(0..2));
    ok(store.release(fixture::release(&task, 1, 3, 2)).await);
    let before = (ok(store.task(&task).await), ok(store.round(&task, 1).await));
    let store = reopen(store).await;
    ok(store.release(fixture::release(&task, 1, 3, 2)).await);
    assert_eq!((ok(store.task(&task).await), ok(store.round(&task, 1).await)), before);
    sound(&*store, "survives_reopening").await;
}

async fn sound(store: &dyn Store, case: &str) {
    if let Err(error) = store.check().await {
        panic!("after {case}: {error}");
    }
    let events = ok(store.events(0, usize::MAX).await);
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    let expected: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(sequences, expected, "after {case}: audit events have gaps");
    for event in events {
        assert!(event.body.starts_with('{') && event.body.ends_with('}'), "after {case}: {event:?} is no JSON object");
    }
}

#[track_caller]
fn ok<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("must succeed: {error}"),
    }
}

#[track_caller]
fn exists<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Exists { .. })), "must be Exists: {result:?}");
}

#[track_caller]
fn not_found<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NotFound { .. })), "must be NotFound: {result:?}");
}

#[track_caller]
fn wrong_state<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::WrongState { .. })), "must be WrongState: {result:?}");
}
