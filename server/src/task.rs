//! A task: one actor that drives its rounds, and the handle everybody else talks to it through.

use crate::{
    blobs::Blobs,
    config::Config,
    memory::Budget,
    pool::Pool,
    rate::CheckIns,
    spool::Spool,
    store::{Store, UploadRow, batch::Batcher},
    telemetry::Metrics,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use testudo_engine::{Done, TaskSpec};
use testudo_proto::{Answer, Place, Receipt};
use testudo_protocol::{
    ClientId, Digest, Encoding, Layout, Reason, Reject, TaskName,
    secagg::{Message, Reply, SigningKey},
};
use tokio::sync::{RwLock, Semaphore, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

mod control;
mod driver;
mod ending;
mod exchange;
mod journal;
mod limits;
mod opening;
mod pace;
mod private;
mod recovery;
mod retention;
mod sampling;
mod slot;
mod supervisor;
mod updates;
mod waiting;

pub(crate) use driver::{Driver, round_prefix};
pub(crate) use private::plan;
pub(crate) use slot::{Slot, SlotGuard, Transfer};

/// What every task uses.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) batcher: Batcher,
    pub(crate) spool: Spool,
    pub(crate) blobs: Blobs,
    /// Signs what masked rounds announce.
    pub(crate) identity: Arc<SigningKey>,
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    pub(crate) check_ins: Arc<CheckIns>,
    /// Read while a blob is written and named in the ledger, written while one is deleted: a blob is never deleted
    /// between the two.
    pub(crate) blob_gate: Arc<RwLock<()>>,
    /// First messages of uploads: they are in memory before any budget can count them.
    pub(crate) openings: Arc<Semaphore>,
    /// Every ended round.
    pub(crate) ended: broadcast::Sender<(TaskName, u64)>,
    /// Fires when the server stops.
    pub(crate) stop: CancellationToken,
}

/// Leave to send an update.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) layout: Arc<Layout>,
    pub(crate) base: Digest,
    pub(crate) max_l2: Option<f64>,
    pub(crate) max_examples: u64,
    pub(crate) encodings: Vec<Encoding>,
    /// Whether nothing may be seen in the update: who is refused for its values, norms and claimed examples would be
    /// releases without noise.
    pub(crate) private: bool,
    /// Whether nobody may learn who sends: its bytes are not counted.
    pub(crate) secret: bool,
    /// Bytes of a masked input; `None` in clear mode.
    pub(crate) masked_bytes: Option<u64>,
    pub(crate) slot: Arc<Slot>,
}

/// What a seat may do.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Send the update.
    Granted(Grant),
    /// This very update is recorded already.
    Recorded(Receipt),
    /// This very update is being recorded: its bytes belong to the ledger's row now.
    Recording(oneshot::Receiver<Result<Receipt, Reject>>),
}

/// What an operator asks of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Pause,
    Resume,
    Stop,
}

/// The model that clients may load now.
#[derive(Debug, Clone)]
pub(crate) struct CurrentModel {
    pub(crate) digest: Digest,
    pub(crate) file: Bytes,
}

/// How a task is doing right now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Glance {
    /// Clients checked in.
    pub(crate) checked_in: u64,
    /// Coordinates of the model.
    pub(crate) dimension: u64,
    /// The reference client, where no round can open before it checks in.
    pub(crate) awaited: Option<ClientId>,
    /// Clients that a task which samples has registered, and how many there must be before a round opens.
    pub(crate) registered: Option<(u64, u64)>,
}

#[derive(Debug)]
pub(crate) enum Command {
    CheckIn {
        client: ClientId,
        wait: Duration,
        answer: oneshot::Sender<Answer>,
    },
    Admit {
        place: Place,
        digest: Digest,
        answer: oneshot::Sender<Result<Admission, Reject>>,
    },
    Offer {
        place: Place,
        upload: UploadRow,
        answer: oneshot::Sender<Result<Receipt, Reject>>,
    },
    Exchange {
        place: Place,
        message: Box<Message>,
        answer: oneshot::Sender<Result<Reply, Reject>>,
    },
    Refuse {
        place: Place,
        reject: Reject,
    },
    Withdraw {
        place: Place,
        answer: oneshot::Sender<Result<(), Reject>>,
    },
    Model {
        answer: oneshot::Sender<CurrentModel>,
    },
    Glance {
        answer: oneshot::Sender<Glance>,
    },
    Control {
        control: Control,
        answer: oneshot::Sender<Result<(), Reject>>,
    },
    Shutdown {
        answer: oneshot::Sender<()>,
    },
    /// A bug, for tests.
    #[cfg(test)]
    Panic,
}

/// What comes back from work a driver gave away. A driver that is loaded again hears nothing of its predecessor's.
#[derive(Debug)]
pub(crate) enum Event {
    Recorded { round: u64, client: ClientId, result: Result<(), String> },
    Journaled { round: u64, upto: u64, result: Result<(), String> },
    Done { round: u64, done: Done },
}

/// Talks to one task's driver.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) spec: Arc<TaskSpec>,
    commands: mpsc::Sender<Command>,
}

/// Commands waiting for a driver; senders wait beyond that.
const QUEUE: usize = 1024;

impl Handle {
    /// Starts a driver, and starts it again after a panic.
    pub(crate) fn spawn(driver: Driver) -> Self {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let spec = driver.spec();
        tokio::spawn(supervisor::supervise(driver, inbox));
        Self { spec, commands }
    }

    pub(crate) async fn check_in(&self, client: ClientId, wait: Duration) -> Result<Answer, Reject> {
        self.ask(|answer| Command::CheckIn { client, wait, answer }).await
    }

    pub(crate) async fn admit(&self, place: Place, digest: Digest) -> Result<Admission, Reject> {
        self.ask(|answer| Command::Admit { place, digest, answer }).await?
    }

    pub(crate) async fn offer(&self, place: Place, upload: UploadRow) -> Result<Receipt, Reject> {
        self.ask(|answer| Command::Offer { place, upload, answer }).await?
    }

    /// One step of a masked round: the message is on its way, and the answer comes when the step has ended.
    pub(crate) async fn exchange(
        &self,
        place: Place,
        message: Message,
    ) -> Result<oneshot::Receiver<Result<Reply, Reject>>, Reject> {
        let (answer, reply) = oneshot::channel();
        let command = Command::Exchange { place, message: Box::new(message), answer };
        let away = |_| Reject::retry(Reason::Overloaded, "the task is not available now", Duration::from_secs(1));
        self.commands.send(command).await.map_err(away)?;
        Ok(reply)
    }

    pub(crate) async fn refuse(&self, place: Place, reject: Reject) {
        // A driver that is gone has no round left to tell.
        let _ = self.commands.send(Command::Refuse { place, reject }).await;
    }

    pub(crate) async fn withdraw(&self, place: Place) -> Result<(), Reject> {
        self.ask(|answer| Command::Withdraw { place, answer }).await?
    }

    pub(crate) async fn model(&self) -> Result<CurrentModel, Reject> {
        self.ask(|answer| Command::Model { answer }).await
    }

    /// How the task is doing right now.
    pub(crate) async fn glance(&self) -> Result<Glance, Reject> {
        self.ask(|answer| Command::Glance { answer }).await
    }

    pub(crate) async fn control(&self, control: Control) -> Result<(), Reject> {
        self.ask(|answer| Command::Control { control, answer }).await?
    }

    pub(crate) async fn shutdown(&self) {
        let _ = self.ask(|answer| Command::Shutdown { answer }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Reject> {
        let (answer, reply) = oneshot::channel();
        // The server is stopping, or the driver is being loaded again.
        let away = || Reject::retry(Reason::Overloaded, "the task is not available now", Duration::from_secs(1));
        self.commands.send(command(answer)).await.map_err(|_| away())?;
        reply.await.map_err(|_| away())
    }

    /// Makes the driver panic.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        let _ = self.commands.send(Command::Panic).await;
    }
}
