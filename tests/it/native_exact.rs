//! Copies prepared natively, judged page by page: once the source has come to rest, every page of the copy is the
//! source's. Then a server starts on the copy and has its say, too.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::pages::{RESTFUL, Unlogged, assert_same_pages, rest, send_around, settle};
use crate::support::pipe::{said, xbsend};
use crate::support::{
    Kind, Random, Server, WriteLoad, Zoo, assert_same, check_load, check_tables, checksums, gtid_executed,
    innodb, seed,
};
use xbpipe::base::Lsn;

/// How many copies are judged; `scripts/soak` asks for more.
fn rounds() -> u64 {
    std::env::var("XBPIPE_ROUNDS").map_or(5, |n| n.parse().expect("XBPIPE_ROUNDS is a number"))
}

/// A server with a zoo and under a random load is copied; the load goes on while the stream rests at a random place.
/// Compares the copy.
fn under_load(seed: u64, page_size: u32, memory: &str) {
    eprintln!("seed {seed}, pages of {page_size}, {memory}");
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let (stream, target) = (base.join("full.xb"), base.join("copy"));
    let (outside, landed) = (base.join("outside"), base.join("landed"));
    std::fs::create_dir(&outside).unwrap();
    let mut zoo = Zoo::with_page_size(&outside, page_size);
    zoo.rows = 200 + random.below(800) as u32;
    zoo.seed = seed as u32;
    let source = Server::start(Kind::Mysql97, &[&zoo.options()[..], &RESTFUL[..]].concat());
    if random.one_in(2) {
        source.execute("SET GLOBAL innodb_log_compressed_pages = OFF");
    }
    zoo.load(&source);
    let load = WriteLoad::start(&source, seed, 4);
    load.wait_for(50 + random.below(200));

    // The stream must not be over when the load is: without holes it is as long as its files at least.
    let take = random.below(used(source.datadir()) / 4);
    let mut send = xbsend(&source);
    send.arg("--dense");
    let sent = send_around(send, take, &stream, || {
        load.wait_for(50 + random.below(400));
        eprintln!("{:?}", load.stop());
        rest(&source);
    });
    sent.ok();
    let map = format!("--map={}={}", outside.display(), landed.display());
    let end = receive(&stream, &target, &["--prepare=native", "--use-memory", memory, &map]);
    settle(&source);
    let pages = assert_same_pages(&[source.datadir(), &outside], &[&target, &landed], end, || {
        let left = base.join("left");
        receive(
            &stream,
            &left,
            &["--prepare=none", &format!("--map={}={}", outside.display(), left.join("outside").display())],
        );
        Unlogged::of(&source, &left)
    });
    eprintln!("{pages} pages are the same");
    let directories = format!("--innodb-directories={}", landed.display());
    let page_size = format!("--innodb-page-size={page_size}");
    let system = "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend";
    judge(&source, &target, &[&page_size, "--log-bin=binlog", &directories, system]);
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
    // The rows of a MEMORY table are in no file.
    let kept = |mut sums: std::collections::BTreeMap<String, String>| {
        sums.retain(|name, _| !name.contains("forgetful"));
        sums
    };
    assert_same(&kept(checksums(&copy)), &kept(checksums(source)));
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
        let page_size = 4096 << (round % 5);
        under_load(seed.wrapping_add(round), page_size, memory);
    }
}
