//! TLS and mTLS from PEM files, over real sockets.

use crate::common::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::{fs, path::Path, time::Duration};
use testudo_client::{Client, ClientBuilder, Error, Identity};
use testudo_proto::{Answer, v1, v1::admin_client::AdminClient};
use testudo_protocol::{Digest, Reason};
use testudo_server::{Config, Server, config::Tls};
use tokio::io::AsyncReadExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM, with the certificate's digest.
#[derive(Clone)]
struct Leaf {
    chain: String,
    key: String,
    digest: Digest,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self, purpose: ExtendedKeyUsagePurpose, name: SanType) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names.push(name);
        params.extended_key_usages.push(purpose);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: certificate.pem(), key: key.serialize_pem(), digest: Digest::of(certificate.der()) }
    }

    fn server(&self) -> Leaf {
        self.leaf(ExtendedKeyUsagePurpose::ServerAuth, SanType::DnsName("testudo.test".try_into().unwrap()))
    }

    fn device(&self, name: &str) -> Leaf {
        let uri = format!("spiffe://example.org/edge/test/{name}");
        self.leaf(ExtendedKeyUsagePurpose::ClientAuth, SanType::URI(uri.as_str().try_into().unwrap()))
    }
}

fn install(directory: &Path, leaf: &Leaf) {
    fs::write(directory.join("server.pem"), &leaf.chain).unwrap();
    fs::write(directory.join("server.key"), &leaf.key).unwrap();
}

fn tls_config(directory: &Path, client_ca: Option<&Authority>) -> Config {
    let mut config = Config::ephemeral();
    let client_ca = client_ca.map(|authority| {
        let path = directory.join("clients.pem");
        fs::write(&path, &authority.pem).unwrap();
        path
    });
    config.tls = Some(Tls {
        certificate: directory.join("server.pem"),
        key: directory.join("server.key"),
        client_ca,
        reload_s: 0.2,
    });
    config
}

async fn start(config: Config) -> (Server, String) {
    let server = within("the start", Server::start(config)).await.unwrap();
    let url = format!("https://{}", server.address());
    (server, url)
}

fn builder(url: &str, authority: &Authority, identity: Identity) -> ClientBuilder {
    Client::builder(url)
        .identity(identity)
        .ca_certificate(authority.pem.clone())
        .server_name("testudo.test")
        .retry(quick_retry().give_up_after(Duration::from_secs(2)))
}

fn identity(leaf: &Leaf) -> Identity {
    Identity::from_pem(leaf.chain.as_bytes(), leaf.key.as_bytes()).unwrap()
}

async fn channel(url: &str, authority: &Authority, leaf: Option<&Leaf>) -> Result<Channel, tonic::transport::Error> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem)).domain_name("testudo.test");
    if let Some(leaf) = leaf {
        tls = tls.identity(tonic::transport::Identity::from_pem(&leaf.chain, &leaf.key));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tls_config(tls).unwrap();
    within("connecting", endpoint.connect()).await
}

/// Whether a whole call gets through: under TLS 1.3 a refused certificate shows only after the handshake.
async fn reaches(url: &str, authority: &Authority, leaf: Option<&Leaf>) -> Result<Reason, String> {
    let channel = channel(url, authority, leaf).await.map_err(|error| format!("{error:?}"))?;
    match check_in(&federation(channel), "nowhere", "anybody", 0).await {
        Ok(_) => panic!("there is no such task"),
        Err(status) => testudo_proto::from_status(&status).map(|reject| reject.reason).ok_or(format!("{status:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_serves_whoever_trusts_its_authority_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new("ours"), Authority::new("theirs"));
    install(directory.path(), &authority.server());
    let (server, url) = start(tls_config(directory.path(), None)).await;
    let named = || Identity::named("a").unwrap();
    builder(&url, &authority, named()).connect().await.unwrap();
    assert_eq!(reaches(&url, &authority, None).await, Ok(Reason::NotFound));
    let wrong = builder(&url, &foreign, named()).connect().await.unwrap_err();
    assert!(matches!(wrong, Error::Connect { .. }), "{wrong}");
    let wrong = builder(&url, &authority, named()).server_name("other.test").connect().await.unwrap_err();
    assert!(matches!(wrong, Error::Connect { .. }), "{wrong}");
    // Plaintext to the same port is answered by nothing a client could use.
    let plain = url.replace("https", "http");
    let client = Client::builder(plain)
        .identity(named())
        .retry(quick_retry().give_up_after(Duration::from_millis(500)))
        .connect()
        .await;
    if let Ok(client) = client {
        let next = within("giving up", async { client.join("t").await.unwrap().next_round().await.map(|_| ()) }).await;
        assert!(matches!(next, Err(Error::GaveUp { .. })), "{next:?}");
    }
    // Operators on this machine need no certificate as long as clients need none.
    let mut admin = AdminClient::new(channel(&url, &authority, None).await.unwrap());
    assert_eq!(admin.get_server(v1::GetServerRequest {}).await.unwrap().into_inner().transport, "tls");
    drop(admin);
    within("the stop", server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mtls_admits_its_own_certificates_only() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new("ours"), Authority::new("theirs"));
    install(directory.path(), &authority.server());
    let (server, url) = start(tls_config(directory.path(), Some(&authority))).await;
    assert!(reaches(&url, &authority, None).await.is_err(), "no certificate");
    assert!(reaches(&url, &authority, Some(&foreign.device("a"))).await.is_err(), "foreign authority");
    assert!(reaches(&url, &authority, Some(&authority.server())).await.is_err(), "a server's certificate");
    let mut expired = CertificateParams::new(Vec::new()).unwrap();
    expired.not_before = rcgen::date_time_ymd(2001, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2001, 1, 2);
    expired.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    let key = KeyPair::generate().unwrap();
    let certificate = expired.signed_by(&key, &authority.issuer).unwrap();
    let expired = Leaf { chain: certificate.pem(), key: key.serialize_pem(), digest: Digest::of(certificate.der()) };
    assert!(reaches(&url, &authority, Some(&expired)).await.is_err(), "expired");
    // Known by the channel, so the claimed name is wrong before the task is.
    assert_eq!(reaches(&url, &authority, Some(&authority.device("device-7"))).await, Ok(Reason::Identity));
    within("the stop", server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_mtls_a_client_is_who_its_certificate_says_and_operators_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    install(directory.path(), &authority.server());
    let operator = authority.device("operator");
    let mut config = tls_config(directory.path(), Some(&authority));
    config.access.operators = vec![operator.digest.to_string()];
    let (server, url) = start(config).await;
    let devices = [authority.device("device-1"), authority.device("device-2")];

    let mut admin = AdminClient::new(channel(&url, &authority, Some(&operator)).await.unwrap());
    assert_eq!(admin.get_server(v1::GetServerRequest {}).await.unwrap().into_inner().transport, "mtls");
    let mut stranger = AdminClient::new(channel(&url, &authority, Some(&devices[0])).await.unwrap());
    assert_eq!(reason(stranger.get_server(v1::GetServerRequest {}).await), Reason::Identity);
    let control = v1::ControlTaskRequest { name: "certified".into(), action: "stop".into() };
    assert_eq!(reason(stranger.control_task(control).await), Reason::Identity);

    let file = bytes::Bytes::from(small_model(2).to_safetensors());
    let header = testudo_proto::CreateTaskHeader {
        toml: task_toml("certified", 2, "size = 2", "kind = \"mean\"", ""),
        model_bytes: file.len() as u64,
        model_digest: Digest::of(&file),
    };
    let parts = || {
        let parts =
            [testudo_proto::CreateTaskPart::Header(header.clone()), testudo_proto::CreateTaskPart::Chunk(file.clone())];
        tokio_stream::iter(parts.map(testudo_proto::CreateTaskPart::to_wire))
    };
    assert_eq!(reason(stranger.create_task(parts()).await), Reason::Identity);
    admin.create_task(parts()).await.unwrap();

    // Another client's name in any call is refused, even with its nonce.
    let stubs = [
        federation(channel(&url, &authority, Some(&devices[0])).await.unwrap()),
        federation(channel(&url, &authority, Some(&devices[1])).await.unwrap()),
    ];
    assert_eq!(reason(check_in(&stubs[0], "certified", "device-2", 0).await), Reason::Identity);
    let (first, second) = within(
        "check-ins",
        futures::future::join(
            seat(stubs[0].clone(), "certified", "device-1"),
            seat(stubs[1].clone(), "certified", "device-2"),
        ),
    )
    .await;
    let stolen = Seat { stub: stubs[0].clone(), ..second.clone() };
    assert_eq!(reason(stolen.submit().await), Reason::Identity);
    assert_eq!(reason(stolen.status(Digest::of(b"x")).await), Reason::Identity);
    assert_eq!(reason(stolen.withdraw().await), Reason::Identity);
    first.submit().await.unwrap();
    second.submit().await.unwrap();

    // The SDK derives the same names by itself.
    let runs = devices.iter().map(|leaf| {
        let client = builder(&url, &authority, identity(leaf));
        async move {
            let client = client.connect().await.unwrap();
            let name = client.name().to_string();
            client.run("certified", Honest::new(&name)).await.unwrap()
        }
    });
    for summary in within("the runs", futures::future::join_all(runs)).await {
        assert_eq!(summary.rounds, 1, "{summary:?}");
    }
    let round = v1::GetRoundRequest { task: "certified".into(), round: 2 };
    let round = admin.get_round(round).await.unwrap().into_inner();
    assert_eq!(verdict(&round, "device-1"), "accepted");
    let (answer, _) = check_in(&stubs[0], "certified", "device-1", 0).await.unwrap();
    assert!(matches!(answer, Answer::Ended { .. }), "{answer:?}");
    drop((admin, stranger, stubs, first, second, stolen));
    within("the stop", server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_certificates_are_picked_up_and_broken_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    install(directory.path(), &old.server());
    let (server, url) = start(tls_config(directory.path(), None)).await;
    let kept = channel(&url, &old, None).await.unwrap();
    let eventually = async |authority: &Authority| {
        within("the reload", async {
            while reaches(&url, authority, None).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    };
    eventually(&old).await;
    install(directory.path(), &new.server());
    eventually(&new).await;
    assert!(reaches(&url, &old, None).await.is_err(), "the old certificate is gone for new connections");
    let status = check_in(&federation(kept), "nowhere", "a", 0).await;
    assert_eq!(reason(status), Reason::NotFound, "open connections stay");
    // Half a replacement and garbage both leave the certificate in place, and the next good one is taken.
    let next = old.server();
    fs::write(directory.path().join("server.pem"), &next.chain).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(reaches(&url, &new, None).await, Ok(Reason::NotFound));
    fs::write(directory.path().join("server.pem"), "garbage").unwrap();
    fs::remove_file(directory.path().join("server.key")).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(reaches(&url, &new, None).await, Ok(Reason::NotFound));
    install(directory.path(), &next);
    eventually(&old).await;
    within("the stop", server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stay_silent_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    install(directory.path(), &authority.server());
    let mut config = tls_config(directory.path(), None);
    config.limits.handshake_s = 0.3;
    config.limits.handshakes = 8;
    let (server, url) = start(config).await;
    // Many more than there are places for handshakes: the honest caller comes through all the same.
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(tokio::net::TcpStream::connect(server.address()).await.unwrap());
    }
    within("an honest call", async {
        while reaches(&url, &authority, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    for mut stream in silent {
        let mut byte = [0; 1];
        let read = within("the close", stream.read(&mut byte)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    within("the stop", server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_certificate_files_stop_the_start_with_the_fix() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let leaf = authority.server();
    let refused = async || Server::start(tls_config(directory.path(), None)).await.unwrap_err().to_string();
    let error = refused().await;
    assert!(error.contains("server.pem") && error.contains("fix:"), "{error}");
    install(directory.path(), &leaf);
    fs::write(directory.path().join("server.key"), authority.server().key).unwrap();
    let error = refused().await;
    assert!(error.contains("belong together"), "{error}");
    assert!(!error.contains("PRIVATE"), "no key in an error");
}
