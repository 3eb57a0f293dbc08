//! Keeps a task's driver running: a panic in it is a bug of ours, and costs the task a pause, not its life.

use super::{Command, Driver, Services, Slot};
use futures::FutureExt as _;
use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use testudo_protocol::{ClientId, TaskName};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

/// Pause before a driver that panicked is loaded again; doubled with every further panic.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After running this long without a panic the next one counts as the first.
const CALM: Duration = Duration::from_secs(600);
/// Panics in a row after which the open round is given up: it may be what the driver stumbles over.
const ROUND_PANICS: u32 = 4;

/// What a driver that panicked leaves to its successor. Everything else is thrown away, because a panic may have left
/// it half-changed: the ledger has the task's true state.
#[derive(Debug)]
pub(super) struct Salvage {
    panics: u32,
    /// Streams still hold these. With new ones two streams could write under one key.
    slots: Option<(u64, HashMap<ClientId, Arc<Slot>>)>,
}

impl Salvage {
    /// The slots, if they are of this round.
    pub(super) fn slots_of(&self, round: u64) -> Option<HashMap<ClientId, Arc<Slot>>> {
        self.slots.as_ref().filter(|(number, _)| *number == round).map(|(_, slots)| slots.clone())
    }

    /// Why the open round must not be taken up again, if so.
    pub(super) fn blames_round(&self) -> Option<String> {
        let blames = self.panics >= ROUND_PANICS;
        blames.then(|| format!("the task's driver panicked {} times in a row; this is a bug", self.panics))
    }
}

/// Runs a driver until it ends, and loads it again whenever it panics.
pub(super) async fn supervise(mut driver: Driver, mut inbox: mpsc::Receiver<Command>) {
    let (mut panics, mut slots): (u32, _) = (0, None);
    loop {
        let started = Instant::now();
        let Err(panic) = AssertUnwindSafe(driver.run(&mut inbox)).catch_unwind().await else { return };
        if started.elapsed() > CALM {
            panics = 0;
        }
        panics = panics.saturating_add(1);
        driver.services.metrics.panics.inc();
        let name = driver.row.name.clone();
        tracing::error!(task = %name, panic = message(&*panic), panics, "a task driver panicked; loading it again");
        // A driver that panics while it takes the round up has none of its own yet.
        slots = driver.current.take().map(|current| (current.number, current.slots)).or(slots);
        let (services, recording) = (driver.services.clone(), driver.recording.clone());
        // Held check-ins and open receipts end with it: their callers are told to come back.
        drop(driver);
        services.metrics.waiting(name.as_str(), 0);
        let mut next = tokio::select! {
            next = load(&services, &name, &recording, panics) => next,
            () = turn_away(&mut inbox) => return,
        };
        next.salvage = Some(Salvage { panics, slots: slots.clone() });
        driver = next;
    }
}

/// The task as the ledger has it, after a pause and as many tries as it takes.
async fn load(services: &Services, name: &TaskName, recording: &TaskTracker, panics: u32) -> Driver {
    // What is being recorded must be in the ledger, or refused by it, before it is read.
    recording.close();
    recording.wait().await;
    // Failed loads make the pause longer; they are not the round's fault and do not count as its panics.
    let mut tries = panics;
    loop {
        sleep(pause(tries)).await;
        let loading = async {
            let row = services.store.task(name).await.map_err(|error| error.to_string())?;
            Driver::load(services.clone(), row).await
        };
        let detail = match AssertUnwindSafe(loading).catch_unwind().await {
            Ok(Ok(driver)) => return driver,
            Ok(Err(detail)) => detail,
            Err(panic) => message(&*panic).to_owned(),
        };
        tracing::error!(task = %name, detail, "cannot load the task again yet");
        tries = tries.saturating_add(1);
    }
}

/// Drops the commands that arrive while there is no driver, so that no caller waits; ends with the server.
async fn turn_away(inbox: &mut mpsc::Receiver<Command>) {
    while let Some(command) = inbox.recv().await {
        if let Command::Shutdown { answer } = command {
            let _ = answer.send(());
            return;
        }
    }
}

fn pause(panics: u32) -> Duration {
    let doubled = 1u32.checked_shl(panics.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = [1, 2, 3, 10, 11, 33, u32::MAX].map(|panics| pause(panics).as_millis()).into();
        assert_eq!(pauses, [100, 200, 400, 51_200, 60_000, 60_000, 60_000]);
    }
}
