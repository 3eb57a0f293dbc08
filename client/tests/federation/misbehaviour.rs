use crate::fake::{Fake, assigned, assignment, client, model};
use testudo_client::{Error, Layout, Model, TaskName, Tensor, Update};
use testudo_proto::{Answer, v1};

async fn first_error(fake: &Fake) -> Error {
    let client = client(fake.serve().await).await;
    client.join("task").await.unwrap().next_round().await.unwrap_err()
}

fn misbehaved(error: &Error, part: &str) {
    assert!(matches!(error, Error::ServerMisbehaved(_)) && error.to_string().contains(part), "{error}");
}

#[tokio::test]
async fn another_model_than_announced_is_refused() {
    let announced = model(40);
    let other = announced.with_parameters(vec![9.0; 40]).unwrap();
    let fake = Fake::with_model(&other).then(assignment(1, &announced));
    misbehaved(&first_error(&fake).await, "announced the model");
    assert_eq!(fake.state().withdrawn, [1]);
}

#[tokio::test]
async fn more_bytes_than_announced_are_refused() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    fake.state().file.push(0);
    misbehaved(&first_error(&fake).await, "sends more");
}

#[tokio::test]
async fn a_model_of_another_layout_than_assigned_is_refused() {
    let model = model(40);
    let mut other = assigned(1, &model);
    other.layout = Layout::new(vec![Tensor { name: "weight".into(), shape: vec![40] }]).unwrap();
    let fake = Fake::with_model(&model).then(Answer::Assignment(Box::new(other)));
    misbehaved(&first_error(&fake).await, "tensors are not those");
}

#[tokio::test]
async fn another_task_than_asked_for_is_refused() {
    let model = model(40);
    let mut other = assigned(1, &model);
    other.task = TaskName::new("other").unwrap();
    let fake = Fake::with_model(&model).then(Answer::Assignment(Box::new(other)));
    misbehaved(&first_error(&fake).await, "assigned other");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_refused() {
    let fake = Fake::default();
    fake.state().answers.push_back(Ok(v1::CheckInResponse { answer: None, verdicts: Vec::new() }));
    misbehaved(&first_error(&fake).await, "answer is missing");
}

#[tokio::test]
async fn a_receipt_for_something_else_is_refused() {
    let model = model(40);
    let fake = Fake::with_model(&model).then(assignment(1, &model));
    fake.state().spoil_receipt = true;
    let client = client(fake.serve().await).await;
    let round = client.join("task").await.unwrap().next_round().await.unwrap().unwrap();
    misbehaved(&round.submit(Update::delta(vec![0.0; 40])).await.unwrap_err(), "round 2");
}

#[tokio::test]
async fn an_intact_file_that_is_no_model_says_so() {
    let announced = model(40);
    let file = b"not safetensors at all".to_vec();
    let mut wrong = assigned(1, &announced);
    wrong.model_digest = testudo_client::Digest::of(&file);
    wrong.model_bytes = file.len() as u64;
    let fake = Fake::with_model(&announced).then(Answer::Assignment(Box::new(wrong)));
    fake.state().file = file;
    let error = first_error(&fake).await;
    assert!(matches!(error, Error::Model(_)), "{error}");
}

#[tokio::test]
async fn a_verdict_of_a_later_version_is_skipped_for_good() {
    let odd = v1::RoundVerdict {
        round: 4,
        verdict: Some(v1::Verdict { kind: "praised".into(), reason: String::new(), value: 0.0 }),
    };
    let fake = Fake::with_model(&model(40));
    let mut answer = crate::fake::not_now(1).to_wire(Vec::new());
    answer.verdicts.push(odd);
    fake.state().answers.push_back(Ok(answer));
    let client = client(fake.serve().await).await;
    let mut session = client.join("task").await.unwrap();
    assert!(session.next_round().await.unwrap().is_none());
    assert!(session.verdicts().is_empty());
    assert_eq!(fake.state().check_ins[1].1.verdicts_after, 4);
}

#[test]
fn the_test_models_differ_by_their_parameters_alone() {
    let one = model(40);
    let other: Model = one.with_parameters(vec![9.0; 40]).unwrap();
    assert_eq!(one.layout(), other.layout());
    assert_ne!(one.digest(), other.digest());
}
