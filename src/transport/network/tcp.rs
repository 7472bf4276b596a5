//! Implements connections with TLS over TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::connection::Connection;
use super::tls;

/// Pause before accepting is tried again when the system has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Connects to the receiver.
pub(super) async fn dial(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Connection> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    let peer = socket.peer_addr()?.to_string();
    let stream = TlsConnector::from(config).connect(name, socket).await?;
    tls::check_protocol(stream.get_ref().1.alpn_protocol())?;
    let (read, write) = tokio::io::split(stream);
    Ok(Connection { read: Box::new(read), write: Box::new(write), lanes: None, endpoint: None, peer })
}

/// Accepts the next connection; no data has been exchanged on it yet.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(e) => {
                tracing::debug!("a connection was not accepted: {e}");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
}

/// Completes the handshake. `shown` is called with the name that the peer asks for, as soon as the handshake
/// has begun.
pub(super) async fn greet(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    shown: impl FnOnce(Option<&str>),
) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    let peer = socket.peer_addr()?.to_string();
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    shown(start.client_hello().server_name());
    let stream = start.into_stream(config).await?;
    tls::check_protocol(stream.get_ref().1.alpn_protocol())?;
    let (read, write) = tokio::io::split(stream);
    Ok(Connection { read: Box::new(read), write: Box::new(write), lanes: None, endpoint: None, peer })
}
