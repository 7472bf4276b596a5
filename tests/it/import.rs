//! `xbrecv import`: single tables of a backup into a running server, which is as before if anything goes wrong.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::export::shapes;
use crate::support::encryption::encrypt_everything;
use crate::support::pipe::{Said, copy, pipe, said, xbsend};
use crate::support::{Kind, Random, Server, assert_same, check_tables, checksums, definitions, seed, tool};

fn importing(dir: &Path, into: &Server, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["import", "--progress=none", "--user=root"]).arg(dir).args(words);
    command.arg("--into").arg(into.socket()).stderr(Stdio::piped());
    command
}

fn import(dir: &Path, into: &Server, words: &[&str]) -> Said {
    said(importing(dir, into, words).spawn().unwrap())
}

/// Nothing is left of an import but the tables.
fn assert_clean(server: &Server) {
    assert_eq!(server.query("SHOW DATABASES LIKE 'xbrecv%'"), [[""; 1]; 0]);
    for entry in std::fs::read_dir(server.datadir()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(!name.starts_with("xbrecv"), "{name}");
        if entry.is_dir() {
            let left = std::fs::read_dir(&entry).unwrap().map(|file| file.unwrap().path());
            let left: Vec<_> =
                left.filter(|file| file.extension().is_some_and(|e| e == "cfg" || e == "cfp")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn renamed(all: BTreeMap<String, String>, from: &str, to: &str) -> BTreeMap<String, String> {
    let (from, to) = (format!("`{from}`."), format!("`{to}`."));
    let of_schema = all.into_iter().filter(|(name, _)| name.contains(&from));
    of_schema.map(|(name, value)| (name.replace(&from, &to), value.replace(&from, &to))).collect()
}

#[test]
fn tables_of_every_shape_come_into_a_running_server_under_other_names() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let source = shapes();
    copy(&source, &backup, &["--prepare=native"]);
    let target = Server::start(Kind::Mysql97, &[]);
    import(&backup, &target, &["--tables=shapes"]).failed("target").says("CREATE DATABASE");
    target.execute("CREATE DATABASE archive; CREATE DATABASE other");
    import(&backup, &target, &["--tables=shapes", "--rename=shapes=archive"])
        .ok()
        .says("archive.")
        .says("replicas");
    let shown = |server: &Server| {
        let all = definitions(server).into_iter();
        all.map(|(name, text)| (name, text.replace(" /*!80016 ENCRYPTION='N' */", "")))
            .collect::<BTreeMap<_, _>>()
    };
    assert_same(&renamed(shown(&source), "shapes", "archive"), &shown(&target));
    assert_same(&renamed(checksums(&source), "shapes", "archive"), &checksums(&target));
    check_tables(&target);
    assert_clean(&target);
    // Constraints hold again.
    assert!(target.try_query("INSERT INTO archive.child (parent) VALUES (12345)").is_err());
    assert_eq!(
        target.value("SELECT COUNT(*) FROM archive.words WHERE MATCH (title) AGAINST ('animal')"),
        "60"
    );
    for (words, code) in [
        (["--tables=", "--replace"], "usage"),
        (["--tables=shapes.texts", "--rename=shapes.txts=other.t"], "usage"),
        (["--tables=shapes.texts", "--rename=other=archive"], "usage"),
        (["--tables=shapes.texts", "--rename=shapes.texts=mysql.texts"], "target"),
        (["--tables=shapes.texts", "--rename=shapes=SYS"], "target"),
    ] {
        import(&backup, &target, &words).failed(code);
    }
    assert_clean(&target);
    import(&backup, &target, &["--tables=shapes.texts", "--rename=shapes.texts=other.`texts`"]).ok();
    import(&backup, &target, &["--tables=shapes.parts", "--rename=shapes.parts=other.p 2"]).ok();
    assert_eq!(target.value("SELECT COUNT(*) FROM other.`p 2`"), "60");
    // The server starts again with what was imported.
    let mut target = target;
    target.stop();
    target.restart();
    check_tables(&target);
}

#[test]
fn what_is_there_is_replaced_only_if_asked_for_and_stays_where_anything_goes_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let source = Server::start(Kind::Mysql97, &[]);
    let tables = "CREATE DATABASE d; CREATE TABLE d.parent (a INT PRIMARY KEY);
        CREATE TABLE d.t (a INT PRIMARY KEY, b VARCHAR(20), CONSTRAINT named FOREIGN KEY (a) REFERENCES d.parent (a), CONSTRAINT ch CHECK (a > 0));
        CREATE TABLE d.u (a INT PRIMARY KEY, b VARCHAR(20))";
    source.execute(tables);
    source.execute("INSERT INTO d.parent VALUES (1), (2), (3); INSERT INTO d.t SELECT a, 'source' FROM d.parent; INSERT INTO d.u SELECT * FROM d.t");
    copy(&source, &backup, &["--prepare=native"]);
    let target = Server::start(Kind::Mysql97, &[]);
    target.execute(tables);
    // Empty tables are no loss.
    import(&backup, &target, &["--tables=d.parent"]).failed("target").says("foreign keys of other tables");
    target.execute("INSERT INTO d.parent SELECT 1 UNION SELECT 2 UNION SELECT 3");
    import(&backup, &target, &["--tables=d.t,d.u"]).ok().says("(3 rows)");
    assert_eq!(target.value("SELECT GROUP_CONCAT(b) FROM d.t"), "source,source,source");
    target.execute("UPDATE d.t SET b = 'target'; UPDATE d.u SET b = 'target'");
    let before = (definitions(&target), checksums(&target));
    let unchanged = |what: &str| {
        assert_clean(&target);
        assert_same(&before.0, &definitions(&target));
        assert_same(&before.1, &checksums(&target));
        println!("unchanged: {what}");
    };
    import(&backup, &target, &["--tables=d.t,d.u"]).failed("target").says("--replace");
    unchanged("has rows");
    // The second table's file is damaged: the first is not replaced either.
    let ibd = backup.join("d/u.ibd");
    let sound = std::fs::read(&ibd).unwrap();
    let mut flipped = sound.clone();
    flipped[4 * 16384 + 200] ^= 1;
    std::fs::write(&ibd, flipped).unwrap();
    import(&backup, &target, &["--tables=d.t,d.u", "--replace"]).failed("corrupt-page");
    unchanged("damaged");
    std::fs::write(&ibd, &sound).unwrap();
    // Rows that come into an empty table while the import runs are not lost: it comes back, and the import fails.
    target.execute("CREATE TABLE d.filled (a INT PRIMARY KEY, b VARCHAR(20))");
    let mut slow = importing(&backup, &target, &["--tables=d.u", "--rename=d.u=d.filled"]).spawn().unwrap();
    while target.query("SHOW DATABASES LIKE 'xbrecv%'").is_empty() && slow.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    target.execute("INSERT INTO d.filled VALUES (77, 'late')");
    let outcome = said(slow);
    let found = target.value("SELECT GROUP_CONCAT(a) FROM d.filled");
    match outcome.status {
        Some(0) => assert_eq!(found, "1,2,3,77", "the row came behind the import"),
        _ => {
            outcome.failed("target").says("has rows");
            assert_eq!(found, "77");
        }
    }
    target.execute("DROP TABLE d.filled");
    unchanged("filled meanwhile");
    // Constraints have names of their own in each schema; a parent is found under its new name.
    let other = ["--tables=d.t,d.parent", "--rename=d.t=d.t2", "--rename=d.parent=d.parent2"];
    import(&backup, &target, &other).failed("target").says("the constraint named").says("t");
    unchanged("constraints");
    target.execute("CREATE DATABASE x");
    let other = ["--tables=d.t,d.parent", "--rename=d.t=x.t2", "--rename=d.parent=x.parent2"];
    import(&backup, &target, &other).ok();
    assert!(
        target.value("SELECT COUNT(*) FROM x.t2") == "3"
            && target.try_query("INSERT INTO x.t2 VALUES (9, 'x')").is_err()
    );
    target.execute("INSERT INTO x.parent2 VALUES (9); INSERT INTO x.t2 VALUES (9, 'x')");
    let two = ["--tables=d.t,d.u", "--rename=d.t=x.same", "--rename=d.u=x.same"];
    import(&backup, &target, &two).failed("usage").says("x.same");
    target.execute("DROP DATABASE x");
    unchanged("names");
    // An account that may not do it, a server that is not there.
    target.execute("CREATE USER poor@localhost; GRANT SELECT ON d.* TO poor@localhost");
    let mut poor = importing(&backup, &target, &["--tables=d.t", "--replace"]);
    poor.arg("--user=poor");
    let _ = said(poor.spawn().unwrap());
    unchanged("poor");
    target.execute("CREATE TRIGGER d.tr BEFORE INSERT ON d.u FOR EACH ROW SET NEW.b = 'x'");
    import(&backup, &target, &["--tables=d.u", "--replace"]).failed("target").says("triggers");
    target.execute("DROP TRIGGER d.tr; CREATE VIEW d.v AS SELECT 1");
    import(&backup, &target, &["--tables=d.u", "--rename=d.u=d.v", "--replace"])
        .failed("target")
        .says("no table");
    target.execute("DROP VIEW d.v");
    unchanged("refused");

    // Killed at any moment: the tables are there, old or new, and the next import clears what was left.
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..8 {
        let mut child = importing(&backup, &target, &["--tables=d.t,d.u", "--replace"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(500)));
        let _ = child.kill();
        child.wait().unwrap();
        let found = target.value(
            "SELECT CONCAT((SELECT GROUP_CONCAT(b) FROM d.t), ' ', (SELECT GROUP_CONCAT(b) FROM d.u))",
        );
        let (old, new) =
            ("target,target,target target,target,target", "source,source,source source,source,source");
        assert!(found == old || found == new, "{found}");
        assert_same(&before.0, &definitions_of(&target, "d"));
        // The killed one's session may still run its last statement.
        std::thread::sleep(Duration::from_millis(300));
    }
    let last = (0..20).find_map(|_| {
        let said = import(&backup, &target, &["--tables=d.t,d.u", "--replace"]);
        std::thread::sleep(Duration::from_millis(200));
        (said.status == Some(0)).then_some(said)
    });
    last.expect("no import after those that were killed").says("(3 rows)");
    assert_clean(&target);
    assert_same(&checksums(&source), &checksums(&target));
    check_tables(&target);
}

fn definitions_of(server: &Server, schema: &str) -> BTreeMap<String, String> {
    renamed(definitions(server), schema, schema)
}

#[test]
fn tables_go_from_server_to_server_in_one_command() {
    let scratch = tempfile::tempdir().unwrap();
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute(
        "CREATE DATABASE shop; CREATE TABLESPACE gen ADD DATAFILE 'gen.ibd'; CREATE TABLE shop.general (a INT) TABLESPACE gen;
         CREATE TABLE shop.customers (a INT PRIMARY KEY); CREATE TABLE shop.busy (a INT PRIMARY KEY AUTO_INCREMENT, b INT);
         CREATE TABLE shop.orders (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(200), c INT, FULLTEXT KEY (b),
                                   FOREIGN KEY (c) REFERENCES shop.customers (a));
         INSERT INTO shop.customers VALUES (1), (2); INSERT INTO shop.orders (b, c) VALUES ('lion', 1), ('bear', 2)",
    );
    let target = Server::start(Kind::Mysql97, &[]);
    let tmpdir = format!("--tmpdir={}", scratch.path().display());
    let through = |tables: &str, words: &[&str]| {
        let mut send = xbsend(&source);
        send.arg("--databases").arg(tables);
        let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        receive
            .args(["--progress=none", "--user=root", &tmpdir, "--import-into"])
            .arg(target.socket())
            .args(words);
        receive.stderr(Stdio::piped());
        let (_, received) = pipe(send, receive);
        assert_clean(&target);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        received
    };
    through("shop.orders shop.customers", &[]).failed("target").says("CREATE DATABASE");
    target.execute("CREATE DATABASE shop; CREATE DATABASE archive");
    let gtid = source.value("SELECT @@gtid_executed");
    let said = through("shop.orders shop.customers", &[]).ok();
    assert_eq!(said.value("gtid").unwrap_or_default(), gtid);
    through("shop.orders", &["--rename=shop.orders=archive.orders_2026"])
        .ok()
        .says("archive.orders_2026 (2 rows)");
    through("shop.orders", &[]).failed("target").says("--replace");
    through("shop.orders", &["--replace"]).ok();
    for name in ["shop.orders", "archive.orders_2026"] {
        let found = target.value(&format!("SELECT c FROM {name} WHERE MATCH (b) AGAINST ('lion')"));
        assert_eq!(found, "1");
    }
    assert!(target.try_query("INSERT INTO shop.orders (c) VALUES (7)").is_err());
    // What an open transaction has changed does not come, and nothing else with it.
    source.execute("START TRANSACTION; INSERT INTO shop.busy (b) VALUES (1)");
    through("shop.busy", &[]).failed("prepare").says("was not committed");
    // A private server rolls it back.
    let mysqld = format!("--mysqld={}", tool("mysqld").display());
    through("shop.busy", &[&mysqld]).ok().says("shop.busy (0 rows)");
    source.execute("ROLLBACK");
    through("shop.busy", &[]).ok();
    check_tables(&target);
    // A server that is not there is told before anything is sent.
    let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    receive
        .args(["--progress=none", "--import-into=/nowhere", &tmpdir])
        .stderr(Stdio::piped())
        .stdin(Stdio::null());
    said_of(receive).failed("connect");
    let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    receive
        .args(["--progress=none", "--user=root", "--prepare=none", &tmpdir, "--import-into"])
        .arg(target.socket());
    receive.stderr(Stdio::piped()).stdin(Stdio::null());
    said_of(receive).failed("usage").says("prepared copy");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

fn said_of(mut command: Command) -> Said {
    said(command.spawn().unwrap())
}

#[test]
fn an_encrypted_table_comes_with_its_key_to_a_server_with_another_keyring() {
    const RECIPIENT: &str = "age1nyyjgn2j9plgxztywpq6qj9srcmqdrv07jke04tpzgf24nzt7ctqvy08w3";
    const SECRET: &str = "AGE-SECRET-KEY-1H6WCTZG9EDY89493YKQ3LPAJ4578P838Z0890S04NHQFHMU2U2LST0J2FH";
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let server = |keyring: &str| {
        let mut server = Server::start(Kind::Mysql97, &["--default-table-encryption=ON"]);
        encrypt_everything(&mut server, &at(keyring));
        server
    };
    let (source, target) = (server("keyring"), server("other"));
    source.execute("CREATE DATABASE e; CREATE TABLE e.t (a INT PRIMARY KEY, b VARCHAR(90)); INSERT INTO e.t VALUES (1, 'x'), (2, 'y')");
    target.execute("CREATE DATABASE e");
    // Keys of new tablespaces must be in their files, not only in the redo log.
    source
        .execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0");
    std::fs::write(at("age.key"), format!("{SECRET}\n")).unwrap();
    let through = |words: &[String]| {
        let mut send = xbsend(&source);
        send.args(["--databases=e.t", &format!("--transition-to={RECIPIENT}")]);
        send.arg(format!("--keyring={}", at("keyring").display()));
        let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        receive.args(["--progress=none", "--user=root", "--import-into"]).arg(target.socket()).args(words);
        receive.stderr(Stdio::piped());
        pipe(send, receive).1
    };
    let said = through(&[]);
    assert_ne!(said.status, Some(0));
    through(&[format!("--identity={}", at("age.key").display())]).ok().says("e.t (2 rows)");
    assert_clean(&target);
    assert_eq!(checksums(&source), checksums(&target));
    let keyring = std::fs::read(at("other")).unwrap();
    target.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY");
    assert_ne!(keyring, std::fs::read(at("other")).unwrap());
    check_tables(&target);
}
