use super::super::frame::*;
use super::super::name::NameError;
use super::*;
use crate::base::Code;

fn name(text: &str) -> MemberName {
    MemberName::parse(text).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sparse_frame(member: &str, offset: u64, map: &[(u32, u32)], payload: &[u8]) -> Vec<u8> {
    let map: Vec<_> = map.iter().map(|&(skip, len)| Extent { skip, len }).collect();
    let crc = sparse_crc(&map, [payload]);
    let mut frame = sparse_header(&name(member), offset, crc, &map, payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn plain_frame(member: &str, offset: u64, payload: &[u8]) -> Vec<u8> {
    payload_frame(&name(member), offset, payload)
}

fn end(member: &str) -> Vec<u8> {
    end_frame(&name(member))
}

/// Returns all events of `stream`, read in pieces of `step` bytes, up to the end or the first error.
fn demux_in_steps(stream: &[u8], step: usize, limits: Limits) -> (Vec<Event>, Result<(), DemuxError>) {
    let mut demux = Demux::new(limits).checking();
    let mut events = Vec::new();
    for mut piece in stream.chunks(step.max(1)) {
        while !piece.is_empty() {
            let taken = demux.feed(piece);
            piece = &piece[taken..];
            loop {
                match demux.poll() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Err(error)),
                }
            }
        }
    }
    let end = demux.finish();
    (events, end)
}

/// Returns the events of `stream`, and checks that they do not depend on where reads end: every stream here,
/// valid or hostile, is also read split at every byte.
fn demux(stream: &[u8]) -> (Vec<Event>, Result<(), DemuxError>) {
    let whole = demux_in_steps(stream, usize::MAX, Limits::default());
    for step in 1..stream.len() {
        assert_eq!(demux_in_steps(stream, step, Limits::default()), whole, "reads of {step} bytes");
    }
    whole
}

fn fault(stream: &[u8]) -> Fault {
    demux(stream).1.expect_err("the stream was taken").fault
}

/// Two members interleaved, holes at start, middle and end, an empty member, an empty chunk.
fn small_stream() -> Vec<u8> {
    [
        plain_frame("ibdata1", 0, b"abc"),
        sparse_frame("db/t.ibd", 0, &[(4, 2), (1, 1)], b"xyz"),
        plain_frame("ibdata1", 3, b"de"),
        sparse_frame("db/t.ibd", 8, &[(5, 0)], b""),
        plain_frame("db/u.ibd", 0, b""),
        end("ibdata1"),
        end("db/empty.CSV"),
        end("db/t.ibd"),
        plain_frame("db/u.ibd", 0, b"u"),
        end("db/u.ibd"),
    ]
    .concat()
}

#[test]
fn events_come_in_the_order_of_the_stream() {
    let (events, end) = demux(&small_stream());
    end.unwrap();
    let said: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Chunk(c) => format!("{} {}..{} {}", c.member, c.offset, c.end(), c.payload.escape_ascii()),
            Event::End { member, size } => format!("{member} end {size}"),
        })
        .collect();
    assert_eq!(
        said,
        [
            "ibdata1 0..3 abc",
            "db/t.ibd 0..8 xyz",
            "ibdata1 3..5 de",
            "db/t.ibd 8..13 ",
            "db/u.ibd 0..0 ",
            "ibdata1 end 5",
            "db/empty.CSV end 0",
            "db/t.ibd end 13",
            "db/u.ibd 0..1 u",
            "db/u.ibd end 1",
        ]
    );
}

#[test]
fn one_read_may_end_anywhere() {
    let stream = small_stream();
    let whole = demux(&stream);
    for cut in 0..=stream.len() {
        let mut demux = Demux::new(Limits::default());
        let mut events = Vec::new();
        for mut piece in [&stream[..cut], &stream[cut..]] {
            while !piece.is_empty() {
                let taken = demux.feed(piece);
                piece = &piece[taken..];
                while let Some(event) = demux.poll().unwrap() {
                    events.push(event);
                }
            }
        }
        demux.finish().unwrap();
        assert_eq!(events, whole.0, "{cut}");
    }
}

#[test]
fn every_cut_is_seen() {
    let stream = small_stream();
    for cut in 1..stream.len() {
        let error = demux(&stream[..cut]).1.unwrap_err();
        assert_eq!(error.fault.code(), Code::StreamTruncated, "{cut}: {error}");
        assert_eq!(error.at, cut as u64);
    }
    // An empty stream is complete at the level of frames; it is up to the receiver to notice the missing
    // manifest.
    demux(b"").1.unwrap();
}

#[test]
fn a_cut_names_the_member() {
    let stream = [plain_frame("b", 0, b"1"), plain_frame("a", 0, b"2"), end("b")].concat();
    let error = demux(&stream).1.unwrap_err();
    assert_eq!(error.to_string(), "stream offset 87, member a: the stream ends with 1 unfinished member(s)");
    let error = demux(&stream[..60]).1.unwrap_err();
    assert_eq!(error.to_string(), "stream offset 60: the stream ends inside a frame");
    let error = demux(&plain_frame("b", 0, b"123")[..36]).1.unwrap_err();
    assert_eq!(error.to_string(), "stream offset 36, member b: the stream ends inside a frame");
}

#[test]
fn gaps_and_overlaps_are_refused() {
    let after_three = |frame: Vec<u8>| fault(&[plain_frame("t", 0, b"abc"), frame].concat());
    assert_eq!(after_three(plain_frame("t", 4, b"x")), Fault::Offset { expected: 3, found: 4 });
    assert_eq!(after_three(plain_frame("t", 2, b"x")), Fault::Offset { expected: 3, found: 2 });
    assert_eq!(after_three(plain_frame("t", 0, b"x")), Fault::Offset { expected: 3, found: 0 });
    assert_eq!(after_three(plain_frame("t", u64::MAX, b"x")), Fault::Offset { expected: 3, found: u64::MAX });
    assert_eq!(after_three(sparse_frame("t", 9, &[(1, 1)], b"x")), Fault::Offset { expected: 3, found: 9 });
    assert_eq!(fault(&plain_frame("t", 1, b"x")), Fault::Offset { expected: 0, found: 1 });
    let error = demux(&plain_frame("t", 1, b"x")).1.unwrap_err();
    assert_eq!(error.to_string(), "stream offset 0, member t: gap at offset 0: the chunk begins at 1");
    assert_eq!(error.fault.code(), Code::StreamCorrupt);
}

#[test]
fn nothing_of_a_member_comes_after_its_end() {
    for again in [end("t"), plain_frame("t", 3, b"x"), plain_frame("t", 0, b"abc")] {
        assert_eq!(fault(&[plain_frame("t", 0, b"abc"), end("t"), again].concat()), Fault::AfterEnd);
    }
    // `./t` is `t`.
    let dotted = b"XBSTCK01\0E\x03\0\0\0./t";
    assert_eq!(fault(&[&end("t")[..], dotted].concat()), Fault::AfterEnd);
}

#[test]
fn a_leading_dot_is_taken_off() {
    let (events, end) = demux(b"XBSTCK01\0E\x05\0\0\0./a/b");
    end.unwrap();
    assert_eq!(events, [Event::End { member: name("a/b"), size: 0 }]);
}

#[test]
fn hostile_names_are_refused_without_reading_on() {
    for (path, error) in [
        (&b"/etc/x"[..], NameError::Absolute),
        (b"../x", NameError::Dots),
        (b".//x", NameError::Absolute),
        (b"a/../x", NameError::Dots),
        (b"", NameError::Empty),
        (b"a\0", NameError::Control),
    ] {
        let frame = [b"XBSTCK01\0P", &(path.len() as u32).to_le_bytes()[..], path].concat();
        let refused = demux(&frame).1.unwrap_err();
        assert_eq!(refused.fault, Fault::Name { error, name: path.to_vec() });
        assert_eq!(refused.fault.code(), Code::StreamRefused);
    }
}

#[test]
fn a_map_that_does_not_fit_its_payload_is_refused() {
    let mut frame = sparse_frame("t", 0, &[(1, 2), (3, 4)], b"abcdef");
    // The second length, 4, becomes 5.
    let at = frame.len() - 6 - 4;
    assert_eq!(frame[at], 4);
    frame[at] = 5;
    assert_eq!(fault(&frame), Fault::MapSum { mapped: 7, payload_len: 6 });
}

#[test]
fn damage_is_found_by_the_crc() {
    let frame = plain_frame("t", 0, b"abc");
    let mut damaged = frame.clone();
    *damaged.last_mut().unwrap() ^= 0x10;
    let error = demux(&[damaged.clone(), end("t")].concat()).1.unwrap_err();
    assert!(matches!(error.fault, Fault::Crc { offset: 0, .. }), "{error}");
    // Without checking, the caller must verify.
    let mut unchecked = Demux::new(Limits::default());
    unchecked.feed(&damaged);
    let Some(Event::Chunk(chunk)) = unchecked.poll().unwrap() else { panic!("no chunk") };
    assert_eq!(chunk.verify(), Err(error));
}

#[test]
fn an_error_stays() {
    let mut demux = Demux::new(Limits::default());
    demux.feed(b"rubbish!");
    let error = demux.poll().unwrap_err();
    assert_eq!(error.to_string(), "stream offset 0: no frame begins here (found 'rubbish!')");
    assert!(demux.space().is_empty());
    assert_eq!(demux.feed(&end("t")), 0);
    assert_eq!(demux.poll(), Err(error.clone()));
    assert_eq!(demux.finish(), Err(error));
}

#[test]
fn limits_hold() {
    let limits = Limits { members: 2, names: 10, member_size: 100, total_size: 150 };
    let fault = |frames: &[Vec<u8>]| demux_in_steps(&frames.concat(), 1, limits).1.map_err(|e| e.fault);
    assert_eq!(fault(&[end("a"), end("b")]), Ok(()));
    assert_eq!(fault(&[end("a"), end("b"), end("c")]), Err(Fault::Members(2)));
    assert_eq!(fault(&[end("aaaaa"), end("bbbbb")]), Ok(()));
    assert_eq!(fault(&[end("aaaaa"), end("bbbbbb")]), Err(Fault::Names(10)));
    assert_eq!(fault(&[plain_frame("a", 0, &[1; 100]), end("a")]), Ok(()));
    assert_eq!(fault(&[plain_frame("a", 0, &[1; 101]), end("a")]), Err(Fault::MemberSize(100)));
    assert_eq!(
        fault(&[sparse_frame("a", 0, &[(u32::MAX, 0); 3], b""), end("a")]),
        Err(Fault::MemberSize(100))
    );
    let first = plain_frame("a", 0, &[1; 100]);
    assert_eq!(fault(&[first.clone(), sparse_frame("b", 0, &[(49, 1)], b"x"), end("a"), end("b")]), Ok(()));
    assert_eq!(fault(&[first, sparse_frame("b", 0, &[(50, 1)], b"x")]), Err(Fault::TotalSize(150)));
    for (fault, code) in [
        (Fault::Members(2), Code::StreamRefused),
        (Fault::MemberSize(1), Code::StreamRefused),
        (Fault::PayloadLength(u64::MAX), Code::StreamRefused),
        (Fault::Type(0), Code::StreamCorrupt),
    ] {
        assert_eq!(fault.code(), code);
    }
}

#[test]
fn a_promised_length_takes_no_memory() {
    let mut demux = Demux::new(Limits::default());
    demux.feed(&payload_header(&name("t"), 0, 0, PAYLOAD_MAX));
    assert_eq!(demux.poll(), Ok(None));
    assert_eq!(demux.space().len(), PAYLOAD_FIRST);
    // As bytes arrive the buffer doubles, and ends at the announced length.
    let mut arrived = 0;
    while arrived < 5 * PAYLOAD_FIRST {
        let space = demux.space().len();
        assert!(space <= arrived.max(PAYLOAD_FIRST));
        demux.filled(space);
        arrived += space;
        assert_eq!(demux.poll(), Ok(None));
    }
}

#[test]
fn payload_lands_in_the_buffer_that_was_recycled() {
    let bytes = content(300_000);
    let stream =
        [plain_frame("t", 0, &bytes), plain_frame("t", 300_000, &bytes[..100_000]), end("t")].concat();
    let mut demux = Demux::new(Limits::default()).checking();
    let mut rest = &stream[..];
    let mut buffers = Vec::new();
    while !rest.is_empty() {
        let taken = demux.feed(rest);
        rest = &rest[taken..];
        while let Some(event) = demux.poll().unwrap() {
            if let Event::Chunk(chunk) = event {
                assert_eq!(*chunk.payload, bytes[..chunk.payload.len()]);
                buffers.push(chunk.payload.as_ptr());
                demux.recycle(chunk.payload);
            }
        }
    }
    demux.finish().unwrap();
    assert_eq!(buffers.len(), 2);
    assert_eq!(buffers[0], buffers[1]);
}

#[test]
fn space_for_a_payload_ends_where_it_ends() {
    let mut demux = Demux::new(Limits::default());
    let payload = content(50_000);
    let frame = plain_frame("t", 0, &payload);
    let header = frame.len() - payload.len();
    demux.feed(&frame[..header + 10]);
    assert_eq!(demux.poll(), Ok(None));
    assert_eq!(demux.space().len(), payload.len() - 10);
    assert_eq!(demux.position, header as u64 + 10);
}

#[test]
fn errors_reach_the_user_with_code_and_hint() {
    let error: crate::base::Error = demux(&small_stream()[..50]).1.unwrap_err().into();
    assert_eq!(error.code, Code::StreamTruncated);
    assert!(error.hint.unwrap().contains("sender"));
    let error: crate::base::Error = demux(b"\x28\xb5\x2f\xfd").1.unwrap_err().into();
    assert_eq!(error.code, Code::StreamCorrupt);
    assert_eq!(error.to_string(), "stream offset 0: no frame begins here (found '(\\xb5/\\xfd')");
}
