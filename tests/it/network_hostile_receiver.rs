//! Receivers that keep to no rule, against the sending end of a line: it is never done, never panics, and ends.
//!
//! Each case is made from a seed; `XBPIPE_ROUNDS` asks for more of them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::hostile::{
    Host, PROTOCOL, Peer, any_frames, count_panics, failure, garbage, held, memory_of, message, number,
    peak_memory,
};
use crate::support::listening::sending;
use crate::support::network::{line_address, options, send, stop};
use crate::support::pipe::{Said, said};
use crate::support::{Kind, Random, Server, seed};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;
use xbpipe::base::{Error, Result};
use xbpipe::session::message::{Doing, Held, Ping, Span, Verdict, Welcome};
use xbpipe::session::{Frame, Message};
use xbpipe::transport::network::{NetworkOptions, Outgoing};

/// Cases where no other number is asked for.
const CASES: u64 = 200;
/// Cases at a time. They mostly wait.
const AT_A_TIME: usize = 16;
/// Bytes that the sender has to send.
const STREAM: u64 = 3 << 20;
/// A user that waits no longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most a case may take, on a machine with other work.
const LONGEST: Duration = Duration::from_secs(25);
/// MiB.
const MEMORY_MAX: u64 = 512;

/// What a receiver does.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trick {
    Garbage,
    WrongWelcome,
    AckBeyond,
    AckBackwards,
    AckScattered,
    Endless,
    EarlyVerdict,
    HalfVerdict,
    Forgets,
    SaysNothing,
    Pings,
    LetsInAndSendsAway,
    HugeFailure,
    AnyMessages,
    Chatter,
}

const TRICKS: [Trick; 15] = [
    Trick::Garbage,
    Trick::WrongWelcome,
    Trick::AckBeyond,
    Trick::AckBackwards,
    Trick::AckScattered,
    Trick::Endless,
    Trick::EarlyVerdict,
    Trick::HalfVerdict,
    Trick::Forgets,
    Trick::SaysNothing,
    Trick::Pings,
    Trick::LetsInAndSendsAway,
    Trick::HugeFailure,
    Trick::AnyMessages,
    Trick::Chatter,
];

const WELL: Message = Message::Verdict(Verdict { failure: None });

fn welcome(upto: u64) -> Message {
    Message::Welcome(Welcome { held: Some(Held { upto, ahead: Vec::new() }), base: String::new() })
}

fn ack(upto: u64) -> Message {
    Message::Ack(Held { upto, ahead: Vec::new() })
}

async fn play(trick: Trick, connection: u64, mut random: Random, mut peer: Peer) {
    let mut frames = any_frames();
    let is_hello = |frame: &Frame| matches!(frame, Frame::Control(Message::Hello(_)));
    if !random.one_in(8) && peer.wait(&mut frames, is_hello).await.is_none() {
        return;
    }
    let random = &mut random;
    if !matches!(trick, Trick::Garbage | Trick::WrongWelcome | Trick::SaysNothing | Trick::AnyMessages) {
        peer.say(welcome(0)).await;
    }
    match trick {
        Trick::Garbage => {
            peer.raw(&garbage(random)).await;
        }
        Trick::WrongWelcome => {
            peer.say(Message::Welcome(Welcome { held: Some(held(random, STREAM)), base: String::new() }))
                .await;
        }
        Trick::AckBeyond => {
            let beyond = STREAM + number(random, STREAM).min(u64::MAX / 4) + 1;
            peer.say(ack(beyond)).await;
            peer.say(WELL).await;
        }
        Trick::AckBackwards => {
            peer.listen(Duration::from_millis(100)).await;
            peer.say(ack(1000)).await;
            peer.say(ack(random.below(1000))).await;
            peer.say(WELL).await;
        }
        Trick::AckScattered => scattered(&mut peer).await,
        Trick::Endless => endless(&mut peer, random).await,
        Trick::EarlyVerdict => {
            peer.say(WELL).await;
            peer.say(WELL).await;
        }
        Trick::HalfVerdict => {
            peer.listen(Duration::from_millis(150)).await;
            peer.say(ack(1 + random.below(65_536))).await;
            peer.say(WELL).await;
        }
        Trick::Forgets if connection == 0 => {
            peer.listen(Duration::from_millis(150)).await;
            peer.say(ack(4096)).await;
            return;
        }
        Trick::Forgets | Trick::SaysNothing => {}
        Trick::Pings => while peer.say(Message::Ping(Ping {})).await {},
        Trick::LetsInAndSendsAway => return,
        Trick::HugeFailure => {
            peer.say(Message::Verdict(Verdict { failure: Some(failure(random)) })).await;
        }
        Trick::AnyMessages => {
            if random.one_in(2) {
                peer.say(welcome(0)).await;
            }
            for _ in 0..random.below(200) {
                // The one thing that would be the truth: all of it was taken.
                let message = match message(random, STREAM) {
                    Message::Ack(held) if held.upto == STREAM => continue,
                    message => message,
                };
                if !peer.say(message).await {
                    break;
                }
            }
        }
        Trick::Chatter => {
            let phase = "x".repeat(16_000);
            while peer.say(Message::Doing(Doing { phase: phase.clone(), done: 1, total: 0 })).await {}
        }
    }
    // Whatever it was, the sender is left hanging, now and then in silence.
    peer.listen(Duration::from_secs(20)).await;
}

/// Every second byte is held, as far as anything was sent.
async fn scattered(peer: &mut Peer) {
    peer.listen(Duration::from_millis(200)).await;
    for n in 0u64.. {
        let spans = (1..65).map(|m| Span { start: n * 128 + m * 2, end: n * 128 + m * 2 + 1 });
        if !peer.say(Message::Ack(Held { upto: 0, ahead: spans.collect() })).await {
            return;
        }
    }
}

/// A message that has no end, or messages without one.
async fn endless(peer: &mut Peer, random: &mut Random) {
    if random.one_in(2) {
        peer.raw(&[1, 0, 64, 0, 0]).await;
        while peer.raw(&[8]).await {
            sleep(Duration::from_millis(5)).await;
        }
    }
    // Of a kind that later versions may know: 16 KiB each.
    let mut unknown = vec![1, 0, 64, 0, 0, 0xfa, 0x7f, 0xfc, 0x7f];
    unknown.resize(5 + (16 << 10), 0);
    while peer.raw(&unknown).await {}
}

fn patience() -> NetworkOptions {
    let mut options = options(200, 1);
    options.patience.first = Duration::from_millis(1500);
    options.patience.handshake = Duration::from_millis(500);
    options.patience.refused = Duration::from_millis(500);
    options
}

/// One case, from the sender's side.
fn sends(address: &str, stop_after: Duration, seed: u64) -> Result<()> {
    let (address, stop) = (line_address(address), stop());
    let (done, over) = std::sync::mpsc::channel::<()>();
    let stopper = stop.clone();
    let waits = std::thread::spawn(move || {
        if over.recv_timeout(stop_after).is_err() {
            stopper.request("the user has waited long enough");
        }
    });
    let sent = Outgoing::connect(&address, &patience(), Arc::default(), stop).and_then(|outgoing| {
        let sent = send(&outgoing, STREAM, seed);
        if let Err(e) = &sent {
            outgoing.abandon(e);
        }
        sent
    });
    let _ = done.send(());
    waits.join().unwrap();
    sent
}

fn is_fit_to_be_shown(e: &Error) {
    let text = format!("{e} {}", e.hint.as_deref().unwrap_or_default());
    assert!(text.len() < 6000, "{} bytes of error", text.len());
    assert!(!text.contains(|c: char| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{text:?}");
}

#[test]
fn no_trick_makes_the_sender_believe() {
    let cases =
        std::env::var("XBPIPE_ROUNDS").map_or(CASES, |n| n.parse().expect("XBPIPE_ROUNDS is a number"));
    let (first, panics, next) = (seed(), count_panics(), AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (begun, longest) = (Instant::now(), AtomicU64::new(0));
    let one = |n: u64| {
        let seed = first.wrapping_add(n);
        let carrier = if n.is_multiple_of(2) { "tcp" } else { "quic" };
        let trick = TRICKS[(n / 2) as usize % TRICKS.len()];
        let (host, other) = (Host::new(&[PROTOCOL]), Host::new(&[PROTOCOL]));
        // One in eight has no right ticket.
        let ticket = if n % 8 == 7 { other.ticket.reveal() } else { host.ticket.reveal() };
        let tricks = move |connection, peer| {
            play(trick, connection, Random::new(seed.wrapping_mul(31).wrapping_add(connection)), peer)
        };
        let at = runtime.block_on(host.listen(carrier, tricks));
        let begun = Instant::now();
        let sent = sends(&format!("{carrier}://{at}/#{ticket}"), PATIENCE, seed);
        let took = begun.elapsed();
        longest.fetch_max(took.as_millis() as u64, Relaxed);
        let e = sent.expect_err(&format!("case {n}, {carrier}, {trick:?}, seed {seed}: believed"));
        is_fit_to_be_shown(&e);
        assert!(took < LONGEST, "case {n}, {carrier}, {trick:?}, seed {seed}: {took:?}, {e}");
    };
    std::thread::scope(|scope| {
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

/// The program itself, with a server: its exit status, its words, its memory.
#[test]
fn no_trick_makes_xbsend_say_ok() {
    let seed = seed();
    let server = Mutex::new(Server::start(Kind::Mysql97, &[]));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let next = AtomicUsize::new(0);
    let one = |n: usize| {
        let (trick, carrier) = (TRICKS[n % TRICKS.len()], if n.is_multiple_of(2) { "tcp" } else { "quic" });
        let host = Host::new(&[PROTOCOL]);
        let ticket = host.ticket.reveal();
        let tricks = move |connection, peer| play(trick, connection, Random::new(seed + connection), peer);
        let at = runtime.block_on(host.listen(carrier, tricks));
        let mut command = sending(&server.lock().unwrap(), &format!("{carrier}://{at}/#{ticket}"));
        command.args(["--keepalive=0.2", "--reconnect-timeout=2"]).stderr(Stdio::piped());
        let (begun, child) = (Instant::now(), command.spawn().unwrap());
        let pid = Pid::from_child(&child);
        let (done, over) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let (mut memory, mut stopped) = (0, false);
            while over.recv_timeout(Duration::from_millis(100)).is_err() {
                memory = memory_of(pid.as_raw_nonzero().get()).unwrap_or(memory);
                if begun.elapsed() > 2 * PATIENCE && !stopped {
                    stopped = kill_process(pid, Signal::TERM).is_ok();
                }
                assert!(begun.elapsed() < 2 * LONGEST, "it does not end");
            }
            memory
        });
        let Said { status, words } = said(child);
        let took = begun.elapsed();
        done.send(()).unwrap();
        let memory = watch.join().unwrap();
        let what = format!("{carrier}, {trick:?}, seed {seed}: {took:?}, {memory} MiB, {status:?}, {words}");
        eprintln!("{what}");
        assert!(status.is_some_and(|status| status != 0 && status != 101), "{what}");
        assert!(!words.contains("panicked") && !words.contains(['\u{1b}', '\u{202e}']), "{what}");
        assert!(memory < MEMORY_MAX, "{what}");
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mine =
                    std::iter::from_fn(|| Some(next.fetch_add(1, Relaxed)).filter(|n| *n < TRICKS.len()));
                mine.for_each(one);
            });
        }
    });
}

/// TLS that is none, or speaks of something else.
#[test]
fn who_does_not_agree_to_the_protocol_is_no_receiver() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for protocols in [&[][..], &[b"h2".as_slice()]] {
        let host = Host::new(protocols);
        let ticket = host.ticket.reveal();
        let honest = |_, mut peer: Peer| async move {
            let hello = |frame: &Frame| matches!(frame, Frame::Control(Message::Hello(_)));
            peer.wait(&mut any_frames(), hello).await;
            peer.say(welcome(0)).await;
            peer.listen(Duration::from_secs(5)).await;
        };
        let at = runtime.block_on(host.listen("tcp", honest));
        let e = sends(&format!("tcp://{at}/#{ticket}"), PATIENCE, 1).unwrap_err();
        eprintln!("{e}");
        assert!(!e.to_string().contains("stop"), "it was let in: {e}");
    }
}
