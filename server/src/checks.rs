//! What `testudo doctor` looks at before a server starts.

use crate::{
    blobs::Blobs,
    config::{Config, Medium},
    grpc::warnings,
    spool::Spool,
    store::{self, Location},
    tls::TlsSource,
};
use std::{fs, net::SocketAddr, path::Path};
use tokio::net::TcpListener;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub detail: String,
    /// What to do; empty if nothing.
    pub fix: String,
}

/// How a checked thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Works, with a consequence to know about.
    Warning,
    /// The server would not start or not work.
    Failed,
}

/// Looks at everything a server with this configuration needs. Creates the data directory if it is missing.
pub async fn checks(config: &Config) -> Vec<Check> {
    let mut list = vec![port("gRPC address", config.listen.address).await];
    if let Some(web) = config.listen.web {
        list.push(port("web address", web).await);
    }
    list.push(certificates(config));
    for warning in warnings(config) {
        list.push(Check { name: "exposure".into(), state: CheckState::Warning, detail: warning, fix: String::new() });
    }
    if config.storage.ledger == Medium::File || config.storage.spool == Medium::File {
        let directory = &config.storage.data_dir;
        let created = crate::spool::create_private(directory);
        list.push(match created {
            Ok(()) => ok("data directory", directory.display().to_string()),
            Err(error) => failed(
                "data directory",
                format!("{}: {error}", directory.display()),
                "choose a writable data_dir in [storage]",
            ),
        });
        list.push(disk(directory));
    }
    list.push(ledger(config).await);
    list.push(transfer(config).await);
    list.push(descriptors(config));
    list.push(memory(config));
    list
}

fn ok(name: &str, detail: String) -> Check {
    Check { name: name.into(), state: CheckState::Ok, detail, fix: String::new() }
}

fn warning(name: &str, detail: String, fix: &str) -> Check {
    Check { name: name.into(), state: CheckState::Warning, detail, fix: fix.into() }
}

fn failed(name: &str, detail: String, fix: &str) -> Check {
    Check { name: name.into(), state: CheckState::Failed, detail, fix: fix.into() }
}

async fn port(name: &str, address: SocketAddr) -> Check {
    match TcpListener::bind(address).await {
        Ok(_) => ok(name, format!("{address} is free")),
        Err(error) => {
            failed(name, format!("{address}: {error}"), "stop what uses it, or choose another address in [listen]")
        }
    }
}

fn certificates(config: &Config) -> Check {
    let Some(tls) = &config.tls else { return ok("certificates", "none: plaintext".into()) };
    match TlsSource::load(tls) {
        Ok(_) => ok("certificates", format!("{} ({})", tls.certificate.display(), config.transport())),
        Err(error) => failed("certificates", error.to_string(), "see the file it names"),
    }
}

async fn ledger(config: &Config) -> Check {
    if config.storage.ledger == Medium::Memory {
        return warning("ledger", "in memory".into(), "write ledger = \"file\" in [storage] to survive a restart");
    }
    let path = config.storage.data_dir.join("ledger.sqlite");
    let store = match store::open(&Location::File(path)).await {
        Ok(store) => store,
        Err(error) => return failed("ledger", error.to_string(), "stop the server that uses it, or restore a backup"),
    };
    match store.check().await {
        Ok(()) => ok("ledger", store.describe()),
        Err(error) => failed("ledger", error.to_string(), "restore a backup"),
    }
}

/// Writes, reads and deletes a probe in the spool and opens the models.
async fn transfer(config: &Config) -> Check {
    if config.storage.spool == Medium::Memory {
        return warning("spool", "in memory".into(), "write spool = \"file\" in [storage] to survive a crash");
    }
    let probe = async {
        let spool = Spool::local(&config.storage.data_dir.join("spool")).map_err(|error| error.to_string())?;
        let mut writer =
            spool.writer("doctor/probe".into(), crate::spool::Held::nothing()).map_err(|error| error.to_string())?;
        writer.append(bytes::Bytes::from_static(b"probe")).await.map_err(|error| error.to_string())?;
        let written = writer.flush().await.map_err(|error| error.to_string());
        spool.delete("doctor/probe").await.map_err(|error| error.to_string())?;
        written?;
        if config.storage.ledger == Medium::File {
            Blobs::local(&config.storage.data_dir).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(spool.describe())
    };
    match probe.await {
        Ok(detail) => ok("spool", detail),
        Err(error) => failed("spool", error, "make data_dir writable and free some space"),
    }
}

fn disk(directory: &Path) -> Check {
    const LEAST: u64 = 1 << 30;
    match fs4::available_space(directory) {
        Ok(free) if free < LEAST => {
            warning("disk", format!("{} MiB free", free >> 20), "free some space: a round needs its uploads' size")
        }
        Ok(free) => ok("disk", format!("{} GiB free", free >> 30)),
        Err(error) => warning("disk", error.to_string(), ""),
    }
}

fn descriptors(config: &Config) -> Check {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = text.lines().find(|line| line.starts_with("Max open files"));
    let Some(soft) = limit.and_then(|line| line.split_whitespace().nth(3)).and_then(|word| word.parse::<u64>().ok())
    else {
        return ok("open files", "the system does not tell".into());
    };
    let needed = config.limits.connections as u64 + 256;
    if soft < needed {
        let detail = format!("{soft} allowed, {needed} needed for {} connections", config.limits.connections);
        return warning("open files", detail, "raise `ulimit -n`, or lower connections in [limits]");
    }
    ok("open files", format!("{soft} allowed"))
}

/// The most memory that limits allow the network to hold, next to what the machine has.
fn memory(config: &Config) -> Check {
    let windows = config.limits.connections as u64 * u64::from(config.limits.connection_window_bytes);
    let worst = windows + config.limits.upload_memory_bytes;
    let detail = format!(
        "uploads at most {} MiB; with every connection's window full at most {} MiB",
        config.limits.upload_memory_bytes >> 20,
        worst >> 20
    );
    let total = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = total.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    match total {
        Some(total) if worst / 1024 > total => {
            warning("memory", detail, "lower connections or connection_window_bytes in [limits]")
        }
        _ => ok("memory", detail),
    }
}
