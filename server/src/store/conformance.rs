//! What every ledger must do, as one suite that every backend runs.
//!
//! A backend's test gives [`run`] a way to open an empty ledger, and [`survives_reopening`] a way to close one and open
//! it again. Each case is a sentence of the [`Store`] contract; after each, the ledger must still be consistent and its
//! audit events without gaps.

use super::{Store, StoreError};
use std::{future::Future, sync::Arc};

mod audit;
mod budget;
mod client;
mod end;
mod fixture;
mod masked;
mod round;
mod run;
mod sample;
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
        budget::a_charge_is_planned_reserved_and_spent_with_the_release,
        budget::releasing_twice_charges_once,
        budget::the_audit_log_commits_to_private_updates_without_telling_their_digests,
        budget::nothing_private_is_released_without_its_reservation,
        budget::only_an_open_round_that_ignored_the_updates_is_given_back,
        budget::what_does_not_fit_is_refused_at_creation_and_nothing_is_made,
        budget::a_round_beyond_its_plan_is_refused_and_not_opened,
        budget::a_round_is_reserved_exactly_as_its_task_planned,
        budget::a_population_has_one_limit_and_a_sound_name,
        budget::the_end_of_a_task_frees_what_it_did_not_use,
        budget::the_first_noise_seed_is_kept_until_the_round_ends,
        budget::concurrent_tasks_never_spend_more_than_the_limit,
        run::a_run_is_charged_once_and_its_steps_keep_what_they_summed,
        run::nobody_has_a_seat_too_often_or_too_soon,
        run::a_round_given_back_leaves_its_step_and_one_spent_does_not,
        run::a_step_is_reserved_exactly_as_its_run_was_planned,
        run::the_end_of_a_task_forgets_the_seed_of_its_run,
        sample::clients_register_until_there_are_enough,
        sample::a_budget_keeps_the_order_of_its_first_task_and_one_of_gaussians_takes_no_samples,
        sample::a_secret_round_tells_nobody_who_and_how_many_were_drawn,
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

/// Budgets stand where they stood after closing and opening again between any two steps. `reopen` as in
/// [`survives_reopening`].
///
/// # Panics
/// If something was charged twice, not at all, or otherwise than before.
pub async fn budgets_survive_reopening<Reopen, Reopening>(store: Arc<dyn Store>, reopen: Reopen)
where
    Reopen: Fn(Arc<dyn Store>) -> Reopening,
    Reopening: Future<Output = Arc<dyn Store>>,
{
    let task = budget::planned(&*store, "durable", 3).await;
    let one = budget::units(20);
    let store = reopen(store).await;
    ok(store.open_round(budget::reserving(&*store, &task, 1).await).await);
    let store = reopen(store).await;
    assert_eq!(budget::totals(&*store).await, (0, one, 2 * one));
    fixture::record(&*store, &task, 1, &[0, 1]).await;
    ok(store.close_round(&task, 1, &fixture::clients(0..2), Some([7; 32].into()), 20).await);
    let store = reopen(store).await;
    assert_eq!(ok(store.noise_seed(&task, 1).await), Some([7; 32].into()), "the same seed, hence the same bytes");
    let again = store.close_round(&task, 1, &fixture::clients(0..2), Some([8; 32].into()), 21).await;
    assert_eq!(ok(again), Some([7; 32].into()));
    ok(store.release(budget::charged(&task, 1)).await);
    let store = reopen(store).await;
    ok(store.release(budget::charged(&task, 1)).await);
    assert_eq!(budget::totals(&*store).await, (one, 0, 2 * one));
    assert_eq!(ok(store.noise_seed(&task, 1).await), None);
    budget::closed(&*store, &task, 2).await;
    let store = reopen(store).await;
    ok(store.abandon(&task, 2, &testudo_protocol::Abandon::SpoolLost, &[], 30).await);
    let store = reopen(store).await;
    assert_eq!(budget::totals(&*store).await, (2 * one, 0, one), "it was closing");
    assert_eq!(budget::verified(&*store).await.len(), 2);
    sound(&*store, "budgets_survive_reopening").await;
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
