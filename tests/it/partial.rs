//! Partial backups: chosen tables are whole, and the copy says what it lacks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::pipe::{Said, into_file, on_file, said, xbsend};
use crate::support::{Kind, Server, check_tables, tool};

fn source() -> Server {
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute(
        "CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE `c-d`;
         CREATE TABLE b.u (id INT PRIMARY KEY); INSERT INTO b.u VALUES (1), (2);
         CREATE TABLE a.t (id INT PRIMARY KEY, r INT, FOREIGN KEY (r) REFERENCES b.u (id));
         INSERT INTO a.t VALUES (1, 1), (2, 2);
         CREATE TABLE a.p (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3; INSERT INTO a.p VALUES (1), (2), (3);
         CREATE TABLE a.m (id INT PRIMARY KEY) ENGINE = MyISAM; INSERT INTO a.m VALUES (1);
         CREATE TABLE b.m (id INT PRIMARY KEY) ENGINE = MyISAM; INSERT INTO b.m VALUES (1);
         CREATE TABLE `c-d`.`t u` (id INT PRIMARY KEY); INSERT INTO `c-d`.`t u` VALUES (1);
         CREATE TABLE `c-d`.out1 (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
    );
    source
}

fn receive(target: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.arg("--progress=none").args(words).arg(target);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn send(source: &Server, words: &[&str], stream: &Path) -> Said {
    let mut send = xbsend(source);
    send.args(words);
    into_file(send, stream)
}

fn errors(copy: &Server, sql: &str) -> bool {
    copy.try_query(sql).is_err()
}

#[test]
fn chosen_tables_are_whole_and_the_others_are_named() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let (stream, target) = (dir.path().join("a.xb"), dir.path().join("copy"));
    // Their redo is in the stream, and a tablespace is made in it.
    source.execute(
        "INSERT INTO b.u VALUES (3); CREATE TABLE b.late (id INT PRIMARY KEY); INSERT INTO b.late VALUES (1)",
    );
    send(&source, &["--databases=a nosuch.t"], &stream)
        .failed("usage")
        .says("nothing on this server matches");
    let list = dir.path().join("list");
    std::fs::write(&list, "a\nc-d.t u\n").unwrap();
    let said = send(&source, &[&format!("--databases-file={}", list.display())], &stream).ok();
    said.says("a.t refers to b.u, which is left out");
    let said = on_file(receive(&target, &[]), &stream).ok();
    let left_out = said.value("left out").unwrap();
    assert_eq!(left_out, "b.late, b.u, c-d.out1");
    on_file(receive(&dir.path().join("none"), &["--prepare=none"]), &stream).failed("usage");
    let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.t"), "2");
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.p"), "3");
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.m"), "1");
    assert_eq!(copy.value("SELECT COUNT(*) FROM `c-d`.`t u`"), "1");
    for lost in ["b.u", "b.late", "b.m", "`c-d`.out1"] {
        assert!(errors(&copy, &format!("SELECT * FROM {lost}")), "{lost}");
    }
    drop(copy);

    // A server takes them out of its dictionary.
    let clean = dir.path().join("clean");
    let mysqld = tool("mysqld");
    on_file(receive(&clean, &["--prepare=server", "--mysqld", mysqld.to_str().unwrap()]), &stream).ok();
    let copy = Server::start_on(Kind::Mysql97, &clean, &["--log-bin=binlog"]);
    let left =
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'b' AND engine = 'InnoDB'";
    assert_eq!(copy.value(left), "0");
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.t"), "2");
    assert_eq!(
        copy.value(
            "SELECT GROUP_CONCAT(table_name) FROM information_schema.tables WHERE table_schema = 'c-d'"
        ),
        "t u"
    );
}

#[test]
fn a_partial_backup_takes_increments_of_the_same_tables() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let list = at("tables");
    std::fs::write(&list, "b.u\na.p\nc-d.t u\n").unwrap();
    let choose = format!("--tables-exclude-file={}", list.display());
    let lsn = format!("--extra-lsndir={}", at("lsn").display());
    let since = format!("--since={}", at("lsn").display());
    send(&source, &[&choose, &lsn], &at("0.xb")).ok();
    source.execute("INSERT INTO a.t VALUES (3, 1); INSERT INTO b.u VALUES (9); INSERT INTO a.p VALUES (9); DROP TABLE `c-d`.out1");
    source.execute("CREATE TABLE a.new (id INT PRIMARY KEY); INSERT INTO a.new VALUES (1), (2)");
    send(&source, &[&since], &at("all.xb")).failed("wrong-base").says("that has the tables");
    let beside = format!("{since}/xtrabackup_checkpoints");
    send(&source, &[&beside], &at("all.xb")).failed("wrong-base").says("that has the tables");
    // Only a checkpoints file with no manifest beside it can not tell what its backup left out.
    std::fs::copy(at("lsn/xtrabackup_checkpoints"), at("checkpoints")).unwrap();
    let alone = format!("--since={}", at("checkpoints").display());
    send(&source, &[&alone], &at("all.xb")).ok();
    send(&source, &[&choose, &since, &lsn], &at("1.xb")).ok();
    let mut chain = receive(&at("copy"), &[]);
    chain.args([at("0.xb"), at("1.xb")]);
    let said1 = said(chain.spawn().unwrap()).ok();
    assert_eq!(said1.value("left out").unwrap(), "a.p, b.u, c-d.t u");
    // An increment of more tables has only some pages of those that the base lacks.
    let mut chain = receive(&at("wrong"), &[]);
    chain.args([at("0.xb"), at("all.xb")]);
    said(chain.spawn().unwrap()).failed("wrong-base").says("it has the tables 'all'");
    let copy = Server::start_on(Kind::Mysql97, &at("copy"), &["--log-bin=binlog"]);
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.t"), "3");
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.new"), "2");
    assert!(errors(&copy, "SELECT * FROM a.p"));
    drop(copy);
    // Merged in place, and by an extracted folder's own manifest.
    on_file(receive(&at("merged"), &[]), &at("0.xb")).ok();
    let mut merge = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    merge.args(["merge", "--progress=none"]).arg(at("merged")).arg(at("1.xb"));
    said(merge.stderr(Stdio::piped()).spawn().unwrap()).ok();
    let copy = Server::start_on(Kind::Mysql97, &at("merged"), &["--log-bin=binlog"]);
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.t"), "3");
}

#[test]
fn names_and_patterns_that_are_none_are_refused() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    std::fs::write(&list, "a\n").unwrap();
    let unqualified = format!("--tables-file={}", list.display());
    for words in [
        "--databases=nosuch",
        "--databases=a.nosuch",
        "--databases-exclude=nosuch",
        "--tables=^nosuch[.]",
        "--tables=(",
        "--tables-exclude=zzz",
        "--databases=a/b",
        "--tables-file=/no/such/file",
        &unqualified,
    ] {
        send(&source, &[words], &dir.path().join("x")).failed("usage");
    }
    // A whole server but for one schema; all is sound.
    let (stream, target) = (dir.path().join("s.xb"), dir.path().join("copy"));
    send(&source, &["--databases-exclude=b"], &stream).ok();
    let mysqld = tool("mysqld");
    on_file(receive(&target, &["--prepare=server", "--mysqld", mysqld.to_str().unwrap()]), &stream).ok();
    let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
    copy.execute("DROP TABLE IF EXISTS b.m");
    check_tables(&copy);
}
