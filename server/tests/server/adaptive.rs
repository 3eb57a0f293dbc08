//! Private tasks whose clip follows the updates' norms, over real sockets and across restarts.

use crate::{
    common::*,
    private::{MEAN, budget, closed_round_of, copy, private_toml},
};
use futures::future::join_all;
use std::fs;
use testudo_proto::{from_status, v1};
use testudo_protocol::Reason;
use testudo_server::statement::Statement;

const CLIP: &str = "adaptive_clip = { quantile = 0.5, learning_rate = 1.0, bits_noise = 30.0 }";

fn toml(name: &str, rounds: u64, cohort: &str) -> String {
    private_toml(name, rounds, cohort, MEAN, CLIP)
}

/// A round's figure by its name.
fn note(record: &v1::RoundInfo, name: &str) -> f64 {
    let found = record.notes.iter().find(|note| note.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {:?}", record.notes)).value
}

/// Plays a round of four clients; its record.
async fn play(host: &Host, task: &str, round: u64) -> v1::RoundInfo {
    let seats = host.seats(task, &["a", "b", "c", "d"]).await;
    let sent = join_all(seats.iter().map(Seat::submit)).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let record = host.ended(task, round).await;
    assert_eq!(record.state, "released", "{record:?}");
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clip_goes_from_release_to_release_and_through_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut clip = 1.0;
    for round in 1..=4 {
        let host = Host::on(directory.path(), |_| {}).await;
        if round == 1 {
            host.create(&toml("adaptive", 4, "size = 4"), &small_model(20)).await;
        }
        let record = play(&host, "adaptive", round).await;
        assert_eq!(note(&record, "clip"), clip, "round {round} has the clip that the one before left");
        clip = note(&record, "next clip");
        let share = note(&record, "noised share of norms within the clip").clamp(-1.0, 2.0);
        let expected = note(&record, "clip") * (-(share - 0.5)).exp();
        assert!((clip / expected.clamp(1e-3, 1e3) - 1.0).abs() < 1e-9, "{record:?}");
        for client in &record.clients {
            assert_eq!((client.norm, client.num_examples, client.score, client.weight), (0.0, 0, None, None));
        }
        let (account, entries) = budget(&host).await;
        assert_eq!(entries.len() as u64, round);
        let task = &Statement::new(&account, None).tasks[0];
        assert!(task.adaptive_clip && task.sigma.is_none() && task.clip == Some(1.0), "{task:?}");
        // Updates and bits together: what the key says, whatever each of them got.
        assert!((50.0..50.001).contains(&task.noise_multiplier), "{task:?}");
        // What history shows is what the round showed.
        assert_eq!(host.round("adaptive", round).await.notes, record.notes);
        host.stop().await;
    }
    assert_ne!(clip, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_stopped_before_its_release_ends_with_the_same_bytes_and_the_same_clip() {
    let directory = tempfile::tempdir().unwrap();
    let first = directory.path().join("first");
    closed_round_of(&first, &toml("resumed", 2, "size = 5\nminimum = 4")).await;
    let mut released = Vec::new();
    for number in 0..2 {
        let again = directory.path().join(format!("again-{number}"));
        fs::create_dir(&again).unwrap();
        copy(&first, &again);
        let host = Host::on(&again, |_| {}).await;
        let record = host.ended("resumed", 1).await;
        assert_eq!((record.state.as_str(), record.received), ("released", 4), "{record:?}");
        released.push((record.model_digest.clone(), note(&record, "next clip").to_bits(), budget(&host).await.1));
        host.stop().await;
    }
    assert_eq!(released[0], released[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adaptive_clip_without_enough_noise_on_its_bits_is_refused_at_creation() {
    let host = Host::start().await;
    let text = toml("short", 1, "size = 4").replace("bits_noise = 30.0", "bits_noise = 20.0");
    let reject = from_status(&host.try_create(&text, &small_model(2)).await.unwrap_err()).unwrap();
    assert_eq!(reject.reason, Reason::Spec);
    assert!(reject.detail.contains("privacy.adaptive_clip.bits_noise") && reject.detail.contains("more than 25"));
    host.stop().await;
}
