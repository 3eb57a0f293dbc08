//! Who is calling, as the channel says.
//!
//! Enrolment and roles will join here: today a caller is a client, and may be an operator.

use crate::{config::Access, rate::Meter};
use std::{net::SocketAddr, sync::Arc};
use testudo_proto::client_id_of_certificate;
use testudo_protocol::{ClientId, Digest, Reason, Reject};
use tonic::Request;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The client id of its certificate (mTLS).
    pub(crate) client: Option<Result<ClientId, Reject>>,
    /// SHA-256 of its certificate (mTLS).
    pub(crate) certificate: Option<Digest>,
    /// How often it checked in.
    pub(crate) check_ins: Arc<Meter>,
}

impl Peer {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, client: None, certificate: None, check_ins: Arc::default() }
    }

    pub(crate) fn with_certificate(address: SocketAddr, der: &[u8]) -> Self {
        let (client, certificate) = (Some(client_id_of_certificate(der)), Some(Digest::of(der)));
        Self { client, certificate, ..Self::plain(address) }
    }
}

/// Checks a claimed client id against the channel. Without client certificates the claim is all there is.
pub(crate) fn check_client<T>(request: &Request<T>, claimed: &ClientId) -> Result<(), Reject> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Reject::new(Reason::Identity, "unknown caller"));
    };
    match &peer.client {
        None => Ok(()),
        Some(Ok(client)) if client == claimed => Ok(()),
        Some(Ok(client)) => {
            Err(Reject::new(Reason::Identity, format!("the certificate says {client}, the call says {claimed}")))
        }
        Some(Err(reject)) => Err(reject.clone()),
    }
}

/// Checks that the caller may use the operators' service.
pub(crate) fn check_operator<T>(request: &Request<T>, access: &Access) -> Result<(), Reject> {
    let refused = |detail: &str| Err(Reject::new(Reason::Identity, detail));
    let Some(peer) = request.extensions().get::<Peer>() else { return refused("unknown caller") };
    match &peer.certificate {
        Some(digest) if access.operators.iter().any(|operator| operator.eq_ignore_ascii_case(&digest.to_string())) => {
            Ok(())
        }
        Some(_) => refused("this certificate is no operator's; add its SHA-256 to `operators` in [access]"),
        None if access.local_operators && peer.address.ip().is_loopback() => Ok(()),
        None if peer.address.ip().is_loopback() => refused("local operators are off; see local_operators in [access]"),
        None => refused("operators call from this machine, or with a certificate under mTLS; see [access]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(peer: Peer) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(peer);
        request
    }

    #[test]
    fn operators_call_from_this_machine_unless_that_is_off() {
        let local = request(Peer::plain("127.0.0.1:9".parse().unwrap()));
        assert!(check_operator(&local, &Access::default()).is_ok());
        let off = Access { local_operators: false, ..Access::default() };
        assert_eq!(check_operator(&local, &off).unwrap_err().reason, Reason::Identity);
        let remote = request(Peer::plain("10.0.0.9:9".parse().unwrap()));
        assert!(check_operator(&remote, &Access::default()).is_err());
        assert!(check_operator(&Request::new(()), &Access::default()).is_err());
    }

    #[test]
    fn under_mtls_only_listed_certificates_are_operators_even_on_this_machine() {
        let peer = Peer { certificate: Some(Digest::of(b"der")), ..Peer::plain("127.0.0.1:9".parse().unwrap()) };
        assert!(check_operator(&request(peer.clone()), &Access::default()).is_err());
        let listed = Access { operators: vec![Digest::of(b"der").to_string().to_uppercase()], ..Access::default() };
        assert!(check_operator(&request(peer), &listed).is_ok());
    }

    #[test]
    fn a_client_is_who_its_certificate_says() {
        let (anna, ben) = (ClientId::new("anna").unwrap(), ClientId::new("ben").unwrap());
        let peer = Peer { client: Some(Ok(anna.clone())), ..Peer::plain("127.0.0.1:9".parse().unwrap()) };
        assert!(check_client(&request(peer.clone()), &anna).is_ok());
        assert_eq!(check_client(&request(peer), &ben).unwrap_err().reason, Reason::Identity);
    }
}
