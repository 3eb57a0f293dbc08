//! `kill -9` between the seal and the release of a round whose clients add shares of noise under masks.

use crate::{
    host::{Host, Stop, delta, model, within},
    private::sound,
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use testudo_client::{Client, Error, Identity, Policy, Retry, Update};
use testudo_proto::v1;

const TASK: &str = "shares";
const CLIENTS: usize = 8;
/// Each is a chance to be between the two steps.
const ROUNDS: u64 = 12;

fn shared() -> String {
    format!(
        "name = {TASK:?}\nrounds = {ROUNDS}\n[model]\ninitial = \"model.safetensors\"\n\
         [cohort]\nsize = {CLIENTS}\nminimum = {CLIENTS}\nphase_limit_s = 20\n\
         [visibility]\nmasking = \"pairwise\"\ngroup_size = {CLIENTS}\nstep_limit_s = 10\ncolluders = 0.0\ndropout = 0.0\n\
         [encoding]\nclip_l2 = 10.0\n[rule]\nkind = \"mean\"\n\
         [privacy]\nmechanism = \"gaussian\"\ntrust = \"distributed\"\npopulation = \"phones\"\nnoise_multiplier = 4.0\n\
         budget_epsilon = 1000.0\ndelta = 1e-6\nclients = 100000\n"
    )
}

/// One client, until it is aborted.
async fn take_part(url: String, number: usize) -> Result<(), Error> {
    let name = format!("c{number:02}");
    let retry = Retry::default().first(Duration::from_millis(20)).longest(Duration::from_millis(200));
    let client = Client::builder(url)
        .identity(Identity::named(&name)?)
        .policy(Policy::default().require_masking().min_group(CLIENTS as u32))
        .retry(retry)
        .connect_lazy()?;
    let mut session = client.join(TASK).await?;
    while let Some(round) = session.next_round().await? {
        let update = delta(&name, round.number(), round.model());
        match round.submit(Update::delta(update)).await {
            Ok(_) | Err(Error::Rejected(_) | Error::GaveUp { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn round(host: &Host, number: u64) -> Option<v1::RoundInfo> {
    let request = v1::GetRoundRequest { task: TASK.into(), round: number };
    host.admin().await.get_round(request).await.ok().map(tonic::Response::into_inner)
}

/// Kills the server while a round is sealed and not released; the round's number.
async fn killed_while_closing(host: &mut Host) -> u64 {
    let mut admin = host.admin().await;
    let begun = Instant::now();
    for number in 1..=ROUNDS {
        loop {
            let request = v1::GetRoundRequest { task: TASK.into(), round: number };
            let state = admin.get_round(request).await.map_or_else(|_| String::new(), |round| round.into_inner().state);
            match state.as_str() {
                "closing" => {
                    host.stop(Stop::Kill);
                    return number;
                }
                "released" => break,
                "abandoned" => panic!("round {number}\n{}", host.log()),
                _ => {}
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "no round is sealed\n{}", host.log());
        }
    }
    panic!("every release was faster than a look at its round")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_seal_and_release_a_round_of_shares_ends_with_the_same_bytes_and_one_charge() {
    let directory = tempfile::tempdir().unwrap();
    let first = directory.path().join("first");
    fs::create_dir(&first).unwrap();
    let mut host = Host::new(&first);
    host.start();
    host.create(&shared(), &model(100_000)).await;
    let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(take_part(host.url.clone(), number))).collect();
    let number = killed_while_closing(&mut host).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    // Nobody is there to send anything again: what the server has is enough, as often as it is started.
    let mut released = Vec::new();
    for again in ["second", "third"] {
        let again = directory.path().join(again);
        copy(&first, &again);
        let mut host = Host::new(&again);
        host.start();
        let charged = within("the release", async {
            loop {
                if round(&host, number).await.is_some_and(|round| round.state == "released") {
                    break sound(&host, TASK).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(charged.len() as u64, number, "every round so far was released, and charged once");
        // Once more: it is released already.
        host.stop(Stop::Kill);
        host.start();
        assert_eq!(sound(&host, TASK).await, charged);
        host.stop(Stop::Terminate);
        released.push(charged);
    }
    assert_eq!(released[0], released[1], "other bytes");
}
