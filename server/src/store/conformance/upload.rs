//! Updates recorded and refused while a round is open.

use super::super::{Store, UploadRow};
use super::{exists, fixture::*, not_found, ok, wrong_state};
use std::sync::Arc;
use testudo_protocol::{Reason, TaskName, Verdict};

const REFUSED: Verdict = Verdict::Rejected { reason: Reason::NonFinite };

pub(super) async fn each_upload_gets_its_own_result(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 4).await;
    ok(store.record_refusal(&task, 1, &client(3), REFUSED, "NaN at 7", 11).await);
    let other = UploadRow { digest: digest("other"), ..upload(0) };
    let rows = [upload(0), upload(0), other, upload(99), upload(3), upload(1)];
    let batch = rows.into_iter().map(|row| (task.clone(), 1, row)).collect();
    let mut results = store.record_uploads(batch).await.into_iter();
    let mut next = || results.next().unwrap_or_else(|| panic!("a result for every row"));
    ok(next());
    ok(next());
    exists(next());
    not_found(next());
    wrong_state(next());
    ok(next());
    assert!(results.next().is_none(), "no more results than rows");
    let round = ok(store.round(&task, 1).await);
    let received: Vec<bool> = round.seats.iter().map(|seat| seat.upload.is_some()).collect();
    assert_eq!(received, [true, true, false, false]);
    assert_eq!(round.seats[0].upload.as_ref().map(|held| held.digest), Some(upload(0).digest));
    assert_eq!((round.counts.received, round.counts.rejected), (2, 1));
    assert!(store.record_uploads(vec![]).await.is_empty());
}

pub(super) async fn an_upload_reads_back_as_it_was_recorded(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    let large = UploadRow { examples: i64::MAX as u64, norm: f64::MIN_POSITIVE / 8.0, at: 1 << 52, ..upload(1) };
    ok(record_one(&*store, &task, 1, upload(0)).await);
    ok(record_one(&*store, &task, 1, large.clone()).await);
    let Some(open) = ok(store.open_round_of(&task).await) else { panic!("the round is open") };
    let uploads: Vec<_> = open.seats.into_iter().map(|seat| seat.upload).collect();
    assert_eq!(uploads, [Some(upload(0)), Some(large.clone())]);
    let seats = ok(store.round(&task, 1).await).seats;
    assert_eq!(seats.iter().map(|seat| seat.verdict).collect::<Vec<_>>(), [Verdict::Pending; 2]);
    for (seat, recorded) in seats.into_iter().zip([upload(0), large]) {
        let expected = UploadRow { body: super::super::Body::Inline(bytes::Bytes::new()), ..recorded };
        assert_eq!(seat.upload, Some(expected), "without its body");
    }
}

pub(super) async fn the_same_digest_again_is_fine_at_any_time(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 2).await;
    record(&*store, &task, 1, &[0]).await;
    let before = ok(store.open_round_of(&task).await);
    record(&*store, &task, 1, &[0]).await;
    let elsewhere = UploadRow { body: upload(1).body, at: 99, ..upload(0) };
    ok(record_one(&*store, &task, 1, elsewhere).await);
    assert_eq!(ok(store.open_round_of(&task).await), before, "the first one stays");
    ok(store.close_round(&task, 1, &clients(0..1), None, 16).await);
    record(&*store, &task, 1, &[0]).await;
    ok(store.release(release(&task, 1, 2, 1)).await);
    record(&*store, &task, 1, &[0]).await;
    exists(record_one(&*store, &task, 1, UploadRow { digest: digest("other"), ..upload(0) }).await);
}

pub(super) async fn impossible_numbers_spoil_only_their_own_row(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 6).await;
    let rows = [
        upload(0),
        UploadRow { norm: f64::NAN, ..upload(1) },
        UploadRow { norm: f64::INFINITY, ..upload(2) },
        UploadRow { examples: u64::MAX, ..upload(3) },
        UploadRow { at: u64::MAX, ..upload(4) },
        upload(5),
    ];
    let results = store.record_uploads(rows.into_iter().map(|row| (task.clone(), 1, row)).collect()).await;
    let passed: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(passed, [true, false, false, false, false, true]);
    assert_eq!(ok(store.round(&task, 1).await).counts.received, 2);
}

pub(super) async fn a_round_that_is_not_open_takes_nothing_new(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 3).await;
    record(&*store, &task, 1, &[0]).await;
    ok(store.close_round(&task, 1, &clients(0..1), None, 16).await);
    let refused = async |task: &TaskName| {
        wrong_state(record_one(&*store, task, 1, upload(1)).await);
        wrong_state(store.record_refusal(task, 1, &client(1), REFUSED, "", 17).await);
    };
    refused(&task).await;
    assert_eq!(ok(store.round(&task, 1).await).counts.received, 1);
    ok(store.release(release(&task, 1, 3, 1)).await);
    refused(&task).await;
}

pub(super) async fn one_batch_may_serve_several_rounds(store: Arc<dyn Store>) {
    let (first, second) = (opened(&*store, "a", 2).await, opened(&*store, "b", 2).await);
    let batch = vec![
        (first.clone(), 1, upload(0)),
        (second.clone(), 1, upload(0)),
        (name("missing"), 1, upload(0)),
        (second.clone(), 1, upload(1)),
    ];
    let passed: Vec<bool> = store.record_uploads(batch).await.iter().map(Result::is_ok).collect();
    assert_eq!(passed, [true, true, false, true]);
    assert_eq!(ok(store.round(&first, 1).await).counts.received, 1);
    assert_eq!(ok(store.round(&second, 1).await).counts.received, 2);
}

pub(super) async fn a_refusal_is_recorded_once_and_bars_the_seat(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 3).await;
    ok(store.record_refusal(&task, 1, &client(0), REFUSED, "NaN at 7", 11).await);
    ok(store.record_refusal(&task, 1, &client(0), REFUSED, "again", 12).await);
    wrong_state(store.record_refusal(&task, 1, &client(0), Verdict::Dropout, "", 12).await);
    ok(store.record_refusal(&task, 1, &client(1), Verdict::Dropout, "left", 12).await);
    wrong_state(record_one(&*store, &task, 1, upload(0)).await);
    wrong_state(record_one(&*store, &task, 1, upload(1)).await);
    record(&*store, &task, 1, &[2]).await;
    wrong_state(store.record_refusal(&task, 1, &client(2), REFUSED, "", 12).await);
    not_found(store.record_refusal(&task, 1, &client(9), REFUSED, "", 12).await);
    let round = ok(store.round(&task, 1).await);
    let seats: Vec<_> = round.seats.iter().map(|seat| (seat.verdict, seat.detail.as_str())).collect();
    assert_eq!(seats, [(REFUSED, "NaN at 7"), (Verdict::Dropout, "left"), (Verdict::Pending, "")]);
    assert_eq!((round.counts.received, round.counts.rejected, round.counts.dropouts), (1, 1, 1));
    ok(store.close_round(&task, 1, &clients(2..3), None, 16).await);
    ok(store.record_refusal(&task, 1, &client(0), REFUSED, "after the close", 17).await);
}

pub(super) async fn only_refusals_and_dropouts_are_recorded_before_the_end(store: Arc<dyn Store>) {
    let task = opened(&*store, "a", 1).await;
    for verdict in [Verdict::Pending, Verdict::Accepted, Verdict::Clipped { factor: 0.5 }] {
        wrong_state(store.record_refusal(&task, 1, &client(0), verdict, "", 11).await);
    }
    record(&*store, &task, 1, &[0]).await;
}
