//! Copies of a server that is being written to, through every combination of compression and encryption; the same streams by
//! the standard tools; and what is said where a key is missing or wrong, or the stream was cut.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::pipe::{Said, into_file, on_file, pipe, xbrecv, xbrecv_unprepared, xbsend};
use crate::support::{Kind, Server, WriteLoad, assert_same, check_load, check_tables, checksums, seed, tool};

const RECIPIENT: &str = "age1nyyjgn2j9plgxztywpq6qj9srcmqdrv07jke04tpzgf24nzt7ctqvy08w3";
const SECRET: &str = "AGE-SECRET-KEY-1H6WCTZG9EDY89493YKQ3LPAJ4578P838Z0890S04NHQFHMU2U2LST0J2FH";
const OTHER_RECIPIENT: &str = "age1jvg006derz5awjkwjkymqwyecxgtmslmcel62hymwv3jn4mgr52shu8rnw";
const OTHER_SECRET: &str = "AGE-SECRET-KEY-1ED382LSFV6FGMU7DGJRNP8V353YUH9KC7C4GNYA3R2Y7F0FWZDAQ6QN4WU";

struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn make() -> Keys {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), format!("# test\n{SECRET}\n")).unwrap();
        std::fs::write(dir.path().join("other"), OTHER_SECRET).unwrap();
        std::fs::write(dir.path().join("recipients"), format!("{OTHER_RECIPIENT}\n# both\n{RECIPIENT}\n"))
            .unwrap();
        std::fs::write(dir.path().join("passphrase"), "correct horse\n").unwrap();
        Keys { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn with(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    command
}

#[test]
fn every_combination_carries_a_live_server() {
    let seed = seed();
    let keys = Keys::make();
    let key = keys.path("key").display().to_string();
    let recipients = keys.path("recipients").display().to_string();
    let passphrase = keys.path("passphrase").display().to_string();
    let source = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=64M"]);
    let dir = tempfile::tempdir().unwrap();
    let compressions: [&[&str]; 3] = [&[], &["--compress"], &["--compress=lz4"]];
    let encryptions: [(&[&str], &[&str]); 3] = [
        (&[], &[]),
        (&["--encrypt-to-file", &recipients], &["--identity", &key]),
        (&["--passphrase-file", &passphrase], &["--passphrase-file", &passphrase]),
    ];
    for (round, compression) in compressions.iter().enumerate() {
        for (encryption, opening) in encryptions {
            let name = format!("{compression:?} {encryption:?}");
            let target = dir.path().join("copy");
            let load = WriteLoad::start(&source, seed.wrapping_add(round as u64), 3);
            load.wait_for(20);
            let send = with(with(xbsend(&source), compression), encryption);
            let (sent, received) = pipe(send, with(xbrecv(&target), opening));
            load.wait_for(10);
            load.stop();
            let (sent, received) = (sent.ok(), received.ok());
            assert_eq!(
                received.value("layers").is_some(),
                compression.len() + encryption.len() > 0,
                "{name}"
            );
            let restored = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
            let recorded = sent.value("gtid").expect("the GTID set is in the summary");
            assert_eq!(crate::support::gtid_executed(&restored), recorded, "{name}, seed {seed}");
            check_load(&restored);
            check_tables(&restored);
            drop(restored);
            std::fs::remove_dir_all(&target).unwrap();
        }
    }
}

/// Files of the stream by way of the standard tools, as a digest of each.
fn extracted(stream: &Path, commands: &[(&str, &[&str])], dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    let mut input = Stdio::from(std::fs::File::open(stream).unwrap());
    let mut children = Vec::new();
    let (last, before) = commands.split_last().unwrap();
    for (program, args) in before {
        let mut child =
            Command::new(tool(program)).args(*args).stdin(input).stdout(Stdio::piped()).spawn().unwrap();
        input = Stdio::from(child.stdout.take().unwrap());
        children.push(child);
    }
    let status = Command::new(tool(last.0)).args(last.1).current_dir(dir).stdin(input).status().unwrap();
    assert!(status.success(), "{last:?}");
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
}

fn assert_same_files(a: &Path, b: &Path) {
    let mut names = 0;
    for entry in std::fs::read_dir(a).unwrap() {
        let path = entry.unwrap().path();
        let other = b.join(path.file_name().unwrap());
        if path.is_dir() {
            if path.file_name().unwrap() != "#innodb_redo" {
                assert_same_files(&path, &other);
            }
        } else if other.exists() {
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&other).unwrap(), "{}", path.display());
            names += 1;
        }
    }
    assert!(names > 0, "nothing to compare in {}", a.display());
}

#[test]
fn standard_tools_read_each_layer_and_we_read_theirs() {
    let keys = Keys::make();
    let key = keys.path("key").display().to_string();
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(2000));
         INSERT INTO d.t (v) VALUES (REPEAT('x', 1500)), (UUID()), (REPEAT('yz', 700));
         INSERT INTO d.t (v) SELECT a.v FROM d.t a, d.t b, d.t c, d.t e, d.t f, d.t g;",
    );
    let before = checksums(&source);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let dense = |args: &[&str]| with(with(xbsend(&source), &["--dense"]), args);

    // Ours, read by the tools.
    into_file(dense(&["--compress", "--encrypt-to", RECIPIENT]), &file("zstd.age")).ok();
    extracted(
        &file("zstd.age"),
        &[("age", &["-d", "-i", &key]), ("zstd", &["-d", "-c"]), ("mbstream", &["-x"])],
        &file("by-tools"),
    );
    let identity = ["--identity", &key];
    on_file(with(xbrecv_unprepared(&file("by-us")), &identity), &file("zstd.age")).ok();
    assert_same_files(&file("by-tools").join("d"), &file("by-us").join("d"));
    into_file(dense(&["--compress=lz4"]), &file("lz4")).ok();
    extracted(&file("lz4"), &[("lz4", &["-d", "-c"]), ("mbstream", &["-x"])], &file("by-lz4"));

    // Theirs, read by us, each layer made by its own program.
    into_file(xbsend(&source), &file("plain")).ok();
    for (name, commands) in [
        ("a.zst", &[("zstd", &["-c", "-T0"][..])][..]),
        ("a.lz4", &[("lz4", &["-c"])]),
        ("a.age", &[("age", &["-r", RECIPIENT])]),
        ("a.zst.age", &[("zstd", &["-c"]), ("age", &["-r", RECIPIENT])]),
        ("a.age.lz4", &[("age", &["-r", RECIPIENT]), ("lz4", &["-c"])]),
    ] {
        let mut input = Stdio::from(std::fs::File::open(file("plain")).unwrap());
        let mut children: Vec<std::process::Child> = Vec::new();
        for (n, (program, args)) in commands.iter().enumerate() {
            let output = if n + 1 == commands.len() {
                Stdio::from(std::fs::File::create(file(name)).unwrap())
            } else {
                Stdio::piped()
            };
            let mut child =
                Command::new(tool(program)).args(*args).stdin(input).stdout(output).spawn().unwrap();
            input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
            children.push(child);
        }
        children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
        let target = file(&format!("from-{name}"));
        on_file(with(xbrecv(&target), &identity), &file(name)).ok();
        let restored = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
        assert_same(&checksums(&restored), &before);
    }
}

#[test]
fn a_wrong_key_a_missing_key_and_a_cut_stream_are_told_apart() {
    let keys = Keys::make();
    let key = keys.path("key").display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(Kind::Mysql97, &[]);
    let stream = dir.path().join("stream");
    let target = dir.path().join("target");
    let sent = into_file(with(xbsend(&source), &["--compress", "--encrypt-to", RECIPIENT]), &stream).ok();
    assert!(sent.value("layers").unwrap().contains("zstd level 1, then age"));
    let receive = |args: &[&str], stream: &Path| -> Said {
        let said = on_file(with(xbrecv_unprepared(&target), args), stream);
        assert!(
            !said.words.contains("AGE-SECRET") && !said.words.contains("correct horse"),
            "{}",
            said.words
        );
        said
    };
    let other = keys.path("other").display().to_string();
    let passphrase = keys.path("passphrase").display().to_string();
    receive(&[], &stream).failed("no-key").says("hint: give the file with the secret key").says("--identity");
    receive(&["--passphrase-file", &passphrase], &stream).failed("no-key");
    receive(&["--identity", &other], &stream).failed("wrong-key").says("none of the keys");
    receive(&["--identity", &passphrase], &stream).failed("usage").says("line 1");

    let bytes = std::fs::read(&stream).unwrap();
    let changed = dir.path().join("changed");
    for cut in [10, 100, 5000, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&changed, &bytes[..cut]).unwrap();
        receive(&["--identity", &key], &changed).failed("stream-truncated").says("hint: ");
    }
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    std::fs::write(&changed, &flipped).unwrap();
    receive(&["--identity", &key], &changed).failed("stream-corrupt").says("changed, dropped or moved");
    std::fs::write(&changed, [&bytes[..], b"more"].concat()).unwrap();
    assert_ne!(receive(&["--identity", &key], &changed).status, Some(0));
    assert!(!target.exists(), "a refused stream left something");

    let locked = dir.path().join("locked");
    into_file(with(xbsend(&source), &["--passphrase-file", &passphrase]), &locked).ok();
    receive(&["--identity", &key], &locked).failed("no-key").says("--passphrase-file");
    receive(&["--passphrase-file", &other], &locked).failed("wrong-key").says("passphrase");
    receive(&["--identity", &other, "--identity", &key], &stream).ok();

    for (args, words) in [
        (&["--encrypt-to", "nonsense"][..], "is no recipient"),
        (&["--encrypt-to", RECIPIENT, "--passphrase-file", &passphrase], "not both"),
        (&["--compress-level=77"], "no level 77"),
        (&["--passphrase-file", "/does/not/exist"], "can't read /does/not/exist"),
    ] {
        into_file(with(xbsend(&source), args), &changed).failed("usage").says(words);
    }
    let secret = into_file(with(xbsend(&source), &["--encrypt-to", SECRET]), &changed).failed("usage");
    assert!(!secret.words.contains(SECRET));
}
