//! Lines over the network, with bad weather on them: both ends in this process, so that every byte is counted.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::IoSlice;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::support::network::{
    CARRIERS, connect, line_address, listen, noise, options, receive, send, stop, to, transfer,
};
use crate::support::relay::{Relay, Weather};
use crate::support::{Random, seed};
use xbpipe::base::{Code, Error};
use xbpipe::transport::ConnectionStatistics;
use xbpipe::transport::StreamReader;
use xbpipe::transport::network::{Incoming, Outgoing};

#[test]
fn a_stream_crosses_and_the_verdict_comes_back() {
    for carrier in CARRIERS {
        for len in [0, 1, 70_000, 100 << 20] {
            let options = options(5000, 10);
            let incoming = listen(carrier, &options);
            let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
            let begun = Instant::now();
            let (sent, received, facts) = transfer(&outgoing, &incoming, len, || {});
            sent.unwrap();
            assert_eq!(received.unwrap(), len, "{carrier}");
            assert_eq!(facts, ConnectionStatistics::default());
            eprintln!("{carrier}: {len} bytes in {:?}", begun.elapsed());
        }
    }
}

/// A receiver whose process ends as soon as its work is done leaves nobody waiting for its last words.
#[test]
fn a_receiver_that_leaves_after_its_verdict_was_heard() {
    const ROUNDS: u32 = 20;
    for carrier in CARRIERS {
        let options = options(5000, 10);
        // In which the sender waited for them in vain, until it gave up.
        let mut in_vain = 0;
        for _ in 0..ROUNDS {
            let incoming = listen(carrier, &options);
            let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
            let begun = Instant::now();
            thread::scope(|scope| {
                let sending = scope.spawn(|| send(&outgoing, 70_000, 1));
                assert_eq!(receive(incoming.stream_reader(), 1, 70_000).unwrap(), 70_000);
                assert!(incoming.settle(None), "{carrier}: the sender does not know");
                drop(incoming);
                sending.join().unwrap().unwrap();
            });
            drop(outgoing);
            in_vain += u32::from(begun.elapsed() >= Duration::from_secs(2));
        }
        eprintln!("{carrier}: {in_vain} of {ROUNDS} in vain");
        // A loaded machine may be late by itself.
        assert!(in_vain <= 1, "{carrier}: {in_vain} of {ROUNDS}");
    }
}

const CUTS: u64 = 10;

/// The goal: ten cuts in one transfer, no more than one byte in twenty sent twice.
#[test]
fn ten_cuts_cost_little() {
    // `scripts/soak line` asks for more.
    let rounds = std::env::var("XBPIPE_ROUNDS").map_or(1, |n| n.parse().expect("XBPIPE_ROUNDS is a number"));
    let first = seed();
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        ten_cuts(128 << 20, Weather { delay: Duration::from_millis(20), rate: 10e6, loss: 0, seed });
    }
}

/// The same on a long way with losses, where more is under way and each cut costs more: minutes, so that `scripts/soak line` only
/// does it.
#[test]
#[ignore = "takes minutes: scripts/soak line rough"]
fn ten_cuts_on_a_long_way_with_losses() {
    let rounds = std::env::var("XBPIPE_ROUNDS").map_or(1, |n| n.parse().expect("XBPIPE_ROUNDS is a number"));
    let first = seed();
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        ten_cuts(320 << 20, Weather { delay: Duration::from_millis(80), rate: 4e6, loss: 100, seed });
    }
}

fn ten_cuts(len: u64, weather: Weather) {
    for carrier in CARRIERS {
        // Longer than a round trip and a packet that is lost twice.
        let alive = 100 + 3 * weather.delay.as_millis() as u64;
        let options = options(if carrier == "tcp" { 2000 } else { alive }, 30);
        let outage = Duration::from_millis(3 * alive + 100);
        let incoming = listen(carrier, &options);
        let relay = Relay::new(carrier, incoming.local, weather);
        let outgoing = connect(&to(&incoming, relay.address), &options).unwrap();
        let begun = Instant::now();
        let (sent, received, facts) = transfer(&outgoing, &incoming, len, || {
            let mut random = Random::new(weather.seed);
            // They come in the first half of the transfer.
            let apart = (len as f64 / weather.rate * 1000.0 / 2.0) as u64 / CUTS;
            for cut in 1..=CUTS {
                sleep(Duration::from_millis(apart / 2 + random.below(apart)));
                // QUIC does not notice a short cut, and survives a change of address.
                relay.swallow(carrier == "quic");
                relay.cut();
                let begun = Instant::now();
                while outgoing.facts().reconnects < cut && begun.elapsed() < Duration::from_secs(5) {
                    sleep(Duration::from_millis(10));
                    relay.swallow(carrier == "quic" && begun.elapsed() < outage);
                }
            }
        });
        sent.unwrap();
        assert_eq!(received.unwrap(), len);
        eprintln!("{carrier}: {facts:?}, {} of {len} bytes on the line, {:?}", relay.sent(), begun.elapsed());
        assert!(facts.reconnects >= CUTS - 1, "{carrier}: {facts:?}");
        assert!(facts.resent * 20 < len, "{carrier}: {facts:?}");
        // What the line itself adds: TLS and frames hardly anything; QUIC headers, acknowledgements and lost packets.
        let overhead = if carrier == "tcp" { 1.01 } else { 1.08 };
        let all = (relay.sent() as f64) < len as f64 * 1.05 * overhead;
        assert!(all || weather.loss > 0, "{carrier}: {} of {len}", relay.sent());
    }
}

#[test]
fn a_long_way_with_losses_is_survived() {
    for carrier in CARRIERS {
        let seed = seed();
        let options = options(1000, 30);
        let incoming = listen(carrier, &options);
        let weather = Weather { delay: Duration::from_millis(80), rate: 8e6, loss: 100, seed };
        let relay = Relay::new(carrier, incoming.local, weather);
        let outgoing = connect(&to(&incoming, relay.address), &options).unwrap();
        let begun = Instant::now();
        let (sent, received, facts) = transfer(&outgoing, &incoming, 16 << 20, || {
            sleep(Duration::from_millis(1000));
            relay.cut();
        });
        sent.unwrap();
        assert_eq!(received.unwrap(), 16 << 20);
        eprintln!("{carrier}: {facts:?}, {:?}", begun.elapsed());
        // Over QUIC that was a change of address, which the connection itself survives.
        assert_eq!(facts.reconnects, u64::from(carrier == "tcp"));
        assert!(begun.elapsed() < Duration::from_secs(30), "{carrier}");
    }
}

#[test]
fn a_line_that_swallows_everything_is_noticed_and_mended() {
    for carrier in CARRIERS {
        let options = options(200, 30);
        let incoming = listen(carrier, &options);
        let weather = Weather { delay: Duration::ZERO, rate: 8e6, loss: 0, seed: 1 };
        let relay = Relay::new(carrier, incoming.local, weather);
        let outgoing = connect(&to(&incoming, relay.address), &options).unwrap();
        let (sent, received, facts) = transfer(&outgoing, &incoming, 8 << 20, || {
            sleep(Duration::from_millis(300));
            relay.swallow(true);
            sleep(Duration::from_millis(1500));
            relay.cut();
            relay.swallow(false);
        });
        sent.unwrap();
        assert_eq!(received.unwrap(), 8 << 20);
        assert!(facts.reconnects >= 1, "{carrier}");
    }
}

#[test]
fn a_line_that_is_not_mended_ends_both_sides() {
    for carrier in CARRIERS {
        let options = options(200, 2);
        let incoming = listen(carrier, &options);
        let weather = Weather { delay: Duration::ZERO, rate: 8e6, loss: 0, seed: 1 };
        let relay = Relay::new(carrier, incoming.local, weather);
        let outgoing = connect(&to(&incoming, relay.address), &options).unwrap();
        let begun = Instant::now();
        let (sent, received, _) = transfer(&outgoing, &incoming, 64 << 20, || {
            sleep(Duration::from_millis(300));
            relay.swallow(true);
            relay.cut();
        });
        let (sent, received) = (sent.unwrap_err(), received.unwrap_err());
        assert_eq!((sent.code, received.code), (Code::LineLost, Code::LineLost), "{sent} / {received}");
        assert!(sent.to_string().contains("could not be mended for 2 s"), "{sent}");
        assert!(begun.elapsed() < Duration::from_secs(12), "{carrier}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_receiver_that_has_ended_is_given_up_before_a_line_that_is_cut() {
    for carrier in CARRIERS {
        let options = options(300, 60);
        let incoming = listen(carrier, &options);
        let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(&outgoing, 1 << 30, 1));
            incoming.stream_reader().read(&mut [0; 1 << 16]).unwrap();
            let begun = Instant::now();
            // As a process that is killed: nobody says goodbye.
            drop(incoming);
            let e = sending.join().unwrap().unwrap_err();
            assert_eq!(e.code, Code::LineLost, "{carrier}: {e}");
            assert!(e.to_string().contains("the receiver's process has ended (Connection refused"), "{e}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{carrier}: {:?}", begun.elapsed());
        });
        // Another one at the same place, with another certificate, is not the receiver either.
        let incoming = listen(carrier, &options);
        let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(&outgoing, 1 << 30, 1));
            incoming.stream_reader().read(&mut [0; 1 << 16]).unwrap();
            let place = incoming.local;
            drop(incoming);
            let address = line_address(&format!("{carrier}://{place}"));
            let listen = || Incoming::listen(&address, &options, Arc::default(), stop());
            // The place is free a moment later.
            let other = std::iter::repeat_with(listen).find_map(|l| {
                l.ok().or_else(|| {
                    sleep(Duration::from_millis(5));
                    None
                })
            });
            let e = sending.join().unwrap().unwrap_err();
            assert!(e.to_string().contains("the receiver's process has ended"), "{carrier}: {e}");
            drop(other);
        });
    }
}

#[test]
fn each_side_hears_why_the_other_failed() {
    for carrier in CARRIERS {
        let options = options(1000, 5);
        let incoming = listen(carrier, &options);
        let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(&outgoing, 1 << 30, 1));
            let mut inlet = incoming.stream_reader();
            inlet.read(&mut [0; 1 << 16]).unwrap();
            let full = Error::new(Code::DiskFull, "no room to write t.ibd").hint("make room");
            assert!(incoming.settle(Some(&full)), "{carrier}: the sender does not know");
            let e = sending.join().unwrap().unwrap_err();
            assert_eq!(e.code, Code::Receiver);
            assert_eq!(e.to_string(), "the receiver failed [disk-full]: no room to write t.ibd");
            assert_eq!(e.hint.as_deref(), Some("make room"));
        });

        let incoming = listen(carrier, &options);
        let outgoing = connect(&to(&incoming, incoming.local), &options).unwrap();
        thread::scope(|scope| {
            let receiving = scope.spawn(|| receive(incoming.stream_reader(), 1, 1 << 20));
            outgoing.sink().write_some(&[IoSlice::new(&noise(&mut Random::new(1), 1000))]).unwrap();
            outgoing.abandon(&Error::new(Code::CorruptPage, "page 7 of t.ibd is corrupt"));
            let e = receiving.join().unwrap().unwrap_err();
            assert_eq!(e.code, Code::Sender, "{e}");
            assert_eq!(e.to_string(), "the sender failed [corrupt-page]: page 7 of t.ibd is corrupt");
        });
    }
}

#[test]
fn a_stop_request_ends_every_wait() {
    for carrier in CARRIERS {
        let options = options(1000, 60);
        let stop_listening = stop();
        let address = line_address(&format!("{carrier}://127.0.0.1:0"));
        let incoming = Incoming::listen(&address, &options, Arc::default(), stop_listening.clone()).unwrap();
        let stop_sending = stop();
        let right = to(&incoming, incoming.local);
        let outgoing = Outgoing::connect(&right, &options, Arc::default(), stop_sending.clone()).unwrap();
        thread::scope(|scope| {
            // Nobody reads: the window fills, and the sender waits.
            let sending = scope.spawn(|| send(&outgoing, 1 << 30, 1));
            sleep(Duration::from_millis(500));
            let begun = Instant::now();
            stop_sending.request("SIGTERM");
            assert_eq!(sending.join().unwrap().unwrap_err().code, Code::Interrupted);
            assert!(begun.elapsed() < Duration::from_secs(1));
        });
        drop(outgoing);
        thread::scope(|scope| {
            let mut inlet = incoming.stream_reader();
            let receiving = scope.spawn(move || {
                loop {
                    if let Err(e) = inlet.read(&mut [0; 1 << 16]) {
                        return e;
                    }
                }
            });
            sleep(Duration::from_millis(300));
            let begun = Instant::now();
            stop_listening.request("SIGTERM");
            assert_eq!(receiving.join().unwrap().code, Code::Interrupted);
            assert!(begun.elapsed() < Duration::from_secs(1));
        });
    }
}
