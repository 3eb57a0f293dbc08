//! The last step: one answer per session, recorded before it is given.

use super::{Abort, Neighbour, held::Held};
use crate::{
    Digest, TaskName,
    secagg::{
        bitmap::Bitmap,
        group::Terms,
        identity::{Signature, SigningKey, VerifyingKey},
        message::{Consistency, Message, Unmask},
        reply::Confirmed,
        session::Session,
    },
};
use std::{collections::BTreeMap, fmt};

/// After [`Step::Consistency`](crate::secagg::Step).
#[derive(Debug)]
pub struct Confirming {
    pub(super) session: Session,
    pub(super) terms: Terms,
    pub(super) index: u32,
    pub(super) key: SigningKey,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) shared: Bitmap,
    pub(super) survivors: Bitmap,
    pub(super) held: BTreeMap<u32, Held>,
}

/// An answer that may leave once it is recorded.
#[derive(Debug)]
pub struct Ready {
    answer: Answered,
    message: Message,
}

/// Which attempt at which round was answered, and for which survivors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The server's key.
    pub server: VerifyingKey,
    /// The task.
    pub task: TaskName,
    /// The round.
    pub round: u64,
    /// The attempt.
    pub attempt: u32,
    /// The group's digest τ.
    pub tau: Digest,
    /// Digest of the survivors that were answered about.
    pub survivors: Digest,
}

/// What a record that was to be made says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The first answer for this attempt; it is now on durable storage.
    First,
    /// The same answer was recorded before: it may be repeated.
    Again,
    /// Another one was: this one must never be given.
    Other(Box<Answered>),
}

/// The device's memory of its answers, apart from saved sessions. One per device and identity.
pub trait Answers: fmt::Debug + Send + Sync {
    /// What was answered for the session's server, task, round and attempt, whatever its id.
    ///
    /// # Errors
    /// A text for people if the memory cannot be read. The round is not joined then.
    fn earlier(&self, session: &Session) -> Result<Option<Answered>, String>;

    /// Records an answer durably, unless one for the same server, task, round and attempt is there.
    ///
    /// # Errors
    /// A text for people if it cannot be written, or was set back. Nothing is answered then.
    fn record(&self, answer: &Answered) -> Result<Recorded, String>;
}

impl Confirming {
    /// Checks that at least the threshold of the group (or of the neighbours) signed the same survivors, and prepares one
    /// share per member that shared: of the self-mask for survivors, of the key for the others.
    ///
    /// # Errors
    /// [`Abort::Peers`].
    pub fn confirmed(self, confirmed: &Confirmed) -> Result<Ready, Abort> {
        let Self { session, terms, index, key, neighbours, shared, survivors, held } = self;
        let signed = |neighbour: &&Neighbour| {
            let at = confirmed.signatures.binary_search_by_key(&neighbour.index, |(index, _)| *index);
            let statement = Consistency::statement(&terms.tau, neighbour.index, &shared, &survivors);
            at.is_ok_and(|at| neighbour.identity.verify(&statement, &confirmed.signatures[at].1).is_ok())
        };
        let own = usize::from(terms.complete);
        let survived = |neighbour: &&Neighbour| survivors.contains(neighbour.index as usize);
        let count = own + neighbours.iter().filter(survived).filter(signed).count();
        if count < terms.threshold {
            let threshold = terms.threshold;
            return Err(Abort::Peers { what: "signatures over the survivors", count, threshold });
        }
        let shares =
            held.into_iter().map(|(member, held)| (member, held.reveal(survivors.contains(member as usize)))).collect();
        let mut unmask = Unmask { shares, signature: Signature([0; 64]) };
        unmask.signature = key.sign(&unmask.statement(&terms.tau, index, &survivors));
        let answer = Answered {
            server: session.server,
            task: session.task,
            round: session.round,
            attempt: session.attempt,
            tau: terms.tau,
            survivors: survivors.digest(),
        };
        Ok(Ready { answer, message: Message::Unmask(unmask) })
    }
}

impl Ready {
    /// Records the answer, then gives it.
    ///
    /// # Errors
    /// [`Abort::Equivocation`] if this attempt was answered for other survivors, [`Abort::Record`] if the record cannot
    /// be made. The answer is then gone.
    pub fn give(self, answers: &dyn Answers) -> Result<Message, Abort> {
        match answers.record(&self.answer).map_err(|detail| Abort::Record { detail })? {
            Recorded::First | Recorded::Again => Ok(self.message),
            Recorded::Other(answered) => {
                Err(Abort::Equivocation { answered: answered.survivors, asked: self.answer.survivors })
            }
        }
    }
}
