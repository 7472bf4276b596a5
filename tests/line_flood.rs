//! Floods of connections that prove nothing: the sender gets in, a cut line is mended, and the log stays short.
//!
//! All of it stays on this machine: the flood comes from addresses of 127.0.0.0/8, so many a second, for so many seconds.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::line::{connect, listen, options, to, transfer};
use support::relay::{Relay, Weather};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::runtime::Runtime;
use xbpipe::transport::line::{Incoming, LineOptions};

/// New connections a second.
const A_SECOND: u64 = 1000;
/// A flood ends by itself after so long.
const LONGEST: Duration = Duration::from_secs(30);
/// Each connection of it lasts at most so long: this process may open only so many files.
const LASTS: Duration = Duration::from_millis(500);
/// So long the right one may take.
const IN_TIME: Duration = Duration::from_secs(5);
/// Half of a round trip of 100 ms.
const WEATHER: Weather = Weather { delay: Duration::from_millis(50), rate: 20e6, loss: 0, seed: 1 };

/// What the connections of a flood say.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Says {
    Nothing,
    /// The beginning of a handshake, whole as far as a stranger can tell.
    Hello,
}

/// Connections from so many addresses until this is dropped.
struct Flood {
    over: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

impl Flood {
    fn start(to: SocketAddr, addresses: u32, says: Says) -> Flood {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, count) = (over.clone(), made.clone());
        runtime.spawn(async move {
            let begun = Instant::now();
            let mut n = 0;
            while !ends.load(Relaxed) && begun.elapsed() < LONGEST {
                let due = (begun.elapsed().as_secs_f64() * A_SECOND as f64) as u64;
                for n in n..due {
                    tokio::spawn(stranger(to, source(n as u32 % addresses), says, count.clone()));
                }
                n = due;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Flood { over, made, _runtime: runtime }
    }
}

fn source(n: u32) -> SocketAddr {
    (Ipv4Addr::from(0x7f01_0001 + n), 0).into()
}

async fn stranger(to: SocketAddr, from: SocketAddr, says: Says, made: Arc<AtomicU64>) {
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        socket.connect(to).await
    };
    let stays = async {
        let Ok(mut stream) = connected.await else { return };
        made.fetch_add(1, Relaxed);
        if says == Says::Hello && stream.write_all(&client_hello()).await.is_err() {
            return;
        }
        // Until it is sent away.
        let _ = stream.readable().await;
    };
    let _ = tokio::time::timeout(LASTS, stays).await;
}

/// The first message of a handshake, of a client that will not go on with it.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"xbpipe/1".to_vec()];
    let name = "xbpipe".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The right one comes in while the flood is on, its line is cut, and mended.
fn the_right_one_is_in_time(incoming: &Incoming, carrier: &str, options: &LineOptions, what: &str) {
    let relay = Relay::new(carrier, incoming.local, WEATHER);
    let begun = Instant::now();
    let outgoing = connect(&to(incoming, relay.address), options).unwrap();
    let entered = begun.elapsed();
    let (sent, received, facts) = transfer(&outgoing, incoming, 8 << 20, || {
        for cut in 1..=3 {
            sleep(Duration::from_millis(100));
            // QUIC survives a change of address; it notices only silence.
            relay.swallow(carrier == "quic");
            relay.cut();
            let begun = Instant::now();
            while outgoing.facts().reconnects < cut && begun.elapsed() < IN_TIME {
                sleep(Duration::from_millis(10));
                relay.swallow(carrier == "quic" && begun.elapsed() < Duration::from_millis(1200));
            }
            if outgoing.facts().reconnects >= cut {
                eprintln!("{carrier}, {what}: mended after {:?}", begun.elapsed());
            }
        }
    });
    sent.unwrap();
    assert_eq!(received.unwrap(), 8 << 20);
    eprintln!("{carrier}, {what}: in after {entered:?}, all after {:?}, {facts:?}", begun.elapsed());
    assert!(entered < IN_TIME, "{what}: in after {entered:?}");
    assert!(facts.reconnects >= 1, "{what}: the line was not cut");
}

fn flood_over_tcp(addresses: u32, says: Says) {
    let options = options(if says == Says::Nothing { 1000 } else { 2000 }, 10);
    let incoming = listen("tcp", &options);
    let flood = Flood::start(incoming.local, addresses, says);
    sleep(Duration::from_secs(1));
    let before = (flood.made.load(Relaxed), Instant::now());
    the_right_one_is_in_time(&incoming, "tcp", &options, &format!("{addresses} addresses, {says:?}"));
    let rate = (flood.made.load(Relaxed) - before.0) as f64 / before.1.elapsed().as_secs_f64();
    eprintln!("{rate:.0} connections a second");
    assert!(rate > A_SECOND as f64 / 4.0, "the flood is none: {rate} a second");
}

#[test]
fn silent_connections_from_one_address() {
    // The sender's own address is the flood's.
    let options = options(1000, 10);
    let incoming = listen("tcp", &options);
    let _flood = Flood::start(incoming.local, 1, Says::Nothing);
    sleep(Duration::from_secs(1));
    the_right_one_is_in_time(&incoming, "tcp", &options, "one address");
}

#[test]
fn silent_connections_from_many_addresses() {
    flood_over_tcp(50_000, Says::Nothing);
}

#[test]
fn connections_from_many_addresses_that_begin_a_handshake() {
    flood_over_tcp(50_000, Says::Hello);
}

/// First packets of QUIC that come from addresses nobody answers at, and such as are none.
#[test]
fn first_packets_of_quic_from_nowhere() {
    let options = options(300, 10);
    let incoming = listen("quic", &options);
    let over = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ends, to) = (over.clone(), incoming.local);
    runtime.spawn(async move {
        let begun = Instant::now();
        let hello = initial().await;
        let mut n = 0;
        while !ends.load(Relaxed) && begun.elapsed() < LONGEST {
            let due = (begun.elapsed().as_secs_f64() * A_SECOND as f64) as u64;
            for n in n..due {
                let Ok(socket) = UdpSocket::bind(source(n as u32 % 50_000)).await else { continue };
                let mut packet = hello.clone();
                if n % 4 == 0 {
                    packet[100] ^= n as u8;
                }
                let _ = socket.send_to(&packet, to).await;
            }
            n = due;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    sleep(Duration::from_secs(1));
    the_right_one_is_in_time(&incoming, "quic", &options, "no answer");
    over.store(true, Relaxed);
}

/// The first packet that a client of QUIC sends.
async fn initial() -> Vec<u8> {
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"xbpipe/1".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let to = listener.local_addr().unwrap();
    let _connecting =
        endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), to, "xbpipe").unwrap();
    let mut packet = vec![0; 2048];
    let n = listener.recv(&mut packet).await.unwrap();
    packet.truncate(n);
    packet
}
