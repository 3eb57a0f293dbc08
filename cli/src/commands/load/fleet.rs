//! The clients of a load test.

use super::{departures::Departures, lean, operator, sdk, updates::Updates};
use crate::exit::{Exit, Failure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use testudo_client::{Channel, Client, Error, Identity, Policy, Reason, Retry, Round, Traffic, Update};
use testudo_proto::framing;
use testudo_protocol::{ClientId, Digest, TaskName};
use tokio::{sync::watch, task::JoinSet};

/// From this many bytes of models on (clients x model), clients read models without keeping them.
const KEPT_MODELS_BYTES: u64 = 1 << 30;
/// Connections being made at the same time.
const CONNECTING: usize = 64;
/// Files a process needs besides its connections.
const SPARE_FILES: usize = 64;
/// Clients on one connection: each holds a check-in, and the server allows 64 calls at once by default.
const CLIENTS_PER_CONNECTION: usize = 48;
/// How long a client waits for a server that went away.
const GIVE_UP: Duration = Duration::from_secs(30);
/// Different errors kept.
const ERRORS: usize = 5;

/// What a fleet is made from.
#[derive(Debug, Clone)]
pub(super) struct FleetPlan {
    pub(super) server: String,
    pub(super) ca: Option<PathBuf>,
    /// Certificate and key of each client; none where clients name themselves.
    pub(super) certificates: Vec<(PathBuf, PathBuf)>,
    pub(super) task: TaskName,
    pub(super) clients: usize,
    pub(super) connections: usize,
    pub(super) dimension: usize,
    pub(super) seed: u64,
    /// Whether clients read models without keeping them even if they could.
    pub(super) lean: bool,
    /// Smallest group and who vanishes, in masked rounds.
    pub(super) masked: Option<(usize, Arc<Departures>)>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Log {
    seen: Mutex<Seen>,
    up: AtomicU64,
    down: AtomicU64,
    vanished: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    /// When the first client was given each round.
    first: BTreeMap<u64, Instant>,
    /// When the last receipt of each round came.
    last: BTreeMap<u64, Instant>,
    failures: u64,
    errors: Vec<String>,
}

/// Clients that are connected and know what to send.
#[derive(Debug)]
pub(super) struct Fleet {
    members: Vec<Member>,
    masked: Option<Arc<Departures>>,
    task: TaskName,
    tensors: Vec<(String, String, Vec<u64>)>,
}

#[derive(Debug)]
struct Member {
    kind: Kind,
    payload: bytes::Bytes,
    digest: Digest,
}

#[derive(Debug)]
enum Kind {
    /// A client as a device embeds it.
    Sdk(Client),
    /// One that reads the model without keeping it.
    Lean(ClientId, Channel),
}

/// Name of the one tensor.
pub(super) const TENSOR: &str = "parameters";

/// How many connections to use: as many as asked for, else one per client as far as the system allows.
///
/// # Errors
/// More than the system or the server allows, with what to do.
pub(super) fn connections(clients: usize, asked: Option<usize>) -> Result<usize, Failure> {
    let files = open_files();
    let most = files.map_or(clients, |files| files.saturating_sub(SPARE_FILES)).min(clients).max(1);
    let chosen = asked.map_or(most, |asked| asked.min(clients));
    let refused =
        |why: String, next: String| Err(Failure::new(Exit::Usage, "cannot open that many connections", why).next(next));
    if chosen > most {
        let why = format!("{chosen} connections, but this process may open {} files", files.unwrap_or(0));
        return refused(why, format!("`ulimit -n {}` first, or --connections {most}", chosen + SPARE_FILES));
    }
    if clients.div_ceil(chosen) > CLIENTS_PER_CONNECTION {
        let need = clients.div_ceil(CLIENTS_PER_CONNECTION);
        let why = format!("{clients} clients on {chosen} connections; at most {CLIENTS_PER_CONNECTION} share one");
        return refused(
            why,
            format!("give --connections {need} or more; `ulimit -n {}` if need be", need + SPARE_FILES),
        );
    }
    Ok(chosen)
}

/// The soft limit on open files, where the system tells.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// The first so many certificates of a folder, by name, each with its key.
///
/// # Errors
/// Fewer than that, with what to do.
pub(super) fn certificates(folder: &Path, clients: usize) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let what = || format!("cannot use --client-certs {}", folder.display());
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Failure::new(Exit::NotFound, what(), error.to_string()).next("name a folder"))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut pairs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
        .map(|path| (path.clone(), path.with_extension("key")))
        .filter(|(_, key)| key.is_file())
        .collect();
    pairs.sort();
    if pairs.len() < clients {
        let why = format!("{} pairs of NAME.pem and NAME.key for {clients} clients", pairs.len());
        return Err(Failure::new(Exit::Usage, what(), why).next("make more of them, or give fewer --clients"));
    }
    pairs.truncate(clients);
    Ok(pairs)
}

impl Fleet {
    /// Makes the updates and the connections.
    ///
    /// # Errors
    /// The first connection that cannot be made.
    pub(super) async fn connect(plan: &FleetPlan) -> Result<Self, Failure> {
        let updates = Updates::new(plan.dimension, plan.clients, plan.seed);
        let large = plan.clients as u64 * plan.dimension as u64 * 4 > KEPT_MODELS_BYTES;
        let lean = plan.masked.is_none() && (plan.lean || large);
        let shared = plan.certificates.is_empty() && (lean || plan.connections < plan.clients);
        let channels = match shared {
            true => shared_channels(plan).await?,
            false => Vec::new(),
        };
        let members = stream::iter(0..plan.clients).map(|number| member(plan, &updates, &channels, lean, number));
        let members = members.buffered(CONNECTING).try_collect().await?;
        let tensors = vec![(TENSOR.into(), "F32".into(), vec![plan.dimension as u64])];
        let masked = plan.masked.as_ref().map(|(_, departures)| Arc::clone(departures));
        Ok(Self { members, masked, task: plan.task.clone(), tensors })
    }

    /// Whether the clients are as devices embed them, or read models without keeping them.
    pub(super) fn is_lean(&self) -> bool {
        self.members.iter().any(|member| matches!(member.kind, Kind::Lean(..)))
    }

    /// Those whose traffic the SDK counts; what the others send and receive is in the log.
    pub(super) fn counted(&self) -> Vec<Client> {
        let counted = self.members.iter().filter_map(|member| match &member.kind {
            Kind::Sdk(client) => Some(client.clone()),
            Kind::Lean(..) => None,
        });
        counted.collect()
    }

    /// Starts every client. Each ends with the task or with its first broken call. `ended` tells of the last round that has
    /// ended: a client that vanished is back afterwards.
    pub(super) fn start(self, log: &Arc<Log>, ended: &watch::Receiver<Ended>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let gate = lean::gate();
        for (number, member) in self.members.into_iter().enumerate() {
            let (log, task, tensors) = (log.clone(), self.task.clone(), self.tensors.clone());
            match member.kind {
                Kind::Sdk(client) if self.masked.is_some() => {
                    let Some(departures) = self.masked.clone() else { continue };
                    let part = MaskedPart { client, number, payload: member.payload, departures, ended: ended.clone() };
                    tasks.spawn(async move { part.take_part(&task, &log).await });
                }
                Kind::Sdk(client) => {
                    let update = Update::raw(tensors, member.payload).digest_claim(member.digest);
                    tasks.spawn(async move { take_part(&client, &task, &update, &log).await });
                }
                Kind::Lean(name, channel) => {
                    let lean = lean::LeanClient {
                        name,
                        task,
                        channel,
                        payload: member.payload,
                        digest: member.digest,
                        gate: gate.clone(),
                    };
                    tasks.spawn(async move { lean.take_part(&log).await });
                }
            }
        }
        tasks
    }
}

async fn shared_channels(plan: &FleetPlan) -> Result<Vec<Channel>, Failure> {
    let connect = |_| channel(plan, None);
    stream::iter(0..plan.connections).map(connect).buffered(CONNECTING).try_collect().await
}

async fn channel(plan: &FleetPlan, own: Option<(PathBuf, PathBuf)>) -> Result<Channel, Failure> {
    let endpoint = operator::endpoint(&plan.server, &operator::Certificates { ca: plan.ca.clone(), own })?;
    endpoint.connect().await.map_err(|error| {
        Failure::new(Exit::Unavailable, format!("cannot reach {}", plan.server), crate::exit::chain(&error))
    })
}

async fn member(
    plan: &FleetPlan,
    updates: &Updates,
    channels: &[Channel],
    lean: bool,
    number: usize,
) -> Result<Member, Failure> {
    let updates = updates.clone();
    let hashed = tokio::task::spawn_blocking(move || updates.sealed(number)).await;
    let (payload, digest) =
        hashed.map_err(|error| Failure::new(Exit::Internal, "cannot make an update", error.to_string()))?;
    let name = format!("load-{number:06}");
    let broken = |error: &testudo_client::Error| sdk::failure(format!("client {name} cannot connect"), error);
    let pair = plan.certificates.get(number).cloned();
    let identity = match &pair {
        Some((cert, key)) => Identity::from_pem_files(cert, key),
        None => Identity::named(&name),
    };
    let identity = identity.map_err(|error| broken(&error))?;
    if lean {
        let channel = match pair {
            Some(pair) => channel(plan, Some(pair)).await?,
            None => channels[number % channels.len()].clone(),
        };
        return Ok(Member { kind: Kind::Lean(identity.name().clone(), channel), payload, digest });
    }
    let mut builder = Client::builder(&plan.server).identity(identity);
    if let Some((group, _)) = &plan.masked {
        let group = u32::try_from(*group).unwrap_or(u32::MAX);
        builder = builder.policy(Policy::default().require_masking().min_group(group).allow_weak_guarantee());
    }
    builder = builder.check_in_wait(Duration::from_secs(60)).retry(Retry::default().give_up_after(GIVE_UP));
    builder = match (channels.is_empty(), &plan.ca) {
        (false, _) => builder.channel(channels[number % channels.len()].clone()),
        (true, Some(ca)) => builder.ca_file(ca),
        (true, None) => builder,
    };
    let client = builder.connect().await.map_err(|error| broken(&error))?;
    Ok(Member { kind: Kind::Sdk(client), payload, digest })
}

async fn take_part(client: &Client, task: &TaskName, update: &Update, log: &Log) {
    let name = client.name();
    let mut session = match client.join(task.as_str()).await {
        Ok(session) => session,
        Err(error) => return log.failed(&format!("{name}: {error}")),
    };
    loop {
        match session.next_round().await {
            Ok(None) => return,
            Ok(Some(round)) => {
                let number = round.number();
                log.given(number);
                match round.submit(update.clone()).await {
                    Ok(_) => log.sent(number),
                    Err(error) => log.failed(&format!("{name}, round {number}: {error}")),
                }
            }
            Err(error) => return log.failed(&format!("{name}: {error}")),
        }
    }
}

/// The last round that has ended; round 0 before any has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended {
    pub(super) round: u64,
    pub(super) is_abandoned: bool,
}

/// A client of masked rounds.
struct MaskedPart {
    client: Client,
    number: usize,
    payload: bytes::Bytes,
    departures: Arc<Departures>,
    ended: watch::Receiver<Ended>,
}

impl MaskedPart {
    async fn take_part(mut self, task: &TaskName, log: &Log) {
        let name = self.client.name().clone();
        let mut session = match self.client.join(task.as_str()).await {
            Ok(session) => session,
            Err(error) => return log.failed(&format!("{name}: {error}")),
        };
        loop {
            let round = match session.next_round().await {
                Ok(None) => return,
                Ok(Some(round)) => round,
                Err(error) => return log.failed(&format!("{name}: {error}")),
            };
            let number = round.number();
            log.given(number);
            let is_leaving = self.departures.step(number, self.number).is_some();
            let sent = self.send(round).await;
            if sent.is_ok() {
                log.sent(number);
            }
            // Checking in earlier would only be told that this round is decided.
            let ended = self.ended.wait_for(|ended| ended.round >= number).await.map(|ended| *ended);
            match sent {
                Ok(()) => {}
                Err(_) if is_leaving => log.vanished(),
                // Told by the rounds' records.
                Err(error) if error.reason() == Some(Reason::GroupLost) => {}
                Err(_) if ended.as_ref().is_ok_and(|ended| ended.is_abandoned) => {}
                Err(error) => log.failed(&format!("{name}, round {number}: {error}")),
            }
            if ended.is_err() {
                return;
            }
        }
    }

    async fn send(&self, round: Round) -> Result<(), Error> {
        let leaves = self.departures.step(round.number(), self.number);
        let update = Update::delta(framing::coordinates(&self.payload).collect());
        let sealed = round.seal(update)?;
        let sealed = match leaves {
            Some(step) => sealed.leaving_before(step),
            None => sealed,
        };
        sealed.send().await.map(|_| ())
    }
}

impl Log {
    /// A client was given a round.
    pub(super) fn given(&self, round: u64) {
        self.with(|seen| {
            seen.first.entry(round).or_insert_with(Instant::now);
        });
    }

    /// A client has its receipt.
    pub(super) fn sent(&self, round: u64) {
        self.with(|seen| {
            seen.last.insert(round, Instant::now());
        });
    }

    /// Something went wrong.
    pub(super) fn failed(&self, error: &str) {
        self.with(|seen| {
            seen.failures += 1;
            if seen.errors.len() < ERRORS {
                seen.errors.push(crate::format::clean(error));
            }
        });
    }

    /// A client vanished from a round, as planned.
    pub(super) fn vanished(&self) {
        self.vanished.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a client vanished.
    pub(super) fn departures(&self) -> u64 {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Payload bytes that a client without counters of its own has moved.
    pub(super) fn moved(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Ordering::Relaxed);
        self.down.fetch_add(down, Ordering::Relaxed);
    }

    /// What those clients have moved.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }

    /// How many things went wrong, and the first of them.
    pub(super) fn failures(&self) -> (u64, Vec<String>) {
        self.with(|seen| (seen.failures, seen.errors.clone()))
    }

    /// Per round: seconds from the first client that had the model to the last receipt.
    pub(super) fn seconds(&self) -> Vec<f64> {
        self.with(|seen| {
            let span =
                |(round, last): (&u64, &Instant)| Some(last.duration_since(*seen.first.get(round)?).as_secs_f64());
            seen.last.iter().filter_map(span).collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_one_per_client_unless_told_and_never_too_crowded() {
        assert_eq!(connections(4, None).unwrap(), 4);
        assert_eq!(connections(4, Some(2)).unwrap(), 2);
        assert_eq!(connections(4, Some(9)).unwrap(), 4);
        let crowded = connections(100, Some(2)).unwrap_err();
        assert!(crowded.next.contains("--connections 3"), "{crowded:?}");
    }
}
