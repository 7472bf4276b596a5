//! Tablespaces, undo and redo that the server encrypts travel as they are; the copy's server needs the same keyring.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::pipe::{Said, copy, into_file, pipe, said, xbrecv, xbsend};
use crate::support::{Kind, Server, WriteLoad, assert_same, check_load, check_tables, checksums, seed, tool};

fn prepare(dir: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["prepare", "--progress=none"]).arg(dir).stderr(Stdio::piped());
    said(command.spawn().unwrap())
}

/// Gives the server of `datadir` a keyring in `keyring`.
fn add_keyring(datadir: &Path, keyring: &Path) {
    std::fs::write(datadir.join("mysqld.my"), r#"{"components": "file://component_keyring_file"}"#).unwrap();
    let cnf = format!(r#"{{"path": "{}", "read_only": false}}"#, keyring.display());
    std::fs::write(datadir.join("component_keyring_file.cnf"), cnf).unwrap();
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
