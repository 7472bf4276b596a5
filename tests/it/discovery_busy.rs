//! Servers that make, change and remove tables all the time: no backup of theirs is refused, and what was copied is right.
//!
//! `XBPIPE_ROUNDS` says how many backups are taken, `XBPIPE_SEED` brings a run back.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::pipe::{copy, into_nothing, xbsend};
use crate::support::{Kind, Random, Server, assert_same, check_tables, checksums, seed};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

/// Tables that one session has at the most.
const TABLES: u64 = 5;
/// Rows of a large insert.
const ROWS: u64 = 600;

/// Sessions that change definitions and rows at random until they are told to stop.
struct Busy {
    stop: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<BTreeMap<String, [u64; 2]>>>,
}

impl Busy {
    fn start(server: &Server, outside: &Path, seed: u64, sessions: u64) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let sessions = (0..sessions)
            .map(|number| {
                let (options, stop) = (server.options(), stop.clone());
                let (datadir, outside) = (server.datadir().to_owned(), outside.to_owned());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let random = Random::new(seed ^ ((number + 1) << 40));
                        let connection = Conn::new(options).await.unwrap();
                        let mut session = Session {
                            connection,
                            random,
                            schema: format!("w{number}"),
                            datadir,
                            outside,
                            counts: BTreeMap::new(),
                        };
                        session.set_up().await;
                        while !stop.load(Ordering::Relaxed) {
                            session.step().await;
                        }
                        session.counts
                    })
                })
            })
            .collect();
        Busy { stop, sessions }
    }

    /// Ends the sessions, and says how often each kind of statement went well, and how often not.
    fn stop(self) -> BTreeMap<String, [u64; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for session in self.sessions {
            add(&mut all, session.join().unwrap());
        }
        all
    }
}

fn add(all: &mut BTreeMap<String, [u64; 2]>, more: BTreeMap<String, [u64; 2]>) {
    for (what, [good, bad]) in more {
        let sum = all.entry(what).or_default();
        *sum = [sum[0] + good, sum[1] + bad];
    }
}

struct Session {
    connection: Conn,
    random: Random,
    schema: String,
    datadir: PathBuf,
    outside: PathBuf,
    counts: BTreeMap<String, [u64; 2]>,
}

impl Session {
    async fn set_up(&mut self) {
        let schema = self.schema.clone();
        self.run(&[
            "SET SESSION innodb_lock_wait_timeout = 2, lock_wait_timeout = 120, cte_max_recursion_depth = 100000".into(),
            format!("CREATE DATABASE {schema}"),
        ])
        .await;
    }

    fn table(&mut self) -> String {
        format!("{}.t{}", self.schema, self.random.below(TABLES))
    }

    /// Runs statements until one fails, and counts each by its first words: random ones may be wrong.
    async fn run(&mut self, statements: &[String]) -> bool {
        for statement in statements {
            let words: Vec<_> =
                statement.split_whitespace().filter(|w| !w.contains(['.', '('])).take(4).collect();
            let words: String = words.join(" ").chars().filter(|c| !c.is_ascii_digit()).collect();
            let done = match self.connection.query_drop(statement).await {
                Ok(()) => true,
                Err(Error::Server(_)) => false,
                Err(e) => panic!("{e}\n{statement}"),
            };
            self.counts.entry(words).or_default()[usize::from(!done)] += 1;
            if !done {
                return false;
            }
        }
        true
    }

    async fn step(&mut self) {
        let table = self.table();
        match self.random.below(14) {
            0..=2 => self.create(&table).await,
            3..=5 => self.fill(&table).await,
            6 => self.alter(&table).await,
            7 => self.alter(&table).await,
            8 => {
                self.run(&[format!("TRUNCATE TABLE {table}")]).await;
            }
            9 => {
                self.run(&[format!("DROP TABLE {table}")]).await;
            }
            10 => {
                let change = "b = HEX(RANDOM_BYTES(60)), c = RANDOM_BYTES(1 + a % 900)";
                let end = if self.random.one_in(3) { "ROLLBACK" } else { "COMMIT" };
                let update = format!("UPDATE {table} SET {change} WHERE a % 5 = {}", self.random.below(5));
                let delete = format!("DELETE FROM {table} WHERE a % 7 = {}", self.random.below(7));
                self.run(&["BEGIN".into(), update, delete, end.into()]).await;
                self.run(&["ROLLBACK".into()]).await;
            }
            11 => self.import(&table).await,
            12 => self.places().await,
            _ => {
                let name = format!("{}.m", self.schema);
                self.run(&[
                    format!("CREATE TEMPORARY TABLE {name} SELECT * FROM {table}"),
                    format!("DROP TEMPORARY TABLE {name}"),
                ])
                .await;
            }
        }
    }

    async fn create(&mut self, table: &str) {
        let outside = self.outside.display().to_string();
        let space = format!("g{}", self.schema);
        let options = [
            "".to_owned(),
            "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4".into(),
            "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8".into(),
            "ROW_FORMAT=REDUNDANT".into(),
            "COMPRESSION='zlib'".into(),
            "COMPRESSION='lz4'".into(),
            "ENCRYPTION='Y'".into(),
            "COMPRESSION='zlib' ENCRYPTION='Y' AUTOEXTEND_SIZE=4M".into(),
            format!("DATA DIRECTORY='{outside}'"),
            "PARTITION BY HASH (a) PARTITIONS 3".into(),
            "AUTOEXTEND_SIZE=4M".into(),
            format!("TABLESPACE={space}"),
            "TABLESPACE=innodb_system".into(),
        ];
        let options = &options[self.random.below(options.len() as u64) as usize];
        let keys = ["", ", KEY (b)", ", KEY (b), FULLTEXT (b)"][self.random.below(3) as usize];
        self.run(&[format!(
            "CREATE TABLE {table} (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(300), c LONGBLOB{keys}) {options}"
        )])
        .await;
        self.fill(table).await;
    }

    async fn fill(&mut self, table: &str) {
        let (rows, blob) =
            (1 + self.random.below(ROWS), [0, 100, 9000, 70_000][self.random.below(4) as usize]);
        let rows = if blob > 9000 { rows / 20 + 1 } else { rows };
        self.run(&[format!(
            "INSERT INTO {table} (b, c) WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) \
             SELECT HEX(RANDOM_BYTES(50)), REPEAT(RANDOM_BYTES(10), {blob} / 10) FROM n"
        )])
        .await;
    }

    async fn alter(&mut self, table: &str) {
        let changes = [
            "ADD INDEX i1 (b)",
            "ADD INDEX i2 (b, a)",
            "DROP INDEX i1",
            "DROP INDEX i2",
            "FORCE",
            "ENGINE=InnoDB, ALGORITHM=COPY",
            "ADD COLUMN d INT DEFAULT 7, ALGORITHM=INSTANT",
            "DROP COLUMN d",
            "ROW_FORMAT=DYNAMIC",
            "ADD FULLTEXT INDEX f (b)",
            "TABLESPACE=innodb_file_per_table",
            "PARTITION BY HASH (a) PARTITIONS 2",
            "REMOVE PARTITIONING",
            "TRUNCATE PARTITION p1",
        ];
        let change = changes[self.random.below(changes.len() as u64) as usize];
        let statements = match self.random.below(6) {
            0 => vec![format!("OPTIMIZE TABLE {table}")],
            1 => {
                vec![format!("RENAME TABLE {table} TO {table}x"), format!("RENAME TABLE {table}x TO {table}")]
            }
            _ => vec![format!("ALTER TABLE {table} {change}")],
        };
        self.run(&statements).await;
    }

    /// Takes another table's datafile over.
    async fn import(&mut self, table: &str) {
        let copy = format!("{}.imported", self.schema);
        self.run(&[format!("DROP TABLE {copy}")]).await;
        let exported = [
            format!("CREATE TABLE {copy} LIKE {table}"),
            format!("ALTER TABLE {copy} DISCARD TABLESPACE"),
            format!("FLUSH TABLES {table} FOR EXPORT"),
        ];
        if !self.run(&exported).await {
            return;
        }
        let file =
            |table: &str, suffix: &str| self.datadir.join(table.replace('.', "/")).with_extension(suffix);
        let mut copied = true;
        for suffix in ["ibd", "cfg"] {
            copied &= std::fs::copy(file(table, suffix), file(&copy, suffix)).is_ok();
        }
        // Only encrypted tables have a transfer key.
        let _ = std::fs::copy(file(table, "cfp"), file(&copy, "cfp"));
        self.run(&["UNLOCK TABLES".into()]).await;
        if copied {
            self.run(&[format!("ALTER TABLE {copy} IMPORT TABLESPACE")]).await;
        }
    }

    /// General and undo tablespaces come and go.
    async fn places(&mut self) {
        let (space, undo) = (format!("g{}", self.schema), format!("u{}", self.schema));
        let statements = match self.random.below(5) {
            0 => vec![format!("CREATE TABLESPACE {space} ADD DATAFILE '{space}.ibd'")],
            1 => vec![format!("DROP TABLESPACE {space}")],
            2 => vec![format!("CREATE UNDO TABLESPACE {undo} ADD DATAFILE '{undo}.ibu'")],
            3 => vec![
                format!("ALTER UNDO TABLESPACE {undo} SET INACTIVE"),
                "DO SLEEP(0.5)".into(),
                format!("DROP UNDO TABLESPACE {undo}"),
            ],
            _ => vec![
                format!("ALTER UNDO TABLESPACE {undo} SET INACTIVE"),
                format!("ALTER UNDO TABLESPACE {undo} SET ACTIVE"),
            ],
        };
        self.run(&statements).await;
    }
}

/// How a server flushes, which says how much of it is on disk at any time.
const WAYS: &[&[&str]] = &[
    &["--innodb-buffer-pool-size=256M", "--innodb-io-capacity=100", "--innodb-redo-log-capacity=512M"],
    &["--innodb-buffer-pool-size=16M", "--innodb-io-capacity=4000", "--innodb-redo-log-capacity=32M"],
    &[
        "--innodb-max-dirty-pages-pct=1",
        "--innodb-max-undo-log-size=10M",
        "--innodb-purge-rseg-truncate-frequency=1",
        "--innodb-doublewrite=OFF",
        "--innodb-flush-method=fsync",
    ],
    &["--innodb-page-size=4096", "--innodb-extend-and-initialize=OFF", "--innodb-flush-neighbors=1"],
    &["--innodb-change-buffering=all", "--innodb-buffer-pool-size=8M", "--innodb-fill-factor=20"],
];

#[test]
fn busy_servers_are_never_refused() {
    let seed = seed();
    let rounds: u64 = std::env::var("XBPIPE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    eprintln!("XBPIPE_SEED={seed}, {rounds} rounds");
    let mut random = Random::new(seed);
    // A server each for so many backups, and all ways of flushing in turn.
    let each = rounds.div_ceil(WAYS.len() as u64).max(4);
    let first = random.next() as usize % WAYS.len();
    let (mut taken, mut counts) = (0, BTreeMap::new());
    while taken < rounds {
        let way = WAYS[(first + (taken / each) as usize) % WAYS.len()];
        let backups = each.min(rounds - taken);
        add(&mut counts, backed_up(way, &mut random, backups));
        taken += backups;
    }
    let good: u64 = counts.values().map(|[good, _]| good).sum();
    eprintln!("{taken} backups, none refused; {good} statements went well: {counts:?}");
}

/// Gives the server of `datadir` a keyring.
fn add_keyring(datadir: &Path, keyring: &Path) {
    std::fs::write(datadir.join("mysqld.my"), r#"{"components": "file://component_keyring_file"}"#).unwrap();
    let cnf = format!(r#"{{"path": "{}", "read_only": false}}"#, keyring.display());
    std::fs::write(datadir.join("component_keyring_file.cnf"), cnf).unwrap();
}

/// Backs a busy server up a few times, and compares the last copy with it when all is quiet.
fn backed_up(way: &[&str], random: &mut Random, backups: u64) -> BTreeMap<String, [u64; 2]> {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let outside = base.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let directories = format!("--innodb-directories={}", outside.display());
    let options: Vec<&str> = way.iter().copied().chain([directories.as_str()]).collect();
    let mut source = Server::start(Kind::Mysql97, &options);
    let keyring = base.join("keyring");
    source.stop();
    add_keyring(source.datadir(), &keyring);
    source.restart();
    let busy = Busy::start(&source, &outside, random.next(), 3);
    std::thread::sleep(Duration::from_millis(1500));
    for backup in 0..backups {
        let begun = Instant::now();
        let mut send = xbsend(&source);
        if random.one_in(3) {
            send.args(["--throttle", "0", "--parallel", "4"]);
        }
        let said = into_nothing(send);
        assert_eq!(said.status, Some(0), "backup {backup} of a server with {way:?}:\n{}", said.words);
        assert!(!said.words.contains("can't be asked"), "{}", said.words);
        eprintln!("backup {backup}: {:?}", begun.elapsed());
        // Long enough for definitions to change, short enough for their pages not to be written.
        std::thread::sleep(Duration::from_millis(random.below(900)));
    }
    let counts = busy.stop();
    // A table that was discarded, or that the server itself does not take for sound after an import, tells nothing.
    for schema in ["w0", "w1", "w2"] {
        let said = source.query(&format!("CHECK TABLE {schema}.imported"));
        if said.iter().any(|row| row[3] != "OK") {
            source.execute(&format!("DROP TABLE IF EXISTS {schema}.imported"));
        }
    }
    let target = base.join("copy");
    let landed = base.join("landed");
    copy(
        &source,
        &target,
        &["--prepare=none", "--map", &format!("{}={}", outside.display(), landed.display())],
    );
    let directories = format!("--innodb-directories={}", landed.display());
    let mut options: Vec<&str> = way.iter().copied().filter(|o| o.contains("page-size")).collect();
    options.push(&directories);
    add_keyring(&target, &keyring);
    let restored = Server::start_on(Kind::Mysql97, &target, &options);
    check_tables(&restored);
    assert_same(&checksums(&restored), &checksums(&source));
    counts
}
