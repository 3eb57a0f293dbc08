//! Rounds in which the device noises its own update.

use crate::fake::{Fake, assigned, builder, client, model};
use testudo_client::{Client, Ended, Error, OwnNoise, Policy, Reason, Reject, SavedSession, Update};
use testudo_proto::{Answer, Assignment, Masking, framing, to_status};
use testudo_protocol::{Encoding, Model, Nonce};

fn noisy(round: u64, model: &Model, sigma_grid: u64) -> Answer {
    let own_noise = Some(OwnNoise { clip_l2: 1.0, grid_bits: 20, sigma_grid });
    let encodings = vec![Encoding::Noised];
    Answer::Assignment(Box::new(Assignment { masking: Masking::Noise, own_noise, encodings, ..assigned(round, model) }))
}

#[tokio::test]
async fn what_leaves_the_device_is_noised_and_says_nothing_of_its_examples() {
    let model = model(5000);
    let fake = Fake::with_model(&model).then(noisy(1, &model, 2 << 20));
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    assert_eq!(round.own_noise().map(|noise| noise.multiplier()), Some(2.0));
    round.submit(Update::delta(vec![0.0; 5000]).examples(512)).await.unwrap();
    let state = fake.state();
    let header = state.header.as_ref().unwrap();
    assert_eq!((header.encoding, header.num_examples), (Encoding::Noised, 1));
    let sent: Vec<f32> = framing::coordinates(&state.held).collect();
    let variance = sent.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 5000.0;
    assert!((variance.sqrt() / 2.0 - 1.0).abs() < 0.06, "{variance}");
}

/// The first process gets as far as sealing; what is saved then.
async fn interrupted(fake: &Fake) -> (SavedSession, Vec<u8>) {
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    let round = session.next_round().await.unwrap().unwrap();
    assert!(!round.holds_update());
    let sealed = round.seal(Update::delta(vec![0.1; 40])).unwrap();
    let digest = sealed.digest().as_bytes().to_vec();
    let saved = serde_json::to_string(&session.save()).unwrap();
    // A process that ends does not run destructors.
    std::mem::forget(sealed);
    (serde_json::from_str(&saved).unwrap(), digest)
}

#[tokio::test]
async fn a_round_never_gets_two_noises_whatever_process_sends() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(noisy(1, &model, 1 << 20)).then(noisy(1, &model, 1 << 20));
    let (saved, digest) = interrupted(&fake).await;
    let again = client(fake.serve().await).await;
    let mut session = again.resume(saved).await.unwrap();
    let round = session.next_round().await.unwrap().unwrap();
    assert!(round.holds_update());
    // Another update, trained anew: it is not sent, and no second noise is drawn.
    let receipt = round.submit(Update::delta(vec![0.7; 40])).await.unwrap();
    assert_eq!(receipt.digest.as_bytes()[..], digest[..]);
    assert_eq!(fake.state().held.len(), 160);
    // What is decided is not kept any longer.
    let saved = serde_json::to_string(&session.save()).unwrap();
    assert!(!saved.contains("noised"), "{saved}");
}

#[tokio::test]
async fn rounds_with_less_noise_than_before_or_than_the_policy_asks_for_are_left() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(noisy(1, &model, 2 << 20)).then(noisy(2, &model, 1 << 20));
    let device = client(fake.serve().await).await;
    let mut session = device.join("task").await.unwrap();
    session.next_round().await.unwrap().unwrap().submit(Update::delta(vec![0.0; 40])).await.unwrap();
    let error = session.next_round().await.unwrap_err();
    assert!(matches!(error, Error::Policy(_)) && error.to_string().contains("2 times the clip before"), "{error}");
    fake.until(|state| state.withdrawn == [2]).await;

    let fake = Fake::with_model(&model).then(noisy(1, &model, 2 << 20));
    let policy = Policy::default().min_local_noise(2.1);
    let device = builder(fake.serve().await).policy(policy).connect().await.unwrap();
    let error = device.join("task").await.unwrap().next_round().await.unwrap_err();
    assert!(matches!(error, Error::Policy(_)) && error.to_string().contains("at least 2.1"), "{error}");
    fake.until(|state| state.withdrawn == [1]).await;
    assert!(fake.state().held.is_empty());
}

async fn limited(fake: &Fake, rounds: u64) -> Client {
    builder(fake.serve().await).policy(Policy::default().max_rounds(rounds)).connect().await.unwrap()
}

fn late() -> tonic::Status {
    to_status(&Reject::new(Reason::Late, "never a receipt"))
}

#[tokio::test]
async fn a_server_without_receipts_gets_no_more_noised_updates_than_the_policy_allows() {
    let model = model(40);
    let Answer::Assignment(mut again) = noisy(1, &model, 1 << 20) else { unreachable!() };
    again.nonce = Nonce([9; 16]);
    let fake = Fake::with_model(&model).then(noisy(1, &model, 1 << 20)).then(Answer::Assignment(again)).then(noisy(
        2,
        &model,
        1 << 20,
    ));
    fake.state().refusals.extend([late(), late(), late()]);
    let device = limited(&fake, 2).await;
    let mut session = device.join("task").await.unwrap();
    for _ in 0..2 {
        let round = session.next_round().await.unwrap().unwrap();
        let error = round.submit(Update::delta(vec![0.1; 40])).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::Late), "{error}");
    }
    assert_eq!(session.rounds(), 0);
    // Another process knows it too.
    let saved: SavedSession = serde_json::from_str(&serde_json::to_string(&session.save()).unwrap()).unwrap();
    let mut resumed = device.resume(saved).await.unwrap();
    for session in [&mut session, &mut resumed] {
        assert!(session.next_round().await.unwrap().is_none());
        assert_eq!(session.ended(), Some(Ended::RoundsDone));
    }
    let state = fake.state();
    assert_eq!((state.check_ins.len(), state.upload_offsets.len()), (2, 2));
}

#[tokio::test]
async fn the_last_noise_that_was_drawn_may_still_be_sent_and_no_other_is_drawn() {
    let model = model(40);
    for offered in [1, 2] {
        let fake = Fake::with_model(&model).then(noisy(1, &model, 1 << 20)).then(noisy(offered, &model, 1 << 20));
        let (saved, digest) = interrupted(&fake).await;
        let mut session = limited(&fake, 1).await.resume(saved).await.unwrap();
        if offered == 1 {
            let round = session.next_round().await.unwrap().unwrap();
            let receipt = round.submit(Update::delta(vec![0.7; 40])).await.unwrap();
            assert_eq!(receipt.digest.as_bytes()[..], digest[..]);
        }
        assert!(session.next_round().await.unwrap().is_none());
        assert_eq!(session.ended(), Some(Ended::RoundsDone));
        assert_eq!(fake.state().upload_offsets.len(), usize::from(offered == 1));
    }
}

#[tokio::test]
async fn another_process_takes_no_round_with_less_noise_either() {
    let model = model(40);
    for worse in [noisy(2, &model, (2 << 20) - 1), Answer::Assignment(Box::new(assigned(2, &model)))] {
        let fake = Fake::with_model(&model).then(noisy(1, &model, 2 << 20)).then(worse);
        let device = client(fake.serve().await).await;
        let mut session = device.join("task").await.unwrap();
        session.next_round().await.unwrap().unwrap().submit(Update::delta(vec![0.0; 40])).await.unwrap();
        let saved = serde_json::from_str(&serde_json::to_string(&session.save()).unwrap()).unwrap();
        let error = device.resume(saved).await.unwrap().next_round().await.unwrap_err();
        assert!(matches!(error, Error::Policy(_)) && error.to_string().contains("2 times the clip before"), "{error}");
        fake.until(|state| state.withdrawn == [2]).await;
    }
}
