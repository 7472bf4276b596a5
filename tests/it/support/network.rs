//! Both ends of a line in this process.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use xbpipe::base::progress::Progress;
use xbpipe::base::{Result, Stop};
use xbpipe::session::Timeouts;
use xbpipe::transport::ConnectionStatistics;
use xbpipe::transport::StreamReader;
use xbpipe::transport::address::{Address, NetworkAddress};
use xbpipe::transport::network::{Incoming, NetworkOptions, Outgoing};

use super::{Random, seed};

pub const CARRIERS: [&str; 2] = ["tcp", "quic"];

pub fn line_address(text: &str) -> NetworkAddress {
    match text.parse().unwrap() {
        Address::Network(address) => address,
        Address::Pipe => panic!("{text}"),
    }
}

pub fn options(keepalive_ms: u64, reconnect_s: u64) -> NetworkOptions {
    let patience = Timeouts {
        keepalive: Duration::from_millis(keepalive_ms),
        reconnect: Duration::from_secs(reconnect_s),
        first: Duration::from_secs(5),
        handshake: Duration::from_secs(2),
        refused: Duration::from_secs(1),
        ..Timeouts::default()
    };
    NetworkOptions { patience, certificates: None, base: String::new() }
}

pub fn stop() -> Arc<Stop> {
    Arc::new(Stop::new().unwrap())
}

pub fn listen(carrier: &str, options: &NetworkOptions) -> Incoming {
    let address = line_address(&format!("{carrier}://127.0.0.1:0"));
    Incoming::listen(&address, options, Arc::default(), stop()).unwrap()
}

/// The invitation, by way of another address.
pub fn to(incoming: &Incoming, through: SocketAddr) -> NetworkAddress {
    let mut address = line_address(&incoming.invitation());
    address.host = through.ip().to_string();
    address.port = through.port();
    address
}

pub fn connect(address: &NetworkAddress, options: &NetworkOptions) -> Result<Outgoing> {
    Outgoing::connect(address, options, Arc::new(Progress::new()), stop())
}

/// Sends so many bytes of noise.
pub fn send(outgoing: &Outgoing, len: u64, seed: u64) -> Result<()> {
    let (mut sink, mut random) = (outgoing.sink(), Random::new(seed));
    let mut left = len;
    while left > 0 {
        let some = noise(&mut random, left.min(1 << 20));
        left -= some.len() as u64;
        let mut rest = &some[..];
        while !rest.is_empty() {
            let (a, b) = rest.split_at(rest.len().min(100));
            rest = &rest[sink.write_some(&[IoSlice::new(a), IoSlice::new(b)])?..];
        }
    }
    sink.finish()
}

/// Reads them; how many came, if all were right.
pub fn receive(mut inlet: impl StreamReader, seed: u64, len: u64) -> Result<u64> {
    let (mut random, mut buffer) = (Random::new(seed), vec![0; 1 << 20]);
    let (mut expected, mut read) = (Vec::new(), 0);
    loop {
        let n = inlet.read(&mut buffer)?;
        if n == 0 {
            return Ok(read);
        }
        while expected.len() < n {
            let left = len - read - expected.len() as u64;
            expected.extend(noise(&mut random, left.min(1 << 20)));
        }
        assert!(buffer[..n] == expected[..n], "bytes {read} and on are wrong");
        expected.drain(..n);
        read += n as u64;
    }
}

pub fn noise(random: &mut Random, len: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(len as usize);
    bytes
}

/// One transfer while `weather` is made: what the sender says, what the receiver says, the facts.
pub fn transfer(
    outgoing: &Outgoing,
    incoming: &Incoming,
    len: u64,
    meanwhile: impl FnOnce() + Send,
) -> (Result<()>, Result<u64>, ConnectionStatistics) {
    let seed = seed();
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = send(outgoing, len, seed);
            if let Err(e) = &sent {
                outgoing.abandon(e);
            }
            sent
        });
        scope.spawn(meanwhile);
        let received = receive(incoming.stream_reader(), seed, len);
        incoming.settle(received.as_ref().err());
        (sending.join().unwrap(), received, outgoing.facts())
    })
}
