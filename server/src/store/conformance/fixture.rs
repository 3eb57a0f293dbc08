//! Tasks, rounds and updates to fill a ledger with.

use super::super::{Body, Judged, NewRound, NewTask, Release, Store, UploadRow};
use super::ok;
use bytes::Bytes;
use std::ops::Range;
use testudo_protocol::{ClientId, Digest, Nonce, TaskName, Verdict};

pub(super) fn name(text: &str) -> TaskName {
    TaskName::new(text).expect("fixtures use valid names")
}

pub(super) fn client(index: usize) -> ClientId {
    ClientId::new(format!("client-{index:05}")).expect("fixtures use valid names")
}

pub(super) fn clients(indices: Range<usize>) -> Vec<ClientId> {
    indices.map(client).collect()
}

pub(super) fn nonce(index: usize) -> Nonce {
    Nonce((index as u128 * 7).to_be_bytes())
}

pub(super) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub(super) fn new_task(task: &TaskName) -> NewTask {
    let toml = format!("name = \"{task}\"\n# \u{fc}\u{1f422} kept as it came\n");
    NewTask { name: task.clone(), toml, model: digest("initial"), privacy: None, at: 1 }
}

/// A round with clients 0 to `seats`, listed backwards.
pub(super) fn new_round(task: &TaskName, number: u64, base: Digest, seats: usize) -> NewRound {
    NewRound {
        task: task.clone(),
        number,
        base,
        seed: [number as u8; 32],
        target: seats.max(1),
        minimum: 1,
        opened_at: 10 * number,
        closes_at: 10 * number + 5,
        cohort: (0..seats).rev().map(|index| (client(index), nonce(index))).collect(),
        reserve: None,
        step: None,
        secret: false,
    }
}

/// A running task without rounds.
pub(super) async fn created(store: &dyn Store, text: &str) -> TaskName {
    let task = name(text);
    ok(store.create_task(new_task(&task)).await);
    task
}

/// A running task with round 1 open.
pub(super) async fn opened(store: &dyn Store, text: &str, seats: usize) -> TaskName {
    let task = created(store, text).await;
    ok(store.open_round(new_round(&task, 1, digest("initial"), seats)).await);
    task
}

/// The update of a client: inline for even ones, in two parts for odd ones.
pub(super) fn upload(index: usize) -> UploadRow {
    let body = match index % 2 {
        0 => Body::Inline(Bytes::from(vec![index as u8; 3])),
        _ => Body::Parts { key: format!("task/1/{index}"), parts: vec![(0, 4 << 20), (4 << 20, 17)] },
    };
    UploadRow {
        client: client(index),
        digest: digest(&format!("update {index}")),
        body,
        norm: index as f64 + 0.1,
        examples: index as u64 + 1,
        at: 12,
    }
}

/// Records the updates of some clients, all of which must pass.
pub(super) async fn record(store: &dyn Store, task: &TaskName, round: u64, indices: &[usize]) {
    let batch = indices.iter().map(|&index| (task.clone(), round, upload(index))).collect();
    for result in store.record_uploads(batch).await {
        ok(result);
    }
}

pub(super) async fn record_one(
    store: &dyn Store,
    task: &TaskName,
    round: u64,
    upload: UploadRow,
) -> Result<(), super::StoreError> {
    let mut results = store.record_uploads(vec![(task.clone(), round, upload)]).await;
    assert_eq!(results.len(), 1, "one result for one upload");
    results.remove(0)
}

pub(super) fn judged(index: usize, verdict: Verdict) -> Judged {
    Judged { client: client(index), verdict, detail: String::new(), upload: None, score: None, weight: None }
}

/// A release of a round in which the first `accepted` of `seats` clients are accepted and the others dropped out.
pub(super) fn release(task: &TaskName, number: u64, seats: usize, accepted: usize) -> Release {
    let verdict = |index| if index < accepted { Verdict::Accepted } else { Verdict::Dropout };
    Release {
        task: task.clone(),
        number,
        model: digest(&format!("model {number}")),
        optimizer: None,
        aggregate_norm: 0.1,
        notes: vec![("steps".into(), 3.0), ("residual".into(), 0.1 + 0.2)],
        seats: (0..seats).map(|index| judged(index, verdict(index))).collect(),
        finishes: false,
        charged: false,
        at: 10 * number.min(1000) + 7,
    }
}

/// Opens, fills, closes and releases a round in which every client is accepted.
pub(super) async fn play(store: &dyn Store, task: &TaskName, number: u64, seats: usize) {
    let base = ok(store.task(task).await).model;
    ok(store.open_round(new_round(task, number, base, seats)).await);
    record(store, task, number, &Vec::from_iter(0..seats)).await;
    ok(store.close_round(task, number, &clients(0..seats), None, 10 * number + 6).await);
    ok(store.release(release(task, number, seats, seats)).await);
}
