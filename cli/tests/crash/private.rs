//! `kill -9` at any time of a private task: no release without its charge, none twice with other bytes.

use crate::host::{Host, Random, Stop, delta, model, session};
use std::{collections::BTreeMap, env, time::Duration};
use testudo_client::{Ended, Error, Update};
use testudo_privacy::budget::verify;
use testudo_proto::v1;
use testudo_server::statement;

const CLIENTS: usize = 6;

fn private(name: &str, rounds: u64) -> String {
    format!(
        "name = {name:?}\nrounds = {rounds}\n[model]\ninitial = \"model.safetensors\"\n\
         [cohort]\nsize = {CLIENTS}\nminimum = 4\nphase_limit_s = 3\n\
         [encoding]\nclip_l2 = 1.0\n[rule]\nkind = \"trimmed_mean\"\nbyzantine = 1\n\
         [privacy]\nmechanism = \"gaussian\"\npopulation = \"phones\"\nnoise_multiplier = 50.0\nbudget_epsilon = 5.0\ndelta = 1e-6\nclients = 100000\n"
    )
}

/// The same with correlated noise and twice as many clients: whoever was in one round sits out the next.
fn run(name: &str, mechanism: &str, rounds: u64) -> String {
    private(name, rounds).replace("kind = \"trimmed_mean\"\nbyzantine = 1", "kind = \"mean\"").replace(
        "mechanism = \"gaussian\"",
        &format!("mechanism = {mechanism:?}\nparticipations = {rounds}\nseparation = 2"),
    )
}

/// The same with half of the clients in every round, in secret.
fn sampled(name: &str, rounds: u64) -> String {
    private(name, rounds)
        .replace("kind = \"trimmed_mean\"\nbyzantine = 1", "kind = \"mean\"")
        .replace("minimum = 4\nphase_limit_s = 3", "phase_limit_s = 0.3")
        .replace("clients = 100000", "clients = 12\nsampling = \"poisson\"\nrelease_step_s = 0.05")
}

async fn participate(url: String, name: String, task: &'static str) -> Ended {
    let mut session = session(&url, &name, task).await;
    loop {
        let round = match session.next_round().await {
            Ok(Some(round)) => round,
            Ok(None) => return session.ended().unwrap(),
            Err(error) => panic!("{name}: {error}"),
        };
        let update = delta(&name, round.number(), round.model());
        match round.submit(Update::delta(update)).await {
            Ok(_) | Err(Error::Rejected(_) | Error::GaveUp { .. }) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// Digests of the models that rounds released, as far as a server answers.
async fn released(host: &Host, task: &str) -> BTreeMap<u64, Vec<u8>> {
    let mut admin = host.admin().await;
    let request = v1::ListRoundsRequest { task: task.to_owned(), before: 0, limit: 1000 };
    let rounds = admin.list_rounds(request).await.unwrap().into_inner().rounds;
    rounds
        .into_iter()
        .filter(|round| round.state == "released")
        .map(|round| (round.round, round.model_digest.to_vec()))
        .collect()
}

/// Every release has its one charge, which names its bytes, and the chain adds up; answers what was released.
pub(crate) async fn sound(host: &Host, task: &str) -> BTreeMap<u64, Vec<u8>> {
    let released = released(host, task).await;
    let request = v1::GetBudgetRequest { population: "phones".into(), from: 0, limit: 10_000 };
    let budgets = host.admin().await.get_budget(request).await.unwrap().into_inner().budgets;
    let (account, entries) = statement::from_wire(budgets.into_iter().next().unwrap()).unwrap();
    assert_eq!(verify(&entries, account.gate, account.head), Ok(account.spent));
    for (round, digest) in &released {
        let charged: Vec<_> = entries.iter().filter(|entry| entry.round == *round).collect();
        assert_eq!(charged.len(), 1, "round {round}");
        assert_eq!(charged[0].release.map(Vec::from), Some(digest.clone()), "round {round}");
    }
    released
}

/// Nobody was in two released rounds that follow each other.
async fn apart(host: &Host, task: &str, released: &BTreeMap<u64, Vec<u8>>) {
    let mut before = Vec::new();
    for round in released.keys() {
        let request = v1::GetRoundRequest { task: task.to_owned(), round: *round };
        let record = host.admin().await.get_round(request).await.unwrap().into_inner();
        let now: Vec<String> = record.clients.into_iter().map(|client| client.client).collect();
        assert!(
            !now.is_empty() && now.iter().all(|client| !before.contains(client)),
            "round {round}: {now:?} {before:?}"
        );
        before = now;
    }
}

/// Kills the server again and again while a task runs to its end; everything it released.
async fn killed_to_the_end(
    host: &mut Host,
    (toml, task): (&str, &'static str),
    (clients, cycles): (usize, u64),
) -> BTreeMap<u64, Vec<u8>> {
    host.start();
    host.create(toml, &model(400)).await;
    let clients: Vec<_> =
        (0..clients).map(|number| tokio::spawn(participate(host.url.clone(), format!("c{number:02}"), task))).collect();
    let mut random = Random(11);
    let mut before = BTreeMap::new();
    for _ in 0..cycles {
        tokio::time::sleep(Duration::from_millis(20 + random.below(300))).await;
        host.stop(Stop::Kill);
        host.start();
        let now = sound(host, task).await;
        for (round, digest) in &before {
            assert_eq!(now.get(round), Some(digest), "round {round} was released before the kill with these bytes");
        }
        before = now;
    }
    for client in clients {
        let ended = tokio::time::timeout(Duration::from_secs(120), client).await;
        let ended = ended.unwrap_or_else(|_| panic!("the task does not finish:\n{}", host.log())).unwrap();
        // A round that was closed and could not be ended is spent; then the plan does not hold all the others.
        // Or it is far enough from no round that is left.
        assert!(matches!(ended, Ended::Finished | Ended::LimitReached), "{ended:?}\n{}", host.log());
    }
    let now = sound(host, task).await;
    assert!(before.iter().all(|(round, digest)| now.get(round) == Some(digest)));
    now
}

fn cycles() -> u64 {
    env::var("TESTUDO_CRASH_CYCLES").map_or(6, |cycles| cycles.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_task_is_killed_again_and_again() {
    let (cycles, directory) = (cycles(), tempfile::tempdir().unwrap());
    let mut host = Host::new(directory.path());
    let task = (&*private("private", 4 * cycles), "private");
    let released = killed_to_the_end(&mut host, task, (CLIENTS, cycles)).await;
    assert_eq!(released.len() as u64, 4 * cycles);
    host.stop(Stop::Terminate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_sample_is_killed_again_and_again() {
    let (cycles, directory) = (cycles(), tempfile::tempdir().unwrap());
    let mut host = Host::new(directory.path());
    let task = (&*sampled("sampled", 2 * cycles), "sampled");
    let released = killed_to_the_end(&mut host, task, (2 * CLIENTS, cycles)).await;
    assert_eq!(released.len() as u64, 2 * cycles);
    host.stop(Stop::Terminate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_killed_again_and_again() {
    for mechanism in ["tree", "matrix"] {
        let (cycles, directory) = (cycles(), tempfile::tempdir().unwrap());
        let mut host = Host::new(directory.path());
        let task = (&*run("run", mechanism, 3 * cycles), "run");
        let released = killed_to_the_end(&mut host, task, (2 * CLIENTS, cycles)).await;
        assert_eq!(released.len() as u64, 3 * cycles, "{mechanism}");
        apart(&host, "run", &released).await;
        host.stop(Stop::Terminate);
    }
}
