use crate::fake::Fake;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::net::SocketAddr;
use testudo_client::{Client, Error, Identity};
use testudo_proto::v1::federation_server::FederationServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Server, ServerTlsConfig};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, name: SanType) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names.push(name);
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// Serves with mutual TLS under one authority.
async fn serve(fake: &Fake, authority: &Authority) -> SocketAddr {
    let (chain, key) = issue(authority, SanType::IpAddress("127.0.0.1".parse().unwrap()));
    let tls = ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(chain, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().tls_config(tls).unwrap().add_service(FederationServer::new(fake.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

#[tokio::test]
async fn a_certificate_opens_the_door_and_names_the_client() {
    let (fake, authority) = (Fake::default(), authority());
    let address = serve(&fake, &authority).await;
    let uri = SanType::URI("spiffe://example.org/edge/eu/device-9".try_into().unwrap());
    let (chain, key) = issue(&authority, uri);
    let client = Client::builder(format!("https://{address}"))
        .identity(Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
        .ca_certificate(authority.pem())
        .connect()
        .await
        .unwrap();
    assert!(client.join("task").await.unwrap().next_round().await.unwrap().is_none());
    assert_eq!(fake.state().check_ins[0].1.client, "device-9");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let address = serve(&Fake::default(), &authority()).await;
    let other = authority();
    let (chain, key) = issue(&other, SanType::URI("spiffe://example.org/edge/eu/device-9".try_into().unwrap()));
    let error = Client::builder(format!("https://{address}"))
        .identity(Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
        .ca_certificate(other.pem())
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Connect { detail, .. } if detail.contains("certificate")), "{error}");
}
