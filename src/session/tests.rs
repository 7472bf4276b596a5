//! Tests a sender and a receiver with a simulated connection that delays, reorders and breaks; hostile
//! messages; and the schema.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{self, Frame, FrameError, Frames};
use super::message::{Doing, Failure, Finish, Held, Hello, Message, Ping, Reason, Span, Verdict, Welcome};
use super::ticket::Token;
use super::{Receiver, Sender, Timeouts, Violation, receiver, sender};

const TOKEN: Token = Token([7; 16]);
const SECRET: [u8; 32] = [9; 32];

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn hello(token: &[u8], secret: &[u8]) -> Hello {
    Hello { version: super::VERSION, token: token.to_vec(), secret: secret.to_vec() }
}

/// Data in flight on a connection.
#[derive(Default)]
struct Line {
    /// Messages keep their order in each direction; segments need not.
    to_receiver: Vec<Message>,
    to_sender: Vec<Message>,
    segments: Vec<std::ops::Range<u64>>,
}

/// One step of the simulation.
#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    Send,
    Segment,
    /// The segment of this number, counted from the oldest, arrives.
    Arrive(usize),
    Hear,
    Answer,
    Cut,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u64..200_000).prop_map(Step::Write),
        4 => Just(Step::Send),
        6 => Just(Step::Segment),
        6 => (0usize..4).prop_map(Step::Arrive),
        4 => Just(Step::Hear),
        4 => Just(Step::Answer),
        1 => Just(Step::Cut),
        2 => (1u64..500).prop_map(Step::Wait),
    ]
}

struct World {
    now: Duration,
    sender: Sender,
    receiver: Receiver,
    line: Option<Line>,
    connection: u64,
    written: u64,
    /// Number of times that each byte was taken, by range.
    taken: BTreeMap<u64, u64>,
}

impl World {
    fn new() -> World {
        // The network may fail for any time here; other tests cover the timeouts.
        let patience = Timeouts { first: ms(1 << 40), reconnect: ms(1 << 40), ..Timeouts::default() };
        World {
            now: ms(0),
            sender: Sender::new(Some(TOKEN), SECRET, patience, ms(0)),
            receiver: Receiver::new(Some(TOKEN), patience),
            line: None,
            connection: 0,
            written: 0,
            taken: BTreeMap::new(),
        }
    }

    fn connect(&mut self) {
        if self.line.is_none()
            && let Some(at) = self.sender.connect_at()
        {
            self.now = self.now.max(at);
            self.connection += 1;
            self.sender.connected(self.now);
            self.line = Some(Line::default());
        }
    }

    fn cut(&mut self) {
        if self.line.take().is_some() {
            self.sender.lost(self.now, 1 << 63);
            self.receiver.lost(self.now, self.connection);
        }
    }

    fn step(&mut self, step: &Step) {
        self.connect();
        let now = self.now;
        let Some(line) = &mut self.line else { return };
        match step {
            Step::Write(n) => {
                self.sender.write(*n);
                self.written += n;
            }
            Step::Send => line.to_receiver.extend(self.sender.poll_message(now)),
            Step::Segment => line.segments.extend(self.sender.poll_segment(now, |_| 65_536)),
            Step::Arrive(n) if *n < line.segments.len() => {
                let range = line.segments.remove(*n);
                self.receiver.took(now, range.clone()).unwrap();
                assert!(self.taken.insert(range.start, range.end).is_none());
            }
            Step::Hear if !line.to_receiver.is_empty() => match line.to_receiver.remove(0) {
                Message::Hello(hello) => self.receiver.hello(now, self.connection, &hello).unwrap(),
                message => self.receiver.receive(now, message).unwrap(),
            },
            Step::Answer => {
                line.to_sender.extend(self.receiver.poll_message(now));
                if !line.to_sender.is_empty() {
                    self.sender.receive(now, line.to_sender.remove(0)).unwrap();
                }
            }
            Step::Cut => self.cut(),
            Step::Wait(n) => self.now += ms(*n),
            _ => {}
        }
    }

    fn settle(&mut self) {
        self.sender.finish();
        for _ in 0..20_000 {
            for step in [
                Step::Send,
                Step::Hear,
                Step::Answer,
                Step::Segment,
                Step::Arrive(0),
                Step::Answer,
                Step::Wait(1),
            ] {
                self.step(&step);
            }
            if self.receiver.total() == Some(self.receiver.held_upto()) {
                self.receiver.verdict(self.now, None);
                break;
            }
        }
        for _ in 0..100 {
            [Step::Send, Step::Hear, Step::Answer].iter().for_each(|step| self.step(step));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens on the network, each byte is taken once, none is missing, and both sides agree in the
    /// end.
    #[test]
    fn a_stream_survives_any_weather(steps in prop::collection::vec(step(), 0..400)) {
        let mut world = World::new();
        let mut cuts = 0;
        for step in &steps {
            cuts += u64::from(matches!(step, Step::Cut) && world.line.is_some());
            world.step(step);
        }
        world.settle();
        prop_assert_eq!(world.sender.outcome(), Some(&sender::Outcome::Done));
        prop_assert_eq!(world.receiver.outcome(), Some(&receiver::Outcome::Settled));
        let mut end = 0;
        for (start, until) in &world.taken {
            prop_assert_eq!(*start, end);
            end = *until;
        }
        prop_assert_eq!(end, world.written);
        prop_assert!(world.sender.reconnects() <= cuts);
        if cuts == 0 {
            prop_assert_eq!(world.sender.resent(), 0);
        }
    }

    /// Any bytes, split anywhere, cause no panic, and no more than a frame of them is kept.
    #[test]
    fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
        for mut frames in [Frames::of_stranger(), Frames::of_control(), Frames::of_data()] {
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            for part in [a, b] {
                frames.buffer().extend_from_slice(part);
                while let Ok(Some(_)) = frames.poll() {}
            }
        }
    }

    /// Hostile but well-formed messages don't make a sender release or send bytes that it should not.
    #[test]
    fn a_sender_takes_no_nonsense(
        held in prop::collection::vec((any::<u64>(), any::<u64>()), 0..5),
        upto in prop_oneof![0u64..200_000, any::<u64>()],
    ) {
        let mut sender = Sender::new(Some(TOKEN), SECRET, Timeouts::default(), ms(0));
        sender.connected(ms(0));
        sender.receive(ms(0), Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
        sender.write(100_000);
        while sender.poll_segment(ms(1), |_| 65_536).is_some() {}
        let ahead = held.into_iter().map(|(start, end)| Span { start, end }).collect();
        let _ = sender.receive(ms(2), Message::Ack(Held { upto, ahead }));
        prop_assert!(sender.released() <= 100_000);
    }
}

#[test]
fn every_message_survives_the_wire_split_anywhere() {
    let held = Held { upto: 5, ahead: vec![Span { start: 7, end: 9 }, Span { start: 11, end: u64::MAX }] };
    let failure = Failure::new("disk-full", "no room", "make room");
    let all = [
        Message::Hello(hello(&TOKEN.0, &SECRET)),
        Message::Welcome(Welcome { held: Some(held.clone()), base: String::new() }),
        Message::Refused(super::message::Refused { reason: Reason::Used.into() }),
        Message::Ack(held),
        Message::Finish(Finish { total: 1 << 50 }),
        Message::Verdict(Verdict { failure: Some(failure.clone()) }),
        Message::Seen(super::message::Seen {}),
        Message::Abort(failure),
        Message::Ping(Ping {}),
        Message::Doing(Doing { phase: "preparing".into(), done: 1, total: 2 }),
    ];
    let mut wire = BytesMut::new();
    for message in &all {
        wire.extend_from_slice(&frame::control(message.clone()));
    }
    wire.extend_from_slice(&frame::data_head(77, 3));
    wire.extend_from_slice(b"abc");
    for cut in 0..wire.len() {
        let mut frames = Frames::of_control();
        frames.trust(true);
        let mut read = Vec::new();
        for part in [&wire[..cut], &wire[cut..]] {
            frames.buffer().extend_from_slice(part);
            while let Some(frame) = frames.poll().unwrap() {
                read.push(frame);
            }
        }
        let data = Frame::Data { offset: 77, bytes: Bytes::from_static(b"abc") };
        let expected: Vec<_> = all.iter().cloned().map(Frame::Control).chain([data]).collect();
        assert_eq!(read, expected, "cut at {cut}");
        assert!(!frames.is_inside());
    }
}

#[test]
fn hostile_frames_are_refused_by_their_head() {
    let refused = |mut frames: Frames, bytes: &[u8]| {
        frames.buffer().extend_from_slice(bytes);
        frames.poll().unwrap_err()
    };
    assert_eq!(refused(Frames::of_stranger(), b"GET / HTTP"), FrameError::Kind(b'G'));
    assert_eq!(refused(Frames::of_stranger(), &[2, 9, 0, 0, 0]), FrameError::Kind(2));
    let length = |kind: u8, length: u32| [&[kind][..], &length.to_le_bytes()].concat();
    for (frames, kind, n) in [
        (Frames::of_stranger(), 1, frame::HELLO_MAX as u32 + 1),
        (Frames::of_control(), 1, u32::MAX),
        (Frames::of_control(), 1, 0),
        (Frames::of_data(), 2, 8),
        (Frames::of_data(), 2, frame::DATA_MAX as u32 + 9),
    ] {
        assert_eq!(refused(frames, &length(kind, n)), FrameError::Length { kind, length: n });
    }
    let far = [&length(2, 9)[..], &u64::MAX.to_le_bytes(), b"x"].concat();
    assert_eq!(refused(Frames::of_data(), &far), FrameError::Offset(u64::MAX));
    let garbage = [&length(1, 3)[..], b"\xff\xff\xff"].concat();
    assert!(matches!(refused(Frames::of_control(), &garbage), FrameError::Message(_)));
}

#[test]
fn only_the_right_one_is_let_in() {
    let mut r = Receiver::new(Some(TOKEN), Timeouts::default());
    let mut at = 0;
    let mut refused = |r: &mut Receiver, hello: &Hello| {
        at += 1;
        r.hello(ms(at), 100 + at, hello).unwrap_err().reason()
    };
    assert_eq!(refused(&mut r, &hello(&[8; 16], &SECRET)), Reason::Token);
    assert_eq!(refused(&mut r, &hello(b"", &SECRET)), Reason::Token);
    assert_eq!(refused(&mut r, &hello(&TOKEN.0, &[1; 31])), Reason::Token);
    assert_eq!(refused(&mut r, &Hello { version: 2, ..hello(&TOKEN.0, &SECRET) }), Reason::Version);
    assert!(!r.has_begun());
    r.hello(ms(5), 1, &hello(&TOKEN.0, &SECRET)).unwrap();
    assert_eq!(refused(&mut r, &hello(&TOKEN.0, &[1; 32])), Reason::Used);
    assert_eq!(refused(&mut r, &hello(&[8; 16], &SECRET)), Reason::Token);
    assert!(r.is_current(1));
    r.hello(ms(6), 2, &hello(&TOKEN.0, &SECRET)).unwrap();
    assert!(r.is_current(2) && !r.is_current(1));
    r.lost(ms(7), 1);
    assert!(r.is_current(2), "a former connection does not matter");
}

#[test]
fn a_receiver_takes_each_byte_once_and_none_beyond_the_end() {
    let mut r = Receiver::new(None, Timeouts::default());
    r.hello(ms(0), 1, &hello(b"", &SECRET)).unwrap();
    r.took(ms(0), 10..20).unwrap();
    for bad in [10..20, 19..21, 5..11, 7..7, receiver::AHEAD_MAX..receiver::AHEAD_MAX + 1] {
        assert!(matches!(r.took(ms(0), bad), Err(Violation::Range { .. })));
    }
    assert_eq!(r.receive(ms(0), Message::Finish(Finish { total: 19 })), Err(Violation::Total(19)));
    r.receive(ms(0), Message::Finish(Finish { total: 30 })).unwrap();
    assert_eq!(r.receive(ms(0), Message::Finish(Finish { total: 31 })), Err(Violation::Total(31)));
    assert!(r.took(ms(0), 25..31).is_err());
    assert!(r.receive(ms(0), Message::Welcome(Welcome { held: None, base: String::new() })).is_err());
    assert!(r.receive(ms(0), Message::Seen(super::message::Seen {})).is_err(), "there is no verdict yet");
}

#[test]
fn patience_has_an_end_on_both_sides() {
    let patience = Timeouts { reconnect: ms(60_000), ..Timeouts::default() };
    let mut s = Sender::new(Some(TOKEN), SECRET, patience, ms(0));
    s.connected(ms(0));
    s.receive(ms(0), Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
    assert!(!s.tick(ms(14_999)) && s.tick(ms(15_000)), "three silent keep-alive times");
    s.lost(ms(15_000), 0);
    while let Some(at) = s.connect_at() {
        s.tick(at);
        s.lost(at, 0);
    }
    assert_eq!(s.outcome(), Some(&sender::Outcome::Lost(ms(60_000))));

    let mut r = Receiver::new(Some(TOKEN), patience);
    r.tick(ms(1 << 40));
    assert_eq!(r.outcome(), None, "the right one may come at any time");
    r.hello(ms(0), 1, &hello(&TOKEN.0, &SECRET)).unwrap();
    assert!(!r.tick(ms(14_999)) && r.tick(ms(15_000)));
    r.tick(ms(74_999));
    assert_eq!(r.outcome(), None);
    r.tick(ms(75_000));
    assert_eq!(r.outcome(), Some(&receiver::Outcome::Lost(ms(60_000))));
}

fn up(now: Duration, patience: Timeouts) -> Sender {
    let mut s = Sender::new(Some(TOKEN), SECRET, patience, now);
    s.connected(now);
    s.receive(now, Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
    s
}

#[test]
fn a_receiver_where_nobody_listens_any_more_is_given_up_soon() {
    let patience = Timeouts { reconnect: ms(300_000), refused: ms(30_000), ..Timeouts::default() };
    let refuse = |s: &mut Sender, until: u64| {
        while let Some(at) = s.connect_at().filter(|at| *at < ms(until)) {
            s.refused(at, 0);
        }
    };
    let mut s = up(ms(0), patience);
    s.lost(ms(1), 0);
    refuse(&mut s, 25_000);
    assert_eq!(s.outcome(), None);
    // A failure of the network says nothing about who listens behind it: the time is counted anew from there.
    s.lost(ms(26_000), 0);
    refuse(&mut s, 60_000);
    assert_eq!(s.outcome(), None);
    refuse(&mut s, 100_000);
    assert_eq!(s.outcome(), Some(&sender::Outcome::Gone(ms(30_000))));

    // The receiver came back: the earlier refusals don't count.
    let mut s = up(ms(0), patience);
    s.lost(ms(1), 0);
    refuse(&mut s, 29_000);
    s.connected(ms(29_500));
    s.receive(ms(29_500), Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
    s.lost(ms(29_600), 0);
    refuse(&mut s, 55_000);
    assert_eq!(s.outcome(), None);

    // A receiver that was never reached may still be started.
    let mut s = Sender::new(Some(TOKEN), SECRET, Timeouts { first: ms(100_000), ..patience }, ms(0));
    refuse(&mut s, 90_000);
    assert_eq!(s.outcome(), None);
}

#[test]
fn a_receiver_that_has_forgotten_everything_is_another_one() {
    let mut s = up(ms(0), Timeouts::default());
    s.write(10);
    s.poll_segment(ms(0), |_| 10).unwrap();
    s.receive(ms(0), Message::Ack(Held { upto: 4, ahead: vec![] })).unwrap();
    s.lost(ms(1), 0);
    s.connected(ms(2));
    s.receive(ms(2), Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
    assert_eq!(s.outcome(), Some(&sender::Outcome::Gone(ms(0))));
}

#[test]
fn a_lost_receipt_is_not_waited_for_as_long_as_a_lost_sender() {
    let patience = Timeouts { reconnect: ms(300_000), receipt: ms(15_000), ..Timeouts::default() };
    for told in [true, false] {
        let mut r = Receiver::new(Some(TOKEN), patience);
        r.hello(ms(0), 1, &hello(&TOKEN.0, &SECRET)).unwrap();
        r.took(ms(0), 0..10).unwrap();
        r.receive(ms(0), Message::Finish(Finish { total: 10 })).unwrap();
        if told {
            r.verdict(ms(1), None);
            while r.poll_message(ms(1)).is_some() {}
        }
        r.lost(ms(2), 1);
        r.verdict(ms(2), None);
        r.tick(ms(14_000));
        assert_eq!(r.outcome(), None);
        r.tick(ms(15_001));
        assert_eq!(r.outcome(), told.then_some(&receiver::Outcome::Lost(ms(15_000))));
    }
}

#[test]
fn a_good_verdict_on_half_a_stream_is_not_believed() {
    let mut s = Sender::new(Some(TOKEN), SECRET, Timeouts::default(), ms(0));
    s.connected(ms(0));
    s.receive(ms(0), Message::Welcome(Welcome { held: None, base: String::new() })).unwrap();
    s.write(10);
    s.finish();
    assert!(s.receive(ms(0), Message::Verdict(Verdict { failure: None })).is_err());
    assert_eq!(s.outcome(), None);
    s.poll_segment(ms(0), |_| 10).unwrap();
    s.receive(ms(0), Message::Ack(Held { upto: 10, ahead: vec![] })).unwrap();
    assert!(matches!(
        s.receive(ms(0), Message::Ack(Held { upto: 9, ahead: vec![] })),
        Err(Violation::Forgotten { .. })
    ));
    s.receive(ms(0), Message::Verdict(Verdict { failure: None })).unwrap();
    assert_eq!(s.outcome(), Some(&sender::Outcome::Done));
}

/// Every message and field of the schema is in the code with the same number, and vice versa.
#[test]
fn the_schema_is_the_code() {
    let mut schema: Vec<String> = include_str!("../../proto/session.proto")
        .lines()
        .map(|line| line.split("//").next().unwrap().trim())
        .filter(|line| line.ends_with(';') && line.contains(" = ") && !line.starts_with("syntax"))
        .filter(|line| !line.starts_with("REASON_"))
        .map(|line| {
            let (name, number) = line.trim_end_matches(';').split_once(" = ").unwrap();
            format!("{} {number}", name.split(' ').next_back().unwrap())
        })
        .collect();
    let code = include_str!("message.rs");
    let mut fields = Vec::new();
    let mut tag = None;
    for line in code.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("tag = \"") {
            tag = rest.split('"').next().map(str::to_owned);
        } else if let Some(number) = tag.take() {
            let name = line.trim_start_matches("pub ").split([':', '(']).next().unwrap().to_lowercase();
            fields.push(format!("{name} {number}"));
        }
    }
    schema.sort();
    fields.sort();
    assert_eq!(fields, schema);
}
