//! Taking part without writing the loop.

use crate::{Ended, Error, Round, SavedSession, Session, TrainError, Update};
use testudo_protocol::Verdict;

/// Training failures in a row that end a run.
const FAILURES: u32 = 5;

/// Trains in every round the client is selected for; given to [`Client::run`](crate::Client::run).
pub trait Trainer: Send {
    /// Trains from the round's model and returns the update. Long computations belong on a thread of their own
    /// (`tokio::task::spawn_blocking` with [`Round::shared_model`]); [`Round::time_left`] says how long there is.
    ///
    /// An error leaves the round.
    fn train(&mut self, round: &Round) -> impl Future<Output = Result<Update, TrainError>> + Send;

    /// What became of an update of this client, told once per round, a round or more later.
    fn verdict(&mut self, round: u64, verdict: Verdict) {
        let _ = (round, verdict);
    }

    /// The session, to be written down for [`Client::run_saved`](crate::Client::run_saved): when a round begins, just
    /// before its update is sent, and when that is done.
    fn save(&mut self, session: &SavedSession) {
        let _ = session;
    }

    /// The task has ended, or this device's part in it.
    fn finished(&mut self, summary: &Summary) {
        let _ = summary;
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Rounds in which an update of this client was recorded.
    pub rounds: u64,
    /// Updates used as they were.
    pub accepted: u64,
    /// Updates scaled down.
    pub clipped: u64,
    /// Updates used in part.
    pub trimmed: u64,
    /// Updates not used, by the rule or at the door, as far as verdicts say.
    pub rejected: u64,
    /// Rounds this client was selected for and sent nothing.
    pub dropouts: u64,
    /// Updates the server refused outright or the connection did not carry in time.
    pub refused: u64,
    /// Rounds in which training failed.
    pub failures: u64,
    /// Why there were no more rounds.
    pub ended: Ended,
}

/// Runs a session to its end.
pub(crate) async fn run(mut session: Session, mut trainer: impl Trainer) -> Result<Summary, Error> {
    let mut summary = Summary {
        rounds: 0,
        accepted: 0,
        clipped: 0,
        trimmed: 0,
        rejected: 0,
        dropouts: 0,
        refused: 0,
        failures: 0,
        ended: Ended::Unknown,
    };
    let mut failures = 0;
    loop {
        let next = session.next_round().await;
        for (round, verdict) in session.take_verdicts() {
            summary.count(&verdict);
            trainer.verdict(round, verdict);
        }
        let Some(round) = next? else { break };
        trainer.save(&session.save());
        match take_part(&session, &mut trainer, round).await? {
            Part::Sent => failures = 0,
            Part::Refused => summary.refused += 1,
            Part::Failed(last) => {
                summary.failures += 1;
                failures += 1;
                if failures >= FAILURES {
                    return Err(Error::Trainer { failures, last });
                }
            }
        }
        trainer.save(&session.save());
    }
    summary.rounds = session.rounds();
    summary.ended = session.ended().unwrap_or(Ended::Unknown);
    trainer.finished(&summary);
    Ok(summary)
}

/// How a round went for this client.
enum Part {
    Sent,
    Refused,
    Failed(TrainError),
}

async fn take_part(session: &Session, trainer: &mut impl Trainer, round: Round) -> Result<Part, Error> {
    let number = round.number();
    let trained = match round.holds_update() {
        // What is sealed is the update at hand, whatever comes.
        true => Ok(Update::delta(Vec::new())),
        false => trainer.train(&round).await,
    };
    let update = match trained {
        Ok(update) => update,
        Err(error) => {
            tracing::warn!(round = number, "training failed: {error}");
            if let Err(error) = round.withdraw().await {
                tracing::debug!(round = number, "the server could not be told of a left round: {error}");
            }
            return Ok(Part::Failed(error));
        }
    };
    let sealed = match round.seal(update) {
        Ok(sealed) => sealed,
        Err(error @ Error::Update(_)) => {
            tracing::warn!(round = number, "{error}");
            return Ok(Part::Failed(Box::new(error)));
        }
        Err(error) => return Err(error),
    };
    trainer.save(&session.save());
    match sealed.send().await {
        Ok(receipt) => {
            tracing::info!(round = number, digest = ?receipt.digest, "update recorded");
            Ok(Part::Sent)
        }
        Err(error @ (Error::Rejected(_) | Error::GaveUp { .. })) => {
            tracing::warn!(round = number, "{error}");
            Ok(Part::Refused)
        }
        Err(error) => Err(error),
    }
}

impl Summary {
    fn count(&mut self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Accepted => &mut self.accepted,
            Verdict::Clipped { .. } => &mut self.clipped,
            Verdict::Trimmed { .. } => &mut self.trimmed,
            Verdict::Rejected { .. } => &mut self.rejected,
            Verdict::Dropout => &mut self.dropouts,
            Verdict::Pending => return,
        };
        *counter += 1;
    }
}
