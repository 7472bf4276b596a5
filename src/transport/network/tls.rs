//! Configures TLS 1.3, and who the other side must be: pinned by a ticket, or verified by the user's
//! certificates.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::base::{Code, Error, Result};
use crate::session::ticket::Fingerprint;

use super::crypto::{fingerprint, provider};
use super::verifiers::{NamedReceiver, NamedSender, Pinned};

/// Protocol name (ALPN).
const PROTOCOL: &[u8] = b"xbpipe/1";
/// Name in a certificate that is made for one session. Nothing depends on it.
const NAME: &str = "xbpipe";

/// Certificates of the user (PEM files).
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Path of this side's certificate, with those between it and the authority.
    pub cert: PathBuf,
    /// Path of its key.
    pub key: PathBuf,
    /// Path of the certificate of the authority that must have issued the other side's certificate.
    pub ca: PathBuf,
    /// Name that the other side's certificate must hold (DNS name or IP address). Without one, a sender
    /// requires the host that it connects to, and a receiver accepts any sender of the authority.
    pub peer_name: Option<String>,
}

/// Returns the settings of a listening end with a self-made certificate, and the fingerprint by which that is
/// recognised.
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

/// Returns the settings of a listening end that shows, and requires, certificates of the authority.
pub(super) fn server_with(certificates: &Certificates) -> Result<ServerConfig> {
    let (chain, key, roots) = certificates.load()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider().clone())
        .build()
        .map_err(|e| usage(&certificates.ca, e))?;
    let verifier = match &certificates.peer_name {
        Some(name) => Arc::new(NamedSender { inner: verifier, name: peer_name(name)? }),
        None => verifier,
    };
    let config = server_builder()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| usage(&certificates.cert, e))?;
    Ok(finish_server(config))
}

/// Returns the settings of a connecting end that accepts exactly one certificate.
pub(super) fn client_for(fingerprint: Fingerprint) -> Result<ClientConfig> {
    let pinned = Arc::new(Pinned { fingerprint });
    let config = client_builder()?.dangerous().with_custom_certificate_verifier(pinned).with_no_client_auth();
    Ok(finish_client(config))
}

/// Returns the settings of a connecting end that shows, and requires, certificates of the authority.
pub(super) fn client_with(certificates: &Certificates, host: &str) -> Result<ClientConfig> {
    let (chain, key, roots) = certificates.load()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider().clone())
        .build()
        .map_err(|e| usage(&certificates.ca, e))?;
    let name = peer_name(certificates.peer_name.as_deref().unwrap_or(host))?;
    let verifier = Arc::new(NamedReceiver { inner: verifier, name });
    let config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|e| usage(&certificates.cert, e))?;
    Ok(finish_client(config))
}

/// Fails if the other side speaks another protocol, or does not say which.
pub(super) fn check_protocol(agreed: Option<&[u8]>) -> io::Result<()> {
    match agreed {
        Some(PROTOCOL) => Ok(()),
        _ => Err(io::Error::other("it did not agree to speak xbpipe/1 (ALPN)")),
    }
}

fn peer_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|e| {
        Error::new(Code::Usage, format!("{name} is no name that a certificate can have")).cause(e)
    })
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

/// Allows no early data and no resumption: every connection verifies the peer anew, and recorded traffic is
/// of no use.
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
