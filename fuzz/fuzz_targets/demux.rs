//! The demultiplexer: any bytes, in reads of any size, give the same events or the same error; what it lets through is
//! in order, and becomes the same stream again when it is written.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use xbpipe::stream::digest::BlockDigest;
use xbpipe::stream::frame::{end_frame, payload_header, sparse_header};
use xbpipe::stream::{Demux, DemuxError, Event, Limits, MemberName};

const LIMITS: Limits = Limits { members: 50, names: 2000, member_size: 1 << 34, total_size: 1 << 35 };

fn demux(stream: &[u8], step: usize) -> (Vec<Event>, Result<(), DemuxError>) {
    let mut demux = Demux::new(LIMITS);
    let mut events = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let taken = demux.feed(&rest[..step.min(rest.len())]);
        rest = &rest[taken..];
        loop {
            match demux.poll() {
                Ok(Some(Event::Chunk(chunk))) => {
                    // A used buffer comes back and must not show through.
                    let mut used = chunk.payload.clone();
                    used.fill(0xaa);
                    demux.recycle(used);
                    events.push(Event::Chunk(chunk));
                }
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    let end = demux.finish();
    (events, end)
}

/// The events in order, each member without gap; the stream that they came from, written again.
fn check(events: &[Event]) -> Vec<u8> {
    let mut sizes: HashMap<MemberName, u64> = HashMap::new();
    let mut ended: HashMap<MemberName, u64> = HashMap::new();
    let mut stream = Vec::new();
    for event in events {
        match event {
            Event::Chunk(chunk) => {
                assert!(!ended.contains_key(&chunk.member));
                let size = sizes.entry(chunk.member.clone()).or_default();
                assert_eq!(*size, chunk.offset);
                *size = chunk.end();
                assert!(*size <= LIMITS.member_size);
                let covered: u64 = chunk.pieces().map(|(_, piece)| piece.logical_len()).sum();
                assert_eq!(covered, chunk.logical_len());
                if chunk.block().is_some() {
                    let mut digest = BlockDigest::new();
                    chunk.update(&mut digest);
                    let mut by_leaf = BlockDigest::new();
                    by_leaf.put_leaf(0, chunk.leaf());
                    assert_eq!(digest.finish(chunk.logical_len()), by_leaf.finish(chunk.logical_len()));
                }
                stream.extend(match chunk.sparse {
                    true => {
                        sparse_header(&chunk.member, chunk.offset, chunk.crc, &chunk.map, chunk.payload.len())
                    }
                    false => payload_header(&chunk.member, chunk.offset, chunk.crc, chunk.payload.len()),
                });
                stream.extend_from_slice(&chunk.payload);
            }
            Event::End { member, size } => {
                assert_eq!(sizes.get(member).copied().unwrap_or_default(), *size);
                assert!(ended.insert(member.clone(), *size).is_none());
                stream.extend(end_frame(member));
            }
        }
    }
    stream
}

// The first byte is the size of reads, the rest is the stream.
fuzz_target!(|input: &[u8]| {
    let Some((&step, stream)) = input.split_first() else { return };
    let whole = demux(stream, usize::MAX);
    assert_eq!(demux(stream, 1 + usize::from(step)), whole);
    let (events, end) = whole;
    let again = check(&events);
    if end.is_ok() && !stream.windows(2).any(|pair| pair == b"./") {
        assert_eq!(again, stream);
    }
});
