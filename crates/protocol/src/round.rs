//! The server's side of one round: phases, seats, and what happens next.
//!
//! The machine never sees a vector. It is told that a client offers, recorded, was refused or left; it answers
//! with [`Effect`]s. `Err` means: nothing changed. In a masked round it also keeps the clients' keys, sealed shares and
//! signatures; [`pairwise`] holds them.

mod pairwise;

pub use pairwise::{GroupRecord, PairwiseParams};

use crate::{
    Abandon, ClientId, Digest, Reason, Reject, RoundParams,
    secagg::{Announcement, Message, Opening, Reply, Step},
};
use pairwise::Pairwise;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Milliseconds on the driver's clock.
pub type Tick = u64;

/// Where a round stands, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Masked rounds: clients train, then offer their keys.
    AdvertiseKeys,
    /// Masked rounds: clients hand out shares of their secrets.
    ShareKeys,
    /// Takes updates (in clear mode the only phase before the end).
    Input,
    /// Takes no new updates and waits for those being recorded (in clear mode).
    Draining,
    /// Masked rounds: survivors sign their set.
    Consistency,
    /// Masked rounds: survivors give one share per member.
    Unmask,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "an input is moved once, and most of a masked round's are messages")]
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
    /// A client's message in a masked round.
    Message {
        /// Whose.
        client: ClientId,
        /// What it says.
        #[serde(with = "crate::secagg::hexadecimal")]
        message: Box<Message>,
    },
    /// The deadline moves: clients need time to come back after a restart.
    Reschedule {
        /// When the phase ends now.
        deadline: Tick,
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
    /// A masked round has come to its next phase: clients that wait for an answer can have it.
    Advanced(Phase),
    /// The survivors are fixed, sorted by id: aggregate them. In a masked round [`Round::openings`] says how.
    Close {
        /// Whose updates count.
        survivors: Vec<ClientId>,
    },
    /// Give the round up.
    Abandon(Abandon),
}

/// One round's phases, server side.
#[derive(Debug)]
pub struct Round {
    params: RoundParams,
    phase: Phase,
    /// When the phase ends.
    deadline: Tick,
    seats: BTreeMap<ClientId, Seat>,
    pairwise: Option<Box<Pairwise>>,
}

impl Round {
    /// A round that takes updates from its cohort until the deadline.
    pub fn open(params: RoundParams) -> Self {
        let seats = params.cohort().iter().map(|client| (client.clone(), Seat::Selected)).collect();
        let deadline = params.deadline();
        Self { params, phase: Phase::Input, deadline, seats, pairwise: None }
    }

    /// A masked round: clients train and advertise keys until the deadline; each later step has its own time.
    pub fn open_masked(params: RoundParams, pairwise: PairwiseParams) -> Self {
        let pairwise = Some(Box::new(Pairwise::new(pairwise)));
        Self { phase: Phase::AdvertiseKeys, pairwise, ..Self::open(params) }
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
            Input::Message { client, message } => self.message(now, client, *message),
            Input::Reschedule { deadline } => {
                self.deadline = deadline;
                Ok(Vec::new())
            }
            Input::Stop => Ok(self.stop()),
            Input::Tick => Ok(self.settle(now)),
        }
    }

    /// When [`Input::Tick`] is next due; `None` once the round no longer depends on time.
    pub fn deadline(&self) -> Option<Tick> {
        self.is_timed().then_some(self.deadline)
    }

    /// The server's answer to a client's message of a step in a masked round; `None` while others are waited for.
    ///
    /// # Errors
    /// [`Reject`] if the client sent none, or its part in the round is over.
    pub fn reply(&self, client: &ClientId, step: Step) -> Result<Option<Reply>, Reject> {
        self.member(client)?;
        self.masked()?.reply(self.phase, client, step)
    }

    /// What was announced to the clients of a masked round.
    pub fn announcement(&self) -> Option<&Announcement> {
        self.pairwise.as_ref().map(|pairwise| pairwise.announcement())
    }

    /// Whether a client of a masked round shared, and its group lives; in clear mode everybody may upload.
    ///
    /// # Errors
    /// [`Reject`] says why not.
    pub fn may_upload(&self, client: &ClientId) -> Result<(), Reject> {
        self.pairwise.as_ref().map_or(Ok(()), |pairwise| pairwise.may_upload(client))
    }

    /// Whether a selected client of a masked round has advertised its keys: from then on only the process that did can
    /// go on.
    pub fn has_advertised(&self, client: &ClientId) -> bool {
        self.pairwise.as_ref().is_some_and(|pairwise| pairwise.has_advertised(client))
    }

    /// What unmasks the groups of a closed masked round; none before and in clear mode.
    pub fn openings(&self) -> Vec<Opening> {
        self.pairwise
            .as_ref()
            .filter(|_| self.phase == Phase::Closed)
            .map(|pairwise| pairwise.openings())
            .unwrap_or_default()
    }

    /// The groups of a masked round, once they are drawn.
    pub fn groups(&self) -> Vec<GroupRecord> {
        self.pairwise.as_ref().map(|pairwise| pairwise.records()).unwrap_or_default()
    }

    /// Whether a client's message was taken before: it may be repeated, and changes nothing.
    pub fn knows(&self, client: &ClientId, message: &Message) -> bool {
        self.pairwise.as_ref().is_some_and(|pairwise| pairwise.known(client, message.step()).as_ref() == Some(message))
    }

    /// Fewest groups for a release; 0 in clear mode.
    pub fn least_groups(&self) -> usize {
        self.pairwise.as_ref().map_or(0, |pairwise| pairwise.least_groups())
    }

    /// The number of a client's group in a masked round, once groups are drawn.
    pub fn group_of(&self, client: &ClientId) -> Option<u32> {
        self.pairwise.as_ref().and_then(|pairwise| pairwise.group_of(client))
    }

    /// Why nothing that a client of a masked round sent counts, if so.
    pub fn lost(&self, client: &ClientId) -> Option<String> {
        self.pairwise.as_ref().and_then(|pairwise| pairwise.lost(client))
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
        if let Some(pairwise) = &self.pairwise {
            pairwise.may_upload(&client)?;
        }
        self.seats.insert(client.clone(), Seat::Recording(digest));
        Ok(vec![Effect::Record { client, digest }])
    }

    fn recorded(&mut self, client: ClientId) -> Result<Vec<Effect>, Reject> {
        let digest = self.recording(&client)?;
        self.seats.insert(client.clone(), Seat::Received(digest));
        let mut effects = vec![Effect::Acknowledge { client }];
        effects.extend(self.settle_counts(None));
        Ok(effects)
    }

    fn unrecorded(&mut self, client: ClientId) -> Result<Vec<Effect>, Reject> {
        self.recording(&client)?;
        let seat = if self.phase == Phase::Input { Seat::Selected } else { Seat::Dropout };
        self.seats.insert(client, seat);
        Ok(self.settle_counts(None))
    }

    fn leave(&mut self, now: Tick, client: ClientId, seat: Seat) -> Result<Vec<Effect>, Reject> {
        if self.member(&client)? != Seat::Selected {
            return Err(Reject::new(Reason::Duplicate, "this client's part in the round is already decided"));
        }
        if !self.is_timed() || now >= self.deadline {
            return Err(late());
        }
        if let (Phase::AdvertiseKeys, Some(pairwise)) = (self.phase, &mut self.pairwise) {
            pairwise.forget(&client);
        }
        self.seats.insert(client, seat);
        Ok(self.settle_counts(Some(now)))
    }

    fn message(&mut self, now: Tick, client: ClientId, message: Message) -> Result<Vec<Effect>, Reject> {
        let upload = match self.member(&client)? {
            Seat::Received(digest) => Some(digest),
            Seat::Selected | Seat::Recording(_) => None,
            Seat::Refused(reason) => {
                let detail = format!("an update of this client was refused in this round ({})", reason.code());
                return Err(Reject::new(Reason::Duplicate, detail));
            }
            Seat::Dropout => return Err(Reject::new(Reason::Withdrawn, "the client left this round")),
        };
        self.masked()?;
        let phase = self.phase;
        let in_time = now < self.deadline;
        let Some(pairwise) = &mut self.pairwise else { return Ok(Vec::new()) };
        if !in_time && pairwise.awaits(phase, &client) {
            return Err(late());
        }
        pairwise.take(phase, &client, message, upload)?;
        Ok(self.settle_counts(Some(now)))
    }

    fn stop(&mut self) -> Vec<Effect> {
        if self.phase >= Phase::Closed {
            return Vec::new();
        }
        self.abandon(Abandon::Stopped)
    }

    fn settle(&mut self, now: Tick) -> Vec<Effect> {
        if self.pairwise.is_none() && self.phase == Phase::Input && now >= self.deadline {
            self.phase = Phase::Draining;
        }
        self.settle_counts(Some(now))
    }

    /// Closes, abandons or goes on when nothing more can change. A masked round goes on at a known time only.
    fn settle_counts(&mut self, now: Option<Tick>) -> Vec<Effect> {
        if self.pairwise.is_some() {
            return now.map(|now| self.settle_masked(now)).unwrap_or_default();
        }
        let (mut open, mut recording, mut received) = (0, 0, 0);
        for seat in self.seats.values() {
            match seat {
                Seat::Selected => open += 1,
                Seat::Recording(_) => recording += 1,
                Seat::Received(_) => received += 1,
                Seat::Refused(_) | Seat::Dropout => {}
            }
        }
        let decided = received >= self.params.target() || open + recording == 0;
        if self.phase == Phase::Input && decided && !self.params.takes_its_whole_time() {
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

    /// Ends as many phases of a masked round as can be.
    fn settle_masked(&mut self, now: Tick) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.is_timed() && (now >= self.deadline || !self.is_awaited()) {
            let Some(pairwise) = &mut self.pairwise else { break };
            let phase = self.phase;
            if phase == Phase::AdvertiseKeys {
                let minimum = self.params.minimum().max(pairwise.group_size());
                let received = pairwise.advertised();
                if received < minimum {
                    effects.extend(self.abandon(Abandon::TooFewUpdates { received, minimum }));
                    break;
                }
                if let Err(detail) = pairwise.draw() {
                    effects.extend(self.abandon(Abandon::Fault { detail }));
                    break;
                }
            }
            pairwise.end(phase);
            let (groups, minimum) = (pairwise.living(), pairwise.least_groups());
            if groups < minimum {
                effects.extend(self.abandon(Abandon::TooFewGroups { groups, minimum }));
                break;
            }
            self.deadline = now.saturating_add(pairwise.step_ms());
            self.phase = match phase {
                Phase::AdvertiseKeys => Phase::ShareKeys,
                Phase::ShareKeys => Phase::Input,
                Phase::Input => Phase::Consistency,
                Phase::Consistency => Phase::Unmask,
                _ => Phase::Closed,
            };
            effects.push(Effect::Advanced(self.phase));
            if self.phase == Phase::Closed {
                self.seal();
                let mut survivors: Vec<ClientId> =
                    self.openings().iter().flat_map(|opening| opening.clients()).collect();
                survivors.sort();
                effects.push(Effect::Close { survivors });
            }
        }
        effects
    }

    /// Whether the phase of a masked round waits for somebody.
    fn is_awaited(&self) -> bool {
        let Some(pairwise) = &self.pairwise else { return false };
        if self.phase == Phase::AdvertiseKeys && pairwise.advertised() >= self.params.target() {
            return false;
        }
        let present = |seat: &Seat| !matches!(seat, Seat::Refused(_) | Seat::Dropout);
        self.seats.iter().any(|(client, seat)| present(seat) && pairwise.awaits(self.phase, client))
    }

    /// Whether the phase ends with time.
    fn is_timed(&self) -> bool {
        match self.pairwise {
            None => self.phase == Phase::Input,
            Some(_) => self.phase < Phase::Closed,
        }
    }

    fn masked(&self) -> Result<&Pairwise, Reject> {
        let clear = || Reject::new(Reason::WrongState, "this round is not masked; upload the update as it is");
        self.pairwise.as_deref().ok_or_else(clear)
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
        if self.phase < Phase::Input {
            return Err(Reject::new(Reason::WrongState, "the round does not take updates yet"));
        }
        if self.phase == Phase::Input && now < self.deadline { Ok(()) } else { Err(late()) }
    }

    fn recording(&self, client: &ClientId) -> Result<Digest, Reject> {
        match self.member(client)? {
            Seat::Recording(digest) if self.phase < Phase::Closed => Ok(digest),
            _ => Err(Reject::new(Reason::Late, "no update of this client is being recorded")),
        }
    }
}

fn late() -> Reject {
    Reject::new(Reason::Late, "the round no longer takes updates; check in for the next one")
}

#[cfg(test)]
mod tests;
