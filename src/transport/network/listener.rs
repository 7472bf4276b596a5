//! Listens for connections of senders.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::quic;
use crate::base::{Code, Error, Result};
use crate::transport::address::{Carrier, NetworkAddress};

pub(super) enum Listener {
    Tcp(TcpListener, Arc<ServerConfig>),
    Quic(quinn::Endpoint),
}

impl Listener {
    /// Listens at `address`; returns also the local address that was chosen.
    ///
    /// # Errors
    /// [`Code::LineLost`].
    pub(super) async fn open(
        address: &NetworkAddress,
        config: ServerConfig,
        keepalive: Duration,
    ) -> Result<(Listener, SocketAddr)> {
        let failed = |e: io::Error| Error::new(Code::LineLost, format!("can't listen at {address}")).cause(e);
        let found =
            tokio::net::lookup_host((address.host.as_str(), address.port)).await.map_err(failed)?.next();
        let local = found.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        match address.carrier {
            Carrier::Tcp => {
                let listener = TcpListener::bind(local).await.map_err(failed)?;
                let local = listener.local_addr().map_err(failed)?;
                Ok((Listener::Tcp(listener, Arc::new(config)), local))
            }
            Carrier::Quic => {
                let endpoint = quic::listen(local, config, keepalive)?;
                let local = endpoint.local_addr().map_err(failed)?;
                Ok((Listener::Quic(endpoint), local))
            }
        }
    }
}

/// Returns a name by which other machines may know this one.
pub(super) fn host_name(local: SocketAddr) -> String {
    if !local.ip().is_unspecified() {
        return local.ip().to_string();
    }
    rustix::system::uname().nodename().to_str().unwrap_or("HOST").to_owned()
}
