//! Streams that were cut, damaged or made with bad intent: none is accepted, and the target stays as it was.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::pipe::{Said, on_bytes, xbrecv_unprepared};
use crate::support::streams::{CNF, member, noise, tablespace};
use crate::support::{Random, StreamMaker, seed};
use xbpipe::base::SpaceId;
use xbpipe::stream::Extent;
use xbpipe::stream::digest::BLOCK;
use xbpipe::stream::frame::{EXTENTS_MAX, MAGIC, end_frame, payload_frame, sparse_crc, sparse_header};
use xbpipe::stream::manifest::MANIFEST;

/// How many random places are tried.
const PLACES: usize = 500;

/// A folder with a target in it that does not exist yet, or is empty.
struct Place {
    dir: tempfile::TempDir,
    exists: bool,
}

impl Place {
    fn new(exists: bool) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), exists };
        if exists {
            fs::create_dir(place.target()).unwrap();
        }
        place
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn receive(&self, stream: &[u8]) -> Said {
        on_bytes(xbrecv_unprepared(&self.target()), stream)
    }

    /// Nothing is there that was not there before.
    #[track_caller]
    fn is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, if self.exists { vec!["target"] } else { vec![] });
        if self.exists {
            assert_eq!(fs::read_dir(self.target()).unwrap().count(), 0);
        }
    }
}

fn whole() -> StreamMaker {
    StreamMaker::small().finish()
}

/// Every member is there, byte for byte; the redo, which has moved, apart.
fn assert_received(stream: &StreamMaker, target: &Path) {
    for (name, content) in stream.contents.iter().filter(|(name, _)| *name != "xtrabackup_logfile") {
        assert!(fs::read(target.join(name)).unwrap() == *content, "{name}");
    }
    assert!(target.join("#innodb_redo/#ib_redo0").is_file() && !target.join("xtrabackup_logfile").exists());
}

#[test]
fn the_whole_stream_is_accepted() {
    for exists in [false, true] {
        let place = Place::new(exists);
        let stream = whole();
        place.receive(&stream.bytes).ok().says("the copy stands in");
        assert_received(&stream, &place.target());
        assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new(false);
    let stream = whole();
    place.receive(&stream.bytes).ok();
    let meta = fs::metadata(place.target().join("db/holes.ibd")).unwrap();
    assert!(
        meta.blocks() * 512 < meta.len() / 10,
        "{} of {} bytes take room",
        meta.blocks() * 512,
        meta.len()
    );
}

#[test]
fn a_cut_stream_is_refused_wherever_it_is_cut() {
    let stream = whole();
    let mut random = Random::new(seed());
    let mut cuts = stream.borders.clone();
    cuts.extend((0..PLACES).map(|_| random.below(stream.bytes.len() as u64) as usize));
    cuts.push(stream.bytes.len() - 1);
    for (n, cut) in cuts.into_iter().enumerate() {
        let place = Place::new(n % 2 == 0);
        let said = place.receive(&stream.bytes[..cut]);
        assert!(said.status.is_some_and(|s| s != 0), "cut at {cut}: {}", said.words);
        place.is_untouched();
    }
}

#[test]
fn a_stream_without_its_manifest_is_taken_only_when_asked_for() {
    let place = Place::new(true);
    let stream = StreamMaker::small();
    place.receive(&stream.bytes).failed("no-manifest").says("--allow-no-manifest");
    place.is_untouched();
    let mut command = xbrecv_unprepared(&place.target());
    command.arg("--allow-no-manifest");
    on_bytes(command, &stream.bytes).ok();
    assert_received(&stream, &place.target());
}

/// Their tables would be missing from the copy.
#[test]
fn members_that_only_other_tools_understand_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for suffix in ["zst", "lz4", "qp", "xbcrypt", "delta", "meta", "new", "ren", "del", "crpt"] {
        let mut stream = StreamMaker::small();
        stream.add(&format!("db/other.ibd.{suffix}"), b"content");
        let mut command = xbrecv_unprepared(&dir.path().join("t"));
        command.arg("--allow-no-manifest");
        on_bytes(command, &stream.bytes).failed("unsupported-server").says(suffix).says("hint:");
        assert!(!dir.path().join("t").exists());
    }
}

#[test]
fn any_flipped_byte_is_found() {
    let stream = whole();
    let mut random = Random::new(seed());
    // Frames' heads, where no checksum covers the bytes, and any place.
    let mut places: Vec<_> = (0..PLACES).map(|_| random.below(stream.bytes.len() as u64) as usize).collect();
    places.extend(stream.borders.iter().flat_map(|b| (0..40).map(move |n| b + n)));
    for (n, at) in places.into_iter().filter(|at| *at < stream.bytes.len()).enumerate() {
        let place = Place::new(n % 2 == 0);
        let mut bytes = stream.bytes.clone();
        bytes[at] ^= 1 << random.below(8);
        let said = place.receive(&bytes);
        assert!(said.status.is_some_and(|s| s != 0), "flipped at {at}: {}", said.words);
        place.is_untouched();
    }
}

/// A frame of a member whose name could not be made with [`member`].
fn named(name: &[u8], kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    frame.extend([0, kind]);
    frame.extend((name.len() as u32).to_le_bytes());
    frame.extend_from_slice(name);
    frame.extend_from_slice(rest);
    frame
}

fn payload(len: u64, offset: u64, crc: u32, bytes: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes()[..], &offset.to_le_bytes(), &crc.to_le_bytes(), bytes].concat()
}

fn refused(what: &str, bytes: &[u8], code: &str) {
    for exists in [false, true] {
        let place = Place::new(exists);
        let said = place.receive(bytes);
        assert!(said.words.contains(&format!("error[{code}]")), "{what}: expected {code}:\n{}", said.words);
        said.failed(code);
        place.is_untouched();
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    let long_component = "c".repeat(256);
    let long_name = ["d".repeat(200), "e".repeat(200), "f".repeat(200)].join("/");
    let names: [&[u8]; 14] = [
        b"/etc/xbrecv-was-here",
        b"../out",
        b"a/../../out",
        b"..",
        b".",
        b"./",
        b"",
        b"a//b",
        b"a/",
        b"a\0b",
        b"a\\..\\b",
        b"\xFF\xFE",
        long_component.as_bytes(),
        long_name.as_bytes(),
    ];
    for name in names {
        let bytes = payload_frame(&member("x"), 0, b"abc");
        let frame = named(name, b'P', &bytes[MAGIC.len() + 1 + 1 + 4 + 1..]);
        let what = String::from_utf8_lossy(name);
        refused(&what, &[StreamMaker::small().bytes, frame].concat(), "stream-refused");
    }
    assert!(!Path::new("/etc/xbrecv-was-here").exists());
}

#[test]
fn lengths_that_can_not_be_are_refused() {
    let after = |frame: Vec<u8>| [StreamMaker::small().bytes, frame].concat();
    for len in [u64::MAX, u64::MAX - 4, 1 << 63, 1 << 32, 129 << 20] {
        let frame = named(b"x", b'P', &payload(len, 0, 0, b"abc"));
        refused(&format!("payload of {len}"), &after(frame), "stream-refused");
    }
    for offset in [u64::MAX, 1 << 63, 1] {
        let frame = named(b"x", b'P', &payload(3, offset, 0, b"abc"));
        refused(&format!("offset {offset}"), &after(frame), "stream-corrupt");
    }
    let mut huge_name = named(b"", b'P', &payload(3, 0, 0, b"abc"));
    huge_name[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    refused("name of 4 GiB", &after(huge_name), "stream-refused");
    let entries = [&u32::MAX.to_le_bytes()[..], &payload(3, 0, 0, b"abc")].concat();
    refused("map of 32 GiB", &after(named(b"x", b'S', &entries)), "stream-refused");
}

#[test]
fn holes_without_end_are_refused() {
    // 2^48 bytes of holes, behind a hole of a megabyte.
    let small = [Extent { skip: 1 << 20, len: 0 }];
    let huge = vec![Extent { skip: u32::MAX, len: 0 }; EXTENTS_MAX];
    let mut bytes = StreamMaker::small().bytes;
    bytes.extend(sparse_header(&member("x"), 0, sparse_crc(&small, []), &small, 0));
    bytes.extend(sparse_header(&member("x"), 1 << 20, sparse_crc(&huge, []), &huge, 0));
    let place = Place::new(false);
    place.receive(&bytes).failed("stream-refused");
    place.is_untouched();
}

#[test]
fn members_that_contradict_each_other_are_refused() {
    let after = |frames: &[Vec<u8>]| [StreamMaker::small().bytes, frames.concat()].concat();
    let chunk = |name: &str, offset, bytes: &[u8]| payload_frame(&member(name), offset, bytes);
    let end = |name: &str| end_frame(&member(name));
    refused("twice", &after(&[chunk("ibdata1", 0, b"x"), end("ibdata1")]), "stream-refused");
    refused("ended twice", &after(&[end("ibdata1")]), "stream-refused");
    refused("overlap", &after(&[chunk("x", 0, b"abc"), chunk("x", 2, b"abc")]), "stream-corrupt");
    refused("gap", &after(&[chunk("x", 0, b"abc"), chunk("x", 4, b"abc")]), "stream-corrupt");
    refused("never ended", &after(&[chunk("x", 0, b"abc")]), "stream-truncated");
    refused("file and folder", &after(&[chunk("ibdata1/x", 0, b"abc")]), "stream-refused");
    refused("folder and file", &after(&[chunk("db", 0, b"abc")]), "stream-refused");
    refused("type", &after(&[named(b"x", b'X', b"")]), "stream-corrupt");
    let mut flagged = end("x");
    flagged[8] = 1;
    refused("flags", &after(&[flagged]), "stream-corrupt");
    refused("no frame", &after(&[b"garbage that is no frame at all".to_vec()]), "stream-corrupt");
}

#[test]
fn the_manifest_is_the_end_and_must_fit() {
    let small = StreamMaker::small();
    let mut followed = small.finish();
    followed.chunk("late", 0, b"x");
    refused("chunk behind", &followed.bytes, "stream-refused");
    let mut followed = small.finish();
    followed.frame(end_frame(&member("late")));
    refused("end behind", &followed.bytes, "stream-refused");
    refused("bytes behind", &[small.finish().bytes, b"XBSTCK".to_vec()].concat(), "stream-truncated");

    let changed = |change: &dyn Fn(&mut StreamMaker)| {
        let mut other = small.clone();
        change(&mut other);
        small.finish_with(&other.manifest().encode()).bytes
    };
    refused(
        "member missing",
        &changed(&|s| {
            let more = s.members[0].clone();
            s.members.push(xbpipe::stream::ManifestMember { name: member("gone.MYD"), ..more });
        }),
        "manifest-mismatch",
    );
    refused("member extra", &changed(&|s| drop(s.members.pop())), "manifest-mismatch");
    refused("size", &changed(&|s| s.members[1].size += 1), "manifest-mismatch");
    refused("digest", &changed(&|s| s.members[1].digest = s.members[0].digest), "manifest-mismatch");
    for text in ["", "{}", "[", "null", "{\"format\":2}"] {
        let place = Place::new(false);
        let said = place.receive(&small.finish_with(text.as_bytes()).bytes);
        assert!(said.status.is_some_and(|s| s != 0), "{text}: {}", said.words);
        place.is_untouched();
    }
    // Another end of redo than elsewhere in the stream.
    let mut manifest = small.manifest();
    manifest.end_lsn = manifest.end_lsn.plus(1);
    refused("end", &small.finish_with(&manifest.encode()).bytes, "manifest-mismatch");
    let mut twice = small.finish();
    twice.chunk(MANIFEST, 0, b"{}");
    refused("manifest twice", &twice.bytes, "stream-refused");
}

#[test]
fn chunks_that_are_no_blocks_have_no_digest() {
    let mut stream = StreamMaker::small();
    let content = noise(BLOCK, 9);
    let (first, second) = content.split_at(1000);
    stream.chunk("odd.MYD", 0, first).chunk("odd.MYD", 1000, second).end("odd.MYD", &content);
    refused("a short block that goes on", &stream.finish().bytes, "stream-refused");
    // Without a manifest there is nothing to compare with.
    let place = Place::new(false);
    let mut command = xbrecv_unprepared(&place.target());
    command.arg("--allow-no-manifest");
    on_bytes(command, &stream.bytes).ok();
    assert_received(&stream, &place.target());
}

#[test]
fn members_in_the_redo_folder_are_refused() {
    let mut stream = StreamMaker::small();
    stream.add("#innodb_redo/#ib_redo0", b"x");
    refused("redo folder", &stream.finish().bytes, "stream-refused");
}

#[test]
fn streams_in_a_wrapping_are_named() {
    let wrapped: [(&[u8], &str); 5] = [
        (b"age-encryption.org/v1\n-> X25519 abcdefgh", "the age stream ends"),
        (b"\x28\xB5\x2F\xFD\x04\x58\x61\x00\x00\x00\x00\x00", "zstd"),
        (b"\x04\x22\x4D\x18\x64\x40\xA7\x00\x00\x00\x00\x00", "lz4"),
        (b"CREATE TABLE t (id int);", "no xbstream"),
        (b"", "nothing came"),
    ];
    for (bytes, words) in wrapped {
        let place = Place::new(true);
        let said = place.receive(bytes).says(words);
        assert_eq!(said.status, Some(1));
        place.is_untouched();
    }
}

#[test]
fn files_outside_are_refused_before_any_data_lands() {
    let mut stream = StreamMaker::new();
    stream.add("backup-my.cnf", CNF.as_bytes());
    let list = r#"{"version":2,"external_tablespaces":[{"file_name":"/ext/db/t.ibd","tablespace_name":"db/t","tablespace_type":"TABLESPACE"}]}"#;
    stream.add("xtrabackup_tablespaces", list.as_bytes());
    let place = Place::new(false);
    // The rest never comes: it is not needed for this.
    place.receive(&stream.bytes).failed("unmapped").says("/ext/db/t.ibd").says("--map /ext=NEW");
    place.is_untouched();

    let mut whole = StreamMaker::small();
    whole.add("xtrabackup_tablespaces", list.as_bytes()).add("db/t.ibd", &tablespace(SpaceId(12), 3));
    let whole = whole.finish();
    let place = Place::new(false);
    let outside = place.dir.path().join("outside");
    let mut command = xbrecv_unprepared(&place.target());
    command.arg(format!("--map=/ext={}", outside.display()));
    on_bytes(command, &whole.bytes).ok();
    assert!(outside.join("db/t.ibd").is_file() && !place.target().join("db/t.ibd").exists());

    // A copy that fails late leaves nothing outside either.
    let place = Place::new(false);
    let outside = place.dir.path().join("outside");
    let mut command = xbrecv_unprepared(&place.target());
    command.arg(format!("--map=/ext={}", outside.display()));
    on_bytes(command, &whole.bytes[..whole.bytes.len() - 1]).failed("stream-truncated");
    place.is_untouched();
}

#[test]
fn verifying_writes_nothing_and_finds_the_same() {
    let stream = whole();
    let verify = |bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["--progress=none", "--verify-only"]).current_dir(dir.path());
        command.stderr(std::process::Stdio::piped());
        let said = on_bytes(command, bytes);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        said
    };
    verify(&stream.bytes).ok().says("the stream is whole");
    verify(&stream.bytes[..stream.bytes.len() - 1]).failed("stream-truncated");
    verify(&StreamMaker::small().bytes).failed("no-manifest");
    let mut flipped = stream.bytes.clone();
    flipped[stream.borders[3] + 500] ^= 1;
    assert_eq!(verify(&flipped).status, Some(1));
}
