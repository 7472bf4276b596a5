//! Tests with a peer that sends valid frames but breaks every other rule: neither side waits for it forever,
//! or stores without limit what it sends.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use super::message::{Failure, Held, Hello, Message, Ping, Span, Welcome};
use super::ranges::RANGES_MAX;
use super::ticket::Token;
use super::{Receiver, Sender, Timeouts, VERSION, Violation, receiver};

const TOKEN: Token = Token([7; 16]);
const SECRET: [u8; 32] = [9; 32];

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn hello(token: &[u8], secret: &[u8]) -> Hello {
    Hello { version: VERSION, token: token.to_vec(), secret: secret.to_vec() }
}

fn up(now: Duration, patience: Timeouts) -> Sender {
    let mut s = Sender::new(Some(TOKEN), SECRET, patience, now);
    s.connected(now);
    s.receive(now, Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
    s
}

/// Pings, other messages and new connections do not count as a receipt.
#[test]
fn a_verdict_is_the_end_whatever_the_sender_does() {
    let patience = Timeouts { reconnect: ms(300_000), receipt: ms(15_000), ..Timeouts::default() };
    for failed in [false, true] {
        let mut r = Receiver::new(Some(TOKEN), patience);
        r.hello(ms(0), 1, &hello(&TOKEN.0, &SECRET)).unwrap();
        r.verdict(ms(100), failed.then(Failure::default));
        let mut now = 100;
        while r.outcome().is_none() {
            assert!(r.deadline().unwrap() <= ms(15_100), "nobody would look");
            now += 50;
            r.tick(ms(now));
            r.receive(ms(now), Message::Ping(Ping {})).unwrap();
            if now % 1000 == 0 {
                r.lost(ms(now), now - 1000);
                r.hello(ms(now), now, &hello(&TOKEN.0, &SECRET)).unwrap();
            }
            while r.poll_message(ms(now)).is_some() {}
        }
        assert_eq!((now, r.outcome()), (15_100, Some(&receiver::Outcome::Lost(ms(15_000)))));
    }
    // A sender that was disconnected when the verdict was reached still has the time to receive it, once.
    let mut r = Receiver::new(Some(TOKEN), patience);
    r.hello(ms(0), 1, &hello(&TOKEN.0, &SECRET)).unwrap();
    r.lost(ms(10), 1);
    r.verdict(ms(20), None);
    r.tick(ms(200_000));
    assert_eq!(r.outcome(), None);
    r.hello(ms(200_000), 2, &hello(&TOKEN.0, &SECRET)).unwrap();
    r.lost(ms(200_100), 2);
    r.tick(ms(215_000));
    assert_eq!(r.outcome(), Some(&receiver::Outcome::Lost(ms(15_000))));
}

/// A receiver that accepts the sender and disconnects it at once, forever, is given up like a connection that
/// is not restored.
#[test]
fn connections_that_bring_nothing_mend_nothing() {
    let patience = Timeouts { reconnect: ms(60_000), keepalive: ms(1000), ..Timeouts::default() };
    let held =
        |upto| Message::Welcome(Welcome { held: Some(Held { upto, ahead: vec![] }), base: String::new() });
    // Number of bytes that each connection brings, how long it lasts, and whether the sender goes on.
    for (brings, lasts, goes_on) in [(0, 10, false), (1, 10, true), (0, 6000, true)] {
        let mut s = up(ms(0), patience);
        s.write(1 << 20);
        s.poll_segment(ms(0), |_| 1 << 20).unwrap();
        let (mut now, mut upto, mut connections) = (0, 0, 0);
        while let Some(at) = s.connect_at().or((now == 0).then_some(ms(0)))
            && now < 600_000
        {
            now = now.max(at.as_millis() as u64);
            s.connected(ms(now));
            let _ = s.receive(ms(now), held(upto));
            upto += brings;
            let _ = s.receive(ms(now), Message::Ack(Held { upto, ahead: vec![] }));
            now += lasts;
            s.lost(ms(now), 0);
            connections += 1;
        }
        assert_eq!(s.outcome().is_none(), goes_on, "{brings} bytes in {lasts} ms: {now}");
        assert!(goes_on || connections < 30, "{connections} connections in a minute");
    }
}

/// Bytes with gaps between them are kept only up to a limit, on either side.
#[test]
fn gaps_are_bounded_on_both_sides() {
    let mut r = Receiver::new(None, Timeouts::default());
    let mut taken = 0;
    while r.took(ms(0), 2 * taken + 1..2 * taken + 2).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, RANGES_MAX as u64);
    assert_eq!(r.check(&(1 << 20..(1 << 20) + 1)), Err(Violation::Ranges(RANGES_MAX)));
    // The first missing bytes are taken all the same, and make room.
    r.took(ms(0), 0..1).unwrap();
    r.took(ms(0), 1 << 20..(1 << 20) + 1).unwrap();

    let span = |start| Span { start, end: start + 1 };
    let mut s = up(ms(0), Timeouts::default());
    s.write(1 << 24);
    while s.poll_segment(ms(0), |_| 1 << 24).is_some() {}
    let many = Held { upto: 0, ahead: (1..100).map(|n| span(2 * n)).collect() };
    assert_eq!(s.receive(ms(0), Message::Ack(many)), Err(Violation::Ranges(99)));
    let mut acks =
        (0u64..).map(|m| Held { upto: 0, ahead: (1..65).map(|n| span(128 * m + 2 * n)).collect() });
    let refused = acks.by_ref().take(2000).position(|held| s.receive(ms(0), Message::Ack(held)).is_err());
    assert!(refused.is_some_and(|n| n <= RANGES_MAX / 64 + 1), "{refused:?}");
}

#[test]
fn what_the_other_side_says_of_a_failure_is_cut_and_escaped() {
    let evil = "\u{1b}]0;x\u{7}\u{202e}\u{2028}\u{feff}ä\n".repeat(2000);
    let failure = Failure { code: evil.clone(), message: evil.clone(), hint: evil }.sanitized();
    for (text, max) in [(&failure.code, 64), (&failure.message, 2000), (&failure.hint, 2000)] {
        assert!(text.len() <= max && text.contains("\\u{1b}]0;x\\u{7}\\u{202e}"), "{text}");
        assert!(!text.contains(char::is_control) && !text.contains(['\u{202e}', '\u{2028}', '\u{feff}']));
    }
    let plain = Failure::new("disk_full", "no room in '/x'", "wait");
    assert_eq!(plain.sanitized(), plain);
}
