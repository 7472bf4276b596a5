//! What MariaDB's `mbstream` makes of our frames, and what we make of its.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::tool;
use xbpipe::stream::frame::{end_frame, payload_frame, sparse_crc, sparse_header};
use xbpipe::stream::metadata::BackupCnf;
use xbpipe::stream::{Demux, Event, Extent, Limits, MemberName};

/// Runs `mbstream` with `stream` on its standard input.
fn mbstream(args: &[&str], dir: &Path, stream: &[u8]) -> Output {
    let mut child = Command::new(tool("mbstream"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may stop reading where it finds something wrong.
    let _ = child.stdin.take().unwrap().write_all(stream);
    child.wait_with_output().unwrap()
}

fn name(text: &str) -> MemberName {
    MemberName::parse(text).unwrap()
}

fn content(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Longer than a chunk of `mbstream` (10 MiB); one just a chunk; small; empty.
fn members() -> BTreeMap<String, Vec<u8>> {
    [
        ("ibdata1".to_owned(), content(25_000_000, 1)),
        ("db/t.ibd".to_owned(), content(10 << 20, 2)),
        ("db/with space.CSV".to_owned(), content(77, 3)),
        ("db2/empty.MYD".to_owned(), Vec::new()),
    ]
    .into()
}

#[test]
fn mbstream_extracts_our_frames() {
    const CHUNK: usize = 1 << 20;
    let members = members();
    let mut stream = Vec::new();
    let chunks = members.values().map(|content| content.len().div_ceil(CHUNK)).max().unwrap();
    // All members interleaved, chunk by chunk.
    for index in 0..=chunks {
        for (member, content) in &members {
            let member = name(member);
            match content.chunks(CHUNK).nth(index) {
                Some(chunk) => {
                    stream.extend_from_slice(&payload_frame(&member, (index * CHUNK) as u64, chunk))
                }
                None if index == content.len().div_ceil(CHUNK) => {
                    stream.extend_from_slice(&end_frame(&member))
                }
                None => {}
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let said = mbstream(&["-x", "-p", "2"], dir.path(), &stream);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    for (member, content) in &members {
        assert!(fs::read(dir.path().join(member)).unwrap() == *content, "{member}");
    }
}

/// Why `xbsend --dense` exists. If this fails one day, mbstream has learnt to read them: say so in `proto/stream.md`.
#[test]
fn mbstream_does_not_read_sparse_frames() {
    let map = [Extent { skip: 4096, len: 3 }];
    let crc = sparse_crc(&map, [&b"abc"[..]]);
    let mut stream = sparse_header(&name("t.ibd"), 0, crc, &map, 3);
    stream.extend_from_slice(b"abc");
    stream.extend_from_slice(&end_frame(&name("t.ibd")));
    let dir = tempfile::tempdir().unwrap();
    let said = mbstream(&["-x"], dir.path(), &stream);
    assert!(!said.status.success());
    // The same stream is a good one to us.
    assert_eq!(demux(&stream)["t.ibd"], [&[0; 4096][..], b"abc"].concat());
}

#[test]
fn what_mbstream_packs_is_read() {
    let members = members();
    let dir = tempfile::tempdir().unwrap();
    for (member, content) in &members {
        let path = dir.path().join(member);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for dotted in ["", "./"] {
        let names: Vec<_> = members.keys().map(|member| format!("{dotted}{member}")).collect();
        let mut args = vec!["-c"];
        args.extend(names.iter().map(String::as_str));
        let said = mbstream(&args, dir.path(), b"");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        assert!(demux(&said.stdout) == members, "with '{dotted}' before the names");
    }
}

/// All members of a stream, holes as zeros.
fn demux(mut stream: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut demux = Demux::new(Limits::default()).checking();
    let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while !stream.is_empty() {
        let taken = demux.feed(stream);
        stream = &stream[taken..];
        while let Some(event) = demux.poll().unwrap() {
            match event {
                Event::Chunk(chunk) => {
                    let content = members.entry(chunk.member.to_string()).or_default();
                    content.resize(chunk.end() as usize, 0);
                    for (at, piece) in chunk.pieces() {
                        if let xbpipe::stream::Piece::Data(bytes) = piece {
                            content[at as usize..][..bytes.len()].copy_from_slice(bytes);
                        }
                    }
                    demux.recycle(chunk.payload);
                }
                Event::End { member, size } => {
                    assert_eq!(members.entry(member.to_string()).or_default().len() as u64, size);
                }
            }
        }
    }
    demux.finish().unwrap();
    members
}

/// Option files are read by servers, not by us alone.
#[test]
fn backup_cnf_is_read_by_the_servers_own_parser() {
    let values = [
        "ibdata1:12M;ibdata2:12M:autoextend",
        "/var/lib/a b",
        "a#b",
        " x ",
        "it's",
        "\"q\"",
        "\\",
        "a\\nb",
        "ü",
        "",
    ];
    let mut cnf = BackupCnf::new();
    for (i, value) in values.iter().enumerate() {
        cnf.set(&format!("v{i}"), value);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), cnf.render()).unwrap();
    let said = Command::new(tool("my_print_defaults"))
        .arg(format!("--defaults-file={}", file.path().display()))
        .arg("mysqld")
        .output()
        .unwrap();
    let expected: String = values.iter().enumerate().map(|(i, value)| format!("--v{i}={value}\n")).collect();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
}
