//! What travels, and what is refused: odd places and names of datafiles, files that nobody named, files that were cut or
//! emptied, links and other strange things where a file is looked for.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::support::pipe::{copy, into_file, into_nothing, xbsend};
use crate::support::{
    Kind, Random, Server, WriteLoad, assert_same, check_tables, checksums, definitions, seed,
};

/// A folder of the test, without links in its path.
fn base(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().canonicalize().unwrap()
}

/// All that was changed is in the datafiles.
fn settle(server: &Server) {
    server.query("SELECT innodb_redo_log_sharp_checkpoint()");
}

/// Copies `source`, which has files in `outside`, and compares.
fn crosses(source: &Server, base: &Path, undo: &str) {
    let (landed, target) = (base.join("landed"), base.join("copy"));
    let map = format!("{}={}", base.join("outside").display(), landed.display());
    let (sent, _) = copy(source, &target, &["--map", &map]);
    let options = [
        format!("--innodb-directories={}", landed.display()),
        format!("--innodb-undo-directory={}", undo.replace("{base}", &landed.display().to_string())),
    ];
    let restored = Server::start_on(Kind::Mysql97, &target, &options.each_ref().map(String::as_str));
    check_tables(&restored);
    assert_same(&checksums(&restored), &checksums(source));
    assert_same(&definitions(&restored), &definitions(source));
    assert_eq!(
        restored.query("SELECT NAME FROM information_schema.INNODB_TABLESPACES ORDER BY 1"),
        source.query("SELECT NAME FROM information_schema.INNODB_TABLESPACES ORDER BY 1")
    );
    assert_eq!(restored.query("SHOW DATABASES"), source.query("SHOW DATABASES"), "{}", sent.words);
    until_empty(&restored, "absolute_none");
    restored.execute("DROP UNDO TABLESPACE absolute_none");
}

/// Waits for the server to have truncated an inactive undo tablespace: it can't be dropped before.
fn until_empty(server: &Server, undo: &str) {
    let state = format!("SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE NAME = '{undo}'");
    let begun = Instant::now();
    while server.value(&state) != "empty" {
        assert!(begun.elapsed() < Duration::from_secs(120), "{undo} is {}", server.value(&state));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn odd_places_and_names_cross() {
    for undo in ["{base}/undo", "undo_in"] {
        let dir = tempfile::tempdir().unwrap();
        let base = base(&dir);
        let outside = base.join("outside");
        std::fs::create_dir_all(outside.join("undo")).unwrap();
        let undo_option = match undo.strip_prefix("{base}") {
            Some(rest) => format!("--innodb-undo-directory={}{rest}", outside.display()),
            None => format!("--innodb-undo-directory={undo}"),
        };
        let source = Server::start(
            Kind::Mysql97,
            &[&format!("--innodb-directories={}", outside.display()), &undo_option],
        );
        let outside_text = outside.display();
        source.execute(
            "CREATE UNDO TABLESPACE uu ADD DATAFILE 'uu.ibu'; CREATE UNDO TABLESPACE uv ADD DATAFILE 'uv.ibu'; \
             CREATE UNDO TABLESPACE absolute_none ADD DATAFILE 'none.ibu'; \
             ALTER UNDO TABLESPACE absolute_none SET INACTIVE; CREATE DATABASE d; CREATE DATABASE `e.m pty`",
        );
        source.execute(&format!(
            "CREATE TABLESPACE g ADD DATAFILE 'g.ibd'; CREATE TABLESPACE g2 ADD DATAFILE '{outside_text}/g.ibd'; \
             CREATE TABLE d.in_g (a INT) TABLESPACE g; INSERT INTO d.in_g VALUES (1); \
             CREATE TABLE d.in_g2 (a INT) TABLESPACE g2; INSERT INTO d.in_g2 VALUES (2)"
        ));
        // Each kind under each name.
        let long = "l".repeat(60);
        let mut random = Random::new(seed());
        for (n, name) in
            ["two words", "q\"u'o", "é日本", "#hash", "per%cent-+@", long.as_str()].into_iter().enumerate()
        {
            let rows = 1 + random.below(9);
            let fill = |table: &str| {
                for row in 0..rows {
                    source
                        .execute(&format!("INSERT INTO {table} VALUES ({row}, REPEAT('x', {}))", row * 400));
                }
            };
            source.execute(&format!(
                "CREATE DATABASE `{name}`; CREATE TABLE `{name}`.`{name}` (a INT, b TEXT); \
                 CREATE TABLE `{name}`.`p {name}` (a INT, b TEXT) PARTITION BY RANGE (a) (PARTITION `{name}` VALUES LESS THAN (7) \
                 DATA DIRECTORY='{outside_text}', PARTITION other VALUES LESS THAN MAXVALUE); \
                 CREATE TABLESPACE `{name}` ADD DATAFILE 'general{n}.ibd'; \
                 CREATE TABLE `{name}`.`g{name}` (a INT, b TEXT) TABLESPACE `{name}`; \
                 CREATE TABLE `{name}`.`m{name}` (a INT, b TEXT) ENGINE=MyISAM"
            ));
            for table in [name.to_owned(), format!("p {name}"), format!("g{name}"), format!("m{name}")] {
                fill(&format!("`{name}`.`{table}`"));
            }
        }
        crosses(&source, &base, undo);
    }
}

#[test]
fn what_is_not_the_servers_is_left_out_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(Kind::Mysql97, &[]);
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT); INSERT INTO d.t VALUES (1); CREATE TABLE d.gone (a INT); \
         CREATE TABLE d.discarded (a INT); FLUSH TABLES d.gone FOR EXPORT",
    );
    let datadir = source.datadir().to_owned();
    std::fs::copy(datadir.join("d/gone.ibd"), datadir.join("d/#sql-ib1050-77.ibd")).unwrap();
    source.execute("UNLOCK TABLES; DROP TABLE d.gone; ALTER TABLE d.discarded DISCARD TABLESPACE");
    settle(&source);
    std::fs::copy(datadir.join("d/t.ibd"), datadir.join("d/copy_of_t.ibd")).unwrap();
    std::fs::copy(datadir.join("d/t.ibd"), datadir.join("general.ibd")).unwrap();
    std::fs::write(datadir.join("d/words.ibd"), "no tablespace").unwrap();
    std::fs::write(datadir.join("d/empty.ibd"), "").unwrap();
    for folder in [OsStr::new("backup of d"), OsStr::new("old_d"), OsStr::from_bytes(b"latin\xe9")] {
        std::fs::create_dir(datadir.join(folder)).unwrap();
        std::fs::write(datadir.join(folder).join("t.MYD"), "x").unwrap();
    }
    let target = dir.path().join("copy");
    let (sent, _) = copy(&source, &target, &[]);
    for left_out in [
        "#sql-ib1050-77.ibd is a leftover",
        "copy_of_t.ibd is a leftover: tablespace d/t",
        "general.ibd is a leftover",
        "words.ibd is unknown",
        "empty.ibd is unknown",
        "tablespace d/discarded is discarded",
        "backup of d is no schema's",
        "old_d is no schema's",
        "has a name that no schema's has",
    ] {
        assert!(sent.words.contains(left_out), "expected {left_out:?}:\n{}", sent.words);
    }
    let restored = Server::start_on(Kind::Mysql97, &target, &[]);
    assert_eq!(restored.query("SHOW DATABASES"), source.query("SHOW DATABASES"));
    assert!(!target.join("old_d").exists() && !target.join("backup of d").exists());
    assert_eq!(restored.value("SELECT a FROM d.t"), "1");
}

/// How often what is random is done again.
fn rounds(otherwise: u64) -> u64 {
    std::env::var("XBPIPE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn cut_files_and_zeroed_pages_are_refused() {
    let source = Server::start(Kind::Mysql97, &["--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend"]);
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b BLOB); \
         CREATE TABLE d.z (a INT PRIMARY KEY AUTO_INCREMENT, b BLOB) KEY_BLOCK_SIZE=8; CREATE TABLE d.small (a INT); \
         CREATE TABLE d.p (a INT PRIMARY KEY) PARTITION BY HASH(a) PARTITIONS 2; CREATE TABLESPACE g ADD DATAFILE 'g.ibd'",
    );
    for table in ["t", "z"] {
        source.execute(&format!("INSERT INTO d.{table} (b) VALUES (RANDOM_BYTES(700)), (RANDOM_BYTES(700))"));
        for _ in 0..10 {
            source.execute(&format!("INSERT INTO d.{table} (b) SELECT RANDOM_BYTES(700) FROM d.{table}"));
        }
    }
    settle(&source);
    let seed = seed();
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    into_nothing(xbsend(&source)).ok();
    for name in ["d/p#p#p1.ibd", "g.ibd", "d/z.ibd", "mysql.ibd", "undo_002", "ibdata1", "ibdata2"] {
        cut(&source, name, &mut random);
    }
    // Roots, leaves, the inode page, a page of SDI, one of the system tablespace, one of the dictionary, and of undo logs.
    let pages = [
        ("d/t.ibd", 16384, 4),
        ("d/t.ibd", 16384, 70),
        ("d/t.ibd", 16384, 2),
        ("d/z.ibd", 8192, 4),
        ("d/small.ibd", 16384, 4),
        ("d/small.ibd", 16384, 3),
        ("ibdata1", 16384, 6),
        ("undo_002", 16384, 0),
        ("undo_002", 16384, 3),
        ("mysql.ibd", 16384, 40),
    ];
    for _ in 0..rounds(5) {
        zero(&source, pages[random.below(pages.len() as u64) as usize]);
    }
    into_nothing(xbsend(&source)).ok();
}

/// Cuts a datafile to some lengths, one after the other.
fn cut(source: &Server, name: &str, random: &mut Random) {
    let path = source.datadir().join(name);
    let whole = std::fs::read(&path).unwrap();
    let len = whole.len() as u64;
    let page = if name == "d/z.ibd" { 8192 } else { 16384 };
    let lengths =
        [0, 1, 1023, page - 1, page, 3 * page, len - page, len - 1, len - 1 - random.below(len - 1)];
    for _ in 0..rounds(2) {
        let cut = lengths[random.below(lengths.len() as u64) as usize];
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(cut).unwrap();
        let said = into_nothing(xbsend(source));
        file.write_all_at(&whole, 0).unwrap();
        let words = format!("{name} cut to {cut}:\n{}", said.words);
        assert_ne!(said.status, Some(0), "{words}");
        assert!(said.words.contains(name) && said.words.contains("hint"), "{words}");
        assert!(
            ["source-incomplete", "corrupt-page"].iter().any(|code| said.words.contains(code)),
            "{words}"
        );
    }
}

/// Empties a page of a datafile: its number, after the size of pages. Where the server writes that page itself meanwhile (it
/// still changes statistics and undo logs by itself), the page is not lost, and it is tried again.
fn zero(source: &Server, (name, size, page): (&str, u64, u64)) {
    let path = source.datadir().join(name);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let read = || {
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, page * size).unwrap();
        bytes
    };
    for _ in 0..5 {
        settle(source);
        let sound = read();
        assert!(sound.iter().any(|b| *b != 0), "page {page} of {name} is empty by itself");
        file.write_all_at(&vec![0; size as usize], page * size).unwrap();
        let said = into_nothing(xbsend(source));
        if read().iter().any(|b| *b != 0) {
            eprintln!("the server has written page {page} of {name} meanwhile");
            continue;
        }
        file.write_all_at(&sound, page * size).unwrap();
        said.failed("corrupt-page").says(&format!("page {page} of ")).says(name);
        return;
    }
    panic!("the server writes page {page} of {name} again and again");
}

#[test]
fn pages_that_were_not_written_yet_are_no_reason() {
    let rounds = rounds(4);
    // A large buffer pool that flushes late, and one that flushes all the time. Undo tablespaces are truncated again and again.
    for (pool, capacity) in [("256M", 100), ("16M", 4000)] {
        let source = Server::start(
            Kind::Mysql97,
            &[
                &format!("--innodb-buffer-pool-size={pool}"),
                &format!("--innodb-io-capacity={capacity}"),
                "--innodb-undo-log-truncate=ON",
                "--innodb-max-undo-log-size=10M",
                "--innodb-purge-rseg-truncate-frequency=1",
            ],
        );
        source.execute(
            "CREATE DATABASE e; CREATE TABLE e.grows (a INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB, c CHAR(200), KEY (c)); \
             INSERT INTO e.grows (b, c) VALUES (REPEAT(RANDOM_BYTES(900), 10), HEX(RANDOM_BYTES(99)))",
        );
        let undo = || {
            source.query("SELECT SPACE FROM information_schema.INNODB_TABLESPACES WHERE SPACE_TYPE = 'Undo'")
        };
        let mut incarnations: BTreeSet<String> = BTreeSet::new();
        let load = WriteLoad::start(&source, seed(), 2);
        for round in 0..rounds {
            source.execute(
                "INSERT INTO e.grows (b, c) SELECT REPEAT(RANDOM_BYTES(900), 10 + a % 40), HEX(RANDOM_BYTES(99)) FROM e.grows LIMIT 400; \
                 UPDATE e.grows SET c = HEX(RANDOM_BYTES(99)); DELETE FROM e.grows WHERE a % 3 = 0",
            );
            if round % 3 == 1 {
                settle(&source);
            }
            into_nothing(xbsend(&source)).ok();
            incarnations.extend(undo().into_iter().flatten());
        }
        drop(load);
        eprintln!("{rounds} backups, {} incarnations of undo tablespaces", incarnations.len());
    }
}

#[test]
fn links_lead_to_the_servers_own_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(&dir);
    let source = Server::start(Kind::Mysql97, &[]);
    let datadir = source.datadir().to_owned();
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.m (a INT) ENGINE=MyISAM; INSERT INTO d.m VALUES (4711);
                  CREATE TABLE d.leak (a INT) ENGINE=MyISAM; CREATE TABLE d.leak2 (a INT) ENGINE=ARCHIVE",
    );
    source.execute("FLUSH TABLES");
    // The server's files belong to its user, whoever that is; here they stay ours, and the folder says who its user is.
    const USER: u32 = 12345;
    if std::os::unix::fs::chown(&datadir, Some(USER), None).is_err() {
        // Only root can give files away, and only root follows links to what others can't read.
        return;
    }
    let secret = base.join("secret");
    std::fs::write(&secret, "root's alone").unwrap();
    std::fs::create_dir(base.join("folder")).unwrap();
    std::fs::write(base.join("folder/inner.MYD"), "root's alone").unwrap();
    let stream = base.join("stream");
    for name in ["leak.MYD", "leak.sdi", "leak2.ARZ"] {
        let leak = datadir.join("d").join(name);
        let own = std::fs::read(&leak).ok();
        let _ = std::fs::remove_file(&leak);
        symlink(&secret, &leak).unwrap();
        into_file(xbsend(&source), &stream).failed("source-io").says(name).says("symbolic link");
        let sent = std::fs::read(&stream).unwrap();
        assert!(!sent.windows(12).any(|w| w == b"root's alone"));
        std::fs::remove_file(&leak).unwrap();
        if let Some(own) = own {
            std::fs::write(&leak, own).unwrap();
        }
    }
    // A pipe would be waited for, a device read without end.
    for strange in ["pipe", "device", "nothing"] {
        let path = datadir.join("d/strange.sdi");
        match strange {
            "pipe" => {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .unwrap();
            }
            "device" => symlink("/dev/zero", &path).unwrap(),
            _ => symlink("nowhere", &path).unwrap(),
        }
        into_nothing(xbsend(&source)).failed("source-io").says("strange.sdi");
        std::fs::remove_file(&path).unwrap();
    }
    // What the server itself follows: a table's file that lies elsewhere and is its own.
    let moved = base.join("m.MYD");
    std::fs::copy(datadir.join("d/m.MYD"), &moved).unwrap();
    std::os::unix::fs::chown(&moved, Some(USER), None).unwrap();
    std::fs::remove_file(datadir.join("d/m.MYD")).unwrap();
    symlink(&moved, datadir.join("d/m.MYD")).unwrap();
    let target = base.join("copy");
    copy(&source, &target, &[]);
    let restored = Server::start_on(Kind::Mysql97, &target, &[]);
    assert_eq!(restored.value("SELECT a FROM d.m"), "4711");
}

#[test]
fn a_marker_of_no_truncation_is_noticed_before_anything_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join("stream");
    let source = Server::start(Kind::Mysql97, &[]);
    let marker = source.datadir().join("undo_2_trunc.log");
    let make = |age: u64| {
        let file = File::create(&marker).unwrap();
        file.set_len(16384).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    make(3600);
    // A statement that the backup lock would wait for shows that it is not taken.
    source.execute("LOCK INSTANCE FOR BACKUP");
    let begun = Instant::now();
    into_file(xbsend(&source), &stream)
        .failed("source-incomplete")
        .says("undo_2_trunc.log")
        .says("remove it");
    assert!(begun.elapsed() < Duration::from_secs(40));
    assert_eq!(std::fs::metadata(&stream).unwrap().len(), 0);
    source.execute("UNLOCK INSTANCE");
    // A young one is waited for; others are no markers, or say that all is over.
    make(0);
    std::fs::write(source.datadir().join("undo_999_trunc.log"), "").unwrap();
    std::fs::write(source.datadir().join("undo_1_trunc.log"), 76_845_412u32.to_be_bytes()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            std::fs::remove_file(&marker).unwrap();
        });
        into_file(xbsend(&source), &stream).ok();
    });
}
