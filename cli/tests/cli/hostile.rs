//! Operator commands against a server that lies, swears or falls silent.

use crate::common::{expect, json, testudo, text};
use bytes::Bytes;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    pin::Pin,
    process::{Command, Stdio},
    time::Duration,
};
use testudo_proto::{
    fault, to_status,
    v1::{
        self, ClientRound, RoundInfo, TaskInfo,
        admin_server::{Admin, AdminServer},
    },
};
use testudo_protocol::{Digest, Reason, Reject};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2Jx\r\nFAKE LINE\u{9b}31m\u{202e}";
const MODEL: &[u8] = b"the released model";

/// Answers by the task's name.
struct Liar;

fn task(name: &str) -> TaskInfo {
    TaskInfo {
        name: name.into(),
        state: EVIL.into(),
        rule: EVIL.into(),
        toml: format!("name = \"{EVIL}\""),
        guarantees: vec![EVIL.into()],
        why: EVIL.into(),
        model_digest: Bytes::copy_from_slice(Digest::of(MODEL).as_bytes()),
        dimension: u64::MAX,
        created_at_ms: u64::MAX,
        ..Default::default()
    }
}

fn round(task: &str, round: u64) -> RoundInfo {
    let digest = if task == "liar" { Digest::of(b"another model") } else { Digest::of(MODEL) };
    let verdict = v1::Verdict { kind: "rejected".into(), reason: EVIL.into(), value: f64::NAN };
    let client = ClientRound {
        client: EVIL.into(),
        verdict: Some(verdict),
        detail: EVIL.into(),
        score: Some(f64::INFINITY),
        ..Default::default()
    };
    let nobody = ClientRound::default();
    RoundInfo {
        task: EVIL.into(),
        round,
        state: "released".into(),
        why: EVIL.into(),
        rule: EVIL.into(),
        model_digest: Bytes::copy_from_slice(if task == "short" { &[7] } else { digest.as_bytes() }),
        clients: vec![client, nobody],
        opened_at_ms: u64::MAX,
        ended_at_ms: 1,
        aggregate_norm: f64::NAN,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Admin for Liar {
    type WatchRoundsStream = Items<RoundInfo>;
    type GetModelStream = Items<v1::Chunk>;

    async fn create_task(&self, _: Request<Streaming<v1::CreateTaskRequest>>) -> Answer<TaskInfo> {
        Err(to_status(&Reject::retry(Reason::Overloaded, EVIL, Duration::from_secs(7))))
    }

    async fn list_tasks(&self, _: Request<v1::ListTasksRequest>) -> Answer<v1::ListTasksResponse> {
        Ok(Response::new(v1::ListTasksResponse { tasks: vec![task(EVIL)] }))
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<TaskInfo> {
        match request.get_ref().name.as_str() {
            "silent" => std::future::pending().await,
            "faulty" => Err(fault(EVIL)),
            "forbidden" => Err(Status::permission_denied(EVIL)),
            "stranger" => Err(Status::unauthenticated(EVIL)),
            "odd" => Err(Status::new(tonic::Code::Internal, EVIL)),
            name => Ok(Response::new(task(name))),
        }
    }

    async fn control_task(&self, _: Request<v1::ControlTaskRequest>) -> Answer<TaskInfo> {
        Err(to_status(&Reject::new(Reason::WrongState, EVIL)))
    }

    async fn list_rounds(&self, request: Request<v1::ListRoundsRequest>) -> Answer<v1::ListRoundsResponse> {
        let task = &request.get_ref().task;
        let mut newest = round(task, 3);
        if task == "looping" {
            newest.state = "abandoned".into();
        }
        Ok(Response::new(v1::ListRoundsResponse { rounds: vec![newest] }))
    }

    async fn get_round(&self, request: Request<v1::GetRoundRequest>) -> Answer<RoundInfo> {
        Ok(Response::new(round(&request.get_ref().task, request.get_ref().round)))
    }

    async fn watch_rounds(&self, request: Request<v1::WatchRoundsRequest>) -> Answer<Self::WatchRoundsStream> {
        use tokio_stream::StreamExt as _;
        let task = request.into_inner().task;
        let first = tokio_stream::once(Ok(round(&task, 3)));
        match task.as_str() {
            "broken" => Ok(Response::new(Box::pin(first.chain(tokio_stream::once(Err(fault("restarting"))))))),
            "endless" => Ok(Response::new(Box::pin(first.chain(tokio_stream::pending())))),
            _ => Ok(Response::new(Box::pin(first))),
        }
    }

    async fn list_clients(&self, _: Request<v1::ListClientsRequest>) -> Answer<v1::ListClientsResponse> {
        let client = v1::ClientInfo { client: EVIL.into(), ..Default::default() };
        Ok(Response::new(v1::ListClientsResponse { clients: vec![client] }))
    }

    async fn get_model(&self, _: Request<v1::GetModelRequest>) -> Answer<Self::GetModelStream> {
        let chunks: Vec<_> = MODEL.chunks(5).map(|data| Ok(v1::Chunk { data: Bytes::copy_from_slice(data) })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn get_budget(&self, request: Request<v1::GetBudgetRequest>) -> Answer<v1::GetBudgetResponse> {
        let asked = request.get_ref().population.as_str();
        let charge = v1::Charge {
            adjacency: "zero_out".into(),
            mechanism: Some(v1::charge::Mechanism::Correlated(v1::charge::Correlated {
                rounds: u64::MAX,
                participations: u32::MAX,
                separation: u64::MAX,
            })),
            sigma_grid: 1,
            sensitivity_grid: 1 << 36,
            releases: u32::MAX,
            ..Default::default()
        };
        let plan = v1::BudgetPlan {
            task: "a".into(),
            state: "running".into(),
            clip: Some(f64::NAN),
            grid_bits: Some(u32::MAX),
            adaptive_clip: false,
            mechanism: String::new(),
            charge: Some(charge.clone()),
            releases: u32::MAX,
            charged: u64::MAX,
            released: u64::MAX,
            reserved: u64::MAX,
            most_updates: Some(u64::MAX),
        };
        let entry = v1::BudgetCharge {
            index: if asked == "gaps" { 7 } else { 0 },
            previous: Bytes::from_static(&[0; 32]),
            task: EVIL.into(),
            round: u64::MAX,
            charge: Some(charge),
            release: Bytes::new(),
            hash: Bytes::from_static(&[0; 32]),
        };
        let budget = v1::Budget {
            population: EVIL.into(),
            epsilon_limit: 2.0,
            delta: if asked == "no-number" { f64::NAN } else { 1e-6 },
            limit_units: i64::MAX,
            spent_units: i64::MAX,
            reserved_units: if asked == "negative" { -1 } else { i64::MAX },
            planned_units: i64::MAX,
            head_index: Some(if asked == "endless" { u64::MAX } else { 0 }),
            head_hash: Bytes::from_static(&[0; 32]),
            plans: vec![plan],
            charges: if asked == "none" { vec![] } else { vec![entry] },
            ..Default::default()
        };
        Ok(Response::new(v1::GetBudgetResponse { budgets: vec![budget] }))
    }

    async fn get_server(&self, _: Request<v1::GetServerRequest>) -> Answer<v1::ServerInfo> {
        let warnings = vec![EVIL.into()];
        Ok(Response::new(v1::ServerInfo { version: "99".into(), warnings, ..Default::default() }))
    }
}

/// Starts the liar for the rest of the test run; its address.
fn liar() -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(AdminServer::new(Liar))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    });
    format!("http://{}", receiver.recv().unwrap())
}

#[test]
fn nothing_a_server_sends_steers_the_terminal_or_fakes_a_line() {
    let server = liar();
    let folder = tempfile::tempdir().unwrap();
    expect(0, &["init", "--dir", text(folder.path())]);
    let task = folder.path().join("task.toml");
    for (code, words) in [
        (0, &["task", "list"][..]),
        (0, &["task", "show", "a"]),
        (0, &["task", "show", "a", "--toml"]),
        (9, &["task", "pause", "a"]),
        (12, &["task", "create", text(&task)]),
        (10, &["task", "show", "faulty"]),
        (0, &["round", "list", "a"]),
        (0, &["round", "show", "a", "3"]),
        (0, &["round", "watch", "a"]),
        (0, &["client", "list"]),
        (0, &["privacy", "show"]),
    ] {
        let words = [words, &["--server", &server]].concat();
        for words in [words.clone(), [&words[..], &["--json"]].concat()] {
            if words.contains(&"--toml") && words.contains(&"--json") {
                continue;
            }
            let (stdout, stderr) = expect(code, &words);
            for text in [&stdout, &stderr] {
                let bad = text.chars().find(|letter| letter.is_control() && *letter != '\n' || *letter == '\u{202e}');
                assert_eq!(bad, None, "{words:?}: {text:?}");
                let fakes = text.lines().any(|line| line.starts_with("FAKE LINE"));
                assert!(!fakes || words.contains(&"--toml"), "{words:?}: {text:?}");
            }
        }
    }
    // JSON still tells programs exactly what was sent.
    assert_eq!(json(0, &["client", "list", "--server", &server])["clients"][0]["client"], EVIL);
}

#[test]
fn a_model_with_another_digest_is_exit_7_and_leaves_no_file() {
    let server = liar();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let get = |task: &'static str, code| json(code, &["model", "get", task, "--out", text(&out), "--server", &server]);
    assert_eq!(get("liar", 7)["error"]["code"], "VERIFICATION");
    get("short", 7);
    get("looping", 6);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(get("honest", 0)["round"], 3);
    assert_eq!(fs::read(&out).unwrap(), MODEL);
}

#[test]
fn budgets_that_no_server_of_ours_sends_are_exit_7() {
    let server = liar();
    for population in ["no-number", "negative", "endless", "none", "gaps"] {
        json(7, &["privacy", "show", "--population", population, "--server", &server]);
    }
    // What can be shown cannot be verified.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("budgets.json");
    fs::write(&file, json(0, &["privacy", "show", "--server", &server]).to_string()).unwrap();
    json(7, &["privacy", "verify-ledger", text(&file)]);
}

#[test]
fn refusals_have_the_documented_exit_codes() {
    let server = liar();
    for (task, code) in [("faulty", 10), ("forbidden", 5), ("stranger", 4), ("odd", 1)] {
        assert_eq!(json(code, &["task", "show", task, "--server", &server])["error"]["exit"], code);
    }
    let (_, stderr) = expect(10, &["task", "show", "silent", "--server", &server, "--timeout", "0.3"]);
    assert!(stderr.contains("silent for 0.3 s") && stderr.contains("--timeout"), "{stderr}");
    let folder = tempfile::tempdir().unwrap();
    expect(0, &["init", "--dir", text(folder.path())]);
    let (_, stderr) = expect(12, &["task", "create", text(&folder.path().join("task.toml")), "--server", &server]);
    assert!(stderr.contains("try again in 7 s"), "{stderr}");
}

#[test]
fn a_watch_that_breaks_says_where_to_go_on() {
    let (stdout, stderr) = expect(10, &["round", "watch", "broken", "--server", &liar()]);
    assert_eq!(stdout.lines().count(), 1);
    assert!(stderr.contains("--from 4"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn watching_ends_at_a_signal_with_its_code() {
    let server = liar();
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut watching = testudo(&["round", "watch", "endless", "--server", &server])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // After the first line the handler stands.
        let mut stdout = BufReader::new(watching.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        Command::new("kill").args([name, &watching.id().to_string()]).status().unwrap();
        assert_eq!(watching.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let server = liar();
    let mut watching = testudo(&["round", "watch", "a", "--server", &server])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(watching.stdout.take());
    let output = watching.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn doctor_shows_what_the_running_server_warns_of() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.toml");
    let data = folder.path().join("data");
    fs::write(
        &config,
        format!("[listen]\naddress = \"127.0.0.1:0\"\nweb = \"127.0.0.1:0\"\n[storage]\ndata_dir = {data:?}\n"),
    )
    .unwrap();
    let object = json(0, &["doctor", "--config", text(&config), "--server", &liar()]);
    let checks = object["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "version" && check["state"] == "warning"), "{object}");
    assert!(checks.iter().any(|check| check["detail"] == EVIL), "{object}");
    let object = json(3, &["doctor", "--config", text(&config), "--server", "http://127.0.0.1:9"]);
    assert_eq!(object["failed"], 1);
}
