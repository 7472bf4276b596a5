//! Small streams that ask for much memory or time: refused with the reason, below 512 MiB, in seconds.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::StreamMaker;
use crate::support::measured::{Measured, on};
use crate::support::pipe::{Said, said};
use crate::support::streams::{
    SINGLE_RECORD, compressed, member, noise, record, redo_of, single, tablespace,
};
use xbpipe::base::SpaceId;
use xbpipe::innodb::page::{SpaceFlags, build_page0, checksum};
use xbpipe::innodb::redo::Kind;
use xbpipe::stream::Extent;
use xbpipe::stream::digest::BLOCK;
use xbpipe::stream::frame::{
    EXTENTS_MAX, end_frame, payload_crc, payload_frame, payload_header, sparse_crc, sparse_header,
};
use xbpipe::stream::manifest::{MANIFEST, Manifest, ManifestMember};

/// What a receiver may take, whatever is sent.
const PEAK_MAX: u64 = 512 << 20;
/// More than it takes on a machine that is busy.
const TIME_MAX: Duration = Duration::from_secs(60);
const PAGE_LEN: usize = 16 << 10;

/// Limits.
trait Bounded {
    fn bounded(self) -> Said;
}

impl Bounded for Measured {
    /// Panics unless it ended within the limits.
    #[track_caller]
    fn bounded(self) -> Said {
        eprintln!("peak {} MiB, {:?}", self.peak >> 20, self.time);
        assert!(self.peak <= PEAK_MAX, "{} MiB\n{}", self.peak >> 20, self.said.words);
        assert!(self.time <= TIME_MAX, "{:?}\n{}", self.time, self.said.words);
        assert!(self.said.status.is_some_and(|s| s <= 2), "{:?}", self.said);
        assert!(!self.said.words.contains("panicked"), "{}", self.said.words);
        assert!(self.said.words.len() < 10_000, "{} bytes of words", self.said.words.len());
        self.said
    }
}

/// `xbrecv` with eight threads and the memory that is its most by default.
fn xbrecv() -> Command {
    xbrecv_with("512M")
}

fn xbrecv_with(memory: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--progress=none", "--parallel=8", "--use-memory", memory]).stderr(Stdio::piped());
    command
}

fn verify() -> Command {
    let mut command = xbrecv();
    command.args(["--verify-only", "--allow-no-manifest"]);
    command
}

fn into(target: &Path, options: &[&str]) -> Command {
    let mut command = xbrecv();
    command.args(options).arg(target);
    command
}

fn on_stream(command: Command, stream: &StreamMaker) -> Measured {
    on(command, |out| out.write_all(&stream.bytes))
}

fn end(out: &mut dyn Write, name: &str) -> std::io::Result<()> {
    out.write_all(&end_frame(&member(name)))
}

/// A member of one byte again and again, in chunks of a block.
fn long_member(out: &mut dyn Write, name: &str, byte: u8, len: usize) -> std::io::Result<()> {
    let block = vec![byte; BLOCK];
    for at in (0..len).step_by(BLOCK) {
        out.write_all(&payload_frame(&member(name), at as u64, &block[..BLOCK.min(len - at)]))?;
    }
    end(out, name)
}

/// A stream whose redo has these groups.
fn with_redo(groups: &[Vec<u8>]) -> StreamMaker {
    backup(groups)
}

/// Records as groups of their own, many of them in one so that making a log is cheap.
fn prepared_and_not(stream: &StreamMaker, check: impl Fn(Said)) {
    for how in ["--prepare=native", "--prepare=none"] {
        let dir = tempfile::tempdir().unwrap();
        check(on_stream(into(&dir.path().join("t"), &[how]), stream).bounded());
    }
}

#[test]
fn a_passphrase_that_is_hardened_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passphrase");
    std::fs::write(&file, "secret").unwrap();
    for (factor, memory, refused) in
        [(22, "512M", true), (19, "512M", true), (19, "1G", false), (64, "9G", true)]
    {
        let head = format!(
            "age-encryption.org/v1\n-> scrypt {} {factor}\n{}\n--- {}\n",
            "A".repeat(22),
            "A".repeat(43),
            "A".repeat(43)
        );
        let mut command = xbrecv_with(memory);
        command.args(["--verify-only", "--passphrase-file"]).arg(&file);
        let measured = on(command, |out| {
            out.write_all(head.as_bytes())?;
            out.write_all(&noise(500, 1))
        });
        match refused {
            true => {
                measured.bounded().failed("too-large").says("work factor").says("--use-memory");
            }
            false => drop(measured.said.failed("wrong-key")),
        }
    }
}

#[test]
fn very_many_members_are_refused() {
    let flood =
        |out: &mut dyn Write| (0..1_200_000).try_for_each(|n| end(out, &format!("db{}/{n}.ibd", n % 7)));
    on(verify(), flood).bounded().failed("too-large").says("the list of members").says("--use-memory");
    let dir = tempfile::tempdir().unwrap();
    on(into(&dir.path().join("t"), &["--allow-no-manifest"]), flood).bounded().failed("too-large");
    // Fewer, with the longest names.
    let long = |out: &mut dyn Write| {
        (0..1_000_000).try_for_each(|n| end(out, &format!("{}/{n:0>200}.ibd", "d".repeat(250))))
    };
    on(verify(), long).bounded().failed("too-large");
}

#[test]
fn as_many_members_as_are_let_in_stay_within_bounds() {
    let mut stream = StreamMaker::small();
    for n in 0..120_000 {
        stream.add(&format!("database/table_{n}.MYD"), b"x");
    }
    let mut command = xbrecv();
    command.arg("--verify-only");
    on_stream(command, &stream.finish()).bounded().ok();
}

/// Fails with one of these codes, and not by a panic or a signal.
fn failed_as(said: &Said, codes: &[&str]) {
    let has = |code: &&str| said.words.contains(&format!("error[{code}]"));
    assert!(
        said.status.is_some_and(|s| s != 0) && codes.iter().any(has),
        "{:?}: {}",
        said.status,
        said.words
    );
}

#[test]
fn long_texts_are_refused_and_not_quoted() {
    for (name, line) in [
        ("xtrabackup_info", "x".repeat(60 << 20)),
        ("xtrabackup_info", "x".repeat(10 << 20)),
        ("backup-my.cnf", format!("[mysqld]\n{}", "é".repeat(5 << 20))),
        ("backup-my.cnf", format!("[mysqld]\n{}", "a\nbc\n".repeat(5 << 20))),
        ("xtrabackup_checkpoints", format!("backup_type = {}", "\u{1}".repeat(9 << 20))),
        ("xtrabackup_binlog_info", "\u{202e}".repeat(4 << 20)),
        ("xtrabackup_tablespaces", format!("{{\"version\":\"{}\"}}", "x".repeat(9 << 20))),
        ("xtrabackup_tablespaces", "[".repeat(9 << 20)),
    ] {
        let mut stream = StreamMaker::new();
        stream.add(name, line.as_bytes());
        stream.add_redo();
        let dir = tempfile::tempdir().unwrap();
        let said = on_stream(into(&dir.path().join("t"), &["--allow-no-manifest"]), &stream).bounded();
        failed_as(&said, &["stream-corrupt", "too-large"]);
    }
}

#[test]
fn a_manifest_without_end_is_refused() {
    let huge = |out: &mut dyn Write| {
        out.write_all(&payload_frame(&member("a"), 0, b"x"))?;
        end(out, "a")?;
        long_member(out, MANIFEST, b' ', 250 << 20)
    };
    let mut command = xbrecv();
    command.arg("--verify-only");
    on(command, huge).bounded().failed("too-large");
    // One that lists what never came.
    let mut stream = StreamMaker::new();
    stream.add("a", b"x");
    let one = stream.members[0].clone();
    let mut manifest = stream.manifest();
    manifest.members =
        (0..400_000).map(|n| ManifestMember { name: member(&format!("t{n}")), ..one.clone() }).collect();
    let whole = stream.finish_with(b"");
    let text = manifest.encode();
    let listed = |out: &mut dyn Write| {
        let body = &whole.bytes[..whole.borders[2]];
        out.write_all(body)?;
        for (n, part) in text.chunks(BLOCK).enumerate() {
            out.write_all(&payload_frame(&member(MANIFEST), (n * BLOCK) as u64, part))?;
        }
        end(out, MANIFEST)
    };
    let mut command = xbrecv();
    command.arg("--verify-only");
    failed_as(&on(command, listed).bounded(), &["corrupt-redo", "too-large"]);
}

#[test]
fn one_group_of_very_many_records_is_refused() {
    let end = [Kind::MultiRecEnd as u8];
    let loads: Vec<u8> = record(Kind::IndexLoad, 5, 4, &[7; 8]).repeat(5_000_000);
    let meta = |n: u32| [&[Kind::TableDynamicMeta as u8][..], &compressed(n), &[0, 2, 1]].concat();
    let metas: Vec<u8> = (0..3_000_000).flat_map(meta).collect();
    let extends =
        record(Kind::FileExtend, 5, 0, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).repeat(2_000_000);
    let inits: Vec<u8> = (0..9_000_000).flat_map(|n| record(Kind::InitFilePage2, 5, n, &[])).collect();
    for group in [loads, metas, extends, inits] {
        let stream = with_redo(&[[&group[..], &end].concat()]);
        prepared_and_not(&stream, |said| failed_as(&said, &["corrupt-redo", "too-large"]));
    }
}

#[test]
fn what_redo_says_of_files_is_bounded() {
    let path = |n: u32| format!("./database_with_a_name/{n}.ibd\0");
    let create = |n: u32| {
        let path = path(n);
        let body = [&[0, 0, 0, 0x21][..], &(path.len() as u16).to_be_bytes(), path.as_bytes()].concat();
        single(Kind::FileCreate, n, 0, &body)
    };
    let delete = |n: u32| {
        let path = path(n);
        let body = [&(path.len() as u16).to_be_bytes()[..], path.as_bytes()].concat();
        single(Kind::FileDelete, n, 0, &body)
    };
    let groups: Vec<Vec<u8>> = (10..1_500_010).map(create).collect();
    prepared_and_not(&with_redo(&groups), |said| drop(said.failed("too-large")));
    let groups: Vec<Vec<u8>> = (10..1_500_010).map(delete).collect();
    prepared_and_not(&with_redo(&groups), |said| drop(said.failed("too-large")));
    let meta =
        |n: u32| [&[Kind::TableDynamicMeta as u8 | SINGLE_RECORD][..], &compressed(n), &[0, 2, 1]].concat();
    let groups: Vec<Vec<u8>> = (0..3_000_000).map(meta).collect();
    prepared(&with_redo(&groups)).failed("too-large");
}

/// A tablespace file of so many pages of 16 KiB with a sound page 0.
fn space(id: u32, pages: u32) -> Vec<u8> {
    let mut bytes = build_page0(SpaceId(id), SpaceFlags(if id == 0 { 0 } else { 0x21 }), pages).unwrap();
    bytes.resize(pages as usize * PAGE_LEN, 0);
    bytes
}

/// The tablespaces that no server starts without.
fn add_required(stream: &mut StreamMaker) {
    stream.add_sparse("ibdata1", &space(0, 768));
    stream.add("mysql.ibd", &tablespace(SpaceId::DICTIONARY, 2));
    stream.add("undo_001", &tablespace(SpaceId(0xFFFF_FFEF), 2));
    stream.add("undo_002", &tablespace(SpaceId(0xFFFF_FFEE), 2));
}

/// A backup of a system tablespace and a table with id 5, and redo of these groups.
fn backup(groups: &[Vec<u8>]) -> StreamMaker {
    let mut stream = StreamMaker::new();
    stream.add(
        "backup-my.cnf",
        b"[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:12M:autoextend\nlog_bin=binlog\n",
    );
    add_required(&mut stream);
    stream.add_sparse("d/t.ibd", &space(5, 7));
    let (redo, end) = redo_of(groups);
    stream.add("xtrabackup_logfile", &redo);
    stream.add_positions(end);
    let manifest = Manifest { end_lsn: end, ..stream.manifest() };
    stream.finish_with(&manifest.encode())
}

/// What preparing natively makes of it.
fn prepared(stream: &StreamMaker) -> Said {
    let dir = tempfile::tempdir().unwrap();
    on_stream(into(&dir.path().join("t"), &[]), stream).bounded()
}

#[test]
fn pages_far_behind_the_end_cost_little() {
    // Of 400,000 pages in as many stretches, each a byte; and one after the other.
    for step in [64, 1] {
        let far = |n: u32| single(Kind::InitFilePage2, 5, 1000 + n * step, &[]);
        let groups: Vec<Vec<u8>> = (0..400_000).map(far).collect();
        prepared(&backup(&groups)).failed("corrupt-redo").says("behind the end");
    }
}

#[test]
fn a_page_with_all_the_redo_takes_no_more_than_others() {
    let hot = single(Kind::Write1, 5, 3, &[0, 60, 7]);
    let cold = single(Kind::Write1, 5, 1, &[0, 61, 7]);
    let mut groups = vec![single(Kind::InitFilePage2, 5, 1, &[]), single(Kind::InitFilePage2, 5, 3, &[])];
    // Many in a group: making the log is cheaper.
    let mut group = [hot[0] & !SINGLE_RECORD].to_vec();
    group.extend_from_slice(&hot[1..]);
    let group = [group.repeat(10_000), vec![Kind::MultiRecEnd as u8]].concat();
    for _ in 0..2000 {
        groups.push(group.clone());
        groups.push(cold.clone());
    }
    prepared(&backup(&groups)).ok();
}

#[test]
fn index_descriptions_without_end_are_not_kept() {
    // Each of another index, with very many fields.
    let describe = |n: u32| {
        let mut info = vec![1, 1, 3, 0xFF, 3, 0xFF];
        info.extend((0..1023u32).flat_map(|field| ((field * 7 + n) as u16 & 0x7FF | 1).to_be_bytes()));
        info
    };
    let delete = |n: u32| single(Kind::RecDelete, 5, 3, &[&describe(n)[..], &[0, 120]].concat());
    let groups: Vec<Vec<u8>> = (0..40_000).map(delete).collect();
    failed_as(&prepared(&backup(&groups)), &["corrupt-redo", "too-large"]);
}

/// A frame whose map has these holes and data.
fn sparse(name: &str, offset: u64, map: &[Extent], payload: &[u8]) -> Vec<u8> {
    let crc = sparse_crc(map, [payload]);
    [&sparse_header(&member(name), offset, crc, map, payload.len())[..], payload].concat()
}

#[test]
fn the_longest_holes_cost_nothing() {
    let longest = vec![Extent { skip: u32::MAX, len: 0 }; EXTENTS_MAX];
    for name in ["d/t.ibd", "xtrabackup_logfile", "d/t.MYD"] {
        let frames = [sparse(name, 0, &longest, b""), end_frame(&member(name))].concat();
        let dir = tempfile::tempdir().unwrap();
        for command in [verify(), into(&dir.path().join("t"), &["--allow-no-manifest"])] {
            let measured = on(command, |out| out.write_all(&frames));
            assert!(measured.time < Duration::from_secs(5), "{name}: {:?}", measured.time);
            let said = measured.bounded();
            assert!(!said.words.contains("disk-full"), "{}", said.words);
        }
    }
    // An undo tablespace of 8 TiB of nothing: it is looked through for transactions.
    let mut stream = StreamMaker::new();
    stream.add(
        "backup-my.cnf",
        b"[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:12M:autoextend\n",
    );
    stream.add_sparse("ibdata1", &space(0, 768));
    let undo = build_page0(SpaceId(0xFFFF_FFEF), SpaceFlags(0), 64).unwrap();
    let map = vec![Extent { skip: u32::MAX, len: 0 }; 2048];
    stream.frame(payload_frame(&member("undo_001"), 0, &undo));
    stream.frame(sparse("undo_001", undo.len() as u64, &map, b""));
    stream.frame(end_frame(&member("undo_001")));
    stream.add_redo();
    let dir = tempfile::tempdir().unwrap();
    let measured = on_stream(into(&dir.path().join("t"), &["--allow-no-manifest"]), &stream);
    assert!(measured.time < Duration::from_secs(20), "{:?}", measured.time);
    measured.bounded();
}

#[test]
fn chunks_of_very_many_or_very_long_pieces_stay_within_bounds() {
    // Pages of a few bytes each, and redo for each of them before.
    let touch = |page: u32| single(Kind::WriteString, 5, page, &[0, 60, 0, 1, 7]);
    let groups: Vec<Vec<u8>> = (1..60_000).map(touch).collect();
    let mut stream = StreamMaker::new();
    stream.add(
        "backup-my.cnf",
        b"[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:12M:autoextend\n",
    );
    stream.add("xtrabackup_logfile", &redo_of(&groups).0);
    let mut page = vec![0; PAGE_LEN];
    let (mut map, mut payload) = (vec![], build_page0(SpaceId(5), SpaceFlags(0x21), 60_000).unwrap());
    map.push(Extent { skip: 0, len: payload.len() as u32 });
    for number in 1..60_000u32 {
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[16..24].copy_from_slice(&30_000u64.to_be_bytes());
        page[24..26].copy_from_slice(&[0x45, 0xBF]);
        page[34..38].copy_from_slice(&5u32.to_be_bytes());
        checksum::stamp(&mut page, false);
        payload.extend_from_slice(&page[..38]);
        map.push(Extent { skip: 0, len: 38 });
        payload.extend_from_slice(&page[PAGE_LEN - 8..]);
        map.last_mut().unwrap().len = 38;
        map.push(Extent { skip: PAGE_LEN as u32 - 46, len: 8 });
        if map.len() + 2 > EXTENTS_MAX {
            break;
        }
    }
    stream.frame(sparse("d/t.ibd", 0, &map, &payload));
    stream.frame(end_frame(&member("d/t.ibd")));
    add_required(&mut stream);
    let dir = tempfile::tempdir().unwrap();
    on_stream(into(&dir.path().join("t"), &[]), &stream).bounded();
    // Payloads of all lengths up to the longest.
    let mut stream = StreamMaker::small();
    let (mut at, mut bytes) = (0, Vec::new());
    for len in [1usize, 12, 13, 100, 7, 8, 9, 10, 11, 12, 14, 15, 16, 16, 16, 16, 16, 16, 16, 16, 16] {
        let payload = vec![7; len << 20];
        bytes.extend(payload_frame(&member("d/x"), at, &payload));
        at += payload.len() as u64;
    }
    stream.frame(bytes).frame(end_frame(&member("d/x")));
    on_stream(verify(), &stream).bounded().ok();
}

#[test]
fn windows_of_nested_frames_are_bounded_together() {
    let mut inner = StreamMaker::small().finish().bytes;
    let wrap = |bytes: &[u8], window: u32| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let once = wrap(&inner, 27);
    on(verify(), |out| out.write_all(&once)).bounded().ok();
    let usual = wrap(&wrap(&inner, 21), 27);
    on(verify(), |out| out.write_all(&usual)).bounded().ok();
    for _ in 0..4 {
        inner = wrap(&inner, 27);
    }
    on(verify(), |out| out.write_all(&inner)).bounded().failed("too-large").says("windows");
}

#[test]
fn bombs_are_bounded_and_stopped() {
    // A frame to be skipped, of zeros, again and again, compressed: the layer inside never comes to an end.
    let skipped = [&0x184D_2A50u32.to_le_bytes()[..], &(1u32 << 20).to_le_bytes(), &[0; 1 << 20]].concat();
    let frame = zstd::bulk::compress(b"XBSTCK01", 1).unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&frame).unwrap();
    for _ in 0..3000 {
        encoder.write_all(&skipped).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    on(verify(), |out| out.write_all(&bomb)).bounded().failed("stream-refused").says("without content");
    // Frames of nothing, and chunks of nothing.
    let empty = zstd::bulk::compress(b"", 1).unwrap().repeat(20_000_000);
    let bomb = [zstd::bulk::compress(&[&frame[..], &empty].concat(), 1).unwrap()].concat();
    on(verify(), |out| out.write_all(&bomb)).bounded().failed("stream-refused").says("without content");
    let nothing = payload_frame(&member("a"), 0, b"").repeat(3_000_000);
    let bomb = zstd::bulk::compress(&nothing, 1).unwrap();
    on(verify(), |out| out.write_all(&bomb))
        .bounded()
        .failed("stream-refused")
        .says("chunks without content");
}

#[test]
fn a_stop_ends_a_stream_that_nobody_sends_any_more() {
    // 400 GiB of zeros that come as some MiB: all is there, and nothing is asked of the line.
    const LEN: usize = 100 << 20;
    let crc = payload_crc(&vec![0; LEN]);
    let mut bomb = [0x28, 0xB5, 0x2F, 0xFD, 0, 0x50].to_vec();
    let mut block = |kind: u32, size: usize, content: &[u8]| {
        bomb.extend_from_slice(&((size as u32) << 3 | kind << 1).to_le_bytes()[..3]);
        bomb.extend_from_slice(content);
    };
    for n in 0..4000 {
        let header = payload_header(&member("a"), (n * LEN) as u64, crc, LEN);
        block(0, header.len(), &header);
        (0..LEN / (128 << 10)).for_each(|_| block(1, 128 << 10, &[0]));
    }
    let mut child = verify().stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || drop(stdin.write_all(&bomb)));
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    said(child).failed("interrupted");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
