//! TLS 1.3, and who the other side must be: pinned by a ticket, or known by certificates of one's own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::base::{Code, Error, Result};
use crate::session::ticket::Fingerprint;

/// What is spoken inside.
const PROTOCOL: &[u8] = b"xbpipe/1";
/// The name in a certificate that is made for one session. Nothing depends on it.
const NAME: &str = "xbpipe";

/// Certificates of one's own (PEM files).
#[derive(Clone, Debug)]
pub struct Certificates {
    /// This side's certificate, with those between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority that the other side's certificate must come from.
    pub ca: PathBuf,
}

/// What all of this is computed with.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    &PROVIDER
}

/// A listening end with a certificate of its own making, and how that is recognised.
pub(super) fn server_for_ticket() -> Result<(ServerConfig, Fingerprint)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])
        .map_err(|e| Error::new(Code::Internal, "can't make a certificate").cause(e))?;
    let cert = made.cert.der().clone();
    let fingerprint = fingerprint(&cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = server_builder()?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key.into())
        .map_err(|e| Error::new(Code::Internal, "can't use the certificate made here").cause(e))?;
    Ok((finish_server(config), fingerprint))
}

/// A listening end that shows, and asks for, certificates of the authority.
pub(super) fn server_with(certificates: &Certificates) -> Result<ServerConfig> {
    let (chain, key, roots) = certificates.load()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider().clone())
        .build()
        .map_err(|e| usage(&certificates.ca, e))?;
    let config = server_builder()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| usage(&certificates.cert, e))?;
    Ok(finish_server(config))
}

/// A connecting end that takes just one certificate.
pub(super) fn client_for(fingerprint: Fingerprint) -> Result<ClientConfig> {
    let pinned = Arc::new(Pinned { fingerprint });
    let config = client_builder()?.dangerous().with_custom_certificate_verifier(pinned).with_no_client_auth();
    Ok(finish_client(config))
}

/// A connecting end that shows, and asks for, certificates of the authority.
pub(super) fn client_with(certificates: &Certificates) -> Result<ClientConfig> {
    let (chain, key, roots) = certificates.load()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider().clone())
        .build()
        .map_err(|e| usage(&certificates.ca, e))?;
    let config = client_builder()?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|e| usage(&certificates.cert, e))?;
    Ok(finish_client(config))
}

/// The name to ask a listening end for.
pub(super) fn server_name(host: &str, pinned: bool) -> Result<ServerName<'static>> {
    let name = if pinned { NAME } else { host };
    ServerName::try_from(name.to_owned()).map_err(|e| {
        Error::new(Code::Usage, format!("{host} is no name that a certificate can have")).cause(e)
    })
}

fn fingerprint(cert: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(cert).into()
}

fn server_builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>> {
    ServerConfig::builder_with_provider(provider().clone()).with_protocol_versions(&[&TLS13]).map_err(no_tls)
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider().clone()).with_protocol_versions(&[&TLS13]).map_err(no_tls)
}

fn no_tls(e: rustls::Error) -> Error {
    Error::new(Code::Internal, "TLS 1.3 is not there").cause(e)
}

/// No early data and no resumption: every connection shows anew who is there, and nothing recorded is of use.
fn finish_server(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

impl Certificates {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, RootCertStore)> {
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| usage(&self.key, e))?;
        let mut roots = RootCertStore::empty();
        for cert in read_certs(&self.ca)? {
            roots.add(cert).map_err(|e| usage(&self.ca, e))?;
        }
        Ok((read_certs(&self.cert)?, key, roots))
    }
}

fn read_certs(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certs: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|e| usage(file, e))?.collect();
    match certs.map_err(|e| usage(file, e))? {
        none if none.is_empty() => Err(usage(file, "there is no certificate in it")),
        certs => Ok(certs),
    }
}

fn usage(file: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::Usage, format!("can't use {}", file.display())).cause(cause).hint(
        "--tls-cert and --tls-key are this side's certificate and key, --tls-ca the authority of the other side's (PEM)",
    )
}

/// Takes the one certificate whose SHA-256 the ticket holds: neither its name nor its dates matter then.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match fingerprint(end_entity) == self.fingerprint {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
