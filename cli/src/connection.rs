//! How operator commands reach a server.

use crate::{
    exit::{Exit, Failure, chain},
    file,
    format::clean,
    output::Output,
};
use clap::Args;
use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use testudo_proto::{framing, v1::admin_client::AdminClient};
use tonic::{
    Response, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri},
};

/// Where `testudo serve` listens unless told otherwise.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8443";
/// Largest PEM file.
const PEM_BYTES: u64 = 1 << 20;
/// Flow-control windows for models on their way.
const WINDOW_BYTES: u32 = 4 << 20;
/// Longest `--timeout`, seconds.
const LONGEST_TIMEOUT_S: f64 = 86_400.0;

/// Which server, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// Address of the server: http://HOST:PORT, or https://HOST:PORT with --ca
    #[arg(long, env = "TESTUDO_SERVER", default_value = DEFAULT_SERVER, value_name = "URL", help_heading = "Connection")]
    server: String,
    #[command(flatten)]
    security: Security,
}

/// Certificates and patience.
#[derive(Debug, Clone, Args)]
pub(crate) struct Security {
    /// Authority of the server's certificate, PEM
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// This operator's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Connection")]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Connection")]
    key: Option<PathBuf>,
    /// Longest silence of the server
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", help_heading = "Connection")]
    timeout: f64,
}

/// A connection to the operators' service of one server.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    client: AdminClient<Channel>,
    server: String,
    timeout: Duration,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Wrong arguments, unreadable certificates, no server.
    pub(crate) async fn open(&self, output: &Output) -> Result<Admin, Failure> {
        self.security.open(&self.server, output).await
    }
}

impl Security {
    /// Connects to a server.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(crate) async fn open(&self, server: &str, output: &Output) -> Result<Admin, Failure> {
        if !(self.timeout.is_finite() && self.timeout > 0.0 && self.timeout <= LONGEST_TIMEOUT_S) {
            let why = format!("--timeout {} is not from above 0 to {LONGEST_TIMEOUT_S} seconds", self.timeout);
            return Err(Failure::new(Exit::Usage, "cannot connect", why));
        }
        let timeout = Duration::from_secs_f64(self.timeout);
        let endpoint = self.endpoint(server, timeout, output)?;
        let channel = endpoint.connect().await.map_err(|error| {
            let next = match self.ca {
                Some(_) => "check --ca, --cert and --key, and that `testudo serve` runs there with [tls]",
                None => "start `testudo serve`, or give another --server (or TESTUDO_SERVER)",
            };
            Failure::new(Exit::Unavailable, format!("cannot reach {}", clean(server)), chain(&error)).next(next)
        })?;
        let client = AdminClient::new(channel)
            // A round's record grows with its cohort.
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(framing::MESSAGE_BYTES);
        Ok(Admin { client, server: server.to_string(), timeout })
    }

    fn endpoint(&self, server: &str, timeout: Duration, output: &Output) -> Result<Endpoint, Failure> {
        let refused = |why: String, next: &str| {
            Err(Failure::new(Exit::Usage, format!("cannot use --server {}", clean(server)), why).next(next))
        };
        let uri = match server.parse::<Uri>() {
            Ok(uri) => uri,
            Err(error) => return refused(error.to_string(), "write http://HOST:PORT or https://HOST:PORT"),
        };
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return refused("it is not an address".into(), "write http://HOST:PORT or https://HOST:PORT");
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return refused("there is something after the port".into(), "end the address after the port");
        }
        let secure = scheme == "https";
        if secure && self.ca.is_none() {
            return refused(
                "https needs to know whom to trust".into(),
                "add --ca FILE, the authority of its certificate",
            );
        }
        if !secure && (self.ca.is_some() || self.cert.is_some()) {
            return refused(
                "certificates have no effect over http".into(),
                "write https:// or remove --ca, --cert and --key",
            );
        }
        let local = host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if !secure && !local {
            output.note(&format!("warning: plaintext to {host}; anyone on the way can read and change it"));
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(timeout.min(Duration::from_secs(20)))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .tcp_nodelay(true);
        let Some(ca) = &self.ca else { return Ok(endpoint) };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file::read(ca, PEM_BYTES)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(file::read(cert, PEM_BYTES)?, file::read(key, PEM_BYTES)?));
        }
        endpoint.tls_config(tls).map_err(|error| {
            Failure::new(Exit::Config, "cannot use the certificates", chain(&error))
                .next("give PEM files: --ca an authority, --cert a certificate chain, --key its private key")
        })
    }
}

impl Admin {
    /// A handle to call with; `what` in the other methods reads "cannot …".
    pub(crate) fn client(&self) -> AdminClient<Channel> {
        self.client.clone()
    }

    /// The server's address as given.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Waits for one answer.
    ///
    /// # Errors
    /// The server's refusal, a lost connection, or silence beyond `--timeout`.
    pub(crate) async fn answer<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(what, &status)),
            Err(_) => Err(self.silence(what)),
        }
    }

    /// Waits for the answer to something long, as long as `progress` moves.
    ///
    /// # Errors
    /// As [`Admin::answer`]; the time counts from the last movement.
    pub(crate) async fn answer_while_moving<T>(
        &self,
        what: &str,
        progress: &Arc<AtomicU64>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let mut call = std::pin::pin!(call);
        loop {
            let before = progress.load(Ordering::Relaxed);
            match tokio::time::timeout(self.timeout, &mut call).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => return Err(self.failure(what, &status)),
                Err(_) if progress.load(Ordering::Relaxed) > before => {}
                Err(_) => return Err(self.silence(what)),
            }
        }
    }

    /// The next message of a stream; `None` at its end.
    ///
    /// # Errors
    /// As [`Admin::answer`].
    pub(crate) async fn next<T>(&self, what: &str, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        match tokio::time::timeout(self.timeout, stream.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(self.failure(what, &status)),
            Err(_) => Err(self.silence(what)),
        }
    }

    /// A status in words.
    pub(crate) fn failure(&self, what: &str, status: &Status) -> Failure {
        Failure::from_status(what, &self.server, status)
    }

    fn silence(&self, what: &str) -> Failure {
        let why = format!("{} was silent for {} s", clean(&self.server), self.timeout.as_secs_f64());
        Failure::new(Exit::Unavailable, what, why).next("try again, or wait longer with --timeout SECONDS")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(server: &str, ca: Option<&str>) -> Failure {
        let security = Security { ca: ca.map(PathBuf::from), cert: None, key: None, timeout: 1.0 };
        let output = Output { json: false, colour: false, watched: false };
        security.endpoint(server, Duration::from_secs(1), &output).unwrap_err()
    }

    #[test]
    fn addresses_that_cannot_be_meant_are_refused_with_their_fix() {
        for (server, ca, part) in [
            ("127.0.0.1:8443", None, "http://HOST:PORT"),
            ("ftp://a:1", None, "http://HOST:PORT"),
            ("http://a:1/path", None, "after the port"),
            ("https://a:1", None, "--ca"),
            ("http://a:1", Some("ca.pem"), "https://"),
        ] {
            let failure = refused(server, ca);
            assert_eq!(failure.exit, Exit::Usage, "{server}");
            assert!(failure.next.contains(part), "{server}: {failure:?}");
        }
    }

    #[test]
    fn a_missing_authority_file_is_named() {
        let failure = refused("https://a:1", Some("/no/such/ca.pem"));
        assert_eq!((failure.exit, failure.what.as_str()), (Exit::NotFound, "cannot read /no/such/ca.pem"));
    }
}
