//! `testudo.v1.Admin`: tasks, rounds, clients, models, the server itself.

use super::{budget, download, federation::task_name, status};
use crate::{
    access::check_operator,
    config::Config,
    memory,
    registry::{IMPOSTORS, Registry},
    store::{ClientRow, Counts, RoundRow, RoundState, SeatRow, TaskRow, TaskState},
    task::{Control, Glance},
};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use std::{pin::Pin, time::Duration};
use testudo_proto::{
    CreateTaskHeader, CreateTaskPart,
    v1::{
        ClientInfo, ClientRound, ControlTaskRequest, CreateTaskRequest, GetBudgetRequest, GetBudgetResponse,
        GetModelRequest, GetRoundRequest, GetServerRequest, GetTaskRequest, ListClientsRequest, ListClientsResponse,
        ListRoundsRequest, ListRoundsResponse, ListTasksRequest, ListTasksResponse, Note, RoundInfo, ServerInfo,
        TaskInfo, WatchRoundsRequest, admin_server::Admin,
    },
    verdict_to_wire,
};
use testudo_protocol::{Digest, Reason, Reject, TaskName};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Longest silence while a model is sent.
const IDLE: Duration = Duration::from_secs(60);

/// What operators call.
#[derive(Debug, Clone)]
pub(crate) struct AdminService {
    pub(crate) registry: Registry,
    pub(crate) started_at: u64,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_task(&self, request: Request<Streaming<CreateTaskRequest>>) -> Result<Response<TaskInfo>, Status> {
        self.operator(&request)?;
        let (toml, file) = self.receive_task(request.into_inner()).await?;
        let name = self.registry.create(toml, file).await.map_err(status::rejected)?;
        self.task_info(&name).await.map(Response::new)
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        self.operator(&request)?;
        let mut tasks = Vec::new();
        for row in self.registry.services.store.tasks().await.map_err(status::store)? {
            tasks.push(self.describe(row).await);
        }
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<TaskInfo>, Status> {
        self.operator(&request)?;
        let name = task_name(&request.get_ref().name).map_err(status::rejected)?;
        self.task_info(&name).await.map(Response::new)
    }

    async fn control_task(&self, request: Request<ControlTaskRequest>) -> Result<Response<TaskInfo>, Status> {
        self.operator(&request)?;
        let name = task_name(&request.get_ref().name).map_err(status::rejected)?;
        let control = match request.get_ref().action.as_str() {
            "pause" => Control::Pause,
            "resume" => Control::Resume,
            "stop" => Control::Stop,
            _ => {
                let detail = "the action is pause, resume or stop";
                return Err(status::rejected(Reject::new(Reason::Malformed, detail)));
            }
        };
        let handle = self.registry.get(&name).map_err(status::rejected)?;
        handle.control(control).await.map_err(status::rejected)?;
        self.task_info(&name).await.map(Response::new)
    }

    async fn list_rounds(&self, request: Request<ListRoundsRequest>) -> Result<Response<ListRoundsResponse>, Status> {
        self.operator(&request)?;
        let message = request.get_ref();
        let name = task_name(&message.task).map_err(status::rejected)?;
        self.registry.get(&name).map_err(status::rejected)?;
        let limit = if message.limit == 0 { 50 } else { message.limit.min(1000) };
        let store = &self.registry.services.store;
        let rows = store.rounds(&name, message.before, limit as usize).await.map_err(status::store)?;
        let rounds = rows.into_iter().map(|row| self.round_info(row)).collect();
        Ok(Response::new(ListRoundsResponse { rounds }))
    }

    async fn get_round(&self, request: Request<GetRoundRequest>) -> Result<Response<RoundInfo>, Status> {
        self.operator(&request)?;
        let name = task_name(&request.get_ref().task).map_err(status::rejected)?;
        let row = self.registry.services.store.round(&name, request.get_ref().round).await.map_err(status::store)?;
        Ok(Response::new(self.round_info(row)))
    }

    type WatchRoundsStream = Pin<Box<dyn Stream<Item = Result<RoundInfo, Status>> + Send>>;

    async fn watch_rounds(
        &self,
        request: Request<WatchRoundsRequest>,
    ) -> Result<Response<Self::WatchRoundsStream>, Status> {
        self.operator(&request)?;
        let name = task_name(&request.get_ref().task).map_err(status::rejected)?;
        self.registry.get(&name).map_err(status::rejected)?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(self.clone().watch(name, request.get_ref().from, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        self.operator(&request)?;
        let message = request.get_ref();
        let task = match message.task.as_str() {
            "" => None,
            text => Some(task_name(text).map_err(status::rejected)?),
        };
        let limit = if message.limit == 0 { 1000 } else { message.limit.min(10_000) };
        let store = &self.registry.services.store;
        let rows = store.clients(task.as_ref(), limit as usize).await.map_err(status::store)?;
        Ok(Response::new(ListClientsResponse { clients: rows.into_iter().map(client_info).collect() }))
    }

    type GetModelStream = download::ChunkStream;

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Self::GetModelStream>, Status> {
        self.operator(&request)?;
        let message = request.get_ref();
        let name = task_name(&message.task).map_err(status::rejected)?;
        let store = &self.registry.services.store;
        let task = store.task(&name).await.map_err(status::store)?;
        let digest = match (message.initial, message.round) {
            (true, _) => task.initial,
            (false, 0) => task.model,
            (false, number) => {
                let round = store.round(&name, number).await.map_err(status::store)?;
                let unreleased =
                    || Reject::new(Reason::NotFound, format!("round {number} of {name} released no model"));
                round.model.ok_or_else(|| status::rejected(unreleased()))?
            }
        };
        let file = self.registry.services.blobs.get(&digest).await.map_err(status::blob)?;
        Ok(Response::new(download::chunks(file, &self.registry)))
    }

    async fn get_budget(&self, request: Request<GetBudgetRequest>) -> Result<Response<GetBudgetResponse>, Status> {
        self.operator(&request)?;
        budget::get(&*self.registry.services.store, request.get_ref()).await.map(Response::new)
    }

    async fn get_server(&self, request: Request<GetServerRequest>) -> Result<Response<ServerInfo>, Status> {
        self.operator(&request)?;
        let services = &self.registry.services;
        let config = &services.config;
        let (resident_bytes, peak_resident_bytes) = memory::resident();
        Ok(Response::new(ServerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at_ms: self.started_at,
            transport: config.transport().into(),
            spool: services.spool.describe(),
            store: services.store.describe(),
            upload_budget_bytes: config.limits.upload_memory_bytes,
            resident_bytes,
            peak_resident_bytes,
            warnings: warnings(config),
            server_key: self.server_key(),
        }))
    }
}

/// What an operator should know about a configuration that runs.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let mut list = Vec::new();
    if config.exposes_plaintext() {
        list.push(format!(
            "plaintext on {}: anybody on the network can read and change updates",
            config.listen.address
        ));
    }
    if config.transport() != "mtls" {
        list.push("clients are not authenticated: a client id is what the caller says it is".into());
    }
    if config.storage.spool == crate::config::Medium::Memory {
        list.push("the spool is in memory: a crash abandons the open round".into());
    }
    if config.storage.ledger == crate::config::Medium::Memory {
        list.push("the ledger is in memory: a restart forgets every task".into());
    }
    list
}

impl AdminService {
    fn operator<T>(&self, request: &Request<T>) -> Result<(), Status> {
        check_operator(request, &self.registry.services.config.access).map_err(status::rejected)
    }

    /// The public half of the key that signs what masked rounds announce.
    fn server_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.registry.services.identity.verifying_key().as_bytes())
    }

    async fn receive_task(&self, mut stream: Streaming<CreateTaskRequest>) -> Result<(String, Bytes), Status> {
        let malformed = |detail: &str| status::rejected(Reject::new(Reason::Malformed, detail));
        let Some(CreateTaskPart::Header(header)) = next_part(&mut stream).await? else {
            return Err(malformed("a task begins with its header"));
        };
        let CreateTaskHeader { toml, model_bytes, model_digest } = header;
        // One at a time, beside the budget of uploads: a slow operator must not hold up the clients.
        let Ok(_one) = self.registry.creating.acquire().await else { return Err(malformed("the server is stopping")) };
        let mut file = BytesMut::with_capacity(model_bytes.min(16 << 20) as usize);
        while let Some(part) = next_part(&mut stream).await? {
            let CreateTaskPart::Chunk(chunk) = part else { return Err(malformed("a second header")) };
            if file.len() as u64 + chunk.len() as u64 > model_bytes {
                return Err(status::rejected(Reject::new(Reason::Oversize, "more bytes than the header announced")));
            }
            file.extend_from_slice(&chunk);
        }
        let file = file.freeze();
        if file.len() as u64 != model_bytes {
            let detail = format!("{} of {model_bytes} bytes", file.len());
            return Err(status::rejected(Reject::new(Reason::Truncated, detail)));
        }
        let hashed = file.clone();
        let digest = tokio::task::spawn_blocking(move || Digest::of(&hashed)).await;
        if digest.ok() != Some(model_digest) {
            let detail = "the model's bytes do not have the announced digest";
            return Err(status::rejected(Reject::new(Reason::DigestMismatch, detail)));
        }
        Ok((toml, file))
    }

    async fn task_info(&self, name: &TaskName) -> Result<TaskInfo, Status> {
        let row = self.registry.services.store.task(name).await.map_err(status::store)?;
        Ok(self.describe(row).await)
    }

    async fn describe(&self, row: TaskRow) -> TaskInfo {
        let handle = self.registry.get(&row.name).ok();
        let spec = handle.as_ref().map(|handle| handle.spec.clone());
        let glance = match &handle {
            Some(handle) => handle.glance().await.unwrap_or_default(),
            None => Glance::default(),
        };
        let is_masked = spec.as_ref().is_some_and(|spec| spec.masking.is_some());
        let awaited = glance.awaited.map(|client| format!("waits for its reference client {client} to check in"));
        let exposed = spec.as_ref().is_some_and(|spec| self.registry.services.config.exposes_samples(spec));
        let awaited = awaited.or_else(|| exposed.then(|| format!("opens no round: {IMPOSTORS}")));
        let unregistered =
            glance.registered.filter(|(registered, least)| registered < least && row.state == TaskState::Running);
        let awaited = awaited.or_else(|| {
            unregistered.map(|(registered, least)| {
                format!("waits for clients to register: {registered} of the {least} that its first round needs")
            })
        });
        TaskInfo {
            server_key: if is_masked { self.server_key() } else { Bytes::new() },
            name: row.name.to_string(),
            state: row.state.word().into(),
            rounds: spec.as_ref().map_or(0, |spec| spec.rounds),
            released: row.released,
            abandoned: row.abandoned,
            current_round: row.last_round,
            rule: spec.as_ref().map(|spec| spec.rule_config.to_string()).unwrap_or_default(),
            model_digest: Bytes::copy_from_slice(row.model.as_bytes()),
            dimension: glance.dimension,
            created_at_ms: row.created_at,
            toml: row.toml,
            guarantees: spec.map(|spec| spec.guarantees.clone()).unwrap_or_default(),
            checked_in: glance.checked_in,
            why: if row.why.is_empty() { awaited.unwrap_or_default() } else { row.why },
            registered: glance.registered.map(|(registered, _)| registered),
        }
    }

    fn round_info(&self, mut row: RoundRow) -> RoundInfo {
        if row.secret {
            // Amplification is claimed because nobody learns this.
            (row.seats, row.selected, row.counts) = (Vec::new(), 0, Counts::default());
        }
        let spec = self.registry.get(&row.task).ok().map(|handle| handle.spec);
        let bytes = |digest: Digest| Bytes::copy_from_slice(digest.as_bytes());
        let private = spec.as_ref().is_some_and(|spec| spec.privacy.is_some());
        RoundInfo {
            task: row.task.to_string(),
            round: row.number,
            state: row.state.word().into(),
            why: row.why,
            base_digest: bytes(row.base),
            model_digest: row.model.map(bytes).unwrap_or_default(),
            opened_at_ms: row.opened_at,
            closes_at_ms: row.closes_at,
            ended_at_ms: row.ended_at.unwrap_or(0),
            rule: spec.as_ref().map(|spec| spec.rule_config.to_string()).unwrap_or_default(),
            // Whoever knows it before the end could choose what depends on it.
            seed: if is_over(row.state) { Bytes::copy_from_slice(&row.seed) } else { Bytes::new() },
            aggregate_norm: row.aggregate_norm.unwrap_or(0.0),
            clients: row.seats.into_iter().map(|seat| client_round(seat, private)).collect(),
            selected: row.selected,
            received: row.counts.received,
            accepted: row.counts.accepted,
            rejected: row.counts.rejected,
            dropouts: row.counts.dropouts,
            groups: row.groups,
            secret: row.secret,
            notes: row.notes.into_iter().map(|(name, value)| Note { name, value }).collect(),
            guarantees: spec.map(|spec| spec.guarantees.clone()).unwrap_or_default(),
        }
    }

    /// Sends ended rounds in order until the task ends or the caller hangs up.
    async fn watch(self, name: TaskName, from: u64, sender: mpsc::Sender<Result<RoundInfo, Status>>) {
        // Subscribed first, so that no round falls between the history and the news.
        let mut ended = self.registry.services.ended.subscribe();
        let mut next = if from == 0 { self.newest(&name).await + 1 } else { from };
        loop {
            match self.send_ended(&name, &mut next, &sender).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(status) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            }
            let news = tokio::select! {
                () = sender.closed() => return,
                () = self.registry.services.stop.cancelled() => return,
                news = tokio::time::timeout(Duration::from_secs(1), ended.recv()) => news,
            };
            if matches!(news, Ok(Err(RecvError::Closed))) {
                return;
            }
        }
    }

    /// Number of the newest ended round.
    async fn newest(&self, name: &TaskName) -> u64 {
        let Ok(rounds) = self.registry.services.store.rounds(name, 0, 2).await else { return 0 };
        rounds.iter().find(|round| is_over(round.state)).map_or(0, |round| round.number)
    }

    /// Sends what has ended since; `false` once nothing more can come.
    async fn send_ended(
        &self,
        name: &TaskName,
        next: &mut u64,
        sender: &mpsc::Sender<Result<RoundInfo, Status>>,
    ) -> Result<bool, Status> {
        let store = &self.registry.services.store;
        loop {
            let task = store.task(name).await.map_err(status::store)?;
            if *next > task.last_round {
                let more = matches!(task.state, TaskState::Running | TaskState::Paused);
                return Ok(more);
            }
            let row = store.round(name, *next).await.map_err(status::store)?;
            if !is_over(row.state) {
                return Ok(true);
            }
            if sender.send(Ok(self.round_info(row))).await.is_err() {
                return Ok(false);
            }
            *next += 1;
        }
    }
}

fn is_over(state: RoundState) -> bool {
    matches!(state, RoundState::Released | RoundState::Abandoned)
}

async fn next_part(stream: &mut Streaming<CreateTaskRequest>) -> Result<Option<CreateTaskPart>, Status> {
    let Ok(message) = tokio::time::timeout(IDLE, stream.message()).await else {
        return Err(status::rejected(Reject::new(Reason::TooSlow, "nothing for a minute")));
    };
    message?.map(CreateTaskPart::from_wire).transpose().map_err(status::rejected)
}

/// Of a private update not even the digest is shown: whoever guesses the update could tell that it was sent.
fn client_round(mut seat: SeatRow, private: bool) -> ClientRound {
    if private {
        seat.upload = None;
    }
    let (norm, num_examples, digest) = match &seat.upload {
        Some(upload) => (upload.norm, upload.examples, Bytes::copy_from_slice(upload.digest.as_bytes())),
        None => (0.0, 0, Bytes::new()),
    };
    ClientRound {
        client: seat.client.to_string(),
        verdict: Some(verdict_to_wire(&seat.verdict)),
        norm,
        num_examples,
        score: seat.score,
        weight: seat.weight,
        digest,
        detail: seat.detail,
    }
}

fn client_info(row: ClientRow) -> ClientInfo {
    ClientInfo {
        client: row.client.to_string(),
        first_seen_ms: row.first_seen,
        last_seen_ms: row.last_seen,
        uploads: row.counts.received,
        accepted: row.counts.accepted,
        rejected: row.counts.rejected,
        dropouts: row.counts.dropouts,
    }
}
