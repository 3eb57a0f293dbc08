//! `server.toml`: the operator's file.

use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use testudo_engine::{
    TaskSpec,
    document::{Document, Problem, Problems},
};
use testudo_protocol::limits;

/// A commented sample with every key at its default; `testudo init` writes it.
pub const SAMPLE: &str = include_str!("../samples/server.toml");

/// A checked configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Where clients and operators connect.
    pub listen: Listen,
    /// Certificates; `None` is plaintext.
    pub tls: Option<Tls>,
    /// Who may call the operators' service.
    pub access: Access,
    /// Where state lies.
    pub storage: Storage,
    /// Explicit limits.
    pub limits: Limits,
    /// When clients come back.
    pub pace: Pace,
    /// What is logged, and how.
    pub log: Log,
}

/// Where clients and operators connect.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// gRPC. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Plaintext beyond loopback: only for a trusted network, logged and shown by `doctor`.
    pub plaintext: bool,
    /// HTTP for `/metrics`, `/healthz` and `/readyz`; absent means none.
    pub web: Option<SocketAddr>,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Clients must show a certificate of one of these authorities, PEM (mTLS).
    pub client_ca: Option<PathBuf>,
    /// How often changed files are looked for, seconds.
    #[serde(default = "thirty")]
    pub reload_s: f64,
}

/// Who may call the operators' service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Callers from this machine, while clients need no certificate.
    pub local_operators: bool,
    /// SHA-256 digests of operators' certificates, hexadecimal.
    pub operators: Vec<String>,
}

/// Where state lies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Ledger, models and spool; one server at a time.
    pub data_dir: PathBuf,
    /// Updates of the open round.
    pub spool: Medium,
    /// Ledger and models.
    pub ledger: Medium,
    /// Newest released models that are kept besides the initial one; 0 keeps all.
    pub keep_models: u64,
}

/// File or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// Survives a crash.
    File,
    /// Gone with the process.
    Memory,
}

/// Explicit limits.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections per address; loopback is exempt.
    pub connections_per_address: usize,
    /// TLS handshakes under way.
    pub handshakes: usize,
    /// Longest TLS handshake, seconds.
    pub handshake_s: f64,
    /// Age at which a connection is closed once its calls are done, seconds.
    pub connection_age_s: f64,
    /// Concurrent calls per connection.
    pub streams_per_connection: u32,
    /// HTTP/2 flow-control window per call, bytes.
    pub stream_window_bytes: u32,
    /// HTTP/2 flow-control window per connection, bytes.
    pub connection_window_bytes: u32,
    /// Memory for updates on their way to the spool, bytes.
    pub upload_memory_bytes: u64,
    /// Longest silence within an upload, seconds.
    pub upload_idle_s: f64,
    /// Slowest upload after the first ten seconds, bytes per second.
    pub upload_bytes_per_s: u64,
    /// Chunk size asked of clients, bytes.
    pub chunk_bytes: usize,
    /// Check-ins of one client of a task, per second; four seconds' worth may come at once, and one that is given a
    /// new seat does not count. `None` is twice as many as [`Pace::shortest_s`] makes of a client at most.
    pub check_ins_per_s: Option<f64>,
    /// Check-ins over one connection, counted in the same way.
    pub connection_check_ins_per_s: f64,
    /// Tasks, finished ones included.
    pub tasks: usize,
}

/// When clients come back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Shortest wait before another check-in, seconds.
    pub shortest_s: f64,
    /// Longest wait before another check-in, seconds.
    pub longest_s: f64,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A `tracing` filter, for example `info` or `testudo_server=debug`.
    pub level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self { address: local(8443), plaintext: false, web: Some(local(9464)) }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self { local_operators: true, operators: Vec::new() }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { data_dir: "./testudo-data".into(), spool: Medium::File, ledger: Medium::File, keep_models: 100 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 256,
            handshakes: 512,
            handshake_s: 5.0,
            connection_age_s: 1800.0,
            streams_per_connection: 16,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 2 << 20,
            upload_memory_bytes: 256 << 20,
            upload_idle_s: 30.0,
            upload_bytes_per_s: 8 << 10,
            chunk_bytes: limits::CHUNK_BYTES,
            check_ins_per_s: None,
            connection_check_ins_per_s: 500.0,
            tasks: 1000,
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { shortest_s: 0.5, longest_s: 60.0 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// A configuration the operator has to change before the server starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ConfigError(#[from] pub Problems);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    listen: Listen,
    tls: Option<Tls>,
    access: Access,
    storage: Storage,
    limits: Limits,
    pace: Pace,
    log: Log,
}

impl Config {
    /// Everything in memory on a free loopback port: demo, benches and tests.
    pub fn ephemeral() -> Self {
        let mut config = Self::default();
        config.listen.address.set_port(0);
        config.listen.web = None;
        config.storage.spool = Medium::Memory;
        config.storage.ledger = Medium::Memory;
        config.storage.keep_models = 2;
        config.pace.shortest_s = 0.05;
        config
    }

    /// Reads a file's text; `file` is what errors call it.
    ///
    /// # Errors
    /// [`ConfigError`] lists everything that is wrong, each with line, key, value and fix.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(file, text)?;
        let Raw { listen, tls, access, storage, limits, pace, log } = document.read()?;
        let config = Self { listen, tls, access, storage, limits, pace, log };
        let problems = config.check(&document);
        if problems.is_empty() { Ok(config) } else { Err(document.problems(problems).into()) }
    }

    /// Whether connections are plaintext beyond this machine.
    pub fn exposes_plaintext(&self) -> bool {
        self.tls.is_none() && !self.listen.address.ip().is_loopback()
    }

    /// Whether a task samples in secret while callers beyond this machine may pass for any client: whoever does hears
    /// whether that client was drawn.
    pub fn exposes_samples(&self, spec: &TaskSpec) -> bool {
        let lets_impostors_in = self.transport() != "mtls" && !self.listen.address.ip().is_loopback();
        spec.cohort.sample.is_some() && lets_impostors_in
    }

    /// The transport in a word: `tls`, `mtls` or `plaintext`.
    pub fn transport(&self) -> &'static str {
        match &self.tls {
            None => "plaintext",
            Some(Tls { client_ca: None, .. }) => "tls",
            Some(_) => "mtls",
        }
    }

    /// The limit on check-ins of one client.
    pub(crate) fn check_ins_per_s(&self) -> f64 {
        self.limits.check_ins_per_s.unwrap_or(2.0 * Self::polite_check_ins(&self.pace))
    }

    /// Most check-ins per second of a client that comes back when it is told to: jitter halves the shortest wait.
    fn polite_check_ins(pace: &Pace) -> f64 {
        2.0 / pace.shortest_s
    }

    fn check(&self, document: &Document<'_>) -> Vec<Problem> {
        let mut list = Vec::new();
        let mut fail = |key: &str, what: String, fix: &str| list.push(document.problem(key, what, fix));
        if self.exposes_plaintext() && !self.listen.plaintext {
            let what = format!("{} is not loopback, and there is no [tls]", self.listen.address);
            fail(
                "listen.address",
                what,
                "add [tls] with certificate and key, or write plaintext = true in [listen] for a trusted network",
            );
        }
        if let Some(web) = self.listen.web.filter(|web| !web.ip().is_loopback() && !self.listen.plaintext) {
            let what = format!("{web} is not loopback, and this listener has no TLS");
            fail(
                "listen.web",
                what,
                "use a loopback address, or write plaintext = true in [listen] for a trusted network",
            );
        }
        if self.listen.plaintext && self.tls.is_some() && self.listen.web.is_none_or(|web| web.ip().is_loopback()) {
            fail("listen.plaintext", "has no effect with [tls]".into(), "remove it");
        }
        if let Some(tls) = &self.tls
            && !(tls.reload_s.is_finite() && (0.1..=86_400.0).contains(&tls.reload_s))
        {
            fail("tls.reload_s", "is outside 0.1 to 86400".into(), "write for example 30");
        }
        for digest in &self.access.operators {
            if digest.parse::<testudo_protocol::Digest>().is_err() {
                let what = format!("{digest:?} is not a SHA-256 digest");
                fail(
                    "access.operators",
                    what,
                    "write 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them without colons",
                );
            }
        }
        if !self.access.operators.is_empty() && self.transport() != "mtls" {
            fail(
                "access.operators",
                "has no effect unless clients show certificates".into(),
                "add client_ca to [tls] or remove the key",
            );
        }
        if self.storage.ledger == Medium::Memory && self.storage.spool == Medium::File {
            fail(
                "storage.spool",
                "file, but the ledger is in memory".into(),
                "write spool = \"memory\" or ledger = \"file\"",
            );
        }
        let limits = &self.limits;
        let mut range = |key: &str, value: f64, least: f64, most: f64| {
            if !(value.is_finite() && value >= least && value <= most) {
                let what = format!("{value} is outside {least} to {most}");
                list.push(document.problem(key, what, format!("write a value from {least} to {most}")));
            }
        };
        range("limits.connections", limits.connections as f64, 1.0, 1e6);
        range("limits.connections_per_address", limits.connections_per_address as f64, 1.0, 1e6);
        range("limits.handshakes", limits.handshakes as f64, 1.0, 1e5);
        range("limits.handshake_s", limits.handshake_s, 0.1, 600.0);
        range("limits.connection_age_s", limits.connection_age_s, 1.0, 604_800.0);
        range("limits.streams_per_connection", f64::from(limits.streams_per_connection), 1.0, 10_000.0);
        // h2 panics on windows over 2^31 - 1 and stalls on windows smaller than a frame.
        range("limits.stream_window_bytes", f64::from(limits.stream_window_bytes), 65_535.0, (1u32 << 30).into());
        range(
            "limits.connection_window_bytes",
            f64::from(limits.connection_window_bytes),
            65_535.0,
            (1u32 << 30).into(),
        );
        range("limits.upload_memory_bytes", limits.upload_memory_bytes as f64, (16 << 20) as f64, (1u64 << 42) as f64);
        range("limits.upload_idle_s", limits.upload_idle_s, 0.05, 3600.0);
        range("limits.upload_bytes_per_s", limits.upload_bytes_per_s as f64, 0.0, 1e9);
        range("limits.chunk_bytes", limits.chunk_bytes as f64, 1024.0, limits::CHUNK_BYTES as f64);
        if let Some(most) = limits.check_ins_per_s {
            // Below this, clients that come back when they are told to would be refused.
            range("limits.check_ins_per_s", most, Self::polite_check_ins(&self.pace).clamp(0.01, 1e6), 1e6);
        }
        range("limits.connection_check_ins_per_s", limits.connection_check_ins_per_s, 0.01, 1e6);
        range("limits.tasks", limits.tasks as f64, 1.0, 100_000.0);
        range("pace.shortest_s", self.pace.shortest_s, 0.01, 86_400.0);
        range("pace.longest_s", self.pace.longest_s, self.pace.shortest_s.max(0.01), 604_800.0);
        if tracing_subscriber::EnvFilter::try_new(&self.log.level).is_err() {
            list.push(document.problem("log.level", "is not a filter", "write error, warn, info, debug or trace"));
        }
        list
    }
}

impl Limits {
    /// Longest TLS handshake.
    pub(crate) fn handshake(&self) -> Duration {
        Duration::from_secs_f64(self.handshake_s)
    }

    /// Age at which a connection is closed.
    pub(crate) fn connection_age(&self) -> Duration {
        Duration::from_secs_f64(self.connection_age_s)
    }

    /// Longest silence within an upload.
    pub(crate) fn upload_idle(&self) -> Duration {
        Duration::from_secs_f64(self.upload_idle_s)
    }
}

fn thirty() -> f64 {
    30.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_default() {
        assert_eq!(Config::from_toml("server.toml", SAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn no_key_of_the_sample_takes_a_wrong_type_or_an_absurd_number() {
        let assigns = |line: &str| Some(line.trim_start_matches("# ").split_once(" = ")?.0.to_owned());
        let tls = "[tls]\ncertificate = \"a\"\nkey = \"b\"\nreload_s = 30\n";
        let sample = format!("{SAMPLE}\n{tls}");
        let mut tried = 0;
        for (at, line) in sample.lines().enumerate() {
            let Some(key) =
                assigns(line).filter(|key| key.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()))
            else {
                continue;
            };
            // Keys that are shown as comments only: their table may not be there.
            if line.starts_with('#') && key != "check_ins_per_s" {
                continue;
            }
            let number = line.split_once(" = ").is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            let wrong: &[&str] = if number { &["\"x\"", "-1", "1e30", "nan", "[1]"] } else { &["-1", "[-1]", "{}"] };
            for value in wrong {
                let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
                lines[at] = format!("{key} = {value}");
                let error = Config::from_toml("server.toml", &lines.join("\n"));
                let list = error.expect_err(&format!("{key} = {value} is taken")).0.list;
                let found = list.iter().any(|problem| {
                    problem.key.ends_with(&key) && problem.line == Some(at + 1) && !problem.fix.is_empty()
                });
                assert!(found, "{key} = {value}: {list:?}");
                tried += 1;
            }
        }
        assert!(tried > 80, "{tried}");
    }

    #[test]
    fn each_wrong_key_type_range_or_combination_is_refused_with_line_key_value_and_fix() {
        let cases = [
            ("[listen]\nadress = \"1.2.3.4:1\"", "listen.adress", "unknown field", "did you mean `address`"),
            ("[listen]\naddress = \"nonsense\"", "listen.address", "invalid", ""),
            ("[listen]\naddress = \"0.0.0.0:8443\"", "listen.address", "not loopback", "[tls]"),
            ("[listen]\nweb = \"0.0.0.0:9464\"", "listen.web", "not loopback", "loopback"),
            (
                "[tls]\ncertificate = \"a\"\nkey = \"b\"\n[listen]\nplaintext = true",
                "listen.plaintext",
                "no effect",
                "remove",
            ),
            ("[tls]\ncertificate = \"a\"", "tls.key", "missing", "add `key`"),
            ("[tls]\ncertificate = \"a\"\nkey = \"b\"\nreload_s = 0", "tls.reload_s", "outside", "30"),
            ("[access]\noperators = [\"zz\"]", "access.operators", "SHA-256", "64 hexadecimal"),
            ("[storage]\nspool = \"disk\"", "storage.spool", "unknown variant", "file"),
            ("[storage]\nledger = \"memory\"\nspool = \"file\"", "storage.spool", "in memory", "memory"),
            ("[limits]\nconnections = 0", "limits.connections", "outside", "from 1"),
            ("[limits]\nconnections = -4", "limits.connections", "invalid value", ""),
            ("[limits]\nstream_window_bytes = 1", "limits.stream_window_bytes", "outside", "65535"),
            ("[limits]\ncheck_ins_per_s = 3", "limits.check_ins_per_s", "outside", "from 4"),
            ("[limits]\nconnection_check_ins_per_s = inf", "limits.connection_check_ins_per_s", "outside", "1000000"),
            ("[limits]\nchunk_bytes = 2000000", "limits.chunk_bytes", "outside", "1048576"),
            ("[pace]\nshortest_s = 9\nlongest_s = 3", "pace.longest_s", "outside", "from 9"),
            ("[log]\nlevel = \"a=b=c\"", "log.level", "filter", "debug"),
            ("[log]\nformat = \"xml\"", "log.format", "unknown variant", "json"),
        ];
        for (text, key, what, fix) in cases {
            let list = Config::from_toml("server.toml", text).unwrap_err().0.list;
            let problem = list.iter().find(|problem| problem.key == key).unwrap_or_else(|| panic!("{key}: {list:?}"));
            assert!(problem.what.contains(what), "{problem:?}");
            assert!(problem.fix.contains(fix), "{problem:?}");
            assert!(problem.line.is_some(), "{problem:?}");
        }
    }

    #[test]
    fn plaintext_beyond_loopback_needs_the_explicit_flag() {
        let config = Config::from_toml("s", "[listen]\naddress = \"0.0.0.0:1\"\nplaintext = true").unwrap();
        assert!(config.exposes_plaintext());
    }
}
