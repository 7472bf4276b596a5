//! A line that takes nothing for a while must not be the server's trouble, whatever is being sent just then.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Read;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::pipe::{said, xbsend};
use crate::support::{Kind, Server};

/// A table of another engine, larger than any pipe, and a plain file that is as large.
fn server() -> Server {
    let server = Server::start(Kind::Mysql97, &["--cte-max-recursion-depth=100000"]);
    server.run_script(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, c CHAR(200) NOT NULL) CHARACTER SET latin1 ENGINE = MyISAM; \
         INSERT INTO d.t WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 60000) \
         SELECT i, REPEAT('x', 200) FROM n;",
    );
    server
}

/// How often the server was told how far its redo was read.
fn told(server: &Server) -> u64 {
    let rows = server.query(
        "SELECT COALESCE(SUM(COUNT_STAR), 0) FROM performance_schema.events_statements_summary_by_digest
         WHERE DIGEST_TEXT LIKE '%consumer_advance%' AND DIGEST_TEXT NOT LIKE '%COUNT_STAR%'",
    );
    rows[0][0].parse().unwrap()
}

#[test]
fn the_server_hears_of_its_redo_while_locked_tables_wait_for_the_line() {
    let server = server();
    let mut child = xbsend(&server).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = child.stdout.take().unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut read = 0;
    // A chunk of the table's rows has come: its lock is held, and what follows does not fit into the pipe.
    let name = b"d/t.MYD";
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ended before the table came");
        read += n;
        if buffer[..n].windows(name.len()).any(|w| w == name) {
            break;
        }
    }
    sleep(Duration::from_millis(500));
    let before = told(&server);
    let begun = Instant::now();
    while told(&server) < before + 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server hears nothing: {before} times so far");
        sleep(Duration::from_millis(100));
    }
    assert_eq!(
        server.value("SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_NAME = 't' AND OBJECT_SCHEMA = 'd'"),
        "1",
        "the table is locked meanwhile"
    );
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    said(child).ok();
    eprintln!("{read} bytes were read before the line stood still");
}
