//! `xbrecv prepare DIR`: folders from wherever, killed and run again, always come to the same bytes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::folders::{assert_same_files, files};
use crate::support::pages::send_around;
use crate::support::pipe::{Said, said, xbsend};
use crate::support::{Kind, Random, Server, WriteLoad, check_load, check_tables, checksums, seed, tool};
use xbpipe::base::Lsn;
use xbpipe::innodb::redo::{HEAD_LEN, RedoHead};

/// `FIL_PAGE_INDEX` in a page's header.
const INDEX_PAGE: [u8; 2] = [0x45, 0xBF];

/// A backup with plenty of redo to apply, and nothing flushed meanwhile.
struct Backup {
    dir: tempfile::TempDir,
    stream: PathBuf,
}

impl Backup {
    fn take(seed: u64, transactions: u64) -> Backup {
        let options = [&crate::support::pages::RESTFUL[..], &["--innodb-page-size=32768"]].concat();
        let source = Server::start(Kind::Mysql97, &options);
        let load = WriteLoad::start(&source, seed, 4);
        load.wait_for(50);
        let dir = tempfile::tempdir().unwrap();
        let stream = dir.path().join("full.xb");
        // mbstream reads no sparse chunks.
        let mut send = xbsend(&source);
        send.arg("--dense");
        send_around(send, 1 << 20, &stream, || load.wait_for(transactions)).ok();
        load.stop();
        Backup { dir, stream }
    }

    fn receive(&self, prepare: &str) -> PathBuf {
        let target = self.dir.path().join(format!("received-{prepare}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["--progress=none", "--prepare", prepare, "--mysqld"]).arg(tool("mysqld"));
        command.arg(&target).stdin(std::fs::File::open(&self.stream).unwrap()).stderr(Stdio::piped());
        said(command.spawn().unwrap()).ok();
        target
    }

    /// The stream, extracted by mbstream.
    fn again_extracted(&self) -> PathBuf {
        let to = self.dir.path().join("to-pack");
        if !to.is_dir() {
            std::fs::create_dir(&to).unwrap();
            let mut extract = Command::new(tool("mbstream"));
            extract.arg("-x").arg("-C").arg(&to).stdin(std::fs::File::open(&self.stream).unwrap());
            assert!(extract.status().unwrap().success());
        }
        to
    }

    /// A stream that mbstream makes of these members, with the redo at this place among them.
    fn pack(&self, members: &[String], redo_at: usize) -> PathBuf {
        let mut members = members.to_vec();
        members.insert(redo_at, "xtrabackup_logfile".into());
        let packed = self.dir.path().join("packed.xb");
        let mut pack = Command::new(tool("mbstream"));
        pack.arg("-c").args(members).current_dir(self.again_extracted());
        assert!(pack.stdout(std::fs::File::create(&packed).unwrap()).status().unwrap().success());
        packed
    }

    fn receive_packed(&self, packed: &Path) -> PathBuf {
        let target = self.dir.path().join("received-packed");
        let _ = std::fs::remove_dir_all(&target);
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["--progress=none", "--allow-no-manifest", "--use-memory=32M"]).arg(&target);
        command.stdin(std::fs::File::open(packed).unwrap()).stderr(Stdio::piped());
        said(command.spawn().unwrap()).ok().says("as they arrived");
        target
    }

    /// A copy of `folder`.
    fn again(&self, folder: &Path, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        let _ = std::fs::remove_dir_all(&to);
        let copied =
            Command::new("cp").args(["-a", "--sparse=always"]).arg(folder).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    }
}

/// The members that an extracted backup has, without its redo.
fn members_to_pack(backup: &Backup) -> Vec<String> {
    let extracted = backup.again_extracted();
    let all = files(&extracted).into_keys();
    all.filter(|name| name != "xtrabackup_logfile" && name != "xbpipe_manifest").collect()
}

/// Makes an extracted backup of ours one of XtraBackup 8.0 or 8.4 (`write_header` and `find_start_checkpoint_lsn` in its
/// redo_log.cc, `xtrabackup_write_metadata`, `write_backup_config_file`): no manifest, its own words in the metadata, and
/// the head of the logfile is that of the server's file, with a name written over the creator.
fn as_xtrabackup_makes_it(dir: &Path) {
    std::fs::remove_file(dir.join("xbpipe_manifest")).unwrap();
    let checkpoints = std::fs::read_to_string(dir.join("xtrabackup_checkpoints")).unwrap();
    let more = format!("{checkpoints}redo_memory = 0\nredo_frames = 0\n");
    std::fs::write(dir.join("xtrabackup_checkpoints"), more).unwrap();
    let info = std::fs::read_to_string(dir.join("xtrabackup_info")).unwrap();
    let own = |line: &str| match line.split_once(" = ") {
        Some(("tool_name", _)) => "tool_name = xtrabackup\n".to_owned(),
        Some(("tool_version", _)) => "tool_version = 8.4.0-1\n".to_owned(),
        Some(("format", _)) => "format = file\n".to_owned(),
        _ => format!("{line}\n"),
    };
    std::fs::write(dir.join("xtrabackup_info"), info.lines().map(own).collect::<String>()).unwrap();
    let cnf = "# This MySQL options file was generated by innobackupex.\n\n# The MySQL server\n[mysqld]\n\
               innodb_checksum_algorithm=crc32\ninnodb_log_checksums=1\ninnodb_data_file_path=ibdata1:12M:autoextend\n\
               innodb_log_file_size=50331648\ninnodb_page_size=32768\ninnodb_undo_directory=./\n\
               innodb_undo_tablespaces=2\nserver_id=1\ninnodb_log_checksums=ON\ninnodb_redo_log_encrypt=OFF\n\
               innodb_undo_log_encrypt=OFF\nserver_uuid=3e11fa47-71ca-11e1-9e33-c80aa9429562\nmaster_key_id=0\n";
    std::fs::write(dir.join("backup-my.cnf"), cnf).unwrap();

    let logfile = dir.join("xtrabackup_logfile");
    let mut log = std::fs::read(&logfile).unwrap();
    let mut head = RedoHead::read(&log).unwrap();
    head.start_lsn = Lsn(head.start_lsn.0 - 8 * 512);
    log[..HEAD_LEN].copy_from_slice(&head.build());
    let (creator, time) = (16, b"xtrabkup 261124 10:11:12\0");
    log[creator..creator + time.len()].copy_from_slice(time);
    std::fs::write(logfile, log).unwrap();
}

fn prepare(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["prepare", "--progress=none", "--use-memory=32M"]).arg(dir).stderr(Stdio::piped());
    command
}

fn prepared(dir: &Path) -> Said {
    said(prepare(dir).spawn().unwrap()).ok()
}

fn auto_increments(server: &Server) -> Vec<Vec<String>> {
    server.execute("SET SESSION information_schema_stats_expiry = 0");
    server.query(
        "SELECT table_name, auto_increment FROM information_schema.tables \
         WHERE table_schema = 'load' AND auto_increment IS NOT NULL ORDER BY 1",
    )
}

#[test]
fn all_ways_lead_to_the_same_copy() {
    let backup = Backup::take(seed(), 200);
    let native = backup.receive("native");
    assert!(
        std::fs::read_to_string(native.join("xtrabackup_checkpoints")).unwrap().contains("full-prepared")
    );

    let left = backup.receive("none");
    prepared(&left).says("is prepared");
    assert_same_files(&left, &native);
    prepared(&left).says("is prepared already");
    assert_same_files(&left, &native);

    let extracted = backup.dir.path().join("extracted");
    std::fs::create_dir(&extracted).unwrap();
    let mut extract = Command::new(tool("mbstream"));
    extract.arg("-x").arg("-C").arg(&extracted).stdin(std::fs::File::open(&backup.stream).unwrap());
    assert!(extract.status().unwrap().success());
    let damaged = backup.again(&extracted, "damaged");
    prepared(&extracted).says("is prepared");
    assert_same_files(&extracted, &native);

    // Pages that have all their records already are looked at all the same: those that are damaged are made again, since
    // the redo begins before they do.
    for entry in std::fs::read_dir(native.join("load")).unwrap() {
        let path = entry.unwrap().path();
        let mut table = std::fs::read(&path).unwrap();
        let index_pages = table.chunks_exact_mut(32768).filter(|page| page[24..26] == INDEX_PAGE);
        index_pages.for_each(|page| page[20_000] ^= 1);
        std::fs::write(damaged.join("load").join(path.file_name().unwrap()), table).unwrap();
    }
    prepared(&damaged).says("is prepared");
    assert_same_files(&damaged, &native);

    // A folder that XtraBackup made.
    let foreign = backup.again(&backup.again_extracted(), "foreign");
    as_xtrabackup_makes_it(&foreign);
    prepared(&foreign).says("is prepared");
    let checkpoints = std::fs::read_to_string(foreign.join("xtrabackup_checkpoints")).unwrap();
    assert!(checkpoints.contains("backup_type = full-prepared"), "{checkpoints}");
    for ours in ["xtrabackup_checkpoints", "xtrabackup_info", "backup-my.cnf", "xbpipe_manifest"] {
        std::fs::copy(native.join(ours), foreign.join(ours)).unwrap();
    }
    assert_same_files(&foreign, &native);

    // Streams of other tools, which bring the redo first, last, or in between.
    let members = members_to_pack(&backup);
    for redo_at in [0, members.len() / 2, members.len()] {
        let received = backup.receive_packed(&backup.pack(&members, redo_at));
        std::fs::copy(native.join("xbpipe_manifest"), received.join("xbpipe_manifest")).unwrap();
        assert_same_files(&received, &native);
    }

    let by_server = backup.receive("server");
    let options = ["--innodb-page-size=32768", "--log-bin=binlog"];
    let judge = Server::start_on(Kind::Mysql97, &by_server, &options);
    let copy = Server::start_on(Kind::Mysql97, &foreign, &options);
    assert_eq!(checksums(&copy), checksums(&judge));
    assert_eq!(auto_increments(&copy), auto_increments(&judge));
    assert_eq!(crate::support::gtid_executed(&copy), crate::support::gtid_executed(&judge));
    check_tables(&copy);
    check_load(&copy);
    drop(copy);
    said(prepare(&foreign).spawn().unwrap()).ok().says("is prepared already");
}

#[test]
fn what_is_no_backup_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |what: &str| said(prepare(dir.path()).spawn().unwrap()).failed(what);
    refused("corrupt-redo").says("has no redo");
    std::fs::write(dir.path().join("xtrabackup_logfile"), [0; 4096]).unwrap();
    refused("corrupt-redo");
    std::fs::write(dir.path().join("auto.cnf"), "").unwrap();
    refused("prepare").says("a server was started on");
    let incremental = "backup_type = incremental\nfrom_lsn = 1\nto_lsn = 2\nlast_lsn = 2\n";
    std::fs::write(dir.path().join("xtrabackup_checkpoints"), incremental).unwrap();
    refused("prepare").says("incremental");
}

/// What a folder's own words say of it counts, whichever file says it.
#[test]
fn a_folder_that_says_it_is_no_full_backup_is_refused() {
    let left = Backup::take(seed(), 5);
    let left = left.receive("none");
    let info = left.join("xtrabackup_info");
    let text = std::fs::read_to_string(&info).unwrap();
    for (key, code) in [("incremental", "manifest-mismatch"), ("partial", "unsupported-server")] {
        let changed = text.replace(&format!("{key} = N"), &format!("{key} = Y"));
        assert_ne!(changed, text, "{key}");
        std::fs::write(&info, changed).unwrap();
        said(prepare(&left).spawn().unwrap()).failed(code).says(&key[..7]);
    }
    std::fs::write(&info, text).unwrap();
    prepared(&left);
}

#[test]
fn killed_and_run_again_it_comes_to_the_same_bytes() {
    let seed = seed();
    let mut random = Random::new(seed);
    let kills = std::env::var("XBPIPE_ROUNDS").map_or(10, |n| n.parse().unwrap());
    let backup = Backup::take(seed, 300);
    let left = backup.receive("none");
    let wanted = backup.again(&left, "wanted");
    let begun = Instant::now();
    prepared(&wanted);
    let time = begun.elapsed();
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        round += 1;
        assert!(round < 20 * kills, "the run is over before it can be killed");
        let dir = backup.again(&left, "killed");
        // A few times in a row, so that what a killed run left is killed over, too.
        for _ in 0..=random.below(3) {
            let mut run = prepare(&dir).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random.below(time.as_micros() as u64)));
            run.kill().unwrap();
            killed += u64::from(run.wait().unwrap().code().is_none());
        }
        prepared(&dir);
        assert_same_files(&dir, &wanted);
    }
    eprintln!("{killed} kills in {round} rounds, each within {time:?}");
}
