//! Clients that are sampled from, and rounds that tell nobody who was drawn.

use super::super::{NewRound, NewTask, PrivacyPlan, Registration, Store};
use super::{
    budget::{charged, private, totals, verified},
    fixture::*,
    not_found, ok, wrong_state,
};
use std::sync::Arc;
use testudo_privacy::{
    budget::{Charge, ChargeMechanism, Gate},
    sensitivity::Adjacency,
};
use testudo_protocol::{Abandon, Reason, TaskName, Verdict};

pub(super) async fn clients_register_until_there_are_enough(store: Arc<dyn Store>) {
    use Registration::{Full, Registered};
    let task = created(&*store, "a").await;
    assert_eq!(ok(store.registered(&task).await), []);
    let three = [client(2), client(0), client(1)];
    assert_eq!(ok(store.register(&task, &three, 2, 5).await), [Registered, Registered, Full]);
    assert_eq!(ok(store.registered(&task).await), [client(0), client(2)]);
    let events = ok(store.events(0, 99).await);
    assert_eq!(ok(store.register(&task, &three, 2, 6).await), [Registered, Registered, Full], "again");
    assert_eq!(ok(store.events(0, 99).await), events, "nothing changed");
    let registered = events.last().expect("an event");
    assert_eq!((registered.kind.as_str(), registered.task.as_str()), ("register", "a"));
    assert!(!registered.body.contains("client-00001"), "{registered:?}");
    let known: Vec<_> = ok(store.clients(None, 9).await).into_iter().map(|row| (row.client, row.first_seen)).collect();
    assert_eq!(known, [(client(0), 5), (client(2), 5)]);
    let other = created(&*store, "b").await;
    assert_eq!(ok(store.registered(&other).await), [], "every task has its own");
    not_found(store.register(&name("missing"), &three, 2, 5).await);
    not_found(store.registered(&name("missing")).await);
}

pub(super) async fn a_secret_round_tells_nobody_who_and_how_many_were_drawn(store: Arc<dyn Store>) {
    let task = created(&*store, "a").await;
    ok(store.register(&task, &clients(0..9), 9, 5).await);
    let before = ok(store.events(0, 99).await).len();
    let base = ok(store.task(&task).await).model;
    ok(store.open_round(NewRound { secret: true, ..new_round(&task, 1, base, 3) }).await);
    record(&*store, &task, 1, &[0, 1]).await;
    let refused = Verdict::Rejected { reason: Reason::WrongShape };
    ok(store.record_refusal(&task, 1, &client(2), refused, "short", 13).await);
    ok(store.close_round(&task, 1, &clients(0..2), None, 16).await);
    ok(store.release(release(&task, 1, 2, 2)).await);
    let second = NewRound { secret: true, cohort: Vec::new(), minimum: 0, ..new_round(&task, 2, digest("model 1"), 3) };
    ok(store.open_round(second).await);
    assert_eq!(ok(store.open_round_of(&task).await).map(|round| (round.secret, round.seats)), Some((true, vec![])));
    ok(store.close_round(&task, 2, &[], None, 26).await);
    ok(store.release(release(&task, 2, 0, 0)).await);

    let events = ok(store.events(0, 99).await).split_off(before);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["open_round", "close_round", "release", "open_round", "close_round", "release"]);
    let told = |event: &super::super::EventRow| {
        let body: serde_json::Value = serde_json::from_str(&event.body).expect("bodies are JSON");
        let counts = ["selected", "survivors", "survivors_sha256", "received", "accepted", "rejected", "dropouts"];
        counts.iter().filter(|count| !body[**count].is_null()).count()
    };
    for event in &events {
        assert!(told(event) == 0 && !event.body.contains("client-"), "{event:?}");
    }
    for row in ok(store.clients(None, 99).await) {
        assert_eq!((row.counts, row.last_seen), (super::super::Counts::default(), 5), "{row:?}");
    }
    assert_eq!(ok(store.clients(Some(&task), 99).await), []);
    let own = ok(store.verdicts_after(&task, &client(2), 0, 9).await);
    assert_eq!(own, [(1, refused)], "a client hears what became of its own update");
}

/// What a round costs that draws every tenth client, with noise of 20 times the clip.
fn sampled() -> Charge {
    let mechanism = ChargeMechanism::PoissonGaussian { rate: 0.1 };
    Charge::new(Adjacency::ZeroOut, mechanism, 20 << 24, 1 << 24, 1).expect("fixtures use valid charges")
}

/// A task of population "phones" that samples, for which `order` would suit best.
async fn sampling(store: &dyn Store, text: &str, order: u32) -> TaskName {
    let task = name(text);
    let plan = PrivacyPlan {
        population: "phones".into(),
        epsilon: 2.0,
        delta: 1e-6,
        charge: sampled(),
        gate: Gate::Renyi { order },
        releases: 3,
        limit: None,
    };
    ok(store.create_task(NewTask { privacy: Some(plan), ..new_task(&task) }).await);
    task
}

async fn open(store: &dyn Store, task: &TaskName, number: u64) {
    let base = ok(store.task(task).await).model;
    let round = NewRound { secret: true, reserve: Some(sampled()), ..new_round(task, number, base, 2) };
    ok(store.open_round(round).await);
}

pub(super) async fn a_budget_keeps_the_order_of_its_first_task_and_one_of_gaussians_takes_no_samples(
    store: Arc<dyn Store>,
) {
    let once = sampled().renyi_units(8).expect("a small charge");
    let task = sampling(&*store, "first", 8).await;
    assert_eq!(totals(&*store).await, (0, 0, 3 * once));
    sampling(&*store, "second", 32).await;
    assert_eq!(ok(store.accounts().await)[0].gate, Gate::Renyi { order: 8 }, "chosen before anything was released");
    assert_eq!(totals(&*store).await, (0, 0, 6 * once));
    open(&*store, &task, 1).await;
    ok(store.close_round(&task, 1, &[], Some([1; 32].into()), 16).await);
    ok(store.release(charged(&task, 1)).await);
    // Who can restart a server with its spool in memory may not choose among cohorts for nothing.
    open(&*store, &task, 2).await;
    ok(store.abandon(&task, 2, &Abandon::SpoolLost, &[], 25).await);
    open(&*store, &task, 3).await;
    ok(store.abandon(&task, 3, &Abandon::Stopped, &[], 35).await);
    assert_eq!(totals(&*store).await, (2 * once, 0, 4 * once));
    assert_eq!(verified(&*store).await.len(), 2);

    let other = NewTask {
        privacy: private(&name("exact"), 1).privacy.map(|plan| PrivacyPlan { population: "pads".into(), ..plan }),
        ..new_task(&name("exact"))
    };
    ok(store.create_task(other).await);
    let mut plan = private(&name("late"), 1).privacy.expect("a private task");
    (plan.population, plan.charge, plan.gate) = ("pads".into(), sampled(), Gate::Renyi { order: 8 });
    wrong_state(store.create_task(NewTask { privacy: Some(plan), ..new_task(&name("late")) }).await);
}
