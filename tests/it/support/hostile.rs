//! Peers of a line that keep to no rule: what they are made of, and what they say.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use xbpipe::session::message::{Doing, Finish, Held, Hello, Ping, Refused, Seen, Span, Verdict, Welcome};
use xbpipe::session::ticket::Token;
use xbpipe::session::{Failure, Frame, Frames, Message, Ticket, frame};

use super::Random;

pub type Read = Box<dyn AsyncRead + Send + Unpin>;
pub type Write = Box<dyn AsyncWrite + Send + Unpin>;

/// One connection, and what keeps it.
pub struct Peer {
    pub read: Read,
    pub write: Write,
    pub quic: Option<quinn::Connection>,
    _endpoint: Option<quinn::Endpoint>,
}

pub const PROTOCOL: &[u8] = b"xbpipe/1";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A listening end with a certificate of its own, and the ticket for it.
pub struct Host {
    config: rustls::ServerConfig,
    pub ticket: Ticket,
}

impl Host {
    pub fn new(protocols: &[&[u8]]) -> Host {
        let made = rcgen::generate_simple_self_signed(["xbpipe".to_owned()]).unwrap();
        let cert = made.cert.der().clone();
        let ticket = Ticket { fingerprint: Sha256::digest(&cert).into(), token: Token([7; 16]) };
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key.into())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Host { config, ticket }
    }

    /// Listens; `play` is what happens on each connection, by its number. Over TCP `raw` may take the socket before TLS.
    pub async fn listen<P, F>(self, carrier: &str, play: P) -> SocketAddr
    where
        P: Fn(u64, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (play, number) = (Arc::new(play), Arc::new(AtomicU64::new(0)));
        if carrier == "tcp" {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(self.config));
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let (play, acceptor, n) = (play.clone(), acceptor.clone(), number.fetch_add(1, Relaxed));
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(socket).await else { return };
                        let (read, write) = tokio::io::split(stream);
                        let (read, write) = (Box::new(read), Box::new(write));
                        play(n, Peer { read, write, quic: None, _endpoint: None }).await;
                    });
                }
            });
            return address;
        }
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(self.config).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (play, n) = (play.clone(), number.fetch_add(1, Relaxed));
                tokio::spawn(async move {
                    let Ok(quic) = incoming.await else { return };
                    let Ok((write, read)) = quic.accept_bi().await else { return };
                    let (read, write) = (Box::new(read), Box::new(write));
                    play(n, Peer { read, write, quic: Some(quic), _endpoint: None }).await;
                });
            }
        });
        address
    }
}

/// What a client is configured with that takes any certificate.
pub fn credulous(protocols: &[&[u8]]) -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    config
}

/// Connects as a sender that takes any certificate.
pub async fn dial(carrier: &str, to: SocketAddr, protocols: &[&[u8]]) -> io::Result<Peer> {
    let config = credulous(protocols);
    if carrier == "tcp" {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("xbpipe").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        let (read, write) = tokio::io::split(stream);
        return Ok(Peer { read: Box::new(read), write: Box::new(write), quic: None, _endpoint: None });
    }
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let quic = endpoint.connect_with(config, to, "xbpipe").map_err(io::Error::other)?.await?;
    let (write, read) = quic.open_bi().await?;
    Ok(Peer { read: Box::new(read), write: Box::new(write), quic: Some(quic), _endpoint: Some(endpoint) })
}

impl Peer {
    /// Says a message; whether it could.
    pub async fn say(&mut self, message: Message) -> bool {
        self.raw(&frame::control(message)).await
    }

    /// Says any bytes.
    pub async fn raw(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok() && self.write.flush().await.is_ok()
    }

    /// Frames of either kind until one is the wanted one, or there is none for a while.
    pub async fn wait(&mut self, frames: &mut Frames, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let found = async {
            loop {
                match frames.poll() {
                    Ok(Some(frame)) if wanted(&frame) => return Some(frame),
                    Ok(Some(_)) => continue,
                    Ok(None) => {}
                    Err(_) => return None,
                }
                if self.read.read_buf(frames.buffer()).await.ok()? == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(2), found).await.ok().flatten()
    }

    /// Takes whatever comes, until the other side ends it or for so long.
    pub async fn listen(&mut self, time: Duration) {
        let mut scrap = [0; 65536];
        let all = async { while let Ok(1..) = self.read.read(&mut scrap).await {} };
        let _ = tokio::time::timeout(time, all).await;
    }
}

/// Frames of both kinds.
pub fn any_frames() -> Frames {
    let mut frames = Frames::of_control();
    frames.trust(true);
    frames
}

/// Some number that programs stumble over, around `near`.
pub fn number(random: &mut Random, near: u64) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX / 2,
        4 => near.wrapping_sub(1),
        5 => near.wrapping_add(random.below(1 << 20)),
        6 => near / 2,
        _ => random.below(near.max(1)),
    }
}

/// Text that a terminal would obey, of any length a frame takes.
pub fn text(random: &mut Random) -> String {
    let piece = ["\u{1b}[2J\u{1b}]0;x\u{7}", "\r\n\u{8}", "\u{202e}\u{2028}", "ä\0", "all is well "];
    let len = random.below(5000) as usize;
    let mut text = String::new();
    while text.len() < len {
        text.push_str(piece[random.below(5) as usize]);
    }
    text
}

pub fn failure(random: &mut Random) -> Failure {
    Failure { code: text(random), message: text(random), hint: text(random) }
}

/// What is held, as nobody holds it.
pub fn held(random: &mut Random, near: u64) -> Held {
    let spans = if random.one_in(4) { 1500 } else { random.below(70) };
    let ahead = (0..spans).map(|_| Span { start: number(random, near), end: number(random, near) });
    Held { ahead: ahead.collect(), upto: number(random, near) }
}

/// Any message, with anything in it.
pub fn message(random: &mut Random, near: u64) -> Message {
    match random.below(11) {
        0 => Message::Hello(Hello {
            version: random.below(3) as u32,
            token: vec![7; random.below(40) as usize],
            secret: vec![1; random.below(80) as usize],
        }),
        1 => Message::Welcome(Welcome { held: Some(held(random, near)), base: random.text(200) }),
        2 => Message::Refused(Refused { reason: random.next() as i32 % 9 }),
        3 | 4 => Message::Ack(held(random, near)),
        5 => Message::Finish(Finish { total: number(random, near) }),
        6 => Message::Verdict(Verdict { failure: random.one_in(2).then(|| failure(random)) }),
        7 => Message::Seen(Seen {}),
        8 => Message::Abort(failure(random)),
        9 => Message::Ping(Ping {}),
        _ => Message::Doing(Doing { phase: text(random), done: random.next(), total: random.next() }),
    }
}

/// Bytes that may begin as a frame does.
pub fn garbage(random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.below(3000)).map(|_| random.next() as u8).collect();
    if bytes.len() > 5 && random.one_in(2) {
        bytes[0] = 1 + random.below(3) as u8;
        let length = [0, 1, 16 << 10, (16 << 10) + 1, 65_544, u32::MAX][random.below(6) as usize];
        bytes[1..5].copy_from_slice(&length.to_le_bytes());
    }
    bytes
}

/// Most memory that this process had at a time, in MiB.
pub fn peak_memory() -> u64 {
    memory_of(std::process::id() as i32).unwrap()
}

/// The same of another one, while it runs.
pub fn memory_of(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? >> 10)
}

/// Counts panics of all threads from here on: those of tasks are seen nowhere else.
pub fn count_panics() -> Arc<AtomicU64> {
    let panics = Arc::new(AtomicU64::new(0));
    let (count, before) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        count.fetch_add(1, Relaxed);
        before(info);
    }));
    panics
}

/// Takes any certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
