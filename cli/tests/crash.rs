//! `kill -9` and SIGTERM at random moments under twenty clients that reconnect by themselves.
//!
//! Every update is a function of client, round and model alone, so that the whole chain of models can be computed
//! again from the verdicts in the rounds' records and compared bit for bit with what the disturbed server released.
//! `TESTUDO_CRASH_CYCLES` (5 unless told) and `TESTUDO_CRASH_SEED` set the number of kills and their moments.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use testudo_client::{Client, Ended, Error, Identity, Retry, Update};
use testudo_engine::TaskSpec;
use testudo_proto::{CreateTaskHeader, CreateTaskPart, framing, v1, v1::admin_client::AdminClient};
use testudo_protocol::{Digest, Model, Tensor};
use tonic::transport::{Channel, Endpoint};

const CLIENTS: usize = 20;

/// How the server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Kill,
    Terminate,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_doubles_or_changes_an_acknowledged_update() {
    let cycles = env::var("TESTUDO_CRASH_CYCLES").map_or(5, |cycles| cycles.parse().unwrap());
    disturbed(Stop::Kill, cycles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_with_zero_and_loses_nothing() {
    disturbed(Stop::Terminate, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_every_phase_ends_with_zero_and_the_round_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::new(directory.path());
    // No task.
    host.start();
    host.stop(Stop::Terminate);
    // A task without clients.
    host.start();
    let toml = toml("phases", 1, "size = 3\nphase_limit_s = 20.0");
    host.create(&toml, &model(50)).await;
    host.stop(Stop::Terminate);
    // A client that waits.
    host.start();
    let waiting = session(&host.url, "c0", "phases");
    let (mut waiting, first) = within("a held check-in", async {
        let mut waiting = waiting.await;
        let next = tokio::time::timeout(Duration::from_millis(300), waiting.next_round()).await;
        assert!(next.is_err(), "alone there is no round");
        (waiting, session(&host.url, "c1", "phases").await)
    })
    .await;
    let (mut second, mut third) = (first, session(&host.url, "c2", "phases").await);
    host.stop(Stop::Terminate);
    // A round without updates, then with one, then with two: the same round each time.
    host.start();
    let rounds =
        within("the round", async { tokio::join!(waiting.next_round(), second.next_round(), third.next_round()) })
            .await;
    let rounds = [rounds.0, rounds.1, rounds.2].map(|round| round.unwrap().unwrap());
    for (round, name) in rounds.into_iter().zip(["c0", "c1", "c2"]) {
        host.stop(Stop::Terminate);
        host.start();
        assert_eq!(round.number(), 1);
        let update = Update::delta(delta(name, 1, round.model()));
        within("an upload", round.submit(update)).await.unwrap();
    }
    let task = within("the finish", host.finished("phases")).await;
    host.stop(Stop::Terminate);
    host.start();
    let task_again = within("the finish", host.finished("phases")).await;
    assert_eq!((task.released, task.abandoned, &task.model_digest), (1, 0, &task_again.model_digest));
    verify(&host, &toml, model(50), &Receipts::default()).await;
    host.stop(Stop::Terminate);
}

/// Runs two tasks with twenty clients while the server is stopped and started, then verifies all of it.
async fn disturbed(stop: Stop, cycles: u64) {
    let seed = env::var("TESTUDO_CRASH_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("{stop:?}: {cycles} cycles, seed {seed}");
    let begun = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::new(directory.path());
    let rounds = 6 * cycles + 10;
    let cohort = "size = 16\nover_selection = 1.25\nminimum = 8\nphase_limit_s = 5.0";
    // Updates of 80 kB lie in the spool, those of 1 kB in the ledger.
    let tasks = [(toml("spooled", rounds, cohort), model(5000)), (toml("inline", rounds, cohort), model(60))];
    host.start();
    for (toml, model) in &tasks {
        host.create(toml, model).await;
    }
    let receipts = Receipts::default();
    let clients: Vec<_> = (0..CLIENTS)
        .flat_map(|number| ["spooled", "inline"].map(|task| (format!("c{number:02}"), task)))
        .map(|(name, task)| tokio::spawn(participate(host.url.clone(), name, task, receipts.clone())))
        .collect();
    let mut random = Random(seed);
    let mut early = 0;
    for cycle in 0..cycles {
        let span = 30 + random.below(500);
        tokio::time::sleep(Duration::from_millis(span)).await;
        host.stop(stop);
        // Sometimes the next one dies before it is ready.
        if stop == Stop::Kill && cycle % 4 == 3 {
            host.spawn();
            tokio::time::sleep(Duration::from_millis(random.below(120))).await;
            host.stop(stop);
            early += 1;
        }
        host.start();
    }
    let left = Duration::from_secs(60 + 4 * cycles);
    for client in clients {
        let ended = tokio::time::timeout(left, client).await;
        let ended = ended.unwrap_or_else(|_| panic!("the tasks do not finish:\n{}", host.log())).unwrap();
        assert_eq!(ended, Ended::Finished);
    }
    for (toml, model) in tasks {
        let found = verify(&host, &toml, model, &receipts).await;
        println!("  {found}");
    }
    println!("  {cycles} stops while serving, {early} while starting, {:.1} s", begun.elapsed().as_secs_f64());
    host.stop(Stop::Terminate);
}

/// Acknowledged updates: task, round and client to digest.
type Receipts = Arc<Mutex<BTreeMap<(String, u64, String), Digest>>>;

/// One client from the first round to the task's end, whatever becomes of the server.
async fn participate(url: String, name: String, task: &'static str, receipts: Receipts) -> Ended {
    let mut session = session(&url, &name, task).await;
    loop {
        let round = match session.next_round().await {
            Ok(Some(round)) => round,
            Ok(None) => return session.ended().unwrap(),
            Err(error) => panic!("{name}: {error}"),
        };
        let number = round.number();
        let delta = delta(&name, number, round.model());
        // Training takes its time, and not the same for everyone.
        tokio::time::sleep(Duration::from_millis(20 + u64::from(name.as_bytes()[2]) * 7 % 60)).await;
        match round.submit(Update::delta(delta)).await {
            Ok(receipt) => {
                let key = (task.to_owned(), receipt.round, name.clone());
                let before = receipts.lock().unwrap().insert(key, receipt.digest);
                assert!(before.is_none_or(|before| before == receipt.digest), "{name}: two receipts in one round");
            }
            // The round ended while the server was away, or closed on its target.
            Err(Error::Rejected(_) | Error::GaveUp { .. }) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// Computes every released model again and compares; returns a line for people.
async fn verify(host: &Host, toml: &str, initial: Model, receipts: &Receipts) -> String {
    let spec = TaskSpec::new("task.toml", toml).unwrap();
    let task = within("the finish", host.finished(spec.name.as_str())).await;
    let mut admin = host.admin().await;
    let mut current = initial;
    let (mut released, mut survivors_in_all) = (0, 0);
    let receipts = receipts.lock().unwrap().clone();
    for number in 1..=task.current_round {
        let request = v1::GetRoundRequest { task: spec.name.to_string(), round: number };
        let round = admin.get_round(request).await.unwrap().into_inner();
        assert_eq!(round.round, number);
        assert_eq!(round.base_digest.as_ref(), current.digest().as_bytes(), "round {number} has another base");
        if round.state == "abandoned" {
            assert!(round.why.contains("too few updates"), "round {number}: {}", round.why);
            assert!(round.model_digest.is_empty());
            continue;
        }
        assert_eq!(round.state, "released", "round {number}");
        released += 1;
        let survivors: BTreeMap<&str, &v1::ClientRound> = round
            .clients
            .iter()
            .filter(|row| {
                let verdict = row.verdict.as_ref().unwrap();
                let by_rule = verdict.kind == "rejected" && verdict.reason == "NOT_SELECTED";
                assert!(by_rule || verdict.kind != "rejected", "round {number}: {verdict:?}");
                assert_ne!(verdict.kind, "pending", "round {number}");
                by_rule || verdict.kind != "dropout"
            })
            .map(|row| (row.client.as_str(), row))
            .collect();
        assert_eq!(survivors.len() as u64, round.received, "round {number}");
        for ((_, _, client), digest) in receipts.iter().filter(|((of, at, _), _)| *of == task.name && *at == number) {
            let row = survivors.get(client.as_str());
            let row = row.unwrap_or_else(|| panic!("round {number}: {client}'s acknowledged update is lost"));
            assert_eq!(row.digest.as_ref(), digest.as_bytes(), "round {number}: {client} has another update");
        }
        let rows: Vec<Vec<f32>> = survivors.keys().map(|client| delta(client, number, &current)).collect();
        for (row, (client, record)) in rows.iter().zip(&survivors) {
            let digest = Digest::of(&framing::payload(row));
            assert_eq!(record.digest.as_ref(), digest.as_bytes(), "round {number}: {client}");
        }
        survivors_in_all += rows.len();
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let aggregate = testudo_aggregate::aggregate(&*spec.rule, &slices, None, None).unwrap();
        let mut parameters = current.parameters().to_vec();
        spec.optimizer.apply_unit(&mut parameters, &aggregate.output, &mut []).unwrap();
        current = current.with_parameters(parameters).unwrap();
        assert_eq!(round.model_digest.as_ref(), current.digest().as_bytes(), "round {number} released another model");
    }
    assert_eq!((task.state.as_str(), released, task.released), ("finished", spec.rounds, spec.rounds));
    assert_eq!(task.abandoned, task.current_round - released);
    let request = v1::GetModelRequest { task: task.name.clone(), round: 0, initial: false };
    let mut stream = admin.get_model(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(chunk) = within("the model", stream.message()).await.unwrap() {
        file.extend_from_slice(&chunk.data);
    }
    assert_eq!(file, current.to_safetensors(), "the final model, bit for bit");
    let numbers: BTreeSet<u64> = receipts.keys().map(|(_, round, _)| *round).collect();
    assert!(numbers.iter().all(|number| *number <= task.current_round));
    let receipts = receipts.keys().filter(|(of, _, _)| *of == task.name).count();
    format!(
        "{}: {released} rounds released once each, {} abandoned, {survivors_in_all} survivors, {receipts} receipts, all in",
        task.name, task.abandoned
    )
}

/// The server as a child process, always on the same port and directory.
struct Host {
    directory: PathBuf,
    port: u16,
    url: String,
    child: Option<Child>,
}

impl Host {
    fn new(directory: &Path) -> Self {
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
    fn spawn(&mut self) {
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
    fn start(&mut self) {
        self.spawn();
        let output = self.child.as_mut().unwrap().stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert!(line.contains(&self.port.to_string()), "the server does not start: {line:?}\n{}", self.log());
    }

    fn stop(&mut self, stop: Stop) {
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
    fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap())
    }

    async fn create(&self, toml: &str, model: &Model) {
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
    async fn finished(&self, task: &str) -> v1::TaskInfo {
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

async fn session(url: &str, name: &str, task: &str) -> testudo_client::Session {
    let retry = Retry::default().first(Duration::from_millis(10)).longest(Duration::from_millis(100));
    let client = Client::builder(url).identity(Identity::named(name).unwrap()).retry(retry).connect_lazy().unwrap();
    client.join(task).await.unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

fn toml(name: &str, rounds: u64, cohort: &str) -> String {
    format!(
        "name = {name:?}\nrounds = {rounds}\n[model]\ninitial = \"model.safetensors\"\n[cohort]\n{cohort}\n\
         [rule]\nkind = \"trimmed_mean\"\nbyzantine = 1\n"
    )
}

fn model(rows: u64) -> Model {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![rows, 4] }, Tensor { name: "b".into(), shape: vec![4] }];
    Model::new(tensors, (0..rows * 4 + 4).map(|at| (at % 97) as f32 * 0.01).collect()).unwrap()
}

/// A client's update: a function of its name, the round and the model.
fn delta(client: &str, round: u64, model: &Model) -> Vec<f32> {
    let seed = client.bytes().fold(round, |seed, byte| seed.wrapping_mul(1_000_003) ^ u64::from(byte));
    let mut random = Random(seed);
    model.parameters().iter().map(|value| (random.below(2001) as f32 - 1000.0) * 1e-4 - 0.05 * value).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }
}
