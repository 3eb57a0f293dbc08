//! Masked tasks whose clients add shares of the noise, over real sockets.

use crate::common::*;
use std::time::Duration;
use testudo_client::{Client, Error, Identity, Policy, Step, Update};
use testudo_engine::RoundRecord;
use testudo_proto::{from_status, v1};
use testudo_protocol::Reason;
use testudo_server::{
    Config,
    statement::{self, Statement},
};

/// Groups of 4 with a threshold of 3, all of them honest; `noise` over a clip of 10.
fn shared_toml(name: &str, rounds: u64, clients: usize, group_size: usize, noise: f64, rule: &str) -> String {
    let weak = if group_size < 8 { "accept_weak_guarantee = \"a test\"\n" } else { "" };
    let cohort = format!("size = {clients}\nminimum = {clients}\nphase_limit_s = 4");
    let rest = format!(
        "[visibility]\nmasking = \"pairwise\"\ngroup_size = {group_size}\nstep_limit_s = 3\ncolluders = 0.0\ndropout = 0.0\n{weak}\
         [encoding]\nclip_l2 = 10.0\n[privacy]\nmechanism = \"gaussian\"\ntrust = \"distributed\"\npopulation = \"phones\"\n\
         noise_multiplier = {noise:?}\nbudget_epsilon = 1000000.0\ndelta = 1e-6\nclients = 100000\n"
    );
    task_toml(name, rounds, &cohort, rule, &rest)
}

async fn device(url: &str, name: &str, policy: Policy) -> Client {
    Client::builder(url)
        .identity(Identity::named(name).unwrap())
        .policy(policy.require_masking().min_group(4).allow_weak_guarantee())
        .retry(quick_retry())
        .connect()
        .await
        .unwrap()
}

/// What one client does in one round: `value` in every coordinate, until it leaves, if it does.
async fn take_part(
    url: String,
    task: &str,
    number: usize,
    value: f32,
    leaves: Option<Step>,
    hostile: bool,
) -> Result<(), Error> {
    let client = device(&url, &format!("c{number:02}"), Policy::default()).await;
    let mut session = client.join(task).await?;
    let Some(round) = session.next_round().await? else { return Ok(()) };
    let update = Update::delta(vec![value; round.layout().dimension()]);
    let sealed = round.seal(if hostile { update.unchecked() } else { update })?;
    let sealed = match leaves {
        Some(step) => sealed.leaving_before(step),
        None => sealed,
    };
    sealed.send().await.map(drop)
}

async fn play(
    host: &Host,
    task: &str,
    clients: usize,
    leaves: impl Fn(usize) -> Option<Step>,
    value: impl Fn(usize) -> f32,
) -> Vec<Result<(), Error>> {
    let runs =
        (0..clients).map(|number| take_part(host.url.clone(), task, number, value(number), leaves(number), false));
    within("the masked round", futures::future::join_all(runs)).await
}

async fn budget(host: &Host) -> Statement {
    let request = v1::GetBudgetRequest { population: "phones".into(), from: 0, limit: 0 };
    let budgets = within("the budget", host.admin.clone().get_budget(request)).await.unwrap().into_inner().budgets;
    let (account, entries) = statement::from_wire(budgets.into_iter().next().unwrap()).unwrap();
    let statement = Statement::new(&account, Some(&entries));
    statement.verify(None).unwrap();
    statement
}

/// How far a release moved each coordinate: mean and standard deviation.
async fn moved(host: &Host, task: &str, rows: u64) -> (f64, f64) {
    let (before, after) = (small_model(rows), host.model(task).await);
    let steps: Vec<f64> =
        after.parameters().iter().zip(before.parameters()).map(|(after, before)| f64::from(after - before)).collect();
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    let variance = steps.iter().map(|step| (step - mean).powi(2)).sum::<f64>() / steps.len() as f64;
    (mean, variance.sqrt())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_the_mean_of_noised_rows_and_is_charged_once() {
    let host = Host::start().await;
    let toml = shared_toml("shared", 1, 12, 4, 0.5, "kind = \"mean\"");
    let info = host.create(&toml, &small_model(2000)).await;
    assert!(info.guarantees.iter().any(|line| line.contains("distributed model")), "{:?}", info.guarantees);
    for result in play(&host, "shared", 12, |_| None, |number| number as f32 * 0.01).await {
        result.unwrap();
    }
    let record = host.ended("shared", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 12), "{record:?}");
    // Three of four in a group are certain: a share has 5/√3, the mean of twelve √12 of them over twelve.
    let (mean, deviation) = moved(&host, "shared", 2000).await;
    let expected = 5.0 / 3_f64.sqrt() / 12_f64.sqrt();
    assert!((deviation / expected - 1.0).abs() < 0.05, "{deviation} {expected}");
    assert!((mean - 0.055).abs() < 5.0 * expected / 8004_f64.sqrt(), "{mean}");
    let statement = budget(&host).await;
    assert_eq!((statement.trust_model.as_str(), statement.history.as_ref().unwrap().len()), ("distributed", 1));
    let task = &statement.tasks[0];
    assert!((task.noise_multiplier / 0.5 - 1.0).abs() < 1e-3, "{task:?}");
    assert!(task.sigma.is_some_and(|sigma| (sigma / 5.0 - 1.0).abs() < 1e-3), "of a row's sum: {task:?}");
    // What is not Gaussian has no place in a budget of Gaussians, nor may a population have two limits.
    let central = toml
        .replace("\"shared\"", "\"central\"")
        .replace("\"phones\"", "\"tablets\"")
        .replace("trust = \"distributed\"\n", "")
        .replace("masking = \"pairwise\"\ngroup_size = 4\nstep_limit_s = 3\ncolluders = 0.0\ndropout = 0.0\n", "")
        .replace("accept_weak_guarantee = \"a test\"\n", "");
    host.create(&central, &small_model(3)).await;
    let other = toml.replace("\"shared\"", "\"late\"").replace("\"phones\"", "\"tablets\"");
    let reject = from_status(&host.try_create(&other, &small_model(3)).await.unwrap_err()).unwrap();
    assert!(reject.detail.contains("exact epsilon of Gaussians"), "{reject}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_fewer_survivors_than_its_noise_counts_on_is_never_unmasked() {
    let host = Host::start().await;
    host.create(&shared_toml("thin", 1, 16, 4, 0.5, "kind = \"mean\""), &small_model(3)).await;
    let results = play(&host, "thin", 16, |number| (number < 5).then_some(Step::MaskedInput), |_| 0.1).await;
    let record = host.ended("thin", 1).await;
    let groups: RoundRecord = serde_json::from_str(&record.groups).unwrap();
    for group in &groups.groups {
        assert_eq!(group.survivors.len() < 3, group.lost.is_some(), "{group:?}");
    }
    assert!(groups.groups.iter().any(|group| group.lost.is_some()), "five of sixteen vanish");
    let lost = |result: &&Result<(), Error>| matches!(result, Err(error) if error.reason() == Some(Reason::GroupLost));
    // Who is left of a lost group hears of it; whoever vanished does not.
    let members = groups.groups.iter().filter(|group| group.lost.is_some()).flat_map(|group| &group.members);
    let left = members.filter(|member| !["c00", "c01", "c02", "c03", "c04"].contains(&member.as_str())).count();
    assert_eq!(results.iter().filter(lost).count(), left, "{results:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_client_spoils_its_own_row_and_the_median_of_the_others_stands() {
    let host = Host::start().await;
    host.create(&shared_toml("spoilt", 1, 16, 4, 0.001, "kind = \"median\"\nbyzantine = 1"), &small_model(20)).await;
    let runs = (0..16).map(|number| {
        let value = if number == 3 { 1e6 } else { 0.2 };
        take_part(host.url.clone(), "spoilt", number, value, None, number == 3)
    });
    for result in within("the masked round", futures::future::join_all(runs)).await {
        result.unwrap();
    }
    let record = host.ended("spoilt", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 16), "{record:?}");
    let (mean, _) = moved(&host, "spoilt", 20).await;
    assert!((mean - 0.2).abs() < 0.05, "{mean}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn masked_inputs_of_another_length_are_refused() {
    let host = Host::start().await;
    host.create(&shared_toml("length", 1, 4, 4, 0.5, "kind = \"mean\""), &small_model(3)).await;
    let names = names(4);
    let views: Vec<&str> = names.iter().map(String::as_str).collect();
    let seats = host.seats("length", &views).await;
    let announced = testudo_protocol::secagg::Announcement::from_bytes(&seats[0].assignment.announcement).unwrap();
    assert!(announced.session.has_shares() && announced.session.ring_dimension() == 4096);
    assert_eq!((announced.session.honest, announced.session.threshold, announced.session.bits), (3, 3, 20));
    // Before its step nothing is taken, of whatever length.
    let masked = |header: &mut testudo_proto::UploadHeader| header.encoding = testudo_protocol::Encoding::Masked;
    assert_eq!(reason(seats[0].send(seats[0].parts(&seats[0].payload(), masked)).await), Reason::WrongState);
    // An honest client goes on, and a device that asks for more noise than there is leaves.
    let strict = device(&host.url, "c01", Policy::default().min_shared_noise(0.6)).await;
    let error = strict.join("length").await.unwrap().next_round().await.unwrap_err();
    assert!(matches!(&error, Error::Policy(why) if why.contains("at least 0.6")), "{error}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_given_back_before_its_groups_are_drawn_and_spent_after() {
    let host = Host::start().await;
    host.create(&shared_toml("given", 2, 4, 4, 0.5, "kind = \"mean\""), &small_model(3)).await;
    // One never sends its keys.
    let leave = |number: usize| (number == 0).then_some(Step::AdvertiseKeys);
    play(&host, "given", 4, leave, |_| 0.1).await;
    assert_eq!(host.ended("given", 1).await.state, "abandoned");
    let statement = budget(&host).await;
    assert!(statement.history.as_ref().unwrap().is_empty() && statement.units.reserved == 0, "{statement:?}");
    // Two vanish after the groups were drawn: the only group is lost.
    let leave = |number: usize| (number < 2).then_some(Step::MaskedInput);
    play(&host, "given", 4, leave, |_| 0.1).await;
    assert_eq!(host.ended("given", 2).await.state, "abandoned");
    let statement = budget(&host).await;
    let history = statement.history.as_ref().unwrap();
    assert_eq!((history.len(), history[0].release.as_deref()), (1, None));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_round_charges_once_and_the_release_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&shared_toml("again", 1, 8, 8, 0.5, "kind = \"mean\""), &small_model(300)).await;
    let (address, url) = (host.server.address(), host.url.clone());
    // One vanishes, so that a step lasts long enough to stop in.
    let runs: Vec<_> = (0..8)
        .map(|number| {
            let leaves = (number == 0).then_some(Step::Consistency);
            tokio::spawn(take_part(url.clone(), "again", number, 0.1, leaves, false))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    host.stop().await;
    let fixed = |config: &mut Config| config.listen.address = address;
    let host = Host::on(directory.path(), fixed).await;
    for (number, run) in within("the clients", futures::future::join_all(runs)).await.into_iter().enumerate() {
        assert_eq!(run.unwrap().is_ok(), number > 0, "c{number:02}");
    }
    let record = host.ended("again", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 8), "{record:?}");
    let file = host.model_file("again", 1, false).await.unwrap();
    let statement = budget(&host).await;
    assert_eq!(statement.history.as_ref().unwrap().len(), 1);
    host.stop().await;
    let host = Host::on(directory.path(), |_| {}).await;
    assert_eq!(host.model_file("again", 1, false).await.unwrap(), file);
    assert_eq!(budget(&host).await.history, statement.history);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_noise_that_a_device_may_insist_on_is_printed_and_works_as_it_is_typed() {
    let host = Host::start().await;
    for (task, noise) in [("four", 4.0), ("odd", 0.123_456_7), ("much", 77.7)] {
        let toml = shared_toml(task, 1, 4, 4, noise, "kind = \"mean\"");
        let spec = testudo_engine::TaskSpec::new("task.toml", &toml).unwrap();
        let printed = testudo_engine::guarantees::min_shared_noise(&spec).unwrap();
        // Of the three certain survivors a device counts one of four off as a colluder.
        assert!((printed / noise / (2_f64 / 3.0).sqrt() - 1.0).abs() < 1e-3, "{printed}");
        let info = host.create(&toml, &small_model(3)).await;
        let line = info.guarantees.iter().find(|line| line.contains("--min-shared-noise")).unwrap();
        assert!(line.contains(&format!("of up to {printed} times")), "{line}");
        let seats = host.seats(task, &["c00", "c01", "c02", "c03"]).await;
        assert_eq!(seats.len(), 4);
        let typed =
            |factor: f64| Policy::default().min_shared_noise(printed.to_string().parse::<f64>().unwrap() * factor);
        let patient = device(&host.url, "c00", typed(1.0)).await;
        assert!(patient.join(task).await.unwrap().next_round().await.unwrap().is_some());
        let strict = device(&host.url, "c01", typed(1.000_2)).await;
        let error = strict.join(task).await.unwrap().next_round().await.unwrap_err();
        assert!(matches!(&error, Error::Policy(why) if why.contains("min_shared_noise")), "{error}");
    }
    host.stop().await;
}
