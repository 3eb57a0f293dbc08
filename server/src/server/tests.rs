//! A task's driver that panics, over real sockets.

#[path = "../../tests/server/common.rs"]
mod common;

use common::*;
use futures::future::join_all;
use std::time::Duration;
use testudo_proto::framing;
use testudo_protocol::{Digest, Reason, TaskName};

const MEAN: &str = "kind = \"mean\"";

/// Makes a task's driver panic, and waits until the task answers again.
async fn panic_and_come_back(host: &Host, task: &str) {
    let before = host.server.registry.services.metrics.panics.get();
    let handle = host.server.registry.get(&TaskName::new(task).unwrap()).unwrap();
    handle.panic().await;
    within("the task's return", async {
        while host.server.registry.services.metrics.panics.get() == before || handle.glance().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn arrived(host: &Host, bytes: u64) {
    within("the chunks", async {
        while host.server.registry.services.metrics.upload_bytes.get() < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_panics_goes_on_with_the_same_round_and_transfers() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let toml = task_toml("buggy", 1, "size = 3", MEAN, "[examples]\nweighted = false");
    // More than one chunk.
    let model = small_model(100_000);
    host.create(&toml, &model).await;
    host.create(&task_toml("healthy", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("buggy", &["a", "b", "c"]).await;
    let delta: Vec<f32> = (0..seats[0].dimension()).map(|at| at as f32 * 1e-6).collect();
    let payload = framing::payload(&delta);
    let receipt = seats[0].send(seats[0].parts(&payload, |_| {})).await.unwrap();
    // This stream begins before the panic and ends after it.
    let (sender, call) = open_upload(&seats[1]);
    let mut parts = seats[1].parts(&payload, |_| {}).into_iter();
    sender.send(parts.next().unwrap()).await.unwrap();
    sender.send(parts.next().unwrap()).await.unwrap();
    arrived(&host, payload.len() as u64 + (1 << 20)).await;
    panic_and_come_back(&host, "buggy").await;
    assert_eq!(seat(host.federation(), "buggy", "c").await.place, seats[2].place);
    assert_eq!(seats[0].send(seats[0].parts(&payload, |_| {})).await.unwrap(), receipt, "the receipt holds");
    for part in parts {
        sender.send(part).await.unwrap();
    }
    drop(sender);
    let received = within("the stream's receipt", call).await.unwrap().unwrap();
    assert_eq!(received.digest.as_ref(), Digest::of(&payload).as_bytes());
    // The other task did not notice.
    for seat in host.seats("healthy", &["a", "b"]).await {
        seat.submit().await.unwrap();
    }
    seats[2].send(seats[2].parts(&payload, |_| {})).await.unwrap();
    let record = host.ended("buggy", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 3));
    let mut reference = Reference::new(&toml, model);
    reference.apply(&vec![delta; 3], None);
    assert_eq!(host.model("buggy").await.digest(), reference.model.digest());
    assert_eq!(host.ended("healthy", 1).await.accepted, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_a_newer_stream_still_takes_over_from_an_older_one() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&task_toml("older", 1, "size = 2", MEAN, ""), &small_model(100_000)).await;
    let seats = host.seats("older", &["a", "b"]).await;
    let payload = seats[0].payload();
    let (sender, older) = open_upload(&seats[0]);
    for part in seats[0].parts(&payload, |_| {}).into_iter().take(2) {
        sender.send(part).await.unwrap();
    }
    arrived(&host, 1 << 20).await;
    panic_and_come_back(&host, "older").await;
    let held = seats[0].status(Digest::of(&payload)).await.unwrap();
    assert_eq!(held.offset, 1 << 20, "what the older stream had brought");
    assert_eq!(reason(within("the older stream's end", older).await.unwrap()), Reason::TakenOver);
    seats[0].send(seats[0].parts(&payload, |header| header.offset = held.offset)).await.unwrap();
    seats[1].submit().await.unwrap();
    assert_eq!(host.ended("older", 1).await.accepted, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_clients_finish_though_the_driver_panics_now_and_then() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let toml = task_toml("shaky", 6, "size = 4\nphase_limit_s = 10.0", "kind = \"median\"\nbyzantine = 1", "");
    host.create(&toml, &small_model(40)).await;
    let names = names(4);
    let panics = async {
        for round in [1, 3] {
            host.ended("shaky", round).await;
            panic_and_come_back(&host, "shaky").await;
        }
    };
    let (summaries, ()) = futures::future::join(host.run_clients("shaky", &names), panics).await;
    for summary in summaries {
        assert_eq!(summary.ended, testudo_client::Ended::Finished);
    }
    let mut reference = Reference::new(&toml, small_model(40));
    (1..=6).for_each(|round| reference.step(round, &names));
    assert_eq!(host.model("shaky").await.digest(), reference.model.digest());
    assert_eq!(host.task("shaky").await.abandoned, 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_the_driver_panics_over_again_and_again_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&task_toml("cursed", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("cursed", &["a", "b"]).await;
    seats[0].submit().await.unwrap();
    for _ in 0..3 {
        panic_and_come_back(&host, "cursed").await;
        assert_eq!(host.round("cursed", 1).await.state, "open");
    }
    panic_and_come_back(&host, "cursed").await;
    let record = host.ended("cursed", 1).await;
    assert_eq!(record.state, "abandoned");
    assert!(record.why.contains("panicked 4 times in a row"), "{}", record.why);
    for seat in host.seats("cursed", &["a", "b"]).await {
        assert_eq!(seat.place.round, 2);
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("cursed", 2).await.state, "released");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_memory_spool_a_panic_costs_the_round_and_says_so() {
    let host = Host::start().await;
    host.create(&task_toml("light", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("light", &["a", "b"]).await;
    seats[0].submit().await.unwrap();
    panic_and_come_back(&host, "light").await;
    let record = host.ended("light", 1).await;
    assert_eq!(record.state, "abandoned");
    assert!(record.why.contains("a bug of the server"), "{}", record.why);
    let submits = host.seats("light", &["a", "b"]).await;
    join_all(submits.iter().map(|seat| seat.submit())).await.into_iter().for_each(|receipt| drop(receipt.unwrap()));
    assert_eq!(host.ended("light", 2).await.state, "released");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_while_a_driver_is_being_loaded_again() {
    let host = Host::start().await;
    host.create(&task_toml("stopping", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let handle = host.server.registry.get(&TaskName::new("stopping").unwrap()).unwrap();
    for _ in 0..6 {
        panic_and_come_back(&host, "stopping").await;
    }
    // The pause is now longer than the stop may take.
    handle.panic().await;
    let stopped = tokio::time::timeout(Duration::from_secs(4), host.stop()).await;
    assert!(stopped.is_ok(), "the pause before a driver is loaded again kept the server up");
}
