//! One run of a study on a real server.

use super::{
    Wire,
    client::{self, Order, Seated},
};
use crate::{
    commands::{
        hostile::Message,
        load::operator::{Operator, Rounds},
    },
    exit::Failure,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::BTreeMap, time::Duration};
use testudo_proto::{v1::RoundInfo, verdict_from_wire};
use testudo_protocol::Verdict;
use testudo_simulator::{
    attack::{Replayed, Tamper},
    study::driver::Course,
    world::{Ending, Parcel, Sending, World, WorldError},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// Connections being made at a time.
const CONNECTING: usize = 32;
/// Seconds after which a round ends without those who are missing; nobody is, so it only bounds a fault.
const PHASE_LIMIT_S: f64 = 600.0;
/// Longest wait for a cohort or for the end of a round.
const PATIENCE: Duration = Duration::from_secs(120);

/// A task on the server, its clients, and who has a place in its open round.
#[derive(Debug)]
pub(super) struct WireCourse {
    task: String,
    operator: Operator,
    runtime: tokio::runtime::Handle,
    rounds: Rounds,
    seats: mpsc::UnboundedReceiver<Seated>,
    clients: JoinSet<Result<(), testudo_client::Error>>,
}

impl WireCourse {
    /// Creates the task and connects the clients.
    pub(super) fn open(wire: &Wire, name: &str, world: &World) -> Result<Self, WorldError> {
        let task = task(name, world).map_err(|detail| fault(1, detail))?;
        let clients = world.scenario().plan.population.clients;
        let opened = async {
            wire.operator.create(task, &world.state().model).await.map_err(|failure| said(1, &failure))?;
            let rounds = wire.operator.watch(name).await.map_err(|failure| said(1, &failure))?;
            let connect = |number: usize| async move {
                let name = world.name(number).ok_or_else(|| fault(1, format!("client {number} has no name")))?;
                let client = client::connect(&wire.url, name).await;
                client.map(|client| (number, client)).map_err(|error| fault(1, format!("{name}: {error}")))
            };
            let connected: Vec<_> = stream::iter(0..clients).map(connect).buffered(CONNECTING).try_collect().await?;
            Ok::<_, WorldError>((rounds, connected))
        };
        let (rounds, connected) = wire.runtime.block_on(opened)?;
        let (tell, seats) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for (number, client) in connected {
            clients.spawn_on(client::take_part(client, number, name.to_owned(), tell.clone()), &wire.runtime);
        }
        let (operator, runtime) = (wire.operator.clone(), wire.runtime.clone());
        Ok(Self { task: name.to_owned(), operator, runtime, rounds, seats, clients })
    }

    /// Waits until the server has drawn the cohort and everybody in it has the model.
    async fn cohort(
        &mut self,
        round: u64,
        selected: usize,
        world: &World,
    ) -> Result<BTreeMap<usize, Seated>, WorldError> {
        let mut cohort = BTreeMap::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while cohort.len() < selected {
            tokio::select! {
                seated = self.seats.recv() => {
                    let seated = seated.ok_or_else(|| fault(round, "every client has left".to_owned()))?;
                    if seated.round < round {
                        // Too late for an abandoned round: it has left already.
                        continue;
                    }
                    if seated.round != round || seated.model != world.state().model.digest() {
                        let detail = format!(
                            "the server opened round {} from the model {}, the study is in round {round} with {}",
                            seated.round, seated.model.short(), world.state().model.digest().short()
                        );
                        return Err(fault(round, detail));
                    }
                    cohort.insert(seated.client, seated);
                }
                Some(ended) = self.clients.join_next() => broken(round, ended)?,
                () = tokio::time::sleep_until(deadline) => {
                    let detail = format!("{} of {selected} clients had a place after {PATIENCE:?}", cohort.len());
                    return Err(fault(round, detail));
                }
            }
        }
        Ok(cohort)
    }

    /// Everybody sends: at once, or in the order of arrival where the first ones close the round.
    async fn send(&mut self, sending: &Sending, cohort: BTreeMap<usize, Seated>, world: &World) {
        let scenario = world.scenario();
        let (deadline, encoding) = (scenario.task.cohort.phase_limit_ms, scenario.encoding);
        let ordered = scenario.plan.cohort.over_selection > 1.0;
        let mut parcels: BTreeMap<usize, &Parcel> =
            sending.parcels.iter().map(|parcel| (parcel.client, parcel)).collect();
        let mut seats: Vec<(Option<&Parcel>, Seated)> =
            cohort.into_values().map(|seated| (parcels.remove(&seated.client), seated)).collect();
        seats.sort_by_key(|(parcel, seated)| (parcel.map_or(u64::MAX, |parcel| parcel.at), seated.client));
        let mut answers = Vec::with_capacity(seats.len());
        for (parcel, seated) in seats {
            let message = parcel.filter(|parcel| parcel.at < deadline).map(|parcel| Message {
                values: parcel.values.clone(),
                examples: parcel.examples,
                encoding,
                keep: (scenario.plan.encoding.keep * parcel.values.len() as f64).ceil() as usize,
                tamper: parcel.tamper,
            });
            let (done, answered) = oneshot::channel();
            // A client that broke is found when the round does not end.
            let _ = seated.order.send(Order { message, done });
            match ordered {
                true => drop(answered.await),
                false => answers.push(answered),
            }
        }
        for answered in answers {
            let _ = answered.await;
        }
    }

    /// Waits for the end of the round.
    async fn ended(&mut self, round: u64) -> Result<RoundInfo, WorldError> {
        match tokio::time::timeout(PATIENCE, self.rounds.next()).await {
            Ok(Ok(Some(info))) if info.round == round => Ok(info),
            Ok(Ok(Some(info))) => Err(fault(round, format!("the server ended round {} instead", info.round))),
            Ok(Ok(None)) => Err(fault(round, "the server ended the task".to_owned())),
            Ok(Err(failure)) => Err(said(round, &failure)),
            Err(_) => Err(fault(round, format!("the server did not end it within {PATIENCE:?}"))),
        }
    }
}

impl Course for WireCourse {
    fn step(&mut self, world: &mut World) -> Result<(), WorldError> {
        let round = world.state().round + 1;
        let selected = world.scenario().selected();
        let runtime = self.runtime.clone();
        let cohort = runtime.block_on(self.cohort(round, selected, world))?;
        let sending = world.prepare(Some(cohort.keys().copied().collect()))?;
        runtime.block_on(self.send(&sending, cohort, world));
        let info = runtime.block_on(self.ended(round))?;
        let seed = <[u8; 32]>::try_from(info.seed.as_ref())
            .map_err(|_| fault(round, "the server does not tell the seed of an ended round".to_owned()))?;
        let tampers: BTreeMap<usize, Tamper> =
            sending.parcels.iter().map(|parcel| (parcel.client, parcel.tamper)).collect();
        // The same round again in this process, with the seed that the server drew: every bit has to agree.
        let ending = world.close(sending, Some(seed))?;
        compare(round, &info, &ending, &tampers, world)
    }

    fn finish(&mut self) {
        let (operator, task) = (self.operator.clone(), self.task.clone());
        self.runtime.clone().block_on(async {
            // A task that has ended by itself cannot be stopped, and need not be.
            let _ = operator.stop(&task).await;
            let farewell = async { while self.clients.join_next().await.is_some() {} };
            if tokio::time::timeout(Duration::from_secs(10), farewell).await.is_err() {
                self.clients.abort_all();
            }
        });
    }
}

/// Refuses a round that ended otherwise on the server than in this process.
fn compare(
    round: u64,
    info: &RoundInfo,
    ending: &Ending,
    tampers: &BTreeMap<usize, Tamper>,
    world: &World,
) -> Result<(), WorldError> {
    let differ = |what: String| Err(fault(round, format!("the server and this process disagree: {what}")));
    let released = info.state == "released";
    if released != ending.abandoned.is_none() {
        let here = ending.abandoned.as_deref().unwrap_or("released");
        return differ(format!("{} {} there, {here} here", info.state, info.why));
    }
    if let Some(model) = ending.model.as_ref().filter(|_| released)
        && model.digest().as_bytes()[..] != info.model_digest[..]
    {
        return differ("the models' digests".to_owned());
    }
    for (client, here) in &ending.verdicts {
        // A client cannot send an upload of another round with the SDK, and leaves the round instead.
        let replayed = matches!(tampers.get(client), Some(Tamper::Replay { of: Replayed::Own | Replayed::Other }));
        let Some(name) = world.name(*client) else { continue };
        let there = info.clients.iter().find(|one| one.client == name.as_str());
        let there = there.and_then(|one| verdict_from_wire(one.verdict.as_ref()?).ok());
        let same = match (there, here) {
            (Some(there), here) if there == *here => true,
            (Some(Verdict::Dropout), _) => replayed,
            _ => false,
        };
        if !same {
            return differ(format!("{name} is {there:?} there and {here:?} here"));
        }
    }
    Ok(())
}

/// The run's `task.toml`, under a name of its own and without a clock.
fn task(name: &str, world: &World) -> Result<String, String> {
    let mut table = world.scenario().table.clone();
    table.insert("name".to_owned(), name.into());
    if let Some(cohort) = table.get_mut("cohort").and_then(toml::Value::as_table_mut) {
        cohort.insert("phase_limit_s".to_owned(), PHASE_LIMIT_S.into());
    }
    toml::to_string(&table).map_err(|error| error.to_string())
}

fn broken(
    round: u64,
    ended: Result<Result<(), testudo_client::Error>, tokio::task::JoinError>,
) -> Result<(), WorldError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(fault(round, format!("a client failed: {error}"))),
        Err(error) => Err(fault(round, format!("a client broke: {error}"))),
    }
}

fn said(round: u64, failure: &Failure) -> WorldError {
    fault(round, format!("{}: {}", failure.what, failure.why))
}

fn fault(round: u64, detail: String) -> WorldError {
    WorldError::Round { round, detail }
}
