//! `kill -9` in every phase of a masked round: it goes on where it stood, and nobody answers twice.

use crate::host::{Host, Stop, delta, model, within};
use std::time::Duration;
use testudo_client::{Client, Error, Identity, Policy, Retry, Step, Update};
use testudo_engine::RoundRecord;
use testudo_proto::v1;
use testudo_protocol::Model;

const CLIENTS: usize = 16;
/// Steps wait this long for who vanished: time enough to die in.
const STEP_LIMIT: Duration = Duration::from_secs(3);

fn masked(name: &str) -> String {
    format!(
        "name = {name:?}\nrounds = 1\n[model]\ninitial = \"model.safetensors\"\n\
         [cohort]\nsize = {CLIENTS}\nminimum = {}\nphase_limit_s = 4\n\
         [visibility]\nmasking = \"pairwise\"\ngroup_size = 8\nstep_limit_s = {}\n\
         [encoding]\nclip_l2 = 50.0\nbits = 22\n[rule]\nkind = \"mean\"\n",
        CLIENTS - 2,
        STEP_LIMIT.as_secs()
    )
}

/// One client's only round; the first one vanishes before a step, so that the step lasts.
async fn take_part(url: String, number: usize, task: &'static str, held: Step, pause: Duration) -> Result<(), Error> {
    let retry = Retry::default().first(Duration::from_millis(20)).longest(Duration::from_millis(200));
    let name = format!("c{number:02}");
    let client = Client::builder(url)
        .identity(Identity::named(&name)?)
        .policy(Policy::default().require_masking().min_group(8))
        .retry(retry)
        .connect_lazy()?;
    let mut session = client.join(task).await?;
    let Some(round) = session.next_round().await? else { return Ok(()) };
    let update = delta(&name, round.number(), round.model());
    tokio::time::sleep(pause).await;
    let sealed = round.seal(Update::delta(update))?;
    let sealed = if number == 0 { sealed.leaving_before(held) } else { sealed };
    sealed.send().await.map(|_| ())
}

/// Kills the server while the round waits in a step, and again while it waits after the restart.
async fn killed_in(task: &'static str, held: Step, kills: u32) {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::new(directory.path());
    host.start();
    let initial = model(500);
    host.create(&masked(task), &initial).await;
    // Before the keys there is no step to be held in: everybody trains a little longer.
    let pause = if held == Step::AdvertiseKeys { Duration::from_millis(1500) } else { Duration::ZERO };
    let held = if held == Step::AdvertiseKeys { Step::Unmask } else { held };
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(take_part(host.url.clone(), number, task, held, pause))).collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        host.stop(Stop::Kill);
        host.start();
    }
    for (number, client) in clients.into_iter().enumerate() {
        let result = within("a client", client).await.unwrap();
        match number {
            0 => assert!(matches!(result, Err(Error::Config(_))), "{result:?}"),
            _ => result.unwrap_or_else(|error| panic!("c{number:02}: {error}\n{}", host.log())),
        }
    }
    let task_info = within("the finish", host.finished(task)).await;
    assert_eq!((task_info.released, task_info.abandoned), (1, 0), "{}", host.log());
    verify(&host, task, &initial).await;
    host.stop(Stop::Terminate);
}

/// The released model is the mean of the recorded survivors' updates, as far as the grid goes.
async fn verify(host: &Host, task: &str, initial: &Model) {
    let mut admin = host.admin().await;
    let request = v1::GetRoundRequest { task: task.to_owned(), round: 1 };
    let round = admin.get_round(request).await.unwrap().into_inner();
    let record: RoundRecord = serde_json::from_str(&round.groups).unwrap();
    assert!(record.groups.iter().all(|group| group.lost.is_none()), "{record:?}");
    let survivors: Vec<String> =
        record.groups.iter().flat_map(|group| &group.survivors).map(ToString::to_string).collect();
    assert!(survivors.len() >= CLIENTS - 2, "{survivors:?}");
    let request = v1::GetModelRequest { task: task.to_owned(), round: 1, initial: false };
    let mut stream = admin.get_model(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        file.extend_from_slice(&chunk.data);
    }
    let released = Model::from_safetensors(&file).unwrap();
    let updates: Vec<Vec<f32>> = survivors.iter().map(|name| delta(name, 1, initial)).collect();
    for (at, (after, before)) in released.parameters().iter().zip(initial.parameters()).enumerate() {
        let mean = updates.iter().map(|update| f64::from(update[at])).sum::<f64>() / updates.len() as f64;
        let moved = f64::from(after - before);
        assert!((moved - mean).abs() < 1e-4, "coordinate {at}: {moved} instead of {mean}");
    }
}

/// Somebody never advertises, so the keys end with their deadline; the groups must be the same after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_groups_were_drawn_at_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::new(directory.path());
    host.start();
    let initial = model(500);
    host.create(&masked("deadline"), &initial).await;
    let absent = tokio::spawn({
        let url = host.url.clone();
        async move {
            let policy = Policy::default().min_group(8);
            let client = Client::builder(url).identity(Identity::named("c15").unwrap()).policy(policy);
            let mut session = client.connect_lazy().unwrap().join("deadline").await.unwrap();
            let round = session.next_round().await.unwrap();
            tokio::time::sleep(Duration::from_secs(25)).await;
            drop(round);
        }
    });
    let clients: Vec<_> = (0..CLIENTS - 1)
        .map(|number| tokio::spawn(take_part(host.url.clone(), number, "deadline", Step::ShareKeys, Duration::ZERO)))
        .collect();
    // The keys end after 4 s, the shares 3 s later.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    host.stop(Stop::Kill);
    host.start();
    for (number, client) in clients.into_iter().enumerate().skip(1) {
        let result = within("a client", client).await.unwrap();
        result.unwrap_or_else(|error| panic!("c{number:02}: {error}\n{}", host.log()));
    }
    let task = within("the finish", host.finished("deadline")).await;
    assert_eq!((task.released, task.abandoned), (1, 0), "{}", host.log());
    verify(&host, "deadline", &initial).await;
    absent.abort();
    host.stop(Stop::Terminate);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_keys_are_advertised() {
    killed_in("advertise", Step::AdvertiseKeys, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_shares_are_handed_out() {
    killed_in("share", Step::ShareKeys, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_masked_inputs_come_in() {
    killed_in("input", Step::MaskedInput, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_survivors_are_signed() {
    killed_in("consistency", Step::Consistency, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_shares_come_back() {
    killed_in("unmask", Step::Unmask, 2).await;
}
