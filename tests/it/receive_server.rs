//! Backups of a real server, prepared either way, judged by servers that start on the copies.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::pipe::{into_file, on_bytes, on_file, xbrecv, xbsend};
use crate::support::{
    Kind, Server, StreamMaker, Zoo, assert_same, check_tables, checksums, definitions, gtid_executed, tool,
};
use xbpipe::base::Lsn;
use xbpipe::innodb::redo::{BLOCK_LEN, Body, HEAD_LEN, RedoFile, RedoHead, Scanner, block};

/// Starts a server on a copy, as its user would: with the source's options that its files depend on.
fn start_on(datadir: &Path, options: &[&str]) -> Server {
    let gtids = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog"];
    Server::start_on(Kind::Mysql97, datadir, &[&gtids[..], options].concat())
}

#[test]
fn everything_of_a_zoo_comes_across_prepared_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let zoo = Zoo::new(outside.path());
    let options =
        [&zoo.options()[..], &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog"]]
            .concat();
    let mut source = Server::start(Kind::Mysql97, &options);
    zoo.load(&source);
    let stream = dir.path().join("full.xb");
    into_file(xbsend(&source), &stream).ok();
    let (sums, texts, gtids) = (checksums(&source), definitions(&source), gtid_executed(&source));
    source.stop();
    // The source's files outside must not be found by the copies' servers.
    let old = outside.path().canonicalize().unwrap();
    std::fs::rename(&old, dir.path().join("away")).unwrap();

    let elsewhere = dir.path().canonicalize().unwrap().join("elsewhere");
    let system = "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend";
    for (how, new) in [
        ("server", "."),
        ("server", elsewhere.to_str().unwrap()),
        ("server", "moved"),
        ("none", "moved"),
        ("none", elsewhere.to_str().unwrap()),
    ] {
        let target = dir.path().join("copy");
        let map = format!("--map={}={new}", old.display());
        // A general tablespace may not lie in a folder below the datadir.
        let general = format!("--map {}/zoo outside.ibd=zoo outside.ibd", old.display());
        let general_argument = general.replacen(' ', "=", 1);
        let receive = |more: &[&str]| {
            let mut command = xbrecv(&target);
            command.args(["--prepare", how, &map]).args(more);
            on_file(command, &stream)
        };
        let mut more = Vec::new();
        if new == "moved" {
            receive(&more).failed("usage").says(&general);
            assert!(!target.exists());
            more.push(general_argument.as_str());
        }
        assert_eq!(receive(&more).ok().value("gtid"), Some(gtids.clone()));
        let state = std::fs::read_to_string(target.join("xtrabackup_checkpoints")).unwrap();
        let backup_type = if how == "server" { "full-prepared" } else { "full-backuped" };
        assert!(state.starts_with(&format!("backup_type = {backup_type}\n")), "{state}");
        let directories = format!("--innodb-directories={}", elsewhere.display());
        let options = [system, &directories];
        let mut copy = start_on(&target, &options);
        // First: a server logs a statement of its own when a MEMORY table is used for the first time after a restart.
        assert_eq!(gtid_executed(&copy), gtids, "{how} {new}");
        assert_same(&sums, &checksums(&copy));
        assert_same(&texts, &definitions(&copy));
        check_tables(&copy);
        let log = copy.error_log();
        assert!(!log.contains("[ERROR]"), "{log}");
        copy.stop();
        if how == "server" {
            assert!(!log.contains("Starting crash recovery"), "{log}");
        }
        drop(copy);
        std::fs::remove_dir_all(&target).unwrap();
        let _ = std::fs::remove_dir_all(&elsewhere);
    }
}

/// LSNs at which the redo of a backup says that a transaction is prepared (`trx_undo_set_state_at_prepare`: two bytes,
/// TRX_UNDO_PREPARED, at TRX_UNDO_STATE of the page that holds its undo log's header).
fn prepared_at(redo: &[u8]) -> Vec<Lsn> {
    const STATE: u16 = 56;
    const PREPARED: u64 = 6;
    let head = RedoHead::read(redo).unwrap();
    let checkpoint = RedoFile { head, len: redo.len() as u64 }.checkpoint().unwrap();
    let mut scanner = Scanner::new(checkpoint);
    let mut found = Vec::new();
    for block in redo[HEAD_LEN..].as_chunks().0 {
        scanner.feed(block).unwrap();
        while let Some(group) = scanner.poll().unwrap() {
            let prepares =
                |body: Body<'_>| body == (Body::Write { offset: STATE, width: 2, value: PREPARED });
            if group.records().any(|r| r.space.is_undo() && prepares(r.body)) {
                found.push(group.end_lsn);
            }
        }
    }
    found
}

/// Cuts redo as the sender does at the end of a backup.
fn end_redo_at(redo: &mut Vec<u8>, end: Lsn) {
    let start = RedoHead::read(redo).unwrap().start_lsn;
    let at = HEAD_LEN + end.block_start().since(start) as usize;
    let last: &[u8; BLOCK_LEN] = redo[at..].first_chunk().unwrap();
    let last = block::cut(last, end.since(end.block_start()) as usize);
    redo.truncate(at);
    redo.extend_from_slice(&last);
}

/// Keeps pages in memory, so that redo since now stays needed.
const NO_FLUSHING: &str = "SELECT innodb_redo_log_sharp_checkpoint(); SET GLOBAL innodb_idle_flush_pct = 0; \
     SET GLOBAL innodb_adaptive_flushing = OFF; SET GLOBAL innodb_max_dirty_pages_pct = 99; \
     SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0";

#[test]
fn prepared_transactions_follow_the_binary_log() {
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(
        Kind::Mysql97,
        &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=changes"],
    );
    source.execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    source.execute(NO_FLUSHING);
    let before = gtid_executed(&source);
    source.execute("INSERT INTO d.t VALUES (2)");
    let whole = dir.path().join("full.xb");
    into_file(xbsend(&source), &whole).ok();
    let binlog = source.query("SHOW BINLOG EVENTS IN 'changes.000001'");
    let last_gtid = binlog.iter().rfind(|row| row[2] == "Gtid").expect("there are transactions");
    let position: u64 = last_gtid[1].parse().unwrap();

    // The backup as if its end lay just behind the prepare of the last transaction.
    let (mut contents, mut manifest) = StreamMaker::take_apart(&std::fs::read(&whole).unwrap());
    let redo = contents.get_mut("xtrabackup_logfile").unwrap();
    manifest.end_lsn = *prepared_at(redo).last().expect("the transaction is in the redo");
    end_redo_at(redo, manifest.end_lsn);
    let with = StreamMaker::put_together(&contents, manifest.clone());
    // And the same with an end of the binary log before it.
    contents.get_mut("changes.000001").unwrap().truncate(position as usize);
    manifest.binlog.as_mut().unwrap().position = position;
    let recorded = manifest.gtid_executed.replace(before.clone()).unwrap();
    let without = StreamMaker::put_together(&contents, manifest);

    for (how, stream, rows, gtids) in [
        ("server", &with, "1,2", &recorded),
        ("server", &without, "1", &before),
        ("none", &with, "1,2", &recorded),
        ("none", &without, "1", &before),
        ("native", &with, "1,2", &recorded),
        ("native", &without, "1", &before),
    ] {
        let target = dir.path().join("copy");
        let mut command = xbrecv(&target);
        command.args(["--prepare", how]);
        let said = on_bytes(command, stream).ok();
        if how == "native" {
            said.says("notes").says("on their way to the binary log: 1").says("--log-bin=changes");
        }
        let options = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=changes"];
        let copy = Server::start_on(Kind::Mysql97, &target, &options);
        assert_eq!(copy.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM d.t"), rows, "{how}");
        assert_eq!(&gtid_executed(&copy), gtids, "{how}");
        assert!(copy.query("XA RECOVER").is_empty());
        check_tables(&copy);
        drop(copy);
        std::fs::remove_dir_all(&target).unwrap();
    }
    // After --prepare=server the binary log is not needed any more.
    let target = dir.path().join("copy");
    on_bytes(xbrecv(&target), &with).ok();
    let copy = Server::start_on(
        Kind::Mysql97,
        &target,
        &["--skip-log-bin", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"],
    );
    assert_eq!(gtid_executed(&copy), recorded);
}

#[test]
fn a_wrong_gtid_set_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(Kind::Mysql97, &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
    source.execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    let whole = dir.path().join("full.xb");
    into_file(xbsend(&source), &whole).ok();
    let (contents, manifest) = StreamMaker::take_apart(&std::fs::read(&whole).unwrap());
    let uuid = manifest.server_uuid.clone();
    for (gtids, words) in [(format!("{uuid}:1-9"), "it lacks"), (format!("{uuid}:1"), "beyond them")] {
        let manifest = xbpipe::stream::Manifest { gtid_executed: Some(gtids), ..manifest.clone() };
        let stream = StreamMaker::put_together(&contents, manifest);
        on_bytes(xbrecv(&dir.path().join("copy")), &stream).failed("prepare").says(words);
        assert!(!dir.path().join("copy").exists());
    }
}

#[test]
fn the_private_server_runs_as_the_targets_owner() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("not tried: only root can give files away");
        return;
    }
    const NOBODY: u32 = 65534;
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=MyISAM");
    let whole = dir.path().join("full.xb");
    into_file(xbsend(&source), &whole).ok();
    // The owner must be able to reach it.
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let target = dir.path().join("copy");
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::chown(&target, Some(NOBODY), Some(NOBODY)).unwrap();
    on_file(xbrecv(&target), &whole).ok().says("by mysqld");
    let mut folders = vec![target];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY), "{}", path.display());
            files += 1;
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(files > 30);
}

/// Files and folders of a datadir that a backup takes, as they are now.
fn snapshot(datadir: &Path, into: &mut std::collections::BTreeMap<String, Vec<u8>>, below: &str) {
    for entry in std::fs::read_dir(datadir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let skipped =
            name.starts_with('#') && below.is_empty() || name.ends_with(".pem") || name.starts_with("ib_");
        if skipped || matches!(name.as_str(), "auto.cnf" | "ibtmp1" | "mysql_upgrade_history") {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => snapshot(datadir, into, &path),
            false => {
                into.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
}

/// The member `xtrabackup_logfile` of a datadir whose server was killed: from `checkpoint` to the end.
fn logfile(datadir: &Path, checkpoint: Lsn) -> Vec<u8> {
    let mut files: Vec<(RedoHead, Vec<u8>)> = std::fs::read_dir(datadir.join("#innodb_redo"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| !p.to_str().unwrap().ends_with("_tmp"))
        .map(|p| std::fs::read(p).unwrap())
        .map(|bytes| (RedoHead::read(&bytes).unwrap(), bytes))
        .collect();
    files.sort_by_key(|(head, _)| head.start_lsn);
    let start = checkpoint.block_start();
    let head = RedoHead { start_lsn: start, checkpoints: [Some(checkpoint); 2], ..files[0].0.clone() };
    assert!(files[0].0.start_lsn <= start, "the redo since then is still there");
    let mut bytes = head.build().to_vec();
    for (head, file) in &files {
        let skip = start.since(head.start_lsn) as usize;
        bytes.extend_from_slice(file[HEAD_LEN..].get(skip..).unwrap_or_default());
    }
    bytes
}

#[test]
fn files_are_brought_to_what_redo_says_of_them() {
    let dir = tempfile::tempdir().unwrap();
    // Without a binary log a statement that made a file is not in doubt.
    let mut source = Server::start(Kind::Mysql97, &["--skip-log-bin", "--innodb-redo-log-capacity=512M"]);
    source.execute(
        "CREATE DATABASE d; CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu';
         CREATE TABLE d.stays (id INT PRIMARY KEY, v INT); INSERT INTO d.stays VALUES (1, 1);
         CREATE TABLE d.goes (id INT PRIMARY KEY); INSERT INTO d.goes VALUES (1);
         CREATE TABLE d.moves (id INT PRIMARY KEY); INSERT INTO d.moves VALUES (1);
         CREATE TABLE d.a (id INT PRIMARY KEY); INSERT INTO d.a VALUES (1);
         CREATE TABLE d.b (id INT PRIMARY KEY); INSERT INTO d.b VALUES (1), (2);
         CREATE TABLE d.cleared (id INT PRIMARY KEY) ; INSERT INTO d.cleared VALUES (1)",
    );
    source.execute(NO_FLUSHING);
    let checkpoint: u64 = source
        .value("SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Innodb_redo_log_checkpoint_lsn'")
        .parse()
        .unwrap();
    // The files as a backup may find them, before all that follows.
    let mut contents = Default::default();
    snapshot(source.datadir(), &mut contents, "");
    source.execute(
        "CREATE TABLE d.comes (id INT PRIMARY KEY, t TEXT); INSERT INTO d.comes VALUES (1, REPEAT('x', 60000)), (2, 'y');
         DROP TABLE d.goes; RENAME TABLE d.moves TO d.moved; INSERT INTO d.moved VALUES (2);
         RENAME TABLE d.a TO d.c, d.b TO d.a, d.c TO d.b; TRUNCATE TABLE d.cleared; INSERT INTO d.cleared VALUES (7);
         INSERT INTO d.stays VALUES (2, 2); UPDATE d.stays SET v = 3;
         SET GLOBAL innodb_undo_log_truncate = ON; SET GLOBAL innodb_purge_rseg_truncate_frequency = 1;
         ALTER UNDO TABLESPACE more SET INACTIVE",
    );
    let begun = std::time::Instant::now();
    while source.value("SELECT STATE FROM information_schema.innodb_tablespaces WHERE NAME = 'more'")
        != "empty"
    {
        assert!(begun.elapsed().as_secs() < 120, "the undo tablespace is not truncated");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    source.execute("ALTER UNDO TABLESPACE more SET ACTIVE; INSERT INTO d.stays VALUES (4, 4)");
    let (sums, texts) = (checksums(&source), definitions(&source));
    source.kill();
    contents.insert("xtrabackup_logfile".to_owned(), logfile(source.datadir(), Lsn(checkpoint)));
    // A stream of another tool: it has no manifest.
    let mut stream = StreamMaker::new();
    for (name, content) in &contents {
        stream.add_sparse(name, content);
    }

    for how in ["server", "none"] {
        let target = dir.path().join("copy");
        let mut command = xbrecv(&target);
        command.args(["--allow-no-manifest", "--prepare", how]);
        let said = on_bytes(command, &stream.bytes).ok();
        for words in
            ["more.ibu was made anew", "d/moves.ibd was renamed to d/moved.ibd", "d/goes.ibd was removed"]
        {
            assert!(said.words.contains(words), "{words} in {}", said.words);
        }
        let copy = Server::start_on(Kind::Mysql97, &target, &["--skip-log-bin"]);
        assert_same(&sums, &checksums(&copy));
        assert_same(&texts, &definitions(&copy));
        check_tables(&copy);
        drop(copy);
        std::fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn system_and_undo_tablespaces_outside_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let (system, undo) = (base.join("system"), base.join("undo"));
    std::fs::create_dir(&system).unwrap();
    std::fs::create_dir(&undo).unwrap();
    let home = format!("--innodb-data-home-dir={}", system.display());
    let undo_dir = format!("--innodb-undo-directory={}", undo.display());
    let path = "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend";
    let mut source = Server::start(Kind::Mysql97, &[&home, &undo_dir, path]);
    source
        .execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
    let stream = base.join("full.xb");
    into_file(xbsend(&source), &stream).ok();
    let sums = checksums(&source);
    source.stop();
    std::fs::rename(&system, base.join("away1")).unwrap();
    std::fs::rename(&undo, base.join("away2")).unwrap();

    on_file(xbrecv(&base.join("copy")), &stream).failed("unmapped");
    let elsewhere = base.join("elsewhere");
    for (how, system_to, undo_to) in [
        ("server", ".".to_owned(), "u".to_owned()),
        ("server", format!("{}/s", elsewhere.display()), format!("{}/u", elsewhere.display())),
        ("none", format!("{}/s", elsewhere.display()), ".".to_owned()),
    ] {
        std::fs::create_dir(&elsewhere).unwrap();
        let target = base.join("copy");
        let mut command = xbrecv(&target);
        command.args(["--prepare", how]);
        command.arg(format!("--map={}={system_to}", system.display()));
        command.arg(format!("--map={}={undo_to}", undo.display()));
        on_file(command, &stream).ok();
        let home = format!("--innodb-data-home-dir={}", target.join(&system_to).display());
        let undo_dir = format!("--innodb-undo-directory={}", target.join(&undo_to).display());
        let copy = Server::start_on(Kind::Mysql97, &target, &[&home, &undo_dir, path]);
        assert_same(&sums, &checksums(&copy));
        check_tables(&copy);
        drop(copy);
        std::fs::remove_dir_all(&target).unwrap();
        std::fs::remove_dir_all(&elsewhere).unwrap();
    }
}

#[test]
fn what_mbstream_packs_is_received() {
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(Kind::Mysql97, &[]);
    source
        .execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
    let whole = dir.path().join("full.xb");
    let mut send = xbsend(&source);
    // mbstream knows no holes.
    send.arg("--dense");
    into_file(send, &whole).ok();
    let unpacked = dir.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let mbstream = |arguments: &[&str], input: Stdio, output: Stdio| {
        let mut command = Command::new(tool("mbstream"));
        let status = command.args(arguments).current_dir(&unpacked).stdin(input).stdout(output).status();
        assert!(status.unwrap().success(), "mbstream {arguments:?}");
    };
    mbstream(&["-x"], std::fs::File::open(&whole).unwrap().into(), Stdio::null());

    // What --prepare=none places is what mbstream extracts; only the redo has another place and header.
    let plain = dir.path().join("plain");
    let mut command = xbrecv(&plain);
    command.arg("--prepare=none");
    on_file(command, &whole).ok();
    let mut extracted = Default::default();
    let mut placed = Default::default();
    snapshot(&unpacked, &mut extracted, "");
    snapshot(&plain, &mut placed, "");
    let redo = extracted.remove("xtrabackup_logfile").unwrap();
    assert_eq!(extracted.keys().collect::<Vec<_>>(), placed.keys().collect::<Vec<_>>());
    assert!(extracted == placed);
    let log = std::fs::read(plain.join("#innodb_redo/#ib_redo0")).unwrap();
    assert!(log[HEAD_LEN..redo.len() - 512] == redo[HEAD_LEN..redo.len() - 512]);

    // Packed again it has no manifest, which would have to be the last member, and comes in other chunks.
    let mut names: Vec<_> =
        extracted.keys().map(String::as_str).filter(|n| *n != "xbpipe_manifest").collect();
    names.push("xtrabackup_logfile");
    names.insert(0, "-c");
    let packed = dir.path().join("packed.xb");
    mbstream(&names, Stdio::null(), std::fs::File::create(&packed).unwrap().into());
    let target = dir.path().join("copy");
    on_file(xbrecv(&target), &packed).failed("no-manifest");
    let mut command = xbrecv(&target);
    command.arg("--allow-no-manifest");
    on_file(command, &packed).ok();
    let copy = Server::start_on(Kind::Mysql97, &target, &[]);
    assert_same(&checksums(&source), &checksums(&copy));
    assert_eq!(gtid_executed(&copy), gtid_executed(&source));
}
