use super::*;
use crate::store::{Body, Location, NewRound, NewTask, open};
use bytes::Bytes;
use testudo_protocol::{ClientId, Digest, Nonce};

fn client(index: usize) -> ClientId {
    ClientId::new(format!("client-{index}")).unwrap()
}

fn upload(index: usize) -> UploadRow {
    UploadRow {
        client: client(index),
        digest: Digest::of(&index.to_le_bytes()),
        body: Body::Inline(Bytes::from_static(b"payload")),
        norm: 1.0,
        examples: 1,
        at: 3,
    }
}

async fn ledger(seats: usize) -> (Arc<dyn Store>, TaskName) {
    let (store, task) = (open(&Location::Memory).await.unwrap(), TaskName::new("task").unwrap());
    let base = Digest::of(b"model");
    store
        .create_task(NewTask { name: task.clone(), toml: String::new(), model: base, privacy: None, at: 1 })
        .await
        .unwrap();
    let round = NewRound {
        task: task.clone(),
        number: 1,
        base,
        seed: [0; 32],
        target: seats,
        minimum: 1,
        opened_at: 2,
        closes_at: 9,
        cohort: (0..seats).map(|index| (client(index), Nonce([0; 16]))).collect(),
        reserve: None,
        step: None,
        secret: false,
    };
    store.open_round(round).await.unwrap();
    (store, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_caller_gets_the_result_of_its_own_upload() {
    const SEATS: usize = 500;
    let (store, task) = ledger(SEATS).await;
    let batcher = Batcher::spawn(Arc::clone(&store));
    let callers: Vec<_> = (0..SEATS + 50)
        .map(|index| {
            let (batcher, task) = (batcher.clone(), task.clone());
            tokio::spawn(async move { (index, batcher.record(task, 1, upload(index)).await) })
        })
        .collect();
    for caller in callers {
        let (index, result) = caller.await.unwrap();
        match result {
            Ok(()) => assert!(index < SEATS, "{index} has no seat"),
            Err(error) => assert!(index >= SEATS && matches!(error, StoreError::NotFound { .. }), "{index}: {error}"),
        }
    }
    assert_eq!(store.round(&task, 1).await.unwrap().counts.received, SEATS as u64);
}

#[tokio::test]
async fn a_single_upload_does_not_wait_for_company() {
    let (store, task) = ledger(1).await;
    let batcher = Batcher::spawn(store);
    batcher.record(task, 1, upload(0)).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_records_what_was_queued_and_refuses_the_rest() {
    const SEATS: usize = 250;
    let (store, task) = ledger(SEATS).await;
    let batcher = Batcher::spawn(Arc::clone(&store));
    // Unconstrained: else the runtime's budget for one task would end in the middle of queueing.
    let record = |index| Box::pin(tokio::task::unconstrained(batcher.record(task.clone(), 1, upload(index))));
    let mut queued: Vec<_> = (0..SEATS - 1).map(record).collect();
    for record in &mut queued {
        // Polled once: in the queue. The recording task has not run yet, this being the only thread.
        assert!(futures::poll!(record).is_pending());
    }
    tokio::join!(batcher.shutdown(), batcher.shutdown());
    for record in queued {
        record.await.unwrap();
    }
    let error = batcher.record(task.clone(), 1, upload(SEATS - 1)).await.unwrap_err();
    assert!(error.to_string().contains("nothing was recorded"), "{error}");
    assert_eq!(store.round(&task, 1).await.unwrap().counts.received, SEATS as u64 - 1);
}

#[tokio::test]
async fn an_upload_is_recorded_even_if_its_caller_goes_away() {
    let (store, task) = ledger(2).await;
    let batcher = Batcher::spawn(Arc::clone(&store));
    {
        let mut record = Box::pin(batcher.record(task.clone(), 1, upload(0)));
        assert!(futures::poll!(&mut record).is_pending());
    }
    batcher.record(task.clone(), 1, upload(1)).await.unwrap();
    assert_eq!(store.round(&task, 1).await.unwrap().counts.received, 2);
}
