//! What a server does by itself, or is told to do, in the middle of a backup: the copy is right all the same.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::support::pipe::{Said, said, xbrecv, xbsend};
use crate::support::{Kind, Server, assert_same, check_tables, checksums, gtid_executed};

/// A backup that stands still in the middle of its datafiles until it is let go on.
struct HalfWay {
    child: Child,
    stream: ChildStdout,
    head: Vec<u8>,
}

impl HalfWay {
    fn start(server: &Server) -> HalfWay {
        let mut child = xbsend(server).stdout(Stdio::piped()).spawn().unwrap();
        let mut stream = child.stdout.take().unwrap();
        let mut head = vec![0; 1 << 20];
        stream.read_exact(&mut head).unwrap();
        HalfWay { child, stream, head }
    }

    fn finish(mut self, dir: &Path) -> (Said, PathBuf) {
        self.stream.read_to_end(&mut self.head).unwrap();
        let path = dir.join("full.xb");
        std::fs::write(&path, &self.head).unwrap();
        (said(self.child).ok(), path)
    }
}

/// Both ways of preparing make a copy that equals the source.
fn judge(source: &Server, sent: &Said, stream: &Path, dir: &Path) {
    let recorded = sent.value("gtid").unwrap();
    assert_eq!(gtid_executed(source), recorded, "the source was written to after the backup");
    for prepare in ["server", "none"] {
        let target = dir.join(prepare);
        let input = std::fs::File::open(stream).unwrap();
        said(xbrecv(&target).args(["--prepare", prepare]).stdin(input).spawn().unwrap()).ok();
        let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
        assert_eq!(gtid_executed(&copy), recorded);
        check_tables(&copy);
        assert_same(&checksums(&copy), &checksums(source));
        // Undo tablespaces work: something can be rolled back.
        copy.execute("BEGIN; DELETE FROM d.t; ROLLBACK");
        assert_same(&checksums(&copy), &checksums(source));
    }
}

fn fill(server: &Server, rows: u32) {
    server.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500), KEY (b))",
    );
    server.execute("INSERT INTO d.t (b) VALUES ('one'), ('two')");
    while server.value("SELECT COUNT(*) FROM d.t").parse::<u32>().unwrap() < rows {
        server.execute("INSERT INTO d.t (b) SELECT HEX(RANDOM_BYTES(100)) FROM d.t");
    }
}

fn undo_ids(server: &Server) -> Vec<Vec<String>> {
    server
        .query("SELECT FILE_ID FROM information_schema.FILES WHERE FILE_TYPE = 'UNDO LOG' ORDER BY FILE_NAME")
}

fn current_lsn(server: &Server) -> u64 {
    let status = "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = ";
    server.value(&format!("{status}'Innodb_redo_log_current_lsn'")).parse().unwrap()
}

/// The server does not truncate while the backup lock is held (it wants an exclusive lock on the tablespace, which
/// includes a shared backup lock), but the redo of the backup reaches back to before that.
#[test]
fn undo_tablespaces_were_truncated_since_the_checkpoint() {
    let source = Server::start(
        Kind::Mysql97,
        &[
            "--innodb-max-undo-log-size=10M",
            "--innodb-purge-rseg-truncate-frequency=1",
            "--innodb-redo-log-capacity=1G",
            "--innodb-buffer-pool-size=256M",
        ],
    );
    fill(&source, 8000);
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    loop {
        let (before, lsn) = (undo_ids(&source), current_lsn(&source));
        while undo_ids(&source) == before {
            assert!(begun.elapsed() < Duration::from_secs(120), "the server truncates no undo tablespace");
            source.execute("UPDATE d.t SET b = HEX(RANDOM_BYTES(100))");
        }
        let (sent, stream) = HalfWay::start(&source).finish(dir.path());
        let from: u64 = sent.value("redo").unwrap().split_whitespace().nth(3).unwrap().parse().unwrap();
        // Only then the redo tells of the truncation.
        if from < lsn {
            judge(&source, &sent, &stream, dir.path());
            break;
        }
    }
}

#[test]
fn redo_capacity_changes_while_copying() {
    let source = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=32M"]);
    fill(&source, 8000);
    let half_way = HalfWay::start(&source);
    for capacity in ["256M", "16M", "64M"] {
        source.execute(&format!("SET GLOBAL innodb_redo_log_capacity = {}", bytes(capacity)));
        for _ in 0..3 {
            source.execute("UPDATE d.t SET b = HEX(RANDOM_BYTES(100))");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (sent, stream) = half_way.finish(dir.path());
    judge(&source, &sent, &stream, dir.path());
}

fn bytes(text: &str) -> u64 {
    text.trim_end_matches('M').parse::<u64>().unwrap() << 20
}

#[test]
fn ddl_waits_and_dml_does_not() {
    let source = Server::start(Kind::Mysql97, &[]);
    fill(&source, 100);
    let half_way = HalfWay::start(&source);
    source.execute("SET SESSION lock_wait_timeout = 1");
    for ddl in [
        "CREATE TABLE d.x (a INT)",
        "ALTER TABLE d.t ADD COLUMN c INT",
        "DROP TABLE d.t",
        "TRUNCATE TABLE d.t",
    ] {
        let refused = source.try_query(ddl).unwrap_err().to_string();
        assert!(refused.contains("Lock wait timeout"), "{ddl}: {refused}");
    }
    source.execute(
        "DELETE FROM d.t WHERE a = 1; CREATE TEMPORARY TABLE d.tmp (a INT); INSERT INTO d.tmp VALUES (1)",
    );
    let dir = tempfile::tempdir().unwrap();
    let (sent, stream) = half_way.finish(dir.path());
    judge(&source, &sent, &stream, dir.path());
    source.execute("ALTER TABLE d.t ADD COLUMN c INT");
}
