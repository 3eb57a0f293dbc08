//! Pace steering: when clients that are not needed now come back.

use super::{Driver, driver::random};
use std::time::Duration;
use testudo_proto::NotNowWhy;

impl Driver {
    /// How long a client that is not needed now stays away: about when it may be needed, with jitter.
    pub(super) fn retry_after(&self, why: NotNowWhy) -> Duration {
        self.jittered(self.expected_wait(why))
    }

    /// Seconds until a client may be needed.
    pub(super) fn expected_wait(&self, why: NotNowWhy) -> f64 {
        let pace = &self.services.config.pace;
        let round = self.typical_ms as f64 / 1000.0;
        let rounds_ahead = self.room.len() as f64 / self.spec.cohort.selected as f64;
        if self.is_secret() {
            // Often enough to be there whenever it is drawn, and the same whoever waits.
            let round = self.spec.cohort.phase_limit_ms as f64 / 1000.0;
            return match why {
                NotNowWhy::Paused | NotNowWhy::Full => pace.longest_s,
                _ => round / 8.0,
            };
        }
        match why {
            NotNowWhy::Filling => pace.shortest_s,
            NotNowWhy::Paused | NotNowWhy::Full => pace.longest_s,
            _ => round * rounds_ahead.max(0.5),
        }
    }

    /// Between half and one and a half times as long, within the configured pace.
    pub(super) fn jittered(&self, seconds: f64) -> Duration {
        let pace = &self.services.config.pace;
        let jitter = 0.5 + f64::from(u16::from_le_bytes(random::<2>())) / 65536.0;
        Duration::from_secs_f64((seconds.clamp(pace.shortest_s, pace.longest_s) * jitter).min(pace.longest_s))
    }
}
