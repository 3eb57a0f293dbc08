//! Detection of attackers from what a server sees, and the ladder a client climbs down: beside the rule, never in its
//! place.
//!
//! Each round gives every update six [signals]. A signal becomes a p-value twice: by its rank among the round's
//! updates, and by its rank among the client's own earlier values. P-values become e-values, whose running products are
//! two [evidences](evidence) against a client (Vovk and Wang 2021, E-values). A client is suspect only when both speak
//! against it. Honest clients that are exchangeable and rounds that are independent keep the first evidence below 1/α with
//! probability 1 − α (Ville); uneven data and client momentum break that, so what matters is the rate that `testudo
//! calibrate` measures on the task's own clean rounds.

pub mod bounds;
pub mod evidence;
pub mod ladder;
pub mod signals;

use serde::{Deserialize, Serialize};
use testudo_protocol::{Reason, Verdict};

use crate::random::{Purpose, stream};
use evidence::Evidence;
use ladder::{Caps, Level};
use signals::{COUNT, Signals};

/// `[detection]`: how clients are watched. Observation alone: no update weighs less for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    /// Level of the evidence by rank, 0 to 1: it speaks against a client at 1/alpha.
    pub alpha: f64,
    /// False discovery rate of the evidence by own past (e-BH, Wang and Ramdas 2022), 0 to 1.
    pub q: f64,
    /// Exponent of both evidences between two rounds, 0 to 1; 1 forgets nothing.
    pub memory: f64,
    /// Values of its own that a client is compared with, 5 to 1000.
    pub window: usize,
    /// Rounds between two updates of the evidence; 0: as many as the clients' momentum carries over, 1/(1 − β).
    pub every: u64,
    /// Rounds without evidence after which a client in quarantine is on probation, and then normal.
    pub clean: u64,
}

impl Default for Detection {
    fn default() -> Self {
        Self { alpha: 0.01, q: 0.01, memory: 0.98, window: 20, every: 0, clean: 20 }
    }
}

impl Detection {
    /// Key, value and range of the first number that is none.
    pub(crate) fn wrong(&self) -> Option<(&'static str, f64, f64, f64)> {
        let checks = [
            ("detection.alpha", self.alpha, 1e-9, 0.5),
            ("detection.q", self.q, 1e-9, 0.5),
            ("detection.memory", self.memory, 0.0, 1.0),
            ("detection.window", self.window as f64, 5.0, 1000.0),
            ("detection.clean", self.clean as f64, 1.0, 1e9),
        ];
        checks.into_iter().find(|(_, value, low, high)| !(*low..=*high).contains(value))
    }
}

/// Evidence up to which a client's values become part of the past it is compared with. An attacker that begins would
/// otherwise soon look like its own past.
const UNSUSPICIOUS: f64 = 2.0;

/// What is known of one client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dossier {
    /// Against it, by rank among the round's updates.
    pub by_rank: Evidence,
    /// Against it, by its own past.
    pub by_past: Evidence,
    /// The last values of its signals while nothing spoke against it, oldest first; in units of the round's spread.
    past: Vec<Signals>,
    /// Where it stands.
    pub level: Level,
    /// Violations that need no statistics: wrong shape, numbers that are none, replays.
    pub strikes: u64,
    /// Rounds without evidence since it was put in quarantine.
    clean: u64,
    /// The first round in which it was suspect.
    pub flagged: Option<u64>,
}

/// Everything the detector remembers, clients by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    dossiers: Vec<Dossier>,
}

/// One client's part in a round.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its number.
    pub client: usize,
    /// Its update; `None` if none was recorded.
    pub update: Option<&'a [f32]>,
    /// The sum of its earlier updates; empty before the first.
    pub history: &'a [f32],
    /// What became of it.
    pub verdict: Verdict,
}

impl Detector {
    /// Nothing known of `clients` clients.
    pub fn new(clients: usize) -> Self {
        Self { dossiers: vec![Dossier::default(); clients] }
    }

    /// What is known, by client.
    pub fn dossiers(&self) -> &[Dossier] {
        &self.dossiers
    }

    /// Takes a round in. `seen` is sorted by client; `declared` is the number of bad clients the rule reckons with, which
    /// also caps automatic quarantine; `least` the fewest updates it needs.
    pub fn observe(&mut self, settings: &Detection, round: &Round, seen: &[Seen<'_>]) {
        self.strike(round.number, seen);
        if round.number.is_multiple_of(round.every.max(1)) {
            self.weigh(settings, round, seen);
        }
        let caps = Caps { most: round.declared, least: round.least, clients: self.dossiers.len() };
        ladder::climb(&mut self.dossiers, settings, round.number, caps);
    }

    fn strike(&mut self, round: u64, seen: &[Seen<'_>]) {
        for one in seen {
            if let (Verdict::Rejected { reason }, Some(dossier)) = (one.verdict, self.dossiers.get_mut(one.client))
                && is_provable(reason)
            {
                dossier.strikes += 1;
                dossier.flagged.get_or_insert(round);
            }
        }
    }

    fn weigh(&mut self, settings: &Detection, round: &Round, seen: &[Seen<'_>]) {
        let (rows, histories): (Vec<&[f32]>, Vec<&[f32]>) =
            seen.iter().filter_map(|one| Some((one.update?, one.history))).unzip();
        if rows.len() < signals::FEWEST {
            return;
        }
        let clients = seen.iter().filter(|one| one.update.is_some()).map(|one| one.client);
        let values = signals::of(&rows, &histories, round.declared);
        let spread = signals::in_spreads(&values);
        for (row, client) in clients.enumerate() {
            let Some(dossier) = self.dossiers.get_mut(client) else { continue };
            let mut random = stream(round.seed, Purpose::Detection, round.number, client as u64);
            let mut ranks = [1.0; COUNT];
            let mut own = [1.0; COUNT];
            for signal in 0..COUNT {
                let others = (0..values.len()).filter(|other| *other != row).map(|other| values[other][signal]);
                ranks[signal] = evidence::two_sided(values[row][signal], others, random.uniform());
                let past = dossier.past.iter().map(|past| past[signal]);
                own[signal] = evidence::two_sided(spread[row][signal], past, random.uniform());
            }
            dossier.by_rank.add(&ranks, settings.memory);
            if dossier.past.len() >= settings.window / 2 {
                dossier.by_past.add(&own, settings.memory);
            }
            if !dossier.by_past.is_at_least(UNSUSPICIOUS) {
                dossier.past.push(spread[row]);
                let surplus = dossier.past.len().saturating_sub(settings.window);
                dossier.past.drain(..surplus);
            }
        }
    }
}

/// What a detector is told about a round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Its number, from 1.
    pub number: u64,
    /// What ties are broken with.
    pub seed: u64,
    /// Rounds between two updates of the evidence.
    pub every: u64,
    /// Bad clients the rule reckons with.
    pub declared: usize,
    /// Fewest updates for a release.
    pub least: usize,
}

/// Whether a refusal proves misbehaviour rather than bad luck.
fn is_provable(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NonFinite
            | Reason::WrongShape
            | Reason::WrongDtype
            | Reason::WrongRound
            | Reason::Identity
            | Reason::Examples
            | Reason::Oversize
            | Reason::DigestMismatch
    )
}

#[cfg(test)]
mod tests;
