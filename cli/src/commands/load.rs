//! `testudo load`: a load generator for operators.

pub(crate) mod operator;
pub(crate) mod rule;
pub(crate) mod sdk;

mod child;
mod cpu;
mod departures;
mod fleet;
mod lean;
mod masking;
mod outcome;
mod task;
mod updates;

use crate::{
    exit::{Exit, Failure},
    output::Output,
};
use child::ServerChild;
use clap::{Args, ValueEnum};
use departures::Departures;
use fleet::{Ended, Fleet, FleetPlan, Log, TENSOR};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use masking::Masked;
use operator::{Certificates, Operator, Rounds};
use outcome::{Cost, Outcome};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use testudo_aggregate::RuleConfig;
use testudo_proto::v1::RoundInfo;
use testudo_protocol::{Model, TaskName, Tensor};
use tokio::{sync::watch, task::JoinSet};

/// Most coordinates of a model: 4 GiB of f32.
const MOST_COORDINATES: u64 = 1 << 30;
/// Most seconds a load test may take.
const LONGEST_S: f64 = 86_400.0;
/// Rounds given up after which going on tells nothing new.
const ABANDONED: u64 = 3;
/// How long clients may take to notice that the task has ended.
const FAREWELL: Duration = Duration::from_secs(10);

/// `testudo load`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every client sends an update of its own, made before the first round, so that the figures are the server's.
Without --server, a server is started as another process and thrown away afterwards.
Seconds per round are the server's: from the moment a round opens, with all clients there, to its release.
client_cpu_seconds is the processor time of this process, in which all clients live, per client and round;
bytes_up_per_client and bytes_down_per_client are payload (models, updates, messages of masked rounds) per client and
round, without what the protocol around them adds.
With --dropout, a round lasts as long as the limits of the steps that somebody vanishes in (--step-limit, printed as
step_limit_seconds): seconds per round then measure these limits, and client_cpu_seconds the work.
Exit code 11: some clients failed, or rounds were abandoned. A lost group is neither.

Examples:
  testudo load --clients 16 --dimension 1000000 --rounds 10 --rule mean
  testudo load --clients 100 --dimension 100000 --rule krum --byzantine 10 --json
  testudo load --clients 200 --dimension 5000000 --rounds 1 --rule trimmed_mean --spool file
  testudo load --clients 64 --rounds 3 --masking pairwise --group-size 16 --dropout 0.1 --json
  testudo load --server http://127.0.0.1:8443 --clients 50
  testudo load --server https://fl.example.org:8443 --ca ca.pem --cert me.pem --key me.key --client-certs devices")]
pub(crate) struct Load {
    /// Clients, each with its own identity
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Coordinates of the model and of every update
    #[arg(long, value_name = "D", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=MOST_COORDINATES))]
    dimension: u64,
    /// Rounds to measure
    #[arg(long, value_name = "R", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rounds: u64,
    /// Rule: a kind, or TOML as in task.toml
    #[arg(long, value_name = "KIND|TOML", default_value = "mean")]
    rule: String,
    /// Bad clients the rule tolerates; without it a fifth of the rows: of the clients, or of the groups
    #[arg(long, value_name = "F")]
    byzantine: Option<usize>,
    /// A running server instead of one of its own: http://HOST:PORT, or https://HOST:PORT with --ca
    #[arg(long, value_name = "URL", conflicts_with = "spool")]
    server: Option<String>,
    /// Authority of the server's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
    /// This operator's certificate, PEM
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Folder with a certificate for each client: NAME.pem with NAME.key. Under mTLS a client is who its certificate
    /// says, so one for all will not do
    #[arg(long, value_name = "DIR", requires = "ca", conflicts_with = "connections")]
    client_certs: Option<PathBuf>,
    /// Where the server started here keeps updates (and its ledger); memory unless told
    #[arg(long, value_enum)]
    spool: Option<Spool>,
    /// Connections that the clients share; one each unless told, as far as `ulimit -n` allows
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Clients read models without checking or keeping them: the machine then works for the server alone. So do those
    /// that could not hold them together (over 1 GiB), except masked ones
    #[arg(long)]
    lean: bool,
    /// Longest time for everything, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    timeout: f64,
    /// What the updates are made from, and who vanishes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    masking: masking::Options,
}

/// What was asked for, checked.
#[derive(Debug)]
struct Asked {
    rule: RuleConfig,
    masked: Option<Masked>,
}

/// Where a server keeps updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Spool {
    /// Gone with the process
    Memory,
    /// Survives a crash: every update is synced to disk
    File,
}

impl Spool {
    fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
        }
    }
}

impl Load {
    /// Runs the load test.
    ///
    /// # Errors
    /// Impossible options, a server that does not start, the time limit, failed clients or rounds.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let asked = self.check()?;
        let limit = Duration::from_secs_f64(self.timeout);
        match tokio::time::timeout(limit, self.measure(&asked, output)).await {
            Ok(result) => result,
            Err(_) => {
                let why = format!("not done within {} s", self.timeout);
                Err(Failure::new(Exit::Unavailable, "the load test was stopped", why)
                    .next("give it longer with --timeout SECONDS, or less to do"))
            }
        }
    }

    fn check(&self) -> Result<Asked, Failure> {
        if !(self.timeout.is_finite() && self.timeout > 0.0 && self.timeout <= LONGEST_S) {
            let why = format!("--timeout {} is not from above 0 to {LONGEST_S} seconds", self.timeout);
            return Err(Failure::new(Exit::Usage, "cannot measure", why));
        }
        let clients = self.clients as usize;
        let masked = self.masking.check(clients, self.dimension, Duration::from_secs_f64(self.timeout))?;
        if masked.is_some() && self.lean {
            let why = "--lean clients send what they were given, but --masking pairwise needs clients that mask";
            return Err(Failure::new(Exit::Usage, "cannot measure", why).next("remove --lean or --masking"));
        }
        let rows = masked.as_ref().map_or(clients, |masked| clients / masked.group_size);
        let (rows, what) = (rows, if masked.is_some() { "groups" } else { "clients" });
        let rule = rule::parse_for(&self.rule, self.byzantine.unwrap_or(rows / 5), rows, what)?;
        Ok(Asked { rule, masked })
    }

    async fn measure(&self, asked: &Asked, output: &Output) -> Result<(), Failure> {
        let connections = fleet::connections(self.clients as usize, self.connections.map(|count| count as usize))?;
        let mut child = match &self.server {
            Some(_) => None,
            None => Some(ServerChild::start(self.spool.unwrap_or(Spool::Memory)).await?),
        };
        let server = match (&self.server, &child) {
            (Some(server), _) => server.clone(),
            (None, Some(child)) => child.url(),
            (None, None) => return Err(Failure::new(Exit::Internal, "cannot measure", "no server")),
        };
        let measured = self.on(&server, asked, connections, output).await;
        let measured = measured.map_err(|mut failure| {
            if let Some(fault) = child.as_mut().and_then(ServerChild::fault) {
                failure.why = format!("{}\n{fault}", failure.why);
            }
            failure
        });
        if let Some(child) = child {
            child.stop().await;
        }
        measured?.report(output)
    }

    /// Everything on a server that runs.
    async fn on(&self, server: &str, asked: &Asked, connections: usize, output: &Output) -> Result<Outcome, Failure> {
        let bar = progress(output, self.rounds);
        let own = self.cert.clone().zip(self.key.clone());
        let operator = Operator::connect(server, &Certificates { ca: self.ca.clone(), own }).await?;
        let certificates = match &self.client_certs {
            Some(folder) => fleet::certificates(folder, self.clients as usize)?,
            None => Vec::new(),
        };
        let task = task_name()?;
        let described = self.describe(&task, asked, output)?;
        let departures = asked.masked.as_ref().map(|masked| {
            (masked.group_size, Arc::new(Departures::new(self.seed, self.clients as usize, masked.dropout)))
        });
        let plan = FleetPlan {
            server: server.into(),
            ca: self.ca.clone(),
            certificates,
            task: task.clone(),
            clients: self.clients as usize,
            connections,
            dimension: self.dimension as usize,
            seed: self.seed,
            lean: self.lean,
            masked: departures,
        };
        bar.set_message("connecting");
        let fleet = Fleet::connect(&plan).await?;
        let lean = fleet.is_lean();
        operator.create(described, &model(self.dimension)?).await?;
        let mut rounds = operator.watch(task.as_str()).await?;
        bar.set_message("");
        let log = Arc::new(Log::default());
        let (tell, told) = watch::channel(Ended::default());
        let counted = fleet.counted();
        let (started, before) = (Instant::now(), cpu::used());
        let mut clients = fleet.start(&log, &told);
        let ended = self.follow(&operator, &task, &mut rounds, &mut clients, &tell, &bar).await?;
        let wall_seconds = started.elapsed().as_secs_f64();
        // Clients that wait for a round's end learn that none follows.
        drop(tell);
        farewell(&mut clients).await;
        let cpu = cpu::used().zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
        let cost = Cost::new(cpu, &counted, log.traffic(), self.clients, ended.len());
        bar.finish_and_clear();
        let info = operator.server().await?;
        let (failures, errors) = log.failures();
        Ok(Outcome {
            clients: self.clients,
            dimension: self.dimension,
            rule: asked.rule.clone(),
            masked: asked.masked.clone(),
            vanished: log.departures(),
            cost,
            connections,
            lean,
            spool: info.spool,
            ended,
            client_seconds_per_round: log.seconds(),
            wall_seconds,
            server_peak_rss_bytes: info.peak_resident_bytes,
            client_failures: failures,
            errors,
        })
    }

    /// Waits for the rounds; stops the task when going on is pointless.
    async fn follow(
        &self,
        operator: &Operator,
        task: &TaskName,
        rounds: &mut Rounds,
        clients: &mut JoinSet<()>,
        tell: &watch::Sender<Ended>,
        bar: &ProgressBar,
    ) -> Result<Vec<RoundInfo>, Failure> {
        let mut ended: Vec<RoundInfo> = Vec::new();
        let mut stopped = false;
        loop {
            let pointless = ended.iter().filter(|round| round.state == "abandoned").count() as u64 >= ABANDONED
                || ended.iter().filter(|round| round.state == "released").count() as u64 + 1 < self.rounds
                    && clients.is_empty();
            if pointless && !stopped {
                stopped = true;
                operator.stop(task.as_str()).await?;
            }
            tokio::select! {
                round = rounds.next() => match round? {
                    None => return Ok(ended),
                    Some(mut round) => {
                        round.clients = Vec::new();
                        tell.send_replace(Ended { round: round.round, is_abandoned: round.state == "abandoned" });
                        bar.inc(u64::from(round.state == "released"));
                        ended.push(round);
                    }
                },
                Some(client) = clients.join_next(), if !clients.is_empty() => {
                    client.map_err(|error| Failure::new(Exit::Internal, "a client broke", error.to_string()))?;
                }
            }
        }
    }

    /// The task's description; tells on standard error what its combination cannot promise.
    fn describe(&self, task: &TaskName, asked: &Asked, output: &Output) -> Result<String, Failure> {
        let facts = task::Facts {
            name: task,
            rounds: self.rounds,
            clients: self.clients,
            phase_limit_s: self.timeout.max(1.0),
            rule: &asked.rule,
            masked: asked.masked.as_ref(),
        };
        let described = facts.describe()?;
        for weakness in &described.weaknesses {
            output.note(&format!("note: a weak guarantee, accepted because this is a load test: {weakness}"));
        }
        Ok(described.toml)
    }
}

/// Clients learn of the end with their next check-in, which is held: that is at once.
async fn farewell(clients: &mut JoinSet<()>) {
    let all = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        clients.abort_all();
    }
}

/// A name that no other task of the server has.
fn task_name() -> Result<TaskName, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    TaskName::new(format!("load-{now:x}"))
        .map_err(|error| Failure::new(Exit::Internal, "cannot name the task", error.to_string()))
}

fn model(dimension: u64) -> Result<Model, Failure> {
    let tensor = Tensor { name: TENSOR.into(), shape: vec![dimension] };
    Model::new(vec![tensor], vec![0.0; dimension as usize])
        .map_err(|error| Failure::new(Exit::Usage, "cannot make the model", error.to_string()))
}

fn progress(output: &Output, rounds: u64) -> ProgressBar {
    let target = if output.watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {elapsed} {msg}");
    let bar = ProgressBar::with_draw_target(Some(rounds), target).with_prefix("rounds");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
