//! A server of the load test's own, in another process.

use super::Spool;
use crate::exit::{Exit, Failure};
use serde::Deserialize;
use std::{fs, io::Read as _, path::PathBuf, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

const WHAT: &str = "cannot start a server";
/// Longest wait for the server to listen.
const START_TIME: Duration = Duration::from_secs(30);
/// How much of the server's log a failure quotes.
const QUOTED_LINES: usize = 10;

/// A running `testudo serve`. Dropping it kills the server and deletes its files.
#[derive(Debug)]
pub(super) struct ServerChild {
    process: Child,
    /// Kept open: a server that cannot write to it would stop.
    _stdout: BufReader<ChildStdout>,
    folder: TempDir,
    address: String,
}

/// The line a server prints when it listens.
#[derive(Debug, Deserialize)]
struct Ready {
    address: String,
}

impl ServerChild {
    /// Starts one on a free loopback port, with its files in a new folder of the system's temporary folder.
    ///
    /// # Errors
    /// If it does not listen in time; with the end of its log.
    pub(super) async fn start(spool: Spool) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("testudo-load-")
            .tempdir()
            .map_err(|error| Failure::new(Exit::Internal, WHAT, format!("no temporary folder: {error}")))?;
        let internal = |error: std::io::Error| Failure::new(Exit::Internal, WHAT, error.to_string());
        let config = folder.path().join("server.toml");
        fs::write(&config, configuration(spool)).map_err(internal)?;
        let log = fs::File::create(log_of(&folder)).map_err(internal)?;
        let mut process = Command::new(std::env::current_exe().map_err(internal)?)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .args(["--listen", "127.0.0.1:0", "--web", "off", "--json"])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(internal)?;
        let Some(stdout) = process.stdout.take() else {
            return Err(Failure::new(Exit::Internal, WHAT, "its output cannot be read"));
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = tokio::time::timeout(START_TIME, stdout.read_line(&mut line)).await;
        match (read, serde_json::from_str::<Ready>(&line)) {
            (Ok(Ok(_)), Ok(ready)) => Ok(Self { process, _stdout: stdout, folder, address: ready.address }),
            (Err(_), _) => {
                let why = format!("it did not listen within {} s\n{}", START_TIME.as_secs(), last_lines(&folder));
                Err(Failure::new(Exit::Unavailable, WHAT, why))
            }
            _ => Err(Failure::new(Exit::Unavailable, WHAT, last_lines(&folder))),
        }
    }

    /// Its address, with the scheme.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Why the server is no longer there, if it is not.
    pub(super) fn fault(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(format!("the server ended with {status}\n{}", last_lines(&self.folder)))
    }

    /// Ends it at once: its files are thrown away anyway.
    pub(super) async fn stop(mut self) {
        // It may have ended by itself.
        let _ = self.process.kill().await;
    }
}

fn configuration(spool: Spool) -> String {
    // A memory spool is for measuring the rest: the ledger is then in memory too.
    let medium = spool.word();
    format!(
        "[storage]\nspool = \"{medium}\"\nledger = \"{medium}\"\nkeep_models = 2\n\n[pace]\nshortest_s = 0.05\n\n\
         [log]\nlevel = \"warn\"\n"
    )
}

fn log_of(folder: &TempDir) -> PathBuf {
    folder.path().join("server.log")
}

fn last_lines(folder: &TempDir) -> String {
    let mut text = String::new();
    // A log that cannot be read has nothing to tell.
    let _ = fs::File::open(log_of(folder)).and_then(|file| file.take(1 << 20).read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_the_server_takes() {
        for spool in [Spool::Memory, Spool::File] {
            testudo_server::Config::from_toml("server.toml", &configuration(spool)).unwrap();
        }
    }
}
