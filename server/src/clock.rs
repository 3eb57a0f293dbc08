//! Wall-clock milliseconds that never run backwards within a process.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use testudo_protocol::Tick;

static START: LazyLock<(Tick, Instant)> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() as Tick, Instant::now())
});

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> Tick {
    let (wall, start) = &*START;
    wall + start.elapsed().as_millis() as Tick
}

/// When a tick comes, on the runtime's clock.
pub(crate) fn instant(at: Tick) -> tokio::time::Instant {
    tokio::time::Instant::now() + std::time::Duration::from_millis(at.saturating_sub(now()))
}
