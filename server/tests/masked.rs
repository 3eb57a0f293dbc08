//! Masked rounds over real sockets: keys, shares, masked inputs and one answer each, with clients that vanish.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::*;
use std::time::Duration;
use testudo_client::{Client, Error, Identity, MemoryAnswers, Policy, Reason, Retry, Step, Update};
use testudo_engine::RoundRecord;
use testudo_proto::v1;
use testudo_protocol::secagg::{Advertised, Announcement, Credentials, Demands, Reply, SigningKey};

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

/// A raw place in a masked round, and what an attacker needs to go on by hand.
async fn masked_seats(host: &Host, task: &str, count: usize) -> Vec<Seat> {
    let names = names(count);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    host.seats(task, &names).await
}

async fn say(seat: &Seat, message: Vec<u8>, wait_ms: u32) -> Result<Vec<u8>, tonic::Status> {
    let request = v1::ExchangeRequest { place: Some(seat.place.to_wire()), message: message.into(), wait_ms };
    let reply = within("an exchange", seat.stub.clone().exchange(request)).await?;
    Ok(reply.into_inner().reply.to_vec())
}

/// Bytes that follow from a seed.
fn seeded(seed: u8) -> impl FnMut(&mut [u8]) {
    let mut counter = 0u64;
    move |bytes| {
        for piece in bytes.chunks_mut(32) {
            counter += 1;
            let block = testudo_protocol::Digest::of(&[&[seed][..], &counter.to_le_bytes()].concat());
            piece.copy_from_slice(&block.0[..piece.len()]);
        }
    }
}

fn keys(seat: &Seat, seed: u8) -> (Advertised, Vec<u8>) {
    let announcement = Announcement::from_bytes(&seat.assignment.announcement).unwrap();
    let key = SigningKey::from_bytes(&[seed; 32]);
    let credentials = Credentials::unvouched(seat.place.client.clone(), key);
    let mut random = seeded(seed);
    let (state, message) =
        Advertised::new(&announcement, &credentials, &MemoryAnswers::default(), true, &mut random).unwrap();
    (state, message.to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_are_refused_alone_and_with_their_reason() {
    let host = Host::start().await;
    host.create(&masked_toml("hostile", 4, 4, "kind = \"mean\""), &small_model(3)).await;
    let seats = masked_seats(&host, "hostile", 4).await;
    let refused = |result: Result<Vec<u8>, tonic::Status>| reason::<Vec<u8>>(result);
    // No message at all, one of an unknown kind, one that is too long.
    assert_eq!(refused(say(&seats[0], vec![], 0).await), Reason::Malformed);
    assert_eq!(refused(say(&seats[0], vec![7; 100], 0).await), Reason::Malformed);
    assert_eq!(refused(say(&seats[0], vec![0; 1 << 20], 0).await), Reason::Malformed);
    let (_, message) = keys(&seats[0], 1);
    // A bit of every part changed: the signature no longer fits, or it is no message any more.
    for at in (0..message.len()).step_by(17) {
        let mut bad = message.clone();
        bad[at] ^= 4;
        let reason = refused(say(&seats[0], bad, 0).await);
        assert!(matches!(reason, Reason::Malformed | Reason::Signature | Reason::Identity), "byte {at}: {reason:?}");
    }
    // Another client's keys, another session's, another nonce.
    assert_eq!(refused(say(&seats[1], message.clone(), 0).await), Reason::Identity);
    let mut stranger = seats[0].clone();
    stranger.place.nonce = testudo_protocol::Nonce([9; 16]);
    assert_eq!(refused(say(&stranger, message.clone(), 0).await), Reason::NotInCohort);
    // The update before its time, and without masks.
    let payload = seats[0].payload();
    assert_eq!(reason(seats[0].send(seats[0].parts(&payload, |_| {})).await), Reason::WrongState);
    // Its own keys are taken, also twice; other keys of the same client are not, nor its keys from somebody else.
    assert_eq!(say(&seats[0], message.clone(), 0).await.unwrap(), Vec::<u8>::new());
    assert_eq!(say(&seats[0], message.clone(), 0).await.unwrap(), Vec::<u8>::new());
    let (_, other) = keys(&seats[0], 2);
    assert_eq!(refused(say(&seats[0], other, 0).await), Reason::Duplicate);
    let (_, copied) = keys(&seats[1], 1);
    assert_eq!(refused(say(&seats[1], copied, 0).await), Reason::Duplicate);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_round_takes_masked_inputs_of_its_members_only() {
    let host = Host::start().await;
    host.create(&masked_toml("inputs", 4, 4, "kind = \"mean\""), &small_model(3)).await;
    let seats = masked_seats(&host, "inputs", 4).await;
    let advertised: Vec<_> = (1..).zip(&seats).map(|(seed, seat)| keys(seat, seed)).collect();
    let replies = advertised.iter().zip(&seats).map(|((_, message), seat)| say(seat, message.clone(), 5000));
    let replies = futures::future::join_all(replies).await;
    let mut sharing = Vec::new();
    for (((state, _), reply), seat) in advertised.into_iter().zip(replies).zip(&seats) {
        let Reply::Roster(roster) = Reply::from_bytes(&reply.unwrap(), 0).unwrap() else { panic!() };
        let mut random = seeded(100 + seat.place.client.as_str().as_bytes()[2]);
        sharing.push(state.group(&roster, &Demands { group: 4, colluders: 0.0 }, &mut random).unwrap());
    }
    let shares = sharing.iter().zip(&seats).map(|((_, message), seat)| say(seat, message.to_bytes(), 5000));
    for reply in futures::future::join_all(shares).await {
        assert!(matches!(Reply::from_bytes(&reply.unwrap(), 4).unwrap(), Reply::Shared(_)));
    }
    // In the clear, of another length, or claiming examples that the server is not to know: refused at the door.
    let payload = seats[0].payload();
    let plain = seats[0].send(seats[0].parts(&payload, |_| {})).await;
    assert_eq!(reason(plain), Reason::WrongDtype);
    let long = bytes::Bytes::from(vec![0; payload.len() + 4]);
    let masked = |header: &mut testudo_proto::UploadHeader| header.encoding = testudo_protocol::Encoding::Masked;
    let sent = seats[1].send(seats[1].parts(&long, masked)).await;
    assert_eq!(reason(sent), Reason::Oversize);
    // Any words are a masked input; without its message it does not count, and the round is given up below its threshold.
    seats[2].send(seats[2].parts(&payload, masked)).await.unwrap();
    let record = host.ended("inputs", 1).await;
    assert_eq!(record.state, "abandoned", "{record:?}");
    assert!(record.why.contains("too few groups"), "{record:?}");
    host.stop().await;
}
