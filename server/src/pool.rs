//! CPU work outside the async runtime.

use crate::{spool::Spool, store::Body};
use rayon::ThreadPool;
use std::{
    collections::HashMap,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};
use testudo_engine::{Done, Job, RowBytes};
use testudo_protocol::ClientId;
use tokio::sync::{Semaphore, oneshot};

/// Runs jobs on all cores, at most one per core at a time: each holds the rows of one unit.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    threads: Arc<ThreadPool>,
    running: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new() -> Result<Self, rayon::ThreadPoolBuildError> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads =
            rayon::ThreadPoolBuilder::new().num_threads(cores).thread_name(|k| format!("unit-{k}")).build()?;
        Ok(Self { threads: Arc::new(threads), running: Arc::new(Semaphore::new(cores)) })
    }

    /// Reads the rows' bytes and does the work. A panic or a failed read comes back as a failed job. In a private task it
    /// does not say which bytes: a key of the spool holds the update's digest.
    pub(crate) async fn run(
        &self,
        job: Job,
        spool: Spool,
        bodies: Arc<HashMap<ClientId, Body>>,
        is_private: bool,
    ) -> Done {
        let permit = self.running.clone().acquire_owned().await;
        let (answer, done) = oneshot::channel();
        let span = tracing::Span::current();
        self.threads.spawn(move || {
            let _entered = span.enter();
            let result = catch_unwind(AssertUnwindSafe(|| read_and_run(job, &spool, &bodies, is_private)));
            let result = result.unwrap_or_else(|_| {
                tracing::error!("a unit job panicked");
                Job::failed("a unit job panicked; this is a bug")
            });
            drop(permit);
            // Nobody waits when the task was stopped meanwhile.
            let _ = answer.send(result);
        });
        done.await.unwrap_or_else(|_| Job::failed("the unit pool is gone"))
    }
}

fn read_and_run(job: Job, spool: &Spool, bodies: &HashMap<ClientId, Body>, is_private: bool) -> Done {
    let ranges = job.bytes();
    let mut rows: Vec<RowBytes> = Vec::new();
    for client in job.rows() {
        let Some(body) = bodies.get(&client) else { return Job::failed(format!("no bytes for {client}")) };
        let mut row = RowBytes::new();
        for range in &ranges {
            match spool.segments(body, range.clone()) {
                Ok(pieces) => row.extend(pieces),
                Err(_) if is_private => return Job::failed("spool: a part of an update cannot be read"),
                Err(error) => return Job::failed(format!("spool: {error}")),
            }
        }
        rows.push(row);
    }
    job.run(&rows)
}
