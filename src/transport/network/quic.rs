//! Implements QUIC connections. Each has one stream for control messages, opened by the sender, and several
//! additional streams (lanes) for the stream's bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::{ClientConfig, ServerConfig};

use crate::base::{Code, Error, Result};

use super::connection::Connection;
use super::tls;

/// Number of lanes: QUIC streams for the stream's bytes.
pub(super) const LANES: usize = 4;
/// Number of bytes that an unauthenticated peer may send unread: enough for a greeting.
const STRANGER_WINDOW: u32 = 16 << 10;
/// Number of bytes that the session's sender may send unread.
const WINDOW: u32 = 40 << 20;
/// Limit in bytes on packets kept from peers that have not yet answered from their address, or whose answer
/// has not yet been processed.
const STRANGERS_BYTES_MAX: u64 = 4 << 20;
const STRANGERS_MAX: usize = 512;
/// Interval at which a machine that does not answer is asked whether anybody listens.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Size of the socket's buffers. The system may give less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Returns the transport parameters of a connection.
fn transport(keepalive: Duration) -> Result<Arc<TransportConfig>> {
    let mut config = TransportConfig::default();
    let idle = (keepalive * 3)
        .try_into()
        .map_err(|e| Error::new(Code::Usage, "--keepalive is too long").cause(e))?;
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(keepalive))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(None)
        // BBR does not slow down because of losses that are not caused by congestion.
        .congestion_controller_factory(Arc::new(BbrConfig::default()));
    Ok(Arc::new(config))
}

/// Returns the settings of a connecting end.
pub(super) fn client(config: ClientConfig, keepalive: Duration) -> Result<quinn::ClientConfig> {
    let crypto = QuicClientConfig::try_from(config)
        .map_err(|e| Error::new(Code::Internal, "can't use TLS for QUIC").cause(e))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(keepalive)?);
    Ok(config)
}

/// Opens a listening end.
pub(super) fn listen(address: SocketAddr, config: ServerConfig, keepalive: Duration) -> Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(config)
        .map_err(|e| Error::new(Code::Internal, "can't use TLS for QUIC").cause(e))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(keepalive)?);
    config
        .max_incoming(STRANGERS_MAX)
        .incoming_buffer_size(STRANGERS_BYTES_MAX / STRANGERS_MAX as u64)
        .incoming_buffer_size_total(STRANGERS_BYTES_MAX);
    endpoint(address, Some(config))
        .map_err(|e| Error::new(Code::LineLost, format!("can't listen on UDP {address}")).cause(e))
}

fn endpoint(address: SocketAddr, config: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(address)?;
    for set in
        [rustix::net::sockopt::set_socket_recv_buffer_size, rustix::net::sockopt::set_socket_send_buffer_size]
    {
        // The size matters only for speed.
        if let Err(e) = set(&socket, SOCKET_BUFFER) {
            tracing::debug!("the socket's buffers keep their size: {e}");
        }
    }
    Endpoint::new(EndpointConfig::default(), config, socket, Arc::new(TokioRuntime))
}

/// Connects to the receiver.
pub(super) async fn dial(
    host: &str,
    port: u16,
    config: quinn::ClientConfig,
    name: &str,
) -> io::Result<Connection> {
    let address = tokio::net::lookup_host((host, port)).await?.next();
    let address = address.ok_or_else(|| io::Error::other(format!("{host} has no address")))?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let endpoint = endpoint(any, None)?;
    let connecting = endpoint.connect_with(config, address, name).map_err(io::Error::other)?;
    let lanes = tokio::select! {
        connected = connecting => connected?,
        nobody = nobody_listens(any, address) => return Err(nobody),
    };
    let data = lanes.handshake_data().ok_or_else(|| io::Error::other("there was no handshake"))?;
    tls::check_protocol(handshake(data)?.protocol.as_deref())?;
    // The other side sends control messages only.
    lanes.set_receive_window(VarInt::from_u32(1 << 20));
    let (write, read) = lanes.open_bi().await?;
    let peer = address.to_string();
    Ok(Connection {
        read: Box::new(read),
        write: Box::new(write),
        lanes: Some(lanes),
        endpoint: Some(endpoint),
        peer,
    })
}

/// Returns once the other machine says that nobody listens there (ICMP: port unreachable). QUIC's own socket
/// does not learn of this, because it is not connected to an address. No QUIC endpoint answers the packets
/// that are sent here.
async fn nobody_listens(any: SocketAddr, address: SocketAddr) -> io::Error {
    let ask = async {
        let socket = tokio::net::UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        loop {
            socket.send(&[0]).await?;
            let heard = tokio::time::timeout(ASK_AGAIN, socket.recv(&mut [0; 1])).await;
            if let Ok(Err(e)) = heard {
                return Err::<(), io::Error>(e);
            }
        }
    };
    match ask.await {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => e,
        // Any other error tells nothing about the other machine.
        _ => std::future::pending().await,
    }
}

/// Returns the next peer that wants to connect, from an address that was verified to be its own.
pub(super) async fn accept(endpoint: &Endpoint) -> Option<quinn::Incoming> {
    loop {
        let incoming = endpoint.accept().await?;
        if incoming.remote_address_validated() {
            return Some(incoming);
        }
        // The peer must answer from its address first; nothing is stored about it meanwhile.
        if let Err(e) = incoming.retry() {
            tracing::debug!("a connection was not asked again: {e}");
        }
    }
}

/// Completes the handshake. `shown` is called with the name that the peer asks for, as soon as the handshake
/// has begun.
pub(super) async fn greet(
    incoming: quinn::Incoming,
    shown: impl FnOnce(Option<&str>),
) -> io::Result<Connection> {
    let mut connecting = incoming.accept()?;
    let data = handshake(connecting.handshake_data().await?)?;
    shown(data.server_name.as_deref());
    let lanes = connecting.await?;
    tls::check_protocol(data.protocol.as_deref())?;
    let peer = lanes.remote_address().to_string();
    let (write, read) = lanes.accept_bi().await?;
    Ok(Connection { read: Box::new(read), write: Box::new(write), lanes: Some(lanes), endpoint: None, peer })
}

fn handshake(data: Box<dyn std::any::Any>) -> io::Result<HandshakeData> {
    data.downcast().map(|data| *data).map_err(|_| io::Error::other("the handshake is not known"))
}

/// Raises the limits of a connection whose other side is known to be the session's sender.
pub(super) fn trust(lanes: &quinn::Connection) {
    lanes.set_receive_window(VarInt::from_u32(WINDOW));
    lanes.set_max_concurrent_uni_streams(VarInt::from_u32(LANES as u32));
}
