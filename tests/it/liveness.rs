//! Whatever happens to xbsend, its reader, its disk or its line: the server's writes go on.
//!
//! `XBPIPE_ROUNDS` runs every way to stand still or die so often.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::support::listening::{Listening, sending};
use crate::support::pipe::{said, xbrecv_unprepared, xbsend};
use crate::support::{Kind, Server};
use mysql_async::prelude::Queryable;
use rustix::process::{Pid, Signal, kill_process};

/// The longest time between two commits that a backup may be the reason of.
const GAP_MAX: Duration = Duration::from_secs(2);
/// How long writes go on beside what stands still: enough to fill 32 MB of redo more than once.
const WATCHED: Duration = Duration::from_secs(5);

/// A small redo log, and more data than any pipe or window holds.
fn server() -> Server {
    let options = ["--innodb-redo-log-capacity=32M", "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin"];
    let server = Server::start(Kind::Mysql97, &options);
    server.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB);
         CREATE TABLE d.w (a INT PRIMARY KEY, b LONGBLOB);
         INSERT INTO d.t (b) VALUES (REPEAT(RANDOM_BYTES(1000), 1000))",
    );
    for _ in 0..6 {
        server.execute("INSERT INTO d.t (b) SELECT REPEAT(RANDOM_BYTES(1000), 1000) FROM d.t");
    }
    server
}

/// Writes until it is dropped, and knows when.
struct Writers {
    over: Arc<AtomicBool>,
    commits: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(server: &Server) -> Writers {
        let (over, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let threads: Vec<_> = (0..2)
            .map(|n| {
                let (options, over, commits) = (server.options(), over.clone(), commits.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let mut conn = mysql_async::Conn::new(options).await.unwrap();
                        while !over.load(Ordering::Acquire) {
                            let sql =
                                format!("REPLACE INTO d.w VALUES ({n}, REPEAT(RANDOM_BYTES(1000), 200))");
                            conn.query_drop(sql).await.unwrap();
                            commits.lock().unwrap().push(Instant::now());
                        }
                    });
                })
            })
            .collect();
        Writers { over, commits, threads }
    }

    /// The longest time without a commit since `begun`.
    fn gap(&self, begun: Instant) -> Duration {
        let commits = self.commits.lock().unwrap();
        let times: Vec<_> =
            std::iter::once(begun).chain(commits.iter().copied().filter(|t| *t > begun)).collect();
        let last = times.last().unwrap().elapsed();
        times.windows(2).map(|w| w[1] - w[0]).max().unwrap_or_default().max(last)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < limit, "waited in vain for: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn is_locked(server: &Server) -> bool {
    let sql = "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_TYPE = 'BACKUP LOCK'";
    server.value(sql) != "0"
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn stalled(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Terminated,
    SpoolFull,
    StandsStill,
    Stopped,
    Killed,
    Tcp,
    Quic,
}

const ALL: [Trouble; 7] = [
    Trouble::Terminated,
    Trouble::SpoolFull,
    Trouble::StandsStill,
    Trouble::Stopped,
    Trouble::Killed,
    Trouble::Tcp,
    Trouble::Quic,
];

/// Ends well or badly, but does not hold up the server. Gives the longest gap.
fn suffer(server: &Server, writers: &Writers, trouble: Trouble) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = None;
    let mut command = xbsend(server);
    match trouble {
        Trouble::SpoolFull => drop(command.arg("--spool-limit=4M")),
        Trouble::Tcp | Trouble::Quic => {
            let carrier = if trouble == Trouble::Tcp { "tcp" } else { "quic" };
            let mut receive = xbrecv_unprepared(&dir.path().join("copy"));
            receive.stdin(Stdio::null()).stdout(Stdio::null());
            let listening = Listening::start(receive, carrier);
            command = sending(server, &listening.to);
            receiver = Some(listening);
        }
        _ => {}
    }
    let begun = Instant::now();
    let mut child = if receiver.is_some() { command.spawn().unwrap() } else { stalled(&mut command) };
    wait_for("the backup lock", Duration::from_secs(60), || is_locked(server));
    if let Some(receiver) = &receiver {
        signal(&receiver.child, Signal::STOP);
    }
    sleep(Duration::from_millis(500));
    match trouble {
        Trouble::Terminated | Trouble::Tcp | Trouble::Quic => signal(&child, Signal::TERM),
        Trouble::Stopped => signal(&child, Signal::STOP),
        Trouble::Killed => child.kill().unwrap(),
        Trouble::SpoolFull | Trouble::StandsStill => {}
    }
    sleep(WATCHED);
    let gap = writers.gap(begun);
    match trouble {
        Trouble::StandsStill | Trouble::Stopped => child.kill().unwrap(),
        Trouble::Terminated | Trouble::Tcp | Trouble::Quic | Trouble::SpoolFull | Trouble::Killed => {
            assert!(!is_locked(server), "{trouble:?}: the server is still locked");
        }
    }
    // Nobody has read what stands in the pipe.
    wait_for("the end of xbsend", Duration::from_secs(30), || child.try_wait().unwrap().is_some());
    let said = said(child);
    match trouble {
        Trouble::Terminated | Trouble::Tcp | Trouble::Quic => drop(said.failed("interrupted")),
        Trouble::SpoolFull => drop(said.failed("spool-full")),
        _ => {}
    }
    if let Some(mut receiver) = receiver {
        receiver.child.kill().unwrap();
        receiver.child.wait().unwrap();
    }
    wait_for("the server to be unlocked", Duration::from_secs(30), || !is_locked(server));
    gap
}

#[test]
fn a_backup_that_stands_still_or_dies_holds_up_nobody() {
    let rounds: usize = std::env::var("XBPIPE_ROUNDS").map_or(1, |r| r.parse().unwrap());
    let server = server();
    let writers = Writers::start(&server);
    let begun = Instant::now();
    sleep(WATCHED);
    let alone = writers.gap(begun);
    let (mut runs, mut worst) = (0, Duration::ZERO);
    for round in 0..rounds {
        for trouble in ALL {
            let mut gap = suffer(&server, &writers, trouble);
            eprintln!("round {round}, {trouble:?}: {} ms without a commit", gap.as_millis());
            // A server that is held up is so every time; a machine that does other work beside the suite is not. Where rounds
            // are asked for it does nothing else.
            for _ in 0..if rounds > 1 { 0 } else { 3 } {
                if gap > GAP_MAX {
                    gap = gap.min(suffer(&server, &writers, trouble));
                    eprintln!("again, {trouble:?}: {} ms without a commit", gap.as_millis());
                }
            }
            // The machine's own pauses are none of the backup's.
            assert!(gap <= GAP_MAX.max(alone * 2), "{trouble:?}: {gap:?} without a commit, {alone:?} alone");
            runs += 1;
            worst = worst.max(gap);
        }
    }
    let commits = writers.commits.lock().unwrap().len();
    eprintln!("{runs} runs, {commits} commits; longest gap {worst:?}, {alone:?} without a backup");
}

#[test]
fn a_bad_tmpdir_is_known_before_anything_is_locked() {
    let server = Server::start(Kind::Mysql97, &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    server.execute("LOCK INSTANCE FOR BACKUP");
    for bad in [dir.path().join("missing"), file, "/proc/self".into()] {
        let mut command = xbsend(&server);
        command.arg("--tmpdir").arg(&bad).stdout(Stdio::null());
        said(command.spawn().unwrap()).failed("source-io").says("--tmpdir");
    }
    // A limit on the size of files is noticed like a full disk.
    let script = format!("ulimit -f 1; exec \"$0\" \"$@\" --tmpdir '{}'", dir.path().display());
    let mut limited = Command::new("bash");
    limited.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_xbsend"));
    limited.args(xbsend(&server).get_args()).stdout(Stdio::null()).stderr(Stdio::piped());
    said(limited.spawn().unwrap()).failed("source-io").says("--tmpdir");
}

#[test]
fn tables_are_not_locked_for_a_reader_that_stands_still() {
    let server = Server::start(Kind::Mysql97, &["--cte-max-recursion-depth=100000"]);
    server.run_script(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, c CHAR(200) NOT NULL) CHARACTER SET latin1 ENGINE = MyISAM; \
         INSERT INTO d.t WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 60000) \
         SELECT i, REPEAT('x', 200) FROM n;",
    );
    let locked = || {
        server.value("SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_NAME = 't' AND OBJECT_SCHEMA = 'd'") != "0"
    };
    for stopped in [false, true] {
        let mut child = stalled(&mut xbsend(&server));
        let mut stream = child.stdout.take().unwrap();
        let mut buffer = vec![0; 64 << 10];
        let name = b"d/t.MYD";
        loop {
            let n = std::io::Read::read(&mut stream, &mut buffer).unwrap();
            assert!(n > 0, "the stream ended before the table came");
            if buffer[..n].windows(name.len()).any(|w| w == name) {
                break;
            }
        }
        wait_for("the table lock", Duration::from_secs(10), locked);
        if stopped {
            signal(&child, Signal::STOP);
        }
        wait_for("the table to be unlocked", Duration::from_secs(40), || !locked());
        if stopped {
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            wait_for("the end of xbsend", Duration::from_secs(30), || child.try_wait().unwrap().is_some());
            said(child).failed("stream-io").says("while tables were locked");
        }
    }
}
