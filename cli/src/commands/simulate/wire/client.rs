//! One client of a study on a real connection.

use crate::commands::hostile::{self, Message};
use std::time::Duration;
use testudo_client::{Client, Digest, Error, Identity, Retry};
use testudo_protocol::ClientId;
use tokio::sync::{mpsc, oneshot};

/// How long a client waits for a server that went away.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A client that was given a place in a round, and waits to be told what to send.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) client: usize,
    pub(super) round: u64,
    /// Of the model it received.
    pub(super) model: Digest,
    pub(super) order: oneshot::Sender<Order>,
}

/// What a client is to do in its round.
#[derive(Debug)]
pub(super) struct Order {
    /// `None`: leave the round.
    pub(super) message: Option<Message>,
    /// Told when the server has answered.
    pub(super) done: oneshot::Sender<()>,
}

/// Connects the client.
///
/// # Errors
/// A server that is not there.
pub(super) async fn connect(url: &str, name: &ClientId) -> Result<Client, Error> {
    let identity = Identity::named(name.as_str())?;
    Client::builder(url).identity(identity).retry(Retry::default().give_up_after(GIVE_UP)).connect().await
}

/// Takes part until the task ends.
///
/// # Errors
/// Whatever is no answer to what was sent: refusals of updates are part of a study.
pub(super) async fn take_part(
    client: Client,
    number: usize,
    task: String,
    seats: mpsc::UnboundedSender<Seated>,
) -> Result<(), Error> {
    let mut session = client.join(task.as_str()).await?;
    while let Some(round) = session.next_round().await? {
        let (order, ordered) = oneshot::channel();
        let seated = Seated { client: number, round: round.number(), model: round.model().digest(), order };
        if seats.send(seated).is_err() {
            return Ok(());
        }
        let Ok(Order { message, done }) = ordered.await else { return Ok(()) };
        let sent = match message {
            Some(message) => hostile::send(round, message).await.map(|_| ()),
            None => round.withdraw().await,
        };
        let _ = done.send(());
        match sent {
            Ok(()) | Err(Error::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
