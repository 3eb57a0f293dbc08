use crate::{
    fake::{Fake, assigned, assignment, builder, client, model},
    proxy::proxy,
};
use std::time::Duration;
use testudo_client::{Error, Reason, Reject, SavedSession, Update};
use testudo_proto::{Answer, framing, to_status};

/// 1 MiB: several times what the sockets' and HTTP/2's buffers hold back.
const COORDINATES: u64 = 256 << 10;

fn delta() -> Vec<f32> {
    (0..COORDINATES).map(|i| i as f32).collect()
}

#[tokio::test]
async fn an_upload_cut_in_the_middle_continues_where_it_broke() {
    let model = model(COORDINATES);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let client = client(proxy(fake.serve().await, 400_000, usize::MAX).await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    let receipt = round.submit(Update::delta(delta()).examples(3)).await.unwrap();
    assert_eq!(receipt.num_examples, 3);

    let state = fake.state();
    assert_eq!(state.held, framing::payload(&delta()));
    assert_eq!(state.upload_offsets[0], 0);
    let resumed = *state.upload_offsets.last().unwrap();
    assert!((1..400_000).contains(&resumed), "{:?}", state.upload_offsets);
    assert!(state.status_calls >= 1);
}

#[tokio::test]
async fn a_download_cut_in_the_middle_continues_where_it_broke() {
    let model = model(COORDINATES);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let client = client(proxy(fake.serve().await, usize::MAX, 400_000).await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    assert_eq!(round.model().parameters(), model.parameters());
    let state = fake.state();
    assert_eq!(state.download_offsets[0], 0);
    assert!(state.download_offsets[1] > 0, "{:?}", state.download_offsets);
}

#[tokio::test]
async fn an_upload_whose_receipt_was_lost_is_not_sent_again() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let address = fake.serve().await;
    let client = client(address).await;
    let mut session = client.join("task").await.unwrap();
    let sealed = session.next_round().await.unwrap().unwrap().seal(Update::delta(vec![0.5; 40])).unwrap();
    fake.state().receipt = Some(testudo_proto::v1::UploadReceipt {
        task: "task".into(),
        round: 1,
        digest: sealed.digest().as_bytes().to_vec().into(),
        num_examples: 1,
        received_at_ms: 5,
    });
    fake.state().refusals.push_back(tonic::Status::unavailable("the connection broke behind the last byte"));
    assert_eq!(sealed.send().await.unwrap().received_at_ms, 5);
    assert_eq!(fake.state().upload_offsets, [0]);
}

#[tokio::test]
async fn a_refusal_before_the_last_byte_keeps_its_reason() {
    let model = model(COORDINATES);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    fake.state().refusals.push_back(to_status(&Reject::new(Reason::Examples, "impossible")));
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    let error = round.submit(Update::delta(delta())).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Examples), "{error}");
    assert_eq!(fake.state().upload_offsets, [0]);
}

#[tokio::test]
async fn a_stream_that_another_one_took_over_asks_and_goes_on() {
    let model = model(COORDINATES);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    // With a time to wait, as our server says it, and without.
    let detail = "a newer stream took over";
    let refusals =
        [Reject::retry(Reason::TakenOver, detail, Duration::from_millis(5)), Reject::new(Reason::TakenOver, detail)];
    fake.state().refusals.extend(refusals.iter().map(to_status));
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    assert_eq!(round.submit(Update::delta(delta())).await.unwrap().received_at_ms, 77);
    let state = fake.state();
    assert_eq!((state.upload_offsets.len(), state.status_calls), (3, 2));
}

#[tokio::test]
async fn an_upload_ends_with_its_round() {
    let model = model(40);
    let mut short = assigned(1, &model);
    short.time_left = Duration::from_millis(300);
    let fake = Fake::with_model(&model).then(Answer::Assignment(Box::new(short)));
    fake.state().refusals.extend(std::iter::repeat_n(tonic::Status::unavailable("away"), 10_000));
    let retry = testudo_client::Retry::default()
        .first(Duration::from_millis(5))
        .longest(Duration::from_millis(5))
        .after_round(Duration::from_millis(100));
    let client = builder(fake.serve().await).retry(retry).connect_lazy().unwrap();
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    let error = round.submit(Update::delta(vec![0.0; 40])).await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error}");
}

/// A client's first process gets as far as packing an update; then its session comes back from a file.
async fn interrupted(fake: &Fake) -> SavedSession {
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    let round = session.next_round().await.unwrap().unwrap();
    let sealed = round.seal(Update::delta(vec![0.5; 40])).unwrap();
    let saved = serde_json::to_string(&session.save()).unwrap();
    // A process that ends does not run destructors.
    std::mem::forget(sealed);
    serde_json::from_str(&saved).unwrap()
}

#[tokio::test]
async fn a_resumed_session_learns_that_its_update_arrived() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let saved = interrupted(&fake).await;
    let (number, digest) = saved.open_round().unwrap();
    fake.state().receipt = Some(testudo_proto::v1::UploadReceipt {
        task: "task".into(),
        round: number,
        digest: digest.unwrap().as_bytes().to_vec().into(),
        num_examples: 1,
        received_at_ms: 5,
    });
    let mut session = client(fake.serve().await).await.resume(saved).await.unwrap();
    assert_eq!(session.recovered().unwrap().received_at_ms, 5);
    assert_eq!(session.rounds(), 1);
    assert_eq!(session.save().open_round(), None);
    assert!(session.next_round().await.unwrap().is_none());
}

#[tokio::test]
async fn a_resumed_session_sends_the_same_update_or_none() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let saved = interrupted(&fake).await;

    for (value, fits) in [(0.25, false), (0.5, true)] {
        fake.state().answers.push_back(Ok(assignment(1, &model).to_wire(Vec::new())));
        let mut session = client(fake.serve().await).await.resume(saved.clone()).await.unwrap();
        assert!(session.recovered().is_none());
        let round = session.next_round().await.unwrap().unwrap();
        assert_eq!(round.earlier(), saved.open_round().unwrap().1);
        let result = round.submit(Update::delta(vec![value; 40])).await;
        assert_eq!(result.is_ok(), fits, "{result:?}");
    }
    assert_eq!(fake.state().upload_offsets, [0]);
    assert_eq!(fake.state().held, framing::payload(&[0.5; 40]));
}

#[tokio::test]
async fn a_session_is_resumed_only_by_the_client_that_saved_it() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let saved = interrupted(&fake).await;
    let other = testudo_client::Identity::named("device-8").unwrap();
    let client = builder(fake.serve().await).identity(other).connect().await.unwrap();
    let error = client.resume(saved).await.unwrap_err().to_string();
    assert!(error.contains("device-7") && error.contains("device-8"), "{error}");
}
