//! From an address to a connected client.

use crate::{
    Client, Error, Identity, MemoryAnswers, Policy, Retry,
    client::Inner,
    transport::{Transport, causes},
};
use std::{
    error::Error as _,
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use testudo_protocol::{limits, secagg::Answers};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

/// Smallest flow-control window: what HTTP/2 begins with.
const SMALLEST_WINDOW: u32 = 65_535;
/// Largest flow-control window of HTTP/2.
const LARGEST_WINDOW: u32 = i32::MAX as u32;

/// Describes a connection; [`connect`](ClientBuilder::connect) makes it.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    url: String,
    identity: Option<Identity>,
    policy: Policy,
    retry: Retry,
    authority: Option<Authority>,
    server_name: Option<String>,
    connect_timeout: Option<Duration>,
    wait: Duration,
    windows: Option<(u32, u32)>,
    allow_plaintext: bool,
    channel: Option<Channel>,
    answers: Option<Arc<dyn Answers>>,
}

/// Whom the server's certificate must be from.
#[derive(Debug, Clone)]
enum Authority {
    Pem(Vec<u8>),
    File(PathBuf),
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            identity: None,
            policy: Policy::default(),
            retry: Retry::default(),
            authority: None,
            server_name: None,
            connect_timeout: None,
            wait: Duration::from_secs(20),
            windows: None,
            allow_plaintext: false,
            channel: None,
            answers: None,
        }
    }

    /// Who this client is. Required.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// What the device insists on.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Where the device remembers the masked rounds it has answered in: a [`FileAnswers`](crate::FileAnswers) in a place
    /// of its own. Unless told, memory, which is enough as long as the process lives.
    #[must_use]
    pub fn answers(mut self, answers: Arc<dyn Answers>) -> Self {
        self.answers = Some(answers);
        self
    }

    /// How a server that is away is waited for.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The certificate authority, PEM, that the server's certificate must be from. Required for `https://`: no other
    /// authority is trusted.
    #[must_use]
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authority = Some(Authority::Pem(pem.into()));
        self
    }

    /// As [`ca_certificate`](ClientBuilder::ca_certificate), from a file that is read when connecting.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authority = Some(Authority::File(path.into()));
        self
    }

    /// The name in the server's certificate, where it is not the address's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Longest wait for a connection; 10 s unless told.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = Some(time);
        self
    }

    /// How long the server may hold a check-in while a round fills: up to 60 s, 20 s unless told.
    #[must_use]
    pub fn check_in_wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Bytes the server may send ahead, per stream and per connection: 1 MiB and 2 MiB unless told. A download is at
    /// most as fast as the stream's window divided by the round-trip time.
    #[must_use]
    pub fn download_windows(mut self, stream: u32, connection: u32) -> Self {
        self.windows = Some((stream, connection));
        self
    }

    /// Allows `http://` to other hosts than this one. Everyone on the way can then read and change everything.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Uses a channel made elsewhere, so that many clients of one process can share a connection. The address is
    /// then for messages only, and the channel brings its own TLS, windows and timeouts.
    ///
    /// A connection carries as many calls at once as the server allows streams, and a held check-in is one: with
    /// more clients than that on one channel, shorten [`check_in_wait`](ClientBuilder::check_in_wait) or make more
    /// channels.
    #[must_use]
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channel = Some(channel);
        self
    }

    /// Connects, with one try, so that a wrong address shows at once. Later the client reconnects by itself.
    ///
    /// # Errors
    /// [`Error::Config`] for options that cannot be, [`Error::Identity`] without an identity, [`Error::Connect`] if
    /// the server cannot be reached.
    pub async fn connect(self) -> Result<Client, Error> {
        if let Some(channel) = self.channel.clone() {
            return self.with_channel(channel);
        }
        let channel = self.endpoint()?.connect().await.map_err(|error| Error::Connect {
            url: self.url.clone(),
            detail: format!("{error}{}", causes(error.source())),
        })?;
        self.into_client(channel)
    }

    /// As [`connect`](ClientBuilder::connect), but connects with the first call; must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Identity`] as there.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        if let Some(channel) = self.channel.clone() {
            return self.with_channel(channel);
        }
        let channel = self.endpoint()?.connect_lazy();
        self.into_client(channel)
    }

    fn with_channel(self, channel: Channel) -> Result<Client, Error> {
        for (given, option) in [
            (self.authority.is_some(), "ca_certificate"),
            (self.server_name.is_some(), "server_name"),
            (self.connect_timeout.is_some(), "connect_timeout"),
            (self.windows.is_some(), "download_windows"),
            (self.allow_plaintext, "allow_plaintext"),
        ] {
            if given {
                return Err(Error::Config(format!(
                    "{option} has no effect on a channel made elsewhere; set it where the channel is made"
                )));
            }
        }
        self.into_client(channel)
    }

    fn into_client(self, channel: Channel) -> Result<Client, Error> {
        if self.wait > Duration::from_millis(limits::CHECK_IN_WAIT_MS) {
            return Err(Error::Config(format!(
                "check_in_wait is {} ms, more than the limit of {}",
                self.wait.as_millis(),
                limits::CHECK_IN_WAIT_MS
            )));
        }
        let identity = self.required_identity()?;
        let server = self.policy.pinned_server().map(OnceLock::from).unwrap_or_default();
        let inner = Inner {
            credentials: identity.credentials(),
            answers: self.answers.unwrap_or_else(|| Arc::new(MemoryAnswers::default())),
            server,
            name: identity.name().clone(),
            transport: Transport::new(channel, self.url),
            policy: self.policy,
            retry: self.retry,
            wait: self.wait,
        };
        Ok(Client { inner: Arc::new(inner) })
    }

    fn required_identity(&self) -> Result<Identity, Error> {
        self.identity.clone().ok_or_else(|| {
            Error::Identity("none given; use .identity(Identity::named(…)) or Identity::from_pem_files(…)".into())
        })
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let bad_url = |why: &str| Error::Config(format!("the address {:?} {why}", self.url));
        let uri: Uri = self.url.parse().map_err(|_| bad_url("is no URL; write https://host:port"))?;
        let host = uri.host().ok_or_else(|| bad_url("names no host; write https://host:port"))?;
        let (stream, connection) = self.windows.unwrap_or((1 << 20, 2 << 20));
        for (name, window) in [("stream", stream), ("connection", connection)] {
            if !(SMALLEST_WINDOW..=LARGEST_WINDOW).contains(&window) {
                return Err(Error::Config(format!(
                    "download_windows: {name} is {window}, outside {SMALLEST_WINDOW} to {LARGEST_WINDOW}"
                )));
            }
        }
        let endpoint = Endpoint::from(uri.clone())
            .user_agent(concat!("testudo-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Error::Config(error.to_string()))?
            .connect_timeout(self.connect_timeout.unwrap_or(Duration::from_secs(10)))
            .tcp_nodelay(true)
            .max_frame_size(256 << 10)
            .initial_stream_window_size(stream)
            .initial_connection_window_size(connection)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        match uri.scheme_str() {
            Some("https") => {
                let tls = self.tls()?;
                endpoint
                    .tls_config(tls)
                    .map_err(|error| Error::Config(format!("TLS cannot be set up: {error}{}", causes(error.source()))))
            }
            Some("http") => {
                self.check_plaintext(host)?;
                Ok(endpoint)
            }
            _ => Err(bad_url("must begin with https:// or http://")),
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let authority = match &self.authority {
            Some(Authority::Pem(pem)) => pem.clone(),
            Some(Authority::File(path)) => fs::read(path)
                .map_err(|error| Error::Config(format!("cannot read the CA file {}: {error}", path.display())))?,
            None => {
                return Err(Error::Config(
                    "https needs the certificate authority of the server: give it with .ca_file(path)".into(),
                ));
            }
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let Some(pem) = self.required_identity()?.certificate() {
            tls = tls.identity(tonic::transport::Identity::from_pem(&pem.chain, &pem.key));
        }
        Ok(tls)
    }

    fn check_plaintext(&self, host: &str) -> Result<(), Error> {
        for (given, option) in [
            (self.authority.is_some(), "a certificate authority"),
            (self.server_name.is_some(), "a server name"),
            (self.required_identity()?.certificate().is_some(), "a certificate"),
        ] {
            if given {
                return Err(Error::Config(format!("{option} has no effect over http://; use https://")));
            }
        }
        if self.allow_plaintext || is_loopback(host) {
            return Ok(());
        }
        Err(Error::Config(format!(
            "http:// to {host} could be read and changed by everyone on the way; use https://, or .allow_plaintext() \
             on a network you trust"
        )))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(url: &str) -> ClientBuilder {
        Client::builder(url).identity(Identity::named("device-7").unwrap())
    }

    #[tokio::test]
    async fn options_that_cannot_be_are_refused_with_the_fix() {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let cases = [
            (builder("not a url"), "https://host:port"),
            (builder("ftp://host:1"), "must begin with"),
            (builder("https://host:1"), ".ca_file"),
            (builder("https://host:1").ca_file("/no/such/ca.pem"), "/no/such/ca.pem"),
            (builder("http://fl.example.org:1"), "allow_plaintext"),
            (builder("http://10.0.0.1:1"), "allow_plaintext"),
            (builder("http://127.0.0.1:1").ca_certificate("x"), "no effect over http://"),
            (builder("http://127.0.0.1:1").download_windows(1, 1 << 20), "stream is 1"),
            (builder("http://127.0.0.1:1").check_in_wait(Duration::from_secs(61)), "61000"),
            (Client::builder("http://127.0.0.1:1"), "Identity::named"),
            (builder("x").channel(channel).connect_timeout(Duration::from_secs(1)), "connect_timeout"),
        ];
        for (builder, part) in cases {
            let error = builder.connect_lazy().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn plaintext_to_this_host_needs_no_permission() {
        for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9:1"] {
            assert!(builder(url).connect_lazy().is_ok(), "{url}");
        }
        assert!(builder("http://fl.example.org:1").allow_plaintext().connect_lazy().is_ok());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_shows_at_once() {
        let error = builder("http://127.0.0.1:1").connect().await.unwrap_err();
        assert!(matches!(&error, Error::Connect { url, .. } if url == "http://127.0.0.1:1"), "{error}");
    }
}
