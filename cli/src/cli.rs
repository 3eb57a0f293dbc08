//! The command line as a whole.

use crate::{
    commands::Command,
    exit::{Exit, Failure},
    output::Output,
};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, error::ErrorKind};
use std::{future::Future, time::Duration};

/// Federated learning that survives bad clients: server, tools and operator commands.
#[derive(Debug, Parser)]
#[command(
    name = "testudo",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:
  testudo demo                            see poisoned clients fail, in seconds
  testudo init && testudo serve           a server with commented configuration files
  testudo task create task.toml           start training
  testudo round watch digits              one line per round, with who was rejected and why

Exit codes: 0 ok, 1 internal, 2 usage, 3 configuration, 4 authentication, 5 permission, 6 not found,
7 verification failed, 8 policy refused, 9 conflict, 10 unavailable or timeout, 11 partial,
12 rate limited, 130/143 signals."
)]
struct Cli {
    /// One JSON object on standard output instead of text; errors too
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// The whole command line, for those who describe it.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Reads the arguments, runs the command, reports a failure.
pub(crate) fn run() -> Exit {
    let wants_json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    let cli = match Cli::command().try_get_matches().and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Ok(cli) => cli,
        Err(error) => return refused(&error, &Output::new(wants_json)),
    };
    let output = Output::new(cli.json);
    match execute(cli.command, &output) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

/// Help and version are results; everything else clap says is a wrong use.
fn refused(error: &clap::Error, output: &Output) -> Exit {
    let _ = error.print();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Exit::Ok;
    }
    if output.json {
        let text = error.to_string();
        let mut lines = text.lines();
        let what = lines.next().unwrap_or_default().trim_start_matches("error: ");
        let failure = Failure::new(Exit::Usage, what, "").next("see --help");
        let _ = output.line(&crate::output::json_line(failure.json()));
    }
    Exit::Usage
}

fn execute(command: Command, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, "cannot start the runtime", error.to_string()))?;
    let handles_signals = command.handles_signals();
    let result = runtime.block_on(async {
        match handles_signals {
            true => command.run(output).await,
            false => until_signal(command.run(output)).await,
        }
    });
    // Work that still blocks a thread must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Runs a command until it ends or a signal asks to stop; dropping it removes unfinished files.
async fn until_signal(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    tokio::select! {
        result = work => result,
        exit = signals.next() => Err(Failure::new(exit, "stopped by a signal", "")),
    }
}

/// SIGINT and SIGTERM from the moment this is made. One that arrives while nobody waits is kept: once a process listens,
/// the operating system no longer ends it, so a signal between two waits would otherwise be lost.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Internal, "cannot listen for signals", error.to_string()))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

/// Ctrl-C, where there are no Unix signals.
#[cfg(not(unix))]
pub(crate) struct Signals {}

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    pub(crate) async fn next(&mut self) -> Exit {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Exit::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_text_and_every_leaf_an_example() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let mut leaf = true;
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                leaf = false;
                visit(inner);
            }
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || examples.contains("testudo "), "{} has no example", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}: {}", command.get_name(), argument.get_id());
            }
        }
        visit(&Cli::command());
    }
}
