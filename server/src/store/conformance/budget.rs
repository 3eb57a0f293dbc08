//! Privacy budgets: plans, reservations, charges and what becomes of them.

use super::super::{EventRow, NewRound, NewTask, PlanRow, PrivacyPlan, Release, Store, StoreError, TaskState};
use super::{fixture::*, not_found, ok, wrong_state};
use std::sync::Arc;
use testudo_privacy::{
    budget::{Charge, ChargeMechanism, Entry, Exhausted, Gate, verify},
    sensitivity::Adjacency,
};
use testudo_protocol::{Abandon, Reason, TaskName, Verdict};

/// One release with noise multiplier `z`.
pub(super) fn charge(z: u64) -> Charge {
    let charge = Charge::new(Adjacency::ZeroOut, ChargeMechanism::Gaussian, z << 24, 1 << 24, 1);
    charge.expect("fixtures use valid charges")
}

pub(super) fn units(z: u64) -> i64 {
    charge(z).rho_units().expect("fixtures use small charges")
}

/// A task of population "phones" with ε = 2 at δ = 10⁻⁶ that releases `releases` times with z = 20.
pub(super) fn private(task: &TaskName, releases: u32) -> NewTask {
    let plan = PrivacyPlan {
        population: "phones".into(),
        epsilon: 2.0,
        delta: 1e-6,
        charge: charge(20),
        gate: Gate::Rho,
        releases,
        limit: None,
    };
    NewTask { privacy: Some(plan), toml: "[encoding]\nclip_l2 = 0.5\n".into(), ..new_task(task) }
}

pub(super) async fn planned(store: &dyn Store, text: &str, releases: u32) -> TaskName {
    let task = name(text);
    ok(store.create_task(private(&task, releases)).await);
    task
}

pub(super) async fn reserving(store: &dyn Store, task: &TaskName, number: u64) -> NewRound {
    let base = ok(store.task(task).await).model;
    NewRound { reserve: Some(charge(20)), ..new_round(task, number, base, 2) }
}

pub(super) fn charged(task: &TaskName, number: u64) -> Release {
    Release { charged: true, ..release(task, number, 2, 2) }
}

pub(super) async fn closed(store: &dyn Store, task: &TaskName, number: u64) {
    ok(store.open_round(reserving(store, task, number).await).await);
    record(store, task, number, &[0, 1]).await;
    ok(store.close_round(task, number, &clients(0..2), Some([number as u8; 32].into()), 10 * number + 6).await);
}

pub(super) async fn released(store: &dyn Store, task: &TaskName, number: u64) {
    closed(store, task, number).await;
    ok(store.release(charged(task, number)).await);
}

/// Spent, reserved and planned units of "phones".
pub(super) async fn totals(store: &dyn Store) -> (i64, i64, i64) {
    let accounts = ok(store.accounts().await);
    let account = accounts.iter().find(|account| account.population == "phones").expect("the account is there");
    (account.spent, account.reserved, account.planned)
}

#[track_caller]
fn exhausted<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Exhausted {
    match result {
        Err(StoreError::Exhausted(exhausted)) => *exhausted,
        other => panic!("must be Exhausted: {other:?}"),
    }
}

#[track_caller]
pub(super) fn off_plan<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(error @ StoreError::OffPlan { .. }) => error.to_string(),
        other => panic!("must be OffPlan: {other:?}"),
    }
}

/// The chain adds up to what the account says is spent, and ends where it says.
pub(super) async fn verified(store: &dyn Store) -> Vec<Entry> {
    let account = ok(store.accounts().await).remove(0);
    let entries = ok(store.entries(&account.population).await);
    assert_eq!(verify(&entries, account.gate, account.head), Ok(account.spent));
    entries
}

pub(super) async fn a_charge_is_planned_reserved_and_spent_with_the_release(store: Arc<dyn Store>) {
    assert_eq!(ok(store.accounts().await), []);
    not_found(store.entries("phones").await);
    let (task, one) = (planned(&*store, "a", 3).await, units(20));
    assert_eq!(totals(&*store).await, (0, 0, 3 * one));
    ok(store.open_round(reserving(&*store, &task, 1).await).await);
    assert_eq!(totals(&*store).await, (0, one, 2 * one));
    record(&*store, &task, 1, &[0, 1]).await;
    ok(store.close_round(&task, 1, &clients(0..2), Some([7; 32].into()), 16).await);
    assert_eq!(totals(&*store).await, (0, one, 2 * one));
    ok(store.release(charged(&task, 1)).await);
    assert_eq!(totals(&*store).await, (one, 0, 2 * one));
    let account = ok(store.accounts().await).remove(0);
    assert_eq!((account.epsilon, account.delta, account.created_at), (2.0, 1e-6, 1));
    assert!(account.spent_epsilon > 0.0 && account.spent_epsilon < account.promised_epsilon);
    assert!(account.promised_epsilon <= 2.0);
    let plan = PlanRow {
        task: task.clone(),
        state: TaskState::Running,
        clip: Some(0.5),
        grid_bits: None,
        adaptive_clip: false,
        mechanism: String::new(),
        charge: charge(20),
        releases: 3,
        charged: 1,
        released: 1,
        reserved: 0,
        most_updates: None,
    };
    assert_eq!(account.plans, [plan]);
    assert_eq!(account.plans[0].left(), 2);
    let entries = verified(&*store).await;
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!((entry.task.as_str(), entry.round, entry.charge), ("a", 1, charge(20)));
    assert_eq!(entry.release, Some(digest("model 1").0), "the charge names the released model");
    assert_eq!(account.head, Some((0, entry.hash)));
}

pub(super) async fn the_audit_log_commits_to_private_updates_without_telling_their_digests(store: Arc<dyn Store>) {
    let (private, open) = (planned(&*store, "private", 3).await, created(&*store, "open").await);
    ok(store.open_round(reserving(&*store, &private, 1).await).await);
    let base = ok(store.task(&open).await).model;
    ok(store.open_round(new_round(&open, 1, base, 2)).await);
    for task in [&private, &open] {
        record(&*store, task, 1, &[0, 1]).await;
    }
    let events = ok(store.events(0, 100).await);
    let of = |task: &TaskName| {
        let kept = |event: &&EventRow| event.task == task.as_str() && event.kind == "record_upload";
        let body = |event: &EventRow| serde_json::from_str::<serde_json::Value>(&event.body).expect("events are JSON");
        events.iter().filter(kept).map(body).collect::<Vec<_>>()
    };
    let (hidden, shown) = (of(&private), of(&open));
    assert_eq!((hidden.len(), shown.len()), (2, 2));
    let digests: Vec<&str> = shown.iter().filter_map(|body| body["digest"].as_str()).collect();
    assert_eq!(digests.len(), 2);
    for body in &hidden {
        assert!(body["commitment"].as_str().is_some_and(|text| !digests.contains(&text)), "{body}");
        assert!(["digest", "norm", "examples"].iter().all(|key| body.get(key).is_none()), "{body}");
        assert!(digests.iter().all(|digest| !body.to_string().contains(digest)), "{body}");
    }
    assert_ne!(hidden[0]["commitment"], hidden[1]["commitment"]);
}

pub(super) async fn releasing_twice_charges_once(store: Arc<dyn Store>) {
    let task = planned(&*store, "a", 3).await;
    released(&*store, &task, 1).await;
    let before = (totals(&*store).await, verified(&*store).await);
    ok(store.release(charged(&task, 1)).await);
    wrong_state(store.release(Release { model: digest("other"), ..charged(&task, 1) }).await);
    wrong_state(store.abandon(&task, 1, &Abandon::Stopped, &[], 19).await);
    wrong_state(store.open_round(NewRound { number: 1, ..reserving(&*store, &task, 2).await }).await);
    assert_eq!((totals(&*store).await, verified(&*store).await), before);
}

pub(super) async fn nothing_private_is_released_without_its_reservation(store: Arc<dyn Store>) {
    let (private, open) = (planned(&*store, "private", 3).await, created(&*store, "open").await);
    wrong_state(store.open_round(NewRound { reserve: None, ..reserving(&*store, &private, 1).await }).await);
    wrong_state(store.open_round(reserving(&*store, &open, 1).await).await);
    assert_eq!(ok(store.task(&open).await).last_round, 0);
    ok(store.open_round(NewRound { reserve: None, ..reserving(&*store, &open, 1).await }).await);
    record(&*store, &open, 1, &[0, 1]).await;
    ok(store.close_round(&open, 1, &clients(0..2), None, 16).await);
    wrong_state(store.release(charged(&open, 1)).await);
    ok(store.release(release(&open, 1, 2, 2)).await);
    closed(&*store, &private, 1).await;
    wrong_state(store.release(release(&private, 1, 2, 2)).await);
    assert_eq!(totals(&*store).await.0, 0);
    ok(store.release(charged(&private, 1)).await);
}

pub(super) async fn only_an_open_round_that_ignored_the_updates_is_given_back(store: Arc<dyn Store>) {
    let (task, one) = (planned(&*store, "a", 9).await, units(20));
    let few = Abandon::TooFewUpdates { received: 0, minimum: 1 };
    let fault = Abandon::Fault { detail: "x".into() };
    let unmet = Abandon::Rule { detail: "x".into() };
    let mut spent = 0;
    let cases: [(&Abandon, bool, Option<Reason>, bool); 8] = [
        (&few, false, None, false),
        (&few, false, Some(Reason::Late), false),
        (&few, false, Some(Reason::NonFinite), true),
        (&Abandon::Stopped, false, None, false),
        (&Abandon::SpoolLost, false, None, false),
        (&fault, false, None, true),
        (&unmet, false, None, true),
        (&Abandon::Stopped, true, None, true),
    ];
    for (number, (why, closing, refusal, spends)) in (1..).zip(cases) {
        ok(store.open_round(reserving(&*store, &task, number).await).await);
        if let Some(reason) = refusal {
            ok(store.record_refusal(&task, number, &client(0), Verdict::Rejected { reason }, "", 12).await);
        }
        if closing {
            ok(store.close_round(&task, number, &[], Some([1; 32].into()), 16).await);
        }
        for _ in 0..2 {
            ok(store.abandon(&task, number, why, &[], 18).await);
        }
        spent += i64::from(spends);
        let expected = (spent * one, 0, (9 - spent) * one);
        assert_eq!(totals(&*store).await, expected, "round {number}: {why}, closing {closing}, {refusal:?}");
        assert_eq!(ok(store.noise_seed(&task, number).await), None);
    }
    let entries = verified(&*store).await;
    assert_eq!(entries.iter().map(|entry| entry.round).collect::<Vec<_>>(), [3, 6, 7, 8]);
    assert!(entries.iter().all(|entry| entry.release.is_none()));
    assert_eq!(ok(store.accounts().await)[0].plans[0].left(), 5);
}

pub(super) async fn what_does_not_fit_is_refused_at_creation_and_nothing_is_made(store: Arc<dyn Store>) {
    let (task, one) = (name("a"), units(20));
    let error = exhausted(store.create_task(private(&task, 1_000_000)).await);
    assert!(error.largest_affordable > 0 && error.z_needed.is_some_and(|z| z > 20.0), "{error:?}");
    not_found(store.task(&task).await);
    assert_eq!((ok(store.accounts().await).len(), ok(store.events(0, 9).await).len()), (0, 0));
    let most = u32::try_from(error.largest_affordable).expect("a small number");
    ok(store.create_task(private(&task, most)).await);
    // Another task's unspent plan counts, and another population's does not.
    let error = exhausted(store.create_task(private(&name("b"), 1)).await);
    assert_eq!(error.largest_affordable, 0);
    let mut elsewhere = private(&name("b"), most);
    let plan = elsewhere.privacy.as_mut().expect("a private task");
    plan.population = "tablets".into();
    ok(store.create_task(elsewhere).await);
    assert_eq!(totals(&*store).await, (0, 0, i64::from(most) * one));
    let populations: Vec<_> = ok(store.accounts().await).into_iter().map(|account| account.population).collect();
    assert_eq!(populations, ["phones", "tablets"]);
}

pub(super) async fn a_round_beyond_its_plan_is_refused_and_not_opened(store: Arc<dyn Store>) {
    let task = planned(&*store, "a", 1).await;
    released(&*store, &task, 1).await;
    let error = exhausted(store.open_round(reserving(&*store, &task, 2).await).await);
    assert_eq!((error.population.as_str(), error.largest_affordable), ("phones", 0));
    assert!(error.spent_epsilon <= error.limit_epsilon && error.requested_epsilon > error.limit_epsilon, "{error:?}");
    assert_eq!(ok(store.task(&task).await).last_round, 1);
    assert_eq!(totals(&*store).await, (units(20), 0, 0));
}

pub(super) async fn a_round_is_reserved_exactly_as_its_task_planned(store: Arc<dyn Store>) {
    let (task, one) = (planned(&*store, "a", 3).await, units(20));
    for (other, difference) in [
        (charge(19), "sigma_grid"),
        (charge(21), "sigma_grid"),
        (Charge { sampler_version: charge(20).sampler_version + 1, ..charge(20) }, "sampler_version"),
        (Charge { accountant_version: 0, ..charge(20) }, "accountant_version"),
        (charge(20).step(2), "correlated_step"),
    ] {
        let round = NewRound { reserve: Some(other), ..reserving(&*store, &task, 1).await };
        let error = off_plan(store.open_round(round).await);
        assert!(error.contains(difference) && error.contains("round 1 of task a"), "{difference}: {error}");
        assert_eq!((ok(store.task(&task).await).last_round, totals(&*store).await), (0, (0, 0, 3 * one)));
    }
    released(&*store, &task, 1).await;
    assert_eq!(totals(&*store).await, (one, 0, 2 * one));
}

pub(super) async fn a_population_has_one_limit_and_a_sound_name(store: Arc<dyn Store>) {
    planned(&*store, "a", 1).await;
    let changed = |change: fn(&mut PrivacyPlan)| {
        let mut task = private(&name("b"), 1);
        change(task.privacy.as_mut().expect("a private task"));
        task
    };
    for change in [
        (|plan| plan.epsilon = 3.0) as fn(&mut PrivacyPlan),
        |plan| plan.delta = 1e-7,
        |plan| plan.population = String::new(),
        |plan| plan.population = "a\nb".into(),
        |plan| plan.population = "x".repeat(129),
        |plan| (plan.population, plan.epsilon) = ("new".into(), f64::NAN),
        |plan| (plan.population, plan.delta) = ("new".into(), 0.9),
        |plan| plan.releases = 0,
        |plan| plan.charge.sigma_grid = 0,
    ] {
        wrong_state(store.create_task(changed(change)).await);
    }
    assert_eq!((ok(store.tasks().await).len(), ok(store.accounts().await).len()), (1, 1));
}

pub(super) async fn the_end_of_a_task_frees_what_it_did_not_use(store: Arc<dyn Store>) {
    let (stopped, one) = (planned(&*store, "stopped", 5).await, units(20));
    released(&*store, &stopped, 1).await;
    ok(store.open_round(reserving(&*store, &stopped, 2).await).await);
    ok(store.set_task_state(&stopped, TaskState::Paused, "", 25).await);
    assert_eq!(totals(&*store).await, (one, one, 3 * one));
    ok(store.set_task_state(&stopped, TaskState::Stopped, "", 25).await);
    assert_eq!(totals(&*store).await, (one, one, 0), "the open round keeps its reservation");
    ok(store.abandon(&stopped, 2, &Abandon::Stopped, &[], 26).await);
    assert_eq!(totals(&*store).await, (one, 0, 0));
    let finished = planned(&*store, "finished", 5).await;
    closed(&*store, &finished, 1).await;
    ok(store.release(Release { finishes: true, ..charged(&finished, 1) }).await);
    assert_eq!(totals(&*store).await, (2 * one, 0, 0));
    let left: Vec<_> = ok(store.accounts().await)[0].plans.iter().map(PlanRow::left).collect();
    assert_eq!(left, [0, 0]);
    assert_eq!(verified(&*store).await.len(), 2);
}

pub(super) async fn the_first_noise_seed_is_kept_until_the_round_ends(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    assert_eq!(ok(store.noise_seed(&task, 1).await), None);
    not_found(store.noise_seed(&task, 2).await);
    let close = async |seed| ok(store.close_round(&task, 1, &[], seed, 16).await);
    assert_eq!(close(Some([7; 32].into())).await, Some([7; 32].into()));
    assert_eq!(close(Some([2; 32].into())).await, Some([7; 32].into()));
    assert_eq!(close(None).await, Some([7; 32].into()));
    assert_eq!(ok(store.noise_seed(&task, 1).await), Some([7; 32].into()));
    for event in ok(store.events(0, 99).await) {
        assert!(!event.body.contains(&"07".repeat(32)), "a seed in an audit event: {event:?}");
    }
    ok(store.release(release(&task, 1, 0, 0)).await);
    assert_eq!(ok(store.noise_seed(&task, 1).await), None);
    assert_eq!(close(Some([2; 32].into())).await, None, "nothing is kept after the end");
    let clear = opened(&*store, "clear", 2).await;
    assert_eq!(ok(store.close_round(&clear, 1, &[], None, 16).await), None);
    assert_eq!(ok(store.close_round(&clear, 1, &[], Some([2; 32].into()), 16).await), None, "the first one wins");
}

pub(super) async fn concurrent_tasks_never_spend_more_than_the_limit(store: Arc<dyn Store>) {
    let most = exhausted(store.create_task(private(&name("probe"), 1_000_000)).await).largest_affordable;
    let each = u32::try_from(most / 3).expect("a small number");
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.create_task(private(&name(&format!("t{caller}")), each)).await.is_ok() })
        })
        .collect();
    let mut created = 0;
    for caller in callers {
        created += u64::from(caller.await.unwrap_or_else(|error| panic!("{error}")));
    }
    assert_eq!(created, most / u64::from(each));
    let account = ok(store.accounts().await).remove(0);
    assert!(account.spent + account.reserved + account.planned <= account.limit);
}
