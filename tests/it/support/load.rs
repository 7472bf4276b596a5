//! A write load: threads of random transactions that go on until they are told to stop.
//!
//! ```ignore
//! let load = WriteLoad::start(&server, seed(), 4);
//! // ... back it up ...
//! let stats = load.stop();
//! check_load(&copy);
//! ```
//!
//! The schema `load` has account and ledger tables whose sums agree in every committed state, tables with secondary
//! indexes in several layouts, rows of up to a megabyte, and a table without primary key. A transaction is a few random
//! steps, maybe with a savepoint that is rolled back to, maybe left open for a while, and ends by COMMIT, by ROLLBACK, or
//! in two phases (XA).

mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use mysql_async::{Conn, Error};

use super::random::Random;
use super::server::{Kind, Server};
use writer::Writer;

const ACCOUNTS: u64 = 500;
const OPENING_BALANCE: u64 = 1000;

/// What a load has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions committed, those in two phases too.
    pub committed: u64,
    /// Transactions rolled back on purpose.
    pub rolled_back: u64,
    /// Transactions that were prepared (XA), whatever became of them.
    pub prepared: u64,
    /// Rollbacks to a savepoint.
    pub savepoints: u64,
    /// Transactions that lost to others (deadlocks, lock timeouts).
    pub lost: u64,
}

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    prepared: AtomicU64,
    savepoints: AtomicU64,
    lost: AtomicU64,
}

/// Writers at work. They stop, and their transactions end, when this is stopped or dropped.
pub struct WriteLoad {
    counters: Arc<Counters>,
    writers: Vec<JoinHandle<Result<(), Error>>>,
}

impl WriteLoad {
    /// As fast as it goes.
    pub fn start(server: &Server, seed: u64, threads: usize) -> WriteLoad {
        WriteLoad::start_at(server, seed, threads, f64::INFINITY)
    }

    /// At most so many transactions a second, of all threads together.
    pub fn start_at(server: &Server, seed: u64, threads: usize, per_second: f64) -> WriteLoad {
        eprintln!("write load: seed {seed}, {threads} threads");
        make_tables(server);
        let counters = Arc::new(Counters::default());
        let interval = Duration::from_secs_f64(threads as f64 / per_second);
        let writers = (0..threads)
            .map(|number| {
                let (options, counters) = (server.options(), counters.clone());
                let random = Random::new(seed ^ ((number as u64 + 1) << 48));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let ended = runtime.block_on(async {
                        let connection = Conn::new(options).await?;
                        Writer { connection, random, counters, number, transactions: 0 }.work(interval).await
                    });
                    if let Err(e) = &ended {
                        eprintln!("writer {number} of the load: {e}");
                    }
                    ended
                })
            })
            .collect();
        WriteLoad { counters, writers }
    }

    /// What it has done so far.
    pub fn so_far(&self) -> Stats {
        let c = &self.counters;
        Stats {
            committed: c.committed.load(Relaxed),
            rolled_back: c.rolled_back.load(Relaxed),
            prepared: c.prepared.load(Relaxed),
            savepoints: c.savepoints.load(Relaxed),
            lost: c.lost.load(Relaxed),
        }
    }

    /// Returns once so many more transactions have committed.
    pub fn wait_for(&self, more: u64) {
        let goal = self.so_far().committed + more;
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.so_far().committed < goal {
            assert!(self.writers.iter().all(|w| !w.is_finished()), "a writer ended: {:?}", self.so_far());
            assert!(Instant::now() < deadline, "the load is stuck at {:?}", self.so_far());
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends all transactions and says what was done. A writer that failed is a panic.
    pub fn stop(mut self) -> Stats {
        for result in self.end() {
            result.expect("a writer failed");
        }
        self.so_far()
    }

    /// As `stop`, for a load whose server was meant to go away under it.
    pub fn abandon(mut self) -> Stats {
        self.end();
        self.so_far()
    }

    fn end(&mut self) -> Vec<Result<(), Error>> {
        self.counters.stop.store(true, Relaxed);
        self.writers.drain(..).map(|writer| writer.join().expect("a writer panicked")).collect()
    }
}

impl Drop for WriteLoad {
    fn drop(&mut self) {
        self.counters.stop.store(true, Relaxed);
        for writer in self.writers.drain(..) {
            // The test fails already, or has had its say.
            let _ = writer.join();
        }
    }
}

fn make_tables(server: &Server) {
    let columns =
        "(id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, owner INT NOT NULL, k INT NOT NULL,
        name VARCHAR(120) NOT NULL, note TEXT, KEY (k), KEY (owner, name), KEY name_start (name(12), k))";
    let packed = server.kind() == Kind::Mysql97 && server.value("SELECT @@innodb_page_size <= 16384") == "1";
    let packed = if packed { "ROW_FORMAT = COMPRESSED" } else { "ROW_FORMAT = COMPACT" };
    server.execute(&format!(
        "CREATE DATABASE IF NOT EXISTS `load`;
         CREATE TABLE IF NOT EXISTS `load`.account
             (id INT PRIMARY KEY, balance INT NOT NULL, KEY (balance)) ENGINE = InnoDB;
         CREATE TABLE IF NOT EXISTS `load`.ledger
             (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, giver INT NOT NULL, taker INT NOT NULL,
              amount INT NOT NULL, KEY (giver, amount), KEY (taker, amount)) ENGINE = InnoDB;
         CREATE TABLE IF NOT EXISTS `load`.plain {columns} ENGINE = InnoDB;
         CREATE TABLE IF NOT EXISTS `load`.packed {columns} ENGINE = InnoDB {packed};
         CREATE TABLE IF NOT EXISTS `load`.parted {columns} ENGINE = InnoDB PARTITION BY HASH (id) PARTITIONS 4;
         CREATE TABLE IF NOT EXISTS `load`.document
             (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, body LONGBLOB, KEY (k),
              KEY (body(24))) ENGINE = InnoDB;
         CREATE TABLE IF NOT EXISTS `load`.keyless (k INT, what VARCHAR(200), KEY (k)) ENGINE = InnoDB"
    ));
    let opening: Vec<_> = (1..=ACCOUNTS).map(|id| format!("({id}, {OPENING_BALANCE})")).collect();
    server.execute(&format!("INSERT IGNORE INTO `load`.account VALUES {}", opening.join(", ")));
}

/// What holds in every state that was ever committed: no money was made or lost, and the ledger explains each balance.
pub fn check_load(server: &Server) {
    let sum = server.value("SELECT SUM(balance) FROM `load`.account");
    assert_eq!(sum, (ACCOUNTS * OPENING_BALANCE).to_string(), "the sum of all balances");
    let unexplained = server.query(&format!(
        "SELECT id, balance, given, taken FROM (SELECT id, balance,
             (SELECT IFNULL(SUM(amount), 0) FROM `load`.ledger WHERE giver = account.id) AS given,
             (SELECT IFNULL(SUM(amount), 0) FROM `load`.ledger WHERE taker = account.id) AS taken
         FROM `load`.account) AS each_one WHERE balance <> {OPENING_BALANCE} - given + taken"
    ));
    assert!(unexplained.is_empty(), "balances that the ledger doesn't explain: {unexplained:?}");
}
