//! A ledger that fails at the wrong moment, two streams at the ledger at once, and models that two tasks share.

use crate::common::*;
use futures::future::join_all;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{path::Path, time::Duration};
use testudo_proto::framing;
use testudo_protocol::{Digest, Reason};

const MEAN: &str = "kind = \"mean\"";

/// Another connection to the ledger of a running server: what it changes, the server meets.
async fn ledger(directory: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(directory.join("ledger.sqlite"));
    options.busy_timeout(Duration::from_secs(10)).connect().await.unwrap()
}

async fn execute(ledger: &mut SqliteConnection, statement: &'static str) {
    sqlx::query(statement).execute(ledger).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_a_release_that_the_ledger_refuses_bear_no_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let model = small_model(4);
    let rule = "kind = \"multi_krum\"\nbyzantine = 1";
    host.create(&task_toml("refused", 1, "size = 6\nminimum = 5", rule, ""), &model).await;
    let mut ledger = ledger(directory.path()).await;
    execute(
        &mut ledger,
        "CREATE TRIGGER broken BEFORE UPDATE OF state ON round WHEN NEW.state = 'released'
         BEGIN SELECT RAISE (ABORT, 'no space'); END",
    )
    .await;
    let clients = ["a", "b", "c", "d", "e", "nan"];
    let seats = host.seats("refused", &clients).await;
    assert_eq!(reason(seats[5].send(with_value(&seats[5], f32::NAN, 0)).await), Reason::NonFinite);
    for seat in &seats[..5] {
        seat.submit().await.unwrap();
    }
    let record = host.ended("refused", 1).await;
    assert_eq!(record.state, "abandoned");
    assert!(record.why.contains("fault"), "{}", record.why);
    for client in &clients[..5] {
        assert_eq!(verdict(&record, client), "pending");
        let row = record.clients.iter().find(|row| row.client == *client).unwrap();
        assert_eq!((row.score, row.weight), (None, None), "{client}");
    }
    // What was refused at the door stays refused.
    assert_eq!(verdict(&record, "nan"), "rejected NON_FINITE");
    assert_eq!((record.received, record.accepted, record.rejected), (5, 0, 1));
    assert_eq!(host.model("refused").await, model);
    execute(&mut ledger, "DROP TRIGGER broken").await;
    for seat in host.seats("refused", &clients).await {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("refused", 2).await.state, "released");
    drop(ledger);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_fails_while_a_round_is_abandoned_loses_nothing_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let model = small_model(4);
    host.create(&task_toml("stuck", 1, "size = 3\nminimum = 2", MEAN, ""), &model).await;
    let mut ledger = ledger(directory.path()).await;
    execute(
        &mut ledger,
        "CREATE TRIGGER broken BEFORE UPDATE OF state ON round WHEN NEW.state = 'abandoned'
         BEGIN SELECT RAISE (ABORT, 'no space'); END",
    )
    .await;
    let clients = ["a", "b", "c"];
    let seats = host.seats("stuck", &clients).await;
    let receipt = seats[0].submit().await.unwrap();
    seats[1].withdraw().await.unwrap();
    // The answer waits for the driver, which is trying to write.
    let last = seats[2].clone();
    let withdrawal = tokio::spawn(async move { last.withdraw().await });
    // Another task on the same ledger does not notice.
    host.create(&task_toml("other", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    for seat in host.seats("other", &["a", "b"]).await {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("other", 1).await.state, "released");
    within("the withdrawal", withdrawal).await.unwrap().unwrap();
    // Every try has failed by now: the round is still there, and so is what was acknowledged.
    assert_eq!(host.round("stuck", 1).await.state, "open");
    assert_eq!(seats[0].submit().await.unwrap(), receipt);
    assert_eq!(host.task("stuck").await.abandoned, 0);
    execute(&mut ledger, "DROP TRIGGER broken").await;
    let record = host.ended("stuck", 1).await;
    assert_eq!((record.state.as_str(), host.task("stuck").await.abandoned), ("abandoned", 1));
    assert!(record.why.contains("too few updates"), "{}", record.why);
    assert_eq!((verdict(&record, "a").as_str(), verdict(&record, "b").as_str()), ("pending", "dropout"));
    assert_eq!(host.model("stuck").await, model);
    for seat in host.seats("stuck", &clients).await {
        assert_eq!(seat.place.round, 2);
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("stuck", 2).await.state, "released");
    drop(ledger);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_seat_that_meet_at_the_ledger_share_one_row_and_one_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |config| config.listen.web = Some("127.0.0.1:0".parse().unwrap())).await;
    host.create(&task_toml("twins", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("twins", &["a", "b"]).await;
    let mut ledger = ledger(directory.path()).await;
    // Nobody can write: the first stream's row waits.
    execute(&mut ledger, "BEGIN IMMEDIATE").await;
    let bytes = seats[0].payload().len() as u64;
    let send = || {
        let seat = seats[0].clone();
        tokio::spawn(async move { seat.submit().await })
    };
    let first = send();
    within("the bytes", async {
        while host.counter("testudo_upload_bytes_total").await < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let twins = [first, send(), send()];
    let other = seats[0].parts(&framing::payload(&vec![0.5; seats[0].dimension()]), |_| {});
    assert_eq!(reason(seats[0].send(other).await), Reason::Duplicate);
    assert!(twins.iter().all(|twin| !twin.is_finished()), "no receipt before the ledger has the row");
    execute(&mut ledger, "ROLLBACK").await;
    let receipts: Vec<_> =
        within("the receipts", join_all(twins)).await.into_iter().map(|twin| twin.unwrap().unwrap()).collect();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM upload").fetch_one(&mut ledger).await.unwrap();
    assert_eq!(rows, 1);
    // Twins did not send it again either.
    assert_eq!(host.counter("testudo_upload_bytes_total").await, bytes);
    seats[1].submit().await.unwrap();
    assert_eq!(host.ended("twins", 1).await.accepted, 2);
    drop(ledger);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_streams_of_one_seat_race_one_update_counts_and_every_receipt_is_its() {
    let directory = tempfile::tempdir().unwrap();
    for host in [Host::start().await, Host::on(directory.path(), |_| {}).await] {
        let names = names(12);
        let clients: Vec<&str> = names.iter().map(String::as_str).collect();
        // Larger than what lies in the ledger itself.
        host.create(&task_toml("raced", 1, "size = 12", MEAN, ""), &small_model(20_000)).await;
        let seats = host.seats("raced", &clients).await;
        let channels = join_all((0..4).map(|_| connect(&host.url))).await;
        let races = seats.iter().map(|seat| {
            let channels = &channels;
            async move {
                let payloads = [seat.payload(), framing::payload(&vec![0.5; seat.dimension()])];
                let streams = (0..8).map(|stream| {
                    let through = seat.through(channels[stream % 4].clone());
                    // Six twins and two strangers.
                    let payload = payloads[usize::from(stream % 4 == 3)].clone();
                    async move { (Digest::of(&payload), through.send(through.parts(&payload, |_| {})).await) }
                });
                let mut receipts = Vec::new();
                for (digest, result) in join_all(streams).await {
                    match result {
                        Ok(receipt) => receipts.push((digest, receipt)),
                        Err(status) => {
                            let found = reason::<()>(Err(status));
                            let expected = [Reason::TakenOver, Reason::WrongOffset, Reason::Duplicate];
                            assert!(expected.contains(&found), "{found:?}");
                        }
                    }
                }
                // Whoever got nowhere asks and goes on, as the SDK does.
                let (digest, payload) = match receipts.first() {
                    Some((digest, _)) => (*digest, payloads[usize::from(Digest::of(&payloads[0]) != *digest)].clone()),
                    None => (Digest::of(&payloads[0]), payloads[0].clone()),
                };
                let receipt = match (receipts.first(), seat.status(digest).await) {
                    // The round may have ended with this or another update before anybody asked.
                    (found, Err(status)) => {
                        assert_eq!(reason::<()>(Err(status)), Reason::Late);
                        let Some((_, receipt)) = found else { return };
                        receipt.clone()
                    }
                    (_, Ok(held)) => match held.receipt {
                        Some(receipt) => receipt,
                        None => seat.send(seat.parts(&payload, |header| header.offset = held.offset)).await.unwrap(),
                    },
                };
                assert_eq!(receipt.digest.as_ref(), digest.as_bytes());
                assert!(receipts.iter().all(|(_, found)| *found == receipt), "{receipts:?}");
            }
        });
        within("the races", join_all(races)).await;
        let record = host.ended("raced", 1).await;
        assert_eq!((record.state.as_str(), record.received, record.accepted), ("released", 12, 12));
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_transfer_to_a_newer_one_is_told_so_with_a_reason() {
    let host = Host::start().await;
    host.create(&task_toml("newer", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("newer", &["a", "b"]).await;
    let (sender, older) = open_upload(&seats[0]);
    sender.send(seats[0].parts(&seats[0].payload(), |_| {})[0].clone()).await.unwrap();
    // Only a stream that has begun can be taken over.
    let status = within("the older stream's end", async {
        while !older.is_finished() {
            assert_eq!(seats[0].status(Digest::of(&seats[0].payload())).await.unwrap().offset, 0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        older.await.unwrap().unwrap_err()
    })
    .await;
    assert_eq!(status.code(), tonic::Code::Aborted);
    let reject = testudo_proto::from_status(&status).expect("a reason");
    assert_eq!(reject.reason, Reason::TakenOver);
    assert!(reject.retry_after.is_some());
    for seat in &seats {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("newer", 1).await.accepted, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_two_tasks_share_stays_until_neither_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let keep_one = |config: &mut testudo_server::Config| config.storage.keep_models = 1;
    let host = Host::on(directory.path(), keep_one).await;
    let play = async |host: &Host, task: &str, round: u64| {
        for seat in host.seats(task, &["a", "b"]).await {
            assert_eq!(seat.place.round, round);
            seat.submit().await.unwrap();
        }
        assert_eq!(host.ended(task, round).await.state, "released");
    };
    for task in ["quick", "slow"] {
        host.create(&task_toml(task, 9, "size = 2", MEAN, ""), &small_model(4)).await;
        // The same updates on the same model: the same blob.
        play(&host, task, 1).await;
    }
    let shared = host.model_file("slow", 1, false).await.unwrap();
    assert_eq!(host.model_file("quick", 1, false).await.unwrap(), shared);
    for round in 2..=4 {
        play(&host, "quick", round).await;
    }
    // No longer kept by the first task, but the second one's newest.
    assert_eq!(host.model_file("slow", 0, false).await.unwrap(), shared);
    assert_eq!(reason(host.model_file("quick", 2, false).await), Reason::NotFound);
    host.stop().await;
    let host = Host::on(directory.path(), keep_one).await;
    play(&host, "slow", 2).await;
    play(&host, "slow", 3).await;
    assert_eq!(reason(host.model_file("slow", 1, false).await), Reason::NotFound);
    host.stop().await;
}
