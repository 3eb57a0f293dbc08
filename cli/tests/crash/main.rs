//! `kill -9` and SIGTERM at random moments under twenty clients that reconnect by themselves.
//!
//! Every update is a function of client, round and model alone, so that the whole chain of models can be computed
//! again from the verdicts in the rounds' records and compared bit for bit with what the disturbed server released.
//! `TESTUDO_CRASH_CYCLES` (5 unless told) and `TESTUDO_CRASH_SEED` set the number of kills and their moments.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod host;
mod masked;
mod private;
mod shares;

use host::{Host, Random, Stop, delta, model, session, toml, within};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use testudo_client::{Ended, Error, Update};
use testudo_engine::TaskSpec;
use testudo_proto::{framing, v1};
use testudo_protocol::{Digest, Model};

const CLIENTS: usize = 20;

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
