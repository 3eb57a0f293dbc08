//! `testudo model`.

use crate::{
    connection::{Admin, Connection},
    exit::{Exit, Failure},
    file::Draft,
    format,
    output::Output,
    progress,
};
use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use testudo_proto::{digest_from_wire, v1};
use testudo_protocol::{Digest, TaskName, limits};

/// `testudo model`.
#[derive(Debug, Args)]
pub(crate) struct Model {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetches a model as safetensors, and verifies its SHA-256
    #[command(after_help = "Examples:
  testudo model get digits --out model.safetensors
  testudo model get digits --round 12 --out round-12.safetensors
  testudo model get digits --initial --out start.safetensors --force")]
    Get(Get),
}

#[derive(Debug, Args)]
struct Get {
    /// The task
    task: TaskName,
    /// The release of this round instead of the newest
    #[arg(long, conflicts_with = "initial", value_parser = clap::value_parser!(u64).range(1..))]
    round: Option<u64>,
    /// The model the task began with
    #[arg(long)]
    initial: bool,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

/// One file the server holds, and the digest its own records give it.
struct Release {
    round: u64,
    digest: Digest,
}

const WHAT: &str = "cannot get the model";

impl Model {
    /// Runs the verb.
    ///
    /// # Errors
    /// No such release, other bytes than announced, or a file that is there already.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let Verb::Get(get) = self.verb;
        let mut draft = Draft::begin(&get.out, get.force)?;
        let admin = get.connection.open(output).await?;
        let release = get.release(&admin).await?;
        let bytes = get.fetch(&admin, &release, &mut draft, output).await?;
        draft.finish()?;
        let round = (!get.initial).then_some(release.round);
        let result = json!({
            "task": get.task.as_str(), "round": round, "file": get.out.display().to_string(), "bytes": bytes,
            "digest": release.digest.to_string(),
        });
        output.result(result, |_| {
            let which =
                round.map_or_else(|| "the initial model".into(), |round| format!("the release of round {round}"));
            format!(
                "{}: {which} of {}, {}, SHA-256 {}",
                get.out.display(),
                get.task,
                format::bytes(bytes),
                release.digest
            )
        })
    }
}

impl Get {
    /// Which release is meant. "The newest" is settled here, so that another release meanwhile changes nothing.
    async fn release(&self, admin: &Admin) -> Result<Release, Failure> {
        if self.initial {
            return self.initial_model(admin).await;
        }
        let round = match self.round {
            Some(round) => {
                let request = v1::GetRoundRequest { task: self.task.to_string(), round };
                let mut client = admin.client();
                admin.answer(WHAT, client.get_round(request)).await?
            }
            None => self.newest(admin).await?,
        };
        if round.state != "released" {
            let why = format!("round {} is {}: it has released no model", round.round, round.state);
            return Err(Failure::new(Exit::NotFound, WHAT, why)
                .next(format!("`testudo round list {}` shows which rounds have", self.task)));
        }
        Ok(Release { round: round.round, digest: announced(&round.model_digest, "model_digest")? })
    }

    async fn newest(&self, admin: &Admin) -> Result<v1::RoundInfo, Failure> {
        let mut before = 0;
        loop {
            let request = v1::ListRoundsRequest { task: self.task.to_string(), before, limit: 100 };
            let mut client = admin.client();
            let rounds = admin.answer(WHAT, client.list_rounds(request)).await?.rounds;
            let oldest = rounds.iter().map(|round| round.round).min();
            if let Some(round) = rounds.into_iter().find(|round| round.state == "released") {
                return Ok(round);
            }
            match oldest {
                // A server that lists the same rounds again would keep us here for ever.
                Some(oldest) if oldest > 1 && (before == 0 || oldest < before) => before = oldest,
                _ => {
                    let why = format!("{} has released no model yet", self.task);
                    return Err(Failure::new(Exit::NotFound, WHAT, why)
                        .next("wait for `testudo round watch`, or get the first model with --initial"));
                }
            }
        }
    }

    /// The model the first round starts from; before there is a round, the task's model.
    async fn initial_model(&self, admin: &Admin) -> Result<Release, Failure> {
        let mut client = admin.client();
        let task = admin.answer(WHAT, client.get_task(v1::GetTaskRequest { name: self.task.to_string() })).await?;
        if task.released == 0 {
            return Ok(Release { round: 0, digest: announced(&task.model_digest, "model_digest")? });
        }
        let request = v1::GetRoundRequest { task: self.task.to_string(), round: 1 };
        let first = admin.answer(WHAT, client.get_round(request)).await?;
        Ok(Release { round: 0, digest: announced(&first.base_digest, "base_digest")? })
    }

    async fn fetch(
        &self,
        admin: &Admin,
        release: &Release,
        draft: &mut Draft,
        output: &Output,
    ) -> Result<u64, Failure> {
        let mut client = admin.client();
        let task = admin.answer(WHAT, client.get_task(v1::GetTaskRequest { name: self.task.to_string() })).await?;
        let bar = progress::transfer(output, "model", task.dimension.saturating_mul(4));
        let request = v1::GetModelRequest { task: self.task.to_string(), round: release.round, initial: self.initial };
        let mut stream = admin.answer(WHAT, client.get_model(request)).await?;
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        while let Some(chunk) = admin.next(WHAT, &mut stream).await? {
            bytes += chunk.data.len() as u64;
            if bytes > limits::MODEL_BYTES {
                let why = format!("the server sends more than {}", format::bytes(limits::MODEL_BYTES));
                return Err(Failure::new(Exit::Verification, WHAT, why));
            }
            hash.update(&chunk.data);
            draft.write(&chunk.data)?;
            bar.inc(chunk.data.len() as u64);
        }
        bar.finish_and_clear();
        let found = Digest(hash.finalize().into());
        if found != release.digest {
            let why = format!("its SHA-256 is {found}, but the round's record says {}", release.digest);
            return Err(Failure::new(Exit::Verification, WHAT, why)
                .next("nothing was written; try again, and distrust this server if it happens twice"));
        }
        Ok(bytes)
    }
}

fn announced(bytes: &[u8], field: &str) -> Result<Digest, Failure> {
    digest_from_wire(bytes, field).map_err(|reject| Failure::new(Exit::Verification, WHAT, reject.detail))
}
