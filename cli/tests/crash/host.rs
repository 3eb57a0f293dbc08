//! A server in a process of its own, and clients whose updates can be computed again.

use bytes::Bytes;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use testudo_client::{Client, Identity, Retry};
use testudo_proto::{CreateTaskHeader, CreateTaskPart, framing, v1, v1::admin_client::AdminClient};
use testudo_protocol::{Digest, Model, Tensor};
use tonic::transport::{Channel, Endpoint};

/// How the server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Kill,
    Terminate,
}

/// The server as a child process, always on the same port and directory.
pub(crate) struct Host {
    directory: PathBuf,
    port: u16,
    pub(crate) url: String,
    child: Option<Child>,
}

impl Host {
    pub(crate) fn new(directory: &Path) -> Self {
        // Below the range of source ports: a client that calls a stopped server could otherwise be given the very
        // port it calls, reach itself, and keep the server from listening again.
        let name = directory.to_string_lossy();
        let seed =
            name.bytes().fold(u64::from(std::process::id()), |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
        let mut random = Random(seed);
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = std::iter::repeat_with(|| 15_000 + random.below(15_000) as u16).find(free).unwrap();
        Self { directory: directory.to_path_buf(), port, url: format!("http://127.0.0.1:{port}"), child: None }
    }

    /// Starts a server without waiting for it.
    pub(crate) fn spawn(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        let listen = format!("127.0.0.1:{}", self.port);
        let child = Command::new(env!("CARGO_BIN_EXE_testudo"))
            .args(["serve", "--listen", &listen, "--web", "off", "--json", "--data-dir"])
            .arg(self.directory.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Starts a server and waits for the line that says it listens.
    pub(crate) fn start(&mut self) {
        self.spawn();
        let output = self.child.as_mut().unwrap().stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert!(line.contains(&self.port.to_string()), "the server does not start: {line:?}\n{}", self.log());
    }

    pub(crate) fn stop(&mut self, stop: Stop) {
        let mut child = self.child.take().unwrap();
        match stop {
            Stop::Kill => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Stop::Terminate => {
                let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
                assert!(sent.success());
                let begun = Instant::now();
                let status = loop {
                    if let Some(status) = child.try_wait().unwrap() {
                        break status;
                    }
                    if begun.elapsed() > Duration::from_secs(20) {
                        child.kill().unwrap();
                        panic!("the server does not stop\n{}", self.log());
                    }
                    std::thread::sleep(Duration::from_millis(10));
                };
                assert_eq!(status.code(), Some(0), "{status}\n{}", self.log());
            }
        }
    }

    /// The end of what the servers have logged.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap())
    }

    pub(crate) async fn create(&self, toml: &str, model: &Model) {
        let file = Bytes::from(model.to_safetensors());
        let (model_bytes, model_digest) = (file.len() as u64, Digest::of(&file));
        let header = CreateTaskPart::Header(CreateTaskHeader { toml: toml.to_owned(), model_bytes, model_digest });
        let parts: Vec<_> = std::iter::once(header)
            .chain(framing::chunks(file, 1 << 20).map(CreateTaskPart::Chunk))
            .map(CreateTaskPart::to_wire)
            .collect();
        self.admin().await.create_task(tokio_stream::iter(parts)).await.unwrap();
    }

    /// Waits for the task's end.
    pub(crate) async fn finished(&self, task: &str) -> v1::TaskInfo {
        let mut admin = self.admin().await;
        let watch = v1::WatchRoundsRequest { task: task.to_owned(), from: 1 };
        let mut rounds = admin.watch_rounds(watch).await.unwrap().into_inner();
        while rounds.message().await.unwrap().is_some() {}
        admin.get_task(v1::GetTaskRequest { name: task.to_owned() }).await.unwrap().into_inner()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) async fn session(url: &str, name: &str, task: &str) -> testudo_client::Session {
    let retry = Retry::default().first(Duration::from_millis(10)).longest(Duration::from_millis(100));
    let client = Client::builder(url).identity(Identity::named(name).unwrap()).retry(retry).connect_lazy().unwrap();
    client.join(task).await.unwrap()
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

pub(crate) fn toml(name: &str, rounds: u64, cohort: &str) -> String {
    format!(
        "name = {name:?}\nrounds = {rounds}\n[model]\ninitial = \"model.safetensors\"\n[cohort]\n{cohort}\n\
         [rule]\nkind = \"trimmed_mean\"\nbyzantine = 1\n"
    )
}

pub(crate) fn model(rows: u64) -> Model {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![rows, 4] }, Tensor { name: "b".into(), shape: vec![4] }];
    Model::new(tensors, (0..rows * 4 + 4).map(|at| (at % 97) as f32 * 0.01).collect()).unwrap()
}

/// A client's update: a function of its name, the round and the model.
pub(crate) fn delta(client: &str, round: u64, model: &Model) -> Vec<f32> {
    let seed = client.bytes().fold(round, |seed, byte| seed.wrapping_mul(1_000_003) ^ u64::from(byte));
    let mut random = Random(seed);
    model.parameters().iter().map(|value| (random.below(2001) as f32 - 1000.0) * 1e-4 - 0.05 * value).collect()
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }
}
