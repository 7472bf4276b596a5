//! Connects to the receiver, and classifies the errors if no connection can be made.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::transport::network::connection::Connection;
use crate::transport::network::{quic, tcp};

/// The address of the receiver, and the settings by which its identity is verified.
pub(super) enum Dialer {
    Tcp { host: String, port: u16, config: Arc<rustls::ClientConfig> },
    Quic { host: String, port: u16, config: quinn::ClientConfig },
}

impl Dialer {
    /// Connects, and asks for this server name (SNI).
    pub(super) async fn dial(&self, name: &str) -> io::Result<Connection> {
        match self {
            Dialer::Tcp { host, port, config } => {
                let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
                tcp::dial(host, *port, config.clone(), name).await
            }
            Dialer::Quic { host, port, config } => quic::dial(host, *port, config.clone(), name).await,
        }
    }
}

/// Returns an error with all its causes, in one line.
pub(super) fn words(e: &io::Error) -> String {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// The conclusion about the receiver from a connection that could not be made, or was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// The peer that answers is not who it should be, or takes this side for someone else.
    UnauthenticatedPeer,
    /// The machine answers that nobody listens there.
    Nobody,
    /// No conclusion: the network may be at fault.
    Line,
}

pub(super) fn why(e: &io::Error) -> Why {
    match e.kind() {
        _ if is_stranger(e) => Why::UnauthenticatedPeer,
        io::ErrorKind::ConnectionRefused => Why::Nobody,
        _ => Why::Line,
    }
}

fn is_stranger(e: &io::Error) -> bool {
    let mut cause = e.get_ref().map(|e| e as &(dyn std::error::Error + 'static));
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<rustls::Error>() {
            return matches!(e, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_));
        }
        if let Some(e) = e.downcast_ref::<quinn::ConnectionError>() {
            return crypto_error(e);
        }
        cause = match e.downcast_ref::<io::Error>() {
            Some(inner) => inner.get_ref().map(|e| e as &(dyn std::error::Error + 'static)),
            None => e.source(),
        };
    }
    false
}

/// Returns whether the error is a TLS alert: QUIC carries these as errors 0x100 to 0x1ff (RFC 9001, 4.8).
fn crypto_error(e: &quinn::ConnectionError) -> bool {
    let code = match e {
        quinn::ConnectionError::TransportError(e) => u64::from(e.code),
        quinn::ConnectionError::ConnectionClosed(e) => u64::from(e.error_code),
        _ => return false,
    };
    (0x100..0x200).contains(&code)
}
