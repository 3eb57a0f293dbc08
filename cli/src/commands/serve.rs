//! `testudo serve`.

use crate::{
    cli::Signals,
    exit::{Exit, Failure, chain},
    file,
    output::Output,
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};
use testudo_server::{Config, Server, StartError, config::Medium};

/// Largest `server.toml`, bytes.
const CONFIG_BYTES: u64 = 1 << 20;

/// Options of `testudo serve`; each overrides the file.
#[derive(Debug, Args)]
#[command(after_help = "Without --config: plaintext on loopback, state in ./testudo-data.
When ready, one line on standard output says where it listens; logs go to standard error.
SIGTERM and SIGINT stop it gracefully, a second one at once.

Examples:
  testudo serve
  testudo serve --config server.toml
  testudo serve --listen 127.0.0.1:0 --web off --spool memory --json")]
pub(crate) struct Serve {
    /// Configuration; `testudo init` writes a commented one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients and operators connect (gRPC); port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// HTTP for /metrics, /healthz and /readyz, or `off`
    #[arg(long, value_name = "ADDR|off")]
    web: Option<Web>,
    /// Ledger, models and spool
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Updates of the open round: `file` survives a crash
    #[arg(long, value_enum)]
    spool: Option<Spool>,
    /// Plaintext beyond loopback: only on a trusted network
    #[arg(long)]
    allow_plaintext: bool,
}

/// An address or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Web(Option<SocketAddr>);

impl FromStr for Web {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => text.parse().map(|address| Self(Some(address))).map_err(|_| "write IP:PORT or off".into()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spool {
    File,
    Memory,
}

impl Serve {
    /// Runs the server until a signal stops it.
    ///
    /// # Errors
    /// A configuration that is refused, a server that cannot start, a second signal.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let config = self.configure()?;
        testudo_server::telemetry::init_logging(&config.log)
            .map_err(|error| Failure::new(Exit::Internal, "cannot log", error.to_string()))?;
        let transport = config.transport();
        let mut signals = Signals::new()?;
        let server = tokio::select! {
            started = Server::start(config) => started.map_err(|error| cannot_start(&error))?,
            exit = signals.next() => {
                return Err(Failure::new(exit, "stopped by a signal before it listened", ""));
            }
        };
        let (address, web) = (server.address(), server.web_address());
        let ready =
            json!({ "address": address.to_string(), "web": web.map(|web| web.to_string()), "transport": transport });
        let announced = output.result(ready, |_| {
            let web = web.map_or_else(String::new, |web| format!(", metrics on http://{web}/metrics"));
            format!("listening on {address} ({transport}){web}")
        });
        if announced.is_ok() {
            signals.next().await;
            output.note("stopping; a second signal stops at once");
        }
        tokio::select! {
            () = server.stop() => announced,
            exit = signals.next() => std::process::exit(exit.code().into()),
        }
    }

    fn configure(&self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => read_config(path)?,
        };
        if let Some(address) = self.listen {
            config.listen.address = address;
        }
        if let Some(Web(web)) = self.web {
            config.listen.web = web;
        }
        if let Some(folder) = &self.data_dir {
            config.storage.data_dir.clone_from(folder);
        }
        if let Some(spool) = self.spool {
            config.storage.spool = match spool {
                Spool::File => Medium::File,
                Spool::Memory => Medium::Memory,
            };
        }
        if self.allow_plaintext {
            config.listen.plaintext = true;
        }
        let refused = |why: String, next: &str| Err(Failure::new(Exit::Config, "cannot start", why).next(next));
        // What the file's own check would say about these combinations, in words of the command line.
        if config.exposes_plaintext() && !config.listen.plaintext {
            let why = format!("{} is not loopback, and there are no certificates", config.listen.address);
            return refused(why, "add [tls] to --config FILE, or --allow-plaintext on a trusted network");
        }
        if config.tls.is_some() && config.listen.plaintext {
            return refused("--allow-plaintext has no effect with [tls]".into(), "remove it");
        }
        if config.storage.ledger == Medium::Memory && config.storage.spool == Medium::File {
            return refused(
                "a file spool needs a file ledger".into(),
                "add --spool memory, or write ledger = \"file\"",
            );
        }
        Ok(config)
    }
}

/// Reads a `server.toml`.
///
/// # Errors
/// The file, or everything that is wrong in it.
pub(crate) fn read_config(path: &Path) -> Result<Config, Failure> {
    let text = file::read_text(path, CONFIG_BYTES)
        .map_err(|failure| failure.next("`testudo init` writes a commented server.toml"))?;
    Config::from_toml(&path.display().to_string(), &text).map_err(|error| {
        Failure::new(Exit::Config, format!("{} is refused", path.display()), error.to_string())
            .next("mend it, and check with `testudo doctor --config`; `testudo init` writes a commented sample")
    })
}

fn cannot_start(error: &StartError) -> Failure {
    let exit = match error {
        StartError::Tls(_) => Exit::Config,
        StartError::Listen(error) if error.kind() == ErrorKind::AddrInUse => Exit::Conflict,
        StartError::Listen(error) if error.kind() == ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, "cannot start", chain(error))
        .next("`testudo doctor` checks ports, disk, certificates and the data folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve() -> Serve {
        Serve { config: None, listen: None, web: None, data_dir: None, spool: None, allow_plaintext: false }
    }

    #[test]
    fn options_override_the_defaults() {
        let options = Serve {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            web: Some("off".parse().unwrap()),
            spool: Some(Spool::Memory),
            data_dir: Some("/tmp/x".into()),
            ..serve()
        };
        let config = options.configure().unwrap();
        assert_eq!(config.listen.address.port(), 0);
        assert_eq!((config.listen.web, config.storage.spool), (None, Medium::Memory));
        assert_eq!(config.storage.data_dir, PathBuf::from("/tmp/x"));
        assert!("of".parse::<Web>().is_err());
    }

    #[test]
    fn plaintext_beyond_loopback_needs_its_flag() {
        let open = Serve { listen: Some("0.0.0.0:0".parse().unwrap()), ..serve() };
        assert_eq!(open.configure().unwrap_err().exit, Exit::Config);
        assert!(Serve { allow_plaintext: true, ..open }.configure().is_ok());
    }
}
