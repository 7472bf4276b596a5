//! Copies prepared natively, judged page by page: once the source has come to rest, every page of the copy is the
//! source's. Then a server starts on the copy and has its say, too.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use support::pages::{RESTFUL, assert_same_pages, rest, send_around, settle};
use support::pipe::{said, xbsend};
use support::{
    Kind, Random, Server, WriteLoad, assert_same, check_load, check_tables, checksums, gtid_executed, innodb,
    seed,
};
use xbpipe::base::Lsn;

/// How many copies are judged; `scripts/soak` asks for more.
fn rounds() -> u64 {
    std::env::var("XBPIPE_ROUNDS").map_or(2, |n| n.parse().expect("XBPIPE_ROUNDS is a number"))
}

/// A server under a random load is copied; the load goes on at a random place in the stream. Compares the copy.
fn under_load(seed: u64, page_size: u32, memory: &str) {
    let mut random = Random::new(seed);
    let page_size = format!("--innodb-page-size={page_size}");
    let options = [&RESTFUL[..], &[&page_size]].concat();
    let source = Server::start(Kind::Mysql97, &options);
    let load = WriteLoad::start(&source, seed, 4);
    load.wait_for(100 + random.below(400));

    let dir = tempfile::tempdir().unwrap();
    let (stream, target) = (dir.path().join("full.xb"), dir.path().join("copy"));
    // Holes take no room in a stream, and it must not be over when the load is.
    let take = random.below(used(source.datadir()) / 3);
    let sent = send_around(xbsend(&source), take, &stream, || {
        load.wait_for(100 + random.below(600));
        eprintln!("{:?}", load.stop());
        rest(&source);
    });
    sent.ok();
    let end = receive(&stream, &target, &["--prepare=native", "--use-memory", memory]);
    settle(&source);
    let pages = assert_same_pages(&[source.datadir()], &[&target], end);
    eprintln!("{pages} pages are the same");
    judge(&source, &target, &[&page_size, "--log-bin=binlog"]);
}

/// Bytes that the tablespaces take on disk: about as much as the stream will have.
fn used(datadir: &Path) -> u64 {
    let mut files = Vec::new();
    innodb::tablespace_files(datadir, &mut files);
    files.iter().map(|file| std::fs::metadata(file).unwrap().blocks() * 512).sum()
}

/// Receives a stream; the LSN of its end.
fn receive(stream: &Path, target: &Path, options: &[&str]) -> Lsn {
    let input = std::fs::File::open(stream).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--progress=none"]).args(options).arg(target).stdin(input).stderr(Stdio::piped());
    let received = said(command.spawn().unwrap()).ok();
    eprintln!("{}", received.words);
    let redo = received.value("redo").unwrap();
    Lsn(redo.rsplit(' ').next().unwrap().parse().unwrap())
}

/// A server on the copy finds everything sound and equal to the source.
fn judge(source: &Server, target: &Path, options: &[&str]) {
    let copy = Server::start_on(Kind::Mysql97, target, options);
    assert_eq!(gtid_executed(&copy), gtid_executed(source));
    assert_same(&checksums(&copy), &checksums(source));
    check_tables(&copy);
    check_load(&copy);
    let log = copy.error_log();
    assert!(!log.contains("[ERROR]"), "{log}");
    let counters = "SELECT table_name, auto_increment FROM information_schema.tables \
                    WHERE table_schema = 'load' AND auto_increment IS NOT NULL ORDER BY 1";
    for server in [&copy, source] {
        server.execute("SET SESSION information_schema_stats_expiry = 0");
    }
    assert_eq!(copy.query(counters), source.query(counters));
}

#[test]
fn a_copy_under_load_has_the_pages_of_its_source() {
    let seed = seed();
    for round in 0..rounds() {
        let memory = if round % 2 == 0 { "32M" } else { "256M" };
        under_load(seed.wrapping_add(round), 32768, memory);
    }
}
