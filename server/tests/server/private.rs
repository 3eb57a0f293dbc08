//! Private tasks over real sockets: what they are charged, what they show, and what a stop between two steps leaves.

use crate::common::*;
use futures::future::join_all;
use std::{fs, path::Path, sync::Arc, time::Duration};
use testudo_engine::{Engine, EngineInput, TaskSpec, UploadMeta};
use testudo_privacy::budget::Entry;
use testudo_proto::{Answer, EndedWhy, framing, from_status, v1};
use testudo_protocol::{ClientId, Digest, Reason, RoundParams, TaskName};
use testudo_server::{
    statement::{self, Statement},
    store::{self, AccountRow, Location, RoundRow},
};

/// A task of `cohort` clients with `rounds` releases of noise 50 C: ε ≈ 0.08 each.
pub(crate) fn private_toml(name: &str, rounds: u64, cohort: &str, rule: &str, more: &str) -> String {
    let rest = format!(
        "[encoding]\nclip_l2 = 1.0\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"phones\"\n\
         noise_multiplier = 50.0\nbudget_epsilon = 1.0\ndelta = 1e-6\nclients = 100000\n{more}"
    );
    task_toml(name, rounds, cohort, rule, &rest)
}

pub(crate) const MEAN: &str = "kind = \"mean\"";

/// The population's budget with every charge.
pub(crate) async fn budget(host: &Host) -> (AccountRow, Vec<Entry>) {
    let request = v1::GetBudgetRequest { population: "phones".into(), from: 0, limit: 0 };
    let budgets = within("the budget", host.admin.clone().get_budget(request)).await.unwrap().into_inner().budgets;
    let (account, entries) = statement::from_wire(budgets.into_iter().next().unwrap()).unwrap();
    Statement::new(&account, Some(&entries)).verify(None).unwrap();
    (account, entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_task_is_charged_round_by_round_and_shows_nothing_of_single_updates() {
    let host = Host::start().await;
    let toml = private_toml("private", 3, "size = 4", "kind = \"trimmed_mean\"\nbyzantine = 1", "");
    let info = host.create(&toml, &small_model(20)).await;
    let (account, entries) = budget(&host).await;
    assert!(entries.is_empty() && account.planned > 0 && account.spent == 0, "{account:?}");
    assert!(info.guarantees.iter().any(|line| line.starts_with("privacy: epsilon = ")), "{:?}", info.guarantees);
    for round in 1..=3 {
        let seats = host.seats("private", &["a", "b", "c", "d"]).await;
        // One of them sends what is not finite: taken like any other, and a zero in the sum.
        let strange = framing::payload(&vec![f32::NAN; seats[0].dimension()]);
        seats[0]
            .send(seats[0].parts(&strange, |header| header.num_examples = if round == 2 { -1 } else { 77 }))
            .await
            .unwrap();
        for seat in &seats[1..] {
            seat.submit().await.unwrap();
        }
        let record = host.ended("private", round).await;
        assert_eq!((record.state.as_str(), record.received, record.accepted), ("released", 4, 4), "{record:?}");
        assert!(record.notes.is_empty(), "{:?}", record.notes);
        for client in &record.clients {
            assert_eq!((client.norm, client.num_examples, client.score, client.weight), (0.0, 0, None, None));
            assert!(client.digest.is_empty() && client.detail.is_empty(), "{client:?}");
        }
        let (account, entries) = budget(&host).await;
        assert_eq!(entries.len() as u64, round);
        let release = entries.last().unwrap().release.unwrap();
        assert_eq!(release, record.model_digest.as_ref(), "the charge names the released bytes");
        assert_eq!(account.spent, entries.iter().map(|entry| entry.charge.rho_units().unwrap()).sum::<i64>());
    }
    let (account, _) = budget(&host).await;
    assert_eq!((account.reserved, account.planned, host.task("private").await.state.as_str()), (0, 0, "finished"));
    let task = &Statement::new(&account, None).tasks[0];
    assert_eq!((task.noise_multiplier, task.sigma, task.rounds_released), (50.0, Some(50.0), 3));
    // Noise of 50 C over two rows that are kept.
    let moved = |(after, before): (&f32, &f32)| f64::from(after - before).powi(2);
    let (after, before) = (host.model("private").await, small_model(20));
    let square: f64 = after.parameters().iter().zip(before.parameters()).map(moved).sum();
    let spread = (square / before.parameters().len() as f64).sqrt();
    let expected = 25.0 * 3_f64.sqrt();
    assert!((spread / expected - 1.0).abs() < 0.4, "{spread} {expected}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_budget_does_not_hold_is_refused_with_what_would_fit() {
    let host = Host::start().await;
    let model = small_model(2);
    let refused = async |toml: String| {
        let status = host.try_create(&toml, &model).await.unwrap_err();
        from_status(&status).unwrap()
    };
    let reject = refused(private_toml("greedy", 1000, "size = 2", MEAN, "")).await;
    assert_eq!(reject.reason, Reason::PrivacyBudgetExhausted);
    for part in ["\"phones\"", "more releases like it fit", "times the sensitivity"] {
        assert!(reject.detail.contains(part), "{}", reject.detail);
    }
    host.create(&private_toml("first", 100, "size = 2", MEAN, ""), &model).await;
    // What the first one promised counts, although nothing is spent yet.
    let reject = refused(private_toml("second", 100, "size = 2", MEAN, "")).await;
    assert_eq!(reject.reason, Reason::PrivacyBudgetExhausted);
    let other = private_toml("third", 1, "size = 2", MEAN, "").replace("budget_epsilon = 1.0", "budget_epsilon = 2.0");
    assert_eq!(refused(other).await.reason, Reason::Spec, "a population has one limit");
    assert_eq!(refused(private_toml("robust", 1, "size = 3", "kind = \"median\"", "")).await.reason, Reason::Spec);
    // A stopped task gives back what it did not use.
    host.control("first", "stop").await.unwrap();
    host.create(&private_toml("second", 100, "size = 2", MEAN, ""), &model).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_with_too_few_updates_is_given_back_and_the_next_one_runs() {
    let host = Host::start().await;
    let toml = private_toml("few", 1, "size = 3\nminimum = 2\nphase_limit_s = 1.0", MEAN, "");
    host.create(&toml, &small_model(2)).await;
    let (before, _) = budget(&host).await;
    let seats = host.seats("few", &["a", "b", "c"]).await;
    seats[0].submit().await.unwrap();
    let record = host.ended("few", 1).await;
    assert_eq!(record.state, "abandoned", "{record:?}");
    let (account, entries) = budget(&host).await;
    assert!(entries.is_empty() && account.spent == 0, "{account:?}");
    assert_eq!((account.reserved, account.planned), (0, before.planned));
    let seats = host.seats("few", &["a", "b", "c"]).await;
    let sent = join_all(seats.iter().map(Seat::submit)).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(host.ended("few", 2).await.state, "released");
    assert_eq!(budget(&host).await.1.len(), 1);
    host.stop().await;
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false if entry.file_name() == "lock" => {}
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What an open round of a correlated run sums, as its engine says.
fn manifest(toml: &str, round: &RoundRow, step: u64, survivors: &[ClientId]) -> [u8; 32] {
    let spec = Arc::new(TaskSpec::new("task.toml", toml).unwrap());
    let cohort = round.seats.iter().map(|seat| seat.client.clone()).collect();
    let params = RoundParams::new(cohort, round.target, round.minimum, round.closes_at).unwrap();
    let mut engine = Engine::open(spec, Arc::new(small_model(3000)), Arc::default(), params, round.seed);
    for upload in round.seats.iter().filter_map(|seat| seat.upload.as_ref()) {
        let meta = UploadMeta { digest: upload.digest, norm: upload.norm, examples: upload.examples };
        engine.handle(round.opened_at, EngineInput::Offer { client: upload.client.clone(), upload: meta }).unwrap();
    }
    engine.step_manifest(step, survivors)
}

/// A directory whose only round is closed, its seed sealed, and not released.
async fn closed(directory: &Path, rounds: u64, rule: &str) {
    closed_round_of(directory, &private_toml("resumed", rounds, "size = 5\nminimum = 4", rule, "")).await;
}

/// The same for a task "resumed" of five clients, four of whom come.
pub(crate) async fn closed_round_of(directory: &Path, toml: &str) {
    let host = Host::on(directory, |_| {}).await;
    host.create(toml, &small_model(3000)).await;
    for seat in &host.seats("resumed", &["a", "b", "c", "d", "e"]).await[..4] {
        seat.submit().await.unwrap();
    }
    host.stop().await;
    let store = store::open(&Location::File(directory.join("ledger.sqlite"))).await.unwrap();
    let task = TaskName::new("resumed").unwrap();
    let round = store.open_round_of(&task).await.unwrap().unwrap();
    let survivors: Vec<_> =
        round.seats.iter().filter(|seat| seat.upload.is_some()).map(|seat| seat.client.clone()).collect();
    assert_eq!(survivors.len(), 4);
    if let Some(step) = round.step {
        let manifest = manifest(toml, &round, step, &survivors);
        store.close_step(&task, 1, &survivors, manifest, round.opened_at).await.unwrap();
    } else {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        store.close_round(&task, 1, &survivors, Some(seed.into()), round.opened_at).await.unwrap();
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_stopped_between_close_and_release_ends_with_the_same_bytes_and_one_charge() {
    for rule in [MEAN, "kind = \"trimmed_mean\"\nbyzantine = 1"] {
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join("first");
        closed(&first, 1, rule).await;
        let mut released: Vec<(Vec<u8>, Entry)> = Vec::new();
        for number in 0..3 {
            let again = directory.path().join(format!("again-{number}"));
            copy(&first, &again);
            let host = Host::on(&again, |_| {}).await;
            let record = host.ended("resumed", 1).await;
            assert_eq!((record.state.as_str(), record.received), ("released", 4), "{record:?}");
            let (account, mut entries) = budget(&host).await;
            assert_eq!((entries.len(), account.reserved, account.planned), (1, 0, 0));
            let file = host.model_file("resumed", 1, false).await.unwrap();
            assert_eq!(entries[0].release, Some(Digest::of(&file).0));
            host.stop().await;
            // Once more: it is released already.
            let host = Host::on(&again, |_| {}).await;
            assert_eq!(host.model_file("resumed", 1, false).await.unwrap(), file);
            assert_eq!(budget(&host).await.1, entries);
            host.stop().await;
            released.push((file, entries.remove(0)));
        }
        assert!(released.iter().all(|other| *other == released[0]), "other bytes, or another charge");
        assert_ne!(released[0].0, small_model(3000).to_safetensors());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_noise_key_spends_the_round_and_a_plan_that_is_used_up_ends_the_task() {
    let directory = tempfile::tempdir().unwrap();
    closed(directory.path(), 1, MEAN).await;
    fs::remove_file(directory.path().join("noise.key")).unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let record = host.ended("resumed", 1).await;
    assert_eq!(record.state, "abandoned", "{record:?}");
    let (account, entries) = budget(&host).await;
    assert_eq!((entries.len(), entries[0].release, account.planned), (1, None, 0), "closed rounds are spent");
    let (answer, _) = loop {
        let calls = ["a", "b", "c", "d", "e"].map(|name| {
            let stub = host.federation();
            async move { check_in(&stub, "resumed", name, 5000).await.unwrap() }
        });
        let answers = within("the check-ins", join_all(calls)).await;
        if let Some(ended) = answers.into_iter().find(|(answer, _)| matches!(answer, Answer::Ended { .. })) {
            break ended;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(matches!(answer, Answer::Ended { why: EndedWhy::Failed }), "{answer:?}");
    let task = host.task("resumed").await;
    assert_eq!((task.state.as_str(), task.released, task.current_round), ("failed", 0, 1));
    assert!(task.why.contains("privacy budget exhausted") && task.why.contains("phones"), "{}", task.why);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_leave_at_multiples_of_their_step_and_after_a_stop_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&private_toml("slow", 2, "size = 2", MEAN, "release_step_s = 2.0"), &small_model(20)).await;
    for round in [1, 2] {
        for seat in host.seats("slow", &["a", "b"]).await {
            seat.submit().await.unwrap();
        }
        let closed_by = std::time::Instant::now();
        let record = host.round("slow", round).await;
        assert!(matches!(record.state.as_str(), "open" | "closing"), "nothing leaves yet: {record:?}");
        if round == 2 {
            break;
        }
        assert_eq!(host.ended("slow", round).await.state, "released");
        assert!(closed_by.elapsed() > Duration::from_millis(1500), "{:?}", closed_by.elapsed());
    }
    // The second one is ready, or nearly, and waits for its time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(host.round("slow", 2).await.state, "closing");
    host.stop().await;
    let host = Host::on(directory.path(), |_| {}).await;
    assert_eq!(host.ended("slow", 2).await.state, "released");
    assert_eq!(budget(&host).await.1.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_due_leaves_a_task_that_is_stopped_meanwhile() {
    let host = Host::start().await;
    host.create(&private_toml("stopped", 2, "size = 2", MEAN, "release_step_s = 1.0"), &small_model(20)).await;
    for seat in host.seats("stopped", &["a", "b"]).await {
        seat.submit().await.unwrap();
    }
    while host.round("stopped", 1).await.state != "closing" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Long enough to add two small updates up.
    tokio::time::sleep(Duration::from_millis(400)).await;
    host.control("stopped", "stop").await.unwrap();
    assert_eq!(host.ended("stopped", 1).await.state, "released");
    let task = host.task("stopped").await;
    assert_eq!((task.state.as_str(), task.released, budget(&host).await.1.len()), ("stopped", 1, 1));
    host.stop().await;
}
