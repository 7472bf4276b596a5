//! Tablespaces, undo and redo that the server encrypts travel as they are; the copy's server needs the same keyring.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::encryption::{add_keyring, encrypt_everything};
use crate::support::folders::assert_same_files;
use crate::support::pipe::{Said, copy, into_file, on_file, pipe, said, xbrecv, xbsend};
use crate::support::{Kind, Server, WriteLoad, assert_same, check_load, check_tables, checksums, seed, tool};

fn prepare(dir: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["prepare", "--progress=none"]).arg(dir).stderr(Stdio::piped());
    said(command.spawn().unwrap())
}

/// A server whose keyring is the file `keyring`, with everything encrypted that can be.
fn everything_encrypted(keyring: &Path) -> Server {
    let mut source = Server::start(Kind::Mysql97, &["--default-table-encryption=ON"]);
    encrypt_everything(&mut source, keyring);
    source.execute("SET GLOBAL binlog_encryption = ON");
    source.execute("CREATE DATABASE e; CREATE TABLE e.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(2000), KEY (b(100)))");
    source.execute("INSERT INTO e.t (b) VALUES (REPEAT('x', 1000)), (REPEAT('y', 1500))");
    for _ in 0..8 {
        source.execute("INSERT INTO e.t (b) SELECT b FROM e.t");
    }
    source.execute("CREATE TABLE e.z (a INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8");
    source.execute(
        "INSERT INTO e.z SELECT a, b FROM e.t; CREATE TABLE e.c COMPRESSION='lz4' SELECT * FROM e.t",
    );
    source.execute(
        "CREATE TABLE e.clear (a INT PRIMARY KEY) ENCRYPTION = 'N'; INSERT INTO e.clear VALUES (1), (2)",
    );
    source.execute("CREATE TABLE e.g (a INT PRIMARY KEY, p GEOMETRY NOT NULL SRID 0, SPATIAL INDEX (p))");
    source.execute("INSERT INTO e.g SELECT a, POINT(a, 2 * a) FROM e.t");
    source.execute("CREATE TABLESPACE gen ADD DATAFILE 'gen.ibd' ENCRYPTION = 'Y'; CREATE TABLE e.h (a INT PRIMARY KEY) TABLESPACE gen");
    source
}

/// A stream of `source`, taken under a write load.
fn stream_under_load(source: &Server, stream: &Path, words: &[&str]) -> Said {
    let load = WriteLoad::start(source, seed(), 4);
    load.wait_for(30);
    let mut send = xbsend(source);
    send.args(words);
    let said = into_file(send, stream);
    load.stop();
    said.ok()
}

#[test]
fn everything_encrypted_is_prepared_natively_with_the_keyring() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let keyring = at("keyring");
    let source = everything_encrypted(&keyring);
    let with_keys = format!("--keyring={}", keyring.display());
    let stream = at("full.xb");
    stream_under_load(&source, &stream, &[]).says("pages were not verified");
    let sent = stream_under_load(&source, &stream, &[&with_keys]);
    sent.says("verified in the clear");
    let receive = |target: &str, words: &[&str]| {
        let mut receive = xbrecv(&at(target));
        receive.args(words);
        on_file(receive, &stream)
    };
    // Without the key, or with another one, it is named.
    receive("refused", &["--prepare=native"]).failed("encrypted").says("needs the master key INNODBKey-");
    let other = at("other");
    let hex = "7".repeat(64);
    let content = format!(r#"{{"elements": [{{"data_id": "INNODBKey-x-1", "data": "{hex}"}}]}}"#);
    std::fs::write(&other, content).unwrap();
    let wrong = format!("--keyring={}", other.display());
    receive("refused", &["--prepare=native", &wrong])
        .failed("encrypted")
        .says("which the keyring does not have");
    let mut send = xbsend(&source);
    send.arg(&wrong);
    into_file(send, &at("unsent")).failed("encrypted").says("which the keyring does not have");
    let bad: [&[u8]; 3] = [b"", b"{\"elements\": []}", b"Keyring file version:2.0"];
    for content in bad {
        std::fs::write(&other, content).unwrap();
        receive("refused", &[&wrong]).failed("usage");
    }
    let folder = format!("--keyring={}", dir.path().display());
    receive("refused", &[&folder]).failed("usage");
    assert!(!at("refused").exists());

    // While it arrives; in its folder; in little memory.
    receive("early", &["--prepare=native", &with_keys]).ok();
    receive("late", &["--prepare=none"]).ok();
    let unlike = |folder: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["prepare", "--progress=none", &with_keys, "--use-memory=1M"]).arg(at(folder));
        said(command.stderr(Stdio::piped()).spawn().unwrap())
    };
    prepare(&at("late")).failed("encrypted").says("needs the master key INNODBKey-");
    unlike("late").ok();
    assert_same_files(&at("early"), &at("late"));
    for target in ["early", "late"] {
        // No word of the rows is readable in it.
        let mut files = vec![at(target)];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(100).any(|w| w == [b'x'; 100]), "{}", path.display());
            }
        }
        add_keyring(&at(target), &keyring);
        let restored = Server::start_on(Kind::Mysql97, &at(target), &["--log-bin=binlog"]);
        check_tables(&restored);
        check_load(&restored);
    }
}

#[test]
fn chains_are_prepared_with_the_keyring_though_keys_change() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let keyring = at("keyring");
    let source = everything_encrypted(&keyring);
    let with_keys = format!("--keyring={}", keyring.display());
    let lsn = at("lsn");
    let take = |name: &str, words: &[&str]| {
        let mut send = xbsend(&source);
        send.arg("--extra-lsndir").arg(&lsn).arg(&with_keys).args(words);
        into_file(send, &at(name)).ok();
        at(name)
    };
    let since = format!("--since={}", lsn.display());
    let mut streams = vec![take("full", &[])];
    source.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER TABLE e.clear ENCRYPTION = 'Y'");
    source.execute("ALTER TABLESPACE gen ENCRYPTION = 'N'; INSERT INTO e.h SELECT a FROM e.t; DELETE FROM e.t WHERE a % 3 = 0");
    source.execute("CREATE TABLE e.new (a INT PRIMARY KEY, b TEXT) AS SELECT a, b FROM e.z; INSERT INTO e.clear VALUES (7)");
    streams.push(take("one", &[&since]));
    source.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER TABLE e.z ENCRYPTION = 'N'; ALTER TABLE e.c ENCRYPTION = 'N'");
    source.execute("ALTER TABLESPACE gen ENCRYPTION = 'Y'; ALTER TABLESPACE mysql ENCRYPTION = 'N'; UPDATE e.t SET b = 'z' WHERE a % 5 = 0");
    streams.push(take("two", &[&since]));
    source.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER TABLESPACE gen ENCRYPTION = 'N'; ALTER TABLESPACE mysql ENCRYPTION = 'Y'");
    source.execute("INSERT INTO e.h SELECT a + 100000 FROM e.t; ALTER TABLESPACE gen ENCRYPTION = 'Y'");
    source.execute("CREATE TABLE e.newer (a INT PRIMARY KEY, b TEXT) AS SELECT a, b FROM e.t; ALTER INSTANCE ROTATE INNODB MASTER KEY");
    streams.push(take("three", &[&since]));
    let mut whole = xbrecv(&at("copy"));
    whole.args(["--prepare=native", &with_keys]).args(&streams);
    said(whole.spawn().unwrap()).ok();
    let mut merged = xbrecv(&at("merged"));
    merged.args(["--prepare=none", &with_keys]);
    on_file(merged, &streams[0]).ok();
    let mut merge = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    merge.args(["merge", "--progress=none", &with_keys]).arg(at("merged")).args(&streams[1..]);
    said(merge.stderr(Stdio::piped()).spawn().unwrap()).ok();
    for target in ["copy", "merged"] {
        add_keyring(&at(target), &keyring);
        let restored = Server::start_on(Kind::Mysql97, &at(target), &["--log-bin=binlog"]);
        check_tables(&restored);
        assert_same(&checksums(&restored), &checksums(&source));
    }
}

/// A key pair that was made for tests: it protects nothing.
const RECIPIENT: &str = "age1nyyjgn2j9plgxztywpq6qj9srcmqdrv07jke04tpzgf24nzt7ctqvy08w3";
const SECRET: &str = "AGE-SECRET-KEY-1H6WCTZG9EDY89493YKQ3LPAJ4578P838Z0890S04NHQFHMU2U2LST0J2FH";

#[test]
fn a_server_with_another_keyring_gets_the_keys_under_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let keyring = at("keyring");
    let source = everything_encrypted(&keyring);
    std::fs::write(at("age.key"), format!("{SECRET}\n")).unwrap();
    // Keys of new tablespaces must be in their files, not only in the redo log.
    source
        .execute("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0");
    let source_keys = format!("--keyring={}", keyring.display());
    let to = format!("--transition-to={RECIPIENT}");
    let identity = format!("--identity={}", at("age.key").display());
    let stream = at("full.xb");
    let mut without = xbsend(&source);
    without.arg(&to);
    into_file(without, &stream).failed("usage").says("--keyring");
    let lsn = format!("--extra-lsndir={}", at("lsn").display());
    stream_under_load(&source, &stream, &[&source_keys, &to, &lsn]);
    source.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER TABLE e.clear ENCRYPTION = 'Y'");
    let mut send = xbsend(&source);
    send.args([&source_keys, &to, &format!("--since={}", at("lsn").display())]);
    let increment = at("inc.xb");
    into_file(send, &increment).ok();
    let bytes = std::fs::read(&stream).unwrap();
    assert!(!bytes.windows(13).any(|w| w == b"xbpipe-keys 1"), "keys travel in the clear");

    let theirs = at("theirs");
    let hex = "5".repeat(64);
    let entry = format!(r#"{{"user":"","data_id":"other","data_type":"AES","data":"{hex}","extension":[]}}"#);
    let before = format!(r#"{{"version":"1.0","elements":[{entry}]}}"#);
    std::fs::write(&theirs, &before).unwrap();
    let their_keys = format!("--keyring={}", theirs.display());
    let receive = |target: &str, words: &[&str]| {
        let mut receive = xbrecv(&at(target));
        receive.args(words).args([&stream, &increment]);
        said(receive.spawn().unwrap())
    };
    let native = "--prepare=native";
    receive("no", &[native, "--new-master-key", &their_keys]).failed("no-key").says("--identity");
    receive("no", &["--prepare=none", "--new-master-key", &their_keys, &identity]).failed("usage");
    assert_ne!(receive("no", &[native, "--new-master-key", &identity]).status, Some(0));
    let folder = format!("--keyring={}", dir.path().display());
    receive("no", &[native, "--new-master-key", &folder, &identity]).failed("usage");
    assert!(!at("no").exists());
    assert_eq!(std::fs::read_to_string(&theirs).unwrap(), before);

    receive("copy", &[native, "--new-master-key", &their_keys, &identity])
        .ok()
        .says("under the new master key");
    let now = std::fs::read_to_string(&theirs).unwrap();
    assert!(now.contains(r#""other""#) && now.contains("INNODBKey-") && now.contains("MySQLReplicationKey_"));
    let sums = checksums(&source);
    // The source's keyring is not there any more.
    std::fs::rename(&keyring, at("gone")).unwrap();
    add_keyring(&at("copy"), &theirs);
    let mut restored = Server::start_on(Kind::Mysql97, &at("copy"), &["--log-bin=binlog"]);
    check_tables(&restored);
    assert_same(&checksums(&restored), &sums);
    // It goes on: new tables, a new key, a restart.
    restored
        .execute("CREATE TABLE e.later (a INT PRIMARY KEY) ENCRYPTION = 'Y'; INSERT INTO e.later VALUES (1)");
    restored.execute("ALTER INSTANCE ROTATE INNODB MASTER KEY; SET GLOBAL innodb_redo_log_encrypt = ON");
    restored.stop();
    restored.restart();
    check_tables(&restored);
    assert_eq!(restored.value("SELECT COUNT(*) FROM e.later"), "1");
}

#[test]
fn encrypted_tablespaces_undo_and_redo_cross_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let keyring = dir.path().join("keyring");
    let mut source = Server::start(Kind::Mysql97, &["--default-table-encryption=ON"]);
    source.stop();
    add_keyring(source.datadir(), &keyring);
    source.restart();
    source.execute("CREATE DATABASE e; CREATE TABLE e.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(2000))");
    source.execute("INSERT INTO e.t (b) VALUES (REPEAT('x', 1000)), (REPEAT('y', 1500))");
    for _ in 0..9 {
        source.execute("INSERT INTO e.t (b) SELECT b FROM e.t");
    }
    source.execute("CREATE TABLE e.z (a INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8");
    source.execute(
        "INSERT INTO e.z SELECT a, b FROM e.t; CREATE TABLE e.c COMPRESSION='lz4' SELECT * FROM e.t",
    );
    // Before redo and undo are encrypted, with writers at work: the server recovers with its keyring.
    let load = WriteLoad::start(&source, seed(), 2);
    load.wait_for(20);
    let first = dir.path().join("first");
    copy(&source, &first, &["--prepare", "none"]);
    load.stop();
    add_keyring(&first, &keyring);
    let restored = Server::start_on(Kind::Mysql97, &first, &["--log-bin=binlog"]);
    check_tables(&restored);
    check_load(&restored);
    drop(restored);

    source.execute("SET GLOBAL innodb_redo_log_encrypt=ON; SET GLOBAL innodb_undo_log_encrypt=ON");
    source.execute(
        "INSERT INTO e.t (b) SELECT b FROM e.t LIMIT 500; UPDATE e.z SET b = CONCAT(b, 'z') WHERE a < 300",
    );
    let second = dir.path().join("second");
    copy(&source, &second, &["--prepare", "none"]);
    // No word of the rows is readable in it.
    let bytes = std::fs::read(second.join("e/t.ibd")).unwrap();
    assert!(!bytes.windows(100).any(|w| w == [b'x'; 100]));
    // Preparing it in its folder would need the keys; a server that has them can still start on it.
    prepare(&second).failed("encrypted").says("is encrypted").says("start your own server");
    add_keyring(&second, &keyring);
    let restored = Server::start_on(Kind::Mysql97, &second, &["--log-bin=binlog"]);
    check_tables(&restored);
    assert_same(&checksums(&restored), &checksums(&source));

    // No server starts on what was extracted: the way out is another one.
    let (stream, extracted) = (dir.path().join("full.xb"), dir.path().join("extracted"));
    let mut send = xbsend(&source);
    // mbstream reads no sparse chunks.
    send.arg("--dense");
    into_file(send, &stream).ok();
    std::fs::create_dir(&extracted).unwrap();
    let mut extract = Command::new(tool("mbstream"));
    extract.arg("-x").arg("-C").arg(&extracted).stdin(std::fs::File::open(&stream).unwrap());
    assert!(extract.status().unwrap().success());
    prepare(&extracted).failed("encrypted").says("is encrypted").says("xbrecv --prepare=none");

    // Applying it natively would need the keys: that is found out when the first such file begins, and nothing is left.
    let (_, received) = pipe(xbsend(&source), {
        let mut receive = xbrecv(&dir.path().join("native"));
        receive.args(["--prepare", "native"]);
        receive
    });
    received.failed("encrypted").says("is encrypted").says("--prepare=none");
    assert!(!dir.path().join("native").exists());

    // The private server has no keyring: said clearly, and nothing is left.
    let third = dir.path().join("third");
    let (_, received) = pipe(xbsend(&source), {
        let mut receive = xbrecv(&third);
        receive.args(["--prepare", "server"]);
        receive
    });
    assert_ne!(received.status, Some(0), "{}", received.words);
    assert!(!third.exists());
}
