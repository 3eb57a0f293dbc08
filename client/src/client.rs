//! One identity on one connection.

use crate::{
    ClientBuilder, Error, Policy, Retry, SavedSession, Session, Summary, Trainer, trainer, transport::Transport,
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
use testudo_protocol::{
    ClientId, TaskName,
    secagg::{Answers, Credentials, VerifyingKey},
};

/// One identity on one connection. Clones share both.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) transport: Transport,
    pub(crate) name: ClientId,
    pub(crate) policy: Policy,
    pub(crate) retry: Retry,
    /// How long the server may hold a check-in.
    pub(crate) wait: Duration,
    /// Signs what the client says in masked rounds.
    pub(crate) credentials: Credentials,
    /// The masked rounds that were answered in.
    pub(crate) answers: Arc<dyn Answers>,
    /// The server's key, once a masked round showed one.
    pub(crate) server: OnceLock<VerifyingKey>,
}

/// Payload bytes of one client, whatever the protocol around them adds: models, updates, and the messages of masked
/// rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent.
    pub up: u64,
    /// Received.
    pub down: u64,
}

impl Client {
    /// Begins to describe a connection to a server, such as `https://fl.example.org:8443`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// Who this client is.
    pub fn name(&self) -> &ClientId {
        &self.inner.name
    }

    /// Payload bytes since the client was made.
    pub fn traffic(&self) -> Traffic {
        let (up, down) = self.inner.transport.traffic();
        Traffic { up, down }
    }

    /// The server's key, as the first masked round announced it; every later round must be signed by the same.
    pub fn server_key(&self) -> Option<VerifyingKey> {
        self.inner.server.get().copied()
    }

    /// Begins to take part in a task. The server hears of it with the first [`Session::next_round`].
    ///
    /// # Errors
    /// [`Error::Config`] if the text cannot be a task's name.
    pub async fn join(&self, task: impl Into<String>) -> Result<Session, Error> {
        let task = TaskName::new(task).map_err(|error| Error::Config(error.to_string()))?;
        Ok(Session::new(self.clone(), task))
    }

    /// Takes a saved session up again. If an update was on its way, the server is asked whether it arrived:
    /// [`Session::recovered`] then holds its receipt.
    ///
    /// # Errors
    /// [`Error::Config`] if the session is another client's; [`Error::GaveUp`] as [`Retry`] says.
    pub async fn resume(&self, saved: SavedSession) -> Result<Session, Error> {
        Session::resume(self.clone(), saved).await
    }

    /// Takes part in a task until it ends, training in every round this client is selected for.
    ///
    /// A refused update does not end it: the summary counts it. A training failure leaves that round; five in a row
    /// end it.
    ///
    /// # Errors
    /// [`Error::Trainer`] after five failures in a row; [`Error::Policy`], [`Error::Rejected`] and
    /// [`Error::ServerMisbehaved`] from a check-in; [`Error::GaveUp`] as [`Retry`] says.
    pub async fn run(&self, task: impl Into<String>, trainer: impl Trainer) -> Result<Summary, Error> {
        trainer::run(self.join(task).await?, trainer).await
    }

    /// As [`Client::run`], from a saved session on.
    ///
    /// # Errors
    /// As [`Client::resume`] and [`Client::run`].
    pub async fn run_saved(&self, saved: SavedSession, trainer: impl Trainer) -> Result<Summary, Error> {
        trainer::run(self.resume(saved).await?, trainer).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} at {})", self.inner.name, self.inner.transport.url())
    }
}
