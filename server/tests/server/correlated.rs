//! Tasks with correlated noise over real sockets: participation limits, one charge, and the same bytes after restarts.

use crate::{
    common::*,
    private::{MEAN, budget, closed_round_of, copy, private_toml},
};
use futures::future::join_all;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use std::{fs, time::Duration};
use testudo_privacy::budget::ChargeMechanism;
use testudo_proto::{Answer, EndedWhy, NotNowWhy, from_status, v1};
use testudo_protocol::Reason;
use testudo_server::statement::Statement;

fn toml(mechanism: &str, name: &str, rounds: u64, cohort: &str, limits: &str) -> String {
    let text = private_toml(name, rounds, cohort, MEAN, limits);
    text.replace("mechanism = \"gaussian\"", &format!("mechanism = \"{mechanism}\""))
}

const MECHANISMS: [&str; 2] = ["tree", "matrix"];

/// Plays a round; its record.
async fn play(host: &Host, task: &str, round: u64, clients: &[&str]) -> v1::RoundInfo {
    let seats = host.seats(task, clients).await;
    assert!(seats.iter().all(|seat| seat.place.round == round));
    let sent = join_all(seats.iter().map(Seat::submit)).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let record = host.ended(task, round).await;
    assert_eq!(record.state, "released", "{record:?}");
    record
}

/// Why a client gets no place now.
async fn why_not(host: &Host, task: &str, client: &str) -> NotNowWhy {
    match check_in(&host.federation(), task, client, 0).await.unwrap().0 {
        Answer::NotNow { why, retry_after, .. } => {
            assert!(retry_after > Duration::ZERO);
            why
        }
        other => panic!("{client}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_part_too_often_or_too_soon_through_restarts() {
    for mechanism in MECHANISMS {
        let directory = tempfile::tempdir().unwrap();
        let text = toml(mechanism, "run", 6, "size = 2", "participations = 2\nseparation = 2");
        let host = Host::on(directory.path(), |_| {}).await;
        let info = host.create(&text, &small_model(20)).await;
        assert!(
            info.guarantees.iter().any(|line| line.contains("more than 2 of the 6 rounds")),
            "{:?}",
            info.guarantees
        );
        let (account, _) = budget(&host).await;
        let whole = account.planned;
        assert!(whole > 0 && account.spent == 0, "planned as a whole: {account:?}");
        play(&host, "run", 1, &["a", "b"]).await;
        for client in ["a", "b"] {
            assert_eq!(why_not(&host, "run", client).await, NotNowWhy::TooSoon);
        }
        assert_eq!(why_not(&host, "run", "c").await, NotNowWhy::Filling);
        host.stop().await;
        // What was enforced before the restart is enforced after it.
        let host = Host::on(directory.path(), |_| {}).await;
        assert_eq!(why_not(&host, "run", "a").await, NotNowWhy::TooSoon);
        play(&host, "run", 2, &["c", "d"]).await;
        play(&host, "run", 3, &["a", "b"]).await;
        assert_eq!(why_not(&host, "run", "a").await, NotNowWhy::LimitReached);
        assert_eq!(why_not(&host, "run", "e").await, NotNowWhy::Filling);
        // A client that waits where it may not does not open a round with one that may.
        let stub = host.federation();
        let (limited, allowed) = tokio::join!(check_in(&stub, "run", "b", 2000), check_in(&stub, "run", "e", 500));
        assert!(matches!(limited.unwrap().0, Answer::NotNow { why: NotNowWhy::LimitReached, .. }));
        assert!(matches!(allowed.unwrap().0, Answer::NotNow { why: NotNowWhy::Filling, .. }));
        play(&host, "run", 4, &["c", "d"]).await;
        play(&host, "run", 5, &["e", "f"]).await;
        play(&host, "run", 6, &["g", "h"]).await;
        let (account, entries) = budget(&host).await;
        assert_eq!((account.spent, account.reserved, account.planned), (whole, 0, 0), "charged as a whole, once");
        assert_eq!(entries.len(), 6, "every release has its entry");
        assert!(matches!(
            entries[0].charge.mechanism,
            ChargeMechanism::Correlated { rounds: 6, participations: 2, .. }
        ));
        let task = &Statement::new(&account, None).tasks[0];
        assert_eq!((task.mechanism_word.as_str(), task.rounds_planned, task.rounds_left), (mechanism, 6, 0));
        let limit = task.participation_limit.unwrap();
        assert_eq!((limit.most(), limit.gap()), (2, 2));
        assert_eq!(host.task("run").await.state, "finished");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_stopped_between_close_and_release_ends_with_the_same_bytes_and_one_charge() {
    for mechanism in MECHANISMS {
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join("first");
        let text = toml(mechanism, "resumed", 3, "size = 5\nminimum = 4", "participations = 3");
        closed_round_of(&first, &text).await;
        let mut released = Vec::new();
        for number in 0..2 {
            let again = directory.path().join(format!("again-{number}"));
            fs::create_dir(&again).unwrap();
            copy(&first, &again);
            let host = Host::on(&again, |_| {}).await;
            let record = host.ended("resumed", 1).await;
            assert_eq!((record.state.as_str(), record.received), ("released", 4), "{record:?}");
            let (_, entries) = budget(&host).await;
            released.push((host.model_file("resumed", 1, false).await.unwrap(), entries));
            host.stop().await;
        }
        assert_eq!(released[0], released[1], "{mechanism}");
        assert_ne!(released[0].0, small_model(3000).to_safetensors());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_given_back_is_played_again_by_whoever_may() {
    let host = Host::start().await;
    let cohort = "size = 2\nminimum = 2\nphase_limit_s = 1.0";
    host.create(&toml("tree", "few", 2, cohort, "participations = 1"), &small_model(2)).await;
    let (before, _) = budget(&host).await;
    let seats = host.seats("few", &["a", "b"]).await;
    seats[0].submit().await.unwrap();
    assert_eq!(host.ended("few", 1).await.state, "abandoned");
    let (account, entries) = budget(&host).await;
    assert!(entries.is_empty() && (account.reserved, account.planned) == (0, before.planned), "{account:?}");
    // Nothing of theirs was summed: they may come once, as before.
    play(&host, "few", 2, &["a", "b"]).await;
    assert_eq!(why_not(&host, "few", "a").await, NotNowWhy::LimitReached);
    play(&host, "few", 3, &["c", "d"]).await;
    assert_eq!(host.task("few").await.state, "finished");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_key_is_lost_ends_and_one_beside_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&toml("tree", "run", 3, "size = 2", "participations = 3"), &small_model(2)).await;
    host.create(&task_toml("open", 1, "size = 2", MEAN, ""), &small_model(2)).await;
    play(&host, "run", 1, &["a", "b"]).await;
    host.stop().await;
    fs::remove_file(directory.path().join("noise.key")).unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let answer = check_in(&host.federation(), "run", "c", 100).await.unwrap().0;
    assert!(matches!(answer, Answer::Ended { why: EndedWhy::Failed }), "{answer:?}");
    let task = host.task("run").await;
    assert_eq!((task.state.as_str(), task.released), ("failed", 1));
    assert!(task.why.contains("another key") && task.why.contains("no further step"), "{}", task.why);
    play(&host, "open", 1, &["a", "b"]).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_noise_is_another_after_an_upgrade_ends_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&toml("tree", "run", 3, "size = 2", "participations = 3"), &small_model(2)).await;
    host.create(&private_toml("rounds", 3, "size = 2", MEAN, ""), &small_model(2)).await;
    for task in ["run", "rounds"] {
        play(&host, task, 1, &["a", "b"]).await;
    }
    host.stop().await;
    // As if another sampler had planned them.
    let mut ledger =
        SqliteConnectOptions::new().filename(directory.path().join("ledger.sqlite")).connect().await.unwrap();
    let other = r#"UPDATE plan SET charge = replace(charge, '"sampler_version":1', '"sampler_version":9')"#;
    assert_eq!(sqlx::query(other).execute(&mut ledger).await.unwrap().rows_affected(), 2);
    drop(ledger);
    let host = Host::on(directory.path(), |_| {}).await;
    for name in ["run", "rounds"] {
        let federation = host.federation();
        let answers = join_all(["a", "b"].map(|client| check_in(&federation, name, client, 5000))).await;
        for answer in answers {
            let answer = answer.unwrap().0;
            assert!(matches!(answer, Answer::Ended { why: EndedWhy::Failed }), "{name}: {answer:?}");
        }
        let task = host.task(name).await;
        assert_eq!((task.state.as_str(), task.released), ("failed", 1));
        for part in ["round 2", "sampler_version is 1, not 9", "create it anew"] {
            assert!(task.why.contains(part), "{part}: {}", task.why);
        }
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_limits_or_over_budget_is_refused_at_creation() {
    let host = Host::start().await;
    let refused = async |text: &str| {
        let status = host.try_create(text, &small_model(2)).await.unwrap_err();
        from_status(&status).unwrap()
    };
    let reject = refused(&toml("tree", "limitless", 3, "size = 2", "")).await;
    assert_eq!(reject.reason, Reason::Spec);
    assert!(reject.detail.contains("privacy.participations"), "{}", reject.detail);
    // 2000 rounds in all of which one client may be: far over ε = 1.
    let reject = refused(&toml("matrix", "greedy", 500, "size = 2", "participations = 500")).await;
    assert_eq!(reject.reason, Reason::PrivacyBudgetExhausted);
    host.stop().await;
}
