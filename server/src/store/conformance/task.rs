//! Tasks.

use super::super::{NewTask, Store, TaskRow, TaskState};
use super::{exists, fixture::*, not_found, ok, wrong_state};
use std::sync::Arc;
use testudo_protocol::{Abandon, Verdict};

pub(super) async fn a_created_task_reads_back_and_its_name_stays_taken(store: Arc<dyn Store>) {
    let task = created(&*store, "a").await;
    let expected = TaskRow {
        name: task.clone(),
        toml: new_task(&task).toml,
        state: TaskState::Running,
        why: String::new(),
        initial: digest("initial"),
        model: digest("initial"),
        optimizer: None,
        last_round: 0,
        released: 0,
        abandoned: 0,
        created_at: 1,
    };
    assert_eq!(ok(store.task(&task).await), expected);
    exists(store.create_task(new_task(&task)).await);
    exists(store.create_task(NewTask { toml: "other".into(), ..new_task(&task) }).await);
    assert_eq!(ok(store.task(&task).await), expected);
}

pub(super) async fn tasks_are_listed_oldest_first(store: Arc<dyn Store>) {
    assert_eq!(ok(store.tasks().await), []);
    for text in ["b", "c", "a"] {
        created(&*store, text).await;
    }
    let names: Vec<_> = ok(store.tasks().await).into_iter().map(|task| task.name).collect();
    assert_eq!(names, ["b", "c", "a"].map(name));
}

pub(super) async fn whatever_names_a_missing_task_or_round_is_not_found(store: Arc<dyn Store>) {
    let here = opened(&*store, "here", 1).await;
    let missing = name("missing");
    not_found(store.task(&missing).await);
    not_found(store.set_task_state(&missing, TaskState::Paused, "", 2).await);
    not_found(store.open_round(new_round(&missing, 1, digest("initial"), 1)).await);
    for (task, round) in [(&missing, 1), (&here, 2), (&here, u64::MAX)] {
        not_found(store.round(task, round).await);
        not_found(store.survivors(task, round).await);
        not_found(store.noise_seed(task, round).await);
        not_found(record_one(&*store, task, round, upload(0)).await);
        not_found(store.record_refusal(task, round, &client(0), Verdict::Dropout, "", 2).await);
        not_found(store.close_round(task, round, &[], None, 2).await);
        not_found(store.release(release(task, round, 1, 1)).await);
        not_found(store.abandon(task, round, &Abandon::Stopped, &[], 2).await);
    }
    not_found(store.round(&missing, 0).await);
    not_found(store.round(&created(&*store, "no-round-yet").await, 0).await);
    assert_eq!(ok(store.open_round_of(&missing).await), None);
    assert_eq!(ok(store.rounds(&missing, 0, 9).await), []);
    assert_eq!(ok(store.clients(Some(&missing), 9).await), []);
    assert_eq!(ok(store.verdicts_after(&missing, &client(0), 0, 9).await), []);
}

pub(super) async fn a_task_moves_between_running_and_paused_until_it_ends(store: Arc<dyn Store>) {
    for (text, end) in [("stopped", TaskState::Stopped), ("failed", TaskState::Failed)] {
        let task = created(&*store, text).await;
        for state in [TaskState::Running, TaskState::Paused, TaskState::Paused, TaskState::Running, TaskState::Paused] {
            ok(store.set_task_state(&task, state, "", 2).await);
            assert_eq!(ok(store.task(&task).await).state, state);
        }
        wrong_state(store.set_task_state(&task, TaskState::Finished, "", 2).await);
        ok(store.set_task_state(&task, end, "first reason", 3).await);
        ok(store.set_task_state(&task, end, "second reason", 4).await);
        for state in [TaskState::Running, TaskState::Paused, TaskState::Finished] {
            wrong_state(store.set_task_state(&task, state, "", 5).await);
        }
        let row = ok(store.task(&task).await);
        assert_eq!((row.state, row.why.as_str()), (end, "first reason"));
    }
}
