//! The binary log that travels with a copy, encrypted or not, and a replica as source.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::pipe::{copy, pipe, xbrecv_unprepared, xbsend};
use crate::support::{Kind, Server};

const GTIDS: [&str; 2] = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"];

/// Has `server` take its keys from a file of its datadir, from its next start on.
fn with_keyring(datadir: &Path) {
    let keys = datadir.join("keys");
    std::fs::write(datadir.join("mysqld.my"), r#"{"components": "file://component_keyring_file"}"#).unwrap();
    let config = format!(r#"{{"path": "{}", "read_only": false}}"#, keys.display());
    std::fs::write(datadir.join("component_keyring_file.cnf"), config).unwrap();
}

fn encrypted(rows: u32) -> Server {
    let mut server = Server::start(Kind::Mysql97, &["--log-bin=binlog"]);
    server.stop();
    with_keyring(server.datadir());
    server.restart();
    server.execute(
        "SET GLOBAL binlog_encryption=ON; CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b TEXT)",
    );
    for n in 0..rows {
        server.execute(&format!("INSERT INTO d.t VALUES ({n}, REPEAT('x', 1000))"));
    }
    server
}

#[test]
fn an_encrypted_binary_log_arrives_whole() {
    // A short log, of which the header would be most, and one that is longer than any buffer.
    for rows in [0, 400] {
        let source = encrypted(rows);
        // Its fate is in the last bytes of the log.
        source.execute("XA START 'x'; INSERT INTO d.t VALUES (-1, 'prepared'); XA END 'x'; XA PREPARE 'x'");
        source.disconnect();
        let position: u64 = source.query("SHOW BINARY LOG STATUS")[0][1].parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("copy");
        let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        receive.args(["--prepare=native", "--progress=none"]).arg(&target);
        let (sent, received) = pipe(xbsend(&source), receive);
        sent.ok().says("keyring");
        received.ok();
        let name = source.query("SHOW BINARY LOG STATUS")[0][0].clone();
        let arrived = std::fs::read(target.join(&name)).unwrap();
        assert_eq!(arrived.len() as u64, position + 512);
        assert!(arrived == std::fs::read(source.datadir().join(&name)).unwrap()[..arrived.len()]);
        // Without its keys the server does not start; with them it settles what was prepared.
        assert!(Server::try_start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]).is_err());
        with_keyring(&target);
        std::fs::copy(source.datadir().join("keys"), target.join("keys")).unwrap();
        let restored = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
        assert_eq!(restored.value("SELECT COUNT(*) FROM d.t"), rows.to_string());
        assert_eq!(restored.query("XA RECOVER").len(), 1);
        restored.execute("XA COMMIT 'x'");
        assert_eq!(restored.value("SELECT b FROM d.t WHERE a = -1"), "prepared");
    }
}

fn source_with_account(options: &[&str]) -> Server {
    let source = Server::start(Kind::Mysql97, &[&["--log-bin=binlog"], options].concat());
    source.execute("SET sql_log_bin=0; CREATE USER repl@'%' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'; SET sql_log_bin=1");
    source
}

fn source_options(source: &Server) -> String {
    format!(
        "SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='repl', SOURCE_PASSWORD='repl', GET_SOURCE_PUBLIC_KEY=1",
        source.port()
    )
}

/// Waits until a query gives `expected`.
fn wait_for(server: &Server, query: &str, expected: &str) {
    let begun = Instant::now();
    loop {
        let found = server.try_query(query).ok().and_then(|rows| Some(rows.first()?.first()?.clone()));
        if found.as_deref() == Some(expected) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{query}: {found:?} is not {expected}\n{:?}\n{}",
            server.query("SELECT * FROM performance_schema.replication_applier_status_by_coordinator"),
            server.error_log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The statements that a summary offers, with the words that only the user knows.
fn offered(words: &str, source: &Server) -> Vec<String> {
    let line = words.lines().find_map(|l| Some(l.split_once("as a replica")?.1.trim())).unwrap();
    let line = line.replace("SOURCE_HOST='…', SOURCE_USER='…', SOURCE_PASSWORD='…'", &source_options(source));
    line.split("; ").map(str::to_owned).collect()
}

#[test]
fn the_copy_of_a_replica_becomes_a_replica_by_the_summarys_words() {
    for gtids in [true, false] {
        let options: &[&str] = if gtids { &GTIDS } else { &[] };
        let first = source_with_account(options);
        first.execute("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
        let middle = source_with_account(&[options, &["--server-id=2", "--relay-log=relay"]].concat());
        let auto = if gtids { "SOURCE_AUTO_POSITION=1" } else { "SOURCE_AUTO_POSITION=0" };
        if !gtids {
            middle.execute("SET GLOBAL replica_parallel_workers=0");
        }
        middle.execute(&format!(
            "CHANGE REPLICATION SOURCE TO {}, {auto}; START REPLICA",
            source_options(&first)
        ));
        wait_for(&middle, "SELECT COUNT(*) FROM d.t", "1");
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("copy");
        let (sent, received) = copy(&middle, &target, &[]);
        // As XtraBackup writes it: the words for a sibling, to which the source's address is added.
        let info = std::fs::read_to_string(target.join("xtrabackup_slave_info")).unwrap();
        let words = ["SOURCE_AUTO_POSITION=1;", "SOURCE_LOG_FILE='binlog.0"][usize::from(!gtids)];
        assert!(info.contains(&format!("CHANGE REPLICATION SOURCE TO {words}")), "{info}\n{}", sent.words);
        assert_eq!(info.contains("SET GLOBAL gtid_purged='"), gtids, "{info}");
        let start = [options, &["--log-bin=binlog", "--relay-log=relay", "--server-id=3"]].concat();
        let restored = Server::start_on(Kind::Mysql97, &target, &start);
        for statement in offered(&received.words, &middle) {
            restored.execute(&statement);
        }
        first.execute("INSERT INTO d.t VALUES (2)");
        wait_for(&restored, "SELECT COUNT(*) FROM d.t", "2");
        if !gtids {
            // Beside its source: by the words of the file.
            let sibling = dir.path().join("sibling");
            copy(&middle, &sibling, &[]);
            let info = std::fs::read_to_string(sibling.join("xtrabackup_slave_info")).unwrap();
            first.execute("INSERT INTO d.t VALUES (3)");
            let sibling = Server::start_on(
                Kind::Mysql97,
                &sibling,
                &["--log-bin=binlog", "--relay-log=relay", "--server-id=4"],
            );
            sibling.execute("RESET REPLICA ALL");
            let (before, after) = info.trim().split_once(" TO ").unwrap();
            sibling.execute(&format!("{before} TO {}, {after}", source_options(&first)));
            sibling.execute("START REPLICA");
            wait_for(&sibling, "SELECT COUNT(*) FROM d.t", "3");
        }
    }
}

#[test]
fn every_channel_of_a_replica_is_named() {
    let sources = [source_with_account(&[]), source_with_account(&["--server-id=2"])];
    let replica = Server::start(
        Kind::Mysql97,
        &["--log-bin=binlog", "--server-id=3", "--replica-parallel-workers=0", "--relay-log=relay"],
    );
    for (n, source) in sources.iter().enumerate() {
        source.execute(&format!("CREATE DATABASE d{n}; CREATE TABLE d{n}.t (a INT PRIMARY KEY)"));
        replica.execute(&format!(
            "CHANGE REPLICATION SOURCE TO {} FOR CHANNEL 'it''s {n}'",
            source_options(source)
        ));
        replica.execute(&format!("START REPLICA FOR CHANNEL 'it''s {n}'"));
        wait_for(
            &replica,
            &format!("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd{n}'"),
            "1",
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy");
    copy(&replica, &target, &[]);
    let info = std::fs::read_to_string(target.join("xtrabackup_slave_info")).unwrap();
    let lines: Vec<_> = info.lines().collect();
    assert_eq!(lines.len(), 2, "{info}");
    for (n, line) in lines.iter().enumerate() {
        assert!(line.ends_with(&format!(" FOR CHANNEL 'it''s {n}';")), "{info}");
    }
    let restored =
        Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog", "--relay-log=relay", "--server-id=4"]);
    restored.execute("RESET REPLICA ALL");
    for (line, source) in lines.iter().zip(&sources) {
        let (before, after) = line.split_once(" TO ").unwrap();
        restored.execute(&format!("{before} TO {}, {after}", source_options(source)));
    }
    for (n, source) in sources.iter().enumerate() {
        restored.execute(&format!("START REPLICA FOR CHANNEL 'it''s {n}'"));
        source.execute(&format!("INSERT INTO d{n}.t VALUES (7)"));
        wait_for(&restored, &format!("SELECT MAX(a) FROM d{n}.t"), "7");
    }
}

#[test]
fn names_of_the_source_do_nothing_in_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    for base in ["b$(touch pwned)", "b'; touch pwned; '", "b`touch pwned`", "b\" ä"] {
        let option = format!("--log-bin={base}");
        let source = Server::start(Kind::Mysql97, &[&option]);
        source.execute("CREATE DATABASE d");
        let target = dir.path().join("it's a copy");
        let (sent, received) = pipe(xbsend(&source), xbrecv_unprepared(&target));
        sent.ok();
        let received = received.ok();
        let line = received.value("next").unwrap();
        let output = Command::new("sh")
            .current_dir(dir.path())
            .arg("-c")
            .arg(line.replacen("mysqld", "printf '%s\\n'", 1))
            .output()
            .unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        assert_eq!(words, format!("--datadir={}\n{option}\n", target.display()), "{line}");
        assert!(!dir.path().join("pwned").exists());
        std::fs::remove_dir_all(target).unwrap();
    }
}
