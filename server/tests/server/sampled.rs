//! Tasks that sample registered clients in secret, over real sockets.

use crate::{common::*, private::budget};
use futures::future::join_all;
use std::time::Duration;
use testudo_privacy::budget::{ChargeMechanism, Gate};
use testudo_proto::{Answer, NotNowWhy, v1};
use testudo_protocol::Reason;

/// Half of `clients` registered ones in every round, which takes 0.6 s.
fn toml(name: &str, rounds: u64, clients: u64, more: &str) -> String {
    let cohort = format!("size = {}\nphase_limit_s = 0.6", clients / 2);
    let rest = format!(
        "[encoding]\nclip_l2 = 1.0\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"phones\"\nnoise_multiplier = 20.0\n\
         budget_epsilon = 5.0\ndelta = 1e-6\nclients = {clients}\nsampling = \"poisson\"\nrelease_step_s = 0.2\n{more}"
    );
    task_toml(name, rounds, &cohort, "kind = \"mean\"", &rest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_sample_trains_and_shows_neither_who_nor_how_many_took_part() {
    let host = Host::with(|config| config.listen.web = Some("127.0.0.1:0".parse().unwrap())).await;
    let info = host.create(&toml("secret", 6, 8, ""), &small_model(20)).await;
    assert!(info.guarantees.iter().any(|line| line.contains("amplified by Poisson sampling at rate 0.5")));
    let (account, _) = budget(&host).await;
    assert!(matches!(account.gate, Gate::Renyi { .. }) && account.planned > 0, "{account:?}");
    let task = host.task("secret").await;
    assert_eq!(
        (task.registered, task.why.as_str()),
        (Some(0), "waits for clients to register: 0 of the 8 that its first round needs")
    );
    let summaries = host.run_clients("secret", &names(8)).await;
    let task = host.task("secret").await;
    assert_eq!((task.state.as_str(), task.released, task.registered, task.checked_in), ("finished", 6, Some(8), 0));
    // Everybody hears what became of its own updates; 48 coins of ½ leave 5 to 43 but for 10⁻⁸.
    let sent: u64 = summaries.iter().map(|summary| summary.rounds).sum();
    assert!((5..=43).contains(&sent), "{sent} updates in 6 rounds of about 4");
    let request = v1::ListRoundsRequest { task: "secret".into(), ..Default::default() };
    let rounds = host.admin.clone().list_rounds(request).await.unwrap().into_inner().rounds;
    for listed in &rounds {
        let shown = host.round("secret", listed.round).await;
        for round in [listed, &shown] {
            let counts = [round.selected, round.received, round.accepted, round.rejected, round.dropouts];
            assert!(round.secret && round.clients.is_empty() && counts == [0; 5], "{round:?}");
            assert_eq!(round.state, "released", "{round:?}");
        }
        // Its release leaves at a multiple of the step after its deadline, and the next round opens a step later.
        let late = shown.ended_at_ms - shown.closes_at_ms;
        assert!(late >= 200 && late.is_multiple_of(200), "{late}");
        if shown.round < 6 {
            assert!(host.round("secret", shown.round + 1).await.opened_at_ms >= shown.ended_at_ms + 200);
        }
    }
    let clients =
        host.admin.clone().list_clients(v1::ListClientsRequest::default()).await.unwrap().into_inner().clients;
    assert!(
        clients.len() == 8 && clients.iter().all(|client| client.uploads == 0 && client.accepted == 0),
        "{clients:?}"
    );
    for counter in ["testudo_upload_bytes_total", "testudo_download_bytes_total"] {
        assert_eq!(host.counter(counter).await, 0, "{counter}");
    }
    let page = host.metrics().await;
    for family in ["testudo_updates_total{", "testudo_clients_waiting{"] {
        assert!(!page.contains(family), "{page}");
    }
    let (account, entries) = budget(&host).await;
    assert_eq!((entries.len(), account.reserved, account.planned), (6, 0, 0));
    let rate = |entry: &testudo_privacy::budget::Entry| match entry.charge.mechanism {
        ChargeMechanism::PoissonGaussian { rate } => rate,
        other => panic!("{other:?}"),
    };
    assert!(entries.iter().all(|entry| rate(entry) >= 0.5 && rate(entry) < 0.5001));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_come_whether_anybody_waits_or_not_and_who_registers_late_hears_that_it_is_full() {
    let host = Host::start().await;
    host.create(&toml("alone", 2, 4, "registered = 3"), &small_model(20)).await;
    let stub = host.federation();
    for client in ["a", "b", "c", "d"] {
        check_in(&stub, "alone", client, 0).await.unwrap();
    }
    let (answer, _) = check_in(&stub, "alone", "e", 0).await.unwrap();
    assert!(matches!(answer, Answer::NotNow { why: NotNowWhy::Full, .. }), "{answer:?}");
    // Nobody comes: what is released is noise alone, and it is charged.
    for round in [1, 2] {
        let record = host.ended("alone", round).await;
        assert_eq!((record.state.as_str(), record.secret), ("released", true), "{record:?}");
    }
    assert_eq!(budget(&host).await.1.len(), 2);
    assert_ne!(host.model("alone").await.parameters(), small_model(20).parameters());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_and_the_sample_of_the_open_round_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let text = toml("kept", 1, 6, "").replace("phase_limit_s = 0.6", "phase_limit_s = 5");
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&text, &small_model(20)).await;
    let drawn = async |host: &Host| {
        let stub = host.federation();
        let calls = names(6).into_iter().map(|name| {
            let stub = stub.clone();
            async move { (check_in(&stub, "kept", &name, 0).await.unwrap().0, name) }
        });
        let answers = join_all(calls).await.into_iter();
        answers
            .filter_map(|(answer, name)| match answer {
                Answer::Assignment(seat) => Some((name, seat.nonce)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    drawn(&host).await;
    while host.task("kept").await.current_round == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = drawn(&host).await;
    host.stop().await;
    let host = Host::on(directory.path(), |_| {}).await;
    assert_eq!(drawn(&host).await, before, "coins are flipped once a round");
    assert_eq!(host.task("kept").await.registered, Some(6));
    let record = host.ended("kept", 1).await;
    assert_eq!(
        (record.state.as_str(), record.secret, budget(&host).await.1.len()),
        ("released", true, 1),
        "{record:?}"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_anybody_can_pass_for_are_not_sampled_in_secret() {
    let host = Host::with(|config| {
        config.listen.address = "0.0.0.0:0".parse().unwrap();
        config.listen.plaintext = true;
    })
    .await;
    let refused = host.try_create(&toml("open", 1, 4, ""), &small_model(2)).await;
    assert_eq!(reason(refused), Reason::Spec);
    host.stop().await;
}
