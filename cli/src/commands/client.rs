//! `testudo client`.

use crate::{connection::Connection, exit::Failure, format, output::Output};
use clap::{Args, Subcommand};
use serde_json::json;
use testudo_proto::v1;
use testudo_protocol::TaskName;

/// `testudo client`.
#[derive(Debug, Args)]
pub(crate) struct Client {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists clients with what became of their updates
    #[command(after_help = "Examples:
  testudo client list
  testudo client list --task digits --json")]
    List {
        /// Only clients of this task
        #[arg(long)]
        task: Option<TaskName>,
        /// Most clients to list, at most 10,000
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Client {
    /// Runs the verb.
    ///
    /// # Errors
    /// What the server refuses.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let Verb::List { task, limit, connection } = self.verb;
        let admin = connection.open(output).await?;
        let request = v1::ListClientsRequest { task: task.map(String::from).unwrap_or_default(), limit };
        let mut client = admin.client();
        let clients = admin.answer("cannot list clients", client.list_clients(request)).await?.clients;
        let list: Vec<_> = clients
            .iter()
            .map(|client| {
                json!({
                    "client": client.client, "uploads": client.uploads, "accepted": client.accepted,
                    "rejected": client.rejected, "dropouts": client.dropouts,
                    "first_seen_ms": client.first_seen_ms, "last_seen_ms": client.last_seen_ms,
                })
            })
            .collect();
        if clients.is_empty() && !output.json {
            output.note("no clients to show: none had a place in a round yet (`testudo join --help` runs one), or the task keeps it a secret");
        }
        output.result(json!({ "clients": list }), |output| {
            let mut table = format::Table::new(&[
                "client",
                ">uploads",
                ">accepted",
                ">rejected",
                ">dropouts",
                "first seen",
                "last seen",
            ]);
            for client in &clients {
                table.row([
                    client.client.clone(),
                    format::count(client.uploads),
                    format::count(client.accepted),
                    format::count(client.rejected),
                    format::count(client.dropouts),
                    format::time(client.first_seen_ms),
                    format::time(client.last_seen_ms),
                ]);
            }
            table.text(output.colour)
        })
    }
}
