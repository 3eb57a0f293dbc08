//! Gathers uploads that finish at about the same time into one transaction.
//!
//! A commit costs an fsync, whatever it holds. While one commit runs, others queue here and form the next: under load
//! the transactions grow by themselves, and a single upload never waits for company.

use super::{Store, StoreError, UploadRow};
use std::{mem, sync::Arc};
use testudo_protocol::TaskName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Most uploads in one transaction.
pub const BATCH: usize = 100;
/// Uploads that may wait; further callers of [`Batcher::record`] wait for a place.
const QUEUE: usize = 1024;

/// The handle of the task that records uploads. Clones share the task; it ends with the last handle.
#[derive(Debug, Clone)]
pub struct Batcher {
    queue: mpsc::Sender<Entry>,
    stop: CancellationToken,
    ended: watch::Receiver<()>,
}

#[derive(Debug)]
struct Entry {
    upload: (TaskName, u64, UploadRow),
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Batcher {
    /// Starts the recording task on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(store: Arc<dyn Store>) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (running, ended) = watch::channel(());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            record_all(store, entries, stopped).await;
            drop(running);
        });
        Self { queue, stop, ended }
    }

    /// Records one update as [`Store::record_uploads`] does. Once called it is recorded even if the caller goes away.
    ///
    /// # Errors
    /// Those of [`Store::record_uploads`]; [`StoreError::Backend`] after [`Batcher::shutdown`].
    pub async fn record(&self, task: TaskName, round: u64, upload: UploadRow) -> Result<(), StoreError> {
        let (done, result) = oneshot::channel();
        let entry = Entry { upload: (task, round, upload), done };
        if self.queue.send(entry).await.is_err() {
            return Err(StoreError::Backend("the ledger takes no more uploads; nothing was recorded".into()));
        }
        let lost = || StoreError::Backend("the recording task ended; whether the upload is recorded is unknown".into());
        result.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Refuses further uploads and returns once everything queued before is recorded.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

async fn record_all(store: Arc<dyn Store>, mut entries: mpsc::Receiver<Entry>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled(), if !entries.is_closed() => {
                entries.close();
                continue;
            }
            received = entries.recv_many(&mut batch, BATCH) => received,
        };
        if received == 0 {
            return;
        }
        let (uploads, done): (Vec<_>, Vec<_>) =
            mem::take(&mut batch).into_iter().map(|entry| (entry.upload, entry.done)).unzip();
        let results = store.record_uploads(uploads).await;
        for (done, result) in done.into_iter().zip(results) {
            // A caller that went away does not want its answer any more.
            let _ = done.send(result);
        }
    }
}

#[cfg(test)]
mod tests;
