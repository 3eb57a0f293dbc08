//! `testudo`: server, clients, tools and operator commands in one binary.

mod cli;
mod commands;
mod connection;
mod exit;
mod file;
mod format;
mod output;
mod progress;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run().into()
}
