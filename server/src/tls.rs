//! TLS and mTLS from PEM files, reloaded when they change.

use crate::config::Tls;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    fs, io,
    path::Path,
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// Why certificates could not be used. Never holds key material.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}\n  fix: {fix}")]
pub struct TlsError {
    path: String,
    what: String,
    fix: &'static str,
}

/// The configuration for new connections; old ones keep theirs and age out.
#[derive(Debug, Clone)]
pub(crate) struct TlsSource {
    files: Tls,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl TlsSource {
    pub(crate) fn load(files: &Tls) -> Result<Self, TlsError> {
        let config = build(files)?;
        Ok(Self { files: files.clone(), current: Arc::new(RwLock::new(Arc::new(config))) })
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Watches the files until cancelled. Files that cannot be used leave the old configuration in place.
    pub(crate) async fn watch(self, cancelled: CancellationToken) {
        let mut seen = self.changed_at();
        let period = Duration::from_secs_f64(self.files.reload_s);
        while cancelled.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
            let changed = self.changed_at();
            if changed == seen {
                continue;
            }
            match build(&self.files) {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(config);
                    tracing::info!("certificates reloaded");
                    seen = changed;
                }
                // Tried again next time: an operator may be half-way through replacing both files.
                Err(error) => tracing::warn!(%error, "changed certificates cannot be used; the old ones stay"),
            }
        }
    }

    fn changed_at(&self) -> Vec<Option<(SystemTime, u64)>> {
        let paths = [Some(&self.files.certificate), Some(&self.files.key), self.files.client_ca.as_ref()];
        let state = |path: &Path| fs::metadata(path).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        paths.into_iter().flatten().map(|path| state(path)).collect()
    }
}

fn build(files: &Tls) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| fail(&files.key, error, "give a PEM file with one unencrypted private key"))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| fail(&files.certificate, error, "use a build with TLS 1.3"))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| fail(path, error, "give the certificate of a client authority"))?;
            }
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| fail(path, error, "give the certificate of a client authority"))?,
            )
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| fail(&files.certificate, error, "certificate and key must belong together"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const FIX: &str = "give a PEM file with at least one certificate";
    let list: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| fail(path, error, FIX))?.collect();
    let list = list.map_err(|error| fail(path, error, FIX))?;
    if list.is_empty() {
        return Err(fail(path, io::Error::other("holds no certificate"), FIX));
    }
    Ok(list)
}

fn fail(path: &Path, error: impl std::fmt::Display, fix: &'static str) -> TlsError {
    TlsError { path: path.display().to_string(), what: error.to_string(), fix }
}
