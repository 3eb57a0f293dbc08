//! Rounds from the first check-in to the release, over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::*;
use std::{collections::HashSet, time::Duration};
use testudo_client::{Ended, Error, Round, TrainError, Trainer, Update};
use testudo_proto::{Answer, EndedWhy, NotNowWhy, v1};
use testudo_protocol::{Digest, Model, Reason, Tensor, Verdict};
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
