//! `testudo task`.

mod check;
mod create;

use crate::{
    connection::Connection,
    exit::{Exit, Failure},
    format::{self, Table, Tone},
    output::Output,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use testudo_engine::TaskSpec;
use testudo_privacy::mechanism::participation::ParticipationLimit;
use testudo_proto::v1;
use testudo_protocol::TaskName;

/// `testudo task`.
#[derive(Debug, Args)]
pub(crate) struct Task {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Checks a task.toml and its model, and creates the task
    #[command(after_help = "Examples:
  testudo task create task.toml
  testudo task create task.toml --model start.safetensors --server https://fl.example.org:8443 --ca ca.pem")]
    Create(create::Create),
    /// Says whether a task.toml is possible and what it promises; needs no server
    #[command(after_help = "Examples:
  testudo task check task.toml
  testudo task check task.toml --json")]
    Check(check::Check),
    /// Lists tasks
    #[command(after_help = "Examples:
  testudo task list
  testudo task list --json")]
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows a task with what it promises
    #[command(after_help = "Examples:
  testudo task show digits
  testudo task show digits --toml > task.toml")]
    Show {
        /// The task
        task: TaskName,
        /// Only the task.toml it was created from
        #[arg(long, conflicts_with = "json")]
        toml: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Opens no further round until it is resumed; the open one goes on
    #[command(after_help = "Example:
  testudo task pause digits")]
    Pause {
        /// The task
        task: TaskName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Goes on with a paused task
    #[command(after_help = "Example:
  testudo task resume digits")]
    Resume {
        /// The task
        task: TaskName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Ends a task for good; its released models stay
    #[command(after_help = "Example:
  testudo task stop digits --yes")]
    Stop {
        /// The task
        task: TaskName,
        /// Really
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Task {
    /// Runs the verb.
    ///
    /// # Errors
    /// A task that is refused, and what the server refuses.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.verb {
            Verb::Create(create) => create.run(output).await,
            Verb::Check(check) => check.run(output),
            Verb::List { connection } => list(&connection, output).await,
            Verb::Show { task, toml, connection } => show(&task, toml, &connection, output).await,
            Verb::Pause { task, connection } => control(&task, "pause", &connection, output).await,
            Verb::Resume { task, connection } => control(&task, "resume", &connection, output).await,
            Verb::Stop { task, yes: true, connection } => control(&task, "stop", &connection, output).await,
            Verb::Stop { task, .. } => Err(Failure::new(
                Exit::Usage,
                format!("{task} is not stopped"),
                "it would abandon the open round and end the task for good; its released models would stay",
            )
            .next(format!("`testudo task stop {task} --yes` does it; `testudo task pause {task}` can be undone"))),
        }
    }
}

async fn list(connection: &Connection, output: &Output) -> Result<(), Failure> {
    let admin = connection.open(output).await?;
    let mut client = admin.client();
    let tasks = admin.answer("cannot list tasks", client.list_tasks(v1::ListTasksRequest {})).await?.tasks;
    if tasks.is_empty() && !output.json {
        output.note("no tasks yet; `testudo init` writes a first task.toml, `testudo task create` starts it");
    }
    let list: Vec<_> = tasks.iter().map(object).collect();
    output.result(json!({ "tasks": list }), |output| {
        let mut table = Table::new(&[
            "task",
            "state",
            ">released",
            ">of",
            ">abandoned",
            ">waiting",
            ">coordinates",
            "rule",
            "created",
        ]);
        for task in &tasks {
            table.row([
                task.name.clone(),
                task.state.clone(),
                format::count(task.released),
                format::count(task.rounds),
                format::count(task.abandoned),
                if task.registered.is_some() { "-".into() } else { format::count(task.checked_in) },
                format::count(task.dimension),
                task.rule.clone(),
                format::time(task.created_at_ms),
            ]);
        }
        table.text(output.colour)
    })
}

async fn show(task: &TaskName, toml: bool, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let admin = connection.open(output).await?;
    let mut client = admin.client();
    let request = v1::GetTaskRequest { name: task.to_string() };
    let task = admin.answer("cannot show the task", client.get_task(request)).await?;
    if toml {
        return output.line(&format::clean_lines(&task.toml));
    }
    output.result(json!({ "task": object(&task) }), |output| describe(&task, output))
}

async fn control(task: &TaskName, action: &str, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let admin = connection.open(output).await?;
    let mut client = admin.client();
    let request = v1::ControlTaskRequest { name: task.to_string(), action: action.into() };
    let task = admin.answer(&format!("cannot {action} the task"), client.control_task(request)).await?;
    output.result(json!({ "task": object(&task) }), |output| {
        let state = Tone::of_word(&task.state).paint(&format::clean(&task.state), output.colour);
        format!("{} is {state}, {} of {} rounds released", format::clean(&task.name), task.released, task.rounds)
    })
}

/// A task for programs.
fn object(task: &v1::TaskInfo) -> Value {
    json!({
        "name": task.name, "state": task.state, "why": task.why, "rounds": task.rounds, "released": task.released,
        "abandoned": task.abandoned, "current_round": task.current_round, "rule": task.rule,
        "model_digest": hex::encode(&task.model_digest), "dimension": task.dimension,
        "created_at_ms": task.created_at_ms, "checked_in": task.checked_in, "registered": task.registered, "guarantees": task.guarantees,
        "toml": task.toml, "server_key": format::key(&task.server_key), "participation_limit": limit(task),
    })
}

/// A task for people.
fn describe(task: &v1::TaskInfo, output: &Output) -> String {
    let state = Tone::of_word(&task.state).paint(&format::clean(&task.state), output.colour);
    let why = if task.why.is_empty() { String::new() } else { format!(" ({})", format::clean(&task.why)) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let mut lines = vec![
        format!("{}: {state}{why}", Tone::Heading.paint(&format::clean(&task.name), output.colour)),
        format!(
            "  rounds      {} of {} released, {} abandoned, now at round {}",
            task.released, task.rounds, task.abandoned, task.current_round
        ),
        format!("  rule        {}", format::clean(&task.rule)),
        format!(
            "  model       {} coordinates, SHA-256 {}",
            format::count(task.dimension),
            hex::encode(&task.model_digest)
        ),
        format!("  {}  {}", if task.registered.is_some() { "registered" } else { "waiting   " }, waiting(task)),
        format!("  created     {} ({} ago)", format::time(task.created_at_ms), format::span(task.created_at_ms, now)),
    ];
    if let Some(limit) = limit(task) {
        lines.push(format!("  a client    {}", limit_text(limit)));
    }
    if let Some(key) = format::key(&task.server_key) {
        lines.push(format!("  server key  {key} (clients pin it: `testudo join --server-key`)"));
    }
    lines.push("  guarantees".into());
    lines.extend(format::topics(&task.guarantees).iter().map(|line| format!("    {line}")));
    lines.join("\n")
}

/// How often and how far apart a client takes part, where the task's noise is sized for that.
pub(super) fn limit(task: &v1::TaskInfo) -> Option<ParticipationLimit> {
    let spec = TaskSpec::new("task.toml", &task.toml).ok()?;
    Some(spec.privacy?.correlated?.limit)
}

/// "takes part in at most 4 rounds, at least 20 apart".
pub(super) fn limit_text(limit: ParticipationLimit) -> String {
    let most = format::plural(limit.most().into(), "round");
    format!("takes part in at most {most}, at least {} apart", limit.gap())
}

/// How many clients wait, and how many a round needs to open.
pub(super) fn waiting(task: &v1::TaskInfo) -> String {
    if let Some(registered) = task.registered {
        let sample = TaskSpec::new("task.toml", &task.toml).ok().and_then(|spec| spec.cohort.sample);
        let most = sample.map(|sample| format!(" of at most {}", format::count(sample.clients))).unwrap_or_default();
        return format!("{}{most}; who waits is a secret", format::count(registered));
    }
    let waiting = format::plural(task.checked_in, "client");
    match TaskSpec::new("task.toml", &task.toml) {
        Ok(spec) if task.state == "running" => format!("{waiting}; a round opens with {}", spec.cohort.selected),
        _ => waiting,
    }
}
