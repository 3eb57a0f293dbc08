//! Lost connections, stops and starts: what was acknowledged stays, and the same round goes on.

use crate::common::*;
use futures::future::join_all;
use std::time::Duration;
use testudo_proto::{Answer, framing};
use testudo_protocol::{ClientId, Digest, Reason, TaskName};
use testudo_server::store::{self, Body, Location, UploadRow};

const MEAN: &str = "kind = \"mean\"";

/// Asking for the offset would end the stream; the counter tells what has arrived. A drained channel alone would only
/// say that bytes are on their way, and an aborted call takes those back.
async fn arrived(host: &Host, bytes: u64) {
    within("the chunks", async {
        while host.counter("testudo_upload_bytes_total").await < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn with_web(config: &mut testudo_server::Config) {
    config.listen.web = Some("127.0.0.1:0".parse().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_upload_is_resumed_at_a_boundary_on_both_spools() {
    let directory = tempfile::tempdir().unwrap();
    for host in [Host::with(with_web).await, Host::on(directory.path(), with_web).await] {
        // Five chunks of one MiB.
        host.create(&task_toml("lost", 1, "size = 2", MEAN, ""), &small_model(5 * 65_536)).await;
        let seats = host.seats("lost", &["a", "b"]).await;
        let seat = &seats[0];
        let delta: Vec<f32> = (0..seat.dimension()).map(|at| at as f32 * 1e-6).collect();
        let payload = framing::payload(&delta);
        // The client's connection breaks after the third chunk.
        let broken = seat.through(connect(&host.url).await);
        let (sender, call) = open_upload(&broken);
        for part in seat.parts(&payload, |_| {}).into_iter().take(4) {
            sender.send(part).await.unwrap();
        }
        arrived(&host, 3 << 20).await;
        call.abort();
        let held = seat.status(Digest::of(&payload)).await.unwrap();
        assert_eq!((held.offset, held.receipt), (3 << 20, None), "everything that had arrived is held");
        let held = held.offset;
        // From the beginning again, or from elsewhere, is refused; the right start completes the update.
        assert_eq!(reason(seat.send(seat.parts(&payload, |_| {})).await), Reason::WrongOffset);
        let elsewhere = seat.parts(&payload, |header| header.offset = held + 4);
        assert_eq!(reason(seat.send(elsewhere).await), Reason::WrongOffset);
        let receipt = seat.send(seat.parts(&payload, |header| header.offset = held)).await.unwrap();
        assert_eq!(receipt.digest.as_ref(), Digest::of(&payload).as_bytes());
        seats[1].submit().await.unwrap();
        assert_eq!(host.ended("lost", 1).await.accepted, 2);
        drop((sender, broken));
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_resumed_or_replaced_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), with_web).await;
    let toml = task_toml("resumed", 1, "size = 2", MEAN, "[examples]\nweighted = false");
    let model = small_model(9 * 65_536);
    host.create(&toml, &model).await;
    let seats = host.seats("resumed", &["a", "b"]).await;
    let delta = |scale: f32| (0..seats[0].dimension()).map(|at| at as f32 * scale).collect::<Vec<_>>();
    let payload = framing::payload(&delta(1e-6));
    let mut broken = Vec::new();
    for (number, seat) in (1..).zip(&seats) {
        let (sender, call) = open_upload(seat);
        for part in seat.parts(&payload, |_| {}).into_iter().take(7) {
            sender.send(part).await.unwrap();
        }
        arrived(&host, number * (6 << 20)).await;
        // A stream that breaks, as a lost connection does, instead of ending: what had arrived is kept.
        call.abort();
        broken.push(sender);
    }
    let before = seats[0].status(Digest::of(&payload)).await.unwrap().offset;
    assert_eq!(before, 6 << 20, "everything that had arrived is held");
    host.stop().await;

    let host = Host::on(directory.path(), |_| {}).await;
    let [a, b] = [&seats[0], &seats[1]].map(|seat| seat.through(host.channel.clone()));
    assert_eq!(seat(host.federation(), "resumed", "a").await.place, a.place);
    let held = a.status(Digest::of(&payload)).await.unwrap().offset;
    assert_eq!(held, before, "a restart loses nothing that was told to be held");
    a.send(a.parts(&payload, |header| header.offset = held)).await.unwrap();
    // The other client's process has lost its update and trained another.
    let other = framing::payload(&delta(-2e-6));
    assert_eq!(b.status(Digest::of(&other)).await.unwrap().offset, 0);
    b.send(b.parts(&other, |_| {})).await.unwrap();
    let record = host.ended("resumed", 1).await;
    assert_eq!((record.state.as_str(), record.accepted), ("released", 2));
    let mut reference = Reference::new(&toml, model);
    reference.apply(&[delta(1e-6), delta(-2e-6)], None);
    assert_eq!(host.model("resumed").await.digest(), reference.model.digest());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_any_phase_goes_on_with_the_same_round() {
    for uploads in 0..=4 {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::on(directory.path(), |_| {}).await;
        let toml = task_toml("phases", 2, "size = 4", MEAN, "[optimizer]\nkind = \"fedadam\"\nlearning_rate = 0.1");
        let model = small_model(4);
        host.create(&toml, &model).await;
        let names = ["a", "b", "c", "d"];
        let seats = host.seats("phases", &names).await;
        let receipts: Vec<_> = join_all(seats[..uploads].iter().map(|seat| seat.submit())).await;
        host.stop().await;

        let host = Host::on(directory.path(), |_| {}).await;
        let again: Vec<Seat> = seats.iter().map(|seat| seat.through(host.channel.clone())).collect();
        for (seat, receipt) in again.iter().zip(&receipts) {
            if uploads < 4 {
                assert_eq!(seat.submit().await.unwrap(), *receipt.as_ref().unwrap(), "the receipt holds");
                let other = seat.parts(&framing::payload(&vec![0.5; seat.dimension()]), |_| {});
                assert_eq!(reason(seat.send(other).await), Reason::Duplicate);
            }
        }
        for seat in &again[uploads..] {
            assert_eq!(self::seat(host.federation(), "phases", seat.place.client.as_str()).await.place, seat.place);
            seat.submit().await.unwrap();
        }
        let record = host.ended("phases", 1).await;
        assert_eq!((record.state.as_str(), record.received, record.accepted), ("released", 4, 4), "{uploads}");
        let info = host.task("phases").await;
        assert_eq!((info.released, info.abandoned), (1, 0), "{uploads}");
        assert!(info.current_round >= 1, "{uploads}");
        let mut reference = Reference::new(&toml, model);
        let row = vec![0.25; reference.model.parameters().len()];
        reference.apply(&vec![row.clone(); 4], Some(&[5.0; 4]));
        assert_eq!(host.model("phases").await.digest(), reference.model.digest());
        host.stop().await;

        // Between two rounds: number, model and the optimiser's state are those of before.
        let host = Host::on(directory.path(), |_| {}).await;
        for seat in host.seats("phases", &names).await {
            assert_eq!((seat.place.round, seat.assignment.model_digest), (2, reference.model.digest()));
            seat.submit().await.unwrap();
        }
        host.ended("phases", 2).await;
        reference.apply(&vec![row; 4], Some(&[5.0; 4]));
        assert_eq!(host.model("phases").await.digest(), reference.model.digest());
        host.stop().await;

        // After the last: still finished, nothing released again.
        let host = Host::on(directory.path(), |_| {}).await;
        let info = host.task("phases").await;
        assert_eq!((info.state.as_str(), info.released), ("finished", 2));
        let (answer, verdicts) = check_in(&host.federation(), "phases", "a", 0).await.unwrap();
        assert!(matches!(answer, Answer::Ended { .. }));
        assert_eq!(verdicts.len(), 2);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_withdrawals_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    host.create(&task_toml("kept", 1, "size = 4\nminimum = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("kept", &["a", "b", "left", "nan"]).await;
    assert_eq!(reason(seats[3].send(with_value(&seats[3], f32::NAN, 0)).await), Reason::NonFinite);
    seats[2].withdraw().await.unwrap();
    seats[0].submit().await.unwrap();
    host.stop().await;
    let host = Host::on(directory.path(), |_| {}).await;
    let seats: Vec<Seat> = seats.iter().map(|seat| seat.through(host.channel.clone())).collect();
    assert_eq!(reason(seats[3].submit().await), Reason::Duplicate);
    assert_eq!(reason(seats[2].submit().await), Reason::Withdrawn);
    seats[1].submit().await.unwrap();
    let record = host.ended("kept", 1).await;
    assert_eq!(verdict(&record, "nan"), "rejected NON_FINITE");
    assert_eq!(verdict(&record, "left"), "dropout");
    assert_eq!((record.accepted, record.dropouts, record.rejected), (2, 1, 1));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_memory_spool_abandons_the_round_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let memory = |config: &mut testudo_server::Config| config.storage.spool = testudo_server::config::Medium::Memory;
    let host = Host::on(directory.path(), memory).await;
    let model = small_model(4);
    host.create(&task_toml("memory", 1, "size = 2", MEAN, ""), &model).await;
    let seats = host.seats("memory", &["a", "b"]).await;
    seats[0].submit().await.unwrap();
    host.stop().await;
    let host = Host::on(directory.path(), memory).await;
    let record = host.ended("memory", 1).await;
    assert_eq!(record.state, "abandoned");
    assert!(record.why.contains("spool was in memory"), "{}", record.why);
    assert_eq!(host.model("memory").await, model);
    assert_eq!(reason(seats[1].through(host.channel.clone()).submit().await), Reason::Late);
    for seat in host.seats("memory", &["a", "b"]).await {
        assert_eq!(seat.place.round, 2);
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("memory", 2).await.state, "released");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_recorded_beyond_the_target_are_all_released_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let toml = task_toml("beyond", 1, "size = 3\nover_selection = 1.6\nminimum = 2", MEAN, "");
    let model = small_model(4);
    host.create(&toml, &model).await;
    let seats = host.seats("beyond", &["a", "b", "c", "d", "e"]).await;
    seats[0].submit().await.unwrap();
    host.stop().await;
    // The ledger as a crash leaves it: while the third row was written, the fourth and the fifth were too, and all
    // their clients have their receipts; the survivors were not fixed yet.
    let ledger = store::open(&Location::File(directory.path().join("ledger.sqlite"))).await.unwrap();
    let payload = seats[0].payload();
    let row = |client: &str| UploadRow {
        client: ClientId::new(client).unwrap(),
        digest: Digest::of(&payload),
        body: Body::Inline(payload.clone()),
        norm: 1.0,
        examples: 5,
        at: 1,
    };
    let rows = ["b", "c", "d", "e"].map(|client| (TaskName::new("beyond").unwrap(), 1, row(client)));
    assert!(ledger.record_uploads(rows.to_vec()).await.iter().all(Result::is_ok));
    ledger.close().await;
    drop(ledger);
    let host = Host::on(directory.path(), |_| {}).await;
    let record = host.ended("beyond", 1).await;
    assert_eq!((record.state.as_str(), record.received, record.accepted, record.dropouts), ("released", 5, 5, 0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_at_a_time_uses_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let second = testudo_server::Server::start(file_config(directory.path())).await;
    let error = second.unwrap_err().to_string();
    assert!(error.contains("in use by another server"), "{error}");
    host.stop().await;
    Host::on(directory.path(), |_| {}).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_clients_wait_out_a_restart_in_the_middle_of_a_task() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let toml = task_toml("outage", 6, "size = 4\nphase_limit_s = 10.0", "kind = \"median\"\nbyzantine = 1", "");
    host.create(&toml, &small_model(40)).await;
    let names = names(4);
    let address = host.server.address();
    let url = host.url.clone();
    let runs: Vec<_> = names
        .iter()
        .map(|name| {
            let (url, name) = (url.clone(), name.clone());
            tokio::spawn(async move { client(&url, &name).await.run("outage", Honest::new(&name)).await.unwrap() })
        })
        .collect();
    host.ended("outage", 2).await;
    host.stop().await;
    let host = Host::on(directory.path(), |config| config.listen.address = address).await;
    for summary in within("the runs", join_all(runs)).await {
        assert_eq!(summary.unwrap().ended, testudo_client::Ended::Finished);
    }
    let mut reference = Reference::new(&toml, small_model(40));
    (1..=6).for_each(|round| reference.step(round, &names));
    assert_eq!(host.model("outage").await.digest(), reference.model.digest());
    assert_eq!(host.task("outage").await.abandoned, 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_remembers_survives_a_restart() {
    for (name, rule) in [
        ("centred", "kind = \"centered_clipping\"\nradius = 0.05"),
        ("quantile", "kind = \"norm_clip\"\nquantile = 0.5\nrate = 0.2"),
        ("history", "kind = \"foolsgold\""),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let toml = task_toml(name, 4, "size = 5", rule, "[optimizer]\nkind = \"fedavgm\"");
        let clients = names(5);
        let mut reference = Reference::new(&toml, small_model(300));
        let mut host = Host::on(directory.path(), |_| {}).await;
        host.create(&toml, &small_model(300)).await;
        for round in 1..=4 {
            let views: Vec<&str> = clients.iter().map(String::as_str).collect();
            let seats = host.seats(name, &views).await;
            for (seat, client) in seats.iter().zip(&clients) {
                let delta = honest_delta(client, round, &reference.model);
                let parts = seat.parts(&framing::payload(&delta), |header| {
                    header.num_examples = honest_examples(client) as i64;
                });
                seat.send(parts).await.unwrap();
            }
            host.ended(name, round).await;
            reference.step(round, &clients);
            assert_eq!(host.model(name).await.digest(), reference.model.digest(), "{name}, round {round}");
            drop(seats);
            host.stop().await;
            host = Host::on(directory.path(), |_| {}).await;
        }
        host.stop().await;
    }
}
