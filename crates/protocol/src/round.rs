//! The server's side of one round: phases, seats, and what happens next.
//!
//! The machine never sees a vector. It is told that a client offers, recorded, was refused or left; it answers
//! with [`Effect`]s. `Err` means: nothing changed.

use crate::{Abandon, ClientId, Digest, Reason, Reject, RoundParams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Milliseconds on the driver's clock.
pub type Tick = u64;

/// Where a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Takes updates (in clear mode the only phase before the end).
    Input,
    /// Takes no new updates and waits for those being recorded.
    Draining,
    /// The survivors are fixed.
    Closed,
    /// Given up; the model stays as it was.
    Abandoned,
}

/// Where one selected client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seat {
    /// Nothing heard yet.
    Selected,
    /// Its update is being recorded.
    Recording(Digest),
    /// Its update is recorded and acknowledged.
    Received(Digest),
    /// Its update was refused; it may not send another.
    Refused(Reason),
    /// It left, or never came.
    Dropout,
}

/// What the driver tells the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// A complete, checked update lies in the spool.
    Offer {
        /// Who.
        client: ClientId,
        /// SHA-256 of the payload.
        digest: Digest,
    },
    /// The ledger holds the update.
    Recorded {
        /// Who.
        client: ClientId,
    },
    /// The ledger could not take the update; the client may try again.
    Unrecorded {
        /// Who.
        client: ClientId,
    },
    /// The update broke a rule at the door.
    Refuse {
        /// Who.
        client: ClientId,
        /// Which rule.
        reason: Reason,
    },
    /// The client leaves.
    Withdraw {
        /// Who.
        client: ClientId,
    },
    /// The operator stops the task.
    Stop,
    /// Time has passed.
    Tick,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Record the update, then answer [`Input::Recorded`] or [`Input::Unrecorded`].
    Record {
        /// Whose.
        client: ClientId,
        /// SHA-256 of the payload.
        digest: Digest,
    },
    /// The update is safe: send the receipt.
    Acknowledge {
        /// To whom.
        client: ClientId,
    },
    /// The survivors are fixed, sorted by id: aggregate them.
    Close {
        /// Whose updates count.
        survivors: Vec<ClientId>,
    },
    /// Give the round up.
    Abandon(Abandon),
}

/// One round's phases, server side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    params: RoundParams,
    phase: Phase,
    seats: BTreeMap<ClientId, Seat>,
}

impl Round {
    /// A round that takes updates from its cohort until the deadline.
    pub fn open(params: RoundParams) -> Self {
        let seats = params.cohort().iter().map(|client| (client.clone(), Seat::Selected)).collect();
        Self { params, phase: Phase::Input, seats }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`Reject`] says what was wrong with the input; the state is then unchanged.
    pub fn handle(&mut self, now: Tick, input: Input) -> Result<Vec<Effect>, Reject> {
        match input {
            Input::Offer { client, digest } => self.offer(now, client, digest),
            Input::Recorded { client } => self.recorded(client),
            Input::Unrecorded { client } => self.unrecorded(client),
            Input::Refuse { client, reason } => self.leave(now, client, Seat::Refused(reason)),
            Input::Withdraw { client } => self.leave(now, client, Seat::Dropout),
            Input::Stop => Ok(self.stop()),
            Input::Tick => Ok(self.settle(now)),
        }
    }

    /// When [`Input::Tick`] is next due; `None` once the round no longer depends on time.
    pub fn deadline(&self) -> Option<Tick> {
        (self.phase == Phase::Input).then(|| self.params.deadline())
    }

    /// The parameters it was opened with.
    pub fn params(&self) -> &RoundParams {
        &self.params
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Where a client stands; `None` if it was not selected.
    pub fn seat(&self, client: &ClientId) -> Option<Seat> {
        self.seats.get(client).copied()
    }

    /// Every selected client and where it stands, sorted by id.
    pub fn seats(&self) -> impl Iterator<Item = (&ClientId, Seat)> {
        self.seats.iter().map(|(client, seat)| (client, *seat))
    }

    fn offer(&mut self, now: Tick, client: ClientId, digest: Digest) -> Result<Vec<Effect>, Reject> {
        let seat = self.member(&client)?;
        match seat {
            Seat::Received(held) if held == digest => return Ok(vec![Effect::Acknowledge { client }]),
            Seat::Received(_) | Seat::Recording(_) => {
                return Err(Reject::new(
                    Reason::Duplicate,
                    "another update of this client is already recorded in this round; one per round counts",
                ));
            }
            Seat::Refused(reason) => {
                return Err(Reject::new(
                    Reason::Duplicate,
                    format!("an update of this client was refused in this round ({})", reason.code()),
                ));
            }
            Seat::Dropout => return Err(Reject::new(Reason::Withdrawn, "the client left this round")),
            Seat::Selected => {}
        }
        self.takes_updates(now)?;
        self.seats.insert(client.clone(), Seat::Recording(digest));
        Ok(vec![Effect::Record { client, digest }])
    }

    fn recorded(&mut self, client: ClientId) -> Result<Vec<Effect>, Reject> {
        let digest = self.recording(&client)?;
        self.seats.insert(client.clone(), Seat::Received(digest));
        let mut effects = vec![Effect::Acknowledge { client }];
        effects.extend(self.settle_counts());
        Ok(effects)
    }

    fn unrecorded(&mut self, client: ClientId) -> Result<Vec<Effect>, Reject> {
        self.recording(&client)?;
        let seat = if self.phase == Phase::Input { Seat::Selected } else { Seat::Dropout };
        self.seats.insert(client, seat);
        Ok(self.settle_counts())
    }

    fn leave(&mut self, now: Tick, client: ClientId, seat: Seat) -> Result<Vec<Effect>, Reject> {
        if self.member(&client)? != Seat::Selected {
            return Err(Reject::new(Reason::Duplicate, "this client's part in the round is already decided"));
        }
        self.takes_updates(now)?;
        self.seats.insert(client, seat);
        Ok(self.settle_counts())
    }

    fn stop(&mut self) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Input | Phase::Draining) {
            return Vec::new();
        }
        self.abandon(Abandon::Stopped)
    }

    fn settle(&mut self, now: Tick) -> Vec<Effect> {
        if self.phase == Phase::Input && now >= self.params.deadline() {
            self.phase = Phase::Draining;
        }
        self.settle_counts()
    }

    /// Closes or abandons when nothing more can change.
    fn settle_counts(&mut self) -> Vec<Effect> {
        let (mut open, mut recording, mut received) = (0, 0, 0);
        for seat in self.seats.values() {
            match seat {
                Seat::Selected => open += 1,
                Seat::Recording(_) => recording += 1,
                Seat::Received(_) => received += 1,
                Seat::Refused(_) | Seat::Dropout => {}
            }
        }
        if self.phase == Phase::Input && (received >= self.params.target() || open + recording == 0) {
            self.phase = Phase::Draining;
        }
        if self.phase != Phase::Draining || recording > 0 {
            return Vec::new();
        }
        if received < self.params.minimum() {
            return self.abandon(Abandon::TooFewUpdates { received, minimum: self.params.minimum() });
        }
        self.phase = Phase::Closed;
        self.seal();
        let survivors = self.seats.iter().filter(|(_, seat)| matches!(seat, Seat::Received(_)));
        vec![Effect::Close { survivors: survivors.map(|(client, _)| client.clone()).collect() }]
    }

    fn abandon(&mut self, why: Abandon) -> Vec<Effect> {
        self.phase = Phase::Abandoned;
        self.seal();
        vec![Effect::Abandon(why)]
    }

    /// Whoever has not been heard of by now is a dropout.
    fn seal(&mut self) {
        for seat in self.seats.values_mut() {
            if matches!(seat, Seat::Selected | Seat::Recording(_)) {
                *seat = Seat::Dropout;
            }
        }
    }

    fn member(&self, client: &ClientId) -> Result<Seat, Reject> {
        self.seat(client).ok_or_else(|| {
            Reject::new(Reason::NotInCohort, "this client was not selected for this round; check in first")
        })
    }

    fn takes_updates(&self, now: Tick) -> Result<(), Reject> {
        if self.phase == Phase::Input && now < self.params.deadline() {
            return Ok(());
        }
        Err(Reject::new(Reason::Late, "the round no longer takes updates; check in for the next one"))
    }

    fn recording(&self, client: &ClientId) -> Result<Digest, Reject> {
        match self.member(client)? {
            Seat::Recording(digest) if matches!(self.phase, Phase::Input | Phase::Draining) => Ok(digest),
            _ => Err(Reject::new(Reason::Late, "no update of this client is being recorded")),
        }
    }
}

#[cfg(test)]
mod tests;
