//! What clients of a task with participation limits hear, and when they leave.

use crate::{
    common::*,
    private::{MEAN, private_toml},
};
use std::time::Duration;
use testudo_client::{Ended, NotNowWhy, SeatLimit, Update, Verdict};
use testudo_proto::Answer;

fn tree(name: &str, rounds: u64, limits: &str) -> String {
    let text = private_toml(name, rounds, "size = 2\nphase_limit_s = 20.0", MEAN, limits);
    text.replace("mechanism = \"gaussian\"", "mechanism = \"tree\"")
}

/// What a client hears that may not take part now.
async fn limit(host: &Host, task: &str, client: &str) -> (NotNowWhy, Option<SeatLimit>, Duration) {
    match check_in(&host.federation(), task, client, 0).await.unwrap().0 {
        Answer::NotNow { why, limit, retry_after } => (why, limit, retry_after),
        other => panic!("{client}: {other:?}"),
    }
}

async fn play(host: &Host, task: &str, round: u64, clients: &[&str]) {
    for seat in host.seats(task, clients).await {
        assert_eq!(seat.place.round, round);
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended(task, round).await.state, "released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_its_limit_and_leaves_once_its_last_round_has_ended() {
    let host = Host::with(|config| config.listen.web = Some("127.0.0.1:0".parse().unwrap())).await;
    host.create(&tree("once", 4, "participations = 1"), &small_model(2)).await;
    let client = client(&host.url, "a").await;
    let mut session = client.join("once").await.unwrap();
    let (round, other) =
        within("a round", async { tokio::join!(session.next_round(), seat(host.federation(), "once", "b")) }).await;
    let round = round.unwrap().unwrap();
    let update = Update::delta(vec![0.1; round.layout().dimension()]);
    round.submit(update).await.unwrap();
    // Its round may still be given back: then it would have to come again.
    let early = tokio::time::timeout(Duration::from_millis(500), session.next_round()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(limit(&host, "once", "a").await.0, NotNowWhy::Served);
    let (last, ()) = within("the end of the round", async {
        tokio::join!(session.next_round(), async {
            // The client's call is held by then.
            tokio::time::sleep(Duration::from_millis(300)).await;
            other.submit().await.unwrap();
            host.ended("once", 1).await;
        })
    })
    .await;
    assert!(last.unwrap().is_none());
    assert_eq!(session.ended(), Some(Ended::LimitReached));
    let expected = SeatLimit { participations: 1, separation: 1, next_round: None };
    assert_eq!((session.limit(), session.rounds()), (Some(expected), 1));
    assert_eq!(session.take_verdicts(), [(1, Verdict::Accepted)], "what it heard before it left");
    for name in ["participations", "separation"] {
        assert_eq!(host.counter(&format!("testudo_{name}_limit{{task=\"once\"}}")).await, 1, "{name}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_for_whom_no_round_is_left_is_done() {
    let host = Host::start().await;
    host.create(&tree("apart", 4, "participations = 2\nseparation = 2"), &small_model(2)).await;
    let with = |next_round| Some(SeatLimit { participations: 2, separation: 2, next_round });
    play(&host, "apart", 1, &["a", "b"]).await;
    let (why, limit_of_a, _) = limit(&host, "apart", "a").await;
    assert_eq!((why, limit_of_a), (NotNowWhy::TooSoon, with(Some(3))));
    play(&host, "apart", 2, &["c", "d"]).await;
    play(&host, "apart", 3, &["a", "e"]).await;
    // Two rounds further on there is no fourth one for `e`, which took part once.
    let (why, limit_of_e, wait) = limit(&host, "apart", "e").await;
    assert_eq!((why, limit_of_e), (NotNowWhy::LimitReached, with(None)));
    // One round is left: who waits for the task's end all the same does not wait for a minute.
    assert!(wait < Duration::from_secs(10), "{wait:?}");
    assert_eq!(limit(&host, "apart", "c").await.0, NotNowWhy::Filling);
    host.stop().await;
}
