//! Random workloads for the judges of a prepared copy: a few kinds of work, each in its own schema and session, side by side.
//!
//! ```ignore
//! let mut workload = Workload::new(seed, 16384);
//! let server = Server::start(Kind::Mysql97, &workload.options());
//! workload.set_up(&server);
//! workload.work(&server, 20, true);
//! ```
//!
//! The same seed gives the same statements; how those of several sessions fall together is up to the server.

mod ddl;
mod kinds;
mod table;
mod work;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder};

use super::random::Random;
use super::server::Server;
use table::NUMBERS;
use work::Work;

pub use kinds::KINDS;

/// Errors by which a server says no to a random statement: lock timeout, deadlock, duplicate key, no such parent, a row too
/// large for its page or for its undo log, or for ALGORITHM=INSTANT, no such index, table or column (since the statement that makes
/// it was refused), a general tablespace whose encryption differs from the table's.
const REFUSALS: [u16; 13] = [1205, 1213, 1062, 1452, 1118, 1713, 4157, 1091, 1146, 1051, 1054, 3825, 3832];

/// Work of several kinds.
pub struct Workload {
    pub seed: u64,
    pub page_size: u32,
    pub works: Vec<Work>,
    options: Vec<String>,
    /// Whether the server is restarted once the tables are there.
    pub restart: Option<Restart>,
    runtime: tokio::runtime::Runtime,
    /// Sessions with a transaction left open.
    open: Vec<Conn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Clean,
    Killed,
}

impl Workload {
    /// Some kinds, by chance.
    pub fn new(seed: u64, page_size: u32) -> Workload {
        let mut random = Random::new(seed);
        let mut kinds: Vec<_> = KINDS.iter().collect();
        // The seeds that follow each other go through all kinds.
        let first = (seed.wrapping_mul(5) % KINDS.len() as u64) as usize;
        kinds.rotate_left(first);
        let mut chosen: Vec<_> = kinds.drain(..3).collect();
        chosen.push(kinds[random.below(kinds.len() as u64) as usize]);
        let works = chosen
            .into_iter()
            .map(|(kind, make)| {
                let mut work = Work::new(kind, random.next(), page_size);
                make(&mut work);
                work
            })
            .collect();
        let mut workload = Workload {
            seed,
            page_size,
            works,
            options: Vec::new(),
            restart: None,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            open: Vec::new(),
        };
        workload.choose(&mut random);
        workload
    }

    fn choose(&mut self, random: &mut Random) {
        let on_or_off = |random: &mut Random| if random.one_in(2) { "ON" } else { "OFF" };
        let buffers = self.works.iter().any(|w| w.kind == "change_buffer");
        self.restart = match random.below(4) {
            0 => Some(Restart::Clean),
            1 => Some(Restart::Killed),
            // Only what is not in the buffer pool goes through the change buffer.
            _ if buffers => Some(Restart::Clean),
            _ => None,
        };
        let images = on_or_off(random);
        // Level 0 stores.
        let level = random.below(10);
        self.options = vec![
            format!("--innodb-page-size={}", self.page_size),
            format!("--innodb-change-buffering={}", if buffers { "all" } else { "none" }),
            format!("--innodb-log-compressed-pages={images}"),
            format!("--innodb-compression-level={level}"),
            "--innodb-buffer-pool-load-at-startup=OFF".to_owned(),
            "--innodb-stats-auto-recalc=OFF".to_owned(),
        ];
    }

    /// What its server must be started with, the copies' servers too.
    pub fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        let kinds: Vec<_> = self.works.iter().map(|w| w.kind).collect();
        let restart = self.restart.map(|r| format!(", restart {r:?}")).unwrap_or_default();
        let images = self.options.iter().any(|o| o == "--innodb-log-compressed-pages=OFF");
        let images = if images { ", no compressed images" } else { "" };
        format!("seed {}, pages of {}: {}{restart}{images}", self.seed, self.page_size, kinds.join(" "))
    }

    /// Makes all tables.
    pub fn set_up(&mut self, server: &Server) {
        server.execute(&format!(
            "CREATE DATABASE base; CREATE TABLE base.numbers (n INT PRIMARY KEY);
             SET SESSION cte_max_recursion_depth = {NUMBERS};
             INSERT INTO base.numbers WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {NUMBERS})
               SELECT n FROM c"
        ));
        self.side_by_side(server, |work| vec![work.setup()]);
    }

    /// So many random transactions of each kind, with changes of definitions between them if wanted.
    pub fn work(&mut self, server: &Server, transactions: u64, with_ddl: bool) {
        self.side_by_side(server, |work| {
            let mut all = Vec::new();
            for _ in 0..transactions {
                match work.ddl {
                    Some(ddl) if with_ddl && work.random.one_in(4) => all.push(ddl(work)),
                    _ => all.push(work.transaction()),
                }
            }
            all
        });
    }

    fn side_by_side(&mut self, server: &Server, make: impl Fn(&mut Work) -> Vec<Vec<String>> + Sync) {
        let make = &make;
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .works
                .iter_mut()
                .map(|work| {
                    let options = server.options();
                    scope.spawn(move || {
                        let runtime =
                            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        let statements: Vec<String> = make(work).into_iter().flatten().collect();
                        runtime.block_on(async {
                            let mut session = session(options).await;
                            run(&mut session, &statements).await;
                            session.disconnect().await.unwrap();
                        });
                    })
                })
                .collect();
            for one in running {
                one.join().expect("a session failed");
            }
        });
    }

    /// Leaves a transaction of each kind open, or prepared, or neither.
    pub fn leave_open(&mut self, server: &Server) {
        for work in &mut self.works {
            let choice = if work.kind == "xa" { 0 } else { work.below(4) };
            let statements = match choice {
                0 => work.prepared().0,
                1 => work.open(),
                _ => continue,
            };
            let session = self.runtime.block_on(async {
                let mut session = session(server.options()).await;
                run(&mut session, &statements).await;
                session
            });
            self.open.push(session);
        }
    }

    /// On a copy, where the open ones are gone: ends the prepared ones.
    pub fn end_prepared(&self, server: &Server) {
        for (n, row) in server.query("XA RECOVER").into_iter().enumerate() {
            // Formatted as number, length of the first part, of the second, both parts.
            let (first, second) = row[3].split_at(row[1].parse().unwrap());
            server.execute(&format!(
                "XA {} '{first}', '{second}'",
                if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" }
            ));
        }
    }

    /// Ends the sessions with open transactions.
    pub fn close(&mut self) {
        self.open.clear();
    }
}

async fn session(options: OptsBuilder) -> Conn {
    let mut session = Conn::new(options).await.unwrap();
    let settings = "SET SESSION sql_mode = '', innodb_lock_wait_timeout = 2, lock_wait_timeout = 30, \
                    block_encryption_mode = 'aes-256-cbc', group_concat_max_len = 1000000";
    session.query_drop(settings).await.unwrap();
    session
}

async fn run(session: &mut Conn, statements: &[String]) {
    for statement in statements {
        if let Some(undo) = statement.strip_prefix(ddl::WAIT_UNTIL_EMPTY) {
            wait_until_empty(session, undo).await;
            continue;
        }
        match session.query_drop(statement).await {
            Ok(()) => {}
            Err(Error::Server(e)) if REFUSALS.contains(&e.code) => {}
            Err(e) => panic!("{e}\n{statement}"),
        }
    }
}

/// Until purge has truncated the undo tablespace.
async fn wait_until_empty(session: &mut Conn, undo: &str) {
    let state = format!("SELECT state FROM information_schema.innodb_tablespaces WHERE name = '{undo}'");
    for _ in 0..300 {
        let state: Option<String> = session.query_first(&state).await.unwrap();
        if state.as_deref() == Some("empty") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the undo tablespace {undo} was not truncated");
}
