//! Copies of sources that are laid out in unusual ways: page sizes, thousands of files, files outside the datadir.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::Command;

use crate::support::pipe::{copy, into_file, pipe, said, xbrecv, xbsend};
use crate::support::{
    Kind, Server, Zoo, assert_same, check_tables, checksums, definitions, gtid_executed, tool,
};

/// The options of the zoo's server, for a copy whose outside files are in `outside`.
fn copy_options(page_size: u32, outside: &Path) -> [String; 3] {
    [
        format!("--innodb-directories={}", outside.display()),
        format!("--innodb-page-size={page_size}"),
        "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend".to_owned(),
    ]
}

fn zoo_crosses(page_size: u32, prepare: &str) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let (outside, landed, target) = (base.join("outside"), base.join("landed"), base.join("copy"));
    std::fs::create_dir(&outside).unwrap();
    let mut zoo = Zoo::with_page_size(&outside, page_size);
    zoo.rows = 400;
    let source = Server::start(Kind::Mysql97, &zoo.options());
    zoo.load(&source);
    source.execute("CREATE DATABASE `e.m pty`");
    let gtids = gtid_executed(&source);

    let map = format!("{}={}", outside.display(), landed.display());
    copy(&source, &target, &["--prepare", prepare, "--map", &map]);

    let options = copy_options(page_size, &landed);
    let restored = Server::start_on(Kind::Mysql97, &target, &options.each_ref().map(String::as_str));
    // First, since opening a MEMORY table that was lost with the old server logs a TRUNCATE.
    assert_eq!(gtid_executed(&restored), gtids);
    assert_ne!(restored.value("SELECT @@server_uuid"), source.value("SELECT @@server_uuid"));
    check_tables(&restored);
    // The rows of a MEMORY table are in no file.
    let emptied = |mut sums: std::collections::BTreeMap<String, String>| {
        sums.retain(|name, _| !name.contains("forgetful"));
        sums
    };
    assert_same(&emptied(checksums(&restored)), &emptied(checksums(&source)));
    assert_same(&definitions(&restored), &definitions(&source));
    restored
        .execute("CREATE TABLE `e.m pty`.t (a INT); DROP DATABASE `e.m pty`; CREATE TABLE zoo.fresh (a INT)");
}

#[test]
fn zoo_of_other_page_sizes() {
    zoo_crosses(4096, "none");
    zoo_crosses(8192, "native");
    zoo_crosses(65536, "server");
}

#[test]
fn outside_files_want_a_map() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().canonicalize().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let source = Server::start(Kind::Mysql97, &[&format!("--innodb-directories={}", outside.display())]);
    source.execute(&format!(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) DATA DIRECTORY='{}'",
        outside.display()
    ));
    let target = dir.path().join("copy");
    let (sent, received) = pipe(xbsend(&source), xbrecv(&target));
    assert_ne!(sent.status, Some(0));
    received.failed("unmapped").says("--map");
    assert!(!target.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the source's folder is there");
}

#[test]
fn five_thousand_tables_with_few_descriptors() {
    let source = Server::start(Kind::Mysql97, &["--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"]);
    source.execute("CREATE DATABASE d");
    // Partitions are tablespaces like any other, and quicker made.
    for table in 0..10 {
        source.execute(&format!(
            "CREATE TABLE d.t{table} (a INT PRIMARY KEY) PARTITION BY HASH(a) PARTITIONS 500"
        ));
        source.execute(&format!("INSERT INTO d.t{table} VALUES (1), (2), (3), (502), (4711)"));
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy");
    let limited = |command: Command| {
        let mut shell = Command::new("bash");
        shell
            .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args());
        shell.stderr(std::process::Stdio::piped());
        shell
    };
    let mut receive = xbrecv(&target);
    receive.args(["--prepare", "none"]);
    let (sent, received) = pipe(limited(xbsend(&source)), limited(receive));
    sent.ok();
    received.ok();
    let restored = Server::start_on(Kind::Mysql97, &target, &["--skip-log-bin"]);
    for table in 0..10 {
        assert_eq!(
            restored.value(&format!("SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t{table}")),
            "1,2,3,502,4711"
        );
    }
    assert_same(&checksums(&restored), &checksums(&source));
}

/// Every file below `dir` with its content, but for `without`.
fn files(dir: &Path, without: &[&str]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !without.contains(&name.as_str()) {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn mbstream_extracts_the_same_bytes() {
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.c (a INT PRIMARY KEY AUTO_INCREMENT, b TEXT) COMPRESSION='zlib'; \
         CREATE TABLE d.m (a INT) ENGINE=MyISAM; INSERT INTO d.m VALUES (1), (2)",
    );
    for _ in 0..4 {
        source.execute("INSERT INTO d.c (b) VALUES (REPEAT('abc', 9000)), (REPEAT('xyz', 9000)), (HEX(RANDOM_BYTES(500)))");
    }
    let dir = tempfile::tempdir().unwrap();
    let (stream, ours, theirs) =
        (dir.path().join("full.xb"), dir.path().join("ours"), dir.path().join("theirs"));
    let mut dense = xbsend(&source);
    dense.arg("--dense");
    into_file(dense, &stream).ok();
    let input = || std::fs::File::open(&stream).unwrap();
    said(xbrecv(&ours).args(["--prepare", "none"]).stdin(input()).spawn().unwrap()).ok();
    std::fs::create_dir(&theirs).unwrap();
    let extracted =
        Command::new(tool("mbstream")).arg("-x").arg("-C").arg(&theirs).stdin(input()).status().unwrap();
    assert!(extracted.success());

    let redo = "#innodb_redo/#ib_redo0";
    let logfile = std::fs::read(theirs.join("xtrabackup_logfile")).unwrap();
    let placed = std::fs::read(ours.join(redo)).unwrap();
    // The redo is laid out for a server: the same blocks, in a file of the size that a server accepts.
    assert_eq!(placed[..logfile.len()], logfile);
    assert!(placed[logfile.len()..].iter().all(|b| *b == 0));
    let (ours, theirs) = (files(&ours, &[redo]), files(&theirs, &["xtrabackup_logfile"]));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, bytes) in &ours {
        assert!(*bytes == theirs[name], "{name} differs");
    }
}
