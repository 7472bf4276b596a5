//! `xbrecv export`: single tables out of a backup, imported by other servers.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::encryption::encrypt_everything;
use crate::support::pipe::{Said, copy, said};
use crate::support::{Kind, Random, Server, assert_same, check_tables, checksums, definitions, seed};
use xbpipe::innodb::page::checksum::stamp;

const PAGE: usize = 16384;
const SHAPES: &str = include_str!("support/shapes.sql");

fn export(dir: &Path, words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["export", "--progress=none"]).arg(dir).args(words).stderr(Stdio::piped());
    said(command.spawn().unwrap())
}

fn export_to(dir: &Path, tables: &str, to: &Path, words: &[&str]) -> Said {
    let (tables, to) = (format!("--tables={tables}"), format!("--to={}", to.display()));
    export(dir, &[&[tables.as_str(), to.as_str()], words].concat())
}

/// A server with a table of every shape.
pub(crate) fn shapes() -> Server {
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute("CREATE DATABASE base; CREATE TABLE base.numbers (n INT PRIMARY KEY)");
    source.execute(
        "INSERT INTO base.numbers WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 60) SELECT n FROM c",
    );
    source.run_script(SHAPES);
    source
}

/// Names of the tables in a schema.
fn tables(server: &Server, schema: &str) -> Vec<String> {
    let sql = format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'");
    server.query(&sql).into_iter().map(|mut row| row.remove(0)).collect()
}

/// Files with this suffix, by name.
fn files(dir: &Path, suffix: &str) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.filter(|path| path.to_str().unwrap().ends_with(suffix));
    named.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

/// Imports all that was exported of a schema, as the summary says.
fn import(server: &Server, schema: &str, from: &Path) {
    server.execute(&format!("CREATE DATABASE {schema}"));
    for path in files(from, ".create.sql").values() {
        server.run_script(&format!("USE {schema};\n{}", std::fs::read_to_string(path).unwrap()));
    }
    for suffix in [".ibd", ".cfg", ".cfp"] {
        for (name, path) in files(from, suffix) {
            let place = server.datadir().join(schema).join(name);
            assert!(!place.exists(), "{}", place.display());
            std::fs::copy(path, place).unwrap();
        }
    }
    for path in files(from, ".import.sql").values() {
        server.run_script(&format!("USE {schema};\n{}", std::fs::read_to_string(path).unwrap()));
    }
}

/// A `.cfg` without what no import looks at: the name of the machine, and the next value of AUTO_INCREMENT.
fn compared(cfg: &[u8]) -> Vec<u8> {
    let text = |at: usize| at + 4 + u32::from_be_bytes(*cfg[at..].first_chunk().unwrap()) as usize;
    let (name, count) = (text(4), text(text(4)));
    [&cfg[..4], &cfg[name..count], &cfg[count + 8..]].concat()
}

/// Definitions of tables, without what is the default and need not be said.
fn shown(server: &Server) -> BTreeMap<String, String> {
    let all = definitions(server).into_iter();
    all.map(|(name, text)| (name, text.replace(" /*!80016 ENCRYPTION='N' */", ""))).collect()
}

fn of_schema(mut all: BTreeMap<String, String>, schema: &str) -> BTreeMap<String, String> {
    all.retain(|name, _| name.contains(&format!("`{schema}`.")));
    all
}

#[test]
fn tables_of_every_shape_are_described_as_the_server_does_and_imported_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let (backup, out) = (dir.path().join("backup"), dir.path().join("out"));
    let mut source = shapes();
    // Since its start a server has the indexes of the tables that it opened in the dictionary's order.
    source.execute("SET GLOBAL innodb_fast_shutdown = 0");
    source.stop();
    source.restart();
    copy(&source, &backup, &["--prepare=native"]);
    export_to(&backup, "shapes", &out, &[]).ok().says("shapes.").says("import.sql");

    let names: Vec<_> =
        tables(&source, "shapes").iter().map(|t| format!("shapes.`{}`", t.replace('`', "``"))).collect();
    source.execute(&format!("FLUSH TABLES {} FOR EXPORT", names.join(", ")));
    let theirs = files(&source.datadir().join("shapes"), ".cfg");
    let ours = files(&out.join("shapes"), ".cfg");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(ours.len() > 45, "{}", ours.len());
    let read = |path: &Path| compared(&std::fs::read(path).unwrap());
    let differing: Vec<_> = ours.iter().filter(|(name, path)| read(path) != read(&theirs[*name])).collect();
    assert!(differing.is_empty(), "{differing:?}");
    source.execute("UNLOCK TABLES");

    let target = Server::start(Kind::Mysql97, &[]);
    import(&target, "shapes", &out.join("shapes"));
    assert_same(&of_schema(shown(&source), "shapes"), &shown(&target));
    assert_same(&of_schema(checksums(&source), "shapes"), &checksums(&target));
    check_tables(&target);
    for (table, columns, word) in
        [("words", "title", "animal"), ("words", "title, body", "lion"), ("words_own_id", "body", "lion")]
    {
        let sql = format!("SELECT COUNT(*) FROM shapes.{table} WHERE MATCH ({columns}) AGAINST ('{word}')");
        assert_eq!((source.value(&sql), target.value(&sql)), ("60".to_owned(), "60".to_owned()), "{sql}");
    }
}

/// Exports a table each time, and gives what was said.
fn exported(backup: &Path, out: &Path, table: &str) -> Said {
    export_to(backup, table, &out.join(table), &[])
}

#[test]
fn what_an_open_transaction_has_changed_is_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (backup, out) = (dir.path().join("backup"), dir.path().join("out"));
    let source = Server::start(Kind::Mysql97, &[]);
    let names =
        ["inserted", "updated", "deleted", "large", "parts", "values", "prepared", "committed", "untouched"];
    source.execute("CREATE DATABASE d");
    for name in names {
        let partitions = if name == "parts" { "PARTITION BY HASH (a) PARTITIONS 3" } else { "" };
        source.execute(&format!(
            "CREATE TABLE d.`{name}` (a INT PRIMARY KEY, b LONGBLOB, c VARCHAR(20), KEY (c)) {partitions};
             INSERT INTO d.`{name}` WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
             SELECT n, REPEAT(n, IF(n = 1, 30000, 3)), n FROM n"
        ));
    }
    source.execute("SET SESSION binlog_row_image = 'minimal'");
    source.execute(
        "XA START 'x'; DELETE FROM d.prepared WHERE a > 10; XA END 'x'; XA PREPARE 'x';
         START TRANSACTION; UPDATE d.committed SET c = 'c'; DELETE FROM d.committed WHERE a < 100; COMMIT;
         START TRANSACTION; UPDATE d.committed SET c = 'd' WHERE a > 200; UPDATE d.untouched SET c = 'e'; COMMIT",
    );
    // An XA transaction that is prepared keeps its session from others.
    source.disconnect();
    source.execute(
        "START TRANSACTION; INSERT INTO d.inserted VALUES (1000, 'x', 'x'); UPDATE d.updated SET c = 'x' WHERE a = 3;
         DELETE FROM d.deleted WHERE a = 4; UPDATE d.large SET c = CONCAT(c, 'large'); UPDATE d.parts SET c = 'x' WHERE a = 5;
         UPDATE d.`values` SET b = INSERT(b, 20000, 1, 'z') WHERE a = 1; UPDATE d.untouched SET c = c",
    );
    copy(&source, &backup, &["--prepare=native"]);
    for name in names {
        let said = exported(&backup, &out, &format!("d.{name}"));
        match name {
            "committed" | "untouched" => said.ok(),
            _ => said.failed("prepare").says("was not committed").says("--prepare=server"),
        };
    }
    // One of several that can't be exported: nothing is.
    export_to(&backup, "d", &out.join("all"), &[]).failed("prepare");
    assert!(!out.join("all").exists());
    let target = Server::start(Kind::Mysql97, &[]);
    import(&target, "d", &out.join("d.committed/d"));
    assert_eq!(target.value("SELECT COUNT(*) FROM d.committed WHERE c IN ('c', 'd')"), "401");
    let theirs = checksums(&source);
    assert_eq!(theirs["`d`.`committed`"], checksums(&target)["`d`.`committed`"]);
    check_tables(&target);
    source.execute("ROLLBACK; XA ROLLBACK 'x'");
}

#[test]
fn encrypted_tables_are_imported_by_a_server_with_another_keyring() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let server = |keyring: &str| {
        let mut server = Server::start(Kind::Mysql97, &["--default-table-encryption=ON"]);
        encrypt_everything(&mut server, &at(keyring));
        server
    };
    let (source, target) = (server("keyring"), server("other"));
    source.execute("CREATE DATABASE e; CREATE TABLE e.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(2000), KEY (b(100)))");
    source.execute("INSERT INTO e.t (b) VALUES (REPEAT('x', 1000)), (REPEAT('y', 1500))");
    for _ in 0..8 {
        source.execute("INSERT INTO e.t (b) SELECT b FROM e.t");
    }
    source.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY");
    source.execute("CREATE TABLE e.z (a INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8");
    source.execute(
        "INSERT INTO e.z SELECT a, b FROM e.t; CREATE TABLE e.c COMPRESSION='lz4' SELECT * FROM e.t",
    );
    source.execute(
        "CREATE TABLE e.clear (a INT PRIMARY KEY) ENCRYPTION = 'N'; INSERT INTO e.clear VALUES (1), (2)",
    );
    source.execute("CREATE TABLE e.p (a INT PRIMARY KEY) PARTITION BY HASH (a) PARTITIONS 2; INSERT INTO e.p VALUES (1), (2)");
    let (backup, out) = (at("backup"), at("out"));
    let keyring = format!("--keyring={}", at("keyring").display());
    copy(&source, &backup, &["--prepare=native", &keyring]);
    export_to(&backup, "e", &out, &[]).failed("encrypted").says("--keyring");
    let other = format!("--keyring={}", at("other").display());
    export_to(&backup, "e", &out, &[&other]).failed("encrypted").says("INNODBKey-");
    let folder = format!("--keyring={}", dir.path().display());
    export_to(&backup, "e", &out, &[&folder]).failed("usage");
    assert!(!out.exists());
    export_to(&backup, "e", &out, &[&keyring]).ok().says("keep them secret");
    let keys = files(&out.join("e"), ".cfp");
    assert_eq!(keys.len(), 5);
    for path in keys.values() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    import(&target, "e", &out.join("e"));
    for _ in 0..2 {
        assert_same(&checksums(&source), &checksums(&target));
        assert_same(&shown(&source), &shown(&target));
        check_tables(&target);
        let socket = format!("--into={}", target.socket().display());
        let mut again = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        again
            .args(["import", "--progress=none", "--tables=e", "--replace", "--user=root", &keyring, &socket])
            .arg(&backup);
        said(again.stderr(Stdio::piped()).spawn().unwrap()).ok().says("imported and checked");
    }
}

#[test]
fn what_is_no_prepared_backup_or_in_the_way_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute("CREATE DATABASE d; CREATE TABLESPACE gen ADD DATAFILE 'gen.ibd'; CREATE TABLE d.g (a INT) TABLESPACE gen");
    source.execute("CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2); CREATE TABLE d.m (a INT) ENGINE=MyISAM");
    copy(&source, &at("raw"), &["--prepare=none"]);
    export_to(&at("raw"), "d.t", &at("out"), &[]).failed("prepare").says("xbrecv prepare");
    copy(&source, &at("backup"), &["--prepare=native"]);
    for name in ["d.g", "d.m", "d.none", "none", "mysql", "mysql.user"] {
        export_to(&at("backup"), name, &at("out"), &[]).failed("usage").says("general tablespace");
    }
    export_to(&at("backup"), "d.t,d.g", &at("out"), &[]).failed("usage");
    export_to(&at("none"), "d.t", &at("out"), &[]).failed("target-io");
    export_to(&dir.path().join("out"), "d.t", &at("out"), &[]).failed("target-io");
    assert!(!at("out").exists());
    export_to(&at("backup"), "d.t", &at("out"), &[]).ok();
    export_to(&at("backup"), "d.t", &at("out"), &[]).failed("target").says("exists");
    // In the backup itself, as often as one likes; the backup stays one.
    for _ in 0..2 {
        export(&at("backup"), &["--tables=d"]).ok();
    }
    assert_eq!(files(&at("backup/d"), ".cfg").len(), 1);
    assert_eq!(std::fs::read(at("backup/d/t.cfg")).unwrap(), std::fs::read(at("out/d/t.cfg")).unwrap());

    // Every page is checked: a flipped bit, a file that is cut, dictionary information that is not there.
    let ibd = at("backup/d/t.ibd");
    let sound = std::fs::read(&ibd).unwrap();
    for (n, page) in sound.chunks(16384).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0)) {
        let mut flipped = sound.clone();
        flipped[n * 16384 + 100 + page[10] as usize] ^= 1;
        std::fs::write(&ibd, flipped).unwrap();
        export_to(&at("backup"), "d.t", &at("flipped"), &[]).failed("corrupt-page");
    }
    // Pages in use that are lost, as zeros and as a hole.
    // (page 3 has the dictionary information, which is missed before).
    for n in [1, 2, 4] {
        let mut zeroed = sound.clone();
        zeroed[n * PAGE..(n + 1) * PAGE].fill(0);
        std::fs::write(&ibd, zeroed).unwrap();
        export_to(&at("backup"), "d.t", &at("flipped"), &[]).failed("corrupt-page").says("all zeros");
        let holed = std::fs::File::create(&ibd).unwrap();
        holed.write_all_at(&sound[..n * PAGE], 0).unwrap();
        holed.write_all_at(&sound[(n + 1) * PAGE..], ((n + 1) * PAGE) as u64).unwrap();
        export_to(&at("backup"), "d", &at("flipped"), &[]).failed("corrupt-page").says("all zeros");
    }
    // A table whose file is no tablespace any more, or gone, is not left out in silence.
    for content in [Some(&b"hallo"[..]), Some(b""), None] {
        std::fs::remove_file(&ibd).unwrap();
        content.into_iter().for_each(|content| std::fs::write(&ibd, content).unwrap());
        for name in ["d", "d.t"] {
            export_to(&at("backup"), name, &at("flipped"), &[]).failed("corrupt-page").says("d/t.ibd");
        }
        std::fs::write(&ibd, &sound).unwrap();
    }
    for inside in ["backup", "backup/d", "backup/new/er"] {
        export_to(&at("backup"), "d.t", &at(inside), &[]).failed("usage").says("lies in the backup");
    }
    export_to(&at("raw").join("auto"), "d.t", &at("flipped"), &[]).failed("target-io");
    std::fs::write(&ibd, &sound[..5 * 16384]).unwrap();
    export_to(&at("backup"), "d.t", &at("flipped"), &[]).failed("corrupt-page");
    assert!(!at("flipped/d/t.ibd").exists());
    std::fs::write(&ibd, &sound).unwrap();
    let started = Server::start_on(Kind::Mysql97, &at("backup"), &[]);
    drop(started);
    export_to(&at("backup"), "d.t", &at("late"), &[]).failed("wrong-base").says("a server was started on it");
}

#[test]
fn forged_pages_with_right_checksums_are_exported_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (backup, out) = (dir.path().join("backup"), dir.path().join("out"));
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b VARCHAR(50) DEFAULT 'x', KEY (b)) PARTITION BY HASH (a) PARTITIONS 2");
    source.execute(
        "INSERT INTO d.t VALUES (1, 'x'), (2, 'y'); START TRANSACTION; INSERT INTO d.t VALUES (3, 'z')",
    );
    copy(&source, &backup, &["--prepare=native"]);
    source.execute("ROLLBACK");
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let targets = ["d/t#p#p0.ibd", "undo_001", "undo_002", "ibdata1"].map(|name| backup.join(name));
    for _ in 0..60 {
        let path = &targets[random.below(targets.len() as u64) as usize];
        let sound = std::fs::read(path).unwrap();
        let used: Vec<_> = (0..sound.len() / PAGE)
            .filter(|n| sound[n * PAGE..(n + 1) * PAGE].iter().any(|b| *b != 0))
            .collect();
        let page = match random.one_in(2) {
            // Those that are read for what they say: dictionary information, lists of rollback segments, transactions.
            true => random.below(7) as usize,
            false => used[random.below(used.len() as u64) as usize],
        };
        let mut forged = sound.clone();
        let bytes = &mut forged[page * PAGE..(page + 1) * PAGE];
        for _ in 0..1 + random.below(6) {
            let end = if random.one_in(2) { 200 } else { PAGE as u64 - 8 };
            bytes[38 + random.below(end - 38) as usize] = random.next() as u8;
        }
        stamp(bytes, false);
        std::fs::write(path, forged).unwrap();
        let said = export_to(&backup, "d.t", &out, &[]);
        assert!(matches!(said.status, Some(0..=2)), "{}", said.words);
        assert!(
            !said.words.contains("panicked") && !said.words.contains("error[internal]"),
            "{}",
            said.words
        );
        std::fs::write(path, sound).unwrap();
        let _ = std::fs::remove_dir_all(&out);
    }
    export_to(&backup, "d.t", &out, &[]).failed("prepare").says("was not committed");
}
