//! What the server's integration tests share: a running server, operators, honest clients and raw calls.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use bytes::Bytes;
use std::{
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use testudo_client::{Client, Identity, Retry, Round, Summary, TrainError, Trainer, Update};
use testudo_engine::TaskSpec;
use testudo_proto::{
    Answer, Assignment, CreateTaskHeader, CreateTaskPart, Place, UploadHeader, UploadPart, framing, from_status,
    layout_to_wire, v1,
    v1::{admin_client::AdminClient, federation_client::FederationClient},
};
use testudo_protocol::{ClientId, Digest, Model, Reason, TaskName, Tensor, Verdict};
use testudo_server::{Config, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

/// Longest any single wait of a test may take.
pub const LONGEST: Duration = Duration::from_secs(20);

/// The result of a future that must end soon.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LONGEST, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// A running server and an operator's connection to it.
pub struct Host {
    pub server: Server,
    pub url: String,
    pub channel: Channel,
    pub admin: AdminClient<Channel>,
}

impl Host {
    /// Everything in memory.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Everything in memory, with other settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::ephemeral();
        change(&mut config);
        Self::run(config).await
    }

    /// On disk.
    pub async fn on(directory: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = file_config(directory);
        change(&mut config);
        Self::run(config).await
    }

    pub async fn run(config: Config) -> Self {
        let server = within("the start", Server::start(config)).await.unwrap();
        let url = format!("http://{}", server.address());
        let channel = connect(&url).await;
        let admin = AdminClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        Self { server, url, channel, admin }
    }

    pub async fn stop(self) {
        drop((self.admin, self.channel));
        within("the stop", self.server.stop()).await;
    }

    /// A counter of the web page.
    pub async fn counter(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        line.trim().parse().unwrap()
    }

    /// The web page with the metrics.
    pub async fn metrics(&self) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.server.web_address().unwrap()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        within("the page", stream.read_to_string(&mut text)).await.unwrap();
        text
    }

    /// Calls of a client.
    pub fn federation(&self) -> FederationClient<Channel> {
        federation(self.channel.clone())
    }

    pub async fn create(&self, toml: &str, model: &Model) -> v1::TaskInfo {
        self.try_create(toml, model).await.unwrap()
    }

    pub async fn try_create(&self, toml: &str, model: &Model) -> Result<v1::TaskInfo, Status> {
        let file = Bytes::from(model.to_safetensors());
        let header =
            CreateTaskHeader { toml: toml.to_owned(), model_bytes: file.len() as u64, model_digest: Digest::of(&file) };
        let parts: Vec<_> = std::iter::once(CreateTaskPart::Header(header))
            .chain(framing::chunks(file, 1 << 20).map(CreateTaskPart::Chunk))
            .map(CreateTaskPart::to_wire)
            .collect();
        let call = self.admin.clone();
        let mut call = call;
        within("creating a task", call.create_task(tokio_stream::iter(parts))).await.map(|info| info.into_inner())
    }

    pub async fn task(&self, name: &str) -> v1::TaskInfo {
        let request = v1::GetTaskRequest { name: name.to_owned() };
        within("get_task", self.admin.clone().get_task(request)).await.unwrap().into_inner()
    }

    pub async fn control(&self, name: &str, action: &str) -> Result<v1::TaskInfo, Status> {
        let request = v1::ControlTaskRequest { name: name.to_owned(), action: action.to_owned() };
        within("control_task", self.admin.clone().control_task(request)).await.map(|info| info.into_inner())
    }

    pub async fn round(&self, task: &str, round: u64) -> v1::RoundInfo {
        let request = v1::GetRoundRequest { task: task.to_owned(), round };
        within("get_round", self.admin.clone().get_round(request)).await.unwrap().into_inner()
    }

    /// Waits until a round has ended and returns its record.
    pub async fn ended(&self, task: &str, round: u64) -> v1::RoundInfo {
        let request = v1::WatchRoundsRequest { task: task.to_owned(), from: round };
        let mut stream = within("watch_rounds", self.admin.clone().watch_rounds(request)).await.unwrap().into_inner();
        within("a round's end", stream.message()).await.unwrap().expect("the round ends")
    }

    /// The file of a released model; round 0 is the newest.
    pub async fn model_file(&self, task: &str, round: u64, initial: bool) -> Result<Vec<u8>, Status> {
        let request = v1::GetModelRequest { task: task.to_owned(), round, initial };
        let mut stream = within("get_model", self.admin.clone().get_model(request)).await?.into_inner();
        let mut file = Vec::new();
        while let Some(chunk) = within("a chunk of the model", stream.message()).await? {
            file.extend_from_slice(&chunk.data);
        }
        Ok(file)
    }

    pub async fn model(&self, task: &str) -> Model {
        Model::from_safetensors(&self.model_file(task, 0, false).await.unwrap()).unwrap()
    }

    /// Places in the task's next round for these clients, which check in together.
    pub async fn seats(&self, task: &str, clients: &[&str]) -> Vec<Seat> {
        let seats = clients.iter().map(|client| seat(self.federation(), task, client));
        within("check-ins", futures::future::join_all(seats)).await
    }

    /// Runs honest clients to the task's end.
    pub async fn run_clients(&self, task: &str, names: &[String]) -> Vec<Summary> {
        let runs = names.iter().map(|name| {
            let (url, task, name) = (self.url.clone(), task.to_owned(), name.clone());
            async move { client(&url, &name).await.run(task, Honest::new(&name)).await.unwrap() }
        });
        within("the clients' runs", futures::future::join_all(runs)).await
    }
}

/// A configuration with everything in a directory.
pub fn file_config(directory: &Path) -> Config {
    let mut config = Config::ephemeral();
    config.storage.data_dir = directory.to_path_buf();
    config.storage.spool = testudo_server::config::Medium::File;
    config.storage.ledger = testudo_server::config::Medium::File;
    config
}

pub async fn connect(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tcp_nodelay(true);
    within("connecting", endpoint.connect()).await.unwrap()
}

pub fn federation(channel: Channel) -> FederationClient<Channel> {
    // Hostile messages must not already stop at the sender.
    FederationClient::new(channel).max_encoding_message_size(256 << 20)
}

/// A task's text: `cohort`, `rule` and `rest` are lines of their tables and further tables.
pub fn task_toml(name: &str, rounds: u64, cohort: &str, rule: &str, rest: &str) -> String {
    format!(
        "name = {name:?}\nrounds = {rounds}\n[model]\ninitial = \"model.safetensors\"\n\
         [cohort]\n{cohort}\n[rule]\n{rule}\n{rest}"
    )
}

/// A model of two tensors with `rows * 4 + 4` coordinates.
pub fn small_model(rows: u64) -> Model {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![rows, 4] }, Tensor { name: "b".into(), shape: vec![4] }];
    let parameters = (0..rows * 4 + 4).map(|index| (index as f32 * 0.37).sin()).collect();
    Model::new(tensors, parameters).unwrap()
}

/// Client names `c00`, `c01` and so on.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("c{number:02}")).collect()
}

/// An honest update: a function of client, round and model alone.
pub fn honest_delta(client: &str, round: u64, model: &Model) -> Vec<f32> {
    let seed = client.bytes().fold(round.wrapping_mul(0x9e37_79b9_7f4a_7c15), |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut random = Random(seed);
    model.parameters().iter().map(|value| 0.1 * random.fraction() as f32 - 0.05 - 0.1 * value).collect()
}

/// How many examples an honest client claims.
pub fn honest_examples(client: &str) -> u64 {
    1 + client.bytes().map(u64::from).sum::<u64>() % 7
}

/// SplitMix64: seeded, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

pub fn quick_retry() -> Retry {
    Retry::default().first(Duration::from_millis(20)).longest(Duration::from_millis(200))
}

/// A client of the SDK.
pub async fn client(url: &str, name: &str) -> Client {
    Client::builder(url)
        .identity(Identity::named(name).unwrap())
        .retry(quick_retry())
        .check_in_wait(Duration::from_secs(10))
        .connect()
        .await
        .unwrap()
}

/// Trains deterministically and notes its verdicts.
#[derive(Clone)]
pub struct Honest {
    pub name: String,
    pub verdicts: Arc<Mutex<Vec<(u64, Verdict)>>>,
}

impl Honest {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), verdicts: Arc::default() }
    }
}

impl Trainer for Honest {
    async fn train(&mut self, round: &Round) -> Result<Update, TrainError> {
        let delta = honest_delta(&self.name, round.number(), round.model());
        Ok(Update::delta(delta).examples(honest_examples(&self.name)))
    }

    fn verdict(&mut self, round: u64, verdict: Verdict) {
        self.verdicts.lock().unwrap().push((round, verdict));
    }
}

/// One raw place in a round.
#[derive(Clone)]
pub struct Seat {
    pub assignment: Assignment,
    pub place: Place,
    pub stub: FederationClient<Channel>,
}

/// One check-in.
pub async fn check_in(
    stub: &FederationClient<Channel>,
    task: &str,
    client: &str,
    wait_ms: u32,
) -> Result<(Answer, Vec<v1::RoundVerdict>), Status> {
    let request = v1::CheckInRequest { task: task.to_owned(), client: client.to_owned(), wait_ms, verdicts_after: 0 };
    let response = within("a check-in", stub.clone().check_in(request)).await?.into_inner();
    Ok((Answer::from_wire(response.answer).unwrap(), response.verdicts))
}

/// Checks in until there is a place.
pub async fn seat(stub: FederationClient<Channel>, task: &str, client: &str) -> Seat {
    loop {
        match check_in(&stub, task, client, 10_000).await.unwrap().0 {
            Answer::Assignment(assignment) => {
                let place = Place {
                    task: TaskName::new(task).unwrap(),
                    round: assignment.round,
                    client: ClientId::new(client).unwrap(),
                    nonce: assignment.nonce,
                };
                return Seat { assignment: *assignment, place, stub };
            }
            Answer::NotNow { retry_after, .. } => tokio::time::sleep(retry_after).await,
            Answer::Ended { why } => panic!("{task} is over: {why:?}"),
        }
    }
}

impl Seat {
    /// The number of coordinates asked for.
    pub fn dimension(&self) -> usize {
        self.assignment.layout.dimension()
    }

    /// An honest payload.
    pub fn payload(&self) -> Bytes {
        framing::payload(&vec![0.25; self.dimension()])
    }

    /// The header of a payload, with nothing wrong.
    pub fn header(&self, payload: &Bytes) -> UploadHeader {
        UploadHeader {
            encoding: testudo_protocol::Encoding::F32,
            place: self.place.clone(),
            model_digest: self.assignment.model_digest,
            digest: Digest::of(payload),
            total_bytes: payload.len() as u64,
            offset: 0,
            num_examples: 5,
            tensors: layout_to_wire(&self.assignment.layout),
        }
    }

    /// The messages of an upload with a header changed at will.
    pub fn parts(&self, payload: &Bytes, change: impl FnOnce(&mut UploadHeader)) -> Vec<v1::UploadRequest> {
        let mut header = self.header(payload);
        change(&mut header);
        let rest = payload.slice((header.offset as usize).min(payload.len())..);
        std::iter::once(UploadPart::Header(Box::new(header)))
            .chain(framing::chunks(rest, 1 << 20).map(UploadPart::Chunk))
            .map(UploadPart::to_wire)
            .collect()
    }

    pub async fn send(&self, parts: Vec<v1::UploadRequest>) -> Result<v1::UploadReceipt, Status> {
        let mut stub = self.stub.clone();
        within("an upload", stub.upload(tokio_stream::iter(parts))).await.map(|receipt| receipt.into_inner())
    }

    /// Sends an honest update.
    pub async fn submit(&self) -> Result<v1::UploadReceipt, Status> {
        self.send(self.parts(&self.payload(), |_| {})).await
    }

    pub async fn status(&self, digest: Digest) -> Result<v1::UploadStatusResponse, Status> {
        let request = v1::UploadStatusRequest {
            place: Some(self.place.to_wire()),
            digest: Bytes::copy_from_slice(digest.as_bytes()),
        };
        within("an upload's status", self.stub.clone().upload_status(request)).await.map(|held| held.into_inner())
    }

    pub async fn withdraw(&self) -> Result<(), Status> {
        let request = Request::new(v1::WithdrawRequest { place: Some(self.place.to_wire()) });
        within("a withdrawal", self.stub.clone().withdraw(request)).await.map(|_| ())
    }

    /// The same place through another connection.
    pub fn through(&self, channel: Channel) -> Self {
        Self { stub: federation(channel), ..self.clone() }
    }
}

/// One value of the payload replaced.
pub fn with_value(seat: &Seat, value: f32, at: usize) -> Vec<v1::UploadRequest> {
    let mut delta = vec![0.25; seat.dimension()];
    delta[at] = value;
    seat.parts(&framing::payload(&delta), |_| {})
}

/// A piece of a payload as a message.
pub fn chunk(bytes: Bytes) -> v1::UploadRequest {
    v1::UploadRequest { part: Some(v1::upload_request::Part::Chunk(bytes)) }
}

/// An upload whose messages are sent one by one.
pub fn open_upload(
    seat: &Seat,
) -> (tokio::sync::mpsc::Sender<v1::UploadRequest>, tokio::task::JoinHandle<Result<v1::UploadReceipt, Status>>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let mut stub = seat.stub.clone();
    let call = tokio::spawn(async move {
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        stub.upload(stream).await.map(|receipt| receipt.into_inner())
    });
    (sender, call)
}

/// The reason code of a refusal.
#[track_caller]
pub fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> Reason {
    let status = result.expect_err("this must be refused");
    from_status(&status).unwrap_or_else(|| panic!("a status without a reason: {status:?}")).reason
}

/// A client's verdict in a round's record, as `accepted` or `rejected NON_FINITE`.
#[track_caller]
pub fn verdict(round: &v1::RoundInfo, client: &str) -> String {
    let row = round.clients.iter().find(|row| row.client == client);
    let verdict = row.and_then(|row| row.verdict.clone()).unwrap_or_else(|| panic!("no verdict on {client}"));
    format!("{} {}", verdict.kind, verdict.reason).trim().to_owned()
}

/// The state a server computes by itself, computed again.
pub struct Reference {
    pub spec: TaskSpec,
    pub model: Model,
    pub state: Vec<Vec<f32>>,
    /// The last aggregate.
    pub last: Vec<f32>,
    /// Per client the sum of its updates.
    pub history: std::collections::BTreeMap<String, Vec<f32>>,
    /// What the rule's last plan asked to remember.
    pub memory: Option<f64>,
}

impl Reference {
    pub fn new(toml: &str, model: Model) -> Self {
        let spec = TaskSpec::new("task.toml", toml).unwrap();
        let count = spec.optimizer.state_vectors();
        let state =
            (0..count).map(|at| vec![spec.optimizer.initial_state(at) as f32; model.parameters().len()]).collect();
        let last = vec![0.0; model.parameters().len()];
        Self { spec, model, state, last, history: std::collections::BTreeMap::new(), memory: None }
    }

    /// One round of honest updates by these clients.
    pub fn step(&mut self, round: u64, clients: &[String]) {
        let mut sorted = clients.to_vec();
        sorted.sort();
        let trusted = self.spec.reference.clone().map(|client| honest_delta(client.as_str(), round, &self.model));
        sorted.retain(|client| self.spec.reference.as_ref().is_none_or(|trusted| trusted.as_str() != client));
        let rows: Vec<Vec<f32>> = sorted.iter().map(|client| honest_delta(client, round, &self.model)).collect();
        let zero = vec![0.0; self.last.len()];
        let needs = self.spec.rule.needs().extras;
        let mut extras = Vec::new();
        extras.extend(needs.last_aggregate.then(|| self.last.clone()));
        extras.extend(trusted);
        if needs.history {
            extras.extend(sorted.iter().map(|client| self.history.get(client).unwrap_or(&zero).clone()));
            for (client, row) in sorted.iter().zip(&rows) {
                let sum = self.history.entry(client.clone()).or_insert_with(|| zero.clone());
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        let weights: Vec<f64> =
            sorted.iter().map(|client| honest_examples(client).min(self.spec.examples.max) as f64).collect();
        self.apply_with(&rows, &extras, self.spec.examples.weighted.then_some(&weights[..]));
    }

    /// One round of these rows.
    pub fn apply(&mut self, rows: &[Vec<f32>], weights: Option<&[f64]>) {
        self.apply_with(rows, &[], weights);
    }

    fn apply_with(&mut self, rows: &[Vec<f32>], extras: &[Vec<f32>], weights: Option<&[f64]>) {
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let extras: Vec<&[f32]> = extras.iter().map(Vec::as_slice).collect();
        let inputs = testudo_aggregate::Inputs {
            extras: &extras,
            weights,
            memory: self.memory,
            ..testudo_aggregate::Inputs::new(&slices)
        };
        let result = testudo_aggregate::aggregate_inputs(&*self.spec.rule, &inputs).unwrap();
        self.last.clone_from(&result.output);
        self.memory = result.memory;
        let mut parameters = self.model.parameters().to_vec();
        let mut state: Vec<&mut [f32]> = self.state.iter_mut().map(Vec::as_mut_slice).collect();
        self.spec.optimizer.apply_unit(&mut parameters, &result.output, &mut state).unwrap();
        self.model = self.model.with_parameters(parameters).unwrap();
    }
}
