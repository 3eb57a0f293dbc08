//! Rounds in which the device noises its own update.

use crate::fake::{Fake, assigned, builder, client, model};
use testudo_client::{Error, OwnNoise, Policy, SavedSession, Update};
use testudo_proto::{Answer, Assignment, Masking, framing};
use testudo_protocol::{Encoding, Model};

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
