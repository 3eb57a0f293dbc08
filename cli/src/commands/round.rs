//! `testudo round`.

mod groups;

use crate::{
    connection::{Admin, Connection},
    exit::Failure,
    format::{self, Table, Tone, clean},
    output::Output,
};
use clap::{Args, Subcommand};
use groups::Groups;
use serde_json::{Value, json};
use std::{error::Error as _, time::Duration};
use testudo_proto::v1;
use testudo_protocol::{Reason, TaskName};
use tonic::Status;

/// How long nothing happens before the reason is looked for.
const SILENCE: Duration = Duration::from_secs(10);
/// How often, and after which pause each, a lost server is called again.
const RECONNECTS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(2);

/// `testudo round`.
#[derive(Debug, Args)]
pub(crate) struct Round {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists a task's rounds, newest first
    #[command(after_help = "Examples:
  testudo round list digits
  testudo round list digits --limit 5 --json")]
    List {
        /// The task
        task: TaskName,
        /// Most rounds to list, at most 1,000
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only rounds before this one
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        before: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows a round: every client with its verdict, reason, norm, score and weight; a masked round's groups, and what
    /// it promised for them
    #[command(after_help = "Examples:
  testudo round show digits
  testudo round show digits 12 --json")]
    Show {
        /// The task
        task: TaskName,
        /// The round; without it the newest
        #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        round: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Prints one line per round as it ends, with who was rejected and why; ends with the task
    #[command(after_help = "Examples:
  testudo round watch digits
  testudo round watch digits --from 1 --jsonl")]
    Watch {
        /// The task
        task: TaskName,
        /// Begin with this round instead of the next to end
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        from: u64,
        /// One JSON object per line; --json does the same
        #[arg(long)]
        jsonl: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Round {
    /// Runs the verb.
    ///
    /// # Errors
    /// What the server refuses.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.verb {
            Verb::List { task, limit, before, connection } => list(&task, limit, before, &connection, output).await,
            Verb::Show { task, round, connection } => show(&task, round.unwrap_or(0), &connection, output).await,
            Verb::Watch { task, from, jsonl, connection } => {
                let output = Output { json: output.json || jsonl, ..*output };
                watch(&task, from, &connection, &output).await
            }
        }
    }
}

async fn list(
    task: &TaskName,
    limit: u32,
    before: u64,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let admin = connection.open(output).await?;
    let mut client = admin.client();
    let request = v1::ListRoundsRequest { task: task.to_string(), before, limit };
    let rounds = admin.answer("cannot list rounds", client.list_rounds(request)).await?.rounds;
    if rounds.is_empty() && !output.json {
        output.note("no rounds yet: one opens when enough clients have checked in");
    }
    let list: Vec<_> = rounds.iter().map(|round| object(round, false)).collect();
    output.result(json!({ "task": task.as_str(), "rounds": list }), |output| {
        let mut table = Table::new(&[
            ">round",
            "state",
            ">selected",
            ">received",
            ">accepted",
            ">rejected",
            ">dropouts",
            ">groups",
            ">norm",
            ">took",
            "opened",
            "why",
        ]);
        for round in &rounds {
            table.row([
                round.round.to_string(),
                round.state.clone(),
                shown(round, round.selected),
                shown(round, round.received),
                shown(round, round.accepted),
                shown(round, round.rejected),
                shown(round, round.dropouts),
                Groups::of(round).map_or("-".into(), |groups| groups.count()),
                if round.state == "released" { format::number(round.aggregate_norm) } else { "-".into() },
                took(round),
                format::time(round.opened_at_ms),
                round.why.clone(),
            ]);
        }
        table.text(output.colour)
    })
}

async fn show(task: &TaskName, round: u64, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let admin = connection.open(output).await?;
    let mut client = admin.client();
    let request = v1::GetRoundRequest { task: task.to_string(), round };
    let answer = admin.answer("cannot show the round", client.get_round(request)).await;
    let round = answer.map_err(|failure| match failure.why.contains("round 0") {
        true => Failure { why: format!("{task} has had no round yet"), ..failure }
            .next("one opens when enough clients wait; `testudo task show` says how many do"),
        false => failure,
    })?;
    output.result(json!({ "round": object(&round, true) }), |output| describe(&round, output))
}

async fn watch(task: &TaskName, from: u64, connection: &Connection, output: &Output) -> Result<(), Failure> {
    const WHAT: &str = "cannot watch the rounds";
    let mut admin = connection.open(output).await?;
    let (mut next, mut lost) = (from, 0);
    loop {
        let before = next;
        let Some(status) = follow(task, &mut next, &admin, output).await? else { return Ok(()) };
        lost = if next > before { 1 } else { lost + 1 };
        // A status with a source was made on this side: the connection broke. A server that restarts comes back within
        // seconds; one that refuses will not change its mind.
        if status.source().is_none() || lost > RECONNECTS {
            let failure = admin.failure(WHAT, &status);
            return Err(match next {
                0 => failure,
                next => failure.next(format!(
                    "`testudo round watch {task} --from {next}` goes on where this ended; --server is {}",
                    admin.server()
                )),
            });
        }
        if lost == 1 {
            output.note("the connection to the server is lost; trying again");
        }
        tokio::time::sleep(PAUSE).await;
        // One that is still away is called through the old connection, which fails and counts.
        if let Ok(again) = connection.open(output).await {
            admin = again;
        }
    }
}

/// Prints rounds as they end. Answers why the connection broke, or `None` at the task's end.
async fn follow(task: &TaskName, next: &mut u64, admin: &Admin, output: &Output) -> Result<Option<Status>, Failure> {
    let mut client = admin.client();
    let request = v1::WatchRoundsRequest { task: task.to_string(), from: *next };
    // A round may take days: only the connection's keep-alive bounds the silence from here on. Some servers answer a
    // stream's headers with its first message.
    let mut opening = Box::pin(client.watch_rounds(request));
    let (mut stream, mut said) = (None, String::new());
    loop {
        let message = async {
            match &mut stream {
                None => opening.as_mut().await.map(|response| (Some(response.into_inner()), None)),
                Some(stream) => tonic::Streaming::message(stream).await.map(|message| (None, Some(message))),
            }
        };
        match tokio::time::timeout(SILENCE, message).await {
            Err(_) => remark(task, admin, &mut said, output).await,
            Ok(Err(status)) => return Ok(Some(status)),
            Ok(Ok((Some(opened), _))) => stream = Some(opened),
            Ok(Ok((None, Some(Some(round))))) => {
                *next = round.round.saturating_add(1);
                said.clear();
                output.result(object(&round, true), |output| sentence(&round, output))?;
            }
            Ok(Ok((None, _))) => return Ok(None),
        }
    }
}

/// Says why nothing happens, if that is known and was not said before.
async fn remark(task: &TaskName, admin: &Admin, said: &mut String, output: &Output) {
    let mut client = admin.client();
    let request = v1::GetTaskRequest { name: task.to_string() };
    let Ok(task) = admin.answer("cannot ask for the task", client.get_task(request)).await else { return };
    let Some(line) = why_nothing(&task) else { return };
    if *said != line {
        output.note(&line);
        *said = line;
    }
}

/// Why a task does nothing, as far as it is known.
fn why_nothing(task: &v1::TaskInfo) -> Option<String> {
    let limit = super::task::limit(task);
    match task.state.as_str() {
        "paused" => Some("the task is paused".to_string()),
        "running" if task.registered.is_some() && !task.why.is_empty() => {
            Some(format!("the task {}", clean(&task.why)))
        }
        // Clients that may not take part are sent away: nobody waits.
        "running" if task.checked_in > 0 || limit.is_some() => {
            let limit = limit.map(|limit| format!("; a client {}", super::task::limit_text(limit)));
            Some(format!("waiting: {}{}", super::task::waiting(task), limit.unwrap_or_default()))
        }
        _ => None,
    }
}

/// A round for programs.
fn object(round: &v1::RoundInfo, with_clients: bool) -> Value {
    let mut object = json!({
        "task": round.task, "round": round.round, "state": round.state, "why": round.why, "rule": round.rule,
        "base_digest": hex::encode(&round.base_digest), "model_digest": hex::encode(&round.model_digest),
        "seed": hex::encode(&round.seed), "aggregate_norm": round.aggregate_norm,
        "opened_at_ms": round.opened_at_ms, "closes_at_ms": round.closes_at_ms, "ended_at_ms": round.ended_at_ms,
        "secret_cohort": round.secret, "selected": told(round, round.selected), "received": told(round, round.received),
        "accepted": told(round, round.accepted), "rejected": told(round, round.rejected),
        "dropouts": told(round, round.dropouts),
    });
    let groups = Groups::of(round);
    object["groups"] = groups.as_ref().map_or(Value::Null, Groups::object);
    if with_clients {
        object["guarantees"] = json!(groups.as_ref().map_or(&round.guarantees[..], Groups::guarantees));
        let notes = round.notes.iter().map(|note| (note.name.clone(), json!(note.value)));
        object["notes"] = Value::Object(notes.collect());
        object["clients"] = round.clients.iter().map(|client| client_object(client, is_masked(round))).collect();
    }
    object
}

/// Nobody knows the norm of a masked update, nor from how many examples it comes.
fn is_masked(round: &v1::RoundInfo) -> bool {
    !round.groups.is_empty()
}

/// A private round shows nothing of an update, and one that was never sent has nothing to show.
fn is_hidden(client: &v1::ClientRound) -> bool {
    client.norm == 0.0 && client.num_examples == 0
}

fn client_object(client: &v1::ClientRound, is_masked: bool) -> Value {
    let verdict = client.verdict.clone().unwrap_or_default();
    json!({
        "client": client.client, "verdict": verdict.kind, "reason": verdict.reason, "value": verdict.value,
        "norm": (!is_masked).then_some(client.norm),
        "num_examples": (!is_masked).then_some(client.num_examples), "score": client.score, "weight": client.weight,
        "digest": hex::encode(&client.digest), "detail": client.detail,
    })
}

/// A round for people, at length.
fn describe(round: &v1::RoundInfo, output: &Output) -> String {
    let state = Tone::of_word(&round.state).paint(&clean(&round.state), output.colour);
    let why = if round.why.is_empty() { String::new() } else { format!(" ({})", clean(&round.why)) };
    let heading = format!("{} round {}", clean(&round.task), round.round);
    let mut lines = vec![
        format!("{}: {state}{why}", Tone::Heading.paint(&heading, output.colour)),
        format!("  {}", counts(round)),
        match round.state.as_str() {
            "released" => {
                format!("  rule {}, norm of the aggregate {}", clean(&round.rule), format::number(round.aggregate_norm))
            }
            _ => format!("  rule {}", clean(&round.rule)),
        },
        format!(
            "  opened {}, ended {}, took {}",
            format::time(round.opened_at_ms),
            format::time(round.ended_at_ms),
            took(round)
        ),
        format!("  from model {}", short(&round.base_digest)),
        format!("  to model   {}", short(&round.model_digest)),
    ];
    lines.extend(round.notes.iter().map(|note| format!("  {} {}", clean(&note.name), format::number(note.value))));
    if let Some(groups) = Groups::of(round) {
        lines.push("  guarantees for these groups".into());
        lines.extend(format::topics(groups.guarantees()).iter().map(|line| format!("    {line}")));
        lines.push(groups.table(&round.clients, round.state == "open").text(output.colour));
    } else if is_masked(round) {
        lines.push("  its groups cannot be read: the server is of another version".into());
    }
    if !round.clients.is_empty() {
        let mut table = Table::new(&["client", "verdict", ">norm", ">score", ">weight", ">examples", "detail"]);
        for client in &round.clients {
            table.row([
                client.client.clone(),
                verdict_text(client),
                if is_masked(round) || is_hidden(client) { "-".into() } else { format::number(client.norm) },
                format::maybe(client.score),
                format::maybe(client.weight),
                if is_masked(round) || is_hidden(client) { "-".into() } else { format::count(client.num_examples) },
                client.detail.clone(),
            ]);
        }
        lines.push(table.text(output.colour));
    }
    lines.join("\n")
}

/// A round for people, in one line.
fn sentence(round: &v1::RoundInfo, output: &Output) -> String {
    let state = Tone::of_word(&round.state).paint(&clean(&round.state), output.colour);
    let mut line = format!("round {} {state}", round.round);
    if !round.why.is_empty() {
        line += &format!(" ({})", clean(&round.why));
    }
    line += &format!(": {}", counts(round));
    let rejected: Vec<String> = round
        .clients
        .iter()
        .filter(|client| client.verdict.as_ref().is_some_and(|verdict| verdict.kind == "rejected"))
        .map(|client| {
            let verdict = client.verdict.clone().unwrap_or_default();
            format!("{} ({})", clean(&client.client), reason_text(&verdict.reason))
        })
        .collect();
    if !rejected.is_empty() {
        line += &format!("; rejected: {}", Tone::Bad.paint(&rejected.join(", "), output.colour));
    }
    if round.state == "released" {
        line += &format!("; norm {}", format::number(round.aggregate_norm));
    }
    line + &format!("; took {}", took(round))
}

/// A number of clients, unless it is a secret.
fn told(round: &v1::RoundInfo, count: u64) -> Option<u64> {
    (!round.secret).then_some(count)
}

/// The same for people.
fn shown(round: &v1::RoundInfo, count: u64) -> String {
    told(round, count).map_or("-".into(), format::count)
}

fn counts(round: &v1::RoundInfo) -> String {
    if round.secret {
        return "who and how many took part is a secret (Poisson sampling)".into();
    }
    format!(
        "{} selected, {} received, {} accepted, {} rejected, {}",
        format::count(round.selected),
        format::count(round.received),
        format::count(round.accepted),
        format::count(round.rejected),
        format::plural(round.dropouts, "dropout")
    )
}

fn verdict_text(client: &v1::ClientRound) -> String {
    let Some(verdict) = &client.verdict else { return "-".into() };
    match verdict.kind.as_str() {
        "rejected" => format!("rejected: {}", reason_text(&verdict.reason)),
        "clipped" => format!("clipped to {:.3}", verdict.value),
        "trimmed" => format!("trimmed {:.0} %", verdict.value * 100.0),
        kind => kind.to_string(),
    }
}

/// A reason code in words, or the code itself if a newer server has more of them.
fn reason_text(code: &str) -> String {
    code.parse::<Reason>().map_or_else(|_| clean(code), |reason| reason.text().to_string())
}

fn took(round: &v1::RoundInfo) -> String {
    if round.ended_at_ms == 0 { "-".into() } else { format::span(round.opened_at_ms, round.ended_at_ms) }
}

fn short(digest: &[u8]) -> String {
    if digest.is_empty() { "-".into() } else { hex::encode(digest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, kind: &str, reason: &str) -> v1::ClientRound {
        let verdict = v1::Verdict { kind: kind.into(), reason: reason.into(), value: 0.25 };
        v1::ClientRound { client: name.into(), verdict: Some(verdict), norm: 1.5, ..Default::default() }
    }

    fn round() -> v1::RoundInfo {
        v1::RoundInfo {
            task: "digits".into(),
            round: 7,
            state: "released".into(),
            selected: 4,
            received: 3,
            accepted: 2,
            rejected: 1,
            dropouts: 1,
            opened_at_ms: 1_000,
            ended_at_ms: 5_200,
            aggregate_norm: 0.5,
            clients: vec![
                client("alice", "accepted", ""),
                client("mallory", "rejected", "NON_FINITE"),
                client("eve\u{1b}[2J", "rejected", "FROM_THE_FUTURE"),
                client("bob", "trimmed", ""),
            ],
            ..Default::default()
        }
    }

    const PLAIN: Output = Output { json: false, colour: false, watched: false };

    #[test]
    fn one_line_says_who_was_rejected_and_why() {
        assert_eq!(
            sentence(&round(), &PLAIN),
            "round 7 released: 4 selected, 3 received, 2 accepted, 1 rejected, 1 dropout; \
             rejected: mallory (non-finite value), eve\u{fffd}[2J (FROM_THE_FUTURE); norm 0.5; took 4.2 s"
        );
    }

    #[test]
    fn a_task_for_which_nobody_may_wait_says_what_it_permits() {
        let toml = "name = \"a\"\nrounds = 10\n[model]\ninitial = \"m\"\n[cohort]\nsize = 4\n[encoding]\nclip_l2 = 1.0\n\
                    [rule]\nkind = \"mean\"\n[privacy]\nmechanism = \"tree\"\npopulation = \"phones\"\nnoise_multiplier = 8.0\n\
                    budget_epsilon = 20.0\ndelta = 1e-6\nclients = 100\nparticipations = 3\nseparation = 2\n";
        let mut task = v1::TaskInfo { state: "running".into(), toml: toml.into(), ..Default::default() };
        let expected =
            "waiting: 0 clients; a round opens with 4; a client takes part in at most 3 rounds, at least 2 apart";
        assert_eq!(why_nothing(&task).as_deref(), Some(expected));
        let open = toml.replace("tree", "gaussian").replace("participations = 3\nseparation = 2\n", "");
        task.toml = open;
        assert_eq!(why_nothing(&task), None, "a round may be running");
        task.checked_in = 1;
        assert_eq!(why_nothing(&task).as_deref(), Some("waiting: 1 client; a round opens with 4"));
        task.state = "paused".into();
        assert_eq!(why_nothing(&task).as_deref(), Some("the task is paused"));
    }

    #[test]
    fn an_abandoned_round_says_why() {
        let round = v1::RoundInfo { state: "abandoned".into(), why: "too few updates".into(), ..Default::default() };
        let line = sentence(&round, &PLAIN);
        assert!(line.starts_with("round 0 abandoned (too few updates): "), "{line}");
        assert!(!line.contains("norm"), "{line}");
    }

    #[test]
    fn a_masked_round_shows_its_groups_and_no_norms() {
        let mut round = round();
        round.groups = groups::tests::RECORD.into();
        let text = describe(&round, &PLAIN);
        assert!(text.contains("lost: 1 of 2 members shared"), "{text}");
        let alice = text.lines().find(|line| line.starts_with("alice")).unwrap();
        assert_eq!(alice.split_whitespace().nth(2), Some("-"), "{alice}");
        assert!(text.contains("server        honest-but-curious server"), "{text}");
        let object = object(&round, true);
        assert_eq!(object["clients"][0]["norm"], Value::Null);
        assert_eq!(object["groups"]["groups"][1]["lost"], "1 of 2 members shared, fewer than 2");
        assert_eq!(object["guarantees"][0], "server: honest-but-curious server");
    }

    #[test]
    fn groups_that_cannot_be_read_are_said_to_be() {
        let round = v1::RoundInfo { groups: "[[[".into(), ..round() };
        assert!(describe(&round, &PLAIN).contains("cannot be read"));
        assert_eq!(object(&round, true)["groups"], Value::Null);
    }

    #[test]
    fn the_long_form_has_a_row_per_client() {
        let text = describe(&round(), &PLAIN);
        assert!(text.contains("trimmed 25 %"), "{text}");
        assert!(text.contains("rejected: non-finite value"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(text.lines().count(), 11);
    }
}
