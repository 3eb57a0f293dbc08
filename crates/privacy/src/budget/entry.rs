//! The chain of charges, which anyone can check offline.

use super::{Charge, ChargeMechanism, Gate};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// One charge. Its hash covers the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 0, without gaps.
    pub index: u64,
    /// The hash of the entry before; zeros for the first.
    pub previous: [u8; 32],
    /// Whose budget.
    pub population: String,
    /// Which task.
    pub task: String,
    /// Which round of it.
    pub round: u64,
    /// For what.
    pub charge: Charge,
    /// Digest of the released bytes; `None` for a round that was abandoned too late to be returned.
    pub release: Option<[u8; 32]>,
    /// SHA-256 of all of this.
    pub hash: [u8; 32],
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The entry's number is not the next.
    #[error("entry {0}: its number is not the next")]
    Order(u64),
    /// It does not continue the entry before.
    #[error("entry {0}: it does not continue the entry before")]
    Chain(u64),
    /// Its hash is not that of its content.
    #[error("entry {0}: its content was changed")]
    Content(u64),
    /// It is another population's.
    #[error("entry {0}: it belongs to another population")]
    Population(u64),
    /// The round was charged before.
    #[error("entry {0}: its round was charged before")]
    Twice(u64),
    /// Its parameters are impossible.
    #[error("entry {0}: its charge is impossible")]
    Charge(u64),
    /// A step of a correlated run whose whole was not charged before, or that is not its next one.
    #[error("entry {0}: it is no step of a run that was charged before")]
    Step(u64),
    /// The chain ends elsewhere than announced: a rollback, or entries are missing.
    #[error("the chain ends at another entry than announced")]
    Head,
}

impl Entry {
    pub(super) fn new(
        index: u64,
        previous: [u8; 32],
        population: &str,
        task: &str,
        round: u64,
        charge: Charge,
        release: Option<[u8; 32]>,
    ) -> Self {
        let (population, task) = (population.to_owned(), task.to_owned());
        let mut entry = Self { index, previous, population, task, round, charge, release, hash: [0; 32] };
        entry.hash = entry.digest();
        entry
    }

    #[cfg(test)]
    pub(super) fn digest_for_test(&self) -> [u8; 32] {
        self.digest()
    }

    fn digest(&self) -> [u8; 32] {
        let mut bytes = b"testudo charge 1".to_vec();
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.previous);
        for text in [&self.population, &self.task] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.round.to_le_bytes());
        self.charge.encode(&mut bytes);
        bytes.push(u8::from(self.release.is_some()));
        bytes.extend(self.release.unwrap_or_default());
        Sha256::digest(&bytes).into()
    }
}

/// Correlated runs that were charged, by task: the charge of the whole, and the newest step.
#[derive(Default)]
struct Runs<'a>(BTreeMap<&'a str, (&'a Charge, u64)>);

impl<'a> Runs<'a> {
    /// Whether a charge that adds nothing belongs to a whole that was charged before, and comes in order. A run is charged
    /// as a whole once.
    fn follows(&mut self, entry: &'a Entry) -> bool {
        match (entry.charge.mechanism, self.0.get_mut(entry.task.as_str())) {
            (ChargeMechanism::Correlated { .. }, None) => {
                self.0.insert(&entry.task, (&entry.charge, 1));
                true
            }
            (ChargeMechanism::CorrelatedStep { step }, Some((whole, newest))) => {
                let planned = matches!(whole.mechanism, ChargeMechanism::Correlated { rounds, .. } if step <= rounds);
                let next = planned && step == *newest + 1 && entry.charge == whole.step(step);
                *newest = step;
                next
            }
            (ChargeMechanism::Correlated { .. }, Some(_)) | (ChargeMechanism::CorrelatedStep { .. }, None) => false,
            _ => true,
        }
    }
}

/// Checks one population's whole chain and adds it up again: the units spent under `gate`.
///
/// `head` is what a release, a checkpoint or the database says the newest entry is.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(entries: &[Entry], gate: Gate, head: Option<(u64, [u8; 32])>) -> Result<i64, VerifyError> {
    let (mut previous, mut spent, mut rounds) = ([0; 32], 0_i64, BTreeSet::new());
    let mut runs = Runs::default();
    // Rounds of one task are charged alike, and what some of them cost takes milliseconds to find.
    let mut latest: Option<(Charge, Option<i64>)> = None;
    for (number, entry) in (0..).zip(entries) {
        if entry.index != number {
            return Err(VerifyError::Order(number));
        }
        if entry.previous != previous {
            return Err(VerifyError::Chain(number));
        }
        if entry.hash != entry.digest() {
            return Err(VerifyError::Content(number));
        }
        if entry.population != entries[0].population {
            return Err(VerifyError::Population(number));
        }
        if !rounds.insert((&entry.task, entry.round)) {
            return Err(VerifyError::Twice(number));
        }
        if !runs.follows(entry) {
            return Err(VerifyError::Step(number));
        }
        let amount = match latest {
            Some((charge, amount)) if charge == entry.charge => amount,
            _ => entry.charge.check().ok().and_then(|()| gate.amount(&entry.charge)),
        };
        latest = Some((entry.charge, amount));
        spent = amount.and_then(|more| spent.checked_add(more)).ok_or(VerifyError::Charge(number))?;
        previous = entry.hash;
    }
    if head != entries.last().map(|entry| (entry.index, entry.hash)) {
        return Err(VerifyError::Head);
    }
    Ok(spent)
}
