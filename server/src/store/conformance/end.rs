//! Releasing and abandoning.

use super::super::{Body, Counts, Judged, Release, RoundState, SeatRow, Store, TaskState, UploadRow};
use super::{exists, fixture::*, not_found, ok, wrong_state};
use bytes::Bytes;
use std::sync::Arc;
use testudo_protocol::{Abandon, Reason, Verdict};

const NOT_SELECTED: Verdict = Verdict::Rejected { reason: Reason::NotSelected };

pub(super) async fn a_release_changes_round_task_and_seats_together(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 5).await;
    record(&*store, &task, 1, &[0, 1, 2, 3]).await;
    ok(store.close_round(&task, 1, &clients(0..4), None, 16).await);
    let scored = Judged { score: Some(0.1), weight: Some(1.0 / 3.0), ..judged(0, Verdict::Accepted) };
    let clipped = judged(1, Verdict::Clipped { factor: 1.0 / 3.0 });
    let detailed = Judged { detail: "farthest".into(), score: Some(f64::INFINITY), ..judged(2, NOT_SELECTED) };
    let trimmed = judged(3, Verdict::Trimmed { share: 0.25 });
    let seats = vec![trimmed, detailed, judged(4, Verdict::Dropout), scored, clipped];
    let release = Release { seats, optimizer: Some(digest("optimizer")), ..release(&task, 1, 0, 0) };
    ok(store.release(release).await);

    let round = ok(store.round(&task, 1).await);
    assert_eq!((round.state, round.model, round.ended_at), (RoundState::Released, Some(digest("model 1")), Some(17)));
    assert_eq!(round.aggregate_norm, Some(0.1));
    assert_eq!(round.notes, [("steps".to_string(), 3.0), ("residual".to_string(), 0.1 + 0.2)]);
    assert_eq!(round.counts, Counts { received: 4, accepted: 3, rejected: 1, dropouts: 1 });
    let seat = |index, verdict, detail: &str, score, weight| SeatRow {
        client: client(index),
        nonce: nonce(index),
        verdict,
        detail: detail.into(),
        upload: (index < 4).then(|| UploadRow { body: Body::Inline(Bytes::new()), ..upload(index) }),
        score,
        weight,
    };
    let expected = [
        seat(0, Verdict::Accepted, "", Some(0.1), Some(1.0 / 3.0)),
        seat(1, Verdict::Clipped { factor: 1.0 / 3.0 }, "", None, None),
        seat(2, NOT_SELECTED, "farthest", Some(f64::INFINITY), None),
        seat(3, Verdict::Trimmed { share: 0.25 }, "", None, None),
        seat(4, Verdict::Dropout, "", None, None),
    ];
    assert_eq!(round.seats, expected);
    let row = ok(store.task(&task).await);
    assert_eq!(
        (row.initial, row.model, row.optimizer),
        (digest("initial"), digest("model 1"), Some(digest("optimizer")))
    );
    assert_eq!((row.state, row.last_round, row.released, row.abandoned), (TaskState::Running, 1, 1, 0));
    wrong_state(store.open_round(new_round(&task, 2, digest("initial"), 2)).await);
    ok(store.open_round(new_round(&task, 2, digest("model 1"), 2)).await);
}

pub(super) async fn a_release_needs_a_closing_round_and_may_be_repeated(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    record(&*store, &task, 1, &[0]).await;
    wrong_state(store.release(release(&task, 1, 2, 1)).await);
    ok(store.close_round(&task, 1, &clients(0..1), None, 16).await);
    ok(store.release(release(&task, 1, 2, 1)).await);
    let before = (ok(store.task(&task).await), ok(store.round(&task, 1).await));
    ok(store.release(Release { at: 99, finishes: true, ..release(&task, 1, 2, 1) }).await);
    wrong_state(store.release(Release { model: digest("other"), ..release(&task, 1, 2, 1) }).await);
    wrong_state(store.abandon(&task, 1, &Abandon::Stopped, &[], 18).await);
    assert_eq!((ok(store.task(&task).await), ok(store.round(&task, 1).await)), before);
    ok(store.open_round(new_round(&task, 2, digest("model 1"), 1)).await);
    ok(store.abandon(&task, 2, &Abandon::Stopped, &[], 28).await);
    wrong_state(store.release(release(&task, 2, 1, 1)).await);
}

pub(super) async fn a_release_that_does_not_fit_changes_nothing(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 3).await;
    record(&*store, &task, 1, &[0, 1]).await;
    ok(store.close_round(&task, 1, &clients(0..2), None, 16).await);
    let before = (ok(store.task(&task).await), ok(store.open_round_of(&task).await), ok(store.events(0, 99).await));
    let with = |seats| Release { seats, ..release(&task, 1, 0, 0) };
    let accepted = |index| judged(index, Verdict::Accepted);
    not_found(store.release(with(vec![accepted(0), accepted(1), accepted(9)])).await);
    exists(store.release(with(vec![accepted(0), accepted(1), accepted(0)])).await);
    wrong_state(store.release(with(vec![accepted(0)])).await);
    wrong_state(store.release(with(vec![accepted(0), judged(1, Verdict::Pending)])).await);
    let other = Judged { upload: Some((digest("other"), 1.0, 1)), ..accepted(0) };
    exists(store.release(with(vec![other, accepted(1)])).await);
    let mut infinite = with(vec![accepted(0), accepted(1)]);
    infinite.aggregate_norm = f64::NAN;
    assert!(store.release(infinite).await.is_err(), "an aggregate's norm is a number");
    let after = (ok(store.task(&task).await), ok(store.open_round_of(&task).await), ok(store.events(0, 99).await));
    assert_eq!(after, before);
    ok(store.release(with(vec![accepted(0), accepted(1)])).await);
    assert_eq!(ok(store.round(&task, 1).await).seats[2].verdict, Verdict::Dropout, "never came");
}

pub(super) async fn a_release_brings_uploads_that_were_never_recorded(store: Arc<dyn Store>) {
    const SEATS: usize = 1000;
    let task = opened(&*store, "a", SEATS).await;
    ok(store.close_round(&task, 1, &clients(0..SEATS), None, 16).await);
    let row = |index: usize| Judged {
        upload: Some((upload(index).digest, upload(index).norm, upload(index).examples)),
        weight: Some(0.5),
        ..judged(index, Verdict::Accepted)
    };
    let seats = (0..SEATS).map(row).collect();
    ok(store.release(Release { seats, ..release(&task, 1, 0, 0) }).await);
    let round = ok(store.round(&task, 1).await);
    assert_eq!(round.counts, Counts { received: 1000, accepted: 1000, rejected: 0, dropouts: 0 });
    for (index, seat) in round.seats.iter().enumerate() {
        let expected = UploadRow { body: Body::Inline(Bytes::new()), at: 17, ..upload(index) };
        assert_eq!((&seat.upload, seat.weight), (&Some(expected), Some(0.5)));
    }
}

pub(super) async fn a_recorded_refusal_stands(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    let refused = Verdict::Rejected { reason: Reason::Magnitude };
    ok(store.record_refusal(&task, 1, &client(0), refused, "norm 9", 11).await);
    record(&*store, &task, 1, &[1]).await;
    ok(store.close_round(&task, 1, &clients(1..2), None, 16).await);
    let seats = vec![judged(0, Verdict::Dropout), judged(1, Verdict::Accepted)];
    ok(store.release(Release { seats, ..release(&task, 1, 0, 0) }).await);
    let round = ok(store.round(&task, 1).await);
    assert_eq!((round.seats[0].verdict, round.seats[0].detail.as_str()), (refused, "norm 9"));
    assert_eq!(round.counts, Counts { received: 1, accepted: 1, rejected: 1, dropouts: 0 });
}

pub(super) async fn the_last_release_finishes_the_task_unless_it_was_stopped(store: Arc<dyn Store>) {
    for (text, meanwhile, end) in [
        ("running", TaskState::Running, TaskState::Finished),
        ("paused", TaskState::Paused, TaskState::Finished),
        ("stopped", TaskState::Stopped, TaskState::Stopped),
    ] {
        let task = opened(&*store, text, 1).await;
        record(&*store, &task, 1, &[0]).await;
        ok(store.close_round(&task, 1, &clients(0..1), None, 16).await);
        ok(store.set_task_state(&task, meanwhile, "", 16).await);
        ok(store.release(Release { finishes: true, ..release(&task, 1, 1, 1) }).await);
        let row = ok(store.task(&task).await);
        assert_eq!((row.state, row.model, row.released), (end, digest("model 1"), 1));
        wrong_state(store.set_task_state(&task, TaskState::Running, "", 18).await);
        ok(store.set_task_state(&task, end, "", 18).await);
        wrong_state(store.open_round(new_round(&task, 2, digest("model 1"), 1)).await);
    }
}

pub(super) async fn an_abandoned_round_leaves_the_model_and_lets_the_next_open(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 4).await;
    record(&*store, &task, 1, &[0, 1]).await;
    let why = Abandon::TooFewUpdates { received: 2, minimum: 3 };
    let seats = [judged(0, NOT_SELECTED), judged(3, Verdict::Dropout)];
    not_found(store.abandon(&task, 1, &why, &[judged(9, Verdict::Dropout)], 17).await);
    ok(store.abandon(&task, 1, &why, &seats, 17).await);
    let round = ok(store.round(&task, 1).await);
    assert_eq!((round.state, round.model, round.ended_at), (RoundState::Abandoned, None, Some(17)));
    assert_eq!(round.why, "too few updates: 2 of at least 3");
    let verdicts: Vec<_> = round.seats.iter().map(|seat| seat.verdict).collect();
    assert_eq!(verdicts, [NOT_SELECTED, Verdict::Pending, Verdict::Dropout, Verdict::Dropout]);
    assert_eq!(round.counts, Counts { received: 2, accepted: 0, rejected: 1, dropouts: 2 });
    ok(store.abandon(&task, 1, &Abandon::Stopped, &[], 18).await);
    assert_eq!(ok(store.round(&task, 1).await), round, "abandoning again changes nothing");
    let row = ok(store.task(&task).await);
    assert_eq!((row.model, row.last_round, row.released, row.abandoned), (digest("initial"), 1, 0, 1));
    assert_eq!(ok(store.open_round_of(&task).await), None);

    ok(store.open_round(new_round(&task, 2, digest("initial"), 1)).await);
    ok(store.close_round(&task, 2, &[], None, 26).await);
    ok(store.abandon(&task, 2, &Abandon::SpoolLost, &[], 27).await);
    play(&*store, &task, 3, 2).await;
    let row = ok(store.task(&task).await);
    assert_eq!((row.model, row.last_round, row.released, row.abandoned), (digest("model 3"), 3, 1, 2));
}
