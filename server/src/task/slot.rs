//! One client's transfer in a round: what has arrived, so that a lost connection costs nothing.

use crate::spool::Held;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};
use testudo_engine::Door;
use testudo_protocol::{Digest, Encoding};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// Held by at most one stream; a newer stream of the same client takes it over.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The spool's key prefix for this seat.
    pub(crate) key: String,
    transfer: Arc<tokio::sync::Mutex<Option<Transfer>>>,
    current: Mutex<CancellationToken>,
    /// Streams so far, whatever they carried.
    streams: AtomicU32,
    /// Fires when the round ends.
    round_ended: CancellationToken,
}

/// What has arrived of one payload.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) digest: Digest,
    pub(crate) encoding: Encoding,
    /// Whether its bytes may be counted where people see it.
    pub(crate) counted: bool,
    pub(crate) held: Held,
    pub(crate) door: Door,
}

/// The right to write into a slot.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    /// What has arrived so far.
    pub(crate) transfer: OwnedMutexGuard<Option<Transfer>>,
    /// Fires when a newer stream wants the slot.
    pub(crate) taken_over: CancellationToken,
    /// Fires when the round ends: nobody wants these bytes any more.
    pub(crate) round_ended: CancellationToken,
}

impl Slot {
    pub(crate) fn new(key: String) -> Self {
        Self {
            key,
            transfer: Arc::default(),
            current: Mutex::new(CancellationToken::new()),
            streams: AtomicU32::new(0),
            round_ended: CancellationToken::new(),
        }
    }

    /// Counts a stream of this client in this round; a new payload does not make the earlier ones uncounted.
    pub(crate) fn count_stream(&self) -> u32 {
        self.streams.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Takes the slot for a new stream, ending an older one.
    pub(crate) async fn take(&self) -> SlotGuard {
        let taken_over = CancellationToken::new();
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, taken_over.clone()).cancel();
        }
        let round_ended = self.round_ended.clone();
        SlotGuard { transfer: self.transfer.clone().lock_owned().await, taken_over, round_ended }
    }

    /// Sends streams away that are still under way: they would hold memory until they fall silent.
    pub(crate) fn end(&self) {
        self.round_ended.cancel();
    }
}
