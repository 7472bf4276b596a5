//! A stream that is not byte for byte what the sender wrote is not taken.

use proptest::prelude::*;
use xbpipe::base::Code;

use crate::stream::packer::small_stream;
use crate::stream::receiver::{Taken, receive};

fn whole() -> (Vec<u8>, Taken) {
    let stream = small_stream().concat();
    let taken = receive(&stream, usize::MAX).unwrap();
    (stream, taken)
}

/// What a receiver says of `stream`, the same for every size of reads.
fn verdict(stream: &[u8]) -> Result<Taken, Code> {
    let at_once = receive(stream, usize::MAX).map_err(|e| e.code);
    assert_eq!(receive(stream, 1).map_err(|e| e.code), at_once);
    at_once
}

#[test]
fn the_size_of_reads_does_not_matter() {
    let (stream, taken) = whole();
    assert_eq!(taken.members.len(), 5);
    for step in 1..stream.len() {
        assert_eq!(receive(&stream, step).unwrap(), taken, "{step}");
    }
}

#[test]
fn every_cut_is_refused() {
    let (stream, _) = whole();
    for cut in 0..stream.len() {
        let code = verdict(&stream[..cut]).unwrap_err();
        assert!(matches!(code, Code::StreamTruncated | Code::NoManifest), "{cut}: {code:?}");
    }
}

#[test]
fn a_cut_at_a_frame_is_refused() {
    let frames = small_stream();
    for cut in 0..frames.len() {
        let code = verdict(&frames[..cut].concat()).unwrap_err();
        assert!(matches!(code, Code::StreamTruncated | Code::NoManifest), "{cut}: {code:?}");
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let (mut stream, _) = whole();
    for at in 0..stream.len() {
        for mask in [1, 2, 4, 8, 16, 32, 64, 128, 0xff] {
            stream[at] ^= mask;
            assert!(receive(&stream, usize::MAX).is_err(), "byte {at} with {mask:#04x}");
            stream[at] ^= mask;
        }
    }
}

#[test]
fn every_lost_or_doubled_byte_is_refused() {
    let (stream, _) = whole();
    for at in 0..stream.len() {
        let lost = [&stream[..at], &stream[at + 1..]].concat();
        assert!(receive(&lost, usize::MAX).is_err(), "{at}");
        let doubled = [&stream[..=at], &stream[at..]].concat();
        assert!(receive(&doubled, usize::MAX).is_err(), "{at}");
    }
}

#[test]
fn every_lost_or_doubled_frame_is_refused() {
    let frames = small_stream();
    for at in 0..frames.len() {
        let mut lost = frames.clone();
        lost.remove(at);
        verdict(&lost.concat()).unwrap_err();
        let mut doubled = frames.clone();
        doubled.insert(at, frames[at].clone());
        verdict(&doubled.concat()).unwrap_err();
    }
}

#[test]
fn frames_in_another_order_give_the_same_or_nothing() {
    let (_, taken) = whole();
    let frames = small_stream();
    let mut same = 0;
    for a in 0..frames.len() {
        for b in 0..a {
            let mut swapped = frames.clone();
            swapped.swap(a, b);
            if let Ok(other) = verdict(&swapped.concat()) {
                assert_eq!(other, taken, "{a} {b}");
                same += 1;
            }
        }
    }
    // Frames of different members may come in either order: some swaps are harmless.
    assert!(same > 0);
}

#[test]
fn nothing_follows_the_manifest() {
    let frames = small_stream();
    for frame in &frames {
        verdict(&[frames.concat(), frame.clone()].concat()).unwrap_err();
    }
    verdict(&[frames.concat(), b"\n".to_vec()].concat()).unwrap_err();
}

#[test]
fn two_streams_in_a_row_are_refused() {
    let (stream, _) = whole();
    verdict(&[&stream[..], &stream[..]].concat()).unwrap_err();
}

proptest! {
    #[test]
    fn random_damage_is_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let (stream, _) = whole();
        let mut damaged = stream.clone();
        for (at, byte, kind) in edits {
            let at = at.index(damaged.len());
            match kind {
                0 => damaged[at] = byte,
                1 => damaged.insert(at, byte),
                _ => { damaged.remove(at); }
            }
        }
        prop_assume!(damaged != stream);
        prop_assert!(verdict(&damaged).is_err());
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(verdict(&noise).is_err());
    }

    /// Frames with random fields behind a good magic: reaches every check behind it.
    #[test]
    fn noisy_frames_are_refused(
        frames in prop::collection::vec(
            (prop::sample::select(b"PSEQ\0".to_vec()), "[a./]{0,4}", prop::collection::vec(0..4u8, 0..60)),
            1..6,
        ),
    ) {
        let mut stream = Vec::new();
        for (kind, path, fields) in frames {
            stream.extend_from_slice(b"XBSTCK01\0");
            stream.push(kind);
            stream.extend_from_slice(&(path.len() as u32).to_le_bytes());
            stream.extend_from_slice(path.as_bytes());
            if kind != b'E' {
                stream.extend_from_slice(&fields);
            }
        }
        prop_assert!(verdict(&stream).is_err());
    }
}
