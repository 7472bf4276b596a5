//! TLS over TCP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::connection::Connection;

/// Before accepting is tried again where the system has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Connects.
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
    let (read, write) = tokio::io::split(stream);
    Ok(Connection { read: Box::new(read), write: Box::new(write), lanes: None, endpoint: None, peer })
}

/// The next who connects; nothing was said yet.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            Err(e) => {
                tracing::debug!("a connection was not accepted: {e}");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
}

/// Makes a connection of it.
pub(super) async fn greet(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    let peer = socket.peer_addr()?.to_string();
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    let (read, write) = tokio::io::split(stream);
    Ok(Connection { read: Box::new(read), write: Box::new(write), lanes: None, endpoint: None, peer })
}
