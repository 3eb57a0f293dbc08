//! Who this client is.

use crate::Error;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{fmt, fs, path::Path};
use testudo_proto::client_id_of_certificate;
use testudo_protocol::{
    ClientId,
    secagg::{Certificate, Credentials, SigningKey},
};
use zeroize::Zeroizing;

/// Who this client is: a name it gives itself, or a certificate with its key. Never prints the key.
#[derive(Clone)]
pub struct Identity {
    name: ClientId,
    certificate: Option<Pem>,
    signing: Option<(SigningKey, Option<Certificate>)>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone)]
pub(crate) struct Pem {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Identity {
    /// A name of the client's own choosing, for servers that do not ask for certificates.
    ///
    /// # Errors
    /// [`Error::Identity`] unless the name is 1 to 63 characters of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a
    /// letter or digit.
    pub fn named(name: impl Into<String>) -> Result<Self, Error> {
        let name = ClientId::new(name).map_err(|error| Error::Identity(error.to_string()))?;
        Ok(Self { name, certificate: None, signing: None })
    }

    /// A certificate chain (the client's own certificate first) and its private key, both PEM. The name follows from
    /// the certificate as [`client_id_of_certificate`] says.
    ///
    /// # Errors
    /// [`Error::Identity`] if either is not PEM or the certificate cannot be read.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(chain)
            .map_err(|error| Error::Identity(format!("no certificate in the PEM text: {error}")))?;
        PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| Error::Identity(format!("no private key in the PEM text: {error}")))?;
        let name = client_id_of_certificate(&certificate).map_err(|reject| Error::Identity(reject.detail))?;
        Ok(Self { name, certificate: Some(Pem { chain: chain.to_vec(), key: key.to_vec() }), signing: None })
    }

    /// As [`Identity::from_pem`], from two files.
    ///
    /// # Errors
    /// [`Error::Identity`] if a file cannot be read, and as [`Identity::from_pem`].
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| Error::Identity(format!("cannot read {}: {error}", path.display())))
        };
        Self::from_pem(&read(chain.as_ref())?, &read(key.as_ref())?)
    }

    /// The long-lived key that signs what this client says in masked rounds. Unless told, one that is gone with the
    /// client is made, which nobody can vouch for.
    #[must_use]
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.signing = Some((key, None));
        self
    }

    /// A signing key and the enrolment authority's certificate for it.
    ///
    /// # Errors
    /// [`Error::Identity`] if the certificate is another client's or another key's.
    pub fn certified(mut self, key: SigningKey, certificate: Certificate) -> Result<Self, Error> {
        if certificate.client != self.name {
            let detail = format!("the certificate is {}'s, but this client is {}", certificate.client, self.name);
            return Err(Error::Identity(detail));
        }
        if certificate.key != key.verifying_key() {
            return Err(Error::Identity("the certificate is for another key than the one given with it".into()));
        }
        self.signing = Some((key, Some(certificate)));
        Ok(self)
    }

    /// What signs for this client in masked rounds.
    pub(crate) fn credentials(&self) -> Credentials {
        match self.signing.clone() {
            Some((key, Some(certificate))) => Credentials { certificate, key },
            Some((key, None)) => Credentials::unvouched(self.name.clone(), key),
            None => {
                let mut bytes = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *bytes).expect("the operating system has randomness");
                Credentials::unvouched(self.name.clone(), SigningKey::from_bytes(&bytes))
            }
        }
    }

    /// The client's name.
    pub fn name(&self) -> &ClientId {
        &self.name
    }

    /// The certificate, if there is one.
    pub(crate) fn certificate(&self) -> Option<&Pem> {
        self.certificate.as_ref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.certificate.is_some() { "by certificate" } else { "self-declared" };
        write!(f, "Identity({}, {how})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn pem(uri: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_names_its_client() {
        let (chain, key) = pem("spiffe://example.org/edge/eu/device-7");
        let directory = tempfile::tempdir().unwrap();
        let (chain_path, key_path) = (directory.path().join("c.pem"), directory.path().join("c.key"));
        fs::write(&chain_path, chain).unwrap();
        fs::write(&key_path, key).unwrap();
        let identity = Identity::from_pem_files(&chain_path, &key_path).unwrap();
        assert_eq!(identity.name().as_str(), "device-7");
    }

    #[test]
    fn the_key_is_never_printed() {
        let (chain, key) = pem("spiffe://example.org/edge/eu/device-7");
        let printed = format!("{:?}", Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
        assert_eq!(printed, "Identity(device-7, by certificate)");
    }

    #[test]
    fn bad_names_files_and_texts_say_what_is_wrong() {
        let (chain, key) = pem("spiffe://example.org/edge/eu/device-7");
        for (result, part) in [
            (Identity::named("Device 7"), "1 to 63 characters"),
            (Identity::from_pem(key.as_bytes(), key.as_bytes()), "no certificate"),
            (Identity::from_pem(chain.as_bytes(), chain.as_bytes()), "no private key"),
            (Identity::from_pem_files("/no/such.pem", "/no/such.key"), "/no/such.pem"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
