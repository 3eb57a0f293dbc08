//! Runs of correlated noise: steps, participation limits, and what later steps need of earlier ones.

use super::super::{NewRound, NewTask, PrivacyPlan, Release, RunNoise, Store, StoreError, TaskState};
use super::{
    budget::{off_plan, totals, verified},
    fixture::*,
    ok, wrong_state,
};
use std::{ops::Range, sync::Arc};
use testudo_privacy::{
    budget::{Charge, ChargeMechanism, Gate},
    mechanism::participation::ParticipationLimit,
    sensitivity::Adjacency,
};
use testudo_protocol::{Abandon, TaskName};

/// A run of three steps; a client takes part twice, two rounds apart.
fn charge() -> Charge {
    let mechanism = ChargeMechanism::Correlated { rounds: 3, participations: 2, separation: 2 };
    Charge::new(Adjacency::ZeroOut, mechanism, 20 << 24, 1 << 24, 3).expect("fixtures use valid charges")
}

fn whole() -> i64 {
    charge().rho_units().expect("fixtures use small charges")
}

async fn planned(store: &dyn Store, text: &str) -> TaskName {
    let plan = PrivacyPlan {
        population: "phones".into(),
        epsilon: 2.0,
        delta: 1e-6,
        charge: charge(),
        gate: Gate::Rho,
        releases: 1,
        limit: ParticipationLimit::new(2, 2).ok(),
    };
    let task = name(text);
    ok(store.create_task(NewTask { privacy: Some(plan), ..new_task(&task) }).await);
    task
}

/// A round of these clients as a step.
async fn step(store: &dyn Store, task: &TaskName, number: u64, step: u64, seats: Range<usize>) -> NewRound {
    let base = ok(store.task(task).await).model;
    let reserve = if step == 1 { charge() } else { charge().step(step) };
    NewRound {
        cohort: seats.map(|index| (client(index), nonce(index))).collect(),
        reserve: Some(reserve),
        step: Some(step),
        ..new_round(task, number, base, 1)
    }
}

async fn closed(store: &dyn Store, task: &TaskName, number: u64, steps: u64, seats: Range<usize>) -> RunNoise {
    ok(store.open_round(step(store, task, number, steps, seats.clone()).await).await);
    let at = 10 * number + 6;
    ok(store.close_step(task, number, &clients(seats), [number as u8; 32], at).await)
}

fn released(task: &TaskName, number: u64, finishes: bool) -> Release {
    Release { charged: true, finishes, ..release(task, number, 0, 0) }
}

pub(super) async fn a_run_is_charged_once_and_its_steps_keep_what_they_summed(store: Arc<dyn Store>) {
    let task = planned(&*store, "a").await;
    assert_eq!(totals(&*store).await, (0, 0, whole()));
    let first = closed(&*store, &task, 1, 1, 0..2).await;
    assert_eq!(first.manifests, [[1; 32]]);
    // Told again, in whatever words, the first manifest stands; the seed is the run's.
    let again = ok(store.close_step(&task, 1, &clients(0..2), [9; 32], 17).await);
    assert_eq!((ok(store.step_noise(&task, 1).await), &again), (Some(first.clone()), &first));
    assert_eq!(ok(store.noise_seed(&task, 1).await), None);
    ok(store.release(released(&task, 1, false)).await);
    assert_eq!(totals(&*store).await, (whole(), 0, 0));
    assert_eq!(ok(store.step_noise(&task, 1).await), None, "nothing of it is drawn again but by later steps");
    let second = closed(&*store, &task, 2, 2, 2..4).await;
    assert_eq!((second.seed, second.manifests.clone()), (first.seed, vec![[1; 32], [2; 32]]));
    ok(store.release(released(&task, 2, false)).await);
    let third = closed(&*store, &task, 3, 3, 0..2).await;
    assert_eq!(third.manifests, [[1; 32], [2; 32], [3; 32]]);
    ok(store.release(released(&task, 3, true)).await);
    assert_eq!(totals(&*store).await, (whole(), 0, 0));
    let entries = verified(&*store).await;
    assert_eq!(
        entries.iter().map(|entry| entry.charge).collect::<Vec<_>>(),
        [charge(), charge().step(2), charge().step(3)]
    );
    let plan = ok(store.accounts().await).remove(0).plans.remove(0);
    assert_eq!((plan.rounds(), plan.left(), plan.charged, plan.released), (3, 0, 3, 3));
}

pub(super) async fn nobody_has_a_seat_too_often_or_too_soon(store: Arc<dyn Store>) {
    let task = planned(&*store, "a").await;
    closed(&*store, &task, 1, 1, 0..2).await;
    ok(store.release(released(&task, 1, false)).await);
    // Client 1 was in the step before.
    wrong_state(store.open_round(step(&*store, &task, 2, 2, 1..3).await).await);
    assert_eq!(ok(store.task(&task).await).last_round, 1);
    closed(&*store, &task, 2, 2, 2..4).await;
    ok(store.release(released(&task, 2, false)).await);
    let known = ok(store.participations(&task).await).expect("it has a run");
    assert_eq!((known.step, known.limit.most(), known.limit.gap(), known.clients.len()), (3, 2, 2, 4));
    assert!(known.clients[&client(0)].may_join(known.limit, 3) && !known.clients[&client(2)].may_join(known.limit, 3));
    // Steps come in order, and a task's rounds are steps exactly if it has a run.
    for wrong in [1, 2, 4] {
        wrong_state(store.open_round(step(&*store, &task, 3, wrong, 0..2).await).await);
    }
    wrong_state(store.open_round(NewRound { step: None, ..step(&*store, &task, 3, 3, 0..2).await }).await);
    let open = created(&*store, "open").await;
    wrong_state(store.open_round(NewRound { reserve: None, ..step(&*store, &open, 1, 1, 0..2).await }).await);
    assert_eq!(ok(store.participations(&open).await), None);
}

pub(super) async fn a_round_given_back_leaves_its_step_and_one_spent_does_not(store: Arc<dyn Store>) {
    let task = planned(&*store, "a").await;
    ok(store.open_round(step(&*store, &task, 1, 1, 0..2).await).await);
    let few = Abandon::TooFewUpdates { received: 0, minimum: 1 };
    ok(store.abandon(&task, 1, &few, &[], 19).await);
    assert_eq!(totals(&*store).await, (0, 0, whole()));
    let known = ok(store.participations(&task).await).expect("it has a run");
    assert_eq!((known.step, known.clients.len()), (1, 0), "nothing of the round was summed");
    // Given up before its survivors were fixed, for what may depend on the updates: the step is gone.
    ok(store.open_round(step(&*store, &task, 2, 1, 0..2).await).await);
    let fault = Abandon::Fault { detail: "a bug".into() };
    ok(store.abandon(&task, 2, &fault, &[], 29).await);
    assert_eq!(totals(&*store).await, (whole(), 0, 0));
    let noise = closed(&*store, &task, 3, 2, 2..4).await;
    assert_eq!((noise.manifests.len(), noise.manifests[1]), (2, [3; 32]), "its noise is drawn all the same");
    ok(store.abandon(&task, 3, &fault, &[], 39).await);
    closed(&*store, &task, 4, 3, 0..2).await;
    ok(store.abandon(&task, 4, &fault, &[], 49).await);
    assert_eq!(verified(&*store).await.len(), 3);
    match store.open_round(step(&*store, &task, 5, 4, 4..6).await).await {
        Err(StoreError::Exhausted(_)) => {}
        other => panic!("every step is taken: {other:?}"),
    }
}

pub(super) async fn a_step_is_reserved_exactly_as_its_run_was_planned(store: Arc<dyn Store>) {
    let task = planned(&*store, "a").await;
    let refused = async |number, reserve: Charge, seats| {
        let round = step(&*store, &task, number, number, seats).await;
        let error = off_plan(store.open_round(NewRound { reserve: Some(reserve), ..round }).await);
        assert_eq!(ok(store.task(&task).await).last_round, number - 1, "{error}");
    };
    let newer = Charge { sampler_version: charge().sampler_version + 1, ..charge() };
    let quieter = Charge { sigma_grid: charge().sigma_grid + 1, ..charge() };
    // The first step pays for the run: as a later one it would cost nothing.
    for reserve in [charge().step(2), newer, quieter, Charge { releases: 2, ..charge() }] {
        refused(1, reserve, 0..2).await;
    }
    assert_eq!(totals(&*store).await, (0, 0, whole()));
    closed(&*store, &task, 1, 1, 0..2).await;
    ok(store.release(released(&task, 1, false)).await);
    for reserve in [charge(), charge().step(3), newer.step(2), quieter.step(2)] {
        refused(2, reserve, 2..4).await;
    }
    closed(&*store, &task, 2, 2, 2..4).await;
    ok(store.release(released(&task, 2, false)).await);
    assert_eq!((totals(&*store).await, verified(&*store).await.len()), ((whole(), 0, 0), 2));
}

pub(super) async fn the_end_of_a_task_forgets_the_seed_of_its_run(store: Arc<dyn Store>) {
    for state in [TaskState::Stopped, TaskState::Failed] {
        let task = planned(&*store, state.word()).await;
        closed(&*store, &task, 1, 1, 0..2).await;
        ok(store.set_task_state(&task, state, "", 18).await);
        assert_eq!(ok(store.step_noise(&task, 1).await), None);
    }
    let limitless = name("limitless");
    let plan = PrivacyPlan {
        population: "phones".into(),
        epsilon: 2.0,
        delta: 1e-6,
        charge: charge(),
        gate: Gate::Rho,
        releases: 1,
        limit: None,
    };
    wrong_state(store.create_task(NewTask { privacy: Some(plan), ..new_task(&limitless) }).await);
    assert_eq!(ok(store.accounts().await)[0].plans.len(), 2);
}
