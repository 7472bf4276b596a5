//! A session of xbsend means the same on every server: whatever the server's variables are, the backup holds the same members.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::pipe::{Said, into_file, into_nothing, xbsend};
use crate::support::{Kind, Server};
use xbpipe::stream::{Demux, Event, Limits};

/// Names of the members of a stream.
fn members(file: &Path) -> BTreeSet<String> {
    let stream = std::fs::read(file).unwrap();
    let (mut demux, mut names) = (Demux::new(Limits::default()), BTreeSet::new());
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let taken = demux.feed(rest);
        rest = &rest[taken..];
        while let Some(event) = demux.poll().unwrap() {
            if let Event::End { member, .. } = event {
                names.insert(member.as_str().to_owned());
            }
        }
    }
    names
}

/// `xbsend` as an account with the privileges that README names, and no more.
fn as_backup(server: &Server) -> Command {
    let mut command = xbsend(server);
    command.args(["--user", "b", "--password=b"]);
    command
}

fn with_account() -> Server {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute(
        "CREATE USER b@localhost IDENTIFIED BY 'b';
         GRANT BACKUP_ADMIN, PROCESS, RELOAD, SELECT, LOCK TABLES ON *.* TO b@localhost;
         CREATE DATABASE d; CREATE DATABASE `ü-ß`;
         CREATE TABLE d.`it's ``é` (a INT); CREATE TABLE `ü-ß`.`日本` (a INT) ENGINE=MyISAM;
         CREATE TABLE d.c (a INT NOT NULL) ENGINE=CSV; CREATE TABLE d.p (a INT) PARTITION BY HASH (a) PARTITIONS 9",
    );
    server
}

/// A global value that a session inherits.
#[derive(Clone, Debug)]
struct Change {
    name: String,
    value: String,
    before: String,
}

fn quoted(kind: &str, value: &str) -> String {
    let number = matches!(kind, "Integer" | "Numeric") && value.parse::<f64>().is_ok();
    if number { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

/// The values that are tried with a variable.
fn values(name: &str, kind: &str, least: &str, most: &str) -> Vec<String> {
    let texts = |all: &[&str]| all.iter().map(|t| format!("'{t}'")).collect();
    match (kind, name) {
        ("Integer" | "Numeric", _) => [least, most].map(str::to_owned).into(),
        ("Boolean", _) => texts(&["ON", "OFF"]),
        // By number, until the server knows no more.
        ("Enumeration", _) => (0..12).map(|n| n.to_string()).collect(),
        ("Set", _) => (0..40).map(|n| ((1u64 << n) - 1).to_string()).collect(),
        (_, name) if name.starts_with("character_set") => {
            texts(&["latin1", "ucs2", "utf32", "gbk", "binary"])
        }
        (_, name) if name.starts_with("collation") => texts(&["latin1_bin", "utf16_bin", "sjis_japanese_ci"]),
        (_, "time_zone") => texts(&["+13:00", "-13:59"]),
        (_, "lc_messages" | "lc_time_names") => texts(&["ja_JP", "ru_RU"]),
        (_, "session_track_system_variables") => texts(&["*", ""]),
        (_, "default_storage_engine" | "default_tmp_storage_engine") => texts(&["MEMORY", "CSV", "MyISAM"]),
        (_, "myisam_stats_method") => texts(&["nulls_equal", "nulls_ignored"]),
        _ => texts(&[""]),
    }
}

/// Every value of every variable that the server lets be set, and what it was before.
fn changes(server: &Server) -> Vec<Change> {
    let mut found = Vec::new();
    for row in server.query(
        "SELECT m.VARIABLE_NAME, m.DATA_TYPE, IFNULL(m.MIN_VALUE, ''), IFNULL(m.MAX_VALUE, ''), g.VARIABLE_VALUE
         FROM performance_schema.variables_metadata m JOIN performance_schema.global_variables g USING (VARIABLE_NAME)
         WHERE m.VARIABLE_SCOPE = 'SESSION' ORDER BY 1",
    ) {
        let [name, kind, least, most, before] = &row[..] else { panic!("{row:?}") };
        let before = quoted(kind, before);
        for value in values(name, kind, least, most) {
            if server.try_query(&format!("SET GLOBAL {name} = {value}")).is_ok() {
                found.push(Change { name: name.clone(), value, before: before.clone() });
                server.execute(&format!("SET GLOBAL {name} = {before}"));
            }
        }
    }
    found
}

/// What became of a backup under these changes: `None` where it is whole.
fn tried(server: &Server, some: &[Change], file: &Path, expected: &BTreeSet<String>) -> Option<Said> {
    for change in some {
        // Together with others it may be refused.
        let _ = server.try_query(&format!("SET GLOBAL {} = {}", change.name, change.value));
    }
    let said = into_file(as_backup(server), file);
    for change in some.iter().rev() {
        let _ = server.try_query(&format!("SET GLOBAL {} = {}", change.name, change.before));
    }
    if said.status == Some(0) {
        assert_eq!(&members(file), expected, "{some:?}\n{}", said.words);
        return None;
    }
    assert!(
        said.words.contains("error[") && !said.words.contains("error[internal]"),
        "{some:?}\n{}",
        said.words
    );
    Some(said)
}

/// The changes that are refused alone, found by halves.
fn refused(
    server: &Server,
    some: &[Change],
    file: &Path,
    expected: &BTreeSet<String>,
    into: &mut Vec<String>,
) {
    let Some(said) = tried(server, some, file, expected) else { return };
    if let [one] = some {
        into.push(format!("{}={}: {}", one.name, one.value, said.words.trim()));
        return;
    }
    let (left, right) = some.split_at(some.len() / 2);
    refused(server, left, file, expected, into);
    refused(server, right, file, expected, into);
}

#[test]
fn no_variable_of_a_session_changes_what_is_backed_up() {
    let server = with_account();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stream");
    into_file(as_backup(&server), &file).ok();
    let expected = members(&file);
    assert!(expected.len() > 20);
    let changes = changes(&server);
    let names: BTreeSet<_> = changes.iter().map(|c| &c.name).collect();
    assert!(names.len() > 100, "{names:?}");
    let mut refusals = Vec::new();
    if std::env::var_os("XBPIPE_ROUNDS").is_some() {
        // Each alone.
        for change in &changes {
            refused(&server, std::slice::from_ref(change), &file, &expected, &mut refusals);
        }
    } else {
        // Together, one value of each variable at a time.
        let mut left = changes.clone();
        while !left.is_empty() {
            let mut taken = BTreeSet::new();
            let (now, later): (Vec<_>, Vec<_>) = left.into_iter().partition(|c| taken.insert(c.name.clone()));
            refused(&server, &now, &file, &expected, &mut refusals);
            left = later;
        }
    }
    eprintln!(
        "{} values of {} variables, {} refused: {refusals:#?}",
        changes.len(),
        names.len(),
        refusals.len()
    );
    // In this character set the server shows its paths, and the account may not choose another for itself.
    refusals
        .retain(|r| !(r.starts_with("character_set_filesystem=") && r.contains("SESSION_VARIABLES_ADMIN")));
    assert!(refusals.is_empty(), "{refusals:#?}");
    server.execute(
        "SET GLOBAL character_set_filesystem=ucs2; GRANT SESSION_VARIABLES_ADMIN ON *.* TO b@localhost",
    );
    into_file(as_backup(&server), &file).ok();
    assert_eq!(members(&file), expected);
}

#[test]
fn limits_of_the_server_cut_nothing() {
    let server = with_account();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stream");
    into_file(as_backup(&server), &file).ok();
    let expected = members(&file);
    for setting in [
        "sql_select_limit=5",
        "sql_select_limit=0",
        "max_join_size=10",
        "max_execution_time=1",
        "wait_timeout=1",
        "net_write_timeout=1",
        "lock_wait_timeout=1",
        "sql_quote_show_create=0",
        "init_connect='SET autocommit=0, sql_select_limit=1, max_join_size=1; SET ROLE NONE; START TRANSACTION READ ONLY'",
        "init_connect='SET sql_mode=ANSI_QUOTES; SET NAMES gbk; DO GET_LOCK(1, 1)'",
    ] {
        let (name, _) = setting.split_once('=').unwrap();
        let before = server.value(&format!("SELECT IFNULL(@@GLOBAL.{name}, '')"));
        server.execute(&format!("SET GLOBAL {setting}"));
        for throttle in ["", "--throttle=auto"] {
            let mut command = as_backup(&server);
            command.args(Some(throttle).filter(|t| !t.is_empty()));
            into_file(command, &file).ok();
            assert_eq!(members(&file), expected, "{setting}");
        }
        server.execute(&format!("SET GLOBAL {name}={}", quoted("Integer", &before)));
    }
    server.execute("SET GLOBAL init_connect='no statement'");
    into_nothing(as_backup(&server)).failed("connect").says("init_connect");
}

#[test]
fn no_statement_grows_with_the_data() {
    let server = Server::start(Kind::Mysql97, &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
    server.execute(
        "CREATE USER b@localhost IDENTIFIED BY 'b';
         GRANT BACKUP_ADMIN, PROCESS, RELOAD, SELECT, LOCK TABLES ON *.* TO b@localhost; CREATE DATABASE d; USE d",
    );
    for n in 0..120 {
        server.execute(&format!(
            "CREATE TABLE d.a_rather_long_name_for_a_table_of_which_there_are_many_{n} (a INT) ENGINE=MyISAM"
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stream");
    server.execute("SET GLOBAL max_allowed_packet=1024; SET GLOBAL net_buffer_length=1024");
    let tables = |file: &Path| members(file).iter().filter(|m| m.ends_with(".MYD")).count();
    into_file(as_backup(&server), &file).ok();
    assert_eq!(tables(&file), 120);
    // Each of a source of its own: nothing can be merged.
    for n in 0..800 {
        server.execute(&format!(
            "SET gtid_next='{:08x}-0000-4000-8000-000000000000:{}'; BEGIN; COMMIT",
            n,
            n * 2 + 1
        ));
    }
    // The server itself can't make the row that holds the set. That is known before anything is locked or sent.
    let said = into_file(as_backup(&server), &file).failed("unsupported-server");
    assert!(
        said.words.contains("max_allowed_packet") && !said.words.contains("backup lock"),
        "{}",
        said.words
    );
    assert_eq!(file.metadata().unwrap().len(), 0);
    server.execute("SET gtid_next=AUTOMATIC; SET GLOBAL max_allowed_packet=65536");
    let said = into_file(as_backup(&server), &file).ok();
    let gtids = said.value("gtid").unwrap();
    assert_eq!(gtids, crate::support::gtid_executed(&server));
    assert!(gtids.matches(',').count() >= 799);
    assert_eq!(tables(&file), 120);
}

#[test]
fn a_time_limit_is_not_called_a_lock_and_a_shutdown_is_named() {
    let mut server = with_account();
    let mut child = as_backup(&server).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stream = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut stream, &mut vec![0; 100_000]).unwrap();
    server.stop();
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    crate::support::pipe::said(child).failed("sql").says("hint:").says("look into the server's error log");
}
