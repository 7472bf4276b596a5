//! The judges of native prepare, on random workloads (support/workload).
//!
//! The exact judge: a copy is made while the workload goes on; then the source comes to rest and flushes everything, and
//! every page of the copy must be the source's (support/pages says which bytes are left out, and why).
//!
//! The other judge: the same backup prepared by a server must hold the same, and a server on our copy must go on with
//! any work without a word of complaint.
//!
//! `scripts/judge COUNT SEED` runs many workloads, with both judges each, and prints which redo records they met.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::folders::assert_same_files;
use crate::support::pages::{RESTFUL, Unlogged, assert_same_pages, pipe_around, rest, settle};
use crate::support::pipe::{Said, said, xbsend};
use crate::support::{
    Census, Kind, Random, Restart, Server, Workload, assert_same, check_tables, checksums, innodb, seed, tool,
};
use xbpipe::base::Lsn;

const PAGE_SIZES: [u32; 5] = [4096, 8192, 16384, 32768, 65536];

/// The first of the suite's seeds.
const SUITE_SEED: u64 = 1;

/// Of a stream with holes, which is short, at most so many bytes come before the work.
const HOLES_TAKE: u64 = 1 << 20;

/// A workload under a server, and the folder for its backups.
struct Case {
    random: Random,
    workload: Workload,
    source: Server,
    dir: tempfile::TempDir,
}

impl Case {
    /// A server whose redo goes back to before its last changes of definitions.
    fn new(seed: u64) -> Case {
        let mut workload = Workload::new(seed, PAGE_SIZES[(seed % 5) as usize]);
        eprintln!("{}", workload.title());
        let mut source = Server::start(Kind::Mysql97, &[&RESTFUL[..], &workload.options()].concat());
        workload.set_up(&source);
        workload.work(&source, 10, false);
        match workload.restart {
            Some(Restart::Clean) => {
                source.stop();
                source.restart();
            }
            Some(Restart::Killed) => {
                workload.leave_open(&source);
                source.kill();
                workload.close();
                source.restart();
                workload.end_prepared(&source);
            }
            None => {}
        }
        source.execute("DO innodb_redo_log_sharp_checkpoint()");
        workload.work(&source, 16, true);
        Case { random: Random::new(!seed), workload, source, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Takes a backup, prepared natively while it comes in, during more work. Where it is, and the LSN of its end.
    fn back_up(&mut self) -> (PathBuf, Lsn) {
        let (target, stream) = (self.path("native"), self.path("full.xb"));
        let mut receive = xbrecv(&target, "native");
        receive.arg(if self.random.one_in(2) { "--use-memory=32M" } else { "--use-memory=256M" });
        let (workload, source) = (&mut self.workload, &self.source);
        let mut send = xbsend(source);
        // The stream must not be over when the work is. Without holes it is as long as its files at least; with them it is
        // held back near its start.
        let holes = self.random.one_in(2);
        let take = if holes { HOLES_TAKE } else { used(source.datadir()) / 4 };
        if !holes {
            send.arg("--dense");
        }
        let with_dummies = self.random.one_in(4);
        let mut at_rest = Lsn(0);
        let (sent, received) = pipe_around(send, receive, self.random.below(take), &stream, || {
            workload.work(source, 8, false);
            if with_dummies {
                log_dummies(source);
            }
            workload.leave_open(source);
            at_rest = rest(source);
        });
        sent.ok();
        let received = received.ok();
        let redo = received.value("redo").unwrap();
        let end = Lsn(redo.rsplit(' ').next().unwrap().parse().unwrap());
        assert!(end >= at_rest, "the backup was over at LSN {end}, before the work at {at_rest}");
        (target, end)
    }

    /// The same backup, received once more.
    fn receive(&self, prepare: &str) -> PathBuf {
        let target = self.path(prepare);
        let mut receive = xbrecv(&target, prepare);
        receive.stdin(std::fs::File::open(self.path("full.xb")).unwrap());
        said(receive.spawn().unwrap()).ok();
        target
    }

    /// `left` is the same backup, not prepared.
    fn exact(&self, copy: &Path, left: &Path, end: Lsn) -> usize {
        settle(&self.source);
        assert_same_pages(&[self.source.datadir()], &[copy], end, || Unlogged::of(&self.source, left))
    }

    /// A server on the copy finds what one finds that did the recovery itself, and can go on.
    fn other(&mut self, copy: &Path) {
        let by_server = self.receive("server");
        let own =
            ["--log-bin=binlog", "--innodb-buffer-pool-size=64M", "--innodb-purge-rseg-truncate-frequency=1"];
        let options = [&self.workload.options()[..], &own[..]].concat();
        let server = Server::start_on(Kind::Mysql97, &by_server, &options);
        let mut ours = Server::start_on(Kind::Mysql97, copy, &options);
        let sums = checksums(&self.source);
        assert_same(&checksums(&server), &sums);
        assert_same(&checksums(&ours), &sums);
        assert_same(&auto_increments(&ours), &auto_increments(&server));
        assert_eq!(prepared(&ours), prepared(&server));
        // The source also knows those that changed nothing, which are not in InnoDB.
        let known = prepared(&self.source);
        assert!(prepared(&ours).iter().all(|one| known.contains(one)), "{known:?}");
        drop(server);
        check_tables(&ours);
        self.workload.close();
        self.workload.end_prepared(&ours);
        self.workload.work(&ours, 30, true);
        rest(&ours);
        ours.stop();
        ours.restart();
        self.workload.work(&ours, 20, true);
        check_tables(&ours);
        let log = ours.error_log();
        assert!(!log.contains("[ERROR]"), "{log}");
    }
}

/// Makes the server write DUMMY records: it wants to get rid of a redo file that is larger than all redo may be.
fn log_dummies(source: &Server) {
    // Not so small that it flushes all pages first.
    source.execute("SET GLOBAL innodb_redo_log_capacity = 104857600; DO SLEEP(0.5)");
    source.execute("SET GLOBAL innodb_redo_log_capacity = 4294967296");
}

fn xbrecv(target: &Path, prepare: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--progress=none", "--prepare", prepare, "--mysqld"]).arg(tool("mysqld")).arg(target);
    command.stderr(Stdio::piped());
    command
}

fn prepare(dir: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["prepare", "--progress=none", "--use-memory=32M"]).arg(dir).stderr(Stdio::piped());
    said(command.spawn().unwrap())
}

/// Bytes that the tablespaces take on disk: about as much as the stream will have.
fn used(datadir: &Path) -> u64 {
    let mut files = Vec::new();
    innodb::tablespace_files(datadir, &mut files);
    files.iter().map(|file| std::fs::metadata(file).unwrap().blocks() * 512).sum()
}

fn auto_increments(server: &Server) -> BTreeMap<String, String> {
    server.execute("SET SESSION information_schema_stats_expiry = 0");
    let counters = "SELECT CONCAT(table_schema, '.', table_name), auto_increment FROM information_schema.tables \
                    WHERE table_schema LIKE 'w\\_%' AND auto_increment IS NOT NULL";
    server.query(counters).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// Transactions prepared by XA.
fn prepared(server: &Server) -> Vec<Vec<String>> {
    let mut rows = server.query("XA RECOVER");
    rows.sort();
    rows
}

/// Runs the workload of a seed; the records that its backup had.
fn judge(seed: u64, thorough: bool) -> Census {
    let begun = Instant::now();
    let mut case = Case::new(seed);
    let (copy, end) = case.back_up();
    let left = case.receive("none");
    let pages = case.exact(&copy, &left, end);
    let mut census = Census::default();
    census.count(&left);
    if thorough {
        prepare(&left).ok();
        assert_same_files(&left, &copy);
        case.other(&copy);
    }
    eprintln!("seed {seed}: {pages} pages are the same, {:.1} s", begun.elapsed().as_secs_f32());
    census
}

#[test]
fn random_workloads_of_every_page_size() {
    let count = std::env::var("XBPIPE_ROUNDS").ok().map(|n| n.parse().expect("XBPIPE_ROUNDS is a number"));
    // The suite always has the same workloads; the script has new ones.
    let seed = if count.is_some() { seed() } else { SUITE_SEED };
    let (mut census, mut failed) = (Census::default(), Vec::new());
    for round in 0..count.unwrap_or(PAGE_SIZES.len() as u64) {
        let seed = seed.wrapping_add(round);
        // In the suite one of them is enough for the judge that takes longer.
        let thorough = count.is_some() || round == 0;
        match catch_unwind(AssertUnwindSafe(|| judge(seed, thorough))) {
            Ok(records) => census.add(records),
            Err(_) => failed.push(seed),
        }
    }
    if count.is_some() {
        println!("{census}");
        println!("not met: {:?}", census.missing());
    }
    assert!(failed.is_empty(), "workloads with these seeds failed: {failed:?}");
}
