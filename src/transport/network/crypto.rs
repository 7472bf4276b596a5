//! Holds the cryptography that both sides of a TLS connection use.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::session::ticket::Fingerprint;

/// Returns the provider of algorithms for rustls.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    &PROVIDER
}

/// Returns the SHA-256 of a certificate.
pub(super) fn fingerprint(cert: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(cert).into()
}
