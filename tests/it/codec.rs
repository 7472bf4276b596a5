//! The layers around a stream: what is made can be undone, by us and by the standard tools; what was changed, cut or moved is
//! refused.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::layered::{RECIPIENT, SECRET, to_recipient, wrap};
use crate::support::{Random, seed, tool};
use proptest::prelude::*;
use xbpipe::base::{Code, Error};
use xbpipe::codec::age::{self, Key, Keys, Recipient, SEALED, SecretString};
use xbpipe::codec::{CodecError, Compression, Decoder, Layer, Lock, PieceDecoder};
use xbpipe::transport::LayerOptions;

const OTHER_SECRET: &str = "AGE-SECRET-KEY-1ED382LSFV6FGMU7DGJRNP8V353YUH9KC7C4GNYA3R2Y7F0FWZDAQ6QN4WU";

fn secret(text: &str) -> Keys {
    Keys::new(Key::parse_file(&mut text.as_bytes()).unwrap())
}

fn passphrase(text: &str) -> Keys {
    Keys::new(vec![Key::passphrase(SecretString::from(text.to_owned()))])
}

/// What is under one layer; `steps` says how many bytes come at a time.
fn unwrap_one(bytes: &[u8], keys: &Keys, mut steps: impl FnMut() -> usize) -> Result<Vec<u8>, CodecError> {
    let layer = Layer::of(bytes).expect("a layer");
    let mut undo = Decoder::new(layer, keys);
    let mut opener = PieceDecoder::default();
    let mut plain = Vec::new();
    let mut rest = bytes;
    loop {
        while let Some(piece) = undo.poll(&mut None)? {
            plain.extend_from_slice(&piece.open(&mut opener, Default::default())?);
        }
        if rest.is_empty() {
            break;
        }
        let space = undo.space();
        let n = steps().clamp(1, space.len()).min(rest.len());
        space[..n].copy_from_slice(&rest[..n]);
        undo.filled(n);
        rest = &rest[n..];
    }
    if let Some(piece) = undo.finish()? {
        plain.extend_from_slice(&piece.open(&mut opener, Default::default())?);
    }
    Ok(plain)
}

fn unwrap_all(bytes: &[u8], keys: &Keys) -> Result<Vec<u8>, CodecError> {
    let mut bytes = bytes.to_vec();
    while Layer::of(&bytes).is_some() {
        bytes = unwrap_one(&bytes, keys, || usize::MAX)?;
    }
    Ok(bytes)
}

/// Bytes as a datafile may have them: runs of zeros, of text and of noise.
fn pages(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4096);
    // Never the magic of a layer.
    bytes.push(b'X');
    while bytes.len() < len {
        match random.below(3) {
            0 => bytes.resize(bytes.len() + random.below(4096) as usize, 0),
            1 => bytes.extend(random.text(3000).into_bytes()),
            _ => (0..random.below(2000)).for_each(|_| bytes.push(random.next() as u8)),
        }
    }
    bytes.truncate(len);
    bytes
}

/// Frames that decoders leave out may stand anywhere, and reads may end anywhere in them.
#[test]
fn skippable_frames_are_left_out_wherever_a_read_ends() {
    let plain = b"Xabc".to_vec();
    for compression in [Compression::Lz4, Compression::Zstd(1)] {
        let frame =
            wrap(LayerOptions { compression: Some(compression), cover: None }, std::slice::from_ref(&plain));
        let skipped = [&0x184D_2A5Eu32.to_le_bytes()[..], &3u32.to_le_bytes(), b"xyz"].concat();
        let empty = [&0x184D_2A50u32.to_le_bytes()[..], &0u32.to_le_bytes()].concat();
        let bytes = [&frame[..], &skipped, &empty, &frame, &frame, &skipped, &empty].concat();
        for step in 1..bytes.len() {
            let found = unwrap_one(&bytes, &Keys::default(), || step).unwrap();
            assert_eq!(found, [&plain[..], &plain, &plain].concat(), "{compression} by {step}");
        }
        for cut in 1..empty.len() {
            let cut = &bytes[..bytes.len() - cut];
            let found = unwrap_one(cut, &Keys::default(), || 1);
            assert!(matches!(found, Err(CodecError::Cut { .. })), "{compression}: {found:?}");
        }
    }
}

fn compressions() -> impl Strategy<Value = Option<Compression>> {
    prop_oneof![Just(None), Just(Some(Compression::Lz4)), (-5..4i32).prop_map(|l| Some(Compression::Zstd(l)))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_pieces_cut_anywhere_arrive_as_they_were(
        compression in compressions(),
        encrypted in any::<bool>(),
        lens in prop::collection::vec(prop_oneof![0..100usize, 60_000..70_000usize, 0..1_500_000usize], 1..8),
        seed in any::<u64>(),
        step in prop_oneof![1..300usize, Just(65_536), Just(65_552), Just(usize::MAX)],
    ) {
        let mut random = Random::new(seed);
        let pieces: Vec<_> = lens.iter().map(|len| pages(&mut random, *len)).collect();
        let cover = if encrypted { to_recipient() } else { None };
        let mut bytes = wrap(LayerOptions { compression, cover }, &pieces);
        let keys = secret(SECRET);
        for layer in [encrypted.then_some(Layer::Age), compression.map(|c| match c {
            Compression::Lz4 => Layer::Lz4,
            Compression::Zstd(_) => Layer::Zstd,
        })].into_iter().flatten() {
            // An empty stream has no frames.
            if bytes.is_empty() {
                break;
            }
            prop_assert_eq!(Layer::of(&bytes), Some(layer));
            bytes = unwrap_one(&bytes, &keys, || if step < 300 { 1 + random.below(step as u64 * 50) as usize } else { step }).unwrap();
        }
        prop_assert!(bytes == pieces.concat());
    }
}

#[test]
fn every_recipient_can_open_it_and_a_stranger_can_not() {
    let recipients = [Recipient::parse(RECIPIENT).unwrap(), recipient_of(OTHER_SECRET)];
    let stream = wrap(
        LayerOptions { cover: Some(age::cover(&recipients).unwrap()), compression: None },
        &[b"text".to_vec()],
    );
    for key in [SECRET, OTHER_SECRET] {
        assert_eq!(unwrap_all(&stream, &secret(key)).unwrap(), b"text");
    }
    let only = wrap(LayerOptions { cover: to_recipient(), compression: None }, &[b"text".to_vec()]);
    assert_eq!(unwrap_all(&only, &secret(&format!("{OTHER_SECRET}\n{SECRET}"))).unwrap(), b"text");
    let wrong = unwrap_all(&only, &secret(OTHER_SECRET)).unwrap_err();
    let missing = unwrap_all(&only, &Keys::default()).unwrap_err();
    let of_another_kind = unwrap_all(&only, &passphrase("text")).unwrap_err();
    let cut = unwrap_all(&only[..only.len() - 1], &secret(SECRET)).unwrap_err();
    assert_eq!((&wrong, wrong.code()), (&CodecError::WrongKey(Lock::Recipients), Code::WrongKey));
    assert_eq!((&missing, missing.code()), (&CodecError::NoKey(Lock::Recipients), Code::NoKey));
    assert_eq!(of_another_kind, missing);
    assert_eq!((&cut, cut.code()), (&CodecError::CutChunk { chunk: 0 }, Code::StreamTruncated));
    for e in [wrong, missing, cut] {
        assert!(Error::from(e).hint.is_some());
    }
}

#[test]
fn a_passphrase_opens_what_it_closed() {
    let cover = age::cover_with_passphrase(SecretString::from("a b c".to_owned())).unwrap();
    let stream =
        wrap(LayerOptions { cover: Some(cover), compression: Some(Compression::Lz4) }, &[b"text".to_vec()]);
    assert_eq!(unwrap_all(&stream, &passphrase("a b c")).unwrap(), b"text");
    assert_eq!(unwrap_all(&stream, &passphrase("a b d")).unwrap_err(), CodecError::WrongPassphrase);
    assert_eq!(unwrap_all(&stream, &secret(SECRET)).unwrap_err(), CodecError::NoKey(Lock::Passphrase));
}

fn recipient_of(secret: &str) -> Recipient {
    let text = run("age-keygen", &["-y"], secret.as_bytes());
    Recipient::parse(std::str::from_utf8(&text).unwrap().trim()).unwrap()
}

/// The stream with something done to it, by round: cut, a bit flipped, a chunk dropped, cut between two chunks, chunks swapped, one
/// put in again. There are ten chunks.
fn changed(
    stream: &[u8],
    chunk: impl Fn(usize) -> std::ops::Range<usize>,
    round: usize,
    random: &mut Random,
) -> Vec<u8> {
    let mut changed = stream.to_vec();
    let (a, b) = (random.below(10) as usize, random.below(10) as usize);
    let at = random.below(stream.len() as u64) as usize;
    match round % 6 {
        0 => changed.truncate(at),
        1 => changed[at] ^= 1 << random.below(8),
        2 => drop(changed.drain(chunk(a))),
        3 => changed.truncate(chunk(a).start),
        4 if a != b && a < 9 && b < 9 => {
            let kept = changed[chunk(a)].to_vec();
            changed.copy_within(chunk(b), chunk(a).start);
            changed[chunk(b)].copy_from_slice(&kept);
        }
        4 => changed.extend_from_slice(&stream[chunk(a)]),
        _ => {
            let again = stream[chunk(a)].to_vec();
            changed.splice(chunk(b).start..chunk(b).start, again);
        }
    }
    changed
}

/// The same through the program: it fails, and leaves nothing.
#[test]
fn xbrecv_takes_no_changed_stream() {
    let mut random = Random::new(seed());
    let mut maker = crate::support::StreamMaker::small();
    let plain = maker.finish().bytes;
    // Ten chunks, the last of them short.
    let missing = 9 * 65536 + 3000 - plain.len() - 200;
    maker.add("db/noise.MYD", &crate::support::streams::noise(missing, 5));
    let plain = maker.finish().bytes;
    assert_eq!(plain.len().div_ceil(65536), 10, "{}", plain.len());
    let stream =
        wrap(LayerOptions { cover: to_recipient(), compression: None }, std::slice::from_ref(&plain));
    let head = stream.len() - (plain.len() + 10 * 16);
    let chunk = |n: usize| head + n * SEALED..(head + (n + 1) * SEALED).min(stream.len());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), SECRET).unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let receive = |stream: &[u8]| {
        let mut command = crate::support::pipe::xbrecv_unprepared(&inside.join("target"));
        command.arg("--identity").arg(dir.path().join("key"));
        crate::support::pipe::on_bytes(command, stream)
    };
    for round in 0..300 {
        let said = receive(&changed(&stream, chunk, round, &mut random));
        assert!(said.status.is_some_and(|s| s != 0), "round {round}: {}", said.words);
        assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 0, "round {round} left something");
    }
    receive(&stream).ok();
}

/// 300 changes of a kind that leaves every chunk what it was, or nearly: none is accepted, and nothing that comes out before
/// the refusal is anything but the start of what was sent.
#[test]
fn chunks_that_are_cut_changed_swapped_or_dropped_are_refused() {
    let mut random = Random::new(seed());
    let plain = pages(&mut random, 9 * 65536 + 1234);
    let stream =
        wrap(LayerOptions { cover: to_recipient(), compression: None }, std::slice::from_ref(&plain));
    let head = stream.len() - (plain.len() + 10 * 16);
    let chunk = |n: usize| head + n * SEALED..(head + (n + 1) * SEALED).min(stream.len());
    let keys = secret(SECRET);
    for round in 0..300 {
        let changed = changed(&stream, chunk, round, &mut random);
        let mut undo_plain = Vec::new();
        let e = refused(&changed, &keys, &mut undo_plain);
        assert!(plain.starts_with(&undo_plain), "round {round}: bytes that nobody sent came out");
        assert!(undo_plain.len() < plain.len(), "round {round}: all came out before {e}");
    }
    assert!(unwrap_all(&stream, &keys).unwrap() == plain);
}

fn refused(bytes: &[u8], keys: &Keys, plain: &mut Vec<u8>) -> CodecError {
    let mut undo = Decoder::new(Layer::Age, keys);
    let mut opener = PieceDecoder::default();
    let mut rest = bytes;
    let mut go = || {
        loop {
            while let Some(piece) = undo.poll(&mut None)? {
                plain.extend_from_slice(&piece.open(&mut opener, Default::default())?);
            }
            if rest.is_empty() {
                break;
            }
            let space = undo.space();
            let n = rest.len().min(space.len()).min(100_000);
            space[..n].copy_from_slice(&rest[..n]);
            undo.filled(n);
            rest = &rest[n..];
        }
        if let Some(piece) = undo.finish()? {
            plain.extend_from_slice(&piece.open(&mut opener, Default::default())?);
        }
        Ok(())
    };
    go().expect_err("a stream that was changed was accepted")
}

#[test]
fn a_stream_that_ends_with_a_full_chunk_can_not_be_cut_there() {
    let plain = vec![7; 3 * 65536];
    let stream =
        wrap(LayerOptions { cover: to_recipient(), compression: None }, std::slice::from_ref(&plain));
    assert!(unwrap_all(&stream, &secret(SECRET)).unwrap() == plain);
    let cut = unwrap_all(&stream[..stream.len() - SEALED], &secret(SECRET)).unwrap_err();
    assert_eq!((&cut, cut.code()), (&CodecError::CutChunks { chunk: 1 }, Code::StreamTruncated));
    // age reads it as well: the last chunk is full, not followed by an empty one.
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), SECRET).unwrap();
    assert!(run("age", &["-d", "-i", key.path().to_str().unwrap()], &stream) == plain);
}

#[test]
fn frames_that_are_damaged_are_refused() {
    let mut random = Random::new(seed());
    let plain = pages(&mut random, 2_500_000);
    for compression in [Compression::Zstd(1), Compression::Lz4] {
        let wraps = LayerOptions { compression: Some(compression), cover: None };
        let stream = wrap(wraps, &[plain[..40_000].to_vec(), plain[40_000..].to_vec()]);
        for round in 0..200 {
            let mut changed = stream.clone();
            let at = 8 + random.below(stream.len() as u64 - 8) as usize;
            if round % 2 == 0 {
                changed.truncate(at);
                // A cut between two frames can't be told here; what is inside says that it was cut.
                match unwrap_one(&changed, &Keys::default(), || usize::MAX) {
                    Ok(start) => assert!(plain.starts_with(&start) && start.len() < plain.len()),
                    Err(e) => assert_eq!(e.code(), Code::StreamTruncated, "{e}"),
                }
            } else {
                changed[at] ^= 1 << random.below(8);
                match unwrap_one(&changed, &Keys::default(), || usize::MAX) {
                    // A byte in the length of a frame of zeros, and the like: not content.
                    Ok(same) => assert!(same == plain, "{compression}: a byte changed at {at} was accepted"),
                    Err(e) => assert_ne!(e.code(), Code::Internal, "{e}"),
                }
            }
        }
    }
}

#[test]
fn a_frame_that_says_little_and_holds_much_is_not_held_in_memory() {
    // 1 GiB of zeros in a few KiB, in one frame of each kind: pieces stay small.
    let zeros = vec![0; 1 << 20];
    let zstd = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        (0..1024).for_each(|_| encoder.write_all(&zeros).unwrap());
        encoder.finish().unwrap()
    };
    let lz4 = run("lz4", &["-1", "-c"], &vec![0; 64 << 20]);
    for (bytes, len) in [(zstd, 1u64 << 30), (lz4, 64 << 20)] {
        assert!(bytes.len() < 1 << 20);
        let mut undo = Decoder::new(Layer::of(&bytes).unwrap(), &Keys::default());
        let mut opener = PieceDecoder::default();
        let (mut rest, mut total) = (&bytes[..], 0);
        while !rest.is_empty() {
            let n = rest.len().min(undo.space().len());
            undo.space()[..n].copy_from_slice(&rest[..n]);
            undo.filled(n);
            rest = &rest[n..];
            while let Some(piece) = undo.poll(&mut None).unwrap() {
                let opened = piece.open(&mut opener, Default::default()).unwrap();
                assert!(opened.len() <= xbpipe::codec::PIECE_MAX);
                total += opened.len() as u64;
            }
        }
        undo.finish().unwrap();
        assert_eq!(total, len);
    }
}

#[test]
fn a_window_that_is_too_large_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&[1; 1000]).unwrap();
    let e = unwrap_one(&encoder.finish().unwrap(), &Keys::default(), || usize::MAX).unwrap_err();
    assert_eq!(e.code(), Code::StreamRefused);
    assert!(e.to_string().contains("window of 268435456 bytes"), "{e}");
}

fn run(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool(program))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_standard_tools_read_what_is_made() {
    let mut random = Random::new(seed());
    let plain = pages(&mut random, 5_000_000);
    let pieces: Vec<_> = plain.chunks(333_333).map(<[u8]>::to_vec).collect();
    let make = |compression| wrap(LayerOptions { compression, cover: None }, &pieces);
    assert!(run("zstd", &["-d", "-c"], &make(Some(Compression::Zstd(1)))) == plain);
    assert!(run("lz4", &["-d", "-c"], &make(Some(Compression::Lz4))) == plain);
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), SECRET).unwrap();
    let wraps = LayerOptions { compression: Some(Compression::Zstd(3)), cover: to_recipient() };
    let inner = run("age", &["-d", "-i", key.path().to_str().unwrap()], &wrap(wraps, &pieces));
    assert!(run("zstd", &["-d", "-c"], &inner) == plain);
}

/// Noise is passed through without compressing it; the frames that hold it are made here, not by the library.
#[test]
fn noise_is_stored_and_costs_next_to_nothing() {
    let noise = crate::support::streams::noise(3_000_001, 9);
    for (compression, program) in [(Compression::Zstd(1), "zstd"), (Compression::Lz4, "lz4")] {
        let stream =
            wrap(LayerOptions { compression: Some(compression), cover: None }, std::slice::from_ref(&noise));
        assert!(stream.len() < noise.len() + noise.len() / 1000, "{} bytes", stream.len());
        assert!(run(program, &["-d", "-c"], &stream) == noise);
        assert!(unwrap_all(&stream, &Keys::default()).unwrap() == noise);
    }
}

#[test]
fn what_the_standard_tools_make_is_read() {
    let mut random = Random::new(seed());
    let plain = pages(&mut random, 9_000_000);
    let none = Keys::default();
    for (program, args) in [
        ("zstd", &["-c", "-T0"][..]),
        ("zstd", &["-c", "-1", "--no-check"]),
        ("zstd", &["-c", "--long=27", "-3"]),
        ("lz4", &["-c"]),
        ("lz4", &["-c", "-BD", "-B4"]),
        ("lz4", &["-c", "-BX", "-B5", "--no-frame-crc"]),
    ] {
        let mut stream = run(program, args, &plain);
        // Frames to be skipped, before, between and behind.
        let skipped = [&[0x5A, 0x2A, 0x4D, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
        stream.extend_from_slice(&skipped);
        stream.extend(run(program, args, b"and more"));
        stream.extend_from_slice(&skipped);
        let expected = [&plain[..], b"and more"].concat();
        for step in [usize::MAX, 7_777] {
            assert!(unwrap_one(&stream, &none, || step).unwrap() == expected, "{program} {args:?}");
        }
        let e = unwrap_one(&[&stream[..], b"tail"].concat(), &none, || usize::MAX).unwrap_err();
        assert_eq!(e.code(), Code::StreamCorrupt, "{e}");
    }
    let encrypted = run("age", &["-r", RECIPIENT], &plain);
    assert!(unwrap_all(&encrypted, &secret(SECRET)).unwrap() == plain);
    let empty = run("age", &["-r", RECIPIENT], b"");
    assert!(unwrap_all(&empty, &secret(SECRET)).unwrap().is_empty());
}
