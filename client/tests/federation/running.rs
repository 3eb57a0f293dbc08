use crate::fake::{Fake, assignment, client, model};
use std::sync::{Arc, Mutex};
use testudo_client::{
    Ended, Error, Reason, Reject, Round, SavedSession, Summary, TrainError, Trainer, Update, Verdict,
};
use testudo_proto::to_status;

/// Fails in the rounds it is told to; keeps what it is told.
#[derive(Default)]
struct Script {
    failing: Vec<u64>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    verdicts: Vec<(u64, Verdict)>,
    saved: Vec<Option<(u64, bool)>>,
    finished: Option<Summary>,
}

impl Trainer for Script {
    async fn train(&mut self, round: &Round) -> Result<Update, TrainError> {
        if self.failing.contains(&round.number()) {
            return Err("no data on this device".into());
        }
        Ok(Update::delta(vec![0.5; round.layout().dimension()]))
    }

    fn verdict(&mut self, round: u64, verdict: Verdict) {
        self.seen.lock().unwrap().verdicts.push((round, verdict));
    }

    fn save(&mut self, session: &SavedSession) {
        let open = session.open_round().map(|(round, digest)| (round, digest.is_some()));
        self.seen.lock().unwrap().saved.push(open);
    }

    fn finished(&mut self, summary: &Summary) {
        self.seen.lock().unwrap().finished = Some(summary.clone());
    }
}

#[tokio::test]
async fn a_run_outlives_a_training_failure_and_a_refusal() {
    let model = model(40);
    let fake = Fake::with_model(&model)
        .then(assignment(1, &model))
        .then_with(assignment(2, &model), &[(1, Verdict::Dropout)])
        .then_with(assignment(3, &model), &[(2, Verdict::Rejected { reason: Reason::Magnitude })])
        .then_with(crate::fake::not_now(1), &[(3, Verdict::Accepted)]);
    fake.state().refusals.push_back(to_status(&Reject::new(Reason::Magnitude, "norm 9 over the cap of 1")));
    let trainer = Script { failing: vec![1], ..Script::default() };
    let seen = Arc::clone(&trainer.seen);
    let summary = client(fake.serve().await).await.run("task", trainer).await.unwrap();

    let expected = Summary {
        rounds: 1,
        accepted: 1,
        clipped: 0,
        trimmed: 0,
        rejected: 1,
        dropouts: 1,
        refused: 1,
        failures: 1,
        ended: Ended::Finished,
    };
    assert_eq!(summary, expected);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.finished, Some(expected));
    assert_eq!(seen.verdicts.iter().map(|(round, _)| *round).collect::<Vec<_>>(), [1, 2, 3]);
    let (begun, packed) = (Some((3, false)), Some((3, true)));
    assert_eq!(seen.saved[seen.saved.len() - 3..], [begun, packed, None]);
    assert_eq!(fake.state().withdrawn, [1]);
}

#[tokio::test]
async fn five_training_failures_in_a_row_end_a_run() {
    let model = model(40);
    let fake = (1..=9).fold(Fake::with_model(&model), |fake, round| fake.then(assignment(round, &model)));
    let trainer = Script { failing: vec![1, 2, 4, 5, 6, 7, 8], ..Script::default() };
    let error = client(fake.serve().await).await.run("task", trainer).await.unwrap_err();
    assert!(matches!(error, Error::Trainer { failures: 5, .. }), "{error}");
    assert!(error.to_string().contains("no data on this device"), "{error}");
    assert_eq!(fake.state().withdrawn, [1, 2, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn whatever_waits_can_be_spawned() {
    fn spawnable<T: Send>(value: T) -> T {
        value
    }
    let fake = Fake::default();
    let client = client(fake.serve().await).await;
    let mut session = spawnable(client.join("task")).await.unwrap();
    let saved = session.save();
    spawnable(client.resume(saved)).await.unwrap();
    assert!(spawnable(session.next_round()).await.unwrap().is_none());
    spawnable(client.run("task", Script::default())).await.unwrap();
    let _ = spawnable(async |round: Round| round.submit(Update::delta(Vec::new())).await);
}
