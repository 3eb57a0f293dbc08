//! `testudo join`: an example client that trains on the embedded digits or a CSV file.

mod examples;
mod limit;
mod masked;
mod model;
mod noise;

use crate::{
    commands::load::sdk,
    exit::{Exit, Failure},
    format::clean,
    output::Output,
};
use clap::Args;
use examples::Source;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};
use testudo_client::{Client, Ended, Error, Identity, Policy, Receipt, Round, Update, Verdict};
use testudo_protocol::TaskName;
use testudo_simulator::{
    data::Dataset,
    random::{Purpose, stream},
    workload::{Evaluation, LocalTraining},
};

/// `testudo join`.
#[derive(Debug, Args)]
#[command(after_help = "\
Trains softmax regression (tensors weight, bias) and multilayer perceptrons (layer1.weight, layer1.bias, …), whichever
the task has. Prints one line per round with the verdicts that arrived with it; ends with the task, or once the task has
no further round for this client (`limit_reached`: correlated noise is sized for how often one client takes part).

Examples:
  testudo join --task digits
  testudo join --task digits --clients 20 --index 3 --name device-03
  testudo join --task sales --data sales.csv --label churned --epochs 3
  testudo join --server https://fl.example.org:8443 --ca ca.pem --cert device.pem --key device.key --task digits
  testudo join --task digits --require-masking --min-group 32 --server-key HEX --answers device.answers
  testudo join --task digits --min-local-noise 4 --rounds 10
  testudo join --task digits --name device-7 --signing-key device-7.key --certificate device-7.json --authority HEX")]
pub(crate) struct Join {
    /// Address of the server: http://HOST:PORT, or https://HOST:PORT with --ca
    #[arg(long, env = "TESTUDO_SERVER", default_value = crate::connection::DEFAULT_SERVER, value_name = "URL")]
    server: String,
    /// The task
    #[arg(long)]
    task: TaskName,
    /// This client's name; `client-` and its number unless told, and the certificate's with --cert
    #[arg(long, value_name = "CLIENT", conflicts_with = "cert")]
    name: Option<String>,
    /// What to train on: `digits` (embedded) or a CSV file
    #[arg(long, value_name = "digits|FILE", default_value = "digits")]
    data: Source,
    /// Column of the CSV file with the class; the last unless told
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Factor of the CSV file's features
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    scale: f32,
    /// Into how many shares the examples are divided
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Which share is this client's, from 0
    #[arg(long, value_name = "I", default_value_t = 0)]
    index: u32,
    /// Passes over the share per round
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    epochs: u32,
    /// Examples per step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Step size
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    learning_rate: f64,
    /// Rounds to take part in; all unless told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// What the order of the examples follows from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Authority of the server's certificate, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// This client's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Plaintext to another machine: only on a trusted network
    #[arg(long)]
    allow_plaintext: bool,
    #[command(flatten)]
    masked: masked::Options,
    #[command(flatten)]
    noise: noise::Demands,
}

/// One round, as it went for this client.
struct Part {
    round: u64,
    before: Evaluation,
    sent: Sent,
    verdicts: Vec<(u64, Verdict)>,
}

/// What became of the update on its way.
enum Sent {
    Recorded(Receipt),
    Refused(String),
    /// Training did not end with numbers.
    Diverged,
}

impl Join {
    /// Takes part until the task ends.
    ///
    /// # Errors
    /// Data, identity or server that cannot be used; a model this client cannot train.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            let why = format!("--learning-rate {} is not a positive number", self.learning_rate);
            return Err(Failure::new(Exit::Usage, "cannot train", why).next("write for example 0.1"));
        }
        let data = Arc::new(self.data.share(self.label.as_deref(), self.scale, self.clients, self.index)?);
        let client = self.connect().await?;
        output.note(&format!(
            "{} on {} examples ({} features, {} classes), task {} at {}",
            client.name(),
            data.len(),
            data.width(),
            data.classes(),
            self.task,
            clean(&self.server)
        ));
        let broken = |error: &Error| {
            let failure = sdk::failure(format!("cannot take part in {}", self.task), error);
            match error {
                Error::Policy(_) => failure.next(
                    "this client decides: see --min-group, --require-masking, --server-key, --authority, \
                     --allow-weak-guarantee, --min-local-noise and --min-shared-noise",
                ),
                _ => failure,
            }
        };
        let mut session = client.join(self.task.as_str()).await.map_err(|error| broken(&error))?;
        session.on_wait(limit::listener(self.task.to_string(), *output));
        while let Some(round) = session.next_round().await.map_err(|error| broken(&error))? {
            let verdicts = session.take_verdicts();
            let part = self.take_part(round, &data, verdicts).await?;
            output.result(part.object(self.task.as_str()), |_| part.text())?;
        }
        let (verdicts, ended) = (session.take_verdicts(), session.ended());
        let (rounds, limit) = (session.rounds(), session.limit());
        let object = json!({
            "event": "ended", "task": self.task.as_str(), "why": ended_word(ended), "rounds": rounds,
            "limit": limit.map(limit::object), "verdicts": verdicts_object(&verdicts),
        });
        output.result(object, |_| {
            let mut line = format!("{} after {}", ended_word(ended), crate::format::plural(rounds, "round"));
            if let (Some(Ended::LimitReached), Some(limit)) = (ended, limit) {
                line += &format!(": {}, and no further round is left for this one", limit::text(limit));
            }
            line + &verdicts_text(&verdicts)
        })
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let broken = |error: &Error| {
            sdk::failure(format!("cannot connect to {}", clean(&self.server)), error)
                .next("check --server, --ca, --cert and --key, and that `testudo serve` runs there")
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Identity::from_pem_files(cert, key),
            _ => Identity::named(self.name.clone().unwrap_or_else(|| format!("client-{}", self.index))),
        };
        let identity = self.masked.identity(identity.map_err(|error| broken(&error))?)?;
        let mut policy = self.noise.policy(self.masked.policy(Policy::default()));
        if let Some(rounds) = self.rounds {
            policy = policy.max_rounds(rounds);
        }
        let mut builder = Client::builder(&self.server);
        builder = self.masked.remember(builder.identity(identity).policy(policy))?;
        if let Some(ca) = &self.ca {
            builder = builder.ca_file(ca);
        }
        if self.allow_plaintext {
            builder = builder.allow_plaintext();
        }
        builder.connect().await.map_err(|error| broken(&error))
    }

    async fn take_part(
        &self,
        round: Round,
        data: &Arc<Dataset>,
        verdicts: Vec<(u64, Verdict)>,
    ) -> Result<Part, Failure> {
        let number = round.number();
        let task = format!("cannot take part in {}", self.task);
        let network = match model::Network::of(round.layout(), data) {
            Ok(network) => network,
            Err(failure) => {
                // The others need not wait for this client; the server finds out by itself if it cannot be told.
                let _ = round.withdraw().await;
                return Err(failure);
            }
        };
        let (start, data, seed, index) = (round.shared_model(), data.clone(), self.seed, u64::from(self.index));
        let training = LocalTraining {
            epochs: self.epochs as usize,
            batch: self.batch as usize,
            learning_rate: self.learning_rate,
        };
        let examples = data.len() as u64;
        let computed = tokio::task::spawn_blocking(move || {
            let mut batches = stream(seed, Purpose::Batch, number, index);
            network.train(&start, &data, &training, &mut batches)
        });
        let (before, tensors) =
            computed.await.map_err(|error| Failure::new(Exit::Internal, "training broke", error.to_string()))?;
        let Some(tensors) = tensors else {
            // As above.
            let _ = round.withdraw().await;
            return Ok(Part { round: number, before, sent: Sent::Diverged, verdicts });
        };
        let sent = match round.submit(Update::tensors(tensors).examples(examples)).await {
            Ok(receipt) => Sent::Recorded(receipt),
            Err(error @ (Error::Rejected(_) | Error::GaveUp { .. })) => Sent::Refused(error.to_string()),
            Err(error) => return Err(sdk::failure(task, &error)),
        };
        Ok(Part { round: number, before, sent, verdicts })
    }
}

impl Part {
    fn object(&self, task: &str) -> Value {
        let (outcome, why) = match &self.sent {
            Sent::Recorded(_) => ("recorded", String::new()),
            Sent::Refused(why) => ("refused", why.clone()),
            Sent::Diverged => ("withdrawn", "training did not end with numbers".into()),
        };
        let digest = match &self.sent {
            Sent::Recorded(receipt) => Some(receipt.digest.to_string()),
            _ => None,
        };
        json!({
            "event": "round", "task": task, "round": self.round, "outcome": outcome, "why": why, "digest": digest,
            "loss_before": self.before.loss, "accuracy_before": self.before.accuracy,
            "verdicts": verdicts_object(&self.verdicts),
        })
    }

    fn text(&self) -> String {
        let sent = match &self.sent {
            Sent::Recorded(_) => "update recorded".into(),
            Sent::Refused(why) => format!("update refused: {}", clean(why)),
            Sent::Diverged => "left the round: training did not end with numbers; lower --learning-rate".into(),
        };
        format!(
            "round {:>3}  own data: loss {:.4}, accuracy {:>5.1} %  {sent}{}",
            self.round,
            self.before.loss,
            self.before.accuracy * 100.0,
            verdicts_text(&self.verdicts)
        )
    }
}

fn verdicts_text(verdicts: &[(u64, Verdict)]) -> String {
    let each = verdicts.iter().map(|(round, verdict)| format!("; round {round}: {verdict}"));
    each.collect()
}

fn verdicts_object(verdicts: &[(u64, Verdict)]) -> Value {
    let each = verdicts.iter().map(|(round, verdict)| {
        json!({
            "round": round, "verdict": verdict.kind(), "value": verdict.value(),
            "reason": verdict.reason().map(testudo_protocol::Reason::code),
        })
    });
    each.collect()
}

fn ended_word(ended: Option<Ended>) -> &'static str {
    match ended {
        Some(Ended::Finished) => "finished",
        Some(Ended::Stopped) => "stopped",
        Some(Ended::Failed) => "failed",
        Some(Ended::RoundsDone) => "rounds_done",
        Some(Ended::LimitReached) => "limit_reached",
        _ => "ended",
    }
}
