//! Tasks whose clients noise their own updates, over real sockets.

use crate::common::*;
use futures::future::join_all;
use std::path::Path;
use testudo_client::{Client, Error, Identity, Policy, Update};
use testudo_proto::{Masking, framing, v1};
use testudo_protocol::{Encoding, Reason};
use testudo_server::statement::{self, Statement};

fn local_toml(name: &str, rounds: u64, cohort: &str, rule: &str) -> String {
    let rest = "[encoding]\nclip_l2 = 1.0\n[privacy]\nmechanism = \"gaussian\"\ntrust = \"local\"\npopulation = \"phones\"\n\
                noise_multiplier = 50.0\nbudget_epsilon = 4.0\ndelta = 1e-6\nclients = 100000\n";
    task_toml(name, rounds, cohort, rule, rest)
}

async fn budget(host: &Host) -> Statement {
    let request = v1::GetBudgetRequest { population: "phones".into(), from: 0, limit: 0 };
    let budgets = within("the budget", host.admin.clone().get_budget(request)).await.unwrap().into_inner().budgets;
    let (account, entries) = statement::from_wire(budgets.into_iter().next().unwrap()).unwrap();
    let statement = Statement::new(&account, Some(&entries));
    statement.verify(None).unwrap();
    statement
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_combines_noised_updates_by_any_rule_and_says_what_the_busiest_client_told() {
    let host = Host::start().await;
    let toml = local_toml("local", 3, "size = 4", "kind = \"median\"\nbyzantine = 1");
    let info = host.create(&toml, &small_model(500)).await;
    assert!(info.guarantees.iter().any(|line| line.contains("local model")), "{:?}", info.guarantees);
    let summaries = host.run_clients("local", &names(4)).await;
    assert!(summaries.iter().all(|summary| summary.rounds == 3), "{summaries:?}");
    let record = host.round("local", 3).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 4), "{record:?}");
    // Norms are those of noise: σ√d, and claims of examples did not come.
    let expected = 50.0 * 2004_f64.sqrt();
    for client in &record.clients {
        assert!((client.norm / expected - 1.0).abs() < 0.1 && client.num_examples == 1, "{client:?}");
    }
    let statement = budget(&host).await;
    assert_eq!((statement.trust_model.as_str(), statement.history.as_ref().unwrap().len()), ("local", 3));
    let task = &statement.tasks[0];
    assert_eq!((task.trust.as_str(), task.noise_multiplier, task.sigma), ("local", 25.0, Some(50.0)));
    assert_eq!((task.most_updates, task.epsilon_of_most), (Some(3), Some(statement.epsilon_spent)));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_without_noise_are_refused_before_their_bytes() {
    let host = Host::start().await;
    host.create(&local_toml("strict", 1, "size = 5\nminimum = 2", "kind = \"mean\""), &small_model(3)).await;
    let seats = host.seats("strict", &["a", "b", "c", "d", "e"]).await;
    let assignment = &seats[0].assignment;
    let noise = assignment.own_noise.unwrap();
    assert_eq!((assignment.masking, noise.clip_l2, noise.multiplier()), (Masking::Noise, 1.0, 50.0));
    // What a client would send that knows nothing of noise.
    assert_eq!(reason(seats[0].submit().await), Reason::WrongDtype);
    let noised = |header: &mut testudo_proto::UploadHeader| header.encoding = Encoding::Noised;
    let short = framing::payload(&[0.5; 3]);
    assert_eq!(reason(seats[1].send(seats[1].parts(&short, noised)).await), Reason::Truncated);
    // Whoever sends what is no number has said so: noised updates may be looked at.
    let mut values = vec![0.5; seats[0].dimension()];
    values[1] = f32::NAN;
    assert_eq!(reason(seats[2].send(seats[2].parts(&framing::payload(&values), noised)).await), Reason::NonFinite);
    for seat in &seats[3..] {
        seat.send(seat.parts(&seat.payload(), noised)).await.unwrap();
    }
    assert_eq!(host.ended("strict", 1).await.state, "released");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_asks_for_more_noise_leaves_and_the_round_goes_on() {
    let host = Host::start().await;
    host.create(&local_toml("lenient", 1, "size = 3\nminimum = 2", "kind = \"mean\""), &small_model(3)).await;
    let runs = (0..3).map(|number| {
        let url = host.url.clone();
        async move {
            let least = if number == 0 { 60.0 } else { 50.0 };
            let client = Client::builder(url)
                .identity(Identity::named(format!("c{number}")).unwrap())
                .policy(Policy::default().min_local_noise(least))
                .retry(quick_retry())
                .connect()
                .await
                .unwrap();
            let round = client.join("lenient").await?.next_round().await?.unwrap();
            let coordinates = round.layout().dimension();
            round.submit(Update::delta(vec![0.1; coordinates])).await.map(drop)
        }
    });
    let results = within("the round", join_all(runs)).await;
    let error = results[0].as_ref().unwrap_err();
    assert!(matches!(error, Error::Policy(why) if why.contains("at least 60") && why.contains("50 times")), "{error}");
    assert!(results[1..].iter().all(Result::is_ok), "{results:?}");
    let record = host.ended("lenient", 1).await;
    assert_eq!((record.state.as_str(), record.accepted, record.dropouts), ("released", 2, 1), "{record:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_given_up_is_spent_because_its_updates_have_left() {
    let host = Host::start().await;
    let cohort = "size = 3\nminimum = 2\nphase_limit_s = 1.0";
    host.create(&local_toml("few", 2, cohort, "kind = \"mean\""), &small_model(2)).await;
    let seats = host.seats("few", &["a", "b", "c"]).await;
    let noised = |header: &mut testudo_proto::UploadHeader| header.encoding = Encoding::Noised;
    seats[0].send(seats[0].parts(&seats[0].payload(), noised)).await.unwrap();
    assert_eq!(host.ended("few", 1).await.state, "abandoned");
    let statement = budget(&host).await;
    let history = statement.history.as_ref().unwrap();
    assert_eq!((history.len(), history[0].release.as_deref(), statement.tasks[0].most_updates), (1, None, Some(1)));
    host.stop().await;
}

/// A round with two of three updates recorded, as a stopped server leaves it.
async fn half_a_round(directory: &Path) -> Vec<Seat> {
    let host = Host::on(directory, |_| {}).await;
    host.create(
        &local_toml("resumed", 1, "size = 3\nphase_limit_s = 60", "kind = \"median\"\nbyzantine = 1"),
        &small_model(50),
    )
    .await;
    let seats = host.seats("resumed", &["a", "b", "c"]).await;
    let noised = |header: &mut testudo_proto::UploadHeader| header.encoding = Encoding::Noised;
    for seat in &seats[..2] {
        seat.send(seat.parts(&seat.payload(), noised)).await.unwrap();
    }
    host.stop().await;
    seats
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_goes_on_with_the_updates_it_has_and_charges_once() {
    let directory = tempfile::tempdir().unwrap();
    let seats = half_a_round(directory.path()).await;
    let host = Host::on(directory.path(), |_| {}).await;
    let last = seats[2].through(host.channel.clone());
    let again = seats[0].through(host.channel.clone());
    let noised = |header: &mut testudo_proto::UploadHeader| header.encoding = Encoding::Noised;
    // The same bytes again: the receipt, and no second update.
    again.send(again.parts(&again.payload(), noised)).await.unwrap();
    let other = framing::payload(&vec![0.75; again.dimension()]);
    assert_eq!(reason(again.send(again.parts(&other, noised)).await), Reason::Duplicate);
    last.send(last.parts(&last.payload(), noised)).await.unwrap();
    let record = host.ended("resumed", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 3), "{record:?}");
    let statement = budget(&host).await;
    assert_eq!((statement.history.as_ref().unwrap().len(), statement.tasks[0].most_updates), (1, Some(1)));
    host.stop().await;
}
