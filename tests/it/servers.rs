//! The servers that all other integration tests stand on do what those tests take for granted.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    Kind, Server, WriteLoad, Zoo, assert_same, check_load, check_tables, checksums, definitions,
    gtid_executed, seed,
};

#[test]
fn zoo_survives_a_restart() {
    let outside = tempfile::tempdir().unwrap();
    let zoo = Zoo::new(outside.path());
    let mut server = Server::start(Kind::Mysql97, &zoo.options());
    zoo.load(&server);
    check_tables(&server);
    let (before, gtids, shape) = (checksums(&server), gtid_executed(&server), definitions(&server));
    assert!(before.len() > 40, "{before:?}");

    server.stop();
    server.restart();
    // First, since opening a MEMORY table that was lost with the old server logs a TRUNCATE.
    assert_eq!(gtid_executed(&server), gtids);
    check_tables(&server);
    assert_same(&checksums(&server), &before);
    assert_same(&definitions(&server), &shape);

    server.kill();
    server.restart();
    check_tables(&server);
    assert_same(&checksums(&server), &before);
}

#[test]
fn zoo_fits_every_page_size() {
    for page_size in [4096, 8192, 32768, 65536] {
        let outside = tempfile::tempdir().unwrap();
        let mut zoo = Zoo::with_page_size(outside.path(), page_size);
        zoo.rows = 200;
        let server = Server::start(Kind::Mysql97, &zoo.options());
        zoo.load(&server);
        check_tables(&server);
        assert_eq!(server.value("SELECT @@innodb_page_size"), page_size.to_string());
    }
}

#[test]
fn older_and_other_servers_start_and_answer() {
    for (kind, version) in [(Kind::Mysql56, "5.6.24"), (Kind::Mariadb1011, "10.11.")] {
        let mut server = Server::start(kind, &[]);
        assert!(server.value("SELECT VERSION()").starts_with(version));
        server.execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO d.t VALUES (1)");
        server.kill();
        server.restart();
        check_tables(&server);
        assert_eq!(server.query("SELECT * FROM d.t"), [["1"]]);
    }
}

#[test]
fn a_copied_datadir_starts_as_it_is() {
    let mut server = Server::start(Kind::Mysql97, &[]);
    server
        .execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
    let before = checksums(&server);
    server.stop();
    let copy = tempfile::tempdir().unwrap();
    let datadir = copy.path().join("datadir");
    assert!(Command::new("cp").arg("-a").args([server.datadir(), &datadir]).status().unwrap().success());
    {
        let second = Server::start_on(Kind::Mysql97, &datadir, &[]);
        assert_same(&checksums(&second), &before);
    }
    assert!(datadir.join("ibdata1").exists(), "a datadir that was given is not removed");

    std::fs::remove_file(datadir.join("ibdata1")).unwrap();
    let words = Server::try_start_on(Kind::Mysql97, &datadir, &[]).err().expect("no start without ibdata1");
    assert!(words.contains("InnoDB"), "{words}");
}

#[test]
fn a_server_does_not_outlive_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().canonicalize().unwrap().join("server");
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let name = format!("owned-{}", owner.id());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");
    let started = Command::new(script)
        .args(["start", "mysql-5.6", &name, "--owner-pid", &owner.id().to_string(), "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    assert!(dir.join("data/ibdata1").exists());

    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while dir.exists() {
        assert!(Instant::now() < deadline, "the server's folder is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!Command::new(script).args(["env", &name]).output().unwrap().status.success());
}

#[test]
fn the_write_load_keeps_its_books() {
    let mut server = Server::start(Kind::Mysql97, &[]);
    let load = WriteLoad::start(&server, seed(), 3);
    load.wait_for(300);
    check_load(&server);
    let stats = load.stop();
    assert!(stats.rolled_back > 0 && stats.prepared > 0 && stats.savepoints > 0, "{stats:?}");
    assert_eq!(server.query("XA RECOVER"), Vec::<Vec<String>>::new());
    assert_eq!(server.value("SELECT COUNT(*) FROM information_schema.innodb_trx"), "0");

    // The next one goes on with the same tables, also when its server dies under it.
    let load = WriteLoad::start_at(&server, seed(), 3, 500.0);
    load.wait_for(50);
    server.kill();
    load.abandon();
    server.restart();
    for row in server.query("XA RECOVER") {
        server.execute(&format!("XA ROLLBACK '{}'", row[3]));
    }
    check_load(&server);
    check_tables(&server);

    server.execute("UPDATE `load`.account SET balance = balance + 1 WHERE id = 7");
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_load(&server))).is_err());
}
