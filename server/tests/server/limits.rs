//! Limits under pressure: memory that hostile senders hold, check-ins that come too often, a stop in the way of a scrape.

use crate::common::*;
use futures::future::join_all;
use std::time::Duration;
use testudo_proto::{Answer, retry_delay};
use testudo_protocol::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const MEAN: &str = "kind = \"mean\"";

#[tokio::test(flavor = "multi_thread")]
async fn senders_that_hold_memory_and_send_next_to_nothing_lose_it_when_others_wait() {
    let host = Host::with(|config| {
        // Room for eight of these uploads; silence alone would end one only after half a minute.
        config.limits.upload_memory_bytes = 8 * 64 * 1024;
        config.limits.streams_per_connection = 200;
        assert!(config.limits.upload_idle_s >= 30.0);
    })
    .await;
    let hostile: Vec<String> = (0..16).map(|number| format!("hostile-{number}")).collect();
    let honest = names(8);
    let clients: Vec<&str> = hostile.iter().chain(&honest).map(String::as_str).collect();
    let cohort = "size = 8\nover_selection = 3.0\nminimum = 8\nphase_limit_s = 60.0";
    host.create(&task_toml("held", 1, cohort, MEAN, ""), &small_model(4095)).await;
    let seats = host.seats("held", &clients).await;
    let mut held = Vec::new();
    for (number, seat) in seats[..16].iter().enumerate() {
        let (sender, call) = open_upload(seat);
        sender.send(seat.parts(&seat.payload(), |_| {})[0].clone()).await.unwrap();
        if number % 2 == 0 {
            held.push((tokio::spawn(async move { sender.closed().await }), call));
            continue;
        }
        let payload = seat.payload();
        let drip = tokio::spawn(async move {
            for at in 0..payload.len() {
                if sender.send(chunk(payload.slice(at..at + 1))).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        held.push((drip, call));
    }
    // All of them come before the honest ones: first their memory must be taken, then they must lose it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = std::time::Instant::now();
    for receipt in join_all(seats[16..].iter().map(|seat| seat.submit())).await {
        receipt.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(host.ended("held", 1).await.accepted, 8);
    let mut slow = 0;
    for (sender, call) in held {
        let found = reason(within("the end of a hostile upload", call).await.unwrap());
        assert!(matches!(found, Reason::TooSlow | Reason::Late | Reason::Withdrawn), "{found:?}");
        slow += usize::from(found == Reason::TooSlow);
        sender.abort();
    }
    assert!(slow >= 8, "{slow} were told to be too slow");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stands_still_ends_with_its_round() {
    let host = Host::with(|config| assert!(config.limits.upload_idle_s >= 30.0)).await;
    host.create(&task_toml("over", 1, "size = 2\nover_selection = 1.5", MEAN, ""), &small_model(4095)).await;
    let seats = host.seats("over", &["slow", "a", "b"]).await;
    let (sender, call) = open_upload(&seats[0]);
    let payload = seats[0].payload();
    sender.send(seats[0].parts(&payload, |_| {})[0].clone()).await.unwrap();
    sender.send(chunk(payload.slice(..1))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for seat in &seats[1..] {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("over", 1).await.accepted, 2);
    assert_eq!(reason(within("the end of the stream", call).await.unwrap()), Reason::Late);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_checks_in_all_the_time_is_refused_alone_and_told_when_to_come_back() {
    let host = Host::with(|config| config.limits.check_ins_per_s = Some(40.0)).await;
    host.create(&task_toml("hammered", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let stub = host.federation();
    let mut answers = 0;
    let status = loop {
        match check_in(&stub, "hammered", "hammer", 0).await {
            Ok(_) => answers += 1,
            Err(status) => break status,
        }
        assert!(answers < 10_000, "never refused");
    };
    // Four seconds' worth, and what became free meanwhile.
    assert!(answers >= 160, "{answers}");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let wait = retry_delay(&status).expect("when to come back");
    assert!(wait > Duration::ZERO && wait < Duration::from_secs(1), "{wait:?}");
    assert_eq!(reason::<()>(Err(status)), Reason::Overloaded);
    // Over another connection it is the same client; another client over the same connection is not.
    let elsewhere = federation(connect(&host.url).await);
    assert_eq!(reason(check_in(&elsewhere, "hammered", "hammer", 0).await), Reason::Overloaded);
    assert!(matches!(check_in(&stub, "hammered", "honest", 0).await, Ok((Answer::NotNow { .. }, _))));
    tokio::time::sleep(wait * 3).await;
    check_in(&stub, "hammered", "hammer", 0).await.unwrap();
    // It may still take part.
    for seat in host.seats("hammered", &["honest", "other"]).await {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("hammered", 1).await.accepted, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_cannot_check_in_without_end_under_ever_new_names() {
    let host = Host::with(|config| config.limits.connection_check_ins_per_s = 10.0).await;
    host.create(&task_toml("sybil", 1, "size = 200", MEAN, ""), &small_model(4)).await;
    let (stub, other) = (host.federation(), federation(connect(&host.url).await));
    let mut refused = 0;
    for number in 0..120 {
        let answer = check_in(&stub, "sybil", &format!("sybil-{number}"), 0).await;
        refused += usize::from(answer.is_err_and(|status| reason::<()>(Err(status)) == Reason::Overloaded));
    }
    assert!((40..=80).contains(&refused), "{refused} of 120 refused");
    check_in(&other, "sybil", "honest", 0).await.unwrap();
    // A task that is not there costs as much.
    let unknown = join_all((0..40).map(|_| check_in(&stub, "nowhere", "a", 0))).await;
    assert!(unknown.into_iter().any(|answer| reason(answer) == Reason::Overloaded));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_check_in_at_once_are_all_answered() {
    // What a server with no configuration has.
    let limits = testudo_server::Config::default().limits;
    let host = Host::with(|config| {
        config.limits.connection_check_ins_per_s = limits.connection_check_ins_per_s;
        config.pace = testudo_server::Config::default().pace;
    })
    .await;
    host.create(&task_toml("crowd", 1, "size = 1000\nminimum = 2", MEAN, ""), &small_model(4)).await;
    let stub = host.federation();
    let names: Vec<String> = (0..1000).map(|number| format!("c{number}")).collect();
    // Even over one connection, each of them twice.
    for _ in 0..2 {
        for answer in join_all(names.iter().map(|name| check_in(&stub, "crowd", name, 0))).await {
            assert!(matches!(answer, Ok((Answer::NotNow { .. }, _))), "{answer:?}");
        }
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_as_fast_as_they_go_are_no_offence() {
    let host = Host::with(|config| {
        config.listen.web = Some("127.0.0.1:0".parse().unwrap());
        config.limits.check_ins_per_s = Some(4.0);
    })
    .await;
    let rounds = 200;
    host.create(&task_toml("fast", rounds, "size = 2\ngather_s = 0.0", MEAN, ""), &small_model(4)).await;
    for summary in host.run_clients("fast", &names(2)).await {
        assert_eq!(summary.accepted, rounds);
    }
    assert_eq!(host.counter("testudo_rate_limited_total").await, 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_on_the_web_port_does_not_hold_up_a_stop() {
    let host = Host::with(|config| config.listen.web = Some("127.0.0.1:0".parse().unwrap())).await;
    let web = host.server.web_address().unwrap();
    let mut streams = Vec::new();
    for half in [
        "",
        "GET /metr",
        "GET /metrics HTTP/1.1\r\nHost: loc",
        "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he",
    ] {
        let mut stream = tokio::net::TcpStream::connect(web).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    // The last one was answered, so the others were read as well.
    let mut head = [0; 12];
    within("an answer", streams[4].read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let Host { server, .. } = host;
    let stopped = tokio::time::timeout(Duration::from_secs(6), server.stop()).await;
    assert!(stopped.is_ok(), "half a request kept the server up");
}
