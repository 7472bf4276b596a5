//! Senders that keep to no rule, with the ticket and without, against the receiving end of a line: what it reads is what was sent,
//! each byte in its place; it never panics, keeps little, and ends.
//!
//! Each case is made from a seed; `XBPIPE_ROUNDS` asks for more of them. What a stream says is another matter.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::hostile::{
    PROTOCOL, Peer, any_frames, count_panics, dial, failure, garbage, message, number, peak_memory,
};
use crate::support::listening::Listening;
use crate::support::network::{connect, line_address, listen, options, to, transfer};
use crate::support::{Random, seed};
use tokio::runtime::Runtime;
use tokio::time::sleep;
use xbpipe::base::{Error, Result};
use xbpipe::session::frame::data_head;
use xbpipe::session::message::{Finish, Hello, Ping, Seen};
use xbpipe::session::{Frame, Message, Ticket, VERSION};
use xbpipe::transport::StreamReader;
use xbpipe::transport::network::incoming::NetworkReader;
use xbpipe::transport::network::{Incoming, NetworkOptions};

/// Cases where no other number is asked for.
const CASES: u64 = 200;
/// Cases at a time. They mostly wait.
const AT_A_TIME: usize = 16;
/// A session that does not end by itself is of no interest after so long.
const TRICK_LASTS: Duration = Duration::from_secs(3);
/// The most a case may take, on a machine with other work.
const LONGEST: Duration = Duration::from_secs(25);
/// MiB.
const MEMORY_MAX: u64 = 512;

/// What a sender does.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trick {
    Garbage,
    WrongHello,
    Gaps,
    Overlaps,
    FarAhead,
    Beyond,
    TwoEnds,
    EarlyReceipt,
    Reconnects,
    HugeAbort,
    AnyMessages,
    Endless,
    Nothing,
}

const TRICKS: [Trick; 13] = [
    Trick::Garbage,
    Trick::WrongHello,
    Trick::Gaps,
    Trick::Overlaps,
    Trick::FarAhead,
    Trick::Beyond,
    Trick::TwoEnds,
    Trick::EarlyReceipt,
    Trick::Reconnects,
    Trick::HugeAbort,
    Trick::AnyMessages,
    Trick::Endless,
    Trick::Nothing,
];

/// The stream's byte at an offset, the only one that is ever sent for it.
fn byte(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// A frame of bytes that are right for where they are.
fn data(offset: u64, len: u64) -> Vec<u8> {
    let mut frame = data_head(offset, len as usize).to_vec();
    frame.extend((0..len).map(|n| byte(offset.wrapping_add(n))));
    frame
}

fn finish(total: u64) -> Message {
    Message::Finish(Finish { total })
}

/// Somebody who knows the ticket.
#[derive(Clone)]
struct Sender {
    carrier: &'static str,
    to: SocketAddr,
    token: Vec<u8>,
    secret: Vec<u8>,
}

impl Sender {
    fn of(carrier: &'static str, incoming: &Incoming, seed: u64) -> Sender {
        let ticket: Ticket = line_address(&incoming.invitation()).secret.unwrap().parse().unwrap();
        let secret = seed.to_le_bytes().repeat(4);
        Sender { carrier, to: incoming.local, token: ticket.token.0.to_vec(), secret }
    }

    /// A connection that is the session's.
    async fn enter(&self) -> Option<Peer> {
        let mut peer = dial(self.carrier, self.to, &[PROTOCOL]).await.ok()?;
        let (token, secret) = (self.token.clone(), self.secret.clone());
        peer.say(Message::Hello(Hello { version: VERSION, token, secret })).await;
        let welcome = |frame: &Frame| matches!(frame, Frame::Control(Message::Welcome(_)));
        peer.wait(&mut any_frames(), welcome).await.map(|_| peer)
    }

    async fn play(&self, trick: Trick, mut random: Random) {
        let random = &mut random;
        match trick {
            Trick::WrongHello => return self.wrong_hello(random).await,
            Trick::Reconnects => return self.reconnects(random).await,
            _ => {}
        }
        let Some(mut peer) = self.enter().await else { return };
        let mut lane = Lane::open(&mut peer).await;
        match trick {
            Trick::Garbage => {
                let bytes = garbage(random);
                lane.put(&mut peer, &bytes).await;
                peer.raw(&bytes).await;
            }
            Trick::Gaps => gaps(&mut lane, &mut peer, random).await,
            Trick::Overlaps => {
                for _ in 0..200 {
                    let (at, len) = (random.below(3000), 1 + random.below(2000));
                    lane.put(&mut peer, &data(at, len)).await;
                }
            }
            Trick::FarAhead => {
                let mut at = number(random, 40 << 20);
                while lane.put(&mut peer, &data(at, 65_536)).await && at < 200 << 20 {
                    at = at.wrapping_add(65_536);
                }
            }
            Trick::Beyond => {
                peer.say(finish(1000)).await;
                lane.put(&mut peer, &data(0, 500)).await;
                lane.put(&mut peer, &data(500, 501 + random.below(1000))).await;
            }
            Trick::TwoEnds => {
                lane.put(&mut peer, &data(0, 1000)).await;
                peer.say(finish(2000)).await;
                peer.say(finish(number(random, 2000))).await;
                peer.say(finish(number(random, 1000))).await;
            }
            Trick::EarlyReceipt => {
                peer.say(Message::Seen(Seen {})).await;
            }
            Trick::HugeAbort => {
                peer.say(Message::Abort(failure(random))).await;
            }
            Trick::AnyMessages => {
                for _ in 0..random.below(300) {
                    match random.one_in(2) {
                        true => peer.say(message(random, 100_000)).await,
                        false => {
                            let at = number(random, 100_000);
                            lane.put(&mut peer, &data(at, 1 + random.below(65_536))).await
                        }
                    };
                }
            }
            Trick::Endless => {
                peer.raw(&[1, 0, 64, 0, 0]).await;
                while peer.raw(&[8]).await {
                    sleep(Duration::from_millis(5)).await;
                }
            }
            _ => {}
        }
        if random.one_in(2) {
            // It does not go.
            while peer.say(Message::Ping(Ping {})).await {
                sleep(Duration::from_millis(20)).await;
            }
        }
        peer.listen(Duration::from_millis(300)).await;
    }

    async fn wrong_hello(&self, random: &mut Random) {
        for _ in 0..20 {
            let Ok(mut peer) = dial(self.carrier, self.to, &[PROTOCOL]).await else { continue };
            let (mut token, mut secret) = (self.token.clone(), self.secret.clone());
            let mut version = VERSION;
            match random.below(4) {
                0 => token[random.below(16) as usize] ^= 1,
                1 => token.truncate(random.below(16) as usize),
                2 => secret.truncate(random.below(32) as usize),
                _ => version = 2 + random.next() as u32 % 1000,
            }
            peer.say(Message::Hello(Hello { version, token, secret })).await;
            peer.raw(&data(0, 1000)).await;
            peer.say(finish(1000)).await;
            peer.listen(Duration::from_millis(50)).await;
        }
    }

    async fn reconnects(&self, random: &mut Random) {
        for n in 0..60 {
            let Some(mut peer) = self.enter().await else { return };
            let mut lane = Lane::open(&mut peer).await;
            lane.put(&mut peer, &data(2 * n, 1)).await;
            if random.one_in(3) {
                peer.listen(Duration::from_millis(30)).await;
            }
        }
    }
}

/// Where bytes of the stream go.
struct Lane(Option<quinn::SendStream>);

impl Lane {
    async fn open(peer: &mut Peer) -> Lane {
        match &peer.quic {
            Some(quic) => {
                let opened = tokio::time::timeout(Duration::from_secs(2), quic.open_uni()).await;
                Lane(opened.ok().and_then(Result::ok))
            }
            None => Lane(None),
        }
    }

    /// Whether they went.
    async fn put(&mut self, peer: &mut Peer, bytes: &[u8]) -> bool {
        let put = async {
            match &mut self.0 {
                Some(lane) => lane.write_all(bytes).await.is_ok(),
                None => peer.raw(bytes).await,
            }
        };
        tokio::time::timeout(Duration::from_secs(2), put).await.unwrap_or(false)
    }
}

/// Single bytes with single ones missing between them, and so much that has nothing to say that each keeps a buffer of its own.
async fn gaps(lane: &mut Lane, peer: &mut Peer, random: &mut Random) {
    let ping = xbpipe::session::frame::control(Message::Ping(Ping {}));
    let (chatter, begun) = (random.one_in(2) && lane.0.is_none(), Instant::now());
    let mut at = 1;
    while begun.elapsed() < TRICK_LASTS / 2 {
        let mut some = Vec::new();
        for _ in 0..500 {
            some.extend(data(at, 1));
            at += 2;
            if chatter {
                some.extend(ping.repeat(20));
            }
        }
        if !lane.put(peer, &some).await {
            return;
        }
    }
}

fn patience() -> NetworkOptions {
    let mut options = options(200, 1);
    options.patience.receipt = Duration::from_secs(1);
    options
}

/// Reads all there is; how much that was.
fn read(mut inlet: NetworkReader) -> Result<u64> {
    let (mut buffer, mut at) = (vec![0; 65_536], 0);
    loop {
        let n = inlet.read(&mut buffer)?;
        if n == 0 {
            return Ok(at);
        }
        for b in &buffer[..n] {
            assert_eq!(*b, byte(at), "byte {at} is not the one that was sent");
            at += 1;
        }
    }
}

/// One case, from the receiver's side: how long it took to end after the trick was over, and what it says.
fn receives(
    incoming: &Incoming,
    runtime: &Runtime,
    trick: impl Future<Output = ()> + Send + 'static,
) -> Result<u64> {
    thread::scope(|scope| {
        scope.spawn(|| {
            runtime.block_on(async { tokio::time::timeout(TRICK_LASTS, tokio::spawn(trick)).await }).ok();
        });
        let inlet = incoming.stream_reader();
        let quit = inlet.quit();
        // Nobody may ever be let in: then there is nothing to wait for.
        let (done, over) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            if over.recv_timeout(TRICK_LASTS * 2).is_err() {
                quit.request("enough was seen");
            }
        });
        let received = read(inlet);
        drop(done);
        incoming.settle(received.as_ref().err());
        received
    })
}

fn is_fit_to_be_shown(e: &Error) {
    let text = format!("{e} {}", e.hint.as_deref().unwrap_or_default());
    assert!(text.len() < 6000, "{} bytes of error", text.len());
    assert!(!text.contains(|c: char| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{text:?}");
}

#[test]
fn no_trick_upsets_the_receiver() {
    let cases =
        std::env::var("XBPIPE_ROUNDS").map_or(CASES, |n| n.parse().expect("XBPIPE_ROUNDS is a number"));
    let (first, panics, next) = (seed(), count_panics(), AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (begun, longest) = (Instant::now(), AtomicU64::new(0));
    let one = |n: u64| {
        let seed = first.wrapping_add(n);
        let carrier = if n.is_multiple_of(2) { "tcp" } else { "quic" };
        let trick = TRICKS[(n / 2) as usize % TRICKS.len()];
        let incoming = listen(carrier, &patience());
        let sender = Sender::of(carrier, &incoming, seed);
        let begun = Instant::now();
        let received =
            receives(&incoming, &runtime, async move { sender.play(trick, Random::new(seed)).await });
        let took = begun.elapsed();
        longest.fetch_max(took.as_millis() as u64, Relaxed);
        match received {
            Ok(len) => assert!(
                matches!(trick, Trick::AnyMessages | Trick::TwoEnds | Trick::Garbage),
                "case {n}, {carrier}, {trick:?}, seed {seed}: {len} bytes were taken for a stream"
            ),
            Err(e) => is_fit_to_be_shown(&e),
        }
        assert!(took < LONGEST, "case {n}, {carrier}, {trick:?}, seed {seed}: {took:?}");
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let mine = std::iter::from_fn(|| Some(next.fetch_add(1, Relaxed)).filter(|n| *n < cases));
                mine.for_each(one);
            });
        }
    });
    let memory = peak_memory();
    eprintln!(
        "{cases} cases in {:?}, the longest {} ms, at most {memory} MiB for {AT_A_TIME} at a time and both sides",
        begun.elapsed(),
        longest.load(Relaxed)
    );
    assert_eq!(panics.load(Relaxed), 0, "panics");
    assert!(memory < MEMORY_MAX, "{memory} MiB");
}

/// What one holder of a ticket can make the receiver keep: single bytes with gaps, as fast as they can be said.
#[test]
fn gaps_take_little_memory() {
    for carrier in ["tcp", "quic"] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let incoming = listen(carrier, &patience());
        let sender = Sender::of(carrier, &incoming, 1);
        let before = peak_memory();
        let trick = async move {
            let Some(mut peer) = sender.enter().await else { return };
            let mut lane = Lane::open(&mut peer).await;
            let begun = Instant::now();
            let mut at = 1;
            while begun.elapsed() < TRICK_LASTS {
                let some: Vec<u8> = (0..10_000).flat_map(|n| data(at + 2 * n, 1)).collect();
                at += 20_000;
                if !lane.put(&mut peer, &some).await {
                    break;
                }
            }
            eprintln!("{carrier}: {at} bytes far");
        };
        let e = receives(&incoming, &runtime, trick).unwrap_err();
        let grown = peak_memory() - before;
        eprintln!("{carrier}: {grown} MiB, {e}");
        assert!(grown < 128, "{carrier}: {grown} MiB");
    }
}

/// Whoever holds the ticket can't keep the receiver after its verdict, by pings, by new connections, or by reading nothing.
#[test]
fn a_verdict_is_the_end() {
    for carrier in ["tcp", "quic"] {
        for reconnects in [false, true] {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let options = patience();
            let incoming = listen(carrier, &options);
            let sender = Sender::of(carrier, &incoming, 1);
            let trick = async move {
                let mut peer = sender.enter().await.unwrap();
                let mut lane = Lane::open(&mut peer).await;
                lane.put(&mut peer, &data(0, 1000)).await;
                peer.say(finish(1000)).await;
                loop {
                    peer.say(Message::Ping(Ping {})).await;
                    sleep(Duration::from_millis(50)).await;
                    if reconnects {
                        let Some(next) = sender.enter().await else { return };
                        peer = next;
                    }
                }
            };
            runtime.spawn(trick);
            assert_eq!(read(incoming.stream_reader()).unwrap(), 1000);
            let begun = Instant::now();
            assert!(!incoming.settle(None), "there was a receipt");
            let took = begun.elapsed();
            eprintln!("{carrier}: over {took:?} after the verdict");
            assert!(took >= options.patience.receipt, "{took:?}");
            assert!(took < options.patience.receipt + Duration::from_secs(4), "{took:?}");
        }
    }
}

/// Who does not say what it speaks is sent away, and the right one gets through.
#[test]
fn who_does_not_agree_to_the_protocol_is_no_sender() {
    for carrier in ["tcp", "quic"] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = options(1000, 5);
        let incoming = listen(carrier, &options);
        let ticket: Ticket = line_address(&incoming.invitation()).secret.unwrap().parse().unwrap();
        for protocols in [&[][..], &[b"h2".as_slice()], &[b"xbpipe/2".as_slice()]] {
            let said = async {
                let mut peer = dial(carrier, incoming.local, protocols).await.ok()?;
                let (token, secret) = (ticket.token.0.to_vec(), vec![1; 32]);
                peer.say(Message::Hello(Hello { version: VERSION, token, secret })).await;
                peer.wait(&mut any_frames(), |_| true).await
            };
            assert_eq!(runtime.block_on(said), None, "{carrier}: {protocols:?} was let in");
        }
        let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
        let (sent, received, _) = transfer(&outgoing, &incoming, 1 << 20, || {});
        sent.unwrap();
        assert_eq!(received.unwrap(), 1 << 20);
    }
}

/// Refusals by the hundred are a line of log a second, with a count.
#[test]
fn refusals_are_told_of_seldom() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.arg("--verify-only").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut listening = Listening::start(command, "tcp");
    let address = line_address(&listening.to);
    let to = format!("{}:{}", address.host, address.port).parse().unwrap();
    let sender = Sender { carrier: "tcp", to, token: vec![0; 16], secret: vec![0; 32] };
    let begun = Instant::now();
    runtime.block_on(async {
        while begun.elapsed() < Duration::from_millis(1500) {
            assert!(sender.enter().await.is_none());
        }
        sleep(Duration::from_millis(1600)).await;
    });
    let seconds = begun.elapsed().as_secs() as usize;
    listening.child.kill().unwrap();
    let words = listening.said().words;
    let lines: Vec<_> = words.lines().filter(|line| line.contains("refused")).collect();
    assert!((2..=seconds + 2).contains(&lines.len()), "{seconds} s: {words}");
    assert!(lines.iter().any(|line| line.contains("more")), "{words}");
}
