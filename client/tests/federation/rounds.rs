use crate::fake::{Fake, assigned, assignment, builder, client, model, not_now};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use testudo_client::{Digest, Ended, Error, NotNowWhy, Policy, Reason, Reject, SeatLimit, Update, Verdict, Wait};
use testudo_proto::{Answer, Masking, fault_after, framing, to_status};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_round_goes_from_check_in_to_receipt_and_its_verdict_comes_later() {
    let model = model(40);
    let fake = Fake::with_model(&model)
        .then(assignment(1, &model))
        .then_with(not_now(1), &[(1, Verdict::Trimmed { share: 0.25 })]);
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();

    let round = session.next_round().await.unwrap().unwrap();
    assert_eq!((round.number(), round.max_examples(), round.rule()), (1, 1000, "mean"));
    assert_eq!(round.model().parameters(), model.parameters());
    assert!(round.time_left() > Duration::ZERO);
    let receipt = round.submit(Update::delta(vec![0.5; 40]).examples(7)).await.unwrap();
    assert_eq!((receipt.round, receipt.num_examples, receipt.verdict), (1, 7, Verdict::Pending));
    assert!(session.verdicts().is_empty());

    assert!(session.next_round().await.unwrap().is_none());
    assert_eq!(session.ended(), Some(Ended::Finished));
    assert_eq!(session.rounds(), 1);
    assert_eq!(session.take_verdicts(), [(1, Verdict::Trimmed { share: 0.25 })]);
    assert!(session.verdicts().is_empty());

    let state = fake.state();
    assert_eq!(state.held, framing::payload(&[0.5; 40]));
    assert_eq!(state.header.as_ref().unwrap().digest, Digest::of(&state.held));
    assert_eq!(state.header.as_ref().unwrap().model_digest, model.digest());
    let asked: Vec<u64> = state.check_ins.iter().map(|(_, request)| request.verdicts_after).collect();
    assert_eq!(asked, [0, 0, 1]);
    assert_eq!(state.check_ins[0].1.client, "device-7");
    assert_eq!(state.withdrawn, [0; 0]);
}

#[tokio::test]
async fn an_unchanged_model_is_downloaded_once() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model)).then(assignment(2, &model));
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    for number in [1, 2] {
        let round = session.next_round().await.unwrap().unwrap();
        assert_eq!(round.number(), number);
        fake.state().held.clear();
        round.submit(Update::delta(vec![0.0; 40])).await.unwrap();
    }
    assert_eq!(fake.state().download_offsets, [0]);
}

#[tokio::test]
async fn the_server_says_when_to_check_in_again() {
    let wait = Duration::from_millis(80);
    let fake = Fake::default().then(Answer::not_now(wait, NotNowWhy::Running));
    let client = client(fake.serve().await).await;
    assert!(client.join("task").await.unwrap().next_round().await.unwrap().is_none());
    let state = fake.state();
    assert!(state.check_ins[1].0 - state.check_ins[0].0 >= wait);
}

#[tokio::test]
async fn a_client_that_waits_for_its_limit_says_so_and_leaves() {
    let limit = |next_round| Some(SeatLimit { participations: 2, separation: 3, next_round });
    let retry_after = Duration::from_millis(40);
    let fake = Fake::default()
        .then(not_now(1))
        .then(Answer::NotNow { retry_after, why: NotNowWhy::TooSoon, limit: limit(Some(4)) })
        .then(Answer::NotNow {
            retry_after: Duration::from_secs(60),
            why: NotNowWhy::LimitReached,
            limit: limit(None),
        });
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    let waits: Arc<Mutex<Vec<Wait>>> = Arc::default();
    let heard = Arc::clone(&waits);
    session.on_wait(move |wait| heard.lock().unwrap().push(*wait));
    assert_eq!(session.limit(), None);
    let ended = tokio::time::timeout(Duration::from_secs(20), session.next_round()).await;
    assert!(ended.expect("it does not wait for a minute").unwrap().is_none());
    assert_eq!((session.ended(), session.limit()), (Some(Ended::LimitReached), limit(None)));
    let waits = waits.lock().unwrap();
    assert_eq!((waits[0].why, waits[0].limit), (NotNowWhy::Filling, None));
    assert_eq!((waits[1].why, waits[1].limit, waits[1].retry_after), (NotNowWhy::TooSoon, limit(Some(4)), retry_after));
    assert_eq!(waits.len(), 2);
}

#[tokio::test]
async fn faults_and_a_server_that_hangs_up_are_waited_out() {
    let model = model(40);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Fake::with_model(&model)
        .then_fail(fault_after("the ledger is away", Duration::from_millis(10)))
        .then_fail(tonic::Status::unavailable("restarting"))
        .then_fail(to_status(&Reject::new(Reason::Overloaded, "full")))
        .then(assignment(1, &model));
    let client = builder(address).connect_lazy().unwrap();
    let later = fake.clone();
    tokio::spawn(async move {
        for _ in 0..3 {
            drop(listener.accept().await.unwrap());
        }
        later.serve_on(listener);
    });
    let mut session = client.join("task").await.unwrap();
    assert_eq!(session.next_round().await.unwrap().unwrap().number(), 1);
    assert_eq!(fake.state().check_ins.len(), 4);
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up_if_so_asked() {
    let retry = testudo_client::Retry::default()
        .first(Duration::from_millis(5))
        .longest(Duration::from_millis(5))
        .give_up_after(Duration::from_millis(40));
    let client = builder("127.0.0.1:1".parse().unwrap()).retry(retry).connect_lazy().unwrap();
    let error = client.join("task").await.unwrap().next_round().await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error}");
}

#[tokio::test]
async fn every_refusal_surfaces_with_its_reason() {
    let model = model(40);
    let about_the_stream = [Reason::WrongOffset, Reason::TooSlow, Reason::TakenOver, Reason::Overloaded];
    let reasons: Vec<_> = Reason::ALL.iter().copied().filter(|reason| !about_the_stream.contains(reason)).collect();
    let fake = Fake::with_model(&model);
    for (round, &reason) in reasons.iter().enumerate() {
        let mut state = fake.state();
        state.answers.push_back(Ok(assignment(round as u64 + 1, &model).to_wire(Vec::new())));
        state.refusals.push_back(to_status(&Reject::new(reason, "why")));
    }
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    for &reason in &reasons {
        let round = session.next_round().await.unwrap().unwrap();
        let error = round.submit(Update::delta(vec![0.0; 40])).await.unwrap_err();
        assert_eq!(error.reason(), Some(reason), "{error}");
        assert!(matches!(error, Error::Rejected(reject) if reject.detail == "why"));
    }
    assert_eq!(fake.state().upload_offsets.len(), reasons.len(), "a refusal is final");
    assert_eq!(fake.state().withdrawn, [0; 0], "a refused client has not left");
}

#[tokio::test]
async fn a_refused_check_in_surfaces_too() {
    let fake = Fake::default().then_fail(to_status(&Reject::new(Reason::NotFound, "no task \"task\"")));
    let client = client(fake.serve().await).await;
    let error = client.join("task").await.unwrap().next_round().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotFound));
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    for _ in 0..2 {
        let overloaded = Reject::retry(Reason::Overloaded, "full", Duration::from_millis(5));
        fake.state().refusals.push_back(to_status(&overloaded));
    }
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    round.submit(Update::delta(vec![0.0; 40])).await.unwrap();
    assert_eq!(fake.state().upload_offsets, [0, 0, 0]);
}

#[tokio::test]
async fn dropping_a_round_leaves_it_and_it_is_not_taken_again() {
    let model = model(40);
    let fake =
        Fake::with_model(&model).then(assignment(1, &model)).then(assignment(1, &model)).then(assignment(2, &model));
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    drop(session.next_round().await.unwrap().unwrap());
    fake.until(|state| state.withdrawn == [1]).await;
    let round = session.next_round().await.unwrap().unwrap();
    assert_eq!(round.number(), 2);
    round.withdraw().await.unwrap();
    assert_eq!(fake.state().withdrawn, [1, 1, 2]);
}

#[tokio::test]
async fn a_session_holds_one_round_at_a_time() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    let round = session.next_round().await.unwrap().unwrap();
    let error = session.next_round().await.unwrap_err();
    assert!(error.to_string().contains("still held"), "{error}");
    drop(round);
    assert!(session.next_round().await.unwrap().is_none());
}

#[tokio::test]
async fn an_update_that_does_not_fit_never_reaches_the_server() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    let error = round.submit(Update::delta(vec![f32::NAN; 40])).await.unwrap_err();
    assert!(matches!(error, Error::Update(_)), "{error}");
    fake.until(|state| state.withdrawn == [1]).await;
    assert_eq!(fake.state().upload_offsets, [0; 0]);
}

#[tokio::test]
async fn hostile_updates_reach_the_server_as_they_are() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    let update = Update::raw(vec![("w".into(), "I8".into(), vec![3])], vec![1, 2, 3])
        .examples_claim(-5)
        .digest_claim(Digest([1; 32]));
    round.submit(update).await.unwrap();
    let state = fake.state();
    let header = state.header.as_ref().unwrap();
    assert_eq!((header.num_examples, header.digest, header.total_bytes), (-5, Digest([1; 32]), 3));
    assert_eq!((header.tensors[0].dtype.as_str(), &state.held[..]), ("I8", &[1, 2, 3][..]));
}

#[tokio::test]
async fn a_round_against_the_policy_is_left_before_anything_is_loaded() {
    let model = model(40);
    let mut masked = assigned(3, &model);
    masked.masking = Masking::Pairwise;
    masked.group_size = 16;
    let fake = Fake::with_model(&model).then(assignment(1, &model)).then(Answer::Assignment(Box::new(masked)));
    let client = builder(fake.serve().await).policy(Policy::default().require_masking()).connect().await.unwrap();
    let mut session = client.join("task").await.unwrap();
    let error = session.next_round().await.unwrap_err();
    assert!(matches!(error, Error::Policy(_)), "{error}");
    // Masked, as the device insists, but without anything signed.
    let error = session.next_round().await.unwrap_err();
    assert!(matches!(error, Error::ServerMisbehaved(_)), "{error}");
    assert_eq!(fake.state().withdrawn, [1, 3]);
    assert_eq!(fake.state().download_offsets, [0; 0]);
}

#[tokio::test]
async fn a_device_stops_after_the_rounds_its_policy_allows() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model)).then(assignment(2, &model));
    let client = builder(fake.serve().await).policy(Policy::default().max_rounds(1)).connect().await.unwrap();
    let mut session = client.join("task").await.unwrap();
    let round = session.next_round().await.unwrap().unwrap();
    round.submit(Update::delta(vec![0.0; 40])).await.unwrap();
    assert!(session.next_round().await.unwrap().is_none());
    assert_eq!(session.ended(), Some(Ended::RoundsDone));
    assert_eq!(fake.state().check_ins.len(), 1);
}
