//! Floods of connections that prove nothing: the sender gets in, a cut line is mended, and the log stays short.
//!
//! All of it stays on this machine: the flood comes from addresses of 127.0.0.0/8, so many a second, for so many seconds.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::hostile::credulous;
use crate::support::network::{connect, listen, options, to, transfer};
use crate::support::relay::{Relay, Weather};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use xbpipe::transport::network::{Incoming, NetworkOptions};

/// What both sides speak.
const ALPN: &[&[u8]] = &[b"xbpipe/1"];
/// New connections a second.
const A_SECOND: u64 = 1000;
/// A flood ends by itself after so long.
const LONGEST: Duration = Duration::from_secs(30);
/// Each connection of it lasts at most so long: this process may open only so many files.
const LASTS: Duration = Duration::from_millis(500);
/// So long the right one may take.
const IN_TIME: Duration = Duration::from_secs(5);
/// A line that takes so long there and back.
fn weather(round_trip: u64) -> Weather {
    Weather { delay: Duration::from_millis(round_trip / 2), rate: 20e6, loss: 0, seed: 1 }
}

/// What the connections of a flood say.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Says {
    Nothing,
    /// What is no handshake.
    Garbage,
    /// Half of the beginning of a handshake.
    Half,
    /// The beginning of a handshake, whole as far as a stranger can tell.
    Hello,
    /// All of a handshake, with a name of its own, and then nothing.
    Handshake,
}

/// Where they come from.
#[derive(Clone, Copy, PartialEq, Debug)]
enum From {
    /// The sender's own address.
    Same,
    /// As many addresses.
    Others(u32),
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
    fn start(to: SocketAddr, from: From, says: Says, a_second: u64) -> Flood {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, count) = (over.clone(), made.clone());
        runtime.spawn(async move {
            let begun = Instant::now();
            let mut n = 0;
            while !ends.load(Relaxed) && begun.elapsed() < LONGEST {
                let due = (begun.elapsed().as_secs_f64() * a_second as f64) as u64;
                for n in n..due {
                    tokio::spawn(stranger(to, source(n as u32, from), says, count.clone()));
                }
                n = due;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Flood { over, made, _runtime: runtime }
    }
}

fn source(n: u32, from: From) -> SocketAddr {
    match from {
        From::Same => (Ipv4Addr::LOCALHOST, 0).into(),
        From::Others(addresses) => (Ipv4Addr::from(0x7f01_0001 + n % addresses), 0).into(),
    }
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
        let said = match says {
            Says::Nothing => Ok(()),
            Says::Garbage => stream.write_all(&[0x2a; 600]).await,
            Says::Half => stream.write_all(&client_hello()[..100]).await,
            Says::Hello => stream.write_all(&client_hello()).await,
            Says::Handshake => {
                let tls = TlsConnector::from(Arc::new(credulous(ALPN)));
                let Ok(mut stream) = tls.connect("xbpipe".try_into().unwrap(), stream).await else { return };
                let _ = stream.read(&mut [0]).await;
                return;
            }
        };
        // Until it is sent away.
        let _ = said.is_ok() && stream.readable().await.is_ok();
    };
    let _ = tokio::time::timeout(LASTS, stays).await;
}

/// The first message of a handshake, of a client that will not go on with it.
fn client_hello() -> Vec<u8> {
    let name = "xbpipe".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(credulous(ALPN)), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The right one comes in while the flood is on, its line is cut, and mended.
fn the_right_one_is_in_time(
    incoming: &Incoming,
    (carrier, weather): (&str, Weather),
    options: &NetworkOptions,
    what: &str,
) {
    let relay = Relay::new(carrier, incoming.local, weather);
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

/// So many a second, and a line whose round trip takes so many milliseconds.
fn flood_over_tcp(from: From, says: Says, a_second: u64, round_trip: u64) {
    let options = options(2000, 10);
    let incoming = listen("tcp", &options);
    let flood = Flood::start(incoming.local, from, says, a_second);
    sleep(Duration::from_secs(1));
    let before = (flood.made.load(Relaxed), Instant::now());
    let what = format!("{from:?}, {says:?}, {round_trip} ms");
    the_right_one_is_in_time(&incoming, ("tcp", weather(round_trip)), &options, &what);
    let rate = (flood.made.load(Relaxed) - before.0) as f64 / before.1.elapsed().as_secs_f64();
    eprintln!("{what}: {rate:.0} connections a second");
    assert!(rate > a_second as f64 / 4.0, "the flood is none: {rate} a second");
}

#[test]
fn silent_connections_from_the_senders_own_address() {
    flood_over_tcp(From::Same, Says::Nothing, A_SECOND, 100);
}

#[test]
fn silent_connections_from_many_addresses() {
    flood_over_tcp(From::Others(50_000), Says::Nothing, A_SECOND, 300);
}

#[test]
fn connections_from_the_senders_own_address_that_begin_a_handshake() {
    flood_over_tcp(From::Same, Says::Hello, A_SECOND, 200);
}

#[test]
fn connections_from_many_addresses_that_begin_a_handshake() {
    flood_over_tcp(From::Others(50_000), Says::Hello, A_SECOND, 100);
}

#[test]
fn connections_that_talk_nonsense_or_stop_in_the_middle() {
    flood_over_tcp(From::Same, Says::Garbage, A_SECOND, 100);
    flood_over_tcp(From::Others(200), Says::Half, A_SECOND, 100);
}

/// Each of these costs this machine two halves of a handshake: fewer a second.
#[test]
fn connections_that_end_a_handshake_and_say_nothing_more() {
    flood_over_tcp(From::Same, Says::Handshake, A_SECOND / 5, 100);
    flood_over_tcp(From::Others(50_000), Says::Handshake, A_SECOND / 5, 200);
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
                let Ok(socket) = UdpSocket::bind(source(n as u32, From::Others(50_000))).await else {
                    continue;
                };
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
    the_right_one_is_in_time(&incoming, ("quic", weather(100)), &options, "no answer");
    over.store(true, Relaxed);
}

/// The first packet that a client of QUIC sends.
async fn initial() -> Vec<u8> {
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(credulous(ALPN)).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let to = listener.local_addr().unwrap();
    let _connecting =
        endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), to, "xbpipe").unwrap();
    let mut packet = vec![0; 2048];
    let n = listener.recv(&mut packet).await.unwrap();
    packet.truncate(n);
    packet
}
