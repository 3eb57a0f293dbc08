//! The operators' service, as far as `demo` and `load` use it.

use crate::{
    exit::{Exit, Failure, chain},
    file,
    format::clean,
};
use std::{future::Future, path::PathBuf, time::Duration};
use testudo_proto::{
    CreateTaskHeader, CreateTaskPart, framing,
    v1::{self, admin_client::AdminClient},
};
use testudo_protocol::{Digest, Model, limits};
use tonic::{
    Response, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// Largest PEM file.
const PEM_BYTES: u64 = 1 << 20;
/// Longest wait for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Flow-control windows for models on their way.
const WINDOW_BYTES: u32 = 4 << 20;

/// Whom to trust, and who to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates {
    /// Authority of the server's certificate, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// Certificate and private key of this end, PEM.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// A connection to the operators' service of one server.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    client: AdminClient<Channel>,
    server: String,
}

impl Operator {
    /// Connects.
    ///
    /// # Errors
    /// An address or certificates that cannot be used, no server there.
    pub(crate) async fn connect(server: &str, certificates: &Certificates) -> Result<Self, Failure> {
        let channel = endpoint(server, certificates)?.connect().await.map_err(|error| {
            Failure::new(Exit::Unavailable, format!("cannot reach {}", clean(server)), chain(&error))
                .next("check the address, and that `testudo serve` runs there")
        })?;
        let client = AdminClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(framing::MESSAGE_BYTES);
        Ok(Self { client, server: server.to_string() })
    }

    /// Creates a task from the text of its `task.toml` and its first model.
    ///
    /// # Errors
    /// The server's refusal.
    pub(crate) async fn create(&self, toml: String, model: &Model) -> Result<v1::TaskInfo, Failure> {
        let file = bytes::Bytes::from(model.to_safetensors());
        let header = CreateTaskHeader { toml, model_bytes: file.len() as u64, model_digest: Digest::of(&file) };
        let parts = std::iter::once(CreateTaskPart::Header(header))
            .chain(framing::chunks(file, limits::CHUNK_BYTES).map(CreateTaskPart::Chunk))
            .map(CreateTaskPart::to_wire);
        let mut client = self.client.clone();
        self.answer("cannot create the task", client.create_task(tokio_stream::iter(parts))).await
    }

    /// Every round of a task from the first on, as each ends; the stream ends with the task.
    ///
    /// # Errors
    /// The server's refusal.
    pub(crate) async fn watch(&self, task: &str) -> Result<Rounds, Failure> {
        let mut client = self.client.clone();
        let request = v1::WatchRoundsRequest { task: task.into(), from: 1 };
        let stream = self.answer("cannot watch the task", client.watch_rounds(request)).await?;
        Ok(Rounds { stream, server: self.server.clone() })
    }

    /// The model a round released.
    ///
    /// # Errors
    /// The server's refusal, or bytes that are no model.
    pub(crate) async fn model(&self, task: &str, round: u64) -> Result<Model, Failure> {
        const WHAT: &str = "cannot get the model";
        let mut client = self.client.clone();
        let request = v1::GetModelRequest { task: task.into(), round, initial: false };
        let mut stream = self.answer(WHAT, client.get_model(request)).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.message().await.map_err(|status| self.failure(WHAT, &status))? {
            if (bytes.len() + chunk.data.len()) as u64 > limits::MODEL_BYTES {
                return Err(Failure::new(Exit::Verification, WHAT, "the server sends more than a model can have"));
            }
            bytes.extend_from_slice(&chunk.data);
        }
        Model::from_safetensors(&bytes).map_err(|error| Failure::new(Exit::Verification, WHAT, error.to_string()))
    }

    /// Stops a task for good.
    ///
    /// # Errors
    /// The server's refusal.
    pub(crate) async fn stop(&self, task: &str) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let request = v1::ControlTaskRequest { name: task.into(), action: "stop".into() };
        self.answer("cannot stop the task", client.control_task(request)).await.map(|_| ())
    }

    /// A population's privacy budget with its charges, at most 10,000.
    ///
    /// # Errors
    /// The server's refusal, or no such budget.
    pub(crate) async fn budget(&self, population: &str) -> Result<v1::Budget, Failure> {
        const WHAT: &str = "cannot show the privacy budget";
        let mut client = self.client.clone();
        let request = v1::GetBudgetRequest { population: population.into(), from: 0, limit: 10_000 };
        let budgets = self.answer(WHAT, client.get_budget(request)).await?.budgets;
        let none = || Failure::new(Exit::NotFound, WHAT, "the server has no such budget");
        budgets.into_iter().next().ok_or_else(none)
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// The server's refusal.
    pub(crate) async fn server(&self) -> Result<v1::ServerInfo, Failure> {
        let mut client = self.client.clone();
        self.answer("cannot ask the server about itself", client.get_server(v1::GetServerRequest {})).await
    }

    async fn answer<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(ANSWER_TIME, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(what, &status)),
            Err(_) => {
                let why = format!("{} was silent for {} s", clean(&self.server), ANSWER_TIME.as_secs());
                Err(Failure::new(Exit::Unavailable, what, why))
            }
        }
    }

    fn failure(&self, what: &str, status: &Status) -> Failure {
        Failure::from_status(what, &self.server, status)
    }
}

/// The rounds of a task, one after another.
#[derive(Debug)]
pub(crate) struct Rounds {
    stream: Streaming<v1::RoundInfo>,
    server: String,
}

impl Rounds {
    /// The next round to end; `None` when the task has ended. Can be cancelled without loss.
    ///
    /// # Errors
    /// A lost connection.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::RoundInfo>, Failure> {
        let next = self.stream.message().await;
        next.map_err(|status| Failure::from_status("cannot watch the task", &self.server, &status))
    }
}

/// Where and how to connect, with the options of a client on a fast network.
///
/// # Errors
/// An address or certificates that cannot be used.
pub(crate) fn endpoint(server: &str, certificates: &Certificates) -> Result<Endpoint, Failure> {
    let refused = |why: String, next: &str| {
        Failure::new(Exit::Usage, format!("cannot use --server {}", clean(server)), why).next(next)
    };
    let endpoint = Endpoint::from_shared(server.to_string())
        .map_err(|error| refused(chain(&error), "write http://HOST:PORT or https://HOST:PORT"))?
        .connect_timeout(Duration::from_secs(20))
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    match (endpoint.uri().scheme_str(), &certificates.ca) {
        (Some("http"), None) => Ok(endpoint),
        (Some("http"), Some(_)) => Err(refused("--ca has no effect over http".into(), "write https:// or remove --ca")),
        (Some("https"), None) => {
            Err(refused("https needs to know whom to trust".into(), "add --ca FILE, the authority of its certificate"))
        }
        (Some("https"), Some(ca)) => {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file::read(ca, PEM_BYTES)?));
            if let Some((cert, key)) = &certificates.own {
                tls = tls.identity(Identity::from_pem(file::read(cert, PEM_BYTES)?, file::read(key, PEM_BYTES)?));
            }
            endpoint.tls_config(tls).map_err(|error| {
                Failure::new(Exit::Config, "cannot use the certificates", chain(&error))
                    .next("give PEM files: --ca an authority, --cert a certificate chain, --key its private key")
            })
        }
        _ => Err(refused("it is not an address".into(), "write http://HOST:PORT or https://HOST:PORT")),
    }
}
