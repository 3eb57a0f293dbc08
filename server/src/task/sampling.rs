//! Secret samples: clients register, and every round flips a coin for each of them, whether it waits or not.
//!
//! Who and how many were drawn is known to the cohort's members, each of itself, and to nobody else: it is neither shown, nor
//! counted in metrics, nor logged, and how long a round takes does not depend on it.

use super::{Driver, driver::LEDGER_PAUSE_MS, driver::random};
use crate::{clock, store::Registration};
use std::collections::BTreeSet;
use testudo_engine::PoissonSample;
use testudo_proto::{Answer, NotNowWhy};
use testudo_protocol::{ClientId, Tick};

/// Registrations that are written at once.
const BATCH: usize = 500;

/// Who is sampled from.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// As the ledger has them.
    clients: BTreeSet<ClientId>,
    /// Checked in, and not written yet.
    new: BTreeSet<ClientId>,
    /// After a failure nothing is written before this.
    not_before: Tick,
}

impl Register {
    /// When to write what could not be written.
    pub(super) fn due(&self) -> Option<Tick> {
        (!self.new.is_empty()).then_some(self.not_before)
    }
}

impl Driver {
    /// Whether nobody may learn who takes part.
    pub(super) fn is_secret(&self) -> bool {
        self.spec.cohort.sample.is_some()
    }

    /// Whether coins would be no secret: anybody may ask under any client's name.
    pub(super) fn is_exposed(&self) -> bool {
        self.services.config.exposes_samples(&self.spec)
    }

    /// What a client hears that cannot be sampled; `None` if it is, or will be once it is written.
    pub(super) async fn enrol(&mut self, client: &ClientId) -> Option<Answer> {
        let sample = self.spec.cohort.sample?;
        if !self.read_register().await {
            return Some(Answer::not_now(self.retry_after(NotNowWhy::Paused), NotNowWhy::Paused));
        }
        let register = self.register.as_mut()?;
        if register.clients.contains(client) || register.new.contains(client) {
            return None;
        }
        if (register.clients.len() + register.new.len()) as u64 >= sample.clients {
            let retry_after = self.retry_after(NotNowWhy::Full);
            return Some(Answer::not_now(retry_after, NotNowWhy::Full));
        }
        register.new.insert(client.clone());
        None
    }

    /// Writes new registrations: many at once while calls queue up, and all before the driver rests.
    pub(super) async fn write_register(&mut self, busy: bool) {
        let (Some(sample), Some(register)) = (self.spec.cohort.sample, &mut self.register) else { return };
        let now = clock::now();
        if register.new.is_empty() || now < register.not_before || busy && register.new.len() < BATCH {
            return;
        }
        let new: Vec<ClientId> = std::mem::take(&mut register.new).into_iter().collect();
        let store = &self.services.store;
        match store.register(&self.row.name, &new, sample.clients, now).await {
            Ok(answers) => {
                let registered = new.into_iter().zip(answers).filter(|(_, answer)| *answer == Registration::Registered);
                register.clients.extend(registered.map(|(client, _)| client));
            }
            Err(error) => {
                tracing::error!(task = %self.row.name, %error, "cannot write who registered; trying again");
                register.new.extend(new);
                register.not_before = now + LEDGER_PAUSE_MS;
            }
        }
    }

    /// Clients that are registered, and how many there must be before a round opens; `None` for other tasks.
    pub(super) fn registered(&self) -> Option<(u64, u64)> {
        let sample = self.spec.cohort.sample?;
        Some((self.register.as_ref().map_or(0, |register| register.clients.len() as u64), sample.registered))
    }

    /// Flips the coins, once enough clients are registered.
    pub(super) async fn draw_in_secret(&mut self, sample: PoissonSample) -> Option<Vec<ClientId>> {
        if !self.read_register().await {
            return None;
        }
        let register = self.register.as_ref()?;
        // The seed is forgotten here: the one in the ledger is told when the round has ended.
        let enough = register.clients.len() as u64 >= sample.registered;
        enough.then(|| sample.draw(random::<32>(), register.clients.iter()))
    }

    /// Reads who registered, if that is not known. False if it cannot be known now.
    pub(super) async fn read_register(&mut self) -> bool {
        if self.register.is_some() {
            return true;
        }
        if clock::now() < self.register_due {
            return false;
        }
        match self.services.store.registered(&self.row.name).await {
            Ok(clients) => {
                self.register = Some(Register { clients: clients.into_iter().collect(), ..Register::default() });
                true
            }
            Err(error) => {
                tracing::error!(task = %self.row.name, %error, "cannot read who registered; trying again");
                self.register_due = clock::now() + LEDGER_PAUSE_MS;
                self.not_before = self.not_before.max(self.register_due);
                false
            }
        }
    }
}
