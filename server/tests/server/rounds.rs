//! Rounds from the first check-in to the release, over real sockets.

use crate::common::*;
use std::{collections::HashSet, time::Duration};
use testudo_client::{Ended, Round, TrainError, Trainer, Update};
use testudo_proto::{Answer, EndedWhy, NotNowWhy, v1};
use testudo_protocol::{Digest, Model, Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MEAN: &str = "kind = \"mean\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_task_runs_all_its_rounds_and_finishes() {
    let host = Host::start().await;
    let toml = task_toml("plain", 3, "size = 4", MEAN, "");
    let info = host.create(&toml, &small_model(3)).await;
    assert_eq!((info.state.as_str(), info.rounds, info.dimension), ("running", 3, 16));
    let names = names(4);
    for summary in host.run_clients("plain", &names).await {
        assert_eq!((summary.rounds, summary.accepted, summary.ended), (3, 3, Ended::Finished), "{summary:?}");
    }
    let info = host.task("plain").await;
    assert_eq!((info.state.as_str(), info.released, info.abandoned), ("finished", 3, 0));
    let mut reference = Reference::new(&toml, small_model(3));
    (1..=3).for_each(|round| reference.step(round, &names));
    assert_eq!(host.model("plain").await.digest(), reference.model.digest());
    assert_eq!(info.model_digest.as_ref(), reference.model.digest().as_bytes());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_releases_what_the_same_rows_give_in_process() {
    let host = Host::start().await;
    let names = names(7);
    let cases = [
        ("mean", MEAN, ""),
        ("mean-unweighted", MEAN, "[examples]\nweighted = false"),
        ("mean-capped", MEAN, "[examples]\nmax = 3"),
        ("median", "kind = \"median\"\nbyzantine = 2", ""),
        ("trimmed-mean", "kind = \"trimmed_mean\"\nbyzantine = 2", ""),
        ("krum", "kind = \"krum\"\nbyzantine = 2", ""),
        ("multi-krum", "kind = \"multi_krum\"\nbyzantine = 2", ""),
        ("arc-nnm", "kind = \"trimmed_mean\"\nbyzantine = 2\npre = [\"arc\", \"nnm\"]", ""),
        ("bulyan", "kind = \"bulyan\"\nbyzantine = 1", ""),
        ("geometric-median", "kind = \"geometric_median\"\nbyzantine = 2", ""),
        ("weighted-median", "kind = \"median\"\nbyzantine = 1", "[examples]\nweighted = true"),
        ("centred", "kind = \"centered_clipping\"\nradius = 0.05\nsteps = 3", ""),
        ("quantile", "kind = \"norm_clip\"\nquantile = 0.5\nrate = 0.2", ""),
        ("foolsgold", "kind = \"foolsgold\"", ""),
        ("fltrust", "kind = \"fltrust\"", "[reference]\nclient = \"c03\""),
        ("dnc", "kind = \"dnc\"\nbyzantine = 1\niterations = 1", ""),
    ];
    for (name, rule, rest) in cases {
        let toml = task_toml(name, 3, "size = 7", rule, rest);
        host.create(&toml, &small_model(700)).await;
        host.run_clients(name, &names).await;
        let mut reference = Reference::new(&toml, small_model(700));
        (1..=3).for_each(|round| reference.step(round, &names));
        assert_eq!(host.model(name).await.digest(), reference.model.digest(), "{name}");
        let record = host.round(name, 1).await;
        assert_eq!((record.state.as_str(), record.selected, record.received), ("released", 7, 7), "{name}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_optimisers_step_as_their_papers_say_across_rounds() {
    let host = Host::start().await;
    let names = names(3);
    for (name, optimizer) in [
        ("fedavg", "kind = \"fedavg\"\nlearning_rate = 0.5"),
        ("fedavgm", "kind = \"fedavgm\"\nmomentum = 0.8"),
        ("fedadagrad", "kind = \"fedadagrad\"\nlearning_rate = 0.1"),
        ("fedadam", "kind = \"fedadam\"\nlearning_rate = 0.1"),
        ("fedyogi", "kind = \"fedyogi\"\nlearning_rate = 0.1"),
    ] {
        let toml = task_toml(name, 3, "size = 3", MEAN, &format!("[optimizer]\n{optimizer}"));
        host.create(&toml, &small_model(5)).await;
        host.run_clients(name, &names).await;
        let mut reference = Reference::new(&toml, small_model(5));
        (1..=3).for_each(|round| reference.step(round, &names));
        assert_eq!(host.model(name).await.digest(), reference.model.digest(), "{name}");
    }
    host.stop().await;
}

/// Sends the opposite of training, twenty times as long.
struct Poisoned(Honest);

impl Trainer for Poisoned {
    async fn train(&mut self, round: &Round) -> Result<Update, TrainError> {
        let honest = honest_delta(&self.0.name, round.number(), round.model());
        Ok(Update::delta(honest.iter().map(|value| -20.0 * value).collect()))
    }

    fn verdict(&mut self, round: u64, verdict: Verdict) {
        self.0.verdict(round, verdict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_is_told_the_verdicts_of_the_record() {
    let host = Host::start().await;
    host.create(&task_toml("told", 3, "size = 6", "kind = \"multi_krum\"\nbyzantine = 1", ""), &small_model(5)).await;
    let honest: Vec<Honest> = names(5).iter().map(|name| Honest::new(name)).collect();
    let poisoned = Honest::new("mallory");
    let runs = honest.iter().map(|trainer| {
        let (url, trainer) = (host.url.clone(), trainer.clone());
        async move { client(&url, &trainer.name.clone()).await.run("told", trainer).await.unwrap() }
    });
    let hostile = {
        let (url, trainer) = (host.url.clone(), Poisoned(poisoned.clone()));
        async move { client(&url, "mallory").await.run("told", trainer).await.unwrap() }
    };
    let (_, summary) = within("the runs", futures::future::join(futures::future::join_all(runs), hostile)).await;
    assert_eq!((summary.rejected, summary.accepted), (3, 0));
    for round in 1..=3 {
        let record = host.round("told", round).await;
        assert_eq!(verdict(&record, "mallory"), "rejected NOT_SELECTED");
        for trainer in honest.iter().chain([&poisoned]) {
            let told = trainer.verdicts.lock().unwrap().clone();
            let told: Vec<_> = told.iter().filter(|(number, _)| *number == round).collect();
            assert_eq!(told.len(), 1, "{} round {round}: {told:?}", trainer.name);
            let (kind, reason) = (told[0].1.kind(), told[0].1.reason().map_or("", Reason::code));
            assert_eq!(format!("{kind} {reason}").trim(), verdict(&record, &trainer.name));
        }
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_selection_closes_on_its_target_and_tells_the_late_ones() {
    let host = Host::start().await;
    host.create(&task_toml("over", 2, "size = 3\nover_selection = 1.5", MEAN, ""), &small_model(2)).await;
    let seats = host.seats("over", &["a", "b", "c", "d", "e"]).await;
    for seat in &seats[..3] {
        assert_eq!(seat.submit().await.unwrap().round, 1);
    }
    let record = host.ended("over", 1).await;
    assert_eq!(record.state, "released");
    assert_eq!((record.selected, record.received, record.accepted, record.dropouts), (5, 3, 3, 2));
    for (seat, name) in seats[3..].iter().zip(["d", "e"]) {
        assert_eq!(reason(seat.submit().await), Reason::Late);
        assert_eq!(verdict(&record, name), "dropout");
        let (answer, verdicts) = check_in(&host.federation(), "over", name, 0).await.unwrap();
        let Answer::NotNow { retry_after, .. } = answer else { panic!("{answer:?}") };
        assert!(retry_after > Duration::ZERO);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].verdict.as_ref().unwrap().kind, "dropout");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stragglers_and_dropouts_do_not_hold_a_round_beyond_its_deadline() {
    let host = Host::start().await;
    let cohort = "size = 4\nminimum = 2\nphase_limit_s = 1.0";
    host.create(&task_toml("slow", 1, cohort, MEAN, ""), &small_model(2)).await;
    let seats = host.seats("slow", &["a", "b", "left", "silent"]).await;
    seats[0].submit().await.unwrap();
    seats[2].withdraw().await.unwrap();
    assert_eq!(reason(seats[2].submit().await), Reason::Withdrawn);
    seats[1].submit().await.unwrap();
    let record = host.ended("slow", 1).await;
    assert_eq!((record.state.as_str(), record.received, record.dropouts), ("released", 2, 2));
    assert!(record.ended_at_ms >= record.closes_at_ms, "the silent client had its time");
    assert_eq!(verdict(&record, "left"), "dropout");
    assert_eq!(verdict(&record, "silent"), "dropout");
    assert_eq!(verdict(&record, "a"), "accepted");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_round_leaves_the_model_as_it_was_and_the_next_one_works() {
    let host = Host::start().await;
    let model = small_model(2);
    let cohort = "size = 3\nminimum = 2\nphase_limit_s = 60.0";
    let optimizer = "[optimizer]\nkind = \"fedavgm\"";
    host.create(&task_toml("given-up", 1, cohort, MEAN, optimizer), &model).await;
    let seats = host.seats("given-up", &["a", "b", "c"]).await;
    seats[0].submit().await.unwrap();
    seats[1].withdraw().await.unwrap();
    seats[2].withdraw().await.unwrap();
    let record = host.ended("given-up", 1).await;
    assert_eq!(record.state, "abandoned");
    assert!(record.why.contains("too few updates"), "{}", record.why);
    assert!(record.model_digest.is_empty());
    let info = host.task("given-up").await;
    assert_eq!((info.released, info.abandoned), (0, 1));
    assert_eq!(info.model_digest.as_ref(), model.digest().as_bytes());
    assert_eq!(host.model("given-up").await, model);
    let seats = host.seats("given-up", &["a", "b", "c"]).await;
    for seat in &seats {
        assert_eq!((seat.place.round, seat.assignment.model_digest), (2, model.digest()));
        seat.submit().await.unwrap();
    }
    let record = host.ended("given-up", 2).await;
    assert_eq!(record.state, "released");
    assert_ne!(record.model_digest.as_ref(), model.digest().as_bytes());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_pause_resume_and_stop_a_task() {
    let host = Host::start().await;
    let model = small_model(2);
    host.create(&task_toml("held", 5, "size = 2", MEAN, ""), &model).await;
    let seats = host.seats("held", &["a", "b"]).await;
    assert_eq!(host.control("held", "pause").await.unwrap().state, "paused");
    // The open round goes on.
    for seat in &seats {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("held", 1).await.state, "released");
    let (answer, _) = check_in(&host.federation(), "held", "a", 0).await.unwrap();
    let Answer::NotNow { why: NotNowWhy::Paused, retry_after, .. } = answer else { panic!("{answer:?}") };
    assert!(retry_after > Duration::ZERO);
    assert_eq!(host.control("held", "resume").await.unwrap().state, "running");
    let seats = host.seats("held", &["a", "b"]).await;
    assert_eq!(seats[0].place.round, 2);
    let released = host.task("held").await.model_digest;
    assert_eq!(host.control("held", "stop").await.unwrap().state, "stopped");
    let record = host.round("held", 2).await;
    assert_eq!(record.state, "abandoned");
    assert!(record.why.contains("stopped"), "{}", record.why);
    assert_eq!(reason(seats[0].submit().await), Reason::Late);
    let (answer, _) = check_in(&host.federation(), "held", "a", 0).await.unwrap();
    assert_eq!(answer, Answer::Ended { why: EndedWhy::Stopped });
    assert_eq!(reason(host.control("held", "resume").await), Reason::WrongState);
    assert_eq!(reason(host.control("held", "explode").await), Reason::Malformed);
    assert_eq!(reason(host.control("nowhere", "stop").await), Reason::NotFound);
    assert_eq!(host.task("held").await.model_digest, released);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_client_hears_of_a_stop_at_once() {
    let host = Host::start().await;
    host.create(&task_toml("waiting", 5, "size = 2", MEAN, ""), &small_model(2)).await;
    let stub = host.federation();
    let waiting = tokio::spawn(async move { check_in(&stub, "waiting", "a", 60_000).await.unwrap().0 });
    while host.task("waiting").await.checked_in == 0 {
        tokio::task::yield_now().await;
    }
    host.control("waiting", "stop").await.unwrap();
    assert_eq!(within("the answer", waiting).await.unwrap(), Answer::Ended { why: EndedWhy::Stopped });
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_never_replaced() {
    let host = Host::start().await;
    let first = task_toml("fixed", 1, "size = 2", MEAN, "");
    host.create(&first, &small_model(2)).await;
    for other in [first.clone(), task_toml("fixed", 9, "size = 3", MEAN, "")] {
        assert_eq!(reason(host.try_create(&other, &small_model(3)).await), Reason::Exists);
    }
    let info = host.task("fixed").await;
    assert_eq!((info.toml, info.dimension), (first, 12));
    for (toml, part) in [
        (task_toml("bad", 0, "size = 2", MEAN, ""), "rounds"),
        (task_toml("Bad Name", 1, "size = 2", MEAN, ""), "name"),
        (task_toml("bad", 1, "size = 2", "kind = \"krum\"\nbyzantine = 2", ""), "cohort.size"),
        (task_toml("bad", 1, "size = 2", MEAN, "[privacy]\nepsilon = 1.0"), "privacy"),
        (
            task_toml(
                "bad",
                1,
                "size = 16",
                MEAN,
                "[visibility]\nmasking = \"pairwise\"\ngroup_size = 4\n[encoding]\nclip_l2 = 1.0",
            ),
            "accept_weak_guarantee",
        ),
        ("no toml at all".to_owned(), "task.toml"),
    ] {
        let status = host.try_create(&toml, &small_model(2)).await.unwrap_err();
        assert!(status.message().contains(part), "{part}: {}", status.message());
        assert_eq!(reason::<()>(Err(status)), Reason::Spec);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_what_was_announced_makes_no_task() {
    use testudo_proto::{CreateTaskHeader, CreateTaskPart};
    let host = Host::start().await;
    let file = bytes::Bytes::from(small_model(2).to_safetensors());
    let header = |model_bytes: u64, model_digest: Digest| {
        let toml = task_toml("odd", 1, "size = 2", MEAN, "");
        CreateTaskPart::Header(CreateTaskHeader { toml, model_bytes, model_digest }).to_wire()
    };
    let chunk = |bytes: bytes::Bytes| CreateTaskPart::Chunk(bytes).to_wire();
    let length = file.len() as u64;
    for (parts, expected) in [
        (vec![header(length, Digest([0; 32])), chunk(file.clone())], Reason::DigestMismatch),
        (vec![header(length, Digest::of(&file)), chunk(file.slice(1..))], Reason::Truncated),
        (vec![header(length - 1, Digest::of(&file)), chunk(file.clone())], Reason::Oversize),
        (vec![chunk(file.clone())], Reason::Malformed),
        (vec![header(length, Digest::of(&file)), header(length, Digest::of(&file))], Reason::Malformed),
        (vec![header(5, Digest::of(b"model")), chunk("model".into())], Reason::Spec),
    ] {
        let mut admin = host.admin.clone();
        let created = within("creating a task", admin.create_task(tokio_stream::iter(parts))).await;
        assert_eq!(reason(created), expected);
    }
    assert!(host.admin.clone().list_tasks(v1::ListTasksRequest {}).await.unwrap().into_inner().tasks.is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_not_now_says_when_to_come_back_with_jitter() {
    let host = Host::with(|config| {
        config.pace.shortest_s = 0.2;
        config.pace.longest_s = 2.0;
    })
    .await;
    host.create(&task_toml("paced", 1, "size = 50", MEAN, ""), &small_model(2)).await;
    let mut waits = HashSet::new();
    for name in names(20) {
        let (answer, _) = check_in(&host.federation(), "paced", &name, 0).await.unwrap();
        let Answer::NotNow { retry_after, why: NotNowWhy::Filling, .. } = answer else { panic!("{answer:?}") };
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(2), "{retry_after:?}");
        waits.insert(retry_after);
    }
    assert!(waits.len() > 10, "{waits:?}");
    // A call that was held is answered in the same way when its time is up.
    let (answer, _) = check_in(&host.federation(), "paced", "held", 50).await.unwrap();
    let Answer::NotNow { retry_after, .. } = answer else { panic!("{answer:?}") };
    assert!(retry_after > Duration::ZERO);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selected_client_gets_the_same_place_again_until_it_is_served() {
    let host = Host::start().await;
    host.create(&task_toml("again", 1, "size = 2", MEAN, ""), &small_model(2)).await;
    let seats = host.seats("again", &["a", "b"]).await;
    let again = seat(host.federation(), "again", "a").await;
    assert_eq!((again.place.clone(), again.assignment.round), (seats[0].place.clone(), 1));
    assert_ne!(seats[0].place.nonce, seats[1].place.nonce);
    seats[0].submit().await.unwrap();
    let (answer, _) = check_in(&host.federation(), "again", "a", 0).await.unwrap();
    assert!(matches!(answer, Answer::NotNow { why: NotNowWhy::Served, .. }), "{answer:?}");
    let (answer, _) = check_in(&host.federation(), "again", "stranger", 0).await.unwrap();
    assert!(matches!(answer, Answer::NotNow { why: NotNowWhy::Running, .. }), "{answer:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claimed_examples_are_capped_by_the_task() {
    let host = Host::start().await;
    host.create(&task_toml("capped", 1, "size = 2", MEAN, "[examples]\nmax = 10"), &small_model(2)).await;
    let seats = host.seats("capped", &["a", "b"]).await;
    let payload = seats[0].payload();
    let receipt = seats[0].send(seats[0].parts(&payload, |header| header.num_examples = 1_000_000)).await.unwrap();
    assert_eq!(receipt.num_examples, 10);
    seats[1].submit().await.unwrap();
    let record = host.ended("capped", 1).await;
    let weight = |name: &str| record.clients.iter().find(|row| row.client == name).unwrap().weight.unwrap();
    assert!((weight("a") / weight("b") - 2.0).abs() < 1e-9, "10 against 5 examples");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_rounds_models_clients_and_the_server() {
    let host = Host::start().await;
    let names = names(3);
    let model = small_model(2);
    host.create(&task_toml("seen", 3, "size = 3", MEAN, ""), &model).await;
    host.run_clients("seen", &names).await;
    let mut admin = host.admin.clone();
    let list = |before, limit| v1::ListRoundsRequest { task: "seen".into(), before, limit };
    let numbers = |list: v1::ListRoundsResponse| list.rounds.iter().map(|round| round.round).collect::<Vec<_>>();
    assert_eq!(numbers(admin.list_rounds(list(0, 0)).await.unwrap().into_inner()), [3, 2, 1]);
    assert_eq!(numbers(admin.list_rounds(list(3, 1)).await.unwrap().into_inner()), [2]);
    // Every round from the first on, then the stream closes with the task.
    let watch = v1::WatchRoundsRequest { task: "seen".into(), from: 1 };
    let mut stream = admin.watch_rounds(watch).await.unwrap().into_inner();
    let mut base = model.digest().as_bytes().to_vec();
    for number in 1..=3 {
        let round = within("a round", stream.message()).await.unwrap().unwrap();
        assert_eq!((round.round, round.state.as_str(), round.clients.len()), (number, "released", 3));
        assert_eq!(round.base_digest, base);
        assert_eq!(round.seed.len(), 32);
        base = round.model_digest.to_vec();
    }
    assert!(within("the stream's end", stream.message()).await.unwrap().is_none());
    // Two models are kept besides the initial one.
    assert_eq!(Model::from_safetensors(&host.model_file("seen", 0, true).await.unwrap()).unwrap(), model);
    assert_eq!(Digest::of(&host.model_file("seen", 3, false).await.unwrap()).as_bytes(), &base[..]);
    assert!(host.model_file("seen", 2, false).await.is_ok());
    assert_eq!(reason(host.model_file("seen", 1, false).await), Reason::NotFound);
    assert_eq!(reason(host.model_file("seen", 9, false).await), Reason::NotFound);
    let clients = v1::ListClientsRequest { task: "seen".into(), limit: 0 };
    let clients = admin.list_clients(clients).await.unwrap().into_inner().clients;
    assert_eq!(clients.iter().map(|client| &client.client).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    for client in &clients {
        assert_eq!((client.uploads, client.accepted, client.rejected, client.dropouts), (3, 3, 0, 0), "{client:?}");
    }
    let tasks = admin.list_tasks(v1::ListTasksRequest {}).await.unwrap().into_inner().tasks;
    assert_eq!(tasks.len(), 1);
    assert!(!tasks[0].guarantees.is_empty());
    let server = admin.get_server(v1::GetServerRequest {}).await.unwrap().into_inner();
    assert_eq!(server.transport, "plaintext");
    assert!(server.warnings.iter().any(|warning| warning.contains("ledger is in memory")), "{:?}", server.warnings);
    let nowhere = v1::GetTaskRequest { name: "nowhere".into() };
    assert_eq!(reason(admin.get_task(nowhere).await), Reason::NotFound);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_rounds_as_they_end() {
    let host = Host::start().await;
    host.create(&task_toml("news", 2, "size = 2", MEAN, ""), &small_model(2)).await;
    let watch = v1::WatchRoundsRequest { task: "news".into(), from: 0 };
    let mut stream = host.admin.clone().watch_rounds(watch).await.unwrap().into_inner();
    for number in 1..=2 {
        for seat in host.seats("news", &["a", "b"]).await {
            seat.submit().await.unwrap();
        }
        let round = within("the news", stream.message()).await.unwrap().unwrap();
        assert_eq!((round.round, round.accepted), (number, 2));
    }
    assert!(within("the end", stream.message()).await.unwrap().is_none());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_goes_on_without_a_client_whose_training_fails() {
    struct Failing;
    impl Trainer for Failing {
        async fn train(&mut self, _: &Round) -> Result<Update, TrainError> {
            Err("no data here".into())
        }
    }
    let host = Host::start().await;
    host.create(&task_toml("failing", 2, "size = 4\nminimum = 3", MEAN, ""), &small_model(2)).await;
    let names = names(3);
    let failing = client(&host.url, "failing").await;
    let (honest, failed) =
        futures::future::join(host.run_clients("failing", &names), failing.run("failing", Failing)).await;
    assert!(honest.iter().all(|summary| summary.rounds == 2));
    let failed = failed.unwrap();
    assert_eq!((failed.failures, failed.dropouts), (2, 2));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_do_not_share_anything_but_the_server() {
    let host = Host::start().await;
    let names = names(3);
    // The same model and the same updates: what one task forgets, the other still needs.
    let model = small_model(4);
    let short = task_toml("short", 5, "size = 3", MEAN, "[optimizer]\nkind = \"fedavgm\"");
    let long = task_toml("long", 5, "size = 3", MEAN, "[optimizer]\nkind = \"fedavgm\"");
    host.create(&short, &model).await;
    host.create(&long, &model).await;
    for seat in host.seats("long", &["c00", "c01", "c02"]).await {
        let delta = honest_delta(seat.place.client.as_str(), 1, &model);
        let payload = testudo_proto::framing::payload(&delta);
        let examples = honest_examples(seat.place.client.as_str()) as i64;
        seat.send(seat.parts(&payload, |header| header.num_examples = examples)).await.unwrap();
    }
    host.ended("long", 1).await;
    host.run_clients("short", &names).await;
    assert_eq!(
        Digest::of(&host.model_file("long", 1, false).await.unwrap()).as_bytes(),
        host.task("long").await.model_digest.as_ref(),
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_no_more_tasks_than_its_limit() {
    let host = Host::with(|config| config.limits.tasks = 2).await;
    for name in ["first", "second"] {
        host.create(&task_toml(name, 1, "size = 2", MEAN, ""), &small_model(2)).await;
    }
    let third = host.try_create(&task_toml("third", 1, "size = 2", MEAN, ""), &small_model(2)).await;
    assert_eq!(reason(third), Reason::Overloaded);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let host = Host::start().await;
    for service in ["", "testudo.v1.Federation", "testudo.v1.Admin"] {
        let request = HealthCheckRequest { service: service.into() };
        let health = HealthClient::new(host.channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status, ServingStatus::Serving as i32, "{service:?}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut stream = ServerReflectionClient::new(host.channel.clone())
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = within("reflection", stream.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let services: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(services.contains(&"testudo.v1.Federation") && services.contains(&"testudo.v1.Admin"), "{services:?}");
    drop(stream);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_pages_answer_plain_http() {
    let host = Host::with(|config| config.listen.web = Some("127.0.0.1:0".parse().unwrap())).await;
    let web = host.server.web_address().unwrap();
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(web).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        within("the page", stream.read_to_string(&mut text)).await.unwrap();
        text
    };
    host.create(&task_toml("counted", 1, "size = 2", MEAN, ""), &small_model(2)).await;
    for seat in host.seats("counted", &["secret-name-1", "secret-name-2"]).await {
        seat.submit().await.unwrap();
    }
    host.ended("counted", 1).await;
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/nowhere").await.starts_with("HTTP/1.1 404"));
    let metrics = get("/metrics").await;
    assert!(metrics.contains("testudo_rounds_total{task=\"counted\",outcome=\"released\"} 1"), "{metrics}");
    assert!(metrics.contains("testudo_updates_total{outcome=\"accepted\",reason=\"none\"} 2"), "{metrics}");
    assert!(!metrics.contains("secret-name"), "no client id in a label");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_at_once_though_somebody_waits_and_watches() {
    let host = Host::start().await;
    host.create(&task_toml("stopped", 2, "size = 2", MEAN, ""), &small_model(2)).await;
    let watch = v1::WatchRoundsRequest { task: "stopped".into(), from: 0 };
    let mut watched = host.admin.clone().watch_rounds(watch).await.unwrap().into_inner();
    let stub = host.federation();
    let waiting = tokio::spawn(async move { check_in(&stub, "stopped", "a", 60_000).await });
    while host.task("stopped").await.checked_in == 0 {
        tokio::task::yield_now().await;
    }
    let watching = tokio::spawn(async move { while let Ok(Some(_)) = watched.message().await {} });
    let Host { server, .. } = host;
    // The grace period for calls under way is ten seconds; nobody here needs it.
    let stopped = tokio::time::timeout(Duration::from_secs(8), server.stop()).await;
    assert!(stopped.is_ok(), "a held check-in or a watcher kept the server up");
    let (answer, _) = within("the check-in", waiting).await.unwrap().unwrap();
    assert!(matches!(answer, Answer::NotNow { .. }), "{answer:?}");
    within("the watcher", watching).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_reference_client_says_so() {
    let host = Host::start().await;
    let toml = task_toml("guided", 1, "size = 3", "kind = \"fltrust\"", "[reference]\nclient = \"c02\"");
    host.create(&toml, &small_model(10)).await;
    assert_eq!(host.task("guided").await.why, "waits for its reference client c02 to check in");
    let seats = host.seats("guided", &["c00", "c01", "c02"]).await;
    assert_eq!(seats.len(), 3);
    assert_eq!(host.task("guided").await.why, "", "a round is open");
    host.stop().await;
}
