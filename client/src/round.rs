//! A place in one round.

use crate::{
    Client, Error, Receipt, Update,
    masked::MaskedUpdate,
    noised::{self, Kept},
    saved::{SavedSeat, SeatState},
    transport::upload::Upload,
    update::{Parcel, Unpacked},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use testudo_proto::{Assignment, OwnNoise, Place, UploadHeader, layout_to_wire};
use testudo_protocol::{
    Digest, Encoding, Layout, Model,
    secagg::{Announcement, Step},
};
use tokio::time::Instant;

/// What a session and its open round both know.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The newest place.
    pub(crate) seat: Option<SavedSeat>,
    /// Rounds with a receipt.
    pub(crate) rounds: u64,
    /// Updates that may have left the device: receipts, and every noise that was drawn, whatever the server said of it.
    pub(crate) told: u64,
}

/// Locks what session and round share. A panic elsewhere leaves nothing half-written in it.
pub(crate) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in one round: train on [`model`](Round::model), then [`submit`](Round::submit).
///
/// Dropping it without submitting leaves the round: if a tokio runtime is there, the server is told in the
/// background (one call, no retry); if not, the server finds out at the round's deadline.
#[derive(Debug)]
pub struct Round {
    assignment: Assignment,
    model: Arc<Model>,
    deadline: Instant,
    /// The digest of an update that an earlier process began to send in this round.
    earlier: Option<Digest>,
    /// That update's bytes, if it was noised.
    kept: Option<Kept>,
    /// What a masked round announces, checked.
    announcement: Option<Announcement>,
    seat: Seat,
}

/// An update that is packed and hashed and can only be sent as it is.
#[derive(Debug)]
pub struct Sealed {
    content: Content,
    seat: Seat,
}

/// What is sent: the update as it is, or under masks that are made while it is sent.
#[derive(Debug)]
enum Content {
    Clear(Box<Upload>),
    Masked(Box<MaskedUpdate>),
}

/// Leaves the round when dropped, unless decided.
pub(crate) struct Seat {
    client: Client,
    place: Place,
    shared: Arc<Mutex<Shared>>,
    decided: bool,
}

impl Round {
    pub(crate) fn new(
        client: Client,
        assignment: Assignment,
        model: Arc<Model>,
        deadline: Instant,
        (earlier, kept): (Option<Digest>, Option<Kept>),
        announcement: Option<Announcement>,
        shared: Arc<Mutex<Shared>>,
    ) -> Self {
        let place = place(&client, &assignment);
        let seat = Seat { client, place, shared, decided: false };
        Self { assignment, model, deadline, earlier, kept, announcement, seat }
    }

    /// The round's number.
    pub fn number(&self) -> u64 {
        self.assignment.round
    }

    /// The model to train from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to keep or to hand to another thread.
    pub fn shared_model(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }

    /// The update's tensors, which are the model's.
    pub fn layout(&self) -> &Layout {
        &self.assignment.layout
    }

    /// The encodings the task takes, f32 always among them: see [`Update::encoded`].
    pub fn encodings(&self) -> &[Encoding] {
        &self.assignment.encodings
    }

    /// Until the round stops taking updates; zero when it has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Larger claims of examples are capped to this.
    pub fn max_examples(&self) -> u64 {
        self.assignment.max_examples
    }

    /// The name of the rule that will combine the updates.
    pub fn rule(&self) -> &str {
        &self.assignment.rule
    }

    /// Clients whose updates are summed before anything sees them; `None` if the server sees this one's on its own.
    pub fn group_size(&self) -> Option<u32> {
        self.announcement.as_ref().map(|announcement| announcement.session.group_size)
    }

    /// What this device adds to its update before it leaves; `None` if nothing.
    pub fn own_noise(&self) -> Option<OwnNoise> {
        self.assignment.own_noise
    }

    /// Whether the update that an earlier process began to send is at hand, noised: there is no need to train again,
    /// whatever is [sealed](Round::seal) sends that one.
    pub fn holds_update(&self) -> bool {
        self.kept.is_some()
    }

    /// After a resumed session: the digest of the update that was on its way. Only that update can be sent.
    pub fn earlier(&self) -> Option<Digest> {
        self.earlier
    }

    /// Sends the update and waits until the server has recorded it. Connections lost on the way are resumed as long
    /// as the round takes updates.
    ///
    /// # Errors
    /// [`Error::Update`] if the update does not fit (nothing was sent, and the round is left), [`Error::Rejected`]
    /// if the server refuses it, [`Error::GaveUp`] if the round's time is over, [`Error::ServerMisbehaved`].
    pub async fn submit(self, update: Update) -> Result<Receipt, Error> {
        self.seal(update)?.send().await
    }

    /// The first half of [`submit`](Round::submit): checks, packs and hashes the update, without sending. A session
    /// saved between the halves knows which update is on its way, so that a later process cannot send another.
    ///
    /// In a round with noise of one's own the update is clipped and noised here, some 50 ms for a million coordinates; one
    /// that is not finite becomes noise alone. If the round [holds an update](Round::holds_update) already, that one is
    /// sent and `update` is dropped: a second noise would tell more.
    ///
    /// # Errors
    /// [`Error::Update`] as there, or if an earlier process began to send another update in this round; [`Error::Policy`]
    /// for noise that cannot be drawn. The round is then left.
    pub fn seal(self, update: Update) -> Result<Sealed, Error> {
        if let Some(announcement) = self.announcement {
            let Unpacked { tensors, delta, examples, hostile } =
                update.unpacked(&self.assignment.layout, announcement.session.has_shares())?;
            let update = MaskedUpdate {
                announcement,
                tensors,
                delta,
                examples,
                hostile,
                chunk_bytes: self.assignment.chunk_bytes,
                deadline: self.deadline,
                leaves: None,
                witness: None,
            };
            return Ok(Sealed { content: Content::Masked(Box::new(update)), seat: self.seat });
        }
        let noise = self.assignment.own_noise;
        let parcel = match (noise, &self.kept) {
            (None, _) => update.pack(self.layout(), &self.assignment.encodings)?,
            (Some(_), Some(kept)) => noised::parcel(layout_to_wire(self.layout()), kept.0.clone()),
            (Some(noise), None) => update.pack_noised(self.layout(), &noise)?,
        };
        let Parcel { tensors, payload, digest, examples, encoding } = parcel;
        if let Some(earlier) = self.earlier.filter(|&earlier| earlier != digest) {
            return Err(Error::Update(format!(
                "round {} already began with the update {earlier:?}, and this one is {digest:?}; a client sends one \
                 update per round",
                self.assignment.round
            )));
        }
        let mut shared = lock(&self.seat.shared);
        if noise.is_some() && self.kept.is_none() {
            // From here on the server may see it, and never say so.
            shared.told = shared.told.max(shared.rounds) + 1;
        }
        if let Some(seat) = &mut shared.seat {
            seat.digest = Some(digest);
            seat.noised = noise.map(|_| Kept(payload.clone()));
        }
        drop(shared);
        let header = UploadHeader {
            place: self.seat.place.clone(),
            model_digest: self.assignment.model_digest,
            digest,
            total_bytes: payload.len() as u64,
            offset: 0,
            num_examples: examples,
            tensors,
            encoding,
        };
        let upload = Upload { header, payload, chunk_bytes: self.assignment.chunk_bytes, deadline: self.deadline };
        Ok(Sealed { content: Content::Clear(Box::new(upload)), seat: self.seat })
    }

    /// Leaves the round without an update.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the server does not know this place any more, [`Error::GaveUp`] if it cannot be
    /// reached before the round's end. The round is left either way.
    pub async fn withdraw(mut self) -> Result<(), Error> {
        self.seat.settle(SeatState::Left);
        let inner = &self.seat.client.inner;
        inner.transport.withdraw(&self.seat.place, &inner.retry, self.deadline).await
    }
}

impl Sealed {
    /// SHA-256 of the payload; in a masked round of the update as it is before it is masked, which never leaves: it is
    /// computed with every call.
    pub fn digest(&self) -> Digest {
        match &self.content {
            Content::Clear(upload) => upload.header.digest,
            Content::Masked(update) => update.digest(),
        }
    }

    /// Vanishes before a step of a masked round, without a word: for testing servers. No effect in clear mode.
    #[must_use]
    pub fn leaving_before(mut self, step: Step) -> Self {
        if let Content::Masked(update) = &mut self.content {
            update.leaves = Some(step);
        }
        self
    }

    /// Shows the bytes that leave the device in a masked round's input, for audits. Not called in clear mode, where they are
    /// the update itself.
    #[must_use]
    pub fn witnessed(mut self, witness: impl FnOnce(&[u8]) + Send + 'static) -> Self {
        if let Content::Masked(update) = &mut self.content {
            update.witness = Some(Box::new(witness));
        }
        self
    }

    /// Sends the update and waits until the server has recorded it. Dropping the future leaves the round.
    ///
    /// # Errors
    /// As [`Round::submit`], except [`Error::Update`].
    pub async fn send(mut self) -> Result<Receipt, Error> {
        let inner = Arc::clone(&self.seat.client.inner);
        let result = match self.content {
            Content::Clear(upload) => upload.send(&inner.transport, &inner.retry).await.map(Receipt::from),
            Content::Masked(update) => update.send(&self.seat.place, &inner).await,
        };
        self.seat.settle(SeatState::Decided);
        // The others need not wait for a client that will say nothing more.
        if matches!(result, Err(Error::Policy(_) | Error::Update(_) | Error::ServerMisbehaved(_)))
            && let Err(failure) = inner.transport.withdraw_once(&self.seat.place).await
        {
            tracing::debug!(round = self.seat.place.round, "the server could not be told of a left round: {failure:?}");
        }
        let receipt = result?;
        lock(&self.seat.shared).rounds += 1;
        Ok(receipt)
    }
}

impl Seat {
    /// Nothing is left to do when this is dropped.
    fn settle(&mut self, state: SeatState) {
        self.decided = true;
        if let Some(seat) = &mut lock(&self.shared).seat {
            seat.state = state;
            seat.noised = None;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        self.settle(SeatState::Left);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (client, place) = (self.client.clone(), self.place.clone());
        runtime.spawn(async move {
            if let Err(failure) = client.inner.transport.withdraw_once(&place).await {
                tracing::debug!(round = place.round, "the server could not be told of a left round: {failure:?}");
            }
        });
    }
}

/// This client's place by an assignment.
pub(crate) fn place(client: &Client, assignment: &Assignment) -> Place {
    Place {
        task: assignment.task.clone(),
        round: assignment.round,
        client: client.name().clone(),
        nonce: assignment.nonce,
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("place", &self.place).field("decided", &self.decided).finish_non_exhaustive()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({:?}, {} bytes)", self.header.digest, self.payload.len())
    }
}
