//! A file that is copied belongs to a table that was seen, locked and flushed; an account that can't do that is told so.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::pipe::{into_nothing, pipe, said, xbrecv, xbsend};
use crate::support::{Kind, Server, check_tables};
use mysql_async::prelude::Queryable;

/// The privileges that README names.
const ALL: [&str; 5] = ["BACKUP_ADMIN", "PROCESS", "RELOAD", "SELECT", "LOCK TABLES"];

fn as_backup(server: &Server) -> Command {
    let mut command = xbsend(server);
    command.args(["--user", "b", "--password=b"]);
    command
}

fn new_account(server: &Server, grants: &str) {
    server.execute(&format!(
        "DROP USER IF EXISTS b@localhost; CREATE USER b@localhost IDENTIFIED BY 'b'; {grants}"
    ));
}

/// Tables of every engine that keeps files.
fn other_engines(server: &Server) {
    server.execute(
        "CREATE DATABASE d; CREATE DATABASE `e-ü`; USE d;
         CREATE TABLE m (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(200), KEY (b)) ENGINE=MyISAM;
         CREATE TABLE m2 (a INT, b VARCHAR(200), KEY (a)) ENGINE=MyISAM; CREATE TABLE g (a INT, b VARCHAR(200), KEY (a)) ENGINE=MERGE UNION=(m2) INSERT_METHOD=LAST;
         CREATE TABLE c (a INT NOT NULL) ENGINE=CSV; CREATE TABLE r (a INT) ENGINE=ARCHIVE;
         CREATE TABLE memory (a INT) ENGINE=MEMORY; CREATE TABLE black (a INT) ENGINE=BLACKHOLE;
         CREATE TABLE `e-ü`.`日本 x` (a INT) ENGINE=MyISAM; CREATE TABLE mysql.mine (a INT) ENGINE=MyISAM;
         INSERT INTO mysql.mine VALUES (1); INSERT INTO m (b) VALUES ('x'), ('y')",
    );
}

/// Writes to a table of each engine until it is told to stop.
fn with_writes<T>(server: &Server, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let options = server.options();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = mysql_async::Conn::new(options).await.unwrap();
                while !over.load(Ordering::Relaxed) {
                    for write in [
                        "INSERT INTO d.m (b) SELECT REPEAT(RAND(), 8) FROM d.m LIMIT 50",
                        "DELETE FROM d.m WHERE a % 3 = 0 LIMIT 20",
                        "INSERT INTO d.g VALUES (1, RAND())",
                        "INSERT INTO d.c VALUES (1)",
                        "INSERT INTO d.r VALUES (1)",
                        "INSERT INTO `e-ü`.`日本 x` VALUES (1)",
                    ] {
                        conn.query_drop(write).await.unwrap();
                    }
                }
                conn.disconnect().await.unwrap();
            });
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

/// Every subset of the privileges with one or two left out.
fn subsets() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let mut found = Vec::new();
    for first in 0..ALL.len() {
        for second in first..ALL.len() {
            let (out, left): (Vec<_>, Vec<_>) = (0..ALL.len()).partition(|n| *n == first || *n == second);
            found.push((left.iter().map(|n| ALL[*n]).collect(), out.iter().map(|n| ALL[*n]).collect()));
        }
    }
    found
}

#[test]
fn whatever_privilege_is_missing_the_copy_is_right_or_the_privilege_is_named() {
    let innodb = Server::start(Kind::Mysql97, &[]);
    innodb.execute("CREATE DATABASE d; CREATE TABLE d.t (a INT)");
    let others = Server::start(Kind::Mysql97, &[]);
    other_engines(&others);
    for (left, out) in subsets() {
        let grants = format!(
            "GRANT {} ON *.* TO b@localhost; GRANT SELECT ON performance_schema.log_status TO b@localhost",
            left.join(", ")
        );
        new_account(&innodb, &grants);
        let said = into_nothing(as_backup(&innodb));
        let needed: Vec<_> =
            out.iter().filter(|p| ["BACKUP_ADMIN", "PROCESS", "RELOAD"].contains(p)).collect();
        if needed.is_empty() {
            said.ok();
        } else {
            let said = said.failed("privilege").says("GRANT");
            assert!(needed.iter().all(|p| said.words.contains(**p)), "{out:?}\n{}", said.words);
        }
        new_account(&others, &grants);
        let said =
            with_writes(&others, || into_nothing(as_backup(&others))).failed("privilege").says("GRANT");
        // Global ones are named first; what they hide is named when they are there.
        let first = if needed.is_empty() { out.iter().collect() } else { needed };
        assert!(first.iter().all(|p| said.words.contains(**p)), "{out:?}\n{}", said.words);
    }
}

#[test]
fn tables_that_are_hidden_are_not_copied_without_a_lock() {
    let server = Server::start(Kind::Mysql97, &[]);
    other_engines(&server);
    let base = "GRANT BACKUP_ADMIN, PROCESS, RELOAD ON *.* TO b@localhost; GRANT SELECT ON performance_schema.log_status TO b@localhost;";
    let every = "GRANT SELECT, LOCK TABLES ON *.* TO b@localhost;";
    let schemas = "GRANT SELECT, LOCK TABLES ON d.* TO b@localhost; GRANT SELECT, LOCK TABLES ON `e-ü`.* TO b@localhost;";
    let mysql = "GRANT SELECT, LOCK TABLES ON mysql.* TO b@localhost;";
    for (grants, right) in [
        (base.to_string(), false),
        (format!("{base} GRANT SELECT ON d.m TO b@localhost"), false),
        (format!("{base} GRANT SELECT, LOCK TABLES ON d.* TO b@localhost"), false),
        (format!("{base} {schemas}"), false),
        (format!("{base} {schemas} {mysql}"), true),
        (format!("{base} {schemas} {mysql} CREATE ROLE IF NOT EXISTS x; GRANT x TO b@localhost"), true),
        (
            format!(
                "{base} DROP ROLE IF EXISTS y; CREATE ROLE y; GRANT SELECT, LOCK TABLES ON *.* TO y; GRANT y TO b@localhost"
            ),
            true,
        ),
        (
            format!(
                "{base} {every} SET GLOBAL partial_revokes=ON; REVOKE SELECT, LOCK TABLES ON d.* FROM b@localhost"
            ),
            false,
        ),
        (format!("{base} {every} REVOKE LOCK TABLES ON `e-ü`.* FROM b@localhost"), false),
        (format!("{base} {every}"), true),
    ] {
        new_account(&server, &grants);
        if !right {
            with_writes(&server, || into_nothing(as_backup(&server)))
                .failed("privilege")
                .says("GRANT ")
                .says("LOCK TABLES");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("copy");
        with_writes(&server, || {
            let (sent, received) = pipe(as_backup(&server), xbrecv(&target));
            sent.ok();
            received.ok();
        });
        let copy = Server::start_on(Kind::Mysql97, &target, &[]);
        check_tables(&copy);
        assert_eq!(copy.value("SELECT COUNT(*) FROM mysql.mine"), "1");
    }
}

#[test]
fn what_an_account_can_do_is_read_from_the_grants_of_its_server() {
    let server = Server::start(Kind::Mysql97, &["--skip-grant-tables", "--skip-networking=OFF"]);
    into_nothing(xbsend(&server)).ok();
}

#[test]
fn two_backups_at_once_lock_other_engines_one_after_the_other() {
    let server = Server::start(Kind::Mysql97, &[]);
    other_engines(&server);
    with_writes(&server, || {
        for _ in 0..5 {
            let running: Vec<_> = (0..3)
                .map(|_| {
                    let mut command = xbsend(&server);
                    command.arg("--no-redo-consumer").stdout(std::process::Stdio::null());
                    command.spawn().unwrap()
                })
                .collect();
            running.into_iter().for_each(|child| drop(said(child).ok()));
        }
    });
}

#[test]
fn leftover_files_of_no_table_stay_behind() {
    let server = Server::start(Kind::Mysql97, &[]);
    other_engines(&server);
    for leftover in ["d/gone.MYD", "d/#sql-1_2.MYI", "d/m3.CSV"] {
        std::fs::write(server.datadir().join(leftover), b"x").unwrap();
    }
    let said = into_nothing(xbsend(&server)).ok();
    for leftover in ["gone.MYD", "#sql-1_2.MYI", "m3.CSV"] {
        assert!(said.words.contains(&format!("{leftover} belongs to no table")), "{}", said.words);
    }
    new_account(
        &server,
        "GRANT BACKUP_ADMIN, PROCESS, RELOAD ON *.* TO b@localhost; GRANT SELECT ON performance_schema.log_status TO b@localhost;
         GRANT SELECT, LOCK TABLES ON d.* TO b@localhost; GRANT SELECT, LOCK TABLES ON `e-ü`.* TO b@localhost;
         GRANT SELECT, LOCK TABLES ON mysql.* TO b@localhost",
    );
    into_nothing(as_backup(&server)).failed("privilege").says("belongs to no table that the account sees");
}
