//! The identity that a certificate gives its holder. Both sides derive it with this function.

use sha2::{Digest as _, Sha256};
use testudo_protocol::{ClientId, Reason, Reject};
use x509_parser::{extensions::GeneralName, prelude::*};

/// Hexadecimal digits of the certificate's digest in an identity: 160 bits.
const DIGEST_DIGITS: usize = 40;

/// The client that a certificate (DER) stands for.
///
/// If the only URI among its alternative names is `spiffe://<domain>/edge/<segment>/<device>` and `<device>` is a
/// valid [`ClientId`], that device; else `x` and the first 40 hexadecimal digits of the certificate's SHA-256. A
/// device that is named like such a digest gets its own digest, so that no name can stand for another certificate.
///
/// The certificate is not verified here: that is the TLS handshake's part.
///
/// # Errors
/// [`Reject`] with [`Reason::Identity`] if the bytes are not exactly one X.509 certificate.
pub fn client_id_of_certificate(der: &[u8]) -> Result<ClientId, Reject> {
    let unreadable = |why: String| Reject::new(Reason::Identity, format!("the certificate cannot be read: {why}"));
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(unreadable(format!("{} bytes follow it", rest.len())));
    }
    let names = certificate.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    if let Some(device) = names.and_then(|names| only_uri(&names.value.general_names)).and_then(device) {
        return Ok(device);
    }
    let digits = hex::encode(Sha256::digest(der));
    ClientId::new(format!("x{}", &digits[..DIGEST_DIGITS])).map_err(|error| unreadable(error.to_string()))
}

/// The URI among alternative names, if there is exactly one.
fn only_uri<'a>(names: &[GeneralName<'a>]) -> Option<&'a str> {
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next()?;
    uris.next().is_none().then_some(uri)
}

/// The device of `spiffe://<domain>/edge/<segment>/<device>`.
fn device(uri: &str) -> Option<ClientId> {
    let parts: Vec<&str> = uri.strip_prefix("spiffe://")?.split('/').collect();
    let [domain, "edge", segment, device] = parts[..] else { return None };
    if domain.is_empty() || segment.is_empty() || looks_like_digest(device) {
        return None;
    }
    ClientId::new(device).ok()
}

fn looks_like_digest(name: &str) -> bool {
    let digits = name.strip_prefix('x').unwrap_or_default();
    digits.len() == DIGEST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["device.example.org".to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn digest_id(der: &[u8]) -> String {
        format!("x{}", &hex::encode(Sha256::digest(der))[..40])
    }

    #[test]
    fn a_device_uri_gives_the_device() {
        let der = certificate(&["spiffe://fl.example.org/edge/eu-west/device-7"]);
        assert_eq!(client_id_of_certificate(&der).unwrap().as_str(), "device-7");
    }

    #[test]
    fn everything_else_gives_the_digest_of_the_certificate() {
        let digest_like = format!("spiffe://d/edge/s/x{}", "0".repeat(40));
        for uris in [
            &[][..],
            &["spiffe://d/edge/s/one", "spiffe://d/edge/s/two"],
            &["spiffe://d/edge/s/Not-A-Name"],
            &["spiffe://d/edge/s/"],
            &["spiffe://d/edge/s/a/b"],
            &["spiffe://d/edge/device-7"],
            &["spiffe:///edge/s/device-7"],
            &["spiffe://d/core/s/device-7"],
            &["https://d/edge/s/device-7"],
            &[digest_like.as_str()],
        ] {
            let der = certificate(uris);
            assert_eq!(client_id_of_certificate(&der).unwrap().as_str(), digest_id(&der), "{uris:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_single_certificate_are_refused() {
        let mut two = certificate(&[]);
        two.push(0);
        for bytes in [&b""[..], b"-----BEGIN CERTIFICATE-----", &two] {
            assert_eq!(client_id_of_certificate(bytes).unwrap_err().reason, Reason::Identity);
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            static VALID: std::sync::LazyLock<Vec<u8>> =
                std::sync::LazyLock::new(|| certificate(&["spiffe://d/edge/s/device-7"]));
            let mut der = VALID.clone();
            let position = at.index(der.len());
            der[position] ^= 1 << bit;
            let _ = client_id_of_certificate(&der);
        }
    }
}
