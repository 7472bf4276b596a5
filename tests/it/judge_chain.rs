//! The judge of chains of backups, on random workloads (support/workload).
//!
//! A full backup and increments are taken while work goes on, with changes of definitions, restarts and crashes between them, and
//! with runs of both programs that are killed.
//! What the chain comes to must be, page for page, what the source has once it has come to rest (support/pages says which
//! bytes are left out, and why), whether the streams are given in one go or each increment is laid over the folder before it.
//!
//! `scripts/judge --chain COUNT SEED` runs many workloads.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::encryption::{add_keyring, encrypt_everything};
use crate::support::folders::assert_same_files;
use crate::support::pages::{RESTFUL, Unlogged, assert_same_pages, rest, send_around, settle};
use crate::support::pipe::{into_file, on_file, said, xbrecv, xbsend};
use crate::support::{
    Kind, Random, Restart, Server, Workload, assert_same, check_tables, checksums, definitions, seed,
};
use xbpipe::base::Lsn;

const PAGE_SIZES: [u32; 5] = [4096, 8192, 16384, 32768, 65536];
/// The first of the suite's seeds, and their number.
const SUITE_SEED: u64 = 11;
const SUITE_COUNT: u64 = 3;
/// Bytes of a stream that come before the work that is done meanwhile, at most.
const TAKE_MAX: u64 = 1 << 20;

struct Case {
    random: Random,
    workload: Workload,
    source: Server,
    dir: tempfile::TempDir,
    /// The streams taken so far.
    streams: Vec<PathBuf>,
    /// Whether the server tracks pages.
    tracks: bool,
    /// Increments whose pages the server has listed.
    listed: u32,
    /// The source's keyring, where it encrypts all that it can.
    keyring: Option<PathBuf>,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut workload = Workload::new(seed, PAGE_SIZES[(seed % 5) as usize]);
        eprintln!("{}", workload.title());
        let (random, mut dir) = (Random::new(!seed), tempfile::tempdir().unwrap());
        // For whoever looks for a cause.
        dir.disable_cleanup(std::env::var_os("XBPIPE_KEEP").is_some());
        let mut source = Server::start(Kind::Mysql97, &[&RESTFUL[..], &workload.options()].concat());
        let keyring = seed.is_multiple_of(3).then(|| dir.path().join("keyring"));
        if let Some(keyring) = &keyring {
            encrypt_everything(&mut source, keyring);
        }
        workload.set_up(&source);
        workload.work(&source, 10, true);
        let tracks = !seed.is_multiple_of(4);
        if tracks {
            source.execute("INSTALL COMPONENT 'file://component_mysqlbackup'");
        }
        Case { random, workload, source, dir, streams: Vec::new(), tracks, listed: 0, keyring }
    }

    /// What `xbrecv` must be told to prepare natively.
    fn keys(&self) -> Option<String> {
        self.keyring.as_ref().map(|keyring| format!("--keyring={}", keyring.display()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the next increment is to be told that it builds on.
    fn base(&mut self) -> PathBuf {
        let lsndir = self.path("lsn");
        let name = ["", "xbpipe_manifest", "xtrabackup_checkpoints"][self.random.below(3) as usize];
        if name.is_empty() { lsndir } else { lsndir.join(name) }
    }

    /// Takes the next backup of the chain during more work.
    fn back_up(&mut self) {
        let stream = self.path(&format!("{}.xb", self.streams.len()));
        let mut send = xbsend(&self.source);
        if !self.streams.is_empty() {
            send.arg("--since").arg(self.base());
        }
        if self.random.one_in(3) {
            let mut killed = xbsend(&self.source);
            if !self.streams.is_empty() {
                killed.arg("--since").arg(self.path("lsn"));
            }
            killed.stdout(std::fs::File::create(self.path("killed.xb")).unwrap());
            self.kill(killed);
        }
        send.arg("--extra-lsndir").arg(self.path("lsn"));
        match self.random.below(4) {
            0 => drop(send.arg("--compress")),
            1 => drop(send.arg("--compress=lz4")),
            2 => drop(send.arg("--dense")),
            _ => {}
        }
        if self.tracks {
            send.arg(["--page-tracking=on", "--page-tracking=auto"][self.random.below(2) as usize]);
        }
        if self.random.one_in(2) {
            send.args(self.keys());
        }
        let take = self.random.below(TAKE_MAX);
        let (workload, source) = (&mut self.workload, &self.source);
        let said = send_around(send, take, &stream, || {
            workload.work(source, 6, false);
            rest(source);
        })
        .ok();
        if let Some(why) = said.words.lines().find(|line| line.contains("all pages were read")) {
            eprintln!("{}", why.trim());
        }
        self.listed += u32::from(said.words.contains("found by page tracking"));
        self.streams.push(stream);
    }

    /// What happens between two backups.
    fn go_on(&mut self) {
        self.workload.work(&self.source, 16, true);
        if self.keyring.is_some() {
            self.change_keys();
        }
        match self.random.below(6) {
            0 => {
                self.source.stop();
                self.source.restart();
            }
            1 => {
                self.source.kill();
                self.source.restart();
            }
            2 => self.source.execute("DO innodb_redo_log_sharp_checkpoint()"),
            3 => self.truncate_undo(),
            _ => {}
        }
        self.workload.work(&self.source, 4, false);
    }

    /// Keys come, go, and are encrypted with others.
    fn change_keys(&mut self) {
        const CHANGES: [&str; 8] = [
            "ALTER INSTANCE ROTATE INNODB MASTER KEY",
            "ALTER TABLESPACE mysql ENCRYPTION = 'N'",
            "ALTER TABLESPACE mysql ENCRYPTION = 'Y'",
            "SET GLOBAL innodb_undo_log_encrypt = OFF",
            "SET GLOBAL innodb_undo_log_encrypt = ON",
            "ALTER TABLE base.numbers ENCRYPTION = 'N'",
            "ALTER TABLE base.numbers ENCRYPTION = 'Y'",
            "SET GLOBAL innodb_redo_log_encrypt = ON",
        ];
        for _ in 0..self.random.below(4) {
            self.source.execute(CHANGES[self.random.below(CHANGES.len() as u64) as usize]);
        }
    }

    /// An undo tablespace gets another id.
    fn truncate_undo(&self) {
        let state = "SELECT state FROM information_schema.innodb_tablespaces WHERE name = 'judged'";
        if self.source.query(state).is_empty() {
            self.source.execute("CREATE UNDO TABLESPACE judged ADD DATAFILE 'judged.ibu'");
        }
        self.source.execute("ALTER UNDO TABLESPACE judged SET INACTIVE");
        for _ in 0..200 {
            if self.source.value(state) == "empty" {
                self.source.execute("ALTER UNDO TABLESPACE judged SET ACTIVE");
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the undo tablespace is not truncated");
    }

    /// Starts a program, and kills it soon after.
    fn kill(&mut self, mut command: Command) {
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(self.random.below(250)));
        let _ = child.kill();
        said(child);
    }

    /// All streams in one go.
    fn restore(&mut self, prepare: &str) -> (PathBuf, Lsn) {
        let target = self.path(prepare);
        let receiving = || {
            let mut receive = xbrecv(&target);
            receive.args(["--prepare", prepare]).args(self.keys()).args(&self.streams);
            receive
        };
        let (mut receive, killed) = (receiving(), receiving());
        if self.random.one_in(2) {
            self.kill(killed);
            if target.exists() {
                // It was faster.
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
        let said = said(receive.spawn().unwrap()).ok();
        let end = said.value("redo").map(|redo| redo.rsplit(' ').next().unwrap().parse().unwrap());
        (target, Lsn(end.unwrap_or_default()))
    }

    /// The full backup, then each increment over the folder before it; sometimes the folder is not prepared.
    fn step_by_step(&mut self) -> PathBuf {
        let mut before: Option<PathBuf> = None;
        for (n, stream) in self.streams.clone().iter().enumerate() {
            let target = self.path(&format!("step{n}"));
            let last = n + 1 == self.streams.len();
            let mut receive = xbrecv(&target);
            if !last && self.random.one_in(2) {
                receive.arg("--prepare=none");
            } else {
                receive.arg("--prepare=native");
            }
            if let Some(before) = &before {
                receive.arg("--base").arg(before);
            }
            receive.args(self.keys());
            receive.stdin(std::fs::File::open(stream).unwrap());
            said(receive.spawn().unwrap()).ok();
            if let Some(before) = before.replace(target)
                && std::env::var_os("XBPIPE_KEEP").is_none()
            {
                std::fs::remove_dir_all(before).unwrap();
            }
        }
        before.unwrap()
    }

    /// All streams merged into one, which is received.
    fn merged(&self) -> PathBuf {
        let (stream, target) = (self.path("merged.xb"), self.path("merged"));
        let mut merge = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        merge.args(["merge", "--stream", "--progress=none"]).args(&self.streams).stderr(Stdio::piped());
        into_file(merge, &stream).ok();
        let mut receive = xbrecv(&target);
        receive.arg("--prepare=native").args(self.keys());
        on_file(receive, &stream).ok();
        target
    }

    /// A copy's server needs the keyring, and so does who compares its pages.
    fn give_keys(&self, copy: &Path) {
        if let Some(keyring) = &self.keyring {
            add_keyring(copy, keyring);
        }
    }

    fn server(&self, copy: &Path) -> Server {
        let own = ["--log-bin=binlog", "--innodb-buffer-pool-size=64M"];
        Server::start_on(Kind::Mysql97, copy, &[&self.workload.options()[..], &own[..]].concat())
    }
}

fn verify(streams: &[PathBuf]) {
    let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    receive.args(["--progress=none", "--verify-only"]).args(streams);
    said(receive.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()).ok();
}

/// Judges a chain; returns how many of its increments had their pages listed by the server.
fn judge(seed: u64) -> u32 {
    let begun = Instant::now();
    let mut case = Case::new(seed);
    if case.workload.restart == Some(Restart::Killed) {
        case.source.execute("DO innodb_redo_log_sharp_checkpoint()");
    }
    let increments = 1 + case.random.below(4);
    case.back_up();
    for _ in 0..increments {
        case.go_on();
        case.back_up();
    }
    verify(&case.streams);
    let (copy, end) = case.restore("native");
    let (left, _) = case.restore("none");
    let stepped = case.step_by_step();
    assert_same_files(&stepped, &copy);
    case.give_keys(&copy);
    case.give_keys(&left);
    settle(&case.source);
    let source = case.source.datadir();
    let pages = assert_same_pages(&[source], &[&copy], end, || Unlogged::of(&case.source, &left));
    let one = case.merged();
    case.give_keys(&one);
    assert_same_pages(&[source], &[&one], end, || Unlogged::of(&case.source, &left));
    let ours = case.server(&copy);
    assert_same(&checksums(&ours), &checksums(&case.source));
    assert_same(&definitions(&ours), &definitions(&case.source));
    check_tables(&ours);
    case.workload.work(&ours, 10, true);
    check_tables(&ours);
    eprintln!(
        "seed {seed}: {increments} increments, {} by page tracking, {pages} pages are the same, {:.1} s",
        case.listed,
        begun.elapsed().as_secs_f32()
    );
    case.listed
}

#[test]
fn random_chains() {
    let count = std::env::var("XBPIPE_ROUNDS").ok().map(|n| n.parse().expect("XBPIPE_ROUNDS is a number"));
    let seed = if count.is_some() { seed() } else { SUITE_SEED };
    let rounds = (0..count.unwrap_or(SUITE_COUNT)).map(|round| seed.wrapping_add(round));
    let (mut failed, mut listed) = (Vec::new(), 0);
    for seed in rounds {
        match catch_unwind(AssertUnwindSafe(|| judge(seed))) {
            Ok(increments) => listed += increments,
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "chains with these seeds failed: {failed:?}");
    assert!(listed > 0 || count.is_some(), "page tracking was never used");
}
