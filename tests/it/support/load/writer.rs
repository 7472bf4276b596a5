//! One thread of a write load: one random transaction after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::super::random::Random;
use super::{ACCOUNTS, Counters};

const DOCUMENT_BYTES_MAX: u64 = 1 << 20;
/// Rows that one step inserts, changes or deletes.
const BATCH_MAX: u64 = 120;
/// How long a transaction is left open.
const PAUSE_MS_MAX: u64 = 800;
/// Deadlock, lock wait timeout, and what they are called inside of XA transactions.
const LOST_TO_OTHERS: [u16; 4] = [1213, 1205, 1614, 1613];

/// How a transaction ends.
enum Ending {
    Commit,
    Rollback,
    /// In two phases; whether it commits.
    TwoPhases(bool),
}

pub(super) struct Writer {
    pub(super) connection: Conn,
    pub(super) random: Random,
    pub(super) counters: Arc<Counters>,
    pub(super) number: usize,
    pub(super) transactions: u64,
}

impl Writer {
    /// Until told to stop, at most one transaction per interval.
    pub(super) async fn work(mut self, interval: Duration) -> Result<(), Error> {
        let mut due = Instant::now();
        while !self.counters.stop.load(Relaxed) {
            match self.transaction().await {
                Err(Error::Server(e)) if LOST_TO_OTHERS.contains(&e.code) => {
                    self.counters.lost.fetch_add(1, Relaxed);
                    self.give_up().await?;
                }
                done => done?,
            }
            due = (due + interval).max(Instant::now());
            tokio::time::sleep_until(due.into()).await;
        }
        self.connection.disconnect().await
    }

    async fn transaction(&mut self) -> Result<(), Error> {
        self.transactions += 1;
        let ending = match self.random.below(20) {
            0..12 => Ending::Commit,
            12..15 => Ending::Rollback,
            15..18 => Ending::TwoPhases(true),
            _ => Ending::TwoPhases(false),
        };
        let two_phases = matches!(ending, Ending::TwoPhases(_));
        let begin = if two_phases { format!("XA START {}", self.xid()) } else { "BEGIN".to_owned() };
        self.run(&begin).await?;
        self.steps().await?;
        if self.random.one_in(4) {
            self.run("SAVEPOINT before_more").await?;
            self.steps().await?;
            self.run("ROLLBACK TO SAVEPOINT before_more").await?;
            self.counters.savepoints.fetch_add(1, Relaxed);
            self.steps().await?;
        }
        self.sometimes_pause().await;
        self.end(ending).await
    }

    async fn end(&mut self, ending: Ending) -> Result<(), Error> {
        let committed = match ending {
            Ending::Commit => self.run("COMMIT").await.map(|()| true)?,
            Ending::Rollback => self.run("ROLLBACK").await.map(|()| false)?,
            Ending::TwoPhases(commit) => {
                let xid = self.xid();
                self.run(&format!("XA END {xid}")).await?;
                self.run(&format!("XA PREPARE {xid}")).await?;
                self.counters.prepared.fetch_add(1, Relaxed);
                self.sometimes_pause().await;
                self.run(&format!("XA {} {xid}", if commit { "COMMIT" } else { "ROLLBACK" })).await?;
                commit
            }
        };
        let counter = if committed { &self.counters.committed } else { &self.counters.rolled_back };
        counter.fetch_add(1, Relaxed);
        Ok(())
    }

    /// After a statement that lost: whatever is left of the transaction goes away.
    async fn give_up(&mut self) -> Result<(), Error> {
        let xid = self.xid();
        // Which of these apply depends on where it was, so only what ends all of them must succeed.
        let _ = self.run(&format!("XA END {xid}")).await;
        let _ = self.run(&format!("XA ROLLBACK {xid}")).await;
        self.run("ROLLBACK").await
    }

    async fn steps(&mut self) -> Result<(), Error> {
        for _ in 0..=self.random.below(3) {
            match self.random.below(16) {
                0..5 => self.transfer().await?,
                5..9 => self.insert_rows().await?,
                9..12 => self.update_rows().await?,
                12..14 => self.delete_rows().await?,
                14 => self.large_row().await?,
                _ => self.insert_keyless().await?,
            }
        }
        Ok(())
    }

    async fn transfer(&mut self) -> Result<(), Error> {
        let (giver, taker) = (self.random.below(ACCOUNTS) + 1, self.random.below(ACCOUNTS) + 1);
        let amount = self.random.below(100);
        self.run(&format!("UPDATE `load`.account SET balance = balance - {amount} WHERE id = {giver}"))
            .await?;
        self.run(&format!("UPDATE `load`.account SET balance = balance + {amount} WHERE id = {taker}"))
            .await?;
        self.run(&format!(
            "INSERT INTO `load`.ledger (giver, taker, amount) VALUES ({giver}, {taker}, {amount})"
        ))
        .await
    }

    async fn insert_rows(&mut self) -> Result<(), Error> {
        let table = self.table();
        let rows: Vec<_> = (0..=self.random.below(BATCH_MAX))
            .map(|_| {
                let (owner, k) = (self.random.below(50), self.random.below(100_000));
                let (name, note) = (self.random.text(60), self.random.text(300));
                let note = if owner % 5 == 0 { "NULL".to_owned() } else { format!("'{note}'") };
                format!("({owner}, {k}, '{name}', {note})")
            })
            .collect();
        self.run(&format!("INSERT INTO {table} (owner, k, name, note) VALUES {}", rows.join(", "))).await
    }

    async fn update_rows(&mut self) -> Result<(), Error> {
        let (table, rows) = (self.table(), self.some_rows());
        let (k, name) = (self.random.below(100_000), self.random.text(100));
        self.run(&format!("UPDATE {table} SET k = (k + {k}) % 100000, name = '{name}' WHERE {rows}")).await
    }

    async fn delete_rows(&mut self) -> Result<(), Error> {
        let (table, rows) = (self.table(), self.some_rows());
        self.run(&format!("DELETE FROM {table} WHERE {rows}")).await
    }

    /// Mostly of some kilobytes, now and then of a megabyte; new, grown or shrunk, or gone.
    async fn large_row(&mut self) -> Result<(), Error> {
        let size = DOCUMENT_BYTES_MAX >> self.random.below(10);
        let (k, bytes) = (self.random.below(1000), self.random.below(size) + 1);
        let text = self.random.text(80);
        let body = format!("LEFT(REPEAT('{text}', {}), {bytes})", bytes as usize / text.len() + 1);
        let id = self.random.below(300) + 1;
        let sql = match self.random.below(3) {
            0 => format!("INSERT INTO `load`.document (k, body) VALUES ({k}, {body})"),
            1 => format!("UPDATE `load`.document SET k = {k}, body = {body} WHERE id = {id}"),
            _ => format!("REPLACE INTO `load`.document (id, k, body) VALUES ({id}, {k}, {body})"),
        };
        self.run(&sql).await
    }

    async fn insert_keyless(&mut self) -> Result<(), Error> {
        let (k, what) = (self.random.below(1000), self.random.text(200));
        self.run(&format!("INSERT INTO `load`.keyless VALUES ({k}, '{what}'), (NULL, '{what}')")).await
    }

    fn table(&mut self) -> &'static str {
        ["`load`.plain", "`load`.packed", "`load`.parted"][self.random.below(3) as usize]
    }

    /// A range of ids, of rows that are likely to be there.
    fn some_rows(&mut self) -> String {
        let newest = self.counters.committed.load(Relaxed) * 8 + 1000;
        let first = self.random.below(newest);
        format!("id BETWEEN {first} AND {}", first + self.random.below(BATCH_MAX))
    }

    fn xid(&self) -> String {
        format!("'load-{}-{}'", self.number, self.transactions)
    }

    async fn sometimes_pause(&mut self) {
        if self.random.one_in(40) {
            tokio::time::sleep(Duration::from_millis(self.random.below(PAUSE_MS_MAX))).await;
        }
    }

    async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.connection.query_drop(sql).await
    }
}
