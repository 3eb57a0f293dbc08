//! Memory of this process, and the budget for uploads under way.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Resident memory now and at its peak, bytes; zero where the system does not tell.
pub(crate) fn resident() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    (kilobytes("VmRSS").unwrap_or(0) * 1024, kilobytes("VmHWM").unwrap_or(0) * 1024)
}

/// Bytes that uploads under way may hold together.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// One permit per KiB.
    permits: Arc<Semaphore>,
    total: u64,
    waiting: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let total = (bytes / 1024).clamp(1, Semaphore::MAX_PERMITS as u64);
        Self { permits: Arc::new(Semaphore::new(total as usize)), total, waiting: Arc::default() }
    }

    /// Waits until so many bytes are free (or all of them, for more than there are).
    pub(crate) async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let permits = bytes.div_ceil(1024).clamp(1, self.total.min(u32::MAX.into())) as u32;
        if let Ok(free) = self.permits.clone().try_acquire_many_owned(permits) {
            return free;
        }
        let _waiting = Waiting::one_more(&self.waiting);
        self.permits.clone().acquire_many_owned(permits).await.expect("the semaphore is never closed")
    }

    /// Whether somebody waits for bytes.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn uploads_wait_for_each_other_when_the_budget_is_spent() {
        let budget = Budget::new(10 << 10);
        let first = budget.take(8 << 10).await;
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), budget.take(4 << 10)).await;
        assert!(waiting.is_err() && !budget.is_wanted());
        drop(first);
        // More than there is takes all instead of waiting for ever.
        drop(budget.take(1 << 30).await);
    }

    #[test]
    fn a_process_knows_its_memory() {
        let (now, peak) = resident();
        assert!(now > 0 && peak >= now / 2);
    }
}
