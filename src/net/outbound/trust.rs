//! Whose certificates are trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use thiserror::Error;

/// Nobody's certificate could be trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file of authorities cannot be used.
    #[error("cannot use the certificates of {path}: {text}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        text: String,
    },
    /// The system has none.
    #[error("the system has no certificates of authorities that could be used: {0}; name a file of them")]
    System(io::Error),
    /// TLS is not to be had.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Trusts nobody: for where no TLS is spoken.
pub(super) fn nobody() -> Result<ClientConfig, TrustError> {
    Ok(finish(builder()?.with_root_certificates(RootCertStore::empty())))
}

/// Trusts the authorities in a file of PEM, or those of the system.
pub(super) fn authorities(file: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let builder = builder()?;
    Ok(finish(match file {
        None => builder.with_native_roots().map_err(TrustError::System)?,
        Some(path) => builder.with_root_certificates(read(path)?),
    }))
}

fn read(path: &Path) -> Result<RootCertStore, TrustError> {
    let unusable = |text: String| TrustError::File { path: path.to_owned(), text };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is none in it".to_owned()));
    }
    Ok(roots)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

fn finish(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    builder.with_no_client_auth()
}
