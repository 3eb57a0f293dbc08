//! Masked rounds over real sockets: keys, shares, masked inputs and one answer each, with clients that vanish.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::*;
use std::time::Duration;
use testudo_client::{Client, Error, Identity, Policy, Reason, Retry, Step, Update};
use testudo_engine::RoundRecord;

/// A task of one round with groups of `group_size`.
fn masked_toml(name: &str, clients: usize, group_size: usize, rule: &str) -> String {
    let weak = if group_size < 8 { "accept_weak_guarantee = \"a test\"\n" } else { "" };
    let cohort = format!("size = {clients}\nminimum = {clients}\nphase_limit_s = 10");
    let rest = format!(
        "[visibility]\nmasking = \"pairwise\"\ngroup_size = {group_size}\nstep_limit_s = 3\n\
         colluders = 0.0\ndropout = 0.0\n{weak}\
         [encoding]\nclip_l2 = 10.0\nbits = 20\n"
    );
    task_toml(name, 1, &cohort, rule, &rest)
}

async fn device(url: &str, name: &str) -> Client {
    Client::builder(url)
        .identity(Identity::named(name).unwrap())
        .policy(Policy::default().require_masking().min_group(4).allow_weak_guarantee())
        .retry(Retry::default().first(Duration::from_millis(20)))
        .connect()
        .await
        .unwrap()
}

/// Runs one round; `leaves` says before which step a client vanishes. Answers what each client's `send` gave.
async fn run(
    host: &Host,
    task: &str,
    clients: usize,
    leaves: impl Fn(usize) -> Option<Step>,
) -> Vec<Result<(), Error>> {
    let runs = (0..clients).map(|number| {
        let (url, leaves) = (host.url.clone(), leaves(number));
        let task = task.to_owned();
        async move {
            let client = device(&url, &format!("c{number:02}")).await;
            let mut session = client.join(task).await?;
            let Some(round) = session.next_round().await? else { return Ok(()) };
            let update = Update::delta(vec![number as f32 * 0.01; round.model().parameters().len()]);
            let sealed = round.seal(update)?;
            let sealed = match leaves {
                Some(step) => sealed.leaving_before(step),
                None => sealed,
            };
            sealed.send().await.map(|_| ())
        }
    });
    within("the masked round", futures::future::join_all(runs)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_round_releases_the_mean_of_its_clients() {
    let host = Host::start().await;
    host.create(&masked_toml("masked", 12, 4, "kind = \"mean\""), &small_model(3)).await;
    for result in run(&host, "masked", 12, |_| None).await {
        result.unwrap();
    }
    let record = host.ended("masked", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 12), "{record:?}");
    let groups: RoundRecord = serde_json::from_str(&record.groups).unwrap();
    assert_eq!(groups.groups.iter().map(|group| group.survivors.len()).collect::<Vec<_>>(), [4, 4, 4]);
    let before = small_model(3);
    let after = host.model("masked").await;
    let expected = (0..12).map(|number| number as f32 * 0.01).sum::<f32>() / 12.0;
    for (after, before) in after.parameters().iter().zip(before.parameters()) {
        assert!((after - before - expected).abs() < 1e-4, "{after} {before} {expected}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claimed_examples_weigh_inside_the_sum_and_the_server_is_not_told_them() {
    let host = Host::start().await;
    let toml = masked_toml("weighted", 8, 4, "kind = \"mean\"") + "[examples]\nweighted = true\nmax = 100\n";
    host.create(&toml, &small_model(3)).await;
    let runs = (0..8usize).map(|number| {
        let url = host.url.clone();
        async move {
            let client = device(&url, &format!("c{number:02}")).await;
            let mut session = client.join("weighted").await.unwrap();
            let round = session.next_round().await.unwrap().unwrap();
            let delta = vec![number as f32 * 0.1; round.model().parameters().len()];
            round.submit(Update::delta(delta).examples(if number == 7 { 100 } else { 10 })).await.unwrap();
        }
    });
    within("the masked round", futures::future::join_all(runs)).await;
    let record = host.ended("weighted", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 8), "{record:?}");
    assert!(record.clients.iter().all(|client| client.num_examples == 1), "{record:?}");
    let expected = ((0..7).map(|number| number as f32).sum::<f32>() * 10.0 + 700.0) * 0.1 / 170.0;
    let step = host.model("weighted").await.parameters()[0] - small_model(3).parameters()[0];
    assert!((step - expected).abs() < 1e-3, "{step} {expected}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_in_any_step_do_not_end_the_round() {
    let host = Host::start().await;
    host.create(&masked_toml("vanish", 12, 12, "kind = \"mean\""), &small_model(3)).await;
    let leaves = |number| match number {
        0 => Some(Step::ShareKeys),
        1 => Some(Step::MaskedInput),
        2 => Some(Step::Unmask),
        _ => None,
    };
    let results = run(&host, "vanish", 12, leaves).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 9, "{results:?}");
    let record = host.ended("vanish", 1).await;
    assert_eq!((record.state.as_str(), record.accepted, record.dropouts), ("released", 10, 2), "{record:?}");
    let expected = (2..12).map(|number| number as f32 * 0.01).sum::<f32>() / 10.0;
    let step = host.model("vanish").await.parameters()[0] - small_model(3).parameters()[0];
    assert!((step - expected).abs() < 1e-4, "{step} {expected}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_below_its_threshold_is_lost_alone() {
    let host = Host::start().await;
    host.create(&masked_toml("lost", 16, 4, "kind = \"median\"\nbyzantine = 1"), &small_model(3)).await;
    let results = run(&host, "lost", 16, |number| (number < 2).then_some(Step::MaskedInput)).await;
    let record = host.ended("lost", 1).await;
    let groups: RoundRecord = serde_json::from_str(&record.groups).unwrap();
    let lost = groups.groups.iter().filter(|group| group.lost.is_some()).count();
    let refused =
        |result: &&Result<(), Error>| matches!(result, Err(error) if error.reason() == Some(Reason::GroupLost));
    let members = groups.groups.iter().filter(|group| group.lost.is_some()).map(|group| group.members.len());
    let gone = if lost == 1 { 2 } else { 0 };
    assert_eq!(record.state, "released", "{record:?}");
    assert_eq!(results.iter().filter(refused).count(), members.sum::<usize>() - gone, "{results:?}");
    host.stop().await;
}
