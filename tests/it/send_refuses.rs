//! What can't become a whole backup never gets a manifest, and the reason has its own code.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::pipe::{has_manifest, into_file, into_nothing, said, xbsend};
use crate::support::{Kind, Server};
use rustix::process::{Pid, Signal, kill_process};

/// A table whose rows fill about `megabytes`.
fn fill(server: &Server, table: &str, megabytes: usize) {
    server.execute("CREATE DATABASE IF NOT EXISTS d");
    server.execute(&format!("CREATE TABLE d.{table} (a INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)"));
    server.execute(&format!("INSERT INTO d.{table} (b) VALUES (RANDOM_BYTES(1000)), (RANDOM_BYTES(1000))"));
    let doublings = (megabytes * 1024 / 2).ilog2();
    for _ in 0..doublings {
        server.execute(&format!("INSERT INTO d.{table} (b) SELECT RANDOM_BYTES(1000) FROM d.{table}"));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn redo_that_was_overwritten_fails_the_backup() {
    let server = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=8M"]);
    fill(&server, "t", 4);
    let dir = tempfile::tempdir().unwrap();
    for consumer in [false, true] {
        let file = dir.path().join("stream");
        let mut command = xbsend(&server);
        if !consumer {
            command.arg("--no-redo-consumer");
        }
        // The pipe is not read: the backup stands in the middle of its datafiles.
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stream = child.stdout.take().unwrap();
        let mut out = std::fs::File::create(&file).unwrap();
        let mut head = vec![0; 4 << 20];
        stream.read_exact(&mut head).unwrap();
        out.write_all(&head).unwrap();
        // Stopped, it can't follow the log while the server writes several times its capacity.
        signal(&child, Signal::STOP);
        let before = server.value("SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME='Innodb_redo_log_current_lsn'");
        let writer = {
            let options = server.options();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    use mysql_async::prelude::Queryable;
                    let mut conn = mysql_async::Conn::new(options).await.unwrap();
                    for _ in 0..12 {
                        conn.query_drop("UPDATE d.t SET b = RANDOM_BYTES(1000)").await.unwrap();
                    }
                    conn.disconnect().await.unwrap();
                })
            })
        };
        // Whoever is stopped holds up nobody: the server ends the consumer's session by itself.
        writer.join().unwrap();
        let after = server.value("SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME='Innodb_redo_log_current_lsn'");
        assert!(after.parse::<u64>().unwrap() > before.parse::<u64>().unwrap() + (24 << 20));
        signal(&child, Signal::CONT);
        std::io::copy(&mut stream, &mut out).unwrap();
        said(child).failed("redo-overrun").says("redo consumer");
        assert!(!has_manifest(&file));
    }
}

#[test]
fn a_server_without_redo_is_refused() {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute("ALTER INSTANCE DISABLE INNODB REDO_LOG");
    into_nothing(xbsend(&server)).failed("redo-disabled").says("ENABLE INNODB REDO_LOG");
    server.execute("ALTER INSTANCE ENABLE INNODB REDO_LOG");
    into_nothing(xbsend(&server)).ok();
}

#[test]
fn a_damaged_page_fails_the_backup_and_a_torn_one_is_read_again() {
    let server = Server::start(Kind::Mysql97, &[]);
    fill(&server, "t", 2);
    server.execute("FLUSH TABLES d.t FOR EXPORT");
    server.execute("UNLOCK TABLES");
    let path = server.datadir().join("d/t.ibd");
    let mut file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let page = 40u64;
    let mut sound = vec![0; 16384];
    file.seek(SeekFrom::Start(page * 16384)).unwrap();
    file.read_exact(&mut sound).unwrap();
    let mut write = |half: &[u8]| {
        file.seek(SeekFrom::Start(page * 16384)).unwrap();
        file.write_all(half).unwrap();
    };

    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join("stream");
    // The second half is what an unfinished write leaves.
    let mut torn = sound.clone();
    torn[8192..].fill(0x5a);
    write(&torn);
    into_file(xbsend(&server), &stream).failed("corrupt-page").says("page 40 of ").says("d/t.ibd");
    assert!(!has_manifest(&stream));

    let child = xbsend(&server).arg("-vv").stdout(std::fs::File::create(&stream).unwrap()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    write(&sound);
    let said = said(child).ok();
    assert!(said.value("torn pages").is_some(), "{}", said.words);
    assert!(has_manifest(&stream));
}

#[test]
fn missing_privileges_are_named_with_their_grant() {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute("CREATE USER b@localhost IDENTIFIED BY 's3cret'; GRANT PROCESS ON *.* TO b@localhost");
    let as_user = || {
        let mut command = xbsend(&server);
        command.args(["--user", "b", "--password=s3cret"]);
        command
    };
    into_nothing(as_user()).failed("privilege").says(
        "GRANT BACKUP_ADMIN, RELOAD ON *.* TO 'b'@'localhost'; GRANT SELECT ON performance_schema.log_status",
    );
    server.execute(
        "GRANT BACKUP_ADMIN, RELOAD ON *.* TO b@localhost; GRANT SELECT ON performance_schema.log_status TO b@localhost",
    );
    // log_status is enough; the heartbeat reads tables that everybody may read.
    into_nothing(as_user()).ok();
    let mut wrong = xbsend(&server);
    wrong.args(["-u", "b", "-pwrong"]);
    into_nothing(wrong).failed("connect").says("Access denied");
}

#[test]
fn passwords_leave_the_process_list_at_once() {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute("CREATE USER b@localhost IDENTIFIED BY 'topsecret'; GRANT ALL ON *.* TO b@localhost");
    let mut child =
        xbsend(&server).args(["--user=b", "--password=topsecret"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = child.stdout.take().unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    let shown = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("xbsend") && !shown.contains("topsecret"), "{shown}");
    drop(stream);
    said(child).failed("broken-pipe");
}

#[test]
fn a_reader_that_goes_away_is_a_failed_backup() {
    let server = Server::start(Kind::Mysql97, &[]);
    for bytes in [0, 1, 70_000, 3_000_000] {
        let mut child = xbsend(&server).stdout(Stdio::piped()).spawn().unwrap();
        let mut stream = child.stdout.take().unwrap();
        stream.read_exact(&mut vec![0; bytes]).unwrap();
        drop(stream);
        said(child).failed("broken-pipe");
    }
    // Nothing was left locked.
    server.execute("SET SESSION lock_wait_timeout = 2; CREATE DATABASE still_possible");
}

#[test]
fn a_lost_session_fails_the_backup() {
    let server = Server::start(Kind::Mysql97, &[]);
    let mut child = xbsend(&server).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = child.stdout.take().unwrap();
    stream.read_exact(&mut vec![0; 100_000]).unwrap();
    let mut sessions = Vec::new();
    wait_for("the session", || {
        sessions = server.query(
            "SELECT ID FROM performance_schema.processlist WHERE ID <> CONNECTION_ID() AND USER = 'root' AND COMMAND = 'Sleep'",
        );
        !sessions.is_empty()
    });
    for session in &sessions {
        // Another session of the test may be among them and be gone already.
        let _ = server.try_query(&format!("KILL {}", session[0]));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    said(child).failed("sql").says("session was lost");
    assert!(!rest.windows(15).any(|w| w == b"xbpipe_manifest"));
}

#[test]
fn a_killed_sender_leaves_no_lock() {
    let server = Server::start(Kind::Mysql97, &[]);
    fill(&server, "t", 2);
    server.execute("CREATE TABLE d.m (a INT) ENGINE=MyISAM");
    for stop in [Signal::KILL, Signal::TERM, Signal::INT] {
        let mut child = xbsend(&server).stdout(Stdio::piped()).spawn().unwrap();
        let mut stream = child.stdout.take().unwrap();
        stream.read_exact(&mut vec![0; 1_000_000]).unwrap();
        signal(&child, stop);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let said = said(child);
        assert_ne!(said.status, Some(0));
        if stop != Signal::KILL {
            said.failed("interrupted");
        }
        assert!(!rest.windows(15).any(|w| w == b"xbpipe_manifest"));
        server.execute("SET SESSION lock_wait_timeout = 5; CREATE TABLE d.x (a INT); DROP TABLE d.x");
        server.execute("INSERT INTO d.m VALUES (1)");
    }
}

#[test]
fn the_backup_lock_has_a_timeout() {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute("LOCK INSTANCE FOR BACKUP");
    // Backups may share the lock; DDL that runs may not. A table that is being altered is what holds it back.
    server.execute("UNLOCK INSTANCE");
    fill(&server, "t", 1);
    server.execute("CREATE TABLE d.m (a INT) ENGINE=MyISAM; LOCK TABLES d.m WRITE");
    let mut command = xbsend(&server);
    command.args(["--lock-timeout", "1"]);
    into_nothing(command).failed("lock-timeout").says("--lock-timeout");
    server.execute("UNLOCK TABLES");
    into_nothing(xbsend(&server)).ok();
}

#[test]
fn wrong_servers_and_wrong_words_are_refused() {
    let server = Server::start(Kind::Mysql97, &[]);
    let other = Server::start(Kind::Mysql97, &[]);
    let mut mixed = xbsend(&server);
    mixed.arg("--datadir").arg(other.datadir());
    into_nothing(mixed).failed("source-io").says("belongs to another server");
    let maria = Server::start(Kind::Mariadb1011, &[]);
    into_nothing(xbsend(&maria)).failed("unsupported-server").says("mariadb-backup");
    let old = Server::start(Kind::Mysql56, &[]);
    into_nothing(xbsend(&old)).failed("unsupported-server").says("XtraBackup");
    let mut strange = xbsend(&server);
    strange.arg("--strange");
    assert_eq!(into_nothing(strange).status, Some(2));
}
