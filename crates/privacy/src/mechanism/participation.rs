//! Participation limits, which correlated noise rests on: enforced by the server and stored, not assumed.

use crate::error::{ParameterError, within};
use serde::{Deserialize, Serialize};

/// At most `most` rounds of one client, two of them at least `gap` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParticipationLimit {
    most: u32,
    gap: u64,
}

impl ParticipationLimit {
    /// `most` participations, `gap` ≥ 1 the smallest *difference* of two rounds: matrix mechanisms' convention.
    ///
    /// # Errors
    /// No participation, or a gap of 0.
    pub fn new(most: u32, gap: u64) -> Result<Self, ParameterError> {
        within("max_participation", most.into(), 1.0, 1e6)?;
        if gap == 0 {
            return Err(ParameterError::new("min_separation", gap, "give at least 1: one participation a round"));
        }
        Ok(Self { most, gap })
    }

    /// The same from the rounds strictly *between* two participations: the tree's convention.
    ///
    /// # Errors
    /// No participation.
    pub fn between(most: u32, separation: u64) -> Result<Self, ParameterError> {
        Self::new(most, separation.saturating_add(1))
    }

    /// k.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// The smallest difference of two rounds.
    #[must_use]
    pub fn gap(&self) -> u64 {
        self.gap
    }

    /// How many clients at least fill `rounds` rounds of `selected` clients each.
    #[must_use]
    pub fn clients_needed(&self, selected: u64, rounds: u64) -> u64 {
        let seats = selected.saturating_mul(rounds);
        // Any `gap` rounds in a row have different clients.
        seats.div_ceil(u64::from(self.most).min(rounds).max(1)).max(selected.saturating_mul(self.gap.min(rounds)))
    }
}

/// What is stored of one client in one task. A client that was handed a round's task counts, whatever it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participation {
    count: u32,
    last: Option<u64>,
}

impl Participation {
    /// What was stored: how often it took part, and in which round last.
    #[must_use]
    pub fn stored(count: u32, last: Option<u64>) -> Self {
        Self { count, last }
    }

    /// Whether the client may take part in `round`.
    #[must_use]
    pub fn may_join(&self, limit: ParticipationLimit, round: u64) -> bool {
        // Rounds before the last one are over.
        let apart = self.last.is_none_or(|last| round.checked_sub(last).is_some_and(|gap| gap >= limit.gap));
        self.count < limit.most && apart
    }

    /// Records that it takes part.
    ///
    /// # Errors
    /// If it may not.
    pub fn join(&mut self, limit: ParticipationLimit, round: u64) -> Result<(), ParameterError> {
        if !self.may_join(limit, round) {
            let fix = format!(
                "the client took part {} times, last in {:?}; {} times, {} rounds apart are planned",
                self.count, self.last, limit.most, limit.gap
            );
            return Err(ParameterError::new("round", round, fix));
        }
        self.count += 1;
        self.last = Some(round);
        Ok(())
    }

    /// How often it took part.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The first round in which it may take part again; `None` once it took part as often as it may.
    #[must_use]
    pub fn next(&self, limit: ParticipationLimit) -> Option<u64> {
        (self.count < limit.most).then(|| self.last.map_or(0, |last| last.saturating_add(limit.gap)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_part_too_often_or_too_soon() {
        let limit = ParticipationLimit::between(2, 3).unwrap();
        let mut client = Participation::default();
        client.join(limit, 5).unwrap();
        for round in [5, 6, 8, 4, 0] {
            assert!(client.join(limit, round).is_err(), "{round}");
        }
        assert_eq!((client.next(limit), Participation::default().next(limit)), (Some(9), Some(0)));
        client.join(limit, 9).unwrap();
        assert_eq!(client.next(limit), None);
        assert!(client.join(limit, 1000).is_err());
        assert_eq!(client.count(), 2);
        assert!(ParticipationLimit::new(0, 1).is_err() && ParticipationLimit::new(1, 0).is_err());
    }

    #[test]
    fn clients_needed_follow_from_the_seats_and_from_the_gap() {
        for (most, gap, needed) in [(2, 3, 500), (3, 1, 334), (2, 6, 600), (50, 1, 100), (50, 40, 1000)] {
            let limit = ParticipationLimit::new(most, gap).unwrap();
            assert_eq!(limit.clients_needed(100, 10), needed, "{limit:?}");
        }
    }
}
