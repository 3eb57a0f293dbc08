//! One client's part in one task.

use crate::{
    Client, Error, Receipt, Round, SavedSession,
    retry::{Backoff, Hitch},
    round::{Shared, lock, place},
    saved::{Promises, SavedSeat, SeatState},
    transport::{Failure, Held, download::download, unreadable},
};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use testudo_proto::{Answer, Assignment, EndedWhy, Masking, NotNowWhy, Place, SeatLimit, round_verdict_from_wire, v1};
use testudo_protocol::{
    Digest, Model, Reason, TaskName, Verdict,
    secagg::{Announcement, VerifyingKey},
};
use tokio::time::{Instant, sleep, sleep_until};

/// Shortest and longest time between two check-ins, whatever the server asks for.
const CHECK_IN_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(3600));
/// Longest a round is believed to last.
const LONGEST_ROUND: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most verdicts kept for [`Session::take_verdicts`]; the oldest go first.
const VERDICTS: usize = 1024;

/// Why [`Session::next_round`] gave `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// All the task's rounds are done.
    Finished,
    /// The operator stopped the task.
    Stopped,
    /// The task could not go on.
    Failed,
    /// This device has done as many rounds as its policy allows.
    RoundsDone,
    /// The task permits this client no further round; [`Session::limit`] says what it permits.
    LimitReached,
    /// The task has ended for a reason this version does not know.
    Unknown,
}

/// Why a client waits, as [`Session::on_wait`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// Why there is no place for it now.
    pub why: NotNowWhy,
    /// How often and how far apart the task lets it take part, and when next, if that is why.
    pub limit: Option<SeatLimit>,
    /// When it asks again.
    pub retry_after: Duration,
}

/// Hears of waits.
type Listener = Box<dyn Fn(&Wait) + Send + Sync>;

/// One client's part in one task.
pub struct Session {
    client: Client,
    task: TaskName,
    verdicts_after: u64,
    verdicts: Vec<(u64, Verdict)>,
    /// Shared with the round that is open, and with nothing else.
    shared: Arc<Mutex<Shared>>,
    model: Option<(Digest, Arc<Model>)>,
    recovered: Option<Receipt>,
    ended: Option<Ended>,
    /// What no later round of the task may fall behind.
    promises: Promises,
    /// What the task permits one client, as it was last heard.
    limit: Option<SeatLimit>,
    listener: Option<Listener>,
}

impl Session {
    pub(crate) fn new(client: Client, task: TaskName) -> Self {
        Self {
            client,
            task,
            verdicts_after: 0,
            verdicts: Vec::new(),
            shared: Arc::default(),
            model: None,
            recovered: None,
            ended: None,
            promises: Promises::default(),
            limit: None,
            listener: None,
        }
    }

    pub(crate) async fn resume(client: Client, saved: SavedSession) -> Result<Self, Error> {
        if saved.client != *client.name() {
            return Err(Error::Config(format!(
                "the saved session is {}'s, but this client is {}; resume it with the identity it was saved with",
                saved.client,
                client.name()
            )));
        }
        let mut session = Self::new(client, saved.task);
        session.verdicts_after = saved.verdicts_after;
        *lock(&session.shared) = Shared { seat: saved.seat, rounds: saved.rounds, told: saved.told };
        session.promises = saved.promises;
        session.recover().await?;
        Ok(session)
    }

    /// Waits until this client is selected, and gives its place with the model loaded; `None` when the task has
    /// ended, or has no further round for this client (see [`ended`](Session::ended)).
    ///
    /// Server restarts and lost connections are waited out as [`Retry`](crate::Retry) says. Can be cancelled without
    /// loss: the next call is given the same place. Verdicts on earlier rounds arrive with this call, the last ones
    /// with the `None`.
    ///
    /// # Errors
    /// [`Error::Config`] while the last round is still held, [`Error::Policy`], [`Error::Rejected`] (for example an
    /// unknown task), [`Error::Model`], [`Error::ServerMisbehaved`], [`Error::GaveUp`].
    pub async fn next_round(&mut self) -> Result<Option<Round>, Error> {
        if Arc::strong_count(&self.shared) > 1 {
            return Err(Error::Config("the last round is still held; submit, withdraw or drop it first".into()));
        }
        let inner = Arc::clone(&self.client.inner);
        if self.is_done() {
            self.ended.get_or_insert(Ended::RoundsDone);
        }
        let mut backoff = Backoff::new(&inner.retry, None);
        while self.ended.is_none() {
            let response = match inner.transport.check_in(self.request()).await {
                Ok(response) => response,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Hitch(hitch)) => {
                    backoff.pause(hitch).await?;
                    continue;
                }
            };
            let arrived = Instant::now();
            self.learn(&response.verdicts);
            let answer = Answer::from_wire(response.answer).map_err(|reject| unreadable("an answer", &reject))?;
            match answer {
                Answer::Ended { why } => self.ended = Some(ended(why)),
                Answer::NotNow { retry_after, why, limit } => {
                    backoff.succeeded();
                    self.limit = limit.or(self.limit);
                    if why == NotNowWhy::LimitReached {
                        self.ended = Some(Ended::LimitReached);
                        continue;
                    }
                    tracing::debug!(task = %self.task, why = why.word(), "not now");
                    let retry_after = retry_after.clamp(CHECK_IN_PAUSE.0, CHECK_IN_PAUSE.1);
                    if let Some(listener) = &self.listener {
                        listener(&Wait { why, limit, retry_after });
                    }
                    sleep(retry_after).await;
                }
                Answer::Assignment(assignment) => match self.take(*assignment, arrived).await? {
                    Taken::Round(round) => return Ok(Some(*round)),
                    Taken::Missed(hitch) => backoff.pause(hitch).await?,
                },
            }
        }
        Ok(None)
    }

    /// The task's name.
    pub fn task(&self) -> &TaskName {
        &self.task
    }

    /// Why there are no more rounds, once there are none.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// How often and how far apart the task lets this client take part, once the server has said so: it does when that is
    /// why the client waits or is done.
    pub fn limit(&self) -> Option<SeatLimit> {
        self.limit
    }

    /// Calls `listener` whenever [`next_round`](Session::next_round) is told to wait.
    pub fn on_wait(&mut self, listener: impl Fn(&Wait) + Send + Sync + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// Rounds in which an update was recorded.
    pub fn rounds(&self) -> u64 {
        lock(&self.shared).rounds
    }

    /// Verdicts on this client's rounds that were not yet [taken](Session::take_verdicts), oldest first.
    pub fn verdicts(&self) -> &[(u64, Verdict)] {
        &self.verdicts
    }

    /// Takes the verdicts out.
    pub fn take_verdicts(&mut self) -> Vec<(u64, Verdict)> {
        std::mem::take(&mut self.verdicts)
    }

    /// After [`Client::resume`]: the receipt of the update that was on its way, if it arrived.
    pub fn recovered(&self) -> Option<&Receipt> {
        self.recovered.as_ref()
    }

    /// What another process needs to go on. Save after [`next_round`](Session::next_round), between
    /// [`Round::seal`] and [`Sealed::send`](crate::Sealed::send), and after sending.
    pub fn save(&self) -> SavedSession {
        let shared = lock(&self.shared);
        SavedSession {
            task: self.task.clone(),
            client: self.client.name().clone(),
            verdicts_after: self.verdicts_after,
            rounds: shared.rounds,
            told: shared.told,
            promises: self.promises,
            seat: shared.seat.clone(),
        }
    }

    /// Whether the policy's rounds are used up, and no noised update is left that may still be sent as it is.
    fn is_done(&self) -> bool {
        let shared = lock(&self.shared);
        let policy = &self.client.inner.policy;
        let owes = shared.seat.as_ref().is_some_and(|seat| seat.state == SeatState::Open && seat.noised.is_some());
        policy.is_done(shared.rounds) || policy.is_done(shared.told) && !owes
    }

    fn request(&self) -> v1::CheckInRequest {
        v1::CheckInRequest {
            task: self.task.to_string(),
            client: self.client.name().to_string(),
            wait_ms: self.client.inner.wait.as_millis() as u32,
            verdicts_after: self.verdicts_after,
        }
    }

    /// Notes verdicts that came with an answer.
    fn learn(&mut self, verdicts: &[v1::RoundVerdict]) {
        for verdict in verdicts {
            match round_verdict_from_wire(verdict) {
                Ok((round, verdict)) if round > self.verdicts_after && verdict != Verdict::Pending => {
                    self.verdicts_after = round;
                    self.verdicts.push((round, verdict));
                }
                Ok(_) => {}
                // Of a later version: skipped for good, or it would come with every answer.
                Err(reject) => {
                    tracing::warn!(round = verdict.round, "a verdict cannot be read: {reject}");
                    self.verdicts_after = self.verdicts_after.max(verdict.round);
                }
            }
        }
        let surplus = self.verdicts.len().saturating_sub(VERDICTS);
        self.verdicts.drain(..surplus);
    }

    /// Turns an assignment into a round.
    async fn take(&mut self, assignment: Assignment, arrived: Instant) -> Result<Taken, Error> {
        if assignment.task != self.task {
            let (asked, got) = (&self.task, &assignment.task);
            return Err(Error::ServerMisbehaved(format!("asked for task {asked}, it assigned {got}")));
        }
        let deadline = arrived + assignment.time_left.min(LONGEST_ROUND);
        let place = place(&self.client, &assignment);
        let known = self.seat_of(&place);
        match known.as_ref().map(|seat| seat.state) {
            Some(SeatState::Left) => {
                self.leave(&place).await;
                return Ok(Taken::missed("offered a round that was left"));
            }
            Some(SeatState::Decided) => return Ok(Taken::missed("offered a round that is already decided")),
            Some(SeatState::Open) | None => {}
        }
        let checked = self.client.inner.policy.check(&assignment).and_then(|()| self.promises.assigned(&assignment));
        if let Err(error) = checked {
            self.leave(&place).await;
            return Err(error);
        }
        let announcement = match assignment.masking {
            Masking::Pairwise => match self.announced(&assignment) {
                Ok(announcement) => Some(announcement),
                Err(error) => {
                    self.leave(&place).await;
                    return Err(error);
                }
            },
            _ => None,
        };
        let draws = assignment.own_noise.is_some() && known.as_ref().is_none_or(|seat| seat.noised.is_none());
        if draws && self.client.inner.policy.is_done(lock(&self.shared).told) {
            self.leave(&place).await;
            self.ended = Some(Ended::RoundsDone);
            return Ok(Taken::missed("offered a round after the last one that the policy allows"));
        }
        let (digest, noised) = known.map_or((None, None), |seat| (seat.digest, seat.noised));
        let earlier = (digest, noised.clone());
        let state = SeatState::Open;
        lock(&self.shared).seat = Some(SavedSeat { round: place.round, nonce: place.nonce, digest, state, noised });
        match self.load(&assignment, deadline).await {
            Ok(Ok(model)) => {
                let shared = Arc::clone(&self.shared);
                let round = Round::new(self.client.clone(), assignment, model, deadline, earlier, announcement, shared);
                Ok(Taken::Round(Box::new(round)))
            }
            Ok(Err(hitch)) => Ok(Taken::Missed(hitch)),
            Err(error) => {
                self.leave(&place).await;
                Err(error)
            }
        }
    }

    /// What a masked round announces. The first server key that is accepted is the one that counts from then on.
    fn announced(&mut self, assignment: &Assignment) -> Result<Announcement, Error> {
        let inner = Arc::clone(&self.client.inner);
        inner.transport.count_down(assignment.announcement.len() as u64);
        let announcement = inner.policy.announced(assignment, inner.server.get())?;
        let session = &announcement.session;
        let authority = VerifyingKey(session.authority);
        if session.has_authority() && inner.credentials.certificate.verify(&authority).is_err() {
            return Err(Error::Policy(format!(
                "round {} is for clients that the enrolment authority {authority} has certified, and this client shows \
                 no such certificate; ask the authority for one (`testudo identity certify`) and give it with \
                 Identity::certified (`testudo join --signing-key --certificate`)",
                session.round
            )));
        }
        self.promises.announced(session)?;
        let key = session.server;
        if *inner.server.get_or_init(|| key) != key {
            return Err(Error::Policy(format!("round {} is signed by another key than the last", assignment.round)));
        }
        Ok(announcement)
    }

    /// The round's model, from memory if it is the last one. The inner error is a round missed.
    async fn load(&mut self, assignment: &Assignment, deadline: Instant) -> Result<Result<Arc<Model>, Hitch>, Error> {
        let digest = assignment.model_digest;
        let known = self.model.as_ref().filter(|(known, _)| *known == digest).map(|(_, model)| Arc::clone(model));
        let model = match known {
            Some(model) => model,
            None => {
                // The last model makes room for the next one, unless somebody still holds it.
                let last = self.model.take().and_then(|(_, model)| Arc::into_inner(model));
                let memory = last.map(Model::into_parameters).unwrap_or_default();
                let mut backoff = Backoff::new(&self.client.inner.retry, Some(deadline));
                let transport = &self.client.inner.transport;
                match download(transport, &self.task, digest, assignment.model_bytes, memory, &mut backoff).await {
                    Ok(model) => Arc::new(model),
                    Err(Error::Rejected(reject)) if is_over(reject.reason) => {
                        return Ok(Err(Hitch::new(reject.to_string())));
                    }
                    Err(error) if backoff.is_out_of_time() => {
                        sleep_until(deadline).await;
                        return Ok(Err(Hitch::new(format!("the model did not arrive in time: {error}"))));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if *model.layout() != assignment.layout {
            return Err(Error::ServerMisbehaved("the model's tensors are not those of the assignment".into()));
        }
        self.model = Some((digest, Arc::clone(&model)));
        Ok(Ok(model))
    }

    /// Leaves a round, with one call: the server finds out by itself too.
    async fn leave(&self, place: &Place) {
        if let Some(seat) = &mut lock(&self.shared).seat
            && seat.round == place.round
        {
            seat.state = SeatState::Left;
        }
        if let Err(failure) = self.client.inner.transport.withdraw_once(place).await {
            tracing::debug!(round = place.round, "the server could not be told of a left round: {failure:?}");
        }
    }

    /// What is known of a place.
    fn seat_of(&self, place: &Place) -> Option<SavedSeat> {
        lock(&self.shared).seat.clone().filter(|seat| seat.round == place.round && seat.nonce == place.nonce)
    }

    /// Asks whether the update that was on its way has arrived.
    async fn recover(&mut self) -> Result<(), Error> {
        let Some(seat) = lock(&self.shared).seat.clone() else { return Ok(()) };
        let (SeatState::Open, Some(digest)) = (seat.state, seat.digest) else { return Ok(()) };
        let place =
            Place { task: self.task.clone(), round: seat.round, client: self.client.name().clone(), nonce: seat.nonce };
        let inner = Arc::clone(&self.client.inner);
        let mut backoff = Backoff::new(&inner.retry, None);
        loop {
            match inner.transport.upload_status(&place, digest).await {
                Ok(Held::Bytes(_)) => return Ok(()),
                Ok(Held::Receipt(receipt)) => {
                    let mut shared = lock(&self.shared);
                    shared.rounds += 1;
                    if let Some(seat) = &mut shared.seat {
                        seat.state = SeatState::Decided;
                        seat.noised = None;
                    }
                    drop(shared);
                    self.recovered = Some(receipt.into());
                    return Ok(());
                }
                // The round is over: a verdict says what became of the update.
                Err(Failure::Final(Error::Rejected(reject))) => {
                    tracing::info!(round = seat.round, "the open round cannot be resumed: {reject}");
                    return Ok(());
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("client", &self.client)
            .field("task", &self.task)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What became of an assignment.
enum Taken {
    Round(Box<Round>),
    Missed(Hitch),
}

impl Taken {
    fn missed(why: &str) -> Self {
        Self::Missed(Hitch::new(why))
    }
}

/// Refusals that mean: that round is over, ask for the next.
fn is_over(reason: Reason) -> bool {
    matches!(reason, Reason::NotFound | Reason::WrongRound | Reason::WrongModel | Reason::Late | Reason::TaskEnded)
}

fn ended(why: EndedWhy) -> Ended {
    match why {
        EndedWhy::Finished => Ended::Finished,
        EndedWhy::Stopped => Ended::Stopped,
        EndedWhy::Failed => Ended::Failed,
        _ => Ended::Unknown,
    }
}
